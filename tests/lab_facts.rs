//! What Kubernetes does that decides the shape of our policies, on a real API server, and that ours live with it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/audit.rs"]
#[allow(dead_code, reason = "it has more than is needed here")]
mod audit;
#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloison::api::{AiSecurityPolicy, conditions, names};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{LimitRange, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use operator::{IMAGE, PATIENCE, apply};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A cluster with the chart and a controller.
struct Lab {
    plane: ControlPlane,
    _controller: Program,
}

static LAB: OnceCell<Lab> = OnceCell::const_new();

async fn lab() -> &'static Lab {
    LAB.get_or_init(|| async {
        let options = Options {
            api_servers: vec![ApiServerOptions {
                audit_policy: Some(audit::policy()),
                ..ApiServerOptions::default()
            }],
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        let controller = operator::start(&plane).await;
        let admin = plane.admin().unwrap();
        // Administers the cluster, and is bound by our policies like anybody without the verb `bypass`.
        let groups = ["", "networking.k8s.io", "admissionregistration.k8s.io"];
        let everything = json!([{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}]);
        operator::grant(&admin, "root", everything).await;
        operator::healthy(&admin, "train", "Training").await;
        operator::condition(&admin, "train", "steady", "AdmissionEnforced", "True").await;
        Lab {
            plane,
            _controller: controller,
        }
    })
    .await
}

/// A policy of others, and its binding, which selects one namespace and refuses nothing.
fn of_others(param_kind: Value) -> [Value; 2] {
    let meta = json!({"name": "of-others"});
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["limitranges"], "operations": ["CREATE"]});
    let mut policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": meta, "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "true"}]}});
    let home = json!({"matchLabels": {names::NAMESPACE_NAME_LABEL: "its-own"}});
    let mut binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": meta, "spec": {"policyName": "of-others", "validationActions": ["Audit"],
        "matchResources": {"namespaceSelector": home}}});
    if !param_kind.is_null() {
        policy["spec"]["paramKind"] = param_kind;
        binding["spec"]["paramRef"] = json!({"name": "limits", "parameterNotFoundAction": "Allow"});
    }
    [policy, binding]
}

async fn limits(admin: &Client, namespace: &str) -> Result<(), String> {
    let api: Api<LimitRange> = Api::namespaced(admin.clone(), namespace);
    let limits = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"limits": []}})).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry_run, &limits)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Why no policy of ours has a `paramKind`: when its definition is missing, everything that the policy matches is refused,
