//! The two identifiers of the catalogue. They are printed in messages, stored in waivers and compared by auditors, so
//! an id never changes its meaning; a control that is withdrawn keeps its number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a text that is no id lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `FAM-NN`.
    #[error("{0:?} is not a control id: a family, a dash and two digits, for instance NET-04")]
    Control(String),
    /// Not `FAM-NN/rule-name`.
    #[error("{0:?} is not a rule id: a control id, a slash and words in lower case, for instance WKL-01/host-path")]
    Rule(String),
}

/// The subject of a control; the first three letters of its id. Ordered as tables show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Family {
    /// Network.
    Net,
    /// Encryption.
    Enc,
    /// Workloads: pods and what runs in them.
    Wkl,
    /// Supply chain: images and models.
    Sup,
    /// Data.
    Dat,
    /// Identities and rights.
    Iam,
    /// Evidence brought by people.
    Evd,
    /// Logging and monitoring.
    Log,
    /// Operations: quarantine, waivers.
    Ops,
    /// Frugality.
    Eco,
    /// The cluster itself.
    Clu,
}

impl Family {
    /// Every family, in order.
    pub const ALL: [Self; 11] = [
        Self::Net,
        Self::Enc,
        Self::Wkl,
        Self::Sup,
        Self::Dat,
        Self::Iam,
        Self::Evd,
        Self::Log,
        Self::Ops,
        Self::Eco,
        Self::Clu,
    ];

    /// The three letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Net => "NET",
            Self::Enc => "ENC",
            Self::Wkl => "WKL",
            Self::Sup => "SUP",
            Self::Dat => "DAT",
            Self::Iam => "IAM",
            Self::Evd => "EVD",
            Self::Log => "LOG",
            Self::Ops => "OPS",
            Self::Eco => "ECO",
            Self::Clu => "CLU",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A control, `NET-04`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlId {
    family: Family,
    number: u8,
}

impl ControlId {
    /// The id as a regular expression, for schemas.
    pub const PATTERN: &'static str = "^(NET|ENC|WKL|SUP|DAT|IAM|EVD|LOG|OPS|ECO|CLU)-[0-9]{2}$";

    /// The family of this control.
    pub const fn family(self) -> Family {
        self.family
    }

    /// One rule of this control: `WKL_01.rule("host-path")`. A test reads the sources and fails for a rule that the
    /// catalogue does not have, so the name is not checked again here.
    pub const fn rule(self, name: &'static str) -> RuleId {
        RuleId {
            control: self,
            name: Some(Cow::Borrowed(name)),
        }
    }
}

impl fmt::Display for ControlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{:02}", self.family, self.number))
    }
}

impl FromStr for ControlId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-').filter(|(_, digits)| {
            // `u8::from_str` alone would take "+4" and "004".
            digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())
        });
        parts
            .and_then(|(letters, digits)| {
                let family = Family::ALL.into_iter().find(|family| family.as_str() == letters)?;
                let number = digits.parse().ok().filter(|number| *number > 0)?;
                Some(Self { family, number })
            })
            .ok_or_else(|| IdError::Control(text.to_owned()))
    }
}

/// A rule of a control, `WKL-01/host-path`, or a whole control, `NET-04`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    control: ControlId,
    name: Option<Cow<'static, str>>,
}

impl RuleId {
    /// The id as a regular expression, for schemas.
    pub const PATTERN: &'static str =
        "^(NET|ENC|WKL|SUP|DAT|IAM|EVD|LOG|OPS|ECO|CLU)-[0-9]{2}(/[a-z0-9]+(-[a-z0-9]+)*)?$";

    /// A rule whose name was checked by the caller.
    pub(super) fn named(control: ControlId, name: String) -> Self {
        Self {
            control,
            name: Some(Cow::Owned(name)),
        }
    }

    /// The control this rule belongs to.
    pub const fn control(&self) -> ControlId {
        self.control
    }

    /// The part after the slash; `None` when the id names the whole control.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether a waiver or an override written for `self` speaks of `other`: itself, or every rule of its control.
    pub fn covers(&self, other: &Self) -> bool {
        self.control == other.control && (self.name.is_none() || self.name == other.name)
    }
}

impl From<ControlId> for RuleId {
    fn from(control: ControlId) -> Self {
        Self { control, name: None }
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(&format!("{}/{name}", self.control)),
            None => self.control.fmt(f),
        }
    }
}

impl FromStr for RuleId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((control, name)) = text.split_once('/') else {
            return text.parse::<ControlId>().map(Self::from);
        };
        let wrong = || IdError::Rule(text.to_owned());
        if !is_rule_name(name) {
            return Err(wrong());
        }
        let control = control.parse().map_err(|_| wrong())?;
        Ok(Self {
            control,
            name: Some(Cow::Owned(name.to_owned())),
        })
    }
}

