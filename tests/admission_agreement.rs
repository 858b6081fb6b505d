//! The command line and the door say the same: over five thousand generated pods, changes of pods, AiWorkloads and
//! NetworkPolicies, judged offline and by real API servers of two versions. Same verdict, same words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/random_pods.rs"]
mod random_pods;
#[path = "common/random_policies.rs"]
mod random_policies;

use std::collections::BTreeMap;

use cloison::admission::{Offline, Operation, Request, Verdict};
use cloison_testbed::{ApiServerOptions, Minor};
use common::*;
use dice::Dice;
use kube::api::{Patch, PatchParams};
use kube::{Client, Error};
use random_pods::{container, images, networks, random_pod};
use random_policies::{peer, random_policy, random_rule};
use serde_json::{Value, json};

/// What the API server said.
enum Door {
    Passed,
    /// In these words.
    Refused(String),
    /// By its own validation, which runs before ours.
    Invalid,
}

fn door<T>(answer: Result<T, Error>, policy: &str, hash: &str) -> Door {
    match answer {
        Ok(_) => Door::Passed,
        Err(Error::Api(status)) if status.code == 403 => {
            let ours = format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{policy}-deny' denied request: [cloison {hash}] "
            );
            let said = status
                .message
                .split_once(&ours)
                .unwrap_or_else(|| panic!("{}", status.message));
            Door::Refused(said.1.to_owned())
        }
        Err(Error::Api(status)) if status.code == 422 => Door::Invalid,
        Err(other) => panic!("{other}"),
    }
}

