//! The cluster as it is, by the functions and the readings of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::{Arguments, Found, environment, sharing};
use crate::admission::{Judged, Offline, Operator, Scan, Told, Waived, generate};
use crate::api::stage::Mode;
use crate::api::{AiWorkload, Waiver};
use crate::cli::findings::{Case, SeenPod};
use crate::cli::snapshot::running;
use crate::cli::{CliError, absent, forbidden, plan};
use crate::compliance::id::OPS_02;
use crate::compliance::{Finding, Subject, waiver, worst};
use crate::controller::{facts_of, unmodelled_policies, workload_facts};
use crate::network::reach::concrete;
use crate::network::waivers;
use crate::network::world::World;

pub(super) async fn read(arguments: &Arguments) -> Result<Found, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let mut notes = Vec::new();
    let policy = plan::stored_policy(&client, &mut notes).await?;
    let all = ListParams::default();
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await;
    let namespaces = namespaces.map_err(CliError::api("list Namespaces"))?.items;
    let stored = Api::<NetworkPolicy>::all(client.clone()).list(&all).await;
    let stored = stored.map_err(CliError::api("list NetworkPolicies"))?.items;
    let workloads = match Api::<AiWorkload>::all(client.clone()).list(&all).await {
        Ok(list) => list.items,
        Err(error) if absent(&error) => Vec::new(),
        Err(error) => return Err(CliError::api("list AiWorkloads")(error)),
    };
    let others = unmodelled_policies(&client).await;
    let facts = namespaces.iter().map(|namespace| facts_of(namespace, &policy));
    let facts: BTreeMap<_, _> = facts.map(|facts| (facts.name.clone(), facts)).collect();
    let known = workloads.iter().filter_map(workload_facts);
    let stored_waivers = plan::stored_waivers(&client, &mut notes).await?;
    let (now, max_days) = (Timestamp::now(), policy.waivers.max_days);
    let world = World {
        namespaces: facts,
        workloads: known.map(|workload| (workload.key.clone(), workload)).collect(),
        waivers: waivers::of(&stored_waivers, max_days, now),
        policy: Arc::new(policy),
        cluster: plan::addresses(&client, &mut notes).await?,
        cluster_policies: others.cluster_policies(),
    };
    let pods = pods(&client, &mut notes).await?;
    let seen: Vec<SeenPod> = pods.iter().filter_map(running).map(seen).collect();
    let set = generate(
        &world.policy,
        &Operator::in_namespace(&arguments.operator_namespace),
        &Waived::new(&stored_waivers, &world.policy, now),
        now,
    );
    let case = Case {
        world: &world,
        stored: &stored,
        unmodelled: &others.unmodelled,
        pods: &seen,
        objects: None,
    };
    let mut findings = plan::network(&world).1;
    findings.extend(plan::admission(workloads.iter(), stored.iter(), &world, &set)?);
    findings.extend(case.findings());
    findings.extend(overdue(&stored_waivers, now));
    let pods: Vec<Value> = pods.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect();
    findings.extend(sharing::read(&client, &pods, &workloads, &world, &mut notes).await?);
    let offline = Offline::new(&set)?;
    let mut told = scan(&pods, &world, &offline);
    told.extend(environment::read(&client, &pods, &world, &offline, &mut notes).await?);
    let only_reported = told.iter().filter(|told| !is_refused(told, &world));
    let reported = only_reported.map(|told| told.finding.clone()).collect();
    findings.extend(told.into_iter().map(|told| told.finding));
    Ok(Found {
        findings: worst(findings, usize::MAX),
        known: None,
        reported,
        notes,
        makers: Vec::new(),
        problems: Vec::new(),
        world,
        files: BTreeSet::new(),
    })
}

/// What is against the pods that run by the rules at the door, as the controller's scan finds it.
fn scan(pods: &[Value], world: &World, offline: &Offline) -> Vec<Told> {
    let mut by_namespace: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for pod in pods {
        by_namespace.entry(namespace_of(pod)).or_default().push(pod);
    }
    let scanned = by_namespace.into_iter().filter_map(|(namespace, pods)| {
        let mut scan = Scan::of(world, namespace, RandomState::new(), Judged::default())?;
        pods.into_iter().for_each(|pod| scan.judge(offline, pod));
        Some(scan.ended().0)
    });
    scanned.flat_map(BTreeMap::into_values).flatten().collect()
}

/// The namespace of an object, as the API spells it.
pub(super) fn namespace_of(object: &Value) -> &str {
    let namespace = object.pointer("/metadata/namespace");
    namespace.and_then(Value::as_str).unwrap_or_default()
}

/// Whether the API server would refuse such a pod now. What it only reports is told, and counts for nothing.
fn is_refused(told: &Told, world: &World) -> bool {
    let namespace = told.finding.subject.namespace.as_deref().unwrap_or_default();
    let facts = world.namespaces.get(namespace);
    told.refused && facts.is_some_and(|facts| facts.mode == Mode::Enforce)
}

/// Flows that may be open past the end of their Waivers: nobody was there to close them.
fn overdue(waivers: &[Waiver], now: Timestamp) -> impl Iterator<Item = Finding> {
    let overdue = waivers.iter().filter(move |it| waiver::is_overdue(it, now));
    overdue.map(|it| {
        let subject = Subject::cluster("Waiver", it.name_any());
        let message = format!(
            "its time ended at {}, and its flow may be open",
            it.spec.expiration_time.0
        );
        Finding::new(OPS_02.rule("overdue"), subject, message)
    })
}

async fn pods(client: &Client, notes: &mut Vec<String>) -> Result<Vec<Pod>, CliError> {
    match Api::<Pod>::all(client.clone()).list(&ListParams::default()).await {
        Ok(pods) => Ok(pods.items),
        Err(error) if forbidden(&error) => {
            notes.push(
                "you may not list Pods: flows are judged for the least that a pod of a workload can be, and running pods by \
                 no rule for pods"
                    .to_owned(),
            );
            Ok(Vec::new())
        }
        Err(error) => Err(CliError::api("list Pods")(error)),
    }
}

fn seen(pod: concrete::Pod) -> SeenPod {
    SeenPod {
        pod,
        at: None,
        own: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compliance::id::WKL_01;
    use crate::network::world::Namespace;

    #[test]
    fn what_a_namespace_does_not_refuse_counts_for_nothing() {
        let refused = |mode: Mode, refused: bool| {
            let mut world = World::default();
            let namespace = Namespace {
                name: "n".to_owned(),
                uid: String::new(),
                labels: BTreeMap::new(),
                stage: None,
                mode,
                terminating: false,
            };
            world.namespaces.insert("n".to_owned(), namespace);
            let subject = Subject::namespaced("AiWorkload", "n", "w");
            let finding = Finding::new(WKL_01, subject, "a running pod");
            is_refused(&Told { finding, refused }, &world)
        };
        assert!(refused(Mode::Enforce, true));
        assert!(!refused(Mode::Enforce, false), "the control is in mode Audit");
        assert!(!refused(Mode::Audit, true) && !refused(Mode::Warn, true));
    }
}
