//! Rule 8: no secret value enters what Cloison says or writes. Logs at the finest level that people use, events, metrics,
//! and every object of ours as etcd holds it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use cloison::api::names;
use cloison_testbed::{ControlPlane, Options, eventually};
use kube::api::DeleteParams;
use operator::PATIENCE;
use serde_json::{Value, json};

const VALUE: &str = "zq-recognisable-4711";
/// The value, as a Secret's JSON holds it.
const ENCODED: &str = "enEtcmVjb2duaXNhYmxlLTQ3MTE";
/// How every token of a ServiceAccount begins: `{"alg":` in base64.
const TOKEN: &str = "eyJhbGciOi";

fn clean(what: &str, text: &str) {
    for secret in [VALUE, ENCODED, TOKEN] {
        if let Some(at) = text.find(secret) {
            let line = text[..at].lines().count();
            panic!("{what} holds {secret} in line {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_value_and_no_token_is_said_or_written() {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    operator::install(&plane, &[]);
    let admin = plane.admin().unwrap();
    for namespace in ["default", names::DEFAULT_NAMESPACE] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": namespace},
            "stringData": {"password": VALUE},
        });
        operator::apply(&admin, secret).await.unwrap();
    }
    let controller = operator::controller_with(&plane, "controller", 6, "debug").await;
    controller.start().unwrap();
    operator::metric_is(&controller, "cloison_leader", &[], |leader| leader == 1).await;
    operator::healthy(&admin, "train", "Training").await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": "train"},
        "stringData": {"password": VALUE},
    });
    operator::apply(&admin, secret).await.unwrap();
    // The canary has its token and used it: both proofs were gathered.
    operator::condition(&admin, "train", "steady", "AdmissionEnforced", "True").await;
    eventually(PATIENCE, "the canary Secret", || async {
        let key = format!(
            "/registry/secrets/{}/{}",
            names::DEFAULT_NAMESPACE,
            names::CANARY_SECRET
        );
        match plane.etcd().get(&key).await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await
    .unwrap();
    // Failures say the most: rights that are missing, objects that are refused, a restart.
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = kube::Api::all(admin.clone());
    bindings
        .delete("cloison-controller", &DeleteParams::default())
        .await
        .unwrap();
    let policies = operator::network_policies(&admin, "train");
    policies
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
    operator::logs(&controller, 0, "reason=\"Forbidden\"").await;
    operator::install(&plane, &[]);
    operator::policy(&admin, "train", "cloison-wl-steady").await;
    operator::apply(&admin, operator::workload("train", "late", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "train", "late", "Ready", "True").await;

    let (_, metrics) = operator::ask(&controller, "/metrics").unwrap();
    clean("/metrics", &metrics);
    controller.stop().await;
    let log = controller.output();
    assert!(log.contains("DEBUG"), "the level is what was asked for");
    clean("the log", &operator::plain(&log));

    let mut ours = 0;
    let mut found = 0;
    let canary = format!(
        "/registry/secrets/{}/{}",
        names::DEFAULT_NAMESPACE,
        names::CANARY_SECRET
    );
    for (key, value) in plane.etcd().list("/registry/").await.unwrap() {
        let text = String::from_utf8_lossy(&value);
        found += usize::from(text.contains(VALUE));
        let written = [names::FIELD_MANAGER, names::STATUS_MANAGER, names::CANARY_ACCOUNT]
            .iter()
            .any(|manager| {
                text.contains(&format!(
                    "\n{}{manager}",
                    char::from(u8::try_from(manager.len()).unwrap())
                )) || text.contains(&format!("\"manager\":\"{manager}\""))
            });
        if key.starts_with("/registry/events/")
            || key != canary && (written || text.contains(names::CONTROLLER_ACCOUNT))
        {
            ours += 1;
            clean(&key, &text);
        }
    }
    assert!(found >= 3, "the scan finds a value where there is one");
    assert!(ours >= 10, "the scan finds what we wrote: {ours}");
}
