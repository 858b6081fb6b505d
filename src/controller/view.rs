//! One look at the cluster: the world, and why nothing may be decided about a part of it. Both from the same moment, or
//! a policy that vanishes in between would leave a pass with no hold and a world of defaults.

use std::sync::Arc;

use super::judge::Hold;
use crate::api::off::{Off, Scope};
use crate::api::stage::Mode;
use crate::network::world::World;

/// One look.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What is known; with the defaults of the policy while that is missing.
    pub world: Arc<World>,
    /// The stop button.
    pub off: Option<Off>,
    /// Whether the policy is missing or unreadable.
    pub policy_missing: bool,
}

impl View {
    /// Why nothing is written about the network of `namespace`, and nothing judged.
    pub fn hold(&self, namespace: &str) -> Option<Hold> {
        let off = self.off.as_ref();
        let off = off.filter(|off| off.scope == Scope::All && off.covers(namespace));
        off.map(held).or_else(|| self.missing())
    }

    /// The same of admission, which either scope of the button stops. Objects of the whole cluster are in no namespace.
    pub fn admission_hold(&self, namespace: &str) -> Option<Hold> {
        let off = self.off.as_ref().filter(|off| off.covers(namespace));
        off.map(held).or_else(|| self.missing())
    }

    fn missing(&self) -> Option<Hold> {
        self.policy_missing.then_some(Hold::PolicyMissing)
    }
}

/// The mode that the network of `namespace` keeps. `cloison off -n` labels it audit so that nothing is refused there; with
/// scope admission its isolation stays as it was.
pub fn kept_mode(off: &Off, namespace: &str, default: Mode) -> Option<Mode> {
    let kept = off.scope == Scope::Admission && off.covers(namespace);
    let before = off.modes.get(namespace).filter(|_| kept)?;
    Some(Mode::parse(before).unwrap_or(default))
}

fn held(off: &Off) -> Hold {
    Hold::Off {
        reason: off.why().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pressed(pairs: &[(&str, &str)]) -> View {
        let pairs = pairs.iter();
        let data: BTreeMap<_, _> = pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        View {
            off: Some(Off::read(&data)),
            ..View::default()
        }
    }

    fn off(reason: &str) -> Hold {
        let reason = reason.to_owned();
        Hold::Off { reason }
    }

    #[test]
    fn scope_admission_leaves_the_network_alone() {
        let view = pressed(&[("scope", "admission"), ("reason", "INC")]);
        assert_eq!((view.hold("a"), view.admission_hold("a")), (None, Some(off("INC"))));
        for other in ["all", "everything", ""] {
            let view = pressed(&[("scope", other), ("reason", "INC")]);
            assert_eq!(
                (view.hold("a"), view.admission_hold("a")),
                (Some(off("INC")), Some(off("INC")))
            );
        }
        assert_eq!(pressed(&[]).hold("a"), Some(off("no reason was given")));
    }

    #[test]
    fn with_namespaces_it_is_about_these() {
        let view = pressed(&[("scope", "all"), ("reason", "INC"), ("namespaces", "a, b")]);
        assert_eq!((view.hold("b"), view.hold("c")), (Some(off("INC")), None));
        assert_eq!(view.admission_hold(""), None, "the bindings serve the others");
    }

    #[test]
    fn a_world_without_the_policy_is_held_whatever_is_off_elsewhere() {
        for off in [None, pressed(&[("scope", "admission")]).off] {
            let view = View {
                policy_missing: true,
                off,
                ..View::default()
            };
            assert_eq!(view.hold("a"), Some(Hold::PolicyMissing));
        }
    }

    #[test]
    fn the_network_keeps_the_mode_that_off_took_away() {
        let modes = [("namespaces", "a b"), ("modes", "a=enforce b=")];
        let view = pressed(&[&[("scope", "admission")], &modes[..]].concat());
        let mode = |view: &View, name: &str| view.off.as_ref().and_then(|off| kept_mode(off, name, Mode::Warn));
        assert_eq!(mode(&view, "a"), Some(Mode::Enforce));
        assert_eq!(mode(&view, "b"), Some(Mode::Warn));
        assert_eq!(mode(&view, "c"), None);
        assert_eq!(mode(&pressed(&[&[("scope", "all")], &modes[..]].concat()), "a"), None);
    }
}
