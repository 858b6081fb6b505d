//! The stop button in each form that an admin is told of, in the worst hour: the webhook that must answer is dead, the
//! controller is, and what it would have sealed is not. Tenants can write neither our kinds nor pods; then somebody presses it.

use std::process::Command;

use cloison::api::names;
use cloison_testbed::eventually;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::OURS;
use crate::operator::{self, PATIENCE, apply};
use crate::scene::Scene;
use crate::vital::{ask, pod};

/// The one was sealed while the controller lived, the other came after.
const NAMESPACES: [&str; 2] = ["train", "late"];

/// What an admin types, and what else it must have done.
struct Form {
    typed: Vec<String>,
    network_too: bool,
}

/// By the program, as somebody who holds `cloison-admin`.
fn program(arguments: &str, network_too: bool) -> Form {
    Form {
        typed: vec![format!("cloison {arguments} --reason INC-4711")],
        network_too,
    }
}

/// The lines that the chart's notes print for it.
fn notes() -> Vec<String> {
    let notes = include_str!("../../charts/cloison/templates/NOTES.txt");
    let (_, rest) = notes.split_once("If Cloison itself is the problem").unwrap();
    let lines = rest
        .lines()
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("kubectl "));
    let lines = lines.map(|line| line.split(" #").next().unwrap().trim());
    let lines = lines.map(|line| {
        format!(
            "kubectl {}",
            line.replace("{{ .Release.Namespace }}", names::DEFAULT_NAMESPACE)
        )
    });
    lines.collect()
}

fn forms() -> Vec<(&'static str, Form)> {
    let lines = notes();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let by_hand = |lines: &[String], network_too: bool| Form {
        typed: lines.to_vec(),
        network_too,
    };
    let both = "-n train -n late";
    vec![
        ("two lines of the notes", by_hand(&lines[..2], false)),
        ("all lines of the notes", by_hand(&lines, true)),
        ("the second line alone", by_hand(&lines[1..2], false)),
        ("off, admission", program("off --scope admission", false)),
        ("off, all", program("off --scope all", true)),
        (
            "off, admission, in namespaces",
            program(&format!("off --scope admission {both}"), false),
        ),
        (
            "off, all, in namespaces",
            program(&format!("off --scope all {both}"), true),
        ),
    ]
}

/// What a tenant writes: a workload where isolation stands, and a pod where it was never put.
async fn writes(alice: &Client) -> [Result<(), String>; 2] {
    let workload = operator::workload("train", "new", "Training", Value::Null);
    let workloads = "/apis/cloison.dev/v1alpha1/namespaces/train/aiworkloads";
    let pods = "/api/v1/namespaces/late/pods";
    [
        ask(alice, "POST", workloads, &workload).await,
        ask(alice, "POST", pods, &pod("fine", json!({}), json!({}))).await,
    ]
}

/// Waits until the tenant can write nothing of it.
async fn locked_out(alice: &Client, before: &str) {
    eventually(PATIENCE, &format!("before {before}: nothing passes"), || async {
        match writes(alice).await {
            [Err(workload), Err(pod)]
                if workload.contains("failed calling webhook") && pod.contains("NET-01/seal ") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// Types a form; every line must succeed.
fn type_in(scene: &Scene, form: &Form, name: &str) {
    let oncall = scene.plane.kubeconfig_as("oncall", &[]).unwrap();
    for line in &form.typed {
        let Some(arguments) = line.strip_prefix("cloison ") else {
            operator::kubectl(&scene.plane, line.strip_prefix("kubectl ").unwrap());
            continue;
        };
        let output = Command::new(env!("CARGO_BIN_EXE_cloison"))
            .args(arguments.split(' '))
            .env_clear()
            .env("KUBECONFIG", &oncall)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// What of ours stands at the door and in the network, to be put back.
struct Placed {
    bindings: Vec<ValidatingAdmissionPolicyBinding>,
    webhooks: Vec<ValidatingWebhookConfiguration>,
    policies: Vec<NetworkPolicy>,
}

async fn ours<K>(admin: &Client) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let all = Api::<K>::all(admin.clone());
    all.list(&ListParams::default().labels(OURS)).await.unwrap().items
}

/// How many NetworkPolicies of ours there are where it is pressed; the canaries' namespace has its own.
async fn in_our_namespaces(admin: &Client) -> usize {
    let here = |policy: &&NetworkPolicy| {
        NAMESPACES
            .iter()
            .any(|name| policy.namespace().as_deref() == Some(*name))
    };
    ours::<NetworkPolicy>(admin).await.iter().filter(here).count()
}

async fn put<K>(api: Api<K>, object: &K)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let mut object = object.clone();
    let meta = object.meta_mut();
    (meta.uid, meta.resource_version, meta.managed_fields) = (None, None, None);
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(error) => panic!("{error}"),
    }
}

impl Placed {
    async fn now(admin: &Client) -> Self {
        Self {
            bindings: ours(admin).await,
            webhooks: ours(admin).await,
            policies: ours(admin).await,
        }
    }

    /// As it was before somebody pressed: nobody of ours lives who would do it.
    async fn put_back(&self, admin: &Client) {
        let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
        match maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
        for name in NAMESPACES {
            operator::namespace(admin, name, "training", Some("enforce")).await;
        }
        for policy in &self.policies {
            let namespace = policy.namespace().unwrap();
            put(Api::namespaced(admin.clone(), &namespace), policy).await;
        }
        for webhook in &self.webhooks {
            put(Api::all(admin.clone()), webhook).await;
        }
        for binding in &self.bindings {
            put(Api::all(admin.clone()), binding).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stop_works_while_the_webhook_that_must_answer_is_dead() {
    let scene = Scene::start().await;
    let admin = &scene.admin;
    let strict = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"mode": "Enforce"}});
    apply(admin, strict).await.unwrap();
    operator::healthy(admin, "train", "Training").await;
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    scene.kill_controller();
    webhook.program.kill();
    operator::namespace(admin, "late", "training", Some("enforce")).await;
    scene.plane.tenant("alice", "train", "edit").await.unwrap();
    let alice = scene.plane.tenant("alice", "late", "edit").await.unwrap();
    let oncall = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "oncall"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cloison-admin"},
        "subjects": [{"kind": "User", "name": "oncall", "apiGroup": "rbac.authorization.k8s.io"}]});
    apply(admin, oncall).await.unwrap();
    let theirs: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.plane.client_as("oncall", &[]).unwrap());
    eventually(PATIENCE, "the rights of who is on call", || async {
        theirs.list(&ListParams::default()).await
    })
    .await
    .unwrap();

    let placed = Placed::now(admin).await;
    let count = [
        placed.bindings.len(),
        placed.webhooks.len(),
        in_our_namespaces(admin).await,
    ];
    assert!(count.iter().all(|count| *count > 0), "{count:?}");
    for (name, form) in forms() {
        locked_out(&alice, name).await;
        type_in(&scene, &form, name);
        eventually(PATIENCE, &format!("{name}: tenants can write again"), || async {
            match writes(&alice).await {
                [Ok(()), Ok(())] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        let left = in_our_namespaces(admin).await;
        assert_eq!(left == 0, form.network_too, "{name}: {left} NetworkPolicies are left");
        eprintln!("{name}: works");
        placed.put_back(admin).await;
    }
}
