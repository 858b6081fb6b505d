//! Rule 10: every component holds exactly the rights it uses. The API server's audit log of a whole story is compared with
//! the roles, objects' names included: nothing was forbidden, and nothing is granted that nobody asked for.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/audit.rs"]
mod audit;
#[path = "../common/operator.rs"]
mod operator;
mod story;

use std::collections::BTreeSet;

use audit::{Right, asked, user};
use cloison::cluster::roles::components;
use cloison::network::foreign::FOREIGN_KINDS;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use story::{planes, story};

/// Rights that this story does not use, each with the reason why they are needed all the same.
fn unused() -> BTreeSet<Right> {
    let mut unused = BTreeSet::new();
    for kind in FOREIGN_KINDS.iter().filter(|kind| !kind.is_modelled()) {
        // Asked only where the kind is served; nothing serves it here.
        unused.insert((kind.group.to_owned(), kind.plural.to_owned(), "list".to_owned()));
    }
    unused.extend(
        [
            // A version that no longer generates one of its policies removes it; this one generates all it knows.
            ("admissionregistration.k8s.io", "validatingadmissionpolicies", "delete"),
            (
                "admissionregistration.k8s.io",
                "validatingadmissionpolicybindings",
                "delete",
            ),
            // Written where the chart has a webhook: `webhook` shows it.
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                "create",
            ),
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                "patch",
            ),
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                "update",
            ),
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                "delete",
            ),
            // Asked by the API server itself while it judges a binding, so no request shows it.
            ("rbac.authorization.k8s.io", "clusterroles", "bind"),
            // An event that is told again word for word within six minutes is counted up; nothing here is.
            ("events.k8s.io", "events", "patch"),
        ]
        .map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned())),
    );
    unused
}

#[tokio::test(flavor = "multi_thread")]
async fn every_component_holds_what_it_uses_and_nothing_else() {
    let plane = planes().await;
    story(&plane).await;
    let mut wrong = Vec::new();
    // Agents, and the rotation that follows what they say, have a story of their own (`encryption_manage`): there is no
    // control-plane node here. So has the webhook (`webhook`).
    let elsewhere = ["agent", "rotator", "webhook"];
    for component in components()
        .into_iter()
        .filter(|component| !elsewhere.contains(&component.name))
    {
        wrong.extend(audit::problems(&plane, &component, &unused()));
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // Neither is anybody's master.
    let admin = plane.admin().unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(admin);
    for component in components() {
        let review = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "user": user(component.account), "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {"group": "*", "resource": "*", "verb": "*"},
            },
        }));
        let answer = reviews.create(&PostParams::default(), &review.unwrap()).await.unwrap();
        assert!(!answer.status.unwrap().allowed, "{} may do everything", component.name);
        for event in asked(&plane, component.account) {
            let groups = event["user"]["groups"].to_string();
            assert!(!groups.contains("system:masters"), "{}: {groups}", component.name);
        }
    }
}