/// Words of lower-case letters and digits, joined by single dashes.
pub(super) fn is_rule_name(name: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.split('-').all(word)
}

/// Both ids are strings wherever they are written.
macro_rules! as_string {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_string!(ControlId, RuleId);

/// The controls as constants, so that a mistyped control does not compile.
macro_rules! controls {
    ($($name:ident = $family:ident $number:literal;)*) => {
        $(
            #[doc = concat!("Control `", stringify!($name), "` of `catalogue.yaml`.")]
            pub const $name: ControlId = ControlId { family: Family::$family, number: $number };
        )*
        /// Every constant above, to compare with the catalogue.
        #[cfg(test)]
        pub(super) const CONSTANTS: &[ControlId] = &[$($name),*];
    };
}
controls! {
    NET_01 = Net 1; NET_02 = Net 2; NET_03 = Net 3; NET_04 = Net 4; NET_05 = Net 5; NET_06 = Net 6; NET_07 = Net 7;
    NET_08 = Net 8; NET_09 = Net 9; NET_10 = Net 10; NET_11 = Net 11;
    ENC_01 = Enc 1; ENC_02 = Enc 2; ENC_03 = Enc 3; ENC_04 = Enc 4; ENC_05 = Enc 5; ENC_06 = Enc 6;
    WKL_01 = Wkl 1; WKL_02 = Wkl 2; WKL_03 = Wkl 3; WKL_04 = Wkl 4; WKL_05 = Wkl 5; WKL_06 = Wkl 6; WKL_07 = Wkl 7;
    WKL_08 = Wkl 8;
    SUP_01 = Sup 1; SUP_02 = Sup 2; SUP_03 = Sup 3; SUP_04 = Sup 4; SUP_05 = Sup 5; SUP_06 = Sup 6;
    DAT_01 = Dat 1; DAT_02 = Dat 2; DAT_03 = Dat 3; DAT_04 = Dat 4; DAT_05 = Dat 5; DAT_06 = Dat 6; DAT_07 = Dat 7;
    IAM_01 = Iam 1; IAM_02 = Iam 2; IAM_03 = Iam 3; IAM_04 = Iam 4; IAM_05 = Iam 5; IAM_06 = Iam 6; IAM_07 = Iam 7;
    EVD_01 = Evd 1; EVD_02 = Evd 2; EVD_03 = Evd 3; EVD_04 = Evd 4; EVD_05 = Evd 5; EVD_06 = Evd 6; EVD_07 = Evd 7;
    EVD_08 = Evd 8; EVD_09 = Evd 9; EVD_10 = Evd 10;
    LOG_01 = Log 1; LOG_02 = Log 2; LOG_03 = Log 3;
    OPS_01 = Ops 1; OPS_02 = Ops 2;
    ECO_01 = Eco 1; ECO_02 = Eco 2; ECO_03 = Eco 3;
    CLU_01 = Clu 1; CLU_02 = Clu 2; CLU_03 = Clu 3; CLU_04 = Clu 4; CLU_05 = Clu 5;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printed_as_it_was_read() {
        for text in ["NET-01", "CLU-05", "WKL-01/host-path", "EVD-10", "WKL-01/v2"] {
            assert_eq!(text.parse::<RuleId>().unwrap().to_string(), text);
        }
        assert_eq!(WKL_01.rule("host-path"), "WKL-01/host-path".parse().unwrap());
        assert_eq!(RuleId::from(NET_04), "NET-04".parse().unwrap());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "NET", "NET-4", "NET-004", "NET-00", "NET-+4", "net-04", "XYZ-01", "NET-04 ", "NET-０4",
        ] {
            assert_eq!(
                text.parse::<ControlId>(),
                Err(IdError::Control(text.to_owned())),
                "{text}"
            );
        }
        for text in [
            "NET-04/",
            "NET-04/a/b",
            "NET-04/Seal",
            "NET-04/-a",
            "NET-04/a--b",
            "/seal",
            "X/seal",
        ] {
            assert_eq!(text.parse::<RuleId>(), Err(IdError::Rule(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_control_covers_its_rules_and_a_rule_only_itself() {
        let (control, rule) = (RuleId::from(WKL_01), WKL_01.rule("host-ipc"));
        assert!(control.covers(&rule) && control.covers(&control) && rule.covers(&rule));
        assert!(!rule.covers(&control) && !rule.covers(&WKL_01.rule("privileged")));
        assert!(!control.covers(&WKL_02.rule("unknown")));
    }

    #[test]
    fn families_and_controls_come_before_rules_in_order() {
        let mut ids: Vec<RuleId> = vec![
            WKL_01.rule("b"),
            WKL_01.rule("a"),
            WKL_01.into(),
            NET_11.into(),
            NET_02.into(),
        ];
        ids.sort();
        let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["NET-02", "NET-11", "WKL-01", "WKL-01/a", "WKL-01/b"]);
    }
}
