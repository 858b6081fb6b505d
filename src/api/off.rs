//! The stop button: the ConfigMap `cloison-off`, written by `cloison off` or by a person in a hurry, and honoured by every
//! version. One reading of it for the controller and the command line.

use std::collections::{BTreeMap, BTreeSet};

/// What is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Admission alone; the network goes on.
    Admission,
    /// Everything.
    All,
}

impl Scope {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::All => "all",
        }
    }
}

/// What the ConfigMap says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Off {
    /// What is stopped. Any other word than `admission`, or none, stops everything: whoever presses the button must not
    /// be asked to spell.
    pub scope: Scope,
    /// Where; empty means everywhere.
    pub namespaces: BTreeSet<String>,
    /// Why; empty when nobody said.
    pub reason: String,
    /// The mode labels that namespaces had before it was pressed, for `on` to put back; empty for one that had none.
    pub modes: BTreeMap<String, String>,
}

impl Off {
    /// Reads the data of the ConfigMap. Lists are separated by blanks or commas.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| data.get(key).map(|text| text.trim()).unwrap_or_default();
        let words = |key: &str| {
            let words = text(key).split(|c: char| c.is_whitespace() || c == ',');
            words.filter(|word| !word.is_empty())
        };
        let pairs = words("modes").filter_map(|pair| pair.split_once('='));
        Self {
            scope: if text("scope") == Scope::Admission.as_str() {
                Scope::Admission
            } else {
                Scope::All
            },
            namespaces: words("namespaces").map(str::to_owned).collect(),
            reason: text("reason").to_owned(),
            modes: pairs.map(|(name, mode)| (name.to_owned(), mode.to_owned())).collect(),
        }
    }

    /// The data of the ConfigMap.
    pub fn data(&self) -> BTreeMap<&'static str, String> {
        let modes = self.modes.iter().map(|(name, mode)| format!("{name}={mode}"));
        let namespaces = self.namespaces.iter().map(String::as_str);
        BTreeMap::from([
            ("scope", self.scope.as_str().to_owned()),
            ("reason", self.reason.clone()),
            ("namespaces", namespaces.collect::<Vec<_>>().join(" ")),
            ("modes", modes.collect::<Vec<_>>().join(" ")),
        ])
    }

    /// Why, in words.
    pub fn why(&self) -> &str {
        if self.reason.is_empty() {
            "no reason was given"
        } else {
            &self.reason
        }
    }

    /// Where, in words.
    pub fn place(&self) -> String {
        if self.namespaces.is_empty() {
            return "everywhere".to_owned();
        }
        let names: Vec<&str> = self.namespaces.iter().map(String::as_str).collect();
        format!("in {}", names.join(" "))
    }

    /// Whether a namespace is among those that are off. Objects of the whole cluster are in the namespace "".
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn whatever_is_misspelt_stops_everything() {
        for scope in ["all", "everything", "Admission", ""] {
            assert_eq!(Off::read(&data(&[("scope", scope)])).scope, Scope::All, "{scope}");
        }
        let nothing = Off::read(&BTreeMap::new());
        assert_eq!((nothing.scope, nothing.why()), (Scope::All, "no reason was given"));
        assert!(nothing.covers("a") && nothing.covers(""));
        assert_eq!(nothing.place(), "everywhere");
        assert_eq!(Off::read(&data(&[("scope", " admission\n")])).scope, Scope::Admission);
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        let off = Off::read(&data(&[
            ("scope", "admission"),
            ("reason", "INC-1; INC-2"),
            ("namespaces", "b, a"),
            ("modes", "a=enforce b="),
        ]));
        assert!(off.covers("a") && !off.covers("c") && !off.covers(""));
        assert_eq!(off.place(), "in a b");
        assert_eq!(off.modes["b"], "");
        let written = off.data().into_iter();
        let written = written.map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(Off::read(&written), off);
    }
}
