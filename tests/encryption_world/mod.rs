//! A control plane with the two accounts and their rights, and the evidence loops running against it.
#![allow(dead_code)] // each test binary uses a part

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::names;
use cloison::cluster::roles::components;
use cloison::controller::evidence::admission::Expected;
use cloison::controller::evidence::encryption::EncryptionSettings;
use cloison::controller::evidence::{self, Evidence, Gathering, Snapshot};
use cloison::encryption::EncryptionProof;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const NAMESPACE: &str = names::DEFAULT_NAMESPACE;
/// The generated role that lets the canary read metrics.
pub const METRICS_ROLE: &str = "cloison-canary";
/// For one verdict to appear; several passes and a restart fit into it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A control plane with the two accounts, and the evidence loop of the controller running against it.
pub struct World {
    pub plane: ControlPlane,
    pub evidence: Arc<Evidence>,
    pub settings: watch::Sender<EncryptionSettings>,
    pub policies: watch::Sender<Option<Arc<Expected>>>,
    task: JoinHandle<()>,
}

impl World {
    pub async fn start(replicas: usize, server: ApiServerOptions) -> Self {
        Self::start_with(vec![server; replicas]).await
    }

    pub async fn start_with(api_servers: Vec<ApiServerOptions>) -> Self {
        let plane = ControlPlane::start(Options {
            api_servers,
            ..Options::default()
        })
        .await
        .unwrap();
        grant(&plane).await;
        let controller = plane
            .service_account_identity(NAMESPACE, names::CONTROLLER_ACCOUNT)
            .await
            .unwrap();
        // An admin's certificate in the configuration that pinned connections are made from: presenting it would win
        // over the canary's token.
        let mut config = None;
        plane
            .identity("root", &["system:masters"])
            .unwrap()
            .client_with(|found| config = Some(found.clone()))
            .unwrap();
        let gathering = Gathering {
            client: controller.client().unwrap(),
            config: config.unwrap(),
            namespace: NAMESPACE.to_owned(),
            evidence: Arc::default(),
        };
        let (settings, receiver) = watch::channel(EncryptionSettings {
            interval: Duration::from_millis(200),
            pace: Duration::from_millis(10),
            grace: Duration::ZERO,
            ..EncryptionSettings::default()
        });
        let (policies, expected) = watch::channel(None);
        Self {
            evidence: gathering.evidence.clone(),
            task: tokio::spawn(evidence::run(gathering, Arc::default(), receiver, expected)),
            settings,
            policies,
            plane,
        }
    }

    /// Waits for a verdict, and checks it against etcd.
    #[track_caller]
    pub fn expect(&self, truth: Truth, reason: &'static str) -> impl Future<Output = EncryptionProof> {
        self.expect_of(None, truth, reason)
    }

    /// Of so many API servers: one that starts anew has no Lease for a while, and the others are all there are.
    pub fn expect_of(
        &self,
        replicas: Option<usize>,
        truth: Truth,
        reason: &'static str,
    ) -> impl Future<Output = EncryptionProof> {
        let mut changes = self.evidence.subscribe();
        async move {
            let proof = tokio::time::timeout(DEADLINE, async {
                let found = changes
                    .wait_for(|snapshot| {
                        let proof = snapshot.encryption.as_ref();
                        proof.is_some_and(|proof| {
                            (proof.truth, proof.reason) == (truth, reason)
                                && replicas.is_none_or(|replicas| proof.replicas.len() == replicas)
                        })
                    })
                    .await;
                found.unwrap().encryption.clone().unwrap()
            })
            .await
            .unwrap_or_else(|_| panic!("no {truth:?}/{reason}; last {:?}", self.evidence.snapshot().encryption));
            let stored = self.stored().await;
            let plain = stored.iter().any(|value| !value.starts_with(b"k8s:enc:"));
            match proof.truth {
                Truth::True => assert!(!plain, "True, and etcd holds plaintext"),
                Truth::False => assert!(plain, "False, and etcd holds no plaintext"),
                Truth::Unknown => {}
            }
            proof
        }
    }

