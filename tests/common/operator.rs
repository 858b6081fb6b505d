//! The operator as an admin installs it: the chart by real Helm, the controller as a process under its chart's own
//! ServiceAccount.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::process::Command;
use std::time::Duration;

use cloison::api::conditions;
use cloison::api::{AiSecurityPolicy, AiWorkload, names};
use cloison_testbed::{ControlPlane, Program, Tool, eventually, find};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Long enough for a slow, shared machine; a test that needs it all is failing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the chart would say: the packet canary's pods ask for it.
pub const IMAGE: &str =
    "registry.example.com/cloison/cloison@sha256:85aaee176b282ae1bd649d0ca2f62c41ca31bfd0566e54e241202c2411fb399d";

/// Runs Helm on the release's namespace.
pub fn helm(plane: &ControlPlane, arguments: &[&str]) {
    let mut helm = Command::new(find(Tool::Helm).expect("helm"));
    helm.env("KUBECONFIG", plane.admin_kubeconfig().expect("kubeconfig"));
    // Helm keeps caches in the home directory otherwise.
    helm.env("HELM_CACHE_HOME", plane.folder().join("helm"))
        .env("HELM_CONFIG_HOME", plane.folder().join("helm"));
    let output = helm
        .args(arguments)
        .args(["-n", names::DEFAULT_NAMESPACE])
        .output()
        .expect("helm runs");
    assert!(
        output.status.success(),
        "helm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Installs the chart with Helm. `values` as for `--set`.
pub fn install(plane: &ControlPlane, values: &[&str]) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/cloison");
    let mut arguments = vec!["upgrade", "--install", "cloison", chart, "--create-namespace"];
    values.iter().for_each(|value| arguments.extend(["--set", value]));
    helm(plane, &arguments);
}

/// Rights in the whole cluster for a user.
pub async fn grant(client: &Client, user: &str, rules: Value) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    for object in [role, binding] {
        apply(client, object).await.expect("rights");
    }
}

/// A controller, not started yet, under the chart's ServiceAccount.
pub async fn controller(plane: &ControlPlane, identity: &str) -> Program {
    controller_with_lease(plane, identity, 6).await
}

/// Installs the chart, starts the controller and waits until it reconciles.
pub async fn start(plane: &ControlPlane) -> Program {
    start_with(plane, &[]).await
}

/// The same with values of the chart, as for `--set`.
pub async fn start_with(plane: &ControlPlane, values: &[&str]) -> Program {
    install(plane, values);
    let controller = controller(plane, "controller").await;
    controller.start().expect("the controller starts");
    let client = plane.admin().expect("admin");
    let policies: Api<AiSecurityPolicy> = Api::all(client);
    eventually(PATIENCE, "the first AiSecurityPolicy", || async {
        policies.get(names::SINGLETON).await.map(|_| ())
    })
    .await
    .expect("the controller works");
    controller
}

/// Server-side applies any object as `client`.
pub async fn apply(client: &Client, object: Value) -> Result<DynamicObject, kube::Error> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let types = TypeMeta {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
    };
    let kind = GroupVersionKind::try_from(&types).expect("apiVersion and kind");
    let resource = ApiResource::from_gvk(&kind);
    let namespace = text("/metadata/namespace");
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    api.patch(
        &text("/metadata/name"),
        &PatchParams::apply("test").force(),
        &Patch::Apply(&object),
    )
    .await
}

/// A namespace with a stage and, if given, a mode.
pub async fn namespace(client: &Client, name: &str, stage: &str, mode: Option<&str>) -> Namespace {
    let mut labels = json!({ names::STAGE_LABEL: stage });
    if let Some(mode) = mode {
        labels[names::MODE_LABEL] = json!(mode);
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    apply(client, object).await.expect("namespace");
    Api::all(client.clone()).get(name).await.expect("namespace")
}

/// An `AiWorkload` as JSON; `network` may be null.
pub fn workload(namespace: &str, name: &str, stage: &str, network: Value) -> Value {
    let mut object = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"stage": stage, "owner": "team@ville.example", "purpose": "Something worth testing"},
    });
    if !network.is_null() {
        object["spec"]["network"] = network;
    }
    object
}

