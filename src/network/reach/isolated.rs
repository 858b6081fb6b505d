//! What policies open for certain pods of one namespace, seen from their end alone: without a rule there, nothing passes
//! whatever the other end says.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Provenance;
use super::policy::{self, Direction};
use super::selector::Selector;

/// What is open at one end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// Rules that may be for such a pod, and directions in which a pod may be isolated by nothing. Sorted.
    pub rules: Vec<Provenance>,
    /// `namespace/name` and why, of policies that cannot be read.
    pub unreadable: Vec<String>,
}

/// Looks at the policies of one namespace for the pods that `pods` selects, those that could exist included.
pub fn openings_of<'p>(
    namespace: &str,
    pods: &LabelSelector,
    policies: impl IntoIterator<Item = &'p NetworkPolicy>,
) -> Openings {
    let mut found = Openings::default();
    let pods = match Selector::read(pods) {
        Ok(Some(pods)) => pods,
        // Selects no pod that could exist.
        Ok(None) => return found,
        Err(error) => {
            found.unreadable.push(format!("the selector of the pods: {error}"));
            return found;
        }
    };
    let mut isolated = [false, false];
    for stored in policies {
        let (home, name) = policy::identity(stored);
        if home != namespace {
            continue;
        }
        let read = match policy::read(stored) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(error) => {
                found.unreadable.push(format!("{home}/{name}: {error}"));
                continue;
            }
        };
        if pods.implies(&read.subject) {
            for direction in Direction::BOTH {
                isolated[direction as usize] |= read.isolates[direction as usize];
            }
        }
        if pods.and(&read.subject).is_some() {
            found.rules.extend(read.rules.iter().map(|rule| Provenance::Rule {
                policy: format!("{home}/{name}"),
                field: rule.field(),
            }));
        }
    }
    if isolated != [true, true] {
        found.rules.push(Provenance::NotIsolated {
            namespace: Some(namespace.to_owned()),
        });
    }
    found.rules.sort();
    found.unreadable.sort();
    found
}
