//! `cloison plan -n`: what a live namespace in audit would lose.

use cloison::api::names;
use cloison_testbed::eventually;
use serde_json::{Value, json};

use crate::common::{SOON, apply, create, pod, with};
use crate::{cloison, cluster, common, contains, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_live_plan_says_what_would_be_refused_and_what_would_close() {
    let (cluster, admin, tenant) = cluster().await;
    let client = cluster.admin();
    for name in ["old", "minio"] {
        apply(
            &client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let policy = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {
        "network": {"services": [{"name": "store", "to": {"namespace": "minio"}, "ports": [{"port": 9000}]}]}}});
    apply(&client, policy).await;
    let service = |namespace: &str, name: &str, port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        })
    };
    for service in [
        service("minio", "minio", 9000),
        service("minio", "console", 9001),
        service("old", "own", 80),
    ] {
        apply(&client, service).await;
    }
    let gpu = json!({"spec": {"restartPolicy": "Never"}});
    let mut bad = with(pod("old", "bad"), gpu);
    bad["spec"]["hostIPC"] = json!(true);
    bad["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    eventually(SOON, "the account of the namespace", async || {
        create(&client, bad.clone()).await.map(drop)
    })
    .await
    .unwrap();
    let labelled = json!({"metadata": {"labels": {names::WORKLOAD_LABEL: "ghost"}}});
    create(&client, with(pod("old", "good"), labelled)).await.unwrap();

    let said = cloison(&admin, &["plan", "-n", "old"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "old         looks like training   -      2      1                2 (WKL-01/host-ipc 1, WKL-02/unknown 2)",
            "    fix: declare an AiWorkload `default`, which pods without the label join; or create the AiWorkload",
            "note: \"looks like\" is a guess",
            "  WKL-01/host-ipc  1 pod (bad): ",
            "  default/kubernetes:443\n  minio/console:9001\n  minio/minio:9000\n  addresses outside the cluster\n",
            "    - service: kubernetes-api\n    - service: store\n    # minio/console:9001: no service of the catalogue leads there",
            "note: not judged here: cloison-namespace, because it depends on the caller's rights",
        ],
    );
    assert!(
        !said.out.contains("old/own") && !said.out.contains(" used"),
        "{}",
        said.out
    );
    // The skeleton is accepted as it is, and then counts.
    let skeleton = said.out.split("---\n").nth(1).unwrap().split("note:").next().unwrap();
    let skeleton: Value = serde_saphyr::from_str(skeleton).unwrap();
    let labels = json!({"metadata": {"labels": {names::STAGE_LABEL: "training", names::MODE_LABEL: "audit"}}});
    common::patch(&client, "v1", "Namespace", None, "old", labels)
        .await
        .unwrap();
    apply(&client, skeleton).await;
    let all = cloison(&admin, &["plan", "-A"]);
    contains(
        &all,
        &[
            "old            training",
            "minio/console:9001, addresses outside the cluster\n",
        ],
    );
    assert!(
        !all.out.contains("kube-system") && !all.out.contains("\nminio "),
        "{}",
        all.out
    );
    // A tenant sees its own namespace, and is told what it may not see.
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aiworkloads"], "verbs": ["list"]}]);
    cluster.grant_user("mona", reading).await;
    let theirs = until(&tenant, &["plan", "-n", "vision-train"], "vision-train").await;
    assert_eq!(theirs.code, 0, "{theirs:?}");
    contains(
        &theirs,
        &[
            "you may not list Services of the cluster",
            "you may not read the AiSecurityPolicy: judged by the defaults",
        ],
    );
}