/// Waits until a condition of an `AiWorkload` has a status, and returns its reason and message.
pub async fn condition(client: &Client, namespace: &str, name: &str, kind: &str, status: &str) -> (String, String) {
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), namespace);
    eventually(PATIENCE, &format!("{namespace}/{name} {kind}={status}"), || async {
        let workload = api.get(name).await.map_err(|error| error.to_string())?;
        let conditions = workload.status.clone().unwrap_or_default().conditions;
        let found = conditions::find(&conditions, kind).ok_or_else(|| format!("no {kind} yet"))?;
        if found.status == status && found.observed_generation == workload.metadata.generation {
            Ok((found.reason.clone(), found.message.clone()))
        } else {
            Err(format!(
                "{} is {} ({}: {})",
                kind, found.status, found.reason, found.message
            ))
        }
    })
    .await
    .expect("the condition")
}

/// Waits until a namespace is sealed for `stage`.
pub async fn sealed(client: &Client, name: &str, stage: &str) -> Namespace {
    let api: Api<Namespace> = Api::all(client.clone());
    eventually(PATIENCE, &format!("{name} sealed"), || async {
        let namespace = api.get(name).await.map_err(|error| error.to_string())?;
        let seal = namespace
            .annotations()
            .get(names::SEALED_ANNOTATION)
            .cloned()
            .unwrap_or_default();
        if seal == format!("{}/{stage}", namespace.uid().unwrap_or_default()) {
            Ok(namespace)
        } else {
            Err(format!("the seal is {seal:?}"))
        }
    })
    .await
    .expect("the seal")
}

/// The NetworkPolicies of a namespace.
pub fn network_policies(client: &Client, namespace: &str) -> Api<NetworkPolicy> {
    Api::namespaced(client.clone(), namespace)
}

/// Waits until a NetworkPolicy is there.
pub async fn policy(client: &Client, namespace: &str, name: &str) -> NetworkPolicy {
    let api = network_policies(client, namespace);
    eventually(PATIENCE, &format!("{namespace}/{name}"), || async {
        api.get(name).await
    })
    .await
    .expect("the policy")
}

/// What the controller's health server answers: status and text; `None` while it does not.
pub fn ask(controller: &Program, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let output = plain(&controller.output());
    let line = output.lines().rfind(|line| line.contains("health server listens"))?;
    let address: std::net::SocketAddr = line.rsplit_once("address=")?.1.trim().parse().ok()?;
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The sum of a metric's samples whose text holds all of `labels`, such as `kind="AiWorkload"`; zero without a sample.
/// Fractions are cut off.
pub fn metric(controller: &Program, name: &str, labels: &[&str]) -> i64 {
    let (_, text) = ask(controller, "/metrics").unwrap_or_default();
    let samples = text.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or("-");
        rest.starts_with([' ', '{']) && labels.iter().all(|label| line.contains(label))
    });
    samples
        .filter_map(|line| line.rsplit_once(' ')?.1.split('.').next()?.parse::<i64>().ok())
        .sum()
}

/// Waits until a metric has a value.
pub async fn metric_is(controller: &Program, name: &str, labels: &[&str], wanted: impl Fn(i64) -> bool) {
    eventually(PATIENCE, &format!("{name} {labels:?}"), || async {
        let value = metric(controller, name, labels);
        if wanted(value) {
            Ok(())
        } else {
            Err(format!("it is {value}"))
        }
    })
    .await
    .expect("the metric");
}

/// Waits until the controller's log, from byte `from`, holds a text.
pub async fn logs(controller: &Program, from: usize, text: &str) {
    eventually(PATIENCE, &format!("the log says {text:?}"), || async {
        let output = plain(controller.output().get(from..).unwrap_or_default());
        if output.contains(text) {
            Ok(())
        } else {
            Err("it does not")
        }
    })
    .await
    .expect("the line");
}

/// Text without the colours of a terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest)));
    plain
}

