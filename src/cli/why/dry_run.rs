//! Whether the API server would admit a pod now: asked, not guessed, with the caller's own rights.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

use super::refusal::{self, Problem, Refusal};
use crate::admission::{Offline, Operator, Request, Waived, generate};
use crate::api::{AiSecurityPolicy, Waiver, names};

/// What the API server said.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It would be admitted.
    Admitted,
    /// A policy of ours refuses it.
    Refused(Refusal),
    /// Something else refuses it, in these words.
    RefusedByOther(String),
    /// No answer.
    Unknown(String),
}

/// Asks.
pub(super) async fn ask(client: &Client, namespace: &str, pod: &Value) -> Answer {
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let object: DynamicObject = match serde_json::from_value(pod.clone()) {
        Ok(object) => object,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&params, &object).await {
        Ok(_) => Answer::Admitted,
        Err(kube::Error::Api(status)) if [400, 403, 422].contains(&status.code) => {
            match refusal::parse(&status.message) {
                Some(refusal) => Answer::Refused(refusal),
                None => Answer::RefusedByOther(status.message.clone()),
            }
        }
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

/// All problems of a pod, where a refusal had room for three: the same expressions, evaluated here. Empty where the
/// policy may not be read.
pub(super) async fn all(client: &Client, namespace: &str, pod: &Value, operator: &str) -> Vec<Problem> {
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
