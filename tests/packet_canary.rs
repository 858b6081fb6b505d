//! `EnforcementVerified` says what packets have shown, and nothing else.
//!
//! Real here: the API server, with Pod Security at its door; the controller under the chart's account; Calico's Felix on two
//! nodes; the packets; and the program that the canary's pods run, which is this very one. Played here: the scheduler, the
//! kubelet and the CNI plugin, which bind, wire, start and report the two pods (`Kubelet`); a pod is a process in a network
//! namespace of its own, not a container, and no image is fetched. Needs root, and fails without it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cloison::api::{AiSecurityPolicy, AiWorkload, conditions, names};
use cloison_testbed::{ControlPlane, HostedPod, Nodes, Options, Program, eventually};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use operator::{PATIENCE, healthy, metric, stays};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A run is given up after two minutes at most, and there may be a pause of ten seconds before it.
const RUN: Duration = Duration::from_secs(150);

/// Asks for the canary; `more` is something else of the network section, so that it changes.
async fn ask(client: &Client, proof: &str, more: i32) {
    let policies: Api<AiSecurityPolicy> = Api::all(client.clone());
    let network = json!({"enforcementProof": proof, "maxEgressCIDR": {"ipv4PrefixLength": more}});
    let patch = Patch::Merge(json!({"spec": {"intervalSeconds": 10, "network": network}}));
    policies
        .patch(names::SINGLETON, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Waits until a condition of the workload `train/steady` has a status and a reason, and returns its message.
async fn said(client: &Client, kind: &str, status: &str, reason: &str) -> String {
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), "train");
    eventually(RUN, &format!("{kind} {status}/{reason}"), || async {
        let workload = api.get("steady").await.map_err(|error| error.to_string())?;
        let conditions = workload.status.unwrap_or_default().conditions;
        let found = conditions::find(&conditions, kind).ok_or("it is not there")?;
        if (&*found.status, &*found.reason) == (status, reason) {
            Ok(found.message.clone())
        } else {
            Err(format!("{} {}: {}", found.status, found.reason, found.message))
        }
    })
    .await
    .unwrap()
}

/// Waits until the cluster's condition `EnforcementVerified` has a status and a reason.
async fn said_of_the_cluster(client: &Client, status: &str, reason: &str) {
    let api: Api<AiSecurityPolicy> = Api::all(client.clone());
    eventually(PATIENCE, &format!("the cluster's {status}/{reason}"), || async {
        let policy = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let conditions = policy.status.unwrap_or_default().conditions;
        let found = conditions::find(&conditions, "EnforcementVerified").ok_or("it is not there")?;
        if (&*found.status, &*found.reason) == (status, reason) {
            Ok(())
        } else {
            Err(format!("{} {}: {}", found.status, found.reason, found.message))
        }
    })
    .await
    .unwrap();
}

/// What there is of the canary: its pods and its policies, as `Kind namespace/name`.
async fn traces(client: &Client) -> Vec<String> {
    let mut traces = Vec::new();
    for namespace in names::PACKETS_NAMESPACES {
        let everything = ListParams::default();
        let pods = Api::<Pod>::namespaced(client.clone(), namespace)
            .list(&everything)
            .await;
        let pods = pods.unwrap().items.into_iter().map(|pod| pod.name_any());
        traces.extend(pods.map(|name| format!("Pod {namespace}/{name}")));
        let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace)
            .list(&everything)
            .await;
        let policies = policies.unwrap().items.into_iter().map(|policy| policy.name_any());
        traces.extend(policies.map(|name| format!("NetworkPolicy {namespace}/{name}")));
    }
    traces
}

async fn nothing_is_left(client: &Client) {
    eventually(PATIENCE, "nothing is left of the canary", || async {
        let traces = traces(client).await;
        if traces.is_empty() {
            Ok(())
        } else {
            Err(traces.join(", "))
        }
    })
    .await
    .unwrap();
}

/// One of the canary's pods, and the process that it is.
struct Running {
    hosted: HostedPod,
    program: Program,
    answer: PathBuf,
    ended: bool,
}

/// The scheduler, the kubelet and the CNI plugin of the canary's pods: server on one node, client on the other.
struct Kubelet {
    nodes: Nodes,
    client: Client,
    folder: PathBuf,
    running: BTreeMap<String, Running>,
    /// How many pods it ran.
    ran: usize,
}