/// Waits for an event about the object `name`, and returns its note.
pub async fn event(client: &Client, name: &str, reason: &str) -> String {
    let api: Api<k8s_openapi::api::events::v1::Event> = Api::all(client.clone());
    eventually(PATIENCE, &format!("an event {reason} about {name}"), || async {
        let events = api.list(&kube::api::ListParams::default()).await;
        let events = events.map_err(|error| error.to_string())?.items;
        let about = |event: &k8s_openapi::api::events::v1::Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
        };
        let found = events.into_iter().find(about).and_then(|event| event.note);
        found.ok_or_else(|| "none yet".to_owned())
    })
    .await
    .expect("the event")
}

/// The uid and the rules of every NetworkPolicy of ours in a namespace: what must not change while nothing may.
pub async fn in_place(client: &Client, namespace: &str) -> std::collections::BTreeMap<String, Value> {
    let policies = network_policies(client, namespace)
        .list(&kube::api::ListParams::default())
        .await
        .expect("policies");
    let identity = |policy: NetworkPolicy| (policy.name_any(), json!({"uid": policy.uid(), "spec": policy.spec}));
    policies.items.into_iter().map(identity).collect()
}

/// Presses the stop button by its ConfigMap, as a person does who has nothing but kubectl.
pub async fn press(admin: &Client, data: Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": names::OFF_CONFIGMAP, "namespace": names::DEFAULT_NAMESPACE},
    });
    apply(admin, object).await.expect("the button is pressed");
}

/// Releases it.
pub async fn release(admin: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
    let released = maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default()).await;
    released.expect("the button is released");
}

/// A namespace that is enforced, with one workload `steady` that is Ready: what a bad neighbour must leave alone.
pub async fn healthy(client: &Client, name: &str, stage: &str) {
    namespace(client, name, &stage.to_lowercase(), Some("enforce")).await;
    apply(client, workload(name, "steady", stage, Value::Null))
        .await
        .expect("workload");
    condition(client, name, "steady", "Ready", "True").await;
}

/// Watches that something stays true for a while: there is nothing to wait for when nothing may happen.
pub async fn stays<F>(how_long: Duration, mut check: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let end = std::time::Instant::now() + how_long;
    while std::time::Instant::now() < end {
        check().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sets the policy to one with a catalogue service `registry` in the namespace `common`, which is made too.
pub async fn catalogue(client: &Client) {
    namespace(client, "common", "shared", Some("enforce")).await;
    let registry = json!({"name": "registry", "to": {"namespace": "common", "podLabels": {"app": "registry"}}, "ports": [{"port": 5000}]});
    let policy = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": names::SINGLETON},
        "spec": {"network": {"services": [registry]}},
    });
    apply(client, policy).await.expect("policy");
}

/// An `AiWorkload` that uses the service of [`catalogue`].
pub fn user(namespace: &str, name: &str, stage: &str) -> Value {
    workload(namespace, name, stage, json!({"connectTo": [{"service": "registry"}]}))
}

/// Runs kubectl as an admin.
pub fn kubectl(plane: &ControlPlane, arguments: &str) {
    let output = Command::new(find(Tool::Kubectl).expect("kubectl"))
        .env("KUBECONFIG", plane.admin_kubeconfig().expect("kubeconfig"))
        .args(arguments.split(' '))
        .output()
        .expect("kubectl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments}: {errors}");
}

/// As [`controller`], with a lease of so many seconds.
pub async fn controller_with_lease(plane: &ControlPlane, identity: &str, seconds: u16) -> Program {
    controller_with(plane, identity, seconds, "info,cloison=debug").await
}

/// As [`controller`], with a lease of so many seconds and another filter of the log.
pub async fn controller_with(plane: &ControlPlane, identity: &str, seconds: u16, filter: &str) -> Program {
    let kubeconfig = plane
        .service_account_kubeconfig(names::DEFAULT_NAMESPACE, names::CONTROLLER_ACCOUNT)
        .await
        .expect("the chart's account");
    let arguments = format!(
        "controller --kubeconfig {} --identity {identity} --health-address 127.0.0.1:0 --lease-seconds {seconds} --log \
         {filter} --image {IMAGE}",
        kubeconfig.display()
    );
    let log = plane.logs_dir().join(format!("{identity}.log"));
    Program::new(
        identity,
        env!("CARGO_BIN_EXE_cloison"),
        arguments.split_whitespace(),
        log,
    )
}
