//! `cloison doctor`: what is enforced where, what stands in the way, and who could switch it off.

use serde_json::{Value, json};

use crate::common::{apply, create, delete, pod, with};
use crate::{BINDING, cloison, cluster, contains, operator};

/// The line about something.
fn line<'t>(text: &'t str, about: &str) -> &'t str {
    text.lines()
        .find(|line| line.split_whitespace().any(|word| word == about))
        .unwrap_or_else(|| panic!("nothing about {about}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_in_the_way_and_who_could_switch_it_off() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    apply(
        &client,
        json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {}}),
    )
    .await;
    cluster
        .stage_namespace("old-train", "training", Some("audit"), "default")
        .await;
    create(
        &client,
        with(pod("old-train", "bad"), json!({"spec": {"hostIPC": true}})),
    )
    .await
    .unwrap();
    cluster
        .stage_namespace("new-train", "training", Some("audit"), "default")
        .await;
    apply(
        &client,
        operator::workload("new-train", "default", "Training", Value::Null),
    )
    .await;

    let said = cloison(&admin, &["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "STALE: there is no Lease cloison-system/cloison-controller",
            "what is stored refuses without us",
            "nobody but system:masters may change the admission policies",
            "no account of a stage namespace holds a role elsewhere",
        ],
    );
    assert!(line(&said.out, "policies").starts_with("ok"), "{}", said.out);
    let old = line(&said.out, "old-train");
    assert!(
        old.contains("of 1 pod would be refused 1 (WKL-01/host-ipc 1") && old.contains("audits"),
        "{old}"
    );
    assert!(old.contains("there is no AiWorkload"), "{old}");
    let new = line(&said.out, "new-train");
    assert!(
        new.contains("nothing is in the way: kubectl label ns new-train cloison.dev/mode=enforce --overwrite"),
        "{new}"
    );
    let sealed = line(&said.out, "vision-train");
    assert!(
        sealed.contains("Enforce") && sealed.contains("not seen refusing"),
        "{sealed}"
    );

    // Who could switch it off.
    let bind = |name: &str, namespace: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}]})
    };
    apply(&client, bind("gitops", "argocd")).await;
    apply(&client, bind("runner", "vision-train")).await;
    delete(&client, BINDING.0, BINDING.1, None, "cloison-pod-deny")
        .await
        .unwrap();
    let said = cloison(&admin, &["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "ServiceAccount argocd/robot through ClusterRoleBinding gitops (cluster-admin)",
            "accounts of stage namespaces hold roles beyond them",
            "ServiceAccount vision-train/robot through ClusterRoleBinding runner (cluster-admin)",
            "cloison-pod-deny is missing",
        ],
    );
    assert!(line(&said.out, "policies").starts_with("ATTENTION"), "{}", said.out);
    // A plan tells what is only reported as well.
    let plan = cloison(&admin, &["plan", "-n", "old-train"]);
    contains(
        &plan,
        &["Would be refused, if they were created now", "WKL-01/host-ipc"],
    );
}
