//! The agents and the rotation hold what they use and nothing else, by the audit log of the whole story.

use std::collections::BTreeSet;

use cloison::cluster::roles::components;
use cloison_testbed::ControlPlane;

use super::audit::{Right, problems};

/// Asked by the API server itself while it judges a binding, so no request shows it.
fn unused() -> BTreeSet<Right> {
    let bind = ("rbac.authorization.k8s.io", "clusterroles", "bind");
    BTreeSet::from([(bind.0.to_owned(), bind.1.to_owned(), bind.2.to_owned())])
}

pub fn are_those_that_were_used(plane: &ControlPlane) {
    let ours = ["agent", "rotator"];
    let components: Vec<_> = components()
        .into_iter()
        .filter(|component| ours.contains(&component.name))
        .collect();
    assert_eq!(components.len(), ours.len());
    let mut wrong: Vec<String> = components
        .iter()
        .flat_map(|component| problems(plane, component, &unused()))
        .collect();
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
