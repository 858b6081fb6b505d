//! What tenants write beside our own kinds: NetworkPolicies where they are analysed, claims that name their volume.

use cloison::api::{AiSecurityPolicy, Waiver, names};
use cloison_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::operator::{self, PATIENCE};
use crate::scene::{Scene, create, refusal, waiver};

/// `Analysed`: a peer in another namespace is allowed where no path between stages begins or ends with it.
pub async fn policies(scene: &Scene, alice: &Client) {
    operator::namespace(&scene.admin, "train-b", "training", Some("enforce")).await;
    let to = |name: &str, namespace: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "train"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {"matchLabels":
                {"kubernetes.io/metadata.name": namespace}}}]}]},
        })
    };
    eventually(PATIENCE, "CEL refuses peers in other namespaces", || async {
        match create(alice, to("own", "train-b"), true).await {
            Err(kube::Error::Api(status)) if status.message.contains("NET-10/namespace-selector") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "passed"))),
        }
    })
    .await
    .unwrap();
    let analysed = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"network": {"tenantPolicies": "Analysed"}}});
    operator::apply(&scene.admin, analysed).await.unwrap();
    eventually(
        PATIENCE,
        "peers in other namespaces of the stage are let through",
        || async { create(alice, to("own", "train-b"), true).await.map(|_| ()) },
    )
    .await
    .unwrap();
    let status = refusal(create(alice, to("half", "infer"), false).await);
    let told = "NET-10/opens-path train/half egress[0].to[0] lets pods of train reach pods in infer, which is of stage inference";
    assert!(status.message.contains(told), "{}", status.message);
    assert_eq!(status.details.unwrap().causes[0].field, "spec.egress[0].to[0]");

    // One that is on its way out is in force for as long as a finalizer keeps it.
    let mut kept = to("kept", "train-b");
    kept["metadata"]["finalizers"] = json!(["example.com/backup"]);
    create(alice, kept, false).await.unwrap();
    let mine: Api<NetworkPolicy> = Api::namespaced(alice.clone(), "train");
    mine.delete("kept", &DeleteParams::default()).await.unwrap();
    let wider = Patch::Merge(json!({"spec": to("kept", "infer")["spec"]}));
    let status = refusal(mine.patch("kept", &PatchParams::default(), &wider).await);
    assert!(status.message.contains("NET-10/opens-path"), "{}", status.message);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    mine.patch("kept", &PatchParams::default(), &free).await.unwrap();

    operator::namespace(&scene.admin, "lab", "training", Some("audit")).await;
    // Without the organisation's policy there is no verdict: it passes where nothing is refused, and only there.
    let policies: Api<AiSecurityPolicy> = Api::all(scene.admin.clone());
    policies
        .delete(names::SINGLETON, &DeleteParams::default())
        .await
        .unwrap();
    eventually(PATIENCE, "the webhook sees that it is gone", || async {
        match create(alice, to("half", "infer"), true).await {
            Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "passed"))),
        }
    })
    .await
    .unwrap();
    let mut reported = to("half", "infer");
    reported["metadata"]["namespace"] = json!("lab");
    create(&scene.admin, reported, true).await.unwrap();

    // Back again: the policy in CEL judges it, and nobody asks the webhook.
    let back = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"network": {"tenantPolicies": "OwnNamespace"}}});
    operator::apply(&scene.admin, back).await.unwrap();
    eventually(PATIENCE, "CEL refuses peers in other namespaces again", || async {
        match create(alice, to("own", "train-b"), true).await {
            Err(kube::Error::Api(status)) if status.message.contains("NET-10/namespace-selector") => {}
            other => return Err(format!("{:?}", other.map(|_| "passed"))),
        }
        let entries = scene
            .configuration()
            .await
            .ok_or("there is none")?
            .webhooks
            .unwrap_or_default();
        if entries.iter().any(|entry| entry.name.starts_with("networkpolicies")) {
            return Err("the webhook is asked".to_owned());
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// A Waiver lets claims name their volume; none may name one that another stage's claim had.
pub async fn volumes(scene: &Scene, alice: &Client) {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "x",
            "hostPath": {"path": "/tmp/x"}, "claimRef": {"namespace": "infer", "name": "data"}},
    });
    create(&scene.admin, volume, false).await.unwrap();
    let claim = |volume: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": format!("claims-{volume}"), "namespace": "train"},
            "spec": {"volumeName": volume, "storageClassName": "x", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    let mut named = waiver("named");
    named["spec"]["controls"] = json!(["DAT-07/volume-name"]);
    create(&scene.admin, named, false).await.unwrap();
    let bob = scene.plane.client_as("bob", &["system:masters"]).unwrap();
    let approval = json!({"status": {"approval": {"by": "bob", "time": Timestamp::now(), "generation": 1}}});
    Api::<Waiver>::all(bob)
        .patch_status("named", &PatchParams::default(), &Patch::Merge(&approval))
        .await
        .unwrap();
    eventually(PATIENCE, "claims may name their volume", || async {
        create(alice, claim("pv-2"), true).await.map(|_| ())
    })
    .await
    .unwrap();
    let status = refusal(create(alice, claim("pv-1"), false).await);
    assert!(status.message.contains("DAT-07/foreign-volume"), "{}", status.message);
    create(alice, claim("pv-2"), false).await.unwrap();
}

/// A policy of 1.6 MiB: its update carries it twice, which is more than an API server takes of one object.
pub async fn large(scene: &Scene, alice: &Client) {
    let analysed = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"network": {"tenantPolicies": "Analysed"}}});
    operator::apply(&scene.admin, analysed).await.unwrap();
    let ports = |many: usize| vec![json!({"protocol": "TCP", "port": 8080}); many];
    let policy = |many: usize| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "large", "namespace": "train"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"podSelector": {}}], "ports": ports(many)}]},
        })
    };
    let (whole, smaller) = (policy(54_000), policy(53_000));
    assert!(whole.to_string().len() > 1_600_000);
    eventually(PATIENCE, "the webhook is asked", || async {
        let entries = scene.configuration().await.ok_or("there is none")?.webhooks;
        let asked = entries
            .unwrap_or_default()
            .into_iter()
            .find(|it| it.name.starts_with("networkpolicies"));
        match asked {
            Some(entry) if entry.failure_policy.as_deref() == Some("Fail") => Ok(()),
            _ => Err("not yet"),
        }
    })
    .await
    .unwrap();
    // On a busy machine so large an object may take longer than the API server waits for the webhook: then it is asked again.
    eventually(PATIENCE, "the policy is made", || async {
        create(alice, whole.clone(), false)
            .await
            .map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let mine: Api<NetworkPolicy> = Api::namespaced(alice.clone(), "train");
    let smaller: NetworkPolicy = serde_json::from_value(smaller).unwrap();
    eventually(PATIENCE, "the policy is made smaller", || async {
        let mut stored = mine.get("large").await.map_err(|error| error.to_string())?;
        stored.spec = smaller.spec.clone();
        let replaced = mine.replace("large", &PostParams::default(), &stored).await;
        replaced.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
}
