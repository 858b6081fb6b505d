//! A path in one line: two pods, the ports, and the two rules to look at.

use std::collections::BTreeMap;
use std::fmt;

use crate::network::ports::Interval;

use super::{End, Place, Provenance, Witness};

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Provenance::to_string))
    }
}

impl Witness {
    /// The line, with another word for the two rules: one that knows their files.
    pub fn told(&self, rule: impl Fn(&Provenance) -> String) -> String {
        let ports = Interval {
            protocol: self.protocol,
            first: self.ports.0,
            last: self.ports.1,
        };
        format!(
            "a pod in {} can reach a pod in {} on {ports}: allowed by {} and {}",
            self.from,
            self.to,
            rule(&self.egress),
            rule(&self.ingress)
        )
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