impl Kubelet {
    /// Works until it is told to stop, and then hands the nodes back.
    async fn work(mut self, mut stop: oneshot::Receiver<()>) -> Self {
        // As a kubelet syncs its pods: from time to time, and a little faster.
        let mut sync = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = &mut stop => return self,
                _ = sync.tick() => self.sync().await,
            }
        }
    }

    async fn sync(&mut self) {
        let mut there = Vec::new();
        for namespace in names::PACKETS_NAMESPACES {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            for pod in api.list(&ListParams::default()).await.unwrap() {
                let uid = pod.uid().unwrap();
                there.push(uid.clone());
                if pod.metadata.deletion_timestamp.is_some() {
                    // The process is killed with its network before the API server forgets the pod.
                    self.running.remove(&uid);
                    let at_once = DeleteParams::default().grace_period(0);
                    let _ = api.delete(&pod.name_any(), &at_once).await;
                } else if self.running.contains_key(&uid) {
                    self.look(&uid, &pod).await;
                } else {
                    let running = self.start(&pod).await;
                    self.running.insert(uid, running);
                }
            }
        }
        // The API server forgets a pod that has ended without asking its node.
        self.running.retain(|uid, _| there.contains(uid));
    }

    async fn start(&mut self, pod: &Pod) -> Running {
        self.ran += 1;
        let spec = pod.spec.as_ref().unwrap();
        let container = &spec.containers[0];
        assert_eq!(container.image.as_deref(), Some(operator::IMAGE));
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert!(spec.volumes.as_ref().is_none_or(Vec::is_empty), "it gets a token");
        let node = usize::from(pod.name_any() == names::PACKETS_SERVER);
        let hosted = self.nodes.host(node, pod).await.unwrap();
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let status = hosted.status("Running", &container.name, &running);
        self.nodes.say(pod, &status).await.unwrap();
        // A container has a file of its own at that path.
        let answer = self.folder.join(format!("answer-{}", self.ran));
        let last_word = container.termination_message_path.as_deref().unwrap();
        let arguments = container.args.clone().unwrap().into_iter();
        let arguments = arguments.map(|word| {
            if word == last_word {
                answer.display().to_string()
            } else {
                word
            }
        });
        let program = hosted.program(env!("CARGO_BIN_EXE_cloison"), arguments);
        program.start().unwrap();
        Running {
            hosted,
            program,
            answer,
            ended: false,
        }
    }

    /// Reports a process that has ended: its last word, or what it said on failure.
    async fn look(&mut self, uid: &str, pod: &Pod) {
        let Some(running) = self.running.get_mut(uid) else {
            return;
        };
        if running.ended || running.program.process_id().is_some() {
            return;
        }
        running.ended = true;
        let (phase, code, message) = match std::fs::read_to_string(&running.answer) {
            Ok(answer) => ("Succeeded", 0, answer),
            Err(_) => ("Failed", 2, running.program.output()),
        };
        let ended = json!({"terminated": {"exitCode": code, "message": message}});
        let container = &pod.spec.as_ref().unwrap().containers[0].name;
        let status = running.hosted.status(phase, container, &ended);
        self.nodes.say(pod, &status).await.unwrap();
    }
}

