//! `cloison why`: from an object to the rule and the fix.

use cloison::api::names;
use kube::api::ListParams;
use serde_json::json;

use crate::common::{apply, create, pod, with};
use crate::{cloison, cluster, common, contains, job, operator, until};

#[tokio::test(flavor = "multi_thread")]
async fn why_leads_from_the_object_to_the_rule_and_the_fix() {
    let (cluster, _, tenant) = cluster().await;
    let admin = cluster.admin();
    let fine = pod("vision-train", "x")["spec"].clone();
    let unsafe_spec = with(fine.clone(), json!({"hostIPC": true}));
    create(&admin, job("road", &unsafe_spec)).await.unwrap();
    let said = until(&tenant, &["why", "job/road", "-n", "vision-train"], "refused").await;
    let said = if said.out.contains("(refused") {
        said
    } else {
        until(&tenant, &["why", "job/road", "-n", "vision-train"], "(refused").await
    };
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "Job road > Pod (refused 1 time, last ",
            "\n  WKL-01/host-ipc  ",
            "\n    fix: remove hostIPC; for NCCL mount emptyDir {medium: Memory} at /dev/shm\n",
            "a pod of it would be refused now (server-side dry run as you)",
        ],
    );
    let pods = common::objects(&admin, "v1", "Pod", Some("vision-train"));
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        0,
        "asking makes no pod"
    );
    let two_words = cloison(&tenant, &["why", "Job", "road", "-n", "vision-train"]);
    assert_eq!(two_words.code, 1, "{two_words:?}");

    // The positive control, three owners deep.
    let template = json!({"metadata": {"labels": {"app": "serve"}}, "spec": fine});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve", "namespace": "vision-train"},
        "spec": {"selector": {"matchLabels": {"app": "serve"}}, "template": template},
    });
    create(&admin, deployment).await.unwrap();
    let said = until(&tenant, &["why", "deploy/serve", "-n", "vision-train"], "1 pod there").await;
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            "Deployment serve > ReplicaSet serve-",
            " > Pod (1 pod there)",
            "would be admitted now",
        ],
    );
    // From the pod up.
    let pods = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 1, "asking makes no pod");
    let name = format!("pod/{}", pods.items[0].metadata.name.clone().unwrap());
    let said = cloison(&tenant, &["why", &name, "-n", "vision-train"]);
    contains(
        &said,
        &["Deployment serve > ReplicaSet serve-", " > Pod serve-", "(exists)"],
    );

    // Who may not create pods is told so, and not that they would be refused.
    cluster.tenant("vera", "vision-train", "view").await;
    let viewer = cluster.plane.tenant_identity("vera", "vision-train", "view").await;
    let viewer = viewer.unwrap().kubeconfig().unwrap();
    let said = cloison(&viewer, &["why", "deploy/serve", "-n", "vision-train"]);
    assert_eq!(said.code, 0, "{said:?}");
    contains(&said, &["is not known: you may not create pods in this namespace"]);

    // What an event says is the past; the dry run is the present.
    let labels = json!({"metadata": {"labels": {names::MODE_LABEL: "audit"}}});
    common::patch(&admin, "v1", "Namespace", None, "vision-train", labels)
        .await
        .unwrap();
    let said = until(&tenant, &["why", "job/road", "-n", "vision-train"], "that was before").await;
    assert_eq!(said.code, 0, "{said:?}");
    contains(&said, &["WKL-01/host-ipc", "would be admitted now"]);
    assert_eq!(cloison(&tenant, &["why", "job/absent", "-n", "vision-train"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_every_problem_where_a_refusal_has_room_for_three() {
    let (cluster, _, tenant) = cluster().await;
    let admin = cluster.admin();
    apply(&admin, json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {}})).await;
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aisecuritypolicies"], "verbs": ["get"]}]);
    cluster.grant_user("mona", reading).await;
    let base = pod("vision-train", "x")["spec"].clone();
    let change = json!({
        "hostIPC": true, "hostPID": true, "hostNetwork": true,
        "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
        "containers": [with(base["containers"][0].clone(), json!({"securityContext": {"privileged": true}}))],
    });
    create(&admin, job("worst", &with(base, change))).await.unwrap();
    let rules =
        ["host-ipc", "host-pid", "host-network", "host-path", "privileged"].map(|rule| format!("  WKL-01/{rule}  "));
    let said = until(
        &tenant,
        &["why", "job/worst", "-n", "vision-train"],
        "WKL-01/privileged",
    )
    .await;
    for rule in rules {
        assert_eq!(said.out.matches(&rule).count(), 1, "{rule}\n{}", said.out);
    }
    // An AiWorkload says what of it is not True.
    let workload = operator::workload(
        "vision-train",
        "default",
        "Training",
        json!({"connectTo": [{"service": "nowhere"}]}),
    );
    apply(&admin, workload).await;
    let time = "2026-11-22T12:00:00Z";
    let status = json!({"status": {
        "observedGeneration": 1,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Refused", "message": "no", "lastTransitionTime": time},
            {"type": "PoliciesIsolate", "status": "True", "reason": "Isolated", "message": "", "lastTransitionTime": time},
        ],
        "flows": [{"direction": "Egress", "name": "service nowhere", "state": "Unresolved", "message": "unknown service"}],
        "findings": [{"control": "NET-04", "severity": "High", "message": "NET-04/unknown-service unknown service"}],
    }});
    let controller = cluster.operator().await;
    common::patch_status(
        &controller,
        "cloison.dev/v1alpha1",
        "AiWorkload",
        Some("vision-train"),
        "default",
        status,
    )
    .await
    .unwrap();
    let admin_config = cluster.plane.admin_kubeconfig().unwrap();
    let said = cloison(&admin_config, &["why", "aiw/default", "-n", "vision-train"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "CONDITION   STATUS   FOR ",
            "Ready       False    ",
            "egress      service nowhere   Unresolved",
            "High       NET-04/unknown-service",
        ],
    );
    assert!(!said.out.contains("PoliciesIsolate"), "{}", said.out);
}
