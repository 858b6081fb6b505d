//! The test control plane keeps its own promises: what the tests of Cloison take for granted is tested here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use cloison_testbed::{ApiServerOptions, ControlPlane, Error, Identity, Minor, Options, eventually};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_mins(1);

const NO_ENCRYPTION: &str = r#"{
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "EncryptionConfiguration",
    "resources": [{ "resources": ["secrets"], "providers": [{ "identity": {} }] }]
}"#;

/// Two replicas and a controller manager, shared by the tests that leave them as they are.
async fn shared() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE
        .get_or_init(|| async {
            let encrypting = ApiServerOptions {
                encryption_config: Some(NO_ENCRYPTION.into()),
                ..ApiServerOptions::default()
            };
            start(Options {
                api_servers: vec![encrypting; 2],
                controller_manager: true,
                ..Options::default()
            })
            .await
        })
        .await
}

async fn start(options: Options) -> ControlPlane {
    // Spawned, which proves that the future is Send.
    let plane = tokio::spawn(ControlPlane::start(options)).await.unwrap();
    plane.unwrap_or_else(|error| panic!("{error}"))
}

fn one(options: ApiServerOptions) -> Options {
    Options {
        api_servers: vec![options],
        ..Options::default()
    }
}

async fn namespace(client: &Client, name: &str) {
    create_in(
        &Api::<Namespace>::all(client.clone()),
        json!({ "metadata": { "name": name } }),
    )
    .await;
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + DeserializeOwned,
{
    create_in(&Api::namespaced(client.clone(), namespace), object).await
}

async fn create_in<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

async fn addresses(client: Client) -> BTreeSet<String> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, "default");
    let slice = slices.get("kubernetes").await.unwrap();
    slice
        .endpoints
        .into_iter()
        .flat_map(|endpoint| endpoint.addresses)
        .collect()
}

async fn who_is(client: Client) -> UserInfo {
    let answer = create_in(&Api::<SelfSubjectReview>::all(client), json!({})).await;
    answer.status.unwrap().user_info.unwrap()
}

fn is_forbidden<T>(answer: Result<T, kube::Error>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test]
async fn replicas_are_told_apart_and_found_by_their_endpoints() {
    let plane = shared().await;
    let [first, second] = plane.api_servers() else {
        panic!("two replicas");
    };
    assert_ne!(
        first.identity_lease().await.unwrap(),
        second.identity_lease().await.unwrap()
    );
    assert_ne!(first.address(), second.address());

    let wanted = BTreeSet::from([first.address().to_string(), second.address().to_string()]);
    assert_eq!(addresses(first.admin().unwrap()).await, wanted);
    assert_eq!(addresses(second.admin().unwrap()).await, wanted);
}

