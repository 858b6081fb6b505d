//! The command line and the door say the same: some hundreds of generated pods, changes of pods and AiWorkloads, judged
//! offline and by a real API server. Same verdict, same words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/admission.rs"]
mod common;

use std::collections::BTreeMap;

use cloison::admission::{Offline, Operation, Request, Verdict};
use cloison_testbed::{ApiServerOptions, Minor};
use common::*;
use kube::api::{Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};

/// A small generator of pseudo-random choices (xorshift), seeded so that every run asks the same questions.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }

    /// One time in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

fn images() -> Vec<String> {
    let digest = digest();
    let names = [
        "nginx",
        "nginx:1.27",
        "library/redis",
        "docker.io/nginx",
        "index.docker.io/library/nginx",
        "bitnami/redis:7",
        "registry.example.com/train/app",
        "registry.example.com/train/app:v1",
        "registry.example.com/trainer",
        "registry.example.com:5000/train/app",
        "localhost/a",
        "localhost:5000/a",
        "ghcr.io/kserve/init:latest",
        "ghcr.io/pinned/a:v1",
        "host.example/a/b/c",
        "a.b/c",
        "REGISTRY.example.com/train/app",
        "x/y/z",
    ];
    let both = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}@{digest}")]);
    both.chain([
        "registry.example.com/train/é".to_owned(),
        "registry.example.com/train/a@sha256:00".to_owned(),
    ])
    .collect()
}

fn container(dice: &mut Dice, images: &[String], name: &str) -> Value {
    let mut container = json!({"name": name, "image": dice.pick(images)});
    if dice.once_in(2) {
        let mut context = json!({});
        let parts = [
            json!({"privileged": true}),
            json!({"privileged": false}),
            json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
            json!({"capabilities": {"add": ["IPC_LOCK"]}}),
            json!({"capabilities": {"drop": ["ALL"]}}),
            json!({"procMount": "Default"}),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"appArmorProfile": {"type": "Unconfined"}}),
            json!({"seLinuxOptions": {"type": "spc_t"}}),
            json!({"seLinuxOptions": {"type": "container_t"}}),
            json!({"seLinuxOptions": {"user": "u"}}),
            json!({"runAsUser": 0}),
        ];
        for _ in 0..=dice.roll(2) {
            context = with(context, dice.pick(&parts).clone());
        }
        container["securityContext"] = context;
    }
    if dice.once_in(6) {
        container["ports"] = dice
            .pick(&[
                json!([{"containerPort": 80}]),
                json!([{"containerPort": 80, "hostPort": 80}]),
                json!([]),
                json!(null),
            ])
            .clone();
    }
    if dice.once_in(8) {
        let probes = [
            json!({"readinessProbe": {"httpGet": {"port": 80, "host": "10.0.0.9"}}}),
            json!({"readinessProbe": {"tcpSocket": {"port": 80}}}),
            json!({"lifecycle": {"postStart": {"httpGet": {"port": 80, "host": "x"}}}}),
        ];
        container = with(container, dice.pick(&probes).clone());
    }
    container
}

fn random_pod(dice: &mut Dice, images: &[String], namespace: &str) -> Value {
    let count = 1 + dice.roll(3);
    let containers: Vec<Value> = (0..count).map(|n| container(dice, images, &format!("c{n}"))).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{}", dice.roll(1000)), "namespace": namespace},
        "spec": {"containers": containers},
    });
    let labels = [
        json!(null),
        json!({}),
        json!({"cloison.dev/workload": "road-train"}),
        json!({"cloison.dev/workload": "nobody"}),
        json!({"cloison.dev/workload": "face-id"}),
        json!({"cloison.dev/workload": ""}),
        json!({"cloison.dev/workload": "default"}),
    ];
    pod["metadata"]["labels"] = dice.pick(&labels).clone();
    if dice.once_in(3) {
        let image = dice.pick(images).clone();
        let sources = [
            json!({"emptyDir": {"medium": "Memory"}}),
            json!({}),
            json!({"hostPath": {"path": "/"}}),
            json!({"secret": {"secretName": "s"}}),
            json!({"nfs": {"server": "s", "path": "/"}}),
            json!({"csi": {"driver": "secrets-store.csi.k8s.io"}}),
            json!({"csi": {"driver": "other.example.com"}}),
            json!({"image": {"reference": image}}),
            json!({"persistentVolumeClaim": {"claimName": "c"}}),
            json!({"glusterfs": {"endpoints": "e", "path": "p"}}),
        ];
        let volumes: Vec<Value> = (0..=dice.roll(2))
            .map(|n| with(json!({"name": format!("v{n}")}), dice.pick(&sources).clone()))
            .collect();
        pod["spec"]["volumes"] = json!(volumes);
    }
    if dice.once_in(5) {
        pod["spec"]["initContainers"] = json!([with(json!({"name": "init"}), json!({"image": dice.pick(images)}))]);
    }
    let extras = [
        json!({"spec": {"hostPID": true}}),
        json!({"spec": {"hostIPC": true}}),
        json!({"spec": {"hostNetwork": true}}),
        json!({"spec": {"hostPID": false}}),
        json!({"spec": {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}}),
        json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}], "seccompProfile": null}}}),
        json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}, "seLinuxOptions": {"role": "r"}}}}),
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "unconfined"}}}),
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "runtime/default"}}}),
        json!({"metadata": {"annotations": null}}),
    ];
    if dice.once_in(2) {
        pod = with(pod, dice.pick(&extras).clone());
    }
    pod
}