/// The same words from an offline verdict.
fn said(verdict: &Verdict) -> Option<String> {
    let lines = verdict.problems.iter().map(|finding| {
        let line = finding.line();
        if line.chars().count() > 270 {
            line.chars().take(267).chain("...".chars()).collect()
        } else {
            line
        }
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > 3 {
        let more = format!("+{} more: kubectl cloison why", lines.len() - 3);
        lines.truncate(3);
        lines.push(more);
    }
    verdict.refused.then(|| lines.join("; "))
}

#[derive(Default, Debug)]
struct Mix {
    refused: usize,
    passed: usize,
    invalid: usize,
    rules: BTreeMap<String, usize>,
}

impl Mix {
    #[track_caller]
    fn compare(&mut self, what: &Value, verdict: &Verdict, door: Door) {
        let words = match door {
            Door::Invalid => {
                self.invalid += 1;
                return;
            }
            Door::Passed => None,
            Door::Refused(words) => Some(words),
        };
        assert_eq!(
            said(verdict),
            words,
            "offline (left) and the API server differ on {what:#}"
        );
        if words.is_some() {
            self.refused += 1;
        } else {
            self.passed += 1;
        }
        for finding in verdict.problems.iter().chain(&verdict.observed) {
            *self.rules.entry(finding.rule.to_string()).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.passed += other.passed;
        self.invalid += other.invalid;
        for (rule, times) in other.rules {
            *self.rules.entry(rule).or_default() += times;
        }
    }

    /// A test that only ever passes, or only ever refuses, compares nothing.
    fn print_and_bound(&self, what: &str, least: usize) {
        eprintln!("{what}: {self:?}");
        let judged = self.refused + self.passed;
        assert!(judged >= least && self.invalid * 4 <= judged, "{what}: {self:?}");
        assert!(
            self.refused * 5 >= judged && self.passed * 10 >= judged,
            "{what}: {self:?}"
        );
    }
}

async fn live_namespace(client: &Client, name: &str) -> Value {
    let found = objects(client, "v1", "Namespace", None).get(name).await.unwrap();
    serde_json::to_value(found).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_and_the_api_server_agree() {
    let policy = spec(json!({"pods": {
        "images": [{"prefix": "registry.example.com/train"}, {"prefix": "docker.io/library"}, {"prefix": "localhost:5000"},
                   {"prefix": "ghcr.io", "digest": "Optional"}, {"prefix": "ghcr.io/pinned", "digest": "Required"},
                   {"prefix": "bitnami/redis", "stages": ["Training"]}],
        "addCapabilities": [{"capability": "IPC_LOCK", "stages": ["Training", "Evaluation"]}],
        "inlineCSIDrivers": ["secrets-store.csi.k8s.io"],
    }, "network": {"mesh": "Istio", "dedicatedInterfaces": [
        {"name": "storage", "networkAttachment": "fabric/storage", "stages": ["Training", "Inference"]},
        {"name": "own", "networkAttachment": "t/own", "stages": ["Training"]},
    ]}, "controls": [{"id": "ENC-04", "mode": "Enforce"}, {"id": "NET-11", "perStage": {"inference": "Enforce"}},
                     {"id": "WKL-04", "perStage": {"training": "Enforce"}}]}));
    let mut all = Mix::default();
    for version in [Minor::V1_36, Minor::V1_33] {
        let options = ApiServerOptions {
            minor: version,
            ..ApiServerOptions::default()
        };
        let cluster = Cluster::start(vec![options], policy.clone()).await;
        let open = "default road-train face-id:EVD-02";
        for (name, stage, mode) in [
            ("t", "training", Some("enforce")),
            ("e", "evaluation", Some("enforce")),
            ("i", "inference", Some("enforce")),
            ("w", "inference", Some("warn")),
            ("d", "training", None),
        ] {
            cluster.stage_namespace(name, stage, mode, open).await;
        }
        // Sealed for another stage than it has.
        cluster.stage_namespace("u", "training", Some("enforce"), open).await;
        cluster.seal("u", "inference", open).await;
        let admin = cluster.admin();
        let hash = cluster.set().hash;
        eventually_refused(&cluster, "NET-01/seal", async || {
            try_create(&admin, pod("u", "a")).await
        })
        .await;
        all.add(pods(&cluster, &admin, &hash, version).await);
        all.add(updates(&cluster, &admin, &hash).await);
        all.add(workloads(&cluster, &admin, &hash).await);
        all.add(network_policies(&cluster, &admin, &hash).await);
    }
    eprintln!("together: {all:?}");
    let judged = all.refused + all.passed;
    assert!(judged >= 5_000, "{judged}");
    assert!(
        all.refused * 10 >= judged * 3 && all.passed * 10 >= judged * 3,
        "a one-sided corpus shows little"
    );
    let rare: Vec<_> = all.rules.iter().filter(|(_, times)| **times < 200).collect();
    assert!(rare.is_empty(), "hardly compared: {rare:?}");
}

async fn pods(cluster: &Cluster, admin: &Client, hash: &str, version: Minor) -> Mix {
    let offline = Offline::new(&cluster.set()).unwrap();
    let images = images();
    let mut dice = Dice(0x5EED);
    let mut mix = Mix::default();
    let mut namespaces = BTreeMap::new();
    for name in ["t", "e", "i", "w", "d", "u", "default"] {
        namespaces.insert(name, live_namespace(admin, name).await);
    }
    let mut waiting = Vec::new();
    for _ in 0..60 * 32 {
        let name = *dice.pick(&["t", "t", "e", "i", "i", "w", "d", "u", "default"]);
        let mut pod = if dice.once_in(4) {
            pod(name, "fine")
        } else {
            random_pod(&mut dice, &images, name)
        };
        // Image volumes are off there, and the API server takes them out of the pod before it is judged.
        if version == Minor::V1_33
            && let Some(volumes) = pod.pointer_mut("/spec/volumes").and_then(Value::as_array_mut)
        {
            volumes.retain(|volume| volume.get("image").is_none());
        }
        let (admin, asked) = (admin.clone(), pod.clone());
        let answer = tokio::spawn(async move { try_create(&admin, asked).await });
        waiting.push((name, pod, answer));
        // Judged here while the API server judges the same.
        if waiting.len() == 32 {
            for (name, pod, answer) in waiting.drain(..) {
                let verdict = offline.judge_pod(&pod, &namespaces[name], &Request::default()).unwrap();
                mix.compare(&pod, &verdict, door(answer.await.unwrap(), "cloison-pod", hash));
            }
        }
    }
    mix.print_and_bound("pods", 1_200);
    assert!(mix.rules.len() >= 28, "{} rules: {mix:?}", mix.rules.len());
    for rule in [
        "WKL-04/visible-devices",
        "WKL-04/shared-request",
        "WKL-04/node-name",
        "ECO-01/system-priority",
        "NET-11/secondary-network",
        "NET-11/steering-annotation",
        "ENC-04/reference",
        "ENC-04/env-from",
        "ENC-04/literal",
    ] {
        assert!(mix.rules.contains_key(rule), "no pod broke {rule}");
    }
    mix
}

async fn updates(cluster: &Cluster, admin: &Client, hash: &str) -> Mix {
    let offline = Offline::new(&cluster.set()).unwrap();
    let images = images();
    let mut dice = Dice(0xD1CE);
    let mut mix = Mix::default();
    let namespace = live_namespace(admin, "i").await;
    create(admin, pod("i", "plain")).await.unwrap();
    create(
        admin,
        with(
            pod("i", "member"),
            json!({"metadata": {"labels": {"cloison.dev/workload": "road-train"}}}),
        ),
    )
    .await
    .unwrap();
    let pods = objects(admin, "v1", "Pod", Some("i"));
    for _ in 0..460 {
        let name = *dice.pick(&["plain", "member"]);
        let old = serde_json::to_value(pods.get(name).await.unwrap()).unwrap();
        let label = dice
            .pick(&["default", "road-train", "nobody", "face-id", ""])
            .to_owned();
        let mut new = old.clone();
        let mut debug = json!({});
        let sub_resource = match dice.roll(6) {
            0 => {
                new["metadata"]["labels"] = json!({"cloison.dev/workload": label});
                None
            }
            1 => {
                new["metadata"]["labels"] = json!(null);
                None
            }
            2 => {
                new["spec"]["containers"][0]["image"] = json!(dice.pick(&images));
                None
            }
            3 => {
                new["metadata"]["labels"] = json!({"cloison.dev/workload": label});
                Some("status")
            }
            4 => {
                let annotations = dice.pick(&networks()).clone();
                new["metadata"]["annotations"] = with(new["metadata"]["annotations"].clone(), annotations);
                None
            }
            _ => {
                debug = container(&mut dice, &images, "debug");
                for forbidden in ["ports", "readinessProbe", "lifecycle", "resources"] {
                    debug.as_object_mut().unwrap().remove(forbidden);
                }
                new["spec"]["ephemeralContainers"] = json!([debug]);
                Some("ephemeralcontainers")
            }
        };
        let change = json!({"metadata": {"labels": with(json!({"cloison.dev/workload": null}), new["metadata"]["labels"].clone()),
                                         "annotations": new["metadata"]["annotations"]},
                            "spec": {"containers": [{"name": "main", "image": new["spec"]["containers"][0]["image"]}]}});
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let answer = match sub_resource {
            None => pods.patch(name, &params, &Patch::Strategic(change)).await,
            Some("status") => {
                pods.patch_subresource("status", name, &params, &Patch::Strategic(change))
                    .await
            }
            Some(other) => {
                let change = json!({"spec": {"ephemeralContainers": [debug]}});
                pods.patch_subresource(other, name, &params, &Patch::Strategic(change))
                    .await
            }
        };
        let request = Request {
            operation: Operation::Update,
            sub_resource: sub_resource.map(str::to_owned),
            old_object: Some(old),
            groups: vec!["system:masters".to_owned()],
        };
        let verdict = offline.judge_pod(&new, &namespace, &request).unwrap();
        mix.compare(&new, &verdict, door(answer, "cloison-pod", hash));
    }
    mix.print_and_bound("updates", 300);
    mix
}

async fn workloads(cluster: &Cluster, admin: &Client, hash: &str) -> Mix {
    let offline = Offline::new(&cluster.set()).unwrap();
    let mut dice = Dice(0xA1);
    let mut mix = Mix::default();
    for _ in 0..580 {
        let name = *dice.pick(&["t", "e", "i", "w", "d", "default"]);
        let uses: Vec<&str> = (0..dice.roll(4))
            .map(|_| {
                *dice.pick(&[
                    "SocialScoring",
                    "BiometricIdentification",
                    "Translation",
                    "BiometricIdentification",
                    "ChildSexualAbuseMaterial",
                    "FacialImageScraping",
                ])
            })
            .collect();
        let mut uses = uses;
        uses.sort_unstable();
        uses.dedup();
        let stage = dice.pick(&["Training", "Training", "Evaluation", "Inference"]);
        let workload = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload", "metadata": {"name": "w", "namespace": name},
            "spec": {"stage": stage, "owner": "team", "purpose": "Detect road defects", "uses": uses},
        });
        let namespace = live_namespace(admin, name).await;
        let verdict = offline
            .judge_workload(&workload, &namespace, &Request::default())
            .unwrap();
        mix.compare(
            &workload,
            &verdict,
            door(try_create(admin, workload.clone()).await, "cloison-crd", hash),
        );
    }
    mix.print_and_bound("workloads", 240);
    mix
}

async fn network_policies(cluster: &Cluster, admin: &Client, hash: &str) -> Mix {
    let offline = Offline::new(&cluster.set()).unwrap();
    let mut dice = Dice(0xBEE);
    let mut mix = Mix::default();
    let policies = objects(admin, "networking.k8s.io/v1", "NetworkPolicy", Some("i"));
    let namespace = live_namespace(admin, "i").await;
    // At first new ones, then changes of one that is older than the rules.
    let mut stored = None;
    for round in 0..600 {
        let written = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                             "metadata": {"name": "own", "namespace": "i"}, "spec": random_policy(&mut dice)});
        let request = Request {
            operation: if stored.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            old_object: stored.clone(),
            ..Request::default()
        };
        let verdict = offline.judge_network_policy(&written, &namespace, &request).unwrap();
        let answer = if stored.is_some() {
            let params = PatchParams {
                dry_run: true,
                ..PatchParams::default()
            };
            let whole = json!({"spec": with(json!({"egress": null, "ingress": null}), written["spec"].clone())});
            policies.patch("own", &params, &Patch::Merge(whole)).await
        } else {
            try_create(admin, written.clone()).await
        };
        mix.compare(&written, &verdict, door(answer, "cloison-net", hash));
        if round == 299 {
            stored = Some(store_unjudged(cluster, admin, &mut dice).await);
        }
    }
    mix.print_and_bound("network policies", 500);
    assert!(mix.rules.len() >= 5, "{} rules: {mix:?}", mix.rules.len());
    mix
}

