//! The proof about Secrets on real API servers, each claim checked against the bytes in etcd.
//!
//! The controller and the canary account hold exactly the rights that `controller::evidence` lists.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::encryption::{ApiServers, Discovery};
use cloison::api::names;
use cloison::api::text::ObjectName;
use cloison::controller::evidence::encryption::{EncryptionSettings, run};
use cloison::controller::evidence::{Evidence, Gathering};
use cloison::encryption::EncryptionProof;
use cloison::encryption::proof::reasons;
use cloison_testbed::{ApiServerOptions, ControlPlane, Minor, Options};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const NAMESPACE: &str = names::DEFAULT_NAMESPACE;
const METRICS_ROLE: &str = "cloison-canary-metrics";
/// For one verdict to appear; several passes and a restart fit into it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes under `key`, and reads what any configuration here ever wrote: values that a replica cannot read break it.
fn encrypting(key: &str) -> String {
    configuration(&json!([aesgcm(key), { "identity": {} }]))
}

fn identity_first() -> String {
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

/// A control plane with the two accounts, and the evidence loop of the controller running against it.
struct World {
    plane: ControlPlane,
    evidence: Arc<Evidence>,
    settings: watch::Sender<EncryptionSettings>,
    task: JoinHandle<()>,
}

impl World {
    async fn start(replicas: usize, server: ApiServerOptions) -> Self {
        let plane = ControlPlane::start(Options {
            api_servers: vec![server; replicas],
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
        Self {
            evidence: gathering.evidence.clone(),
            task: tokio::spawn(run(gathering, receiver)),
            settings,
            plane,
        }
    }

    /// Waits for a verdict, and checks it against etcd.
    #[track_caller]
    fn expect(&self, truth: Truth, reason: &'static str) -> impl Future<Output = EncryptionProof> {
        let mut changes = self.evidence.subscribe();
        async move {
            let proof = tokio::time::timeout(DEADLINE, async {
                let found = changes
                    .wait_for(|snapshot| {
                        let proof = snapshot.encryption.as_ref();
                        proof.is_some_and(|proof| (proof.truth, proof.reason) == (truth, reason))
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
    async fn stored(&self) -> Vec<Vec<u8>> {
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
    async fn configure(&self, config: &str) {
        self.plane.write_encryption_config(config).unwrap();
        self.plane.restart_api_servers().await.unwrap();
    }

    async fn canary_version(&self) -> String {
        let secrets: Api<Secret> = Api::namespaced(self.plane.admin().unwrap(), NAMESPACE);
        let canary = secrets.get_metadata(names::CANARY_SECRET).await.unwrap();
        canary.metadata.resource_version.unwrap()
    }

    async fn delete_binding(&self, name: &str) {
        let bindings = cluster_role_bindings(&self.plane);
        bindings.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn cluster_role_bindings(plane: &ControlPlane) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding");
    Api::all_with(plane.admin().unwrap(), &ApiResource::from_gvk(&kind))
}

/// Namespace, accounts and rights, as the chart would install them.
async fn grant(plane: &ControlPlane) {
    let client = plane.admin().unwrap();
    let rule = |groups: &str, resources: &str, verbs: &[&str]| json!({ "apiGroups": [groups], "resources": [resources], "verbs": verbs });
    let mut token = rule("", "serviceaccounts/token", &["create"]);
    token["resourceNames"] = json!([names::CANARY_ACCOUNT]);
    let mut secret = rule("", "secrets", &["create", "patch"]);
    secret["resourceNames"] = json!([names::CANARY_SECRET]);
    let roles = [
        (
            names::CONTROLLER_ACCOUNT,
            "kube-system",
            rule("coordination.k8s.io", "leases", &["list"]),
        ),
        (
            names::CONTROLLER_ACCOUNT,
            "default",
            rule("discovery.k8s.io", "endpointslices", &["list"]),
        ),
        (names::CONTROLLER_ACCOUNT, NAMESPACE, token),
        (names::CANARY_ACCOUNT, NAMESPACE, secret),
    ];
    apply(&client, "v1", "Namespace", None, NAMESPACE, json!({})).await;
    for account in [names::CONTROLLER_ACCOUNT, names::CANARY_ACCOUNT] {
        apply(&client, "v1", "ServiceAccount", Some(NAMESPACE), account, json!({})).await;
    }
    for (account, namespace, rule) in roles {
        let body = json!({ "rules": [rule] });
        apply(&client, RBAC, "Role", Some(namespace), account, body).await;
        let binding = bind(account, "Role", account);
        apply(&client, RBAC, "RoleBinding", Some(namespace), account, binding).await;
    }
    let body = json!({ "rules": [{ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }] });
    apply(&client, RBAC, "ClusterRole", None, METRICS_ROLE, body).await;
    grant_metrics(plane).await;
}

async fn grant_metrics(plane: &ControlPlane) {
    let binding = bind(names::CANARY_ACCOUNT, "ClusterRole", METRICS_ROLE);
    apply(
        &plane.admin().unwrap(),
        RBAC,
        "ClusterRoleBinding",
        None,
        METRICS_ROLE,
        binding,
    )
    .await;
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn bind(account: &str, kind: &str, role: &str) -> Value {
    json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": NAMESPACE }],
    })
}

async fn apply(client: &kube::Client, version: &str, kind: &str, namespace: Option<&str>, name: &str, body: Value) {
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, number, kind));
    let objects: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut object = body;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({ "name": name });
    let parameters = PatchParams::apply("test").force();
    objects.patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
}

fn with(config: String) -> ApiServerOptions {
    ApiServerOptions {
        encryption_config: Some(config),
        ..ApiServerOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_follows_what_every_api_server_writes() {
    let world = World::start(2, with(identity_first())).await;
    world.expect(Truth::False, reasons::PLAINTEXT_WRITES).await;

    // The admin switches encryption on.
    world.configure(&encrypting("k1")).await;
    let proof = world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    assert!(
        proof.message.contains("k8s:enc:aesgcm:v1:k1: by all 2 API servers"),
        "{}",
        proof.message
    );
    for (server, replica) in world.plane.api_servers().iter().zip(by_address(&proof)) {
        assert_eq!(replica.address, Some(format!("{}:{}", server.address(), server.port())));
        assert_eq!(replica.identity, server.identity_lease().await.unwrap());
        assert_eq!(replica.writes.as_deref(), Some("k8s:enc:aesgcm:v1:k1:"));
    }

    // Only one of them goes on to another key. The other might not read what it writes, so no canary is written.
    let canary = world.canary_version().await;
    let second = world.plane.api_server(1);
    second.write_encryption_config(&encrypting("k2")).unwrap();
    second.restart().await.unwrap();
    let proof = world.expect(Truth::Unknown, reasons::HASH_DIVERGENT).await;
    assert!(
        proof.message.contains(&second.identity_lease().await.unwrap()),
        "{}",
        proof.message
    );

    // Only one of them goes back to plaintext: the first Secret that anybody writes there tells.
    second.write_encryption_config(&identity_first()).unwrap();
    second.restart().await.unwrap();
    while world.evidence.snapshot().encryption.unwrap().truth != Truth::False {
        world.stored().await;
    }
    world.expect(Truth::False, reasons::HASH_DIVERGENT).await;
    assert_eq!(
        world.canary_version().await,
        canary,
        "a canary was written while the files differed"
    );

    // Both do.
    world.configure(&identity_first()).await;
    world.expect(Truth::False, reasons::PLAINTEXT_WRITES).await;
}

fn by_address(proof: &EncryptionProof) -> Vec<cloison::api::encryption::ReplicaStatus> {
    let mut replicas = proof.replicas.clone();
    replicas.sort_by(|a, b| a.address.cmp(&b.address));
    replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_configuration_every_replica_is_named_and_disproved() {
    let world = World::start(2, ApiServerOptions::default()).await;
    let proof = world.expect(Truth::False, reasons::NOT_CONFIGURED).await;
    // Their metrics carry no identity then; the Leases of 1.36 name the addresses.
    for (server, replica) in world.plane.api_servers().iter().zip(by_address(&proof)) {
        assert_eq!(replica.identity, server.identity_lease().await.unwrap());
        assert_eq!(replica.writes.as_deref(), Some("identity"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_be_reached_is_named_by_its_lease() {
    let world = World::start(2, with(encrypting("k1"))).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    let [first, second] = [world.plane.api_server(0), world.plane.api_server(1)];
    let lease = second.identity_lease().await.unwrap();

    // Nobody told us of its address.
    let auto = world.settings.borrow().clone();
    world.settings.send_modify(|settings| {
        settings.api_servers = ApiServers {
            discovery: Discovery::Static,
            endpoints: Some(vec![ObjectName(format!("{}:{}", first.address(), first.port()))]),
        };
    });
    let proof = world.expect(Truth::Unknown, reasons::REPLICA_UNSEEN).await;
    assert!(proof.message.contains(&lease), "{}", proof.message);
    world.settings.send_replace(auto);
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;

    // It died, and its Lease is fresh for a while.
    second.kill();
    let proof = world.expect(Truth::Unknown, reasons::REPLICA_UNSEEN).await;
    assert!(proof.message.contains(&lease), "{}", proof.message);
    let address = format!("{}:{}", second.address(), second.port());
    assert!(proof.message.contains(&address), "{}", proof.message);

    // An orderly stop takes the address and the Lease away.
    second.start().await.unwrap();
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    second.stop().await.unwrap();
    let alone = async {
        loop {
            let snapshot = world.evidence.snapshot().encryption;
            if snapshot.is_some_and(|proof| proof.message.contains("by the API server;")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, alone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_metrics_or_to_write_the_canary_nothing_is_claimed() {
    let world = World::start(1, with(encrypting("k1"))).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;

    world.delete_binding(METRICS_ROLE).await;
    let proof = world.expect(Truth::Unknown, reasons::UNVERIFIABLE).await;
    assert!(
        proof.message.contains("cannot get path \"/metrics\""),
        "{}",
        proof.message
    );
    grant_metrics(&world.plane).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;

    // Without the right to write, what was proven for this process and file still holds; for another it does not.
    let roles: Api<DynamicObject> = Api::namespaced_with(
        world.plane.admin().unwrap(),
        NAMESPACE,
        &ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "Role")),
    );
    let none = Patch::Merge(json!({ "rules": [] }));
    roles
        .patch(names::CANARY_ACCOUNT, &PatchParams::default(), &none)
        .await
        .unwrap();
    world.configure(&encrypting("k2")).await;
    let proof = world.expect(Truth::Unknown, reasons::CANARY_REFUSED).await;
    assert!(
        proof.message.contains("cannot patch resource \"secrets\""),
        "{}",
        proof.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converged_cluster_is_read_less_than_once_a_second_and_never_written_to() {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata", "userGroups": [format!("system:serviceaccounts:{NAMESPACE}")] }, { "level": "None" }],
    });
    let mut server = with(encrypting("k1"));
    server.audit_policy = Some(policy.to_string());
    let world = World::start(2, server).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    world.settings.send_replace(EncryptionSettings::default());
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = (world.canary_version().await, requests(&world).await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = (world.canary_version().await, requests(&world).await);
    assert_eq!(after.0, before.0, "the canary Secret was written again");
    let new = &after.1[before.1.len()..];
    assert!((6..20).contains(&new.len()), "{} requests in 20 s: {new:?}", new.len());
    let reads = |request: &String| request.starts_with("get ") || request.starts_with("list ");
    assert!(new.iter().all(reads), "{new:?}");
    let proof = world.evidence.snapshot().encryption.unwrap();
    assert_eq!(proof.truth, Truth::True);
    let age = k8s_openapi::jiff::Timestamp::now().duration_since(proof.at.0);
    assert!(age.as_secs() < 10, "found to hold {age} ago, and nobody looked since");
}

/// What our accounts asked for, as the API servers wrote it down: verb and URI, those of the first replica first.
async fn requests(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    for server in world.plane.api_servers() {
        let log = tokio::fs::read_to_string(server.audit_log()).await.unwrap();
        all.extend(log.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            (
                event["stageTimestamp"].as_str().unwrap().to_owned(),
                format!(
                    "{} {}",
                    event["verb"].as_str().unwrap(),
                    event["requestURI"].as_str().unwrap()
                ),
            )
        }));
    }
    all.sort();
    all.into_iter().map(|(_, request)| request).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_supported_version_is_judged_too() {
    let server = ApiServerOptions {
        minor: Minor::V1_33,
        ..with(encrypting("k1"))
    };
    let world = World::start(1, server).await;
    let proof = world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    assert_eq!(proof.replicas[0].configuration_hash, None, "1.33 does not show it");
    world.configure(&identity_first()).await;
    world.expect(Truth::False, reasons::PLAINTEXT_WRITES).await;
}
