//! The sweep on real API servers, each claim checked against the bytes in etcd: everything old is rewritten and nothing is
//! received, what is in the way is named and never counted as done, and the account has its rights only while it runs.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "../encryption_world/mod.rs"]
mod encryption_world;
mod obstacles;
mod reads;
mod rights;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::names;
use cloison::cluster::sweep;
use cloison::controller::evidence::reads::ReadSettings;
use cloison::encryption::proof::reasons;
use cloison::encryption::sweep::reads::reasons as stored;
use cloison_testbed::eventually;
use encryption_world::{NAMESPACE, RBAC, World, apply, encrypting, identity_first, objects, with};
use futures::{StreamExt, stream};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const PREFIX: &str = "/registry/secrets/";
/// What every value begins with that is stored as it should be.
const NEW: &[u8] = b"k8s:enc:aesgcm:v1:k1:";
/// A value as JSON holds it; it must not be seen anywhere.
const PASSWORD: &str = "aHVudGVyMi1odW50ZXIy";

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program as an admin of this control plane does.
async fn cloison(world: &World, arguments: &str) -> Said {
    let kubeconfig = world.plane.admin_kubeconfig().unwrap();
    let arguments = arguments.to_owned();
    let run = move || program(&kubeconfig, &arguments).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn program(kubeconfig: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.args(arguments.split(' ')).env("KUBECONFIG", kubeconfig);
    command
}

/// So many Secrets in three namespaces: every third immutable, every tenth with a copy of its data in an annotation.
async fn fill(client: &Client, number: usize) {
    for namespace in ["a", "b", "c"] {
        apply(client, "v1", "Namespace", None, namespace, json!({})).await;
    }
    stream::iter(0..number)
        .for_each_concurrent(16, |n| async move {
            let mut secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{n:03}")},
                "data": {"password": PASSWORD}, "immutable": n % 3 == 0,
            });
            if n % 10 == 0 {
                let copy = format!("{{\"data\":{{\"password\":\"{PASSWORD}\"}}}}");
                secret["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": copy});
            }
            let api = objects(client, "v1", "Secret", Some(["a", "b", "c"][n % 3]));
            api.create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
                .await
                .unwrap();
        })
        .await;
}

/// How many values are stored under the new key, and which are not; read from etcd itself.
async fn raw(world: &World) -> (usize, Vec<String>) {
    let all = world.plane.etcd().list(PREFIX).await.unwrap();
    let (new, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, value)| value.starts_with(NEW));
    let name = |(key, _): (String, Vec<u8>)| key.trim_start_matches(PREFIX).to_owned();
    (new.len(), old.into_iter().map(name).collect())
}

async fn lent(world: &World) -> Vec<&'static str> {
    let lent = sweep::lent(&world.plane.admin().unwrap()).await.unwrap();
    lent.into_iter().map(|lent| lent.role).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_rewritten_without_being_received() {
    let rules = json!([{
        "level": "RequestResponse", "omitStages": ["RequestReceived"],
        "users": [format!("system:serviceaccount:{NAMESPACE}:{}", names::SWEEPER_ACCOUNT)],
    }, {"level": "None"}]);
    let mut server = with(identity_first());
    server.audit_policy = Some(json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}).to_string());
    let world = World::start(2, server).await;
    fill(&world.plane.admin().unwrap(), 300).await;
    let (_, old) = raw(&world).await;
    assert!(old.len() >= 300, "{} values in plaintext", old.len());
    world.configure(&encrypting("k1")).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;

    // What is proven of new values is not of old ones.
    let said = cloison(&world, "encryption verify --rate 2000").await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(
        said.out.contains("new Secrets: True (NewWritesEncrypted)"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("stored Secrets: False (PlaintextValues)"),
        "{}",
        said.out
    );
    let said = cloison(&world, "encryption verify --writes-only").await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);

    let (before, old) = raw(&world).await;
    let said = cloison(&world, "encryption rewrite --rate 2000").await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let first = format!("pass 1: {} rewritten, {before} current, 0 gone, 0 blocked", old.len());
    assert!(said.out.contains(&first), "{first:?} not in {}", said.out);
    assert!(said.out.contains("pass 2: 0 rewritten, "), "{}", said.out);
    let proof = "every Secret is stored under k8s:enc:aesgcm:v1:k1:, which all API servers (2) write with";
    assert!(said.out.contains(proof), "{}", said.out);
    assert!(
        said.out
            .contains("30 Secrets with the annotation in which `kubectl apply` keeps a copy of the data"),
        "{}",
        said.out
    );
    assert_eq!(raw(&world).await.1, [""; 0]);
    assert_eq!(lent(&world).await, [""; 0], "the account kept its rights");

    let said = cloison(&world, "encryption verify --rate 2000").await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(
        said.out.contains("stored Secrets: True (ValuesEncrypted)"),
        "{}",
        said.out
    );
    only_metadata(&world).await;
}

/// What the API servers sent the sweeper, as they wrote it down.
async fn only_metadata(world: &World) {
    let (mut answers, mut patches) = (0, 0);
    for server in world.plane.api_servers() {
        let log = tokio::fs::read_to_string(server.audit_log()).await.unwrap();
        for event in log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let answer = &event["responseObject"];
            let kind = answer["kind"].as_str().unwrap_or_default();
            // It also asks whether its role has arrived.
            if event["objectRef"]["resource"] != "secrets" || kind == "Status" {
                continue;
            }
            assert!(
                kind.starts_with("PartialObjectMetadata"),
                "{} got {kind}",
                event["requestURI"]
            );
            let items = answer["items"].as_array().cloned().unwrap_or_default();
            assert!(answer.get("data").is_none() && items.iter().all(|item| item.get("data").is_none()));
            answers += 1;
            if event["verb"] == "patch" {
                patches += 1;
                let sent = &event["requestObject"];
                assert_eq!(sent.as_object().unwrap().len(), 1, "{sent}");
                let mut fields: Vec<&String> = sent["metadata"].as_object().unwrap().keys().collect();
                fields.sort();
                assert_eq!(fields, ["resourceVersion", "uid"]);
            }
        }
    }
    assert!(
        answers > 1_000 && patches > 600,
        "{answers} answers, {patches} of patches"
    );
}