/// A policy that is older than the rules: it was written while the namespace was in audit.
async fn store_unjudged(cluster: &Cluster, admin: &Client, dice: &mut Dice) -> Value {
    let mode = async |mode: &str| {
        let label = json!({"metadata": {"labels": {"cloison.dev/mode": mode}}});
        patch(admin, "v1", "Namespace", None, "i", label).await.unwrap();
    };
    let rules = [random_rule(dice, "to"), json!({}), json!({"to": [peer(1), peer(4)]})];
    let old = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "own", "namespace": "i"},
                     "spec": {"podSelector": {}, "policyTypes": ["Egress", "Ingress"], "egress": rules}});
    mode("audit").await;
    let stored = eventually_created(admin, old).await;
    mode("enforce").await;
    let wide = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "new", "namespace": "i"},
                      "spec": {"podSelector": {}, "egress": [{}]}});
    eventually_refused_by(cluster, "cloison-net", "NET-10/no-peers", async || {
        try_create(admin, wide.clone()).await
    })
    .await;
    stored
}

async fn eventually_created(admin: &Client, object: Value) -> Value {
    let created = cloison_testbed::eventually(SOON, "audit lets it in", async || create(admin, object.clone()).await);
    serde_json::to_value(created.await.unwrap()).unwrap()
}