/// What was written so far: the counters, line by line.
fn writes(controller: &Program) -> Vec<String> {
    let (_, text) = operator::ask(controller, "/metrics").unwrap();
    let lines = text.lines().filter(|line| line.starts_with("cloison_writes_total"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The same once the last words on a run are said: nothing new for two seconds.
async fn settled(controller: &Program) -> Vec<String> {
    let seen = RefCell::new((Vec::new(), Instant::now()));
    eventually(PATIENCE, "the last writes", || async {
        let now = writes(controller);
        let (before, since) = &mut *seen.borrow_mut();
        if now != *before {
            (*before, *since) = (now, Instant::now());
            Err(format!("{before:?}"))
        } else if since.elapsed() < Duration::from_secs(2) {
            Err(format!("{now:?}, a moment ago"))
        } else {
            Ok(now)
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_decide_what_is_said() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let admin = plane.admin().unwrap();
    let nodes = Nodes::start(&plane).await.unwrap_or_else(|error| panic!("{error}"));
    let controller = operator::start(&plane).await;
    healthy(&admin, "train", "Training").await;
    said(&admin, "PoliciesIsolate", "True", "Isolated").await;
    said(&admin, "EnforcementVerified", "Unknown", "NotProbed").await;
    said(&admin, "NetworkIsolated", "Unknown", "EnforcementUnverified").await;

    // Felix enforces on both nodes.
    let kubelet = Kubelet {
        nodes,
        client: admin.clone(),
        folder: plane.folder().to_owned(),
        running: BTreeMap::new(),
        ran: 0,
    };
    let (stop, stopped) = oneshot::channel();
    let work = tokio::spawn(kubelet.work(stopped));
    ask(&admin, "OnChange", 20).await;
    let message = said(&admin, "EnforcementVerified", "True", "PacketsObey").await;
    assert!(
        message.contains("two nodes") && message.contains("IPv4, IPv6"),
        "{message}"
    );
    said(&admin, "NetworkIsolated", "True", "Proven").await;
    said_of_the_cluster(&admin, "True", "PacketsObey").await;

    // Between two runs nothing is there and nothing is written.
    nothing_is_left(&admin).await;
    // Not of packets, and the last to be decided: no ServiceAccount is made here, so the canaries of admission end so.
    said(&admin, "AdmissionEnforced", "Unknown", "RefusedByOther").await;
    let still = settled(&controller).await;
    assert!(!still.is_empty(), "no write is counted");
    stays(Duration::from_secs(8), || async {
        assert_eq!(writes(&controller), still, "something was written");
        assert_eq!(traces(&admin).await, [""; 0]);
    })
    .await;
    stop.send(()).unwrap();
    let kubelet = work.await.unwrap();
    assert_eq!(kubelet.ran, 2, "one server and one client");

    // Nothing enforces any more, and a change has packets sent again.
    kubelet.nodes.stop_enforcing().unwrap();
    let (stop, stopped) = oneshot::channel();
    let work = tokio::spawn(kubelet.work(stopped));
    ask(&admin, "OnChange", 21).await;
    let message = said(&admin, "EnforcementVerified", "False", "NotEnforced").await;
    assert!(
        message.contains("ingress (IPv4, IPv6) and egress (IPv4, IPv6)"),
        "{message}"
    );
    said(&admin, "NetworkIsolated", "False", "NotEnforced").await;
    said_of_the_cluster(&admin, "False", "NotEnforced").await;
    let mut log = String::new();
    for line in operator::plain(&controller.output())
        .lines()
        .filter(|line| line.contains("packet canary"))
    {
        writeln!(log, "{line}").unwrap();
    }
    eprintln!("packet canary:\n{log}");

    // Nobody asks any more.
    ask(&admin, "None", 21).await;
    said(&admin, "EnforcementVerified", "Unknown", "NotProbed").await;
    said(&admin, "NetworkIsolated", "Unknown", "EnforcementUnverified").await;
    nothing_is_left(&admin).await;
    stop.send(()).unwrap();
    drop(work.await.unwrap());
}

/// What a scheduler writes of a pod that fits nowhere.
async fn unschedulable(client: &Client) {
    let api: Api<Pod> = Api::namespaced(client.clone(), names::PACKETS_SERVER_NAMESPACE);
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                           "message": "0/3 nodes are available: 3 Insufficient cpu."});
    let status = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    eventually(RUN, "the canary's server is there", || async {
        api.patch_status(names::PACKETS_SERVER, &PatchParams::default(), &status)
            .await
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_does_not_run_claims_nothing_and_leaves_nothing() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let admin = plane.admin().unwrap();
    let controller = operator::start(&plane).await;
    healthy(&admin, "train", "Training").await;
    // Nobody asks, and so there is no pod.
    let message = said(&admin, "EnforcementVerified", "Unknown", "NotProbed").await;
    assert!(message.contains("network.enforcementProof"), "{message}");
    assert_eq!(traces(&admin).await, [""; 0]);
    assert_eq!(metric(&controller, "cloison_writes_total", &["kind=\"Pod\""]), 0);

    ask(&admin, "Periodic", 20).await;
    unschedulable(&admin).await;
    let message = said(&admin, "EnforcementVerified", "Unknown", "PodUnschedulable").await;
    assert!(message.contains("3 Insufficient cpu"), "{message}");
    said(&admin, "NetworkIsolated", "Unknown", "EnforcementUnverified").await;
    said_of_the_cluster(&admin, "Unknown", "PodUnschedulable").await;

    // The next try dies with the controller; the next controller removes what it left, although nobody asks any more.
    unschedulable(&admin).await;
    controller.kill();
    let left: Value = json!(traces(&admin).await);
    let expected = json!([
        "NetworkPolicy cloison-packets-client/cloison-packets",
        "Pod cloison-packets-server/server",
        "NetworkPolicy cloison-packets-server/cloison-packets",
    ]);
    assert_eq!(left, expected);
    ask(&admin, "None", 20).await;
    let second: Program = operator::controller(&plane, "second").await;
    second.start().unwrap();
    nothing_is_left(&admin).await;
    assert_eq!(metric(&second, "cloison_writes_total", &["kind=\"Pod\"", "applied"]), 0);
    said(&admin, "EnforcementVerified", "Unknown", "NotProbed").await;
}
