//! A Waiver opens one flow between two stages, or lets the pods of one workload break a rule, for a time, once another
//! person approved it: on a real API server, from the request to its end, which nobody has to bring about.
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

use std::time::Duration;

use cloison::api::workload::FlowState;
use cloison::api::{AiSecurityPolicy, Waiver, conditions, names};
use cloison::cluster::cluster_policies;
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use network::{Installation, flow, noted, spec, tenants_may_open};
use operator::{PATIENCE, apply, condition, namespace, policy, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();

/// The policy, with Waivers of at most so many days.
fn organisation(max_days: i32) -> Value {
    json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}, "controls": tenants_may_open(), "waivers": {"maxDays": max_days}})
}

async fn installation() -> &'static Installation {
    let start = || async {
        let plane = ControlPlane::start(Options {
            controller_manager: true,
            ..Options::default()
        });
        let installation = Installation::start(plane.await.unwrap(), organisation(90)).await;
        refusing(&installation.admin()).await;
        installation
    };
    INSTALLATION.get_or_init(start).await
}

/// Waits until the policies are seen refusing.
async fn refusing(client: &Client) {
    let api: Api<AiSecurityPolicy> = Api::all(client.clone());
    eventually(PATIENCE, "AdmissionEnforced", || async {
        let found = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let told = found.status.unwrap_or_default().conditions;
        match conditions::find(&told, conditions::types::ADMISSION_ENFORCED) {
            Some(told) if told.status == "True" => Ok(()),
            told => Err(format!("{told:?}")),
        }
    })
    .await
    .unwrap();
}

/// Somebody who may do everything that roles can give.
fn person(installation: &Installation, user: &str) -> Client {
    installation.plane.client_as(user, &["system:masters"]).unwrap()
}

/// `NAME-train/road` connects to `NAME-infer/model` on 8080, and both say so; another pair of namespaces for each test.
async fn ends(client: &Client, name: &str) -> (String, String) {
    let (train, infer) = (format!("{name}-train"), format!("{name}-infer"));
    for (home, stage) in [(&train, "training"), (&infer, "inference")] {
        namespace(client, home, stage, Some("enforce")).await;
    }
    let other =
        |name: &str, home: &str| json!([{"workload": {"name": name, "namespace": home}, "ports": [{"port": 8080}]}]);
    let road = workload(&train, "road", "Training", json!({"connectTo": other("model", &infer)}));
    let model = workload(
        &infer,
        "model",
        "Inference",
        json!({"acceptFrom": other("road", &train)}),
    );
    for object in [road, model] {
        apply(client, object).await.unwrap();
    }
    (train, infer)
}

/// alice asks for a Waiver of the flow.
async fn ask(installation: &Installation, name: &str, (train, infer): &(String, String), lasts: Duration) {
    let until = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + lasts;
    let waiver = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name}, "spec": {
        "target": {"namespace": train}, "controls": ["NET-03/cross-stage"],
        "flow": {"from": {"namespace": train, "workload": "road"}, "to": {"namespace": infer, "workload": "model"},
                 "ports": [{"port": 8080}]},
        "reason": "Shadow evaluation of the new detector", "requestedBy": "alice", "expirationTime": until,
    }});
    apply(&person(installation, "alice"), waiver).await.unwrap();
}