    /// What etcd holds of a Secret written now through each API server that runs.
    pub async fn stored(&self) -> Vec<Vec<u8>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut stored = Vec::new();
        for server in self.plane.api_servers() {
            if server.process_id().is_none() {
                continue;
            }
            let name = format!("oracle-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let secret = Secret {
                metadata: kube::api::ObjectMeta {
                    name: Some(name.clone()),
                    ..Default::default()
                },
                data: Some(BTreeMap::from([("a".to_owned(), ByteString(b"b".to_vec()))])),
                ..Secret::default()
            };
            let secrets: Api<Secret> = Api::namespaced(server.admin().unwrap(), "default");
            secrets.create(&PostParams::default(), &secret).await.unwrap();
            let key = format!("/registry/secrets/default/{name}");
            stored.push(self.plane.etcd().get(&key).await.unwrap().unwrap());
        }
        stored
    }

    /// Puts a file before every API server and restarts them, which is quicker than to wait for a reload.
    pub async fn configure(&self, config: &str) {
        self.plane.write_encryption_config(config).unwrap();
        self.plane.restart_api_servers().await.unwrap();
    }

    pub async fn canary_version(&self) -> String {
        let secrets: Api<Secret> = Api::namespaced(self.plane.admin().unwrap(), NAMESPACE);
        let canary = secrets.get_metadata(names::CANARY_SECRET).await.unwrap();
        canary.metadata.resource_version.unwrap()
    }

    /// Waits for evidence of any kind.
    pub async fn wait_for(&self, what: &str, seen: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        self.wait_within(DEADLINE, what, seen).await
    }

    /// The same for what takes its time.
    pub async fn wait_within(&self, within: Duration, what: &str, mut seen: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let mut changes = self.evidence.subscribe();
        match tokio::time::timeout(within, changes.wait_for(|snapshot| seen(snapshot))).await {
            Ok(found) => found.unwrap().clone(),
            Err(late) => panic!("no {what} ({late}); last {:?}", self.evidence.snapshot()),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Namespaces, accounts and their generated roles, as the chart installs them.
async fn grant(plane: &ControlPlane) {
    let client = plane.admin().unwrap();
    for namespace in [&[NAMESPACE], &names::PACKETS_NAMESPACES[..]].concat() {
        apply(&client, "v1", "Namespace", None, namespace, json!({})).await;
    }
    let canaries = json!({ "metadata": { "labels": cloison::admission::canary_labels() } });
    apply(&client, "v1", "Namespace", None, names::CANARY_NAMESPACE, canaries).await;
    for account in [names::CONTROLLER_ACCOUNT, names::CANARY_ACCOUNT, names::SWEEPER_ACCOUNT] {
        apply(&client, "v1", "ServiceAccount", Some(NAMESPACE), account, json!({})).await;
    }
    // There are no agents here: the chart installs the rotation's rights beside them alone.
    apply_roles(&client, |object| object["metadata"]["name"] != "cloison-rotator").await;
}

/// Gives the canary the right to read metrics back.
pub async fn grant_metrics(plane: &ControlPlane) {
    let metrics = |object: &Value| object["kind"] == "ClusterRoleBinding" && object["metadata"]["name"] == METRICS_ROLE;
    apply_roles(&plane.admin().unwrap(), metrics).await;
}

/// The generated roles and bindings, or some of them.
async fn apply_roles(client: &Client, wanted: impl Fn(&Value) -> bool) {
    let all = components()
        .into_iter()
        .flat_map(|component| component.objects(NAMESPACE));
    for object in all.filter(wanted) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (kind, name) = (text("/kind").unwrap(), text("/metadata/name").unwrap());
        let namespace = text("/metadata/namespace");
        apply(client, RBAC, &kind, namespace.as_deref(), &name, object).await;
    }
}

pub const RBAC: &str = "rbac.authorization.k8s.io/v1";

pub async fn apply(client: &Client, version: &str, kind: &str, namespace: Option<&str>, name: &str, body: Value) {
    let objects = objects(client, version, kind, namespace);
    let mut object = body;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    let parameters = PatchParams::apply("test").force();
    objects.patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
}

pub fn objects(client: &Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, number, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Writes under `key`, and reads what any configuration here ever wrote: values that a replica cannot read break it.
pub fn encrypting(key: &str) -> String {
    configuration(&json!([aesgcm(key), { "identity": {} }]))
}

pub fn identity_first() -> String {
    configuration(&json!([{ "identity": {} }, aesgcm("k1")]))
}

fn aesgcm(first: &str) -> Value {
    let key = |name: &str| json!({ "name": name, "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" });
    let second = if first == "k1" { "k2" } else { "k1" };
    json!({ "aesgcm": { "keys": [key(first), key(second)] } })
}

fn configuration(providers: &Value) -> String {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{ "resources": ["secrets"], "providers": providers }],
    })
    .to_string()
}

pub fn with(config: String) -> ApiServerOptions {
    ApiServerOptions {
        encryption_config: Some(config),
        ..ApiServerOptions::default()
    }
}