/// What the API server said: refused in these words, or not at all. `None` where something else than we answered.
fn door<T>(answer: Result<T, Error>, policy: &str, hash: &str) -> Option<Option<String>> {
    match answer {
        Ok(_) => Some(None),
        Err(Error::Api(status)) if status.code == 403 => {
            let ours = format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{policy}-deny' denied request: [cloison {hash}] "
            );
            let said = status
                .message
                .split_once(&ours)
                .unwrap_or_else(|| panic!("{}", status.message))
                .1;
            Some(Some(said.to_owned()))
        }
        // The API server's own validation, which runs before.
        Err(Error::Api(status)) if status.code == 422 => None,
        Err(other) => panic!("{other}"),
    }
}

/// The same words from an offline verdict.
fn said(verdict: &Verdict) -> Option<String> {
    let lines = verdict.problems.iter().map(|finding| {
        let line = finding.line();
        match line.chars().count() > 270 {
            true => line.chars().take(267).chain("...".chars()).collect(),
            false => line,
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
    fn compare(&mut self, what: &Value, verdict: &Verdict, door: Option<Option<String>>) {
        let Some(door) = door else {
            self.invalid += 1;
            return;
        };
        assert_eq!(
            said(verdict),
            door,
            "offline (left) and the API server differ on {what:#}"
        );
        match door {
            Some(_) => self.refused += 1,
            None => self.passed += 1,
        }
        for finding in verdict.problems.iter().chain(&verdict.observed) {
            *self.rules.entry(finding.rule.to_string()).or_default() += 1;
        }
    }

    /// A test that only ever passes, or only ever refuses, compares nothing.
    fn print_and_bound(&self, what: &str, least: usize) {
        println!("{what}: {self:?}");
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

#[tokio::test]
async fn offline_and_the_api_server_agree() {
    let policy = spec(json!({"pods": {
        "images": [{"prefix": "registry.example.com/train"}, {"prefix": "docker.io/library"}, {"prefix": "localhost:5000"},
                   {"prefix": "ghcr.io", "digest": "Optional"}, {"prefix": "ghcr.io/pinned", "digest": "Required"},
                   {"prefix": "bitnami/redis", "stages": ["Training"]}],
        "addCapabilities": [{"capability": "IPC_LOCK", "stages": ["Training", "Evaluation"]}],
        "inlineCSIDrivers": ["secrets-store.csi.k8s.io"],
    }}));
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
        pods(&cluster, &admin, &hash).await;
        updates(&cluster, &admin, &hash).await;
        workloads(&cluster, &admin, &hash).await;
    }
}

async fn pods(cluster: &Cluster, admin: &Client, hash: &str) {
    let offline = Offline::new(&cluster.set()).unwrap();
    let images = images();
    let mut dice = Dice(0x5EED);
    let mut mix = Mix::default();
    let mut namespaces = BTreeMap::new();
    for name in ["t", "e", "i", "w", "d", "u", "default"] {
        namespaces.insert(name, live_namespace(admin, name).await);
    }
    for _ in 0..400 {
        let name = *dice.pick(&["t", "t", "e", "i", "i", "w", "d", "u", "default"]);
        let pod = if dice.once_in(5) {
            pod(name, "fine")
        } else {
            random_pod(&mut dice, &images, name)
        };
        let verdict = offline.judge_pod(&pod, &namespaces[name], &Request::default()).unwrap();
        mix.compare(
            &pod,
            &verdict,
            door(try_create(admin, pod.clone()).await, "cloison-pod", hash),
        );
    }
    mix.print_and_bound("pods", 300);
    assert!(mix.rules.len() >= 20, "{} rules: {mix:?}", mix.rules.len());
}

async fn updates(cluster: &Cluster, admin: &Client, hash: &str) {
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
    for _ in 0..120 {
        let name = *dice.pick(&["plain", "member"]);
        let old = serde_json::to_value(pods.get(name).await.unwrap()).unwrap();
        let label = dice
            .pick(&["default", "road-train", "nobody", "face-id", ""])
            .to_owned();
        let mut new = old.clone();
        let mut debug = json!({});
        let sub_resource = match dice.roll(5) {
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
            _ => {
                debug = container(&mut dice, &images, "debug");
                for forbidden in ["ports", "readinessProbe", "lifecycle"] {
                    debug.as_object_mut().unwrap().remove(forbidden);
                }
                new["spec"]["ephemeralContainers"] = json!([debug]);
                Some("ephemeralcontainers")
            }
        };
        let change = json!({"metadata": {"labels": with(json!({"cloison.dev/workload": null}), new["metadata"]["labels"].clone())},
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
    mix.print_and_bound("updates", 90);
}

async fn workloads(cluster: &Cluster, admin: &Client, hash: &str) {
    let offline = Offline::new(&cluster.set()).unwrap();
    let mut dice = Dice(0xA1);
    let mut mix = Mix::default();
    for _ in 0..80 {
        let name = *dice.pick(&["t", "e", "i", "w", "d", "default"]);
        let uses: Vec<&str> = (0..dice.roll(3))
            .map(|_| {
                *dice.pick(&[
                    "SocialScoring",
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
    mix.print_and_bound("workloads", 80);
}
