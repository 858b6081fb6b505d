//! What the controller writes, read from the API server's own audit log: nothing once the cluster has converged (rule 3),
//! each object by one manager and once (rule 4), and only where the object that asked for it is (rule 11).
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/network.rs"]
mod network;
#[path = "common/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use kube::Client;
use network::Installation;
use operator::{apply, condition, namespace, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// How long the converged cluster is watched. It is the one wait of this suite that no condition ends: that nothing
/// happens can only be seen by looking for a while.
const WINDOW: Duration = Duration::from_secs(20);
/// So long without a write counts as converged.
const STILL: Duration = Duration::from_secs(4);
/// Convergence may take so long.
const CONVERGED: Duration = Duration::from_secs(90);

const CONTROLLER: &str = "system:serviceaccount:cloison-system:cloison-controller";
const CANARY: &str = "system:serviceaccount:cloison-system:cloison-canary";
const NAMESPACES: [(&str, &str, &str); 5] = [
    ("q-train", "training", "enforce"),
    ("q-serve", "inference", "enforce"),
    ("q-eval", "evaluation", "audit"),
    ("q-tools", "shared", "enforce"),
    ("q-warn", "training", "warn"),
];

/// What was seen: the whole run, and the window at its end.
struct Seen {
    run: Vec<Request>,
    window: Vec<Request>,
    second_pass: Vec<Request>,
    looked: Duration,
}

static SEEN: OnceCell<Seen> = OnceCell::const_new();

/// A line of the audit log.
#[derive(Clone, Debug)]
struct Request {
    user: String,
    verb: String,
    uri: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    code: u64,
    body: Value,
}

impl Request {
    fn read(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let body = event.get("requestObject").cloned().unwrap_or_default();
        let posted = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let name = text("/objectRef/name");
        Some(Self {
            user: text("/user/username"),
            verb: text("/verb"),
            uri: text("/requestURI"),
            resource: text("/objectRef/resource"),
            subresource: text("/objectRef/subresource"),
            namespace: text("/objectRef/namespace"),
            name: if name.is_empty() { posted } else { name },
            code: event
                .pointer("/responseStatus/code")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            body,
        })
    }

    /// Whether it can have changed anything. Reviews and tokens are answers; a dry run stores nothing.
    fn writes(&self) -> bool {
        let verb = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        let answer = self.subresource == "token" || self.resource.ends_with("reviews");
        verb && !answer && !self.uri.contains("dryRun=All")
    }

    fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    fn object(&self) -> String {
        format!("{} {}/{}", self.resource, self.namespace, self.name)
    }
}

/// The audit log, of which each look reads what came since the last.
struct Log {
    file: PathBuf,
    read: usize,
}

impl Log {
    /// Our requests since the last look.
    fn news(&mut self) -> Vec<Request> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        let news = text[self.read..end].lines().filter_map(Request::read);
        let ours = news
            .filter(|request| [CONTROLLER, CANARY].contains(&request.user.as_str()))
            .collect();
        self.read = end;
        ours
    }

    /// Waits until nothing was written for a while; all that was asked until then.
    async fn still(&mut self) -> Vec<Request> {
        let mut all = Vec::new();
        let mut since = Instant::now();
        let start = since;
        while since.elapsed() < STILL {
            assert!(start.elapsed() < CONVERGED, "still writing: {:?}", all.last());
            tokio::time::sleep(Duration::from_millis(200)).await;
            let news = self.news();
            if news.iter().any(|request| request.writes() && !request.is_lease()) {
                since = Instant::now();
            }
            all.extend(news);
        }
        all
    }
}

fn audit_policy() -> String {
    let users = json!([CONTROLLER, CANARY]);
    let verbs = json!(["create", "update", "patch", "delete", "deletecollection"]);
    let rules = json!([
        {"level": "Request", "users": users, "verbs": verbs},
        {"level": "Metadata", "users": users},
        {"level": "None"},
    ]);
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules})
        .to_string()
}

async fn seen() -> &'static Seen {
    SEEN.get_or_init(observe).await
}