/// Somebody approves it in their own name.
async fn approve(installation: &Installation, name: &str, by: &str) -> Result<Waiver, kube::Error> {
    let api: Api<Waiver> = Api::all(person(installation, by));
    let status = json!({"status": {"approval": {"by": by, "time": Timestamp::now(), "generation": 1}}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
}

/// Waits until a condition of a Waiver has a reason, and returns status and message.
async fn waiver_says(client: &Client, name: &str, kind: &str, reason: &str) -> (String, String) {
    let api: Api<Waiver> = Api::all(client.clone());
    eventually(PATIENCE, &format!("{name} {kind} {reason}"), || async {
        let status = api
            .get(name)
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        let found = conditions::find(&status.conditions, kind).cloned();
        let found = found.ok_or_else(|| format!("no {kind} yet"))?;
        if found.reason == reason {
            Ok((found.status, found.message))
        } else {
            Err(format!("{}: {}", found.reason, found.message))
        }
    })
    .await
    .unwrap()
}

/// Whether the policies of both ends hold the flow.
async fn halves(client: &Client, (train, infer): &(String, String)) -> [bool; 2] {
    let names = |policy: Value, direction: &str, other: &str| policy[direction].to_string().contains(other);
    let out = spec(&policy(client, train, "cloison-wl-road").await);
    let into = spec(&policy(client, infer, "cloison-wl-model").await);
    [names(out, "egress", infer), names(into, "ingress", train)]
}

async fn halves_are(client: &Client, ends: &(String, String), wanted: bool) {
    eventually(PATIENCE, &format!("both halves there: {wanted}"), || async {
        let found = halves(client, ends).await;
        if found == [wanted; 2] {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap();
}

async fn flow_is(client: &Client, (train, infer): &(String, String), state: FlowState) -> [String; 2] {
    let out = flow(client, train, "road", &format!("workload {infer}/model"), state).await;
    [
        out,
        flow(client, infer, "model", &format!("workload {train}/road"), state).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn it_opens_when_it_is_approved_and_ends_by_itself() {
    let installation = installation().await;
    let client = installation.admin();
    let ends = ends(&client, "wv-whole").await;
    let closed = flow_is(&client, &ends, FlowState::Refused).await;
    assert!(
        closed[0].contains("ask for a Waiver with a flow from wv-whole-train/road to wv-whole-infer/model"),
        "{closed:?}"
    );

    ask(installation, "wv-whole", &ends, Duration::from_secs(20)).await;
    let (status, _) = waiver_says(&client, "wv-whole", "Active", "NotApproved").await;
    assert_eq!(status, "False");
    eventually(PATIENCE, "both ends say what is missing", || async {
        let said = flow_is(&client, &ends, FlowState::Refused).await;
        let told = |text: &String| text.contains("Waiver wv-whole opens nothing: another person must approve it");
        if said.iter().all(told) {
            Ok(())
        } else {
            Err(said.concat())
        }
    })
    .await
    .unwrap();
    assert_eq!(halves(&client, &ends).await, [false; 2]);

    let own = approve(installation, "wv-whole", "alice")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        own.contains("'cloison-guard'") && own.contains("OPS-02/own-approval"),
        "{own}"
    );
    assert_eq!(halves(&client, &ends).await, [false; 2]);

    approve(installation, "wv-whole", "bob").await.unwrap();
    halves_are(&client, &ends, true).await;
    let (status, _) = waiver_says(&client, "wv-whole", "Active", "Active").await;
    assert_eq!(status, "True");
    for text in flow_is(&client, &ends, FlowState::Open).await {
        assert!(
            text.starts_with("open to another stage on TCP 8080 by Waiver wv-whole until "),
            "{text}"
        );
    }
    for (home, name) in [(&ends.0, "road"), (&ends.1, "model")] {
        let named = || async {
            let (_, message) = condition(&client, home, name, "PoliciesIsolate", "True").await;
            if message.contains("but what is permitted by Waiver wv-whole until ") {
                Ok(())
            } else {
                Err(message)
            }
        };
        eventually(PATIENCE, "the verdict names the Waiver", named)
            .await
            .unwrap();
    }

    halves_are(&client, &ends, false).await;
    let api: Api<Waiver> = Api::all(client.clone());
    let until = api.get("wv-whole").await.unwrap().spec.expiration_time.0;
    assert!(Timestamp::now() >= until, "not before its time");
    let (status, _) = waiver_says(&client, "wv-whole", "Active", "Expired").await;
    assert_eq!(status, "False");
    let over = |text: &String| text.contains("Waiver wv-whole opens nothing: it expired at ");
    assert!(flow_is(&client, &ends, FlowState::Refused).await.iter().all(over));
    let plain = || async {
        let (_, message) = condition(&client, &ends.0, "road", "PoliciesIsolate", "True").await;
        if message.contains("Waiver") {
            Err(message)
        } else {
            Ok(())
        }
    };
    eventually(PATIENCE, "the verdict names it no more", plain)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_policy_is_a_path_and_a_deleted_waiver_opens_nothing() {
    let installation = installation().await;
    let client = installation.admin();
    let ends = ends(&client, "wv-wide").await;
    ask(installation, "wv-wide", &ends, Duration::from_secs(3_600)).await;
    approve(installation, "wv-wide", "bob").await.unwrap();
    halves_are(&client, &ends, true).await;
    condition(&client, &ends.0, "road", "PoliciesIsolate", "True").await;

    let peer = |home: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home}}}]);
    let wide = |home: &str, kind: &str, rules: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "wide", "namespace": home},
               "spec": {"podSelector": {}, "policyTypes": [kind], kind.to_lowercase(): rules}})
    };
    let ports = json!([{"port": 8080}]);
    let out = wide(&ends.0, "Egress", json!([{"to": peer(&ends.1), "ports": ports}]));
    let into = wide(&ends.1, "Ingress", json!([{"from": peer(&ends.0), "ports": ports}]));
    for policy in [out, into] {
        // The door has heard of the policy a moment after the controller has.
        eventually(PATIENCE, "the door lets it in", || async {
            apply(&client, policy.clone()).await
        })
        .await
        .unwrap();
    }
    let (reason, message) = condition(&client, &ends.0, "road", "PoliciesIsolate", "False").await;
    assert_eq!(reason, "PathExists", "{message}");
    assert!(
        message.contains("on TCP 8080: allowed by wv-wide-train/wide"),
        "{message}"
    );

    let api: Api<Waiver> = Api::all(client.clone());
    api.delete("wv-wide", &DeleteParams::default()).await.unwrap();
    halves_are(&client, &ends, false).await;
}

