//! The proof about Secrets on real API servers, each claim checked against the bytes in etcd.
//!
//! The controller and the canary account hold exactly the rights that `controller::evidence` lists.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod encryption_world;

use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::encryption::{ApiServers, Discovery};
use cloison::api::text::ObjectName;
use cloison::controller::evidence::encryption::EncryptionSettings;
use cloison::encryption::EncryptionProof;
use cloison::encryption::proof::reasons;
use cloison_testbed::{ApiServerOptions, Minor};
use encryption_world::{
    DEADLINE, METRICS_ROLE, NAMESPACE, RBAC, World, encrypting, grant_metrics, identity_first, objects, with,
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_follows_what_every_api_server_writes() {
    let world = World::start(2, with(identity_first())).await;
    world.expect(Truth::False, reasons::PLAINTEXT_WRITES).await;

    // The admin switches encryption on.
    world.configure(&encrypting("k1")).await;
    let proof = world
        .expect_of(Some(2), Truth::True, reasons::NEW_WRITES_ENCRYPTED)
        .await;
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

fn by_address(proof: &EncryptionProof) -> Vec<cloison::api::encryption_status::ReplicaStatus> {
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

    let admin = world.plane.admin().unwrap();
    let bindings = objects(&admin, RBAC, "ClusterRoleBinding", None);
    bindings.delete(METRICS_ROLE, &DeleteParams::default()).await.unwrap();
    let proof = world.expect(Truth::Unknown, reasons::UNVERIFIABLE).await;
    assert!(
        proof.message.contains("cannot get path \"/metrics\""),
        "{}",
        proof.message
    );
    grant_metrics(&world.plane).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;

    // Without the right to write, what was proven for this process and file still holds; for another it does not.
    let roles = objects(&admin, RBAC, "Role", Some(NAMESPACE));
    let none = Patch::Merge(json!({ "rules": [] }));
    roles
        .patch("cloison-canary-secret", &PatchParams::default(), &none)
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
