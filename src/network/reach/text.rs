//! A path in one line: two pods, the ports, and the two rules to look at.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::network::ports::Interval;

use super::relays::{Chain, Relay};
use super::{End, Place, Provenance, Witness};

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Provenance::to_string))
    }
}

impl Witness {
    /// The line, with another word for the two rules: one that knows their files.
    pub fn told(&self, rule: impl Fn(&Provenance) -> String) -> String {
        format!(
            "a pod in {} can reach a pod in {} on {}: allowed by {} and {}",
            self.from,
            self.to,
            self.range(),
            rule(&self.egress),
            rule(&self.ingress)
        )
    }

    const fn range(&self) -> Interval {
        Interval {
            protocol: self.protocol,
            first: self.ports.0,
            last: self.ports.1,
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Provenance::to_string))
    }
}

impl Chain {
    /// The line: where it leads, each hop with its two rules, and what it hangs on.
    pub fn told(&self, rule: impl Fn(&Provenance) -> String) -> String {
        let Some([from, to]) = self.ends() else {
            return String::new();
        };
        let relays = self.relays.len();
        let relays = match relays {
            1 => "a relay".to_owned(),
            more => format!("{more} relays"),
        };
        let can = if self.doubt.is_some() { "may be able to" } else { "can" };
        let mut line = format!("a pod in {from} {can} reach a pod in {to} through {relays}");
        for (index, hop) in self.hops.iter().enumerate() {
            let (start, end) = match (index, self.relays.get(index)) {
                (0, _) => (": to ", self.stop(index)),
                (_, Some(_)) => ("; from there to ", self.stop(index)),
                (_, None) => ("; from there", String::new()),
            };
            let _ = write!(
                line,
                "{start}{end} on {}, allowed by {} and {}",
                hop.range(),
                rule(&hop.egress),
                rule(&hop.ingress)
            );
        }
        if let Some((_, doubt)) = &self.doubt {
            let _ = write!(line, "; {doubt}");
        }
        line
    }

    /// A relay.
    fn stop(&self, index: usize) -> String {
        let pod = self.hops.get(index).map(|hop| format!("a pod in {}", hop.to));
        let name = self.relays.get(index).and_then(Option::as_ref);
        let name = name.map(|name| format!(" ({name})"));
        pod.unwrap_or_default() + &name.unwrap_or_default()
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "catalogue service {name}"),
            Self::Dns => f.write_str("DNS"),
            Self::Workload(key) => write!(f, "AiWorkload {key}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Place::Namespace(name) => write!(f, "{name} with labels {}", Labels(&self.labels)),
            Place::Later(labels) => write!(
                f,
                "a namespace created later with labels {}, itself with labels {}",
                Labels(labels),
                Labels(&self.labels)
            ),
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, field } => write!(f, "{policy} {field}"),
            Self::NotIsolated { namespace: Some(name) } => write!(f, "{name} by default (no policy isolates the pod)"),
            Self::NotIsolated { namespace: None } => f.write_str("the new namespace by default (it has no policy)"),
        }
    }
}

/// `{app: x, tier: y}`.
struct Labels<'a>(&'a BTreeMap<String, String>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{key}: {value}")?;
        }
        f.write_str("}")
    }
}