/// The limit was lowered after it was asked for: the door let it in, and it opens nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_lasts_too_long_opens_nothing() {
    let installation = installation().await;
    let client = installation.admin();
    let ends = ends(&client, "wv-long").await;
    ask(installation, "wv-long", &ends, Duration::from_secs(80 * 86_400)).await;
    approve(installation, "wv-long", "bob").await.unwrap();
    waiver_says(&client, "wv-long", "Active", "Active").await;
    installation.set_policy(organisation(60)).await;
    let (status, message) = waiver_says(&client, "wv-long", "Active", "TooLong").await;
    assert_eq!(status, "False");
    assert!(
        message.starts_with("OPS-02/too-long it lasts longer than 60 days"),
        "{message}"
    );
    assert_eq!(waiver_says(&client, "wv-long", "Approved", "Approved").await.0, "True");
    eventually(PATIENCE, "the flow says why", || async {
        let said = flow_is(&client, &ends, FlowState::Refused).await;
        if said
            .iter()
            .all(|text| text.contains("Waiver wv-long opens nothing: OPS-02/too-long"))
        {
            Ok(())
        } else {
            Err(said.concat())
        }
    })
    .await
    .unwrap();
    halves_are(&client, &ends, false).await;
}

/// Whether the denies that are stored hold an exception out of training to `model`, and one into inference from `road`.
async fn exceptions(client: &Client, (train, infer): &(String, String)) -> Result<[bool; 2], kube::Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &cluster_policies::resource());
    let mut found = [false; 2];
    for (index, (stage, direction, end, other)) in [
        ("training", "egress", "to", (infer, "model")),
        ("inference", "ingress", "from", (train, "road")),
    ]
    .into_iter()
    .enumerate()
    {
        let policy = api.get(&format!("{}{stage}", names::STAGE_POLICY_PREFIX)).await?;
        let first = &policy.data["spec"][direction][0];
        let pods = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": other.0}},
                          "podSelector": {"matchLabels": {"cloison.dev/workload": other.1}}});
        found[index] = first["action"] == "Pass"
            && first[end] == json!([{"pods": pods}])
            && first["protocols"] == json!([{"tcp": {"destinationPort": {"number": 8080}}}]);
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_denies_of_the_cluster_and_they_close_behind_it() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let network = json!({"clusterCIDRs": ["10.0.0.0/8"], "clusterDeny": "ClusterNetworkPolicy"});
    let installation = &Installation::start(plane, json!({"network": network})).await;
    let client = installation.admin();
    let definition = include_str!("fixtures/clusternetworkpolicies-v0.2.0.yaml");
    apply(&client, serde_saphyr::from_str(definition).unwrap())
        .await
        .unwrap();
    let (ends, others) = (ends(&client, "wv-wall").await, ends(&client, "wv-first").await);
    let walled = |wanted: bool| {
        let (client, ends) = (client.clone(), ends.clone());
        async move {
            eventually(PATIENCE, &format!("exceptions in the denies: {wanted}"), || async {
                match exceptions(&client, &ends).await.map_err(|error| error.to_string())? {
                    found if found == [wanted; 2] => Ok(()),
                    found => Err(format!("{found:?}")),
                }
            })
            .await
            .unwrap();
        }
    };
    walled(false).await;
    // As many others as there is room for: the names decide who comes first.
    let first: Vec<String> = (0..24).map(|index| format!("a-{index:02}")).collect();
    for name in &first {
        ask(installation, name, &others, Duration::from_secs(3600)).await;
        approve(installation, name, "bob").await.unwrap();
    }
    ask(installation, "wv-wall", &ends, Duration::from_secs(3600)).await;
    approve(installation, "wv-wall", "bob").await.unwrap();
    waiver_says(&client, "a-23", "Active", "Active").await;
    let (status, message) = waiver_says(&client, "wv-wall", "Active", "FlowClosed").await;
    assert_eq!(status, "False");
    assert!(message.contains("at most 24 Waivers out of a stage"), "{message}");
    assert_eq!(halves(&client, &ends).await, [false; 2]);
    let api: Api<Waiver> = Api::all(client.clone());
    for name in &first {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    walled(true).await;
    waiver_says(&client, "wv-wall", "Active", "Active").await;
    flow_is(&client, &ends, FlowState::Open).await;
    halves_are(&client, &ends, true).await;
    condition(&client, &ends.0, "road", "PoliciesIsolate", "True").await;
    condition(&client, &ends.1, "model", "PoliciesIsolate", "True").await;

    api.delete("wv-wall", &DeleteParams::default()).await.unwrap();
    flow_is(&client, &ends, FlowState::Refused).await;
    halves_are(&client, &ends, false).await;
    walled(false).await;
}

