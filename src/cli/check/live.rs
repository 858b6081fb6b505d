//! The cluster as it is, by the functions and the readings of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Arguments, Found};
use crate::admission::{Operator, Waived, generate};
use crate::api::AiWorkload;
use crate::cli::findings::{Case, SeenPod};
use crate::cli::snapshot::running;
use crate::cli::{CliError, absent, forbidden, plan};
use crate::compliance::worst;
use crate::controller::{facts_of, unmodelled_policies, workload_facts};
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
        pods: &pods,
        objects: None,
    };
    let mut findings = plan::network(&world).1;
    findings.extend(plan::admission(workloads.iter(), stored.iter(), &world, &set)?);
    findings.extend(case.findings());
    Ok(Found {
        findings: worst(findings, usize::MAX),
        known: None,
        reported: BTreeSet::new(),
        notes,
        makers: Vec::new(),
        problems: Vec::new(),
        world,
        files: BTreeSet::new(),
    })
}

async fn pods(client: &Client, notes: &mut Vec<String>) -> Result<Vec<SeenPod>, CliError> {
    let seen = |pod| SeenPod {
        pod,
        at: None,
        own: true,
    };
    match Api::<Pod>::all(client.clone()).list(&ListParams::default()).await {
        Ok(pods) => Ok(pods.iter().filter_map(running).map(seen).collect()),
        Err(error) if forbidden(&error) => {
            notes.push(
                "you may not list Pods: flows are judged for the least that a pod of a workload can be".to_owned(),
            );
            Ok(Vec::new())
        }
        Err(error) => Err(CliError::api("list Pods")(error)),
    }
}