/// in namespaces that its binding does not select, and though that binding refuses nothing.
#[tokio::test]
async fn parameters_of_a_kind_that_is_missing_refuse_everywhere() {
    let admin = lab().await.plane.admin().unwrap();
    let others = ["default", "kube-system"];
    for object in of_others(Value::Null) {
        apply(&admin, object).await.unwrap();
    }
    for namespace in others {
        limits(&admin, namespace).await.unwrap();
    }
    for object in of_others(json!({"apiVersion": "example.com/v1", "kind": "Limits"})) {
        apply(&admin, object).await.unwrap();
    }
    for namespace in others {
        eventually(PATIENCE, "it is refused", || async {
            match limits(&admin, namespace).await {
                Err(said) if said.contains("of-others") && said.contains("paramKind") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(admin.clone());
    policies.delete("of-others", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "it passes again", || limits(&admin, "kube-system"))
        .await
        .unwrap();
}

/// The specs of our policies and bindings by name.
async fn specs(admin: &Client) -> BTreeMap<String, Value> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=cloison");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(admin.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let policies = policies.list(&ours).await.unwrap().items.into_iter();
    let bindings = bindings.list(&ours).await.unwrap().items.into_iter();
    policies
        .map(|it| (it.name_any(), serde_json::to_value(it.spec).unwrap()))
        .chain(bindings.map(|it| (it.name_any(), serde_json::to_value(it.spec).unwrap())))
        .collect()
}

/// Policies cannot match policies, ours neither: who may write them can switch them off, and is refused nothing. The
/// controller puts them back while it lives.
#[tokio::test]
async fn our_policies_are_not_protected_by_policies_and_are_put_back() {
    let lab = lab().await;
    let admin = lab.plane.admin().unwrap();
    let root = lab.plane.client_as("root", &[]).unwrap();
    let deny = operator::network_policies(&root, "train");
    let dry_run = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    let refused = || async {
        match deny.delete(names::DENY_POLICY, &dry_run).await {
            Err(kube::Error::Api(status)) if status.message.contains("CLU-04/managed-object") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    refused().await.unwrap();
    let before = specs(&admin).await;
    assert!(before.contains_key("cloison-managed") && before.contains_key("cloison-managed-deny"));

    let policies: Api<ValidatingAdmissionPolicy> = Api::all(root.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(root.clone());
    for (name, change) in [
        ("cloison-managed", json!({"metadata": {"annotations": {"a": "b"}}})),
        (
            "cloison-managed",
            json!({"spec": {"failurePolicy": "Ignore", "validations": [{"expression": "true"}]}}),
        ),
        (
            "cloison-pod",
            json!({"spec": {"matchConditions": [{"name": "off", "expression": "false"}]}}),
        ),
    ] {
        let changed = policies
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await;
        changed.unwrap();
    }
    bindings
        .delete("cloison-net-deny", &DeleteParams::default())
        .await
        .unwrap();
    policies
        .delete("cloison-guard", &DeleteParams::default())
        .await
        .unwrap();

    eventually(PATIENCE, "all are put back", || async {
        let now = specs(&admin).await;
        let other: Vec<&String> = before
            .keys()
            .filter(|name| now.get(*name) != before.get(*name))
            .collect();
        if other.is_empty() {
            Ok(())
        } else {
            Err(format!("{other:?}"))
        }
    })
    .await
    .unwrap();
    eventually(PATIENCE, "the deny is protected again", refused)
        .await
        .unwrap();
    what_is_said_to_be_in_force_is(lab).await;
}

/// A policy bites up to a second after it was written. Nobody says before that it does: the first request after the word is
/// refused, and by the policies that the word is about.
async fn what_is_said_to_be_in_force_is(lab: &Lab) {
    let admin = lab.plane.admin().unwrap();
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let deny = operator::network_policies(&lab.plane.client_as("root", &[]).unwrap(), "train");
    let dry_run = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    let mut known = settings
        .get(names::SINGLETON)
        .await
        .unwrap()
        .status
        .unwrap()
        .policy_hash;
    for uses in [json!(["SocialScoring"]), json!([])] {
        let change = Patch::Merge(json!({"spec": {"prohibitedUses": uses}}));
        settings
            .patch(names::SINGLETON, &PatchParams::default(), &change)
            .await
            .unwrap();
        let hash = eventually(PATIENCE, "the policies are proven", || async {
            let status = settings
                .get(names::SINGLETON)
                .await
                .map_err(|error| error.to_string())?
                .status
                .unwrap_or_default();
            let found = conditions::find(&status.conditions, "AdmissionEnforced");
            match (found, &status.policy_hash) {
                (Some(found), Some(hash))
                    if status.policy_hash != known && found.status == "True" && found.message.contains(hash) =>
                {
                    Ok(hash.clone())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        match deny.delete(names::DENY_POLICY, &dry_run).await {
            Err(kube::Error::Api(status)) if status.message.contains(&format!("[cloison {hash}] ")) => {}
            other => panic!("{hash} is not in force: {other:?}"),
        }
        known = Some(hash);
    }
}

/// A namespace with a pod.
async fn inhabited(lab: &Lab, namespace: &str, stage: &str, mode: &str) {
    let admin = lab.plane.admin().unwrap();
    operator::namespace(&admin, namespace, stage, Some(mode)).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    eventually(PATIENCE, "the account", || accounts.get("default"))
        .await
        .unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p1", "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": IMAGE}]}});
    apply(&admin, pod).await.unwrap();
}

/// One more debug container that holds on to its node: two policies of ours find something in it. Returns the warnings. No
/// canary proves the bindings of audit and warn, so the first may come before an API server has them.
async fn debugged(lab: &Lab, namespace: &str, round: usize) -> Vec<String> {
    let container = json!({"name": format!("d{round}"), "image": IMAGE, "securityContext": {"privileged": true}});
    let change = json!({"spec": {"ephemeralContainers": [container]}});
    let request = http::Request::patch(format!("/api/v1/namespaces/{namespace}/pods/p1/ephemeralcontainers"))
        .header("content-type", "application/strategic-merge-patch+json")
        .body(serde_json::to_vec(&change).unwrap().into())
        .unwrap();
    let root = lab.plane.client_as("root", &[]).unwrap();
    let response = root.send(request).await.unwrap();
    assert!(response.status().is_success(), "{:?}", response.status());
    let warnings = response.headers().get_all("warning").iter();
    warnings.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// What the audit log says of the debug container of this round.
async fn annotations(lab: &Lab, namespace: &str, round: usize) -> Value {
    eventually(PATIENCE, "the event", || async {
        let log = std::fs::read_to_string(lab.plane.api_server(0).audit_log()).map_err(|error| error.to_string())?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let about = |event: &Value| {
            event["stage"] == "ResponseComplete"
                && event["objectRef"]["subresource"] == "ephemeralcontainers"
                && event["objectRef"]["namespace"] == namespace
        };
        let mut events = events.filter(about);
        events
            .nth(round)
            .map(|event| event["annotations"].clone())
            .ok_or_else(|| "none yet".to_owned())
    })
    .await
    .unwrap()
}

/// The API server keeps one audit annotation for the refusals that a mode takes the force of, whoever else would have
/// refused. What is only reported has a key for each policy, so it is not lost beside another's.
#[tokio::test]
async fn what_two_policies_find_is_heard_and_noted_under_two_keys() {
    const WOULD_BE: &str = "validation.policy.admission.k8s.io/validation_failure";
    let lab = lab().await;
    inhabited(lab, "noted", "training", "audit").await;
    let rounds = AtomicUsize::new(0);
    eventually(PATIENCE, "both are noted", async || {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        debugged(lab, "noted", round).await;
        let noted = annotations(lab, "noted", round).await;
        let says = |key: &str, rule: &str| noted[key].as_str().is_some_and(|text| text.contains(rule));
        let both = says(WOULD_BE, "WKL-01/privileged") && says("cloison-connect/observed", "WKL-06/debug");
        if both { Ok(()) } else { Err(format!("{noted:#}")) }
    })
    .await
    .unwrap();

    // Both would be refused for inference: whoever asks is warned of both, and the audit log keeps one.
    inhabited(lab, "heard", "inference", "warn").await;
    let rounds = AtomicUsize::new(0);
    let last = eventually(PATIENCE, "both are heard", async || {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        let heard = debugged(lab, "heard", round).await;
        let of = |policy: &str, rule: &str| heard.iter().any(|it| it.contains(policy) && it.contains(rule));
        let both = of("cloison-pod-warn", "WKL-01/privileged") && of("cloison-connect-warn", "WKL-06/debug");
        if both { Ok(round) } else { Err(format!("{heard:?}")) }
    })
    .await
    .unwrap();
    let kept = annotations(lab, "heard", last).await[WOULD_BE].to_string();
    let both = ["WKL-01/privileged", "WKL-06/debug"].map(|rule| kept.contains(rule));
    assert_ne!(both[0], both[1], "{kept}");
}

/// A name that the API server makes is made before we judge: a refusal names the object as it would have been.
#[tokio::test]
async fn a_generated_name_is_final_when_it_is_refused() {
    let lab = lab().await;
    let alice = lab.plane.tenant("alice", "train", "edit").await.unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(alice, "train");
    let secret = json!({"metadata": {"generateName": "token-", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token"});
    let secret = serde_json::from_value(secret).unwrap();
    let said = eventually(PATIENCE, "it is refused", || async {
        match secrets.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.message.contains("IAM-06/token-secret") => {
                Ok(status.message.clone())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    let name = said
        .split("Secret \"token-")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert!(name.is_some_and(|made| made.len() == 5), "{said}");
}
