//! The story that the audit log is read of: what the operator does in a cluster in which everything happens once.

use std::time::Duration;

use cloison::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use cloison::cluster::cluster_policies;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::audit;
use crate::operator::{self, PATIENCE};

/// Two API servers that log who asked for what.
pub async fn planes() -> ControlPlane {
    let server = ApiServerOptions {
        audit_policy: Some(audit::policy()),
        ..ApiServerOptions::default()
    };
    let options = Options {
        api_servers: vec![server; 2],
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// Presses the stop button, waits until it shows, and releases it.
async fn off_and_on(admin: &Client) {
    let off = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"reason": "a story"},
        "metadata": {"name": names::OFF_CONFIGMAP, "namespace": names::DEFAULT_NAMESPACE},
    });
    operator::apply(admin, off).await.unwrap();
    operator::condition(admin, "train", "steady", "Ready", "Unknown").await;
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
    maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default())
        .await
        .unwrap();
    operator::condition(admin, "train", "steady", "Ready", "True").await;
}

async fn put_back<K>(api: &Api<K>, name: &str, intact: impl Fn(&K) -> bool)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    eventually(PATIENCE, &format!("{name} is put back"), || async {
        match api.get(name).await {
            Ok(object) if intact(&object) => Ok(()),
            Ok(_) => Err("it is changed".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

/// Others change what is ours, in ways that an apply mends and in ways that it cannot.
async fn drift(admin: &Client) {
    let policies = operator::network_policies(admin, "train");
    policies
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
    put_back::<NetworkPolicy>(&policies, "cloison-wl-steady", |_| true).await;
    let finalizer = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/stuck"]}}));
    policies
        .patch("cloison-wl-steady", &PatchParams::default(), &finalizer)
        .await
        .unwrap();
    put_back(&policies, "cloison-wl-steady", |policy| {
        policy.metadata.finalizers.is_none()
    })
    .await;
    let guards: Api<ValidatingAdmissionPolicy> = Api::all(admin.clone());
    let switch_off = Patch::Merge(json!({"spec": {"matchConditions": [{"name": "off", "expression": "false"}]}}));
    guards
        .patch("cloison-pod", &PatchParams::default(), &switch_off)
        .await
        .unwrap();
    put_back(&guards, "cloison-pod", |policy| {
        let conditions = policy.spec.as_ref().and_then(|spec| spec.match_conditions.as_ref());
        conditions.is_none_or(|list| list.iter().all(|condition| condition.name != "off"))
    })
    .await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let narrow = json!({"spec": {"matchResources": {"excludeResourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ]}}});
    bindings
        .patch("cloison-pod-deny", &PatchParams::default(), &Patch::Merge(narrow))
        .await
        .unwrap();
    let stuck = json!({"metadata": {"finalizers": ["example.com/stuck"]}});
    bindings
        .patch("cloison-pod-audit", &PatchParams::default(), &Patch::Merge(stuck))
        .await
        .unwrap();
    put_back(&bindings, "cloison-pod-audit", |binding| {
        binding.metadata.finalizers.is_none()
    })
    .await;
    put_back(&bindings, "cloison-pod-deny", |binding| {
        !serde_json::to_string(binding).unwrap().contains("exclude")
    })
    .await;
}

/// The denies of the whole cluster come, are put back and go.
async fn wall(admin: &Client) {
    let definition = include_str!("../fixtures/clusternetworkpolicies-v0.2.0.yaml");
    let definition: Value = serde_saphyr::from_str(definition).unwrap();
    operator::apply(admin, definition).await.unwrap();
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let ask = async |deny: &str| {
        let change = Patch::Merge(json!({"spec": {"network": {"clusterDeny": deny}}}));
        let params = PatchParams::default();
        settings.patch(names::SINGLETON, &params, &change).await.unwrap();
    };
    ask("ClusterNetworkPolicy").await;
    let denies: Api<DynamicObject> = Api::all_with(admin.clone(), &cluster_policies::resource());
    let name = names::STAGE_POLICIES[0];
    put_back::<DynamicObject>(&denies, name, |_| true).await;
    let stuck = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/stuck"]}}));
    denies.patch(name, &PatchParams::default(), &stuck).await.unwrap();
    put_back(&denies, name, |deny| deny.metadata.finalizers.is_none()).await;
    ask("None").await;
    eventually(PATIENCE, "the denies of the cluster are gone", || async {
        let left = cluster_policies::list(admin).await.map_err(|error| error.to_string())?;
        match left.unwrap_or_default().len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await
    .unwrap();
}

/// Somebody asks for Waivers, and reads why they do not hold yet.
async fn waivers(admin: &Client) {
    let api: Api<Waiver> = Api::all(admin.clone());
    for name in ["one", "other"] {
        let waiver = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name}, "spec": {
            "target": {"namespace": "train"}, "controls": ["NET-04"], "reason": "Nothing but a story of one",
            "requestedBy": "admin", "expirationTime": Timestamp::now() + Duration::from_secs(3_600),
        }});
        operator::apply(admin, waiver).await.unwrap();
        eventually(PATIENCE, "a word on it", || async {
            let found = api.get(name).await.map_err(|error| error.to_string())?;
            let told = found.status.is_some_and(|status| !status.conditions.is_empty());
            if told {
                Ok(())
            } else {
                Err("no condition yet".to_owned())
            }
        })
        .await
        .unwrap();
    }
}

/// The packet canary runs. Its nodes are played: the server is said to run, the client to have ended without an answer.
async fn packets(admin: &Client) {
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let ask = async |proof: &str| {
        let asked = Patch::Merge(json!({"spec": {"network": {"enforcementProof": proof}}}));
        settings
            .patch(names::SINGLETON, &PatchParams::default(), &asked)
            .await
            .unwrap();
    };
    ask("OnChange").await;
    let status = json!({"podIP": "10.65.0.1", "podIPs": [{"ip": "10.65.0.1"}]});
    for (namespace, pod, phase) in [
        (names::PACKETS_SERVER_NAMESPACE, names::PACKETS_SERVER, "Running"),
        (names::PACKETS_CLIENT_NAMESPACE, names::PACKETS_CLIENT, "Failed"),
    ] {
        let pods: Api<Pod> = Api::namespaced(admin.clone(), namespace);
        let mut status = status.clone();
        status["phase"] = json!(phase);
        let status = Patch::Merge(json!({"status": status}));
        eventually(PATIENCE, &format!("{namespace}/{pod}"), || async {
            pods.patch_status(pod, &PatchParams::default(), &status).await
        })
        .await
        .unwrap();
    }
    let (reason, message) = operator::condition(admin, "train", "steady", "EnforcementVerified", "Unknown").await;
    assert_ne!(reason, "NotEnforced", "{message}");
    eventually(PATIENCE, "the canary's pods are removed", || async {
        let mut left = 0;
        for namespace in names::PACKETS_NAMESPACES {
            let pods: Api<Pod> = Api::namespaced(admin.clone(), namespace);
            left += pods.list(&ListParams::default()).await.unwrap().items.len();
        }
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await
    .unwrap();
    ask("None").await;
}

/// Stored Secrets are read, as `SecretEncryption` asks for it, and rewritten by hand.
async fn swept(plane: &ControlPlane) {
    eventually(PATIENCE, "a read of a Secret", || async {
        let read = audit::asked(plane, names::SWEEPER_ACCOUNT)
            .iter()
            .any(|event| event["verb"] == "get" && event["objectRef"]["resource"] == "secrets");
        if read { Ok(()) } else { Err("none yet") }
    })
    .await
    .unwrap();
    eventually(PATIENCE, "the role is taken back", || async {
        let lent = cloison::cluster::sweep::lent(&plane.admin().unwrap()).await.unwrap();
        if lent.is_empty() {
            Ok(())
        } else {
            Err(format!("{lent:?}"))
        }
    })
    .await
    .unwrap();
    let mut rewrite = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
    rewrite
        .args(["encryption", "rewrite"])
        .env("KUBECONFIG", plane.admin_kubeconfig().unwrap());
    let output = tokio::task::spawn_blocking(move || rewrite.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Everything that a controller and its canary do in their life.
pub async fn story(plane: &ControlPlane) {
    let controller = operator::start_with(plane, &["encryption.readStored=true"]).await;
    let admin = plane.admin().unwrap();
    let encryption = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"proof": "Reads"},
    });
    operator::apply(&admin, encryption).await.unwrap();
    swept(plane).await;
    operator::healthy(&admin, "train", "Training").await;
    operator::condition(&admin, "train", "steady", "AdmissionEnforced", "True").await;

    // A catalogue that comes and goes.
    operator::catalogue(&admin).await;
    operator::apply(&admin, operator::user("train", "client", "Training"))
        .await
        .unwrap();
    operator::policy(&admin, "common", "cloison-svc-registry").await;

    // Who has which device is asked for once a pod has a claim for one.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "gpu", "namespace": "train", "labels": {names::WORKLOAD_LABEL: "steady"}},
        "spec": {"automountServiceAccountToken": false, "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
            "containers": [{"name": "main", "image": "registry.example.com/app:1"}]},
    });
    // The ServiceAccount `default` comes a moment after its namespace.
    eventually(PATIENCE, "a pod with a claim", || async {
        operator::apply(&admin, pod.clone()).await.map(drop)
    })
    .await
    .unwrap();

    drift(&admin).await;
    wall(&admin).await;
    waivers(&admin).await;

    // The policy changes, a workload goes, the stop button is pressed twice with the same words.
    let longer = Patch::Merge(json!({"spec": {"minScore": 90}}));
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    settings
        .patch(names::SINGLETON, &PatchParams::default(), &longer)
        .await
        .unwrap();
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "train");
    workloads.delete("client", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the withdrawal", || async {
        let left = operator::in_place(&admin, "train").await;
        if left.contains_key("cloison-wl-client") {
            Err("its allow is there")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    off_and_on(&admin).await;
    off_and_on(&admin).await;
    packets(&admin).await;

    // Another replica stands by and takes over.
    let second = operator::controller(plane, "second").await;
    second.start().unwrap();
    eventually(PATIENCE, "a standby", || async {
        operator::ask(&second, "/readyz")
            .filter(|answer| answer.0 == 200)
            .map(drop)
            .ok_or("not ready")
    })
    .await
    .unwrap();
    controller.stop().await;
    operator::metric_is(&second, "cloison_leader", &[], |leader| leader == 1).await;

    // The admin takes the stage away.
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let labels = Patch::Merge(json!({"metadata": {"labels": {names::STAGE_LABEL: null, names::MODE_LABEL: null}}}));
    namespaces
        .patch("train", &PatchParams::default(), &labels)
        .await
        .unwrap();
    eventually(PATIENCE, "the namespace left", || async {
        if operator::in_place(&admin, "train").await.is_empty() {
            Ok(())
        } else {
            Err("policies are there")
        }
    })
    .await
    .unwrap();
    second.stop().await;
}
