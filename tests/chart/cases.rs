//! What the API server must refuse, as data: an accepted object of each kind, and changes of it.

use serde_json::{Value, json};

/// A change of one object, and what the API server says to it.
#[derive(Clone)]
pub struct Case {
    pub kind: &'static str,
    /// JSON pointers and their new values; `null` removes.
    pub changes: Vec<(&'static str, Value)>,
    pub says: &'static str,
}

fn case(kind: &'static str, changes: Vec<(&'static str, Value)>, says: &'static str) -> Case {
    Case { kind, changes, says }
}

/// An object of each kind that is accepted.
pub fn accepted(kind: &str) -> Value {
    let (name, namespace, spec) = match kind {
        "AiWorkload" => (
            "road-det",
            Some("default"),
            json!({
                "stage": "Inference",
                "owner": "vision-team@example.com",
                "purpose": "Finds road users in pictures",
                "network": {
                    "connectTo": [{ "service": "model-registry" }, { "cidr": "192.0.2.0/24", "ports": [{ "port": 443 }] }],
                    "acceptFrom": [{ "source": "gateway" }],
                },
                "evidence": [{ "kind": "Tests", "configMapRef": { "name": "tests" } }],
            }),
        ),
        "AiSecurityPolicy" => (
            "default",
            None,
            json!({
                "controls": [{ "id": "NET-04", "mode": "Disabled", "reason": "no cidr is in use here" }],
                "network": {
                    "services": [{
                        "name": "registry",
                        "to": { "namespace": "registry", "podLabels": { "app": "registry", "app.kubernetes.io/name": "" } },
                        "ports": [{ "port": 5000 }],
                    }],
                    "sources": [{ "name": "gateway", "kind": "Gateway", "from": { "namespace": "edge" } }],
                    "dedicatedInterfaces": [{ "name": "fabric", "resourceName": "rdma/hca", "stages": ["Training"] }],
                },
            }),
        ),
        "SecretEncryption" => ("default", None, json!({})),
        "EncryptionKeyRing" => ("default", None, ring()),
        "ControlPlaneReport" => ("control-1", None, report()),
        "Waiver" => (
            "debug-host-path",
            None,
            json!({
                "target": { "namespace": "vision-train", "workload": "road-train" },
                "controls": ["WKL-01/host-path"],
                "reason": "the vendor's profiler reads the node's disk until its next release",
                "requestedBy": "ana@example.com",
                "expirationTime": "2027-01-31T00:00:00Z",
            }),
        ),
        other => panic!("{other}"),
    };
    json!({
        "apiVersion": "cloison.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

/// A ring with a key that is in use and one that was destroyed. Nothing opens what is sealed here.
fn ring() -> Value {
    let sealed = format!(
        "-----BEGIN AGE ENCRYPTED FILE-----\n{}\n-----END AGE ENCRYPTED FILE-----\n",
        "Z".repeat(64)
    );
    let commitment = format!("sha256:{}", "c".repeat(64));
    json!({
        "lastID": 2,
        "keys": [
            {
                "id": 1, "name": "key1", "provider": "Secretbox", "origin": "Imported",
                "creationTime": "2026-01-01T00:00:00Z", "commitment": commitment, "wraps": [],
                "retiredTime": "2026-02-01T00:00:00Z", "destroyedTime": "2026-03-01T00:00:00Z",
            },
            {
                "id": 2, "name": "k2", "provider": "AESGCM", "origin": "Minted",
                "creationTime": "2026-01-02T00:00:00Z", "commitment": commitment, "request": "once",
                "wraps": [
                    { "recipient": "age1node", "sealed": sealed },
                    { "recipient": "age1offline", "sealed": sealed },
                ],
                "writes": [{ "node": "control-1", "count": 41 }],
            },
        ],
        "members": [{
            "node": "control-1", "recipient": "age1node", "approvedBy": "ana@example.com",
            "joinedTime": "2026-01-01T00:00:00Z",
        }],
        "escrow": ["age1offline"],
    })
}

/// A report with every field.
fn report() -> Value {
    let hash = format!("sha256:{}", "d".repeat(64));
    json!({
        "observedTime": "2026-01-03T00:00:00Z",
        "recipient": "age1node",
        "flags": {
            "encryptionProviderConfig": "/etc/kubernetes/encryption/configuration.json",
            "automaticReload": true,
            "missing": ["--encryption-provider-config-automatic-reload=true"],
            "persistent": false,
        },
        "apiServer": {
            "identityHash": hash, "loadedHash": hash, "started": 1_767_225_600,
            "counters": [{ "resource": "secrets", "key": "k2", "reads": 7, "writes": 41 }],
            "unknown": 0,
        },
        "file": {
            "hash": hash, "own": true,
            "keys": [{ "name": "k2", "provider": "AESGCM" }, { "name": "identity" }],
        },
        "sealedID": 2,
        "proof": {
            "time": "2026-01-03T00:00:00Z", "revision": 300, "compactedRevision": 250,
            "values": [{ "resource": "secrets", "key": "k2", "count": 41 }],
        },
        "error": "nothing",
    })
}

/// Refused when they are created.
pub fn on_create() -> Vec<Case> {
    [workloads(), policies(), encryptions(), rings(), reports(), waivers()].concat()
}

fn rings() -> Vec<Case> {
    const KEY: &str = "ENC-01/ring a key is sealed for somebody until it is destroyed, and retired before";
    let ring = |changes, says| case("EncryptionKeyRing", changes, says);
    vec![
        ring(
            vec![("/metadata/name", json!("other"))],
            "ENC-01/singleton there is one EncryptionKeyRing and its name is `default`",
        ),
        ring(
            vec![("/spec/lastID", json!(1))],
            "ENC-01/ring no key has an id above `lastID`",
        ),
        ring(vec![("/spec/keys/1/id", json!(1))], "Duplicate value"),
        ring(
            vec![("/spec/keys/1/name", json!("k3"))],
            "ENC-01/ring a key that was minted is named `k` and its id",
        ),
        ring(vec![("/spec/keys/0/name", json!("a:b"))], "spec.keys[0].name"),
        ring(
            vec![("/spec/keys/1/provider", json!("AESCBC"))],
            "Unsupported value: \"AESCBC\"",
        ),
        ring(vec![("/spec/keys/1/wraps", json!([]))], KEY),
        ring(vec![("/spec/keys/0/retiredTime", Value::Null)], KEY),
        ring(
            vec![("/spec/keys/1/wraps/0/sealed", json!("x".repeat(100)))],
            "spec.keys[1].wraps[0].sealed",
        ),
        ring(
            vec![("/spec/keys/1/wraps/0/recipient", json!("age1offline"))],
            "Duplicate value",
        ),
        ring(
            vec![("/spec/members/0/recipient", json!("AGE-SECRET-KEY-1ABC"))],
            "spec.members[0].recipient",
        ),
        ring(vec![("/spec/escrow", Value::Null)], "spec.escrow: Required value"),
    ]
}

fn reports() -> Vec<Case> {
    let report = |changes, says| case("ControlPlaneReport", changes, says);
    vec![
        report(
            vec![("/spec/observedTime", Value::Null)],
            "spec.observedTime: Required value",
        ),
        report(
            vec![("/spec/apiServer/loadedHash", json!("d"))],
            "spec.apiServer.loadedHash",
        ),
        report(
            vec![("/spec/apiServer/unknown", json!(-1))],
            "greater than or equal to 0",
        ),
        report(vec![("/spec/proof/revision", json!(0))], "greater than or equal to 1"),
        report(vec![("/spec/error", json!("x".repeat(513)))], "spec.error"),
    ]
}

fn workloads() -> Vec<Case> {
    const FLOW: &str = "/spec/network/connectTo/0";
    let workload = |changes, says| case("AiWorkload", changes, says);
    let digest = format!("sha256:{}", "a".repeat(64));
    vec![
        workload(vec![("/metadata/name", json!("road.det"))], "WKL-02/name"),
        workload(vec![("/metadata/name", json!("a".repeat(64)))], "WKL-02/name"),
        workload(
            vec![("/spec/stage", json!("Serving"))],
            "Unsupported value: \"Serving\"",
        ),
        workload(vec![("/spec/owner", Value::Null)], "spec.owner: Required value"),
        workload(vec![("/spec/purpose", json!("short"))], "spec.purpose"),
        workload(
            vec![(
                FLOW,
                json!({ "service": "registry", "workload": { "name": "road-train" } }),
            )],
            "NET-04/flow exactly one of `service`, `workload`, `cidr` must be set",
        ),
        workload(
            vec![(FLOW, json!({}))],
            "NET-04/flow exactly one of `service`, `workload`, `cidr` must be set",
        ),
        workload(
            vec![(FLOW, json!({ "service": "registry", "ports": [{ "port": 1 }] }))],
            "NET-04/flow the ports of a service come from the catalogue",
        ),
        workload(
            vec![(FLOW, json!({ "cidr": "192.0.2.0/24" }))],
            "NET-04/flow a `cidr` needs `ports`",
        ),
        workload(
            vec![("/spec/network/connectTo/1/cidr", json!("192.0.2.1/24"))],
            "NET-04/cidr must be a network without host bits",
        ),
        workload(
            vec![("/spec/network/connectTo/1/cidr", json!("2001:db8::1/64"))],
            "NET-04/cidr must be a network without host bits",
        ),
        workload(
            vec![("/spec/network/connectTo/1/cidr", json!("example.com"))],
            "NET-04/cidr must be a network without host bits",
        ),
        workload(
            vec![(
                "/spec/network/connectTo/1/ports",
                json!([{ "port": 443, "endPort": 80 }]),
            )],
            "NET-04/port `endPort` must not be smaller than `port`",
        ),
        workload(
            vec![("/spec/network/connectTo/1/ports", json!([{ "port": 0 }]))],
            "greater than or equal to 1",
        ),
        workload(
            vec![(
                "/spec/network/acceptFrom/0",
                json!({ "source": "gateway", "cidr": "192.0.2.0/24" }),
            )],
            "NET-06/flow exactly one of `source`, `workload`, `cidr` must be set",
        ),
        workload(
            vec![("/spec/evidence/0/url", json!("https://example.com/report"))],
            "EVD-02/reference exactly one of `configMapRef`, `objectRef`, `url` must be set",
        ),
        workload(
            vec![("/spec/evidence/0/configMapRef", Value::Null)],
            "EVD-02/reference exactly one of `configMapRef`, `objectRef`, `url` must be set",
        ),
        workload(
            vec![
                ("/spec/stage", json!("Training")),
                (
                    "/spec/model",
                    json!({ "name": "m", "digest": digest, "format": "Onnx" }),
                ),
            ],
            "SUP-02/model",
        ),
        workload(
            vec![("/spec/outputs", json!([{ "name": "m", "digest": digest }]))],
            "SUP-06/outputs",
        ),
    ]
}

fn policies() -> Vec<Case> {
    const CONTROL: &str = "/spec/controls/0";
    const SERVICE: &str = "/spec/network/services/0";
    let policy = |changes, says| case("AiSecurityPolicy", changes, says);
    vec![
        policy(
            vec![("/metadata/name", json!("other"))],
            "CLU-02/singleton there is one AiSecurityPolicy and its name is `default`",
        ),
        policy(
            vec![("/spec/controls/0/reason", Value::Null)],
            "CLU-02/reason a control that is Disabled needs a `reason`",
        ),
        policy(
            vec![(
                CONTROL,
                json!({ "id": "NET-07", "mode": "Disabled", "reason": "we know" }),
            )],
            "CLU-02/untouchable DAT-01, NET-07 and CLU-04 cannot be Disabled",
        ),
        policy(
            vec![(
                CONTROL,
                json!({ "id": "DAT-01", "perStage": { "evaluation": "Disabled" }, "reason": "we know" }),
            )],
            "CLU-02/untouchable DAT-01, NET-07 and CLU-04 cannot be Disabled",
        ),
        policy(
            vec![(
                SERVICE,
                json!({ "name": "s", "to": { "namespace": "a", "cidrs": ["192.0.2.0/24"] }, "ports": [{ "port": 1 }] }),
            )],
            "NET-04/catalogue exactly one of `namespace`, `cidrs`, `fqdns` must be set",
        ),
        policy(
            vec![(
                SERVICE,
                json!({ "name": "s", "to": { "cidrs": ["192.0.2.0/24"], "podLabels": { "a": "b" } }, "ports": [{ "port": 1 }] }),
            )],
            "NET-04/catalogue `podLabels` needs `namespace`",
        ),
        policy(
            vec![("/spec/network/services/0/to/podLabels", json!({ "a b": "c" }))],
            "NET-04/catalogue a key of `podLabels` is no label key",
        ),
        policy(
            vec![("/spec/network/services/0/to/podLabels", json!({ "app": "a b" }))],
            "NET-04/catalogue a value of `podLabels` is no label value",
        ),
        policy(
            vec![(
                "/spec/network/sources/0/from/podLabels",
                json!({ "Not.A.Prefix/": "c" }),
            )],
            "NET-06/source a key of `podLabels` is no label key",
        ),
        policy(
            vec![("/spec/network/sources/0/from/podLabels", json!({ "app": "-" }))],
            "NET-06/source a value of `podLabels` is no label value",
        ),
        policy(
            vec![(
                "/spec/network/sources/0/from",
                json!({ "nodes": {}, "namespace": "edge" }),
            )],
            "NET-06/source exactly one of `namespace`, `cidrs`, `nodes` must be set",
        ),
        policy(
            vec![("/spec/network/dedicatedInterfaces/0/networkAttachment", json!("a/b"))],
            "NET-03/interface exactly one of `resourceName`, `networkAttachment` must be set",
        ),
        policy(
            vec![("/spec/require", json!(["Ready"]))],
            "Unsupported value: \"Ready\"",
        ),
    ]
}

fn encryptions() -> Vec<Case> {
    let encryption = |changes, says| case("SecretEncryption", changes, says);
    vec![
        encryption(
            vec![("/metadata/name", json!("other"))],
            "ENC-01/singleton there is one SecretEncryption and its name is `default`",
        ),
        encryption(
            vec![("/spec/resources", json!(["secrets", "*.*"]))],
            "ENC-01/resources name resources one by one; wildcards are not allowed",
        ),
        encryption(
            vec![("/spec/resources", json!(["encryptionkeyrings.cloison.dev"]))],
            "ENC-01/resources our own objects must stay readable",
        ),
        encryption(
            vec![("/spec/mode", json!("Manage"))],
            "ENC-01/escrow `mode: Manage` needs an entry",
        ),
        encryption(
            vec![("/spec/retiredKeys", json!({ "retention": "DeleteAfterDays" }))],
            "ENC-01/retention `days` must be set exactly when",
        ),
        encryption(
            vec![("/spec/retiredKeys", json!({ "days": 30 }))],
            "ENC-01/retention `days` must be set exactly when",
        ),
        encryption(
            vec![("/spec/apiServers", json!({ "discovery": "Static" }))],
            "ENC-01/api-servers `endpoints` must be set exactly when",
        ),
        encryption(
            vec![("/spec/rotation", json!({ "maxWritesPerKey": 1_000_000 }))],
            "less than or equal to 200000",
        ),
    ]
}

fn waivers() -> Vec<Case> {
    let waiver = |changes, says| case("Waiver", changes, says);
    let end = json!({ "namespace": "vision-train", "workload": "road-train" });
    vec![
        waiver(vec![("/spec/controls", json!(["CLU-04"]))], "OPS-02/untouchable"),
        waiver(
            vec![("/spec/controls", json!(["NET-07/denied-flow"]))],
            "OPS-02/untouchable",
        ),
        waiver(vec![("/spec/controls", json!([]))], "at least 1 items"),
        waiver(vec![("/spec/controls", json!(["everything"]))], "spec.controls[0]"),
        waiver(
            vec![(
                "/spec/flow",
                json!({ "from": end, "to": end, "ports": [{ "port": 1 }] }),
            )],
            "OPS-02/flow a `flow` needs NET-03 in `controls`",
        ),
        waiver(vec![("/spec/reason", json!("because"))], "spec.reason"),
        waiver(
            vec![("/spec/expirationTime", json!("next year"))],
            "spec.expirationTime",
        ),
    ]
}