#[tokio::test]
async fn an_in_cluster_client_can_pin_a_replica_and_verify_its_name() {
    for server in shared().await.api_servers() {
        let identity = server.identity("admin", &["system:masters"]).unwrap();
        let named = |name: &str| -> Result<Client, Error> {
            identity.client_with(|config| config.tls_server_name = Some(name.to_string()))
        };
        let another = named("another.default.svc").unwrap();
        let refused = another.apiserver_version().await.unwrap_err();
        assert!(format!("{refused:?}").contains("NotValidForName"), "{refused:?}");

        // The replica tells in its metrics which lease is its own.
        let metrics = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let pinned = named("kubernetes.default.svc").unwrap();
        let text = pinned.request_text(metrics).await.unwrap();
        let lease = Sha256::digest(server.identity_lease().await.unwrap());
        let wanted = format!("apiserver_id_hash=\"sha256:{lease:x}\"");
        assert!(text.contains(&wanted), "no {wanted}");
    }
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_reached() {
    let plane = shared().await;
    let admin = plane.admin().unwrap();
    namespace(&admin, "webhook").await;
    let service = json!({ "metadata": { "name": "door" }, "spec": { "ports": [{ "port": 443 }] } });
    create::<Service>(&admin, "webhook", service).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    plane
        .route_service("webhook", "door", SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(admin.clone());
    let hook = json!({
        "name": "door.testbed.example",
        "clientConfig": { "service": { "namespace": "webhook", "name": "door" } },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "webhook" } },
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    });
    create_in(&hooks, json!({ "metadata": { "name": "door" }, "webhooks": [hook] })).await;

    let configs: Api<ConfigMap> = Api::namespaced(admin, "webhook");
    let config: ConfigMap = serde_json::from_value(json!({ "metadata": { "generateName": "knock-" } })).unwrap();
    let knocks = async {
        eventually(SOON, "the door is asked", async || {
            match configs.create(&PostParams::default(), &config).await {
                Err(kube::Error::Api(status)) if status.message.contains("door.testbed.example") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    };
    // Nobody speaks TLS here: that the API server comes to the door is the point.
    let (accepted, ()) = tokio::join!(async { listener.accept().await.map(drop) }, knocks);
    accepted.unwrap();
}

#[tokio::test]
async fn clients_are_who_they_say() {
    let plane = shared().await;
    let alice = who_is(plane.client_as("alice", &["research", "ml-engineers"]).unwrap()).await;
    assert_eq!(alice.username.as_deref(), Some("alice"));
    let groups = alice.groups.unwrap();
    assert!(
        ["research", "ml-engineers"]
            .iter()
            .all(|group| groups.contains(&(*group).to_string()))
    );

    let account = who_is(plane.service_account("default", "default").await.unwrap()).await;
    assert_eq!(
        account.username.as_deref(),
        Some("system:serviceaccount:default:default")
    );
}

#[tokio::test]
async fn a_kubeconfig_file_works_for_kubectl() {
    let plane = shared().await;
    let kubectl = tokio::task::spawn_blocking(|| cloison_testbed::find(cloison_testbed::Tool::Kubectl));
    let identity: Identity = plane.service_account_identity("default", "default").await.unwrap();
    let output = std::process::Command::new(kubectl.await.unwrap().unwrap())
        .args([
            "auth",
            "whoami",
            "--output=jsonpath={.status.userInfo.username}",
            "--kubeconfig",
        ])
        .arg(identity.kubeconfig().unwrap())
        .output()
        .unwrap();
    let name = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(name, "system:serviceaccount:default:default", "{output:?}");
}

#[tokio::test]
async fn a_tenant_may_edit_their_namespace_and_no_other() {
    let plane = shared().await;
    let admin = plane.admin().unwrap();
    namespace(&admin, "tenant-own").await;
    namespace(&admin, "tenant-other").await;
    // What is installed becomes a part of the stock roles only when the controller manager has seen it.
    let manager = plane.controller_manager().unwrap();
    manager.stop().await;
    let labels = json!({ "rbac.authorization.k8s.io/aggregate-to-edit": "true" });
    let rules = json!([{ "apiGroups": ["own.example"], "resources": ["things"], "verbs": ["create"] }]);
    let role = json!({ "metadata": { "name": "own-things", "labels": labels }, "rules": rules });
    create_in::<ClusterRole>(&Api::all(admin.clone()), role).await;
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), "tenant-own");
    let (tenant, ()) = tokio::join!(plane.tenant("bob", "tenant-own", "edit"), async {
        let bound = eventually(SOON, "the tenant is bound", || bindings.get("testbed-bob-edit"));
        bound.await.unwrap();
        manager.start().unwrap();
    });
    let tenant = tenant.unwrap();

    // They have the right at once.
    let attributes =
        json!({ "namespace": "tenant-own", "group": "own.example", "resource": "things", "verb": "create" });
    let review = serde_json::from_value(json!({ "spec": { "resourceAttributes": attributes } })).unwrap();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(tenant.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
    assert!(answer.status.unwrap().allowed);
    create::<ConfigMap>(&tenant, "tenant-own", json!({ "metadata": { "name": "mine" } })).await;

    let other: Api<Secret> = Api::namespaced(tenant.clone(), "tenant-other");
    assert!(is_forbidden(other.list(&ListParams::default()).await));
    assert!(is_forbidden(
        Api::<Secret>::all(tenant).list(&ListParams::default()).await
    ));
}

#[tokio::test]
async fn the_controller_manager_collects_garbage_and_lets_pods_be_created() {
    let plane = shared().await;
    let admin = plane.admin().unwrap();
    let configs: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
    let owner: ConfigMap = create(&admin, "default", json!({ "metadata": { "name": "owner" } })).await;
    let reference = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid.unwrap(),
    });
    let dependent = json!({ "metadata": { "name": "owned", "ownerReferences": [reference] } });
    create::<ConfigMap>(&admin, "default", dependent).await;
    configs
        .delete("owner", &kube::api::DeleteParams::background())
        .await
        .unwrap();
    eventually(SOON, "the owned ConfigMap is gone", async || {
        match configs.get_opt("owned").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();

    let container = json!({ "name": "main", "image": "none", "securityContext": { "privileged": true } });
    let pod = json!({ "metadata": { "name": "pod" }, "spec": { "containers": [container] } });
    create::<Pod>(&admin, "default", pod).await;
}

#[tokio::test]
async fn requests_can_be_counted() {
    let server = &shared().await.api_servers()[1];
    let leases = [("resource", "podtemplates"), ("verb", "LIST")];
    let count = async || server.metrics().await.unwrap().sum("apiserver_request_total", &leases);
    let before = count().await;
    let templates: Api<k8s_openapi::api::core::v1::PodTemplate> = Api::all(server.admin().unwrap());
    templates.list(&ListParams::default()).await.unwrap();
    assert!((count().await - before - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn an_encryption_configuration_shows_in_etcd() {
    let identity = json!({ "identity": {} });
    let keys = json!([{ "name": "k1", "secret": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" }]);
    let config = |providers: Value| {
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{ "resources": ["secrets"], "providers": providers }],
        })
        .to_string()
    };
    let plane = start(one(ApiServerOptions {
        encryption_config: Some(config(json!([identity]))),
        ..ApiServerOptions::default()
    }))
    .await;
    let stored = async |name: &str| {
        let secret = json!({ "metadata": { "name": name }, "stringData": { "key": "in the clear" } });
        create::<Secret>(&plane.admin().unwrap(), "default", secret).await;
        let bytes = plane
            .etcd()
            .get(&format!("/registry/secrets/default/{name}"))
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes.unwrap()).into_owned()
    };
    let plain = stored("plain").await;
    assert!(plain.starts_with("k8s\0") && plain.contains("in the clear"), "{plain}");

    plane
        .write_encryption_config(&config(json!([{ "aesgcm": { "keys": keys } }, identity])))
        .unwrap();
    plane.restart_api_servers().await.unwrap();
    let sealed = stored("sealed").await;
    assert!(
        sealed.starts_with("k8s:enc:aesgcm:v1:k1:") && !sealed.contains("in the clear"),
        "{sealed}"
    );

    let all = plane.etcd().list("/registry/secrets/").await.unwrap();
    assert_eq!(all.len(), 2, "{:?}", all.iter().map(|(key, _)| key).collect::<Vec<_>>());
    let secrets: Api<Secret> = Api::namespaced(plane.admin().unwrap(), "default");
    assert_eq!(secrets.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn processes_stop_start_and_change_their_version() {
    let plane = start(Options {
        api_servers: vec![ApiServerOptions::default(); 2],
        ..Options::default()
    })
    .await;
    let [first, second] = plane.api_servers() else {
        panic!("two replicas");
    };
    namespace(&plane.admin().unwrap(), "kept").await;

    second.stop().await.unwrap();
    assert_eq!(
        addresses(first.admin().unwrap()).await,
        BTreeSet::from([first.address().to_string()])
    );
    second.start().await.unwrap();
    assert_eq!(addresses(second.admin().unwrap()).await.len(), 2);
    second.kill();
    assert_eq!(addresses(first.admin().unwrap()).await.len(), 2);

    // The floor, alone on the same etcd.
    first
        .restart_with(|options| options.minor = Minor::V1_33)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let version = first.admin().unwrap().apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "33"));
    let namespaces: Api<Namespace> = Api::all(first.admin().unwrap());
    namespaces.get("kept").await.unwrap();

    let etcd = plane.etcd();
    let revision = etcd.revision().await.unwrap();
    etcd.compact().await.unwrap();
    etcd.defragment().await.unwrap();
    etcd.stop().await;
    etcd.start().await.unwrap();
    assert!(etcd.revision().await.unwrap() >= revision);
}

#[tokio::test]
async fn the_floor_starts_from_nothing() {
    let plane = start(one(ApiServerOptions {
        minor: Minor::V1_33,
        disable_admission_plugins: vec!["ValidatingAdmissionPolicy".into()],
        audit_policy: Some(r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"Metadata"}]}"#.into()),
        ..ApiServerOptions::default()
    }))
    .await;
    let version = plane.admin().unwrap().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, "v1.33.13");
    let log = std::fs::read_to_string(plane.api_server(0).audit_log()).unwrap();
    assert!(log.contains(r#""requestURI":"/api/v1/namespaces/default""#));
}
