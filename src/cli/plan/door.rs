//! What the door would say to these objects. No API server is asked.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use crate::admission::review::tenant_policy_in_a_file;
use crate::admission::{Offline, PolicySet, Request};
use crate::api::AiWorkload;
use crate::cli::CliError;
use crate::compliance::id::NET_10;
use crate::compliance::{Assurance, Finding, Subject};
use crate::network::drift;
use crate::network::world::World;

/// The most rules and peers of one policy that are judged here. The evaluator copies a list for each of its items: 1,000
/// rules take 14 seconds, and each twice as many four times as long. An API server has no such trouble.
const MOST: usize = 300;

/// What the door would say to each workload, and to each NetworkPolicy that is not the operator's: the very
/// expressions, evaluated here, and what the webhook would say of a tenant's policy.
pub(in crate::cli) fn admission<'o>(
    workloads: impl Iterator<Item = &'o AiWorkload>,
    policies: impl Iterator<Item = &'o NetworkPolicy>,
    world: &World,
    set: &PolicySet,
) -> Result<Vec<Finding>, CliError> {
    let theirs = |policy: &&NetworkPolicy| !drift::is_ours(&policy.metadata);
    let mut policies = policies.filter(theirs).peekable();
    let mut workloads = workloads.peekable();
    if workloads.peek().is_none() && policies.peek().is_none() {
        return Ok(Vec::new());
    }
    let offline = Offline::new(set)?;
    let namespace = |name: Option<String>| {
        let labels = name
            .as_ref()
            .and_then(|name| world.namespaces.get(name))
            .map(|facts| &facts.labels);
        json!({"metadata": {"name": name, "labels": labels}})
    };
    let request = Request::default();
    let mut findings = Vec::new();
    for found in workloads {
        let workload = serde_json::to_value(found).map_err(std::io::Error::other)?;
        let home = namespace(found.namespace());
        findings.extend(offline.judge_workload(&workload, &home, &request)?.problems);
    }
    for found in policies {
        findings.extend(tenant_policy_in_a_file(world, found, Timestamp::now()));
        if size(found) > MOST {
            findings.push(too_large(found));
            continue;
        }
        let policy = serde_json::to_value(found).map_err(std::io::Error::other)?;
        let home = namespace(found.namespace());
        findings.extend(offline.judge_network_policy(&policy, &home, &request)?.problems);
    }
    Ok(findings)
}

fn size(policy: &NetworkPolicy) -> usize {
    let Some(spec) = &policy.spec else { return 0 };
    let egress = |rule: &NetworkPolicyEgressRule| 1 + rule.to.as_ref().map_or(0, Vec::len);
    let ingress = |rule: &NetworkPolicyIngressRule| 1 + rule.from.as_ref().map_or(0, Vec::len);
    let out: usize = spec.egress.iter().flatten().map(egress).sum();
    out + spec.ingress.iter().flatten().map(ingress).sum::<usize>()
}

fn too_large(policy: &NetworkPolicy) -> Finding {
    let subject = Subject::namespaced(
        "NetworkPolicy",
        policy.namespace().unwrap_or_default(),
        policy.name_any(),
    );
    let message =
        format!("it has more than {MOST} rules and peers: whether the API server would refuse it is not judged here");
    Finding::new(NET_10.rule("unjudged"), subject, message).with_assurance(Assurance::Unknown)
}