/// What `plan -f` says of both ends and these Waivers.
fn plan(waivers: &[Value]) -> String {
    let home = |name: &str, stage: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
               "metadata": {"name": name, "labels": {"cloison.dev/stage": stage, "cloison.dev/mode": "enforce"}}})
    };
    let other =
        |name: &str, home: &str| json!([{"workload": {"name": name, "namespace": home}, "ports": [{"port": 8080}]}]);
    let mut all = vec![
        home("t", "training"),
        home("i", "inference"),
        workload("t", "road", "Training", json!({"connectTo": other("model", "i")})),
        workload("i", "model", "Inference", json!({"acceptFrom": other("road", "t")})),
    ];
    all.extend_from_slice(waivers);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.json");
    std::fs::write(
        &file,
        json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string(),
    )
    .unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
    let output = command.arg("plan").arg("-f").arg(&file).env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_plan_judges_by_the_waivers_of_its_input() {
    let until = Timestamp::now() + Duration::from_secs(3_600);
    let waiver = |status: Value| {
        json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "shadow"}, "spec": {
            "target": {"namespace": "t"}, "controls": ["NET-03"],
            "flow": {"from": {"namespace": "t", "workload": "road"}, "to": {"namespace": "i", "workload": "model"},
                     "ports": [{"port": 8080}]},
            "reason": "Shadow evaluation of the new detector", "requestedBy": "alice", "expirationTime": until,
        }, "status": status})
    };
    assert!(
        plan(&[]).contains("ask for a Waiver with a flow from t/road to i/model"),
        "{}",
        plan(&[])
    );
    let asked = plan(&[waiver(json!({}))]);
    assert!(
        asked.contains("Waiver shadow opens nothing: another person must approve it"),
        "{asked}"
    );
    let approval = json!({"approval": {"by": "bob", "time": "2026-01-01T00:00:00Z", "generation": 1}});
    let open = plan(&[waiver(approval)]);
    assert!(
        open.contains("open to another stage on TCP 8080 by Waiver shadow until "),
        "{open}"
    );
}

/// Three days before its end an Event says so, on the object.
#[tokio::test(flavor = "multi_thread")]
async fn three_days_before_its_end_it_is_told() {
    let installation = installation().await;
    let client = installation.admin();
    let ends = ends(&client, "wv-soon").await;
    ask(installation, "wv-soon", &ends, Duration::from_secs(72 * 3_600 + 15)).await;
    approve(installation, "wv-soon", "bob").await.unwrap();
    let (status, message) = waiver_says(&client, "wv-soon", "Active", "ExpiresSoon").await;
    assert!(
        status == "True" && message.contains("at most 72 hours more: ask for the next one"),
        "{message}"
    );
    let said = noted(&client, "wv-soon", "ExpiresSoon", &message).await;
    assert_eq!(said, [message], "once");
}