async fn observe() -> Seen {
    let server = ApiServerOptions {
        audit_policy: Some(audit_policy()),
        ..ApiServerOptions::default()
    };
    let options = Options {
        api_servers: vec![server],
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let mut log = Log {
        file: plane.api_server(0).audit_log(),
        read: 0,
    };
    let installation = Installation::start(plane, policy(80)).await;
    let admin = installation.admin();
    world(&admin).await;
    let mut run = log.still().await;

    // Looked at again, everything is as it should be: a policy that says nothing new about it sets off every pass.
    let passes = |kind: &str| operator::metric(&installation.controller, "cloison_reconciles_total", &[kind]);
    let before = (passes("AiWorkload"), passes("Namespace"));
    installation.set_policy(policy(81)).await;
    eventually(CONVERGED, "all are looked at again", || async {
        let now = (passes("AiWorkload"), passes("Namespace"));
        if now.0 >= before.0 + 5 && now.1 >= before.1 + 5 {
            Ok(())
        } else {
            Err(format!("{before:?} {now:?}"))
        }
    })
    .await
    .unwrap();
    let second_pass = log.still().await;
    run.extend(second_pass.clone());

    let start = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let (window, looked) = (log.news(), start.elapsed());
    run.extend(window.clone());
    Seen {
        run,
        window,
        second_pass,
        looked,
    }
}

fn policy(min_score: i32) -> Value {
    let service = json!({"name": "tracker", "to": {"namespace": "q-tools", "podLabels": {"app": "t"}}, "ports": [{"port": 5000}]});
    let outside = json!({"name": "bucket", "to": {"cidrs": ["192.0.2.0/24"]}, "ports": [{"port": 443}]});
    json!({"minScore": min_score, "network": {"services": [service, outside], "clusterCIDRs": ["10.0.0.0/8"]}})
}

/// Every shape of policy, and tenants who write the names of places that are not theirs.
async fn world(admin: &Client) {
    for name in ["q-victim", "q-plain"] {
        apply(
            admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await
        .unwrap();
    }
    for (name, stage, mode) in NAMESPACES {
        namespace(admin, name, stage, Some(mode)).await;
    }
    let elsewhere =
        |namespace: &str| json!({"workload": {"name": "victim", "namespace": namespace}, "ports": [{"port": 80}]});
    let flows = json!({
        "connectTo": [{"service": "tracker"}, {"service": "bucket"}, {"service": "kubernetes-api"}, {"service": "nothing"},
                      {"cidr": "198.51.100.0/24", "ports": [{"port": 443}]}, {"workload": {"name": "default"}, "ports": [{"port": 1}]},
                      elsewhere("q-victim"), elsewhere("kube-system"), elsewhere("cloison-system"), elsewhere("q-serve")],
        "acceptFrom": [elsewhere("default"), elsewhere("q-eval"), {"cidr": "203.0.113.0/24", "ports": [{"port": 9, "protocol": "UDP"}]}],
    });
    let accepts = json!({"acceptFrom": [{"workload": {"name": "road"}, "ports": [{"port": 1, "endPort": 9}]}]});
    for (place, name, stage, network) in [
        ("q-train", "road", "Training", flows.clone()),
        ("q-train", "default", "Training", accepts),
        ("q-serve", "chat", "Inference", Value::Null),
        ("q-eval", "judge", "Evaluation", flows.clone()),
        ("q-warn", "road", "Training", flows),
        ("q-plain", "stray", "Training", Value::Null),
    ] {
        apply(admin, workload(place, name, stage, network)).await.unwrap();
    }
    for (place, name) in [
        ("q-train", "road"),
        ("q-train", "default"),
        ("q-serve", "chat"),
        ("q-eval", "judge"),
    ] {
        condition(admin, place, name, "Ready", "True").await;
    }
    // Not required for Ready while it is Unknown; when it comes, it is written.
    for (place, name) in [("q-train", "road"), ("q-train", "default"), ("q-serve", "chat")] {
        condition(admin, place, name, "AdmissionEnforced", "True").await;
    }
    condition(admin, "q-plain", "stray", "Ready", "False").await;
}

fn shown(requests: &[&Request]) -> String {
    let lines: Vec<String> = requests
        .iter()
        .map(|r| format!("{} {} {}", r.verb, r.uri, r.body))
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_converged_cluster_costs_no_write_but_the_lease() {
    let seen = seen().await;
    assert!(seen.looked >= WINDOW);
    let writes: Vec<_> = seen
        .window
        .iter()
        .filter(|request| request.writes() && !request.is_lease())
        .collect();
    assert_eq!(writes.len(), 0, "{}", shown(&writes));
    assert!(
        seen.window.iter().any(|request| request.writes() && request.is_lease()),
        "the window was seen at all"
    );
}

#[tokio::test]
async fn a_converged_cluster_costs_less_than_a_read_a_second() {
    let seen = seen().await;
    // A watch counts when it starts; what it shows costs no request.
    let reads: Vec<_> = seen
        .window
        .iter()
        .filter(|r| ["get", "list", "watch"].contains(&r.verb.as_str()))
        .collect();
    let rate = f64::from(u32::try_from(reads.len()).unwrap()) / seen.looked.as_secs_f64();
    assert!(rate < 1.0, "{rate} reads a second:\n{}", shown(&reads));
}

#[tokio::test]
async fn a_second_look_writes_nothing_that_is_there() {
    let seen = seen().await;
    let about_policies = [
        "networkpolicies",
        "namespaces",
        "aiworkloads",
        "events",
        "validatingadmissionpolicies",
    ];
    let writes: Vec<_> = seen
        .second_pass
        .iter()
        .filter(|request| request.writes() && about_policies.contains(&request.resource.as_str()))
        .collect();
    assert_eq!(writes.len(), 0, "{}", shown(&writes));
}

#[tokio::test]
async fn each_object_has_one_manager_and_is_applied_once_with_one_body() {
    let seen = seen().await;
    let mut managers: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut last: BTreeMap<(String, String), &Value> = BTreeMap::new();
    let mut twice = Vec::new();
    let ours = |r: &&Request| r.user == CONTROLLER && r.verb == "patch" && r.writes() && r.code < 300;
    for request in seen
        .run
        .iter()
        .filter(ours)
        .filter(|r| !r.is_lease() && r.resource != "events")
    {
        let key = (request.object(), request.subresource.clone());
        let query = request.uri.split_once('?').map_or("", |(_, query)| query);
        let manager = query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
        let manager = manager.unwrap_or_else(|| panic!("no field manager: {}", shown(&[request])));
        assert!(query.contains("force=true"), "not forced: {}", shown(&[request]));
        managers.entry(key.clone()).or_default().insert(manager.to_owned());
        if last.insert(key, &request.body) == Some(&request.body) {
            twice.push(request);
        }
    }
    assert!(managers.len() > 10, "{managers:?}");
    for (object, managers) in managers {
        assert_eq!(managers.len(), 1, "{object:?}: {managers:?}");
        let known = [names::FIELD_MANAGER, names::STATUS_MANAGER];
        assert!(
            managers.iter().all(|manager| known.contains(&manager.as_str())),
            "{object:?}: {managers:?}"
        );
    }
    assert_eq!(
        twice.len(),
        0,
        "the same object was applied again with the same body:\n{}",
        shown(&twice)
    );
    let conflicts: Vec<_> = seen
        .run
        .iter()
        .filter(|r| r.user == CONTROLLER && r.writes() && r.code == 409)
        .collect();
    assert_eq!(conflicts.len(), 0, "{}", shown(&conflicts));
}

#[tokio::test]
async fn no_field_of_a_tenant_steers_a_write() {
    let seen = seen().await;
    let enforced: BTreeSet<&str> = NAMESPACES.iter().filter(|n| n.2 == "enforce").map(|n| n.0).collect();
    let workloads: BTreeSet<&str> = [
        "q-train/road",
        "q-train/default",
        "q-serve/chat",
        "q-eval/judge",
        "q-warn/road",
        "q-plain/stray",
    ]
    .into();
    let own = names::DEFAULT_NAMESPACE;
    let canary = names::CANARY_NAMESPACE;
    let allowed = |r: &Request| match r.resource.as_str() {
        "networkpolicies" => enforced.contains(r.namespace.as_str()) || r.namespace == canary,
        "namespaces" => enforced.contains(r.name.as_str()) || r.name == canary,
        "aiworkloads" => {
            r.subresource == "status" && workloads.contains(format!("{}/{}", r.namespace, r.name).as_str())
        }
        // About an AiWorkload in its namespace, about a Namespace in `default`.
        "events" => r.namespace == "default" || workloads.iter().any(|w| w.starts_with(&format!("{}/", r.namespace))),
        "leases" => r.namespace == own && r.name == names::CONTROLLER_LEASE,
        "secrets" => r.user == CANARY && r.namespace == own && r.name == names::CANARY_SECRET,
        "aisecuritypolicies" | "secretencryptions" => r.name == names::SINGLETON,
        "validatingadmissionpolicies" => names::ADMISSION_POLICIES.contains(&r.name.as_str()),
        "validatingadmissionpolicybindings" => names::ADMISSION_POLICIES
            .iter()
            .any(|p| r.name.starts_with(&format!("{p}-"))),
        _ => false,
    };
    let writes: Vec<_> = seen.run.iter().filter(|request| request.writes()).collect();
    assert!(
        writes
            .iter()
            .any(|r| r.resource == "networkpolicies" && r.namespace == "q-train")
    );
    let stray: Vec<_> = writes.into_iter().filter(|request| !allowed(request)).collect();
    assert_eq!(stray.len(), 0, "{}", shown(&stray));
}
