//! All problems of a pod, where a refusal had room for three: the same expressions, evaluated here.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;

use crate::admission::{Offline, Operator, Request, Waived, generate};
use crate::api::{AiSecurityPolicy, Waiver, names};
use crate::cli::dry_run::refusal::Problem;

/// Empty where the policy may not be read.
pub(super) async fn problems(client: &Client, namespace: &str, pod: &Value, operator: &str) -> Vec<Problem> {
    let policy = Api::<AiSecurityPolicy>::all(client.clone()).get(names::SINGLETON).await;
    let home = Api::<Namespace>::all(client.clone()).get(namespace).await;
    let (Ok(policy), Ok(home)) = (policy, home) else {
        return Vec::new();
    };
    let waivers = Api::<Waiver>::all(client.clone()).list(&ListParams::default()).await;
    // Who may not read them is told of what they waive as well.
    let waivers = waivers.map(|list| list.items).unwrap_or_default();
    let now = Timestamp::now();
    let waived = Waived::new(&waivers, &policy.spec, now);
    let set = generate(&policy.spec, &Operator::in_namespace(operator), &waived, now);
    let home = serde_json::to_value(&home).unwrap_or_default();
    let judged = Offline::new(&set).and_then(|offline| offline.judge_pod(pod, &home, &Request::default()));
    let problems = judged.map(|verdict| verdict.problems).unwrap_or_default();
    problems
        .into_iter()
        .map(|finding| Problem {
            rule: finding.rule,
            message: finding.message,
        })
        .collect()
}
