//! `plan -n` and `plan -A`: what runs, judged as if it were enforced. Reads with the caller's own rights; what may not be
//! read is said to be unknown.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::loss::{self, Loss};
use super::pods::{self, Refused};
use super::{Arguments, survey, world};
use crate::admission::{Offline, Operator, PolicySet, Waived, as_enforced, generate, is_alive, not_evaluated};
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{Mode, NamespaceStage};
use crate::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use crate::cli::{CliError, FINDINGS, absent, forbidden, out};
use crate::controller::{facts, facts_of, workload_facts};
use crate::network::waivers;
use crate::network::world::{ClusterNetwork, World};

/// Namespaces looked at at once.
const AT_ONCE: usize = 4;

/// What is known about one namespace.
pub(in crate::cli) struct Survey {
    /// Its name.
    pub name: String,
    /// The stage its label names.
    pub stage: Option<NamespaceStage>,
    /// What it looks like, where no label says.
    pub guess: Option<NamespaceStage>,
    /// Its mode.
    pub mode: Mode,
    /// Pods that run or will.
    pub pods: Vec<Value>,
    /// What the door would say to them; `None` in a shared namespace, which is judged by no rule for pods.
    pub(super) refused: Option<Refused>,
    /// What it would lose; `None` where that is not known.
    pub(super) loss: Option<Loss>,
    /// Our deny is in place.
    pub denied: bool,
    /// The seal of this very namespace and stage is on it.
    pub sealed: bool,
    /// Policies of its own limit what it reaches.
    pub limited: bool,
    /// Names of its workloads.
    pub workloads: BTreeSet<String>,
}

/// Surveys and prints.
pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let mut notes = Vec::new();
    let only = arguments.namespace.as_deref();
    let Surveyed { surveys, set, world } = survey_all(&client, only, &arguments.operator_namespace, &mut notes).await?;
    let detailed = only.is_some();
    // With -A, what neither has a stage nor looks as if it should is none of our business.
    let surveys: Vec<Survey> = surveys
        .into_iter()
        .filter(|survey| detailed || survey.stage.or(survey.guess).is_some())
        .collect();
    for clause in not_evaluated(&set) {
        notes.push(format!("not judged here: {}, because it {}", clause.policy, clause.why));
    }
    out::print(&survey::text(&surveys, detailed, &world, &notes))?;
    let refused = surveys.iter().filter_map(|survey| survey.refused.as_ref());
    Ok(if refused.map(|refused| refused.pods).sum::<usize>() > 0 {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// What runs, judged as if it were enforced.
pub(in crate::cli) struct Surveyed {
    /// By namespace.
    pub surveys: Vec<Survey>,
    /// What the door is made of.
    pub set: PolicySet,
    /// What they were judged by.
    pub world: World,
}

/// Surveys one namespace, or all but those that no stage can hold.
pub(in crate::cli) async fn survey_all(
    client: &Client,
    only: Option<&str>,
    operator: &str,
    notes: &mut Vec<String>,
) -> Result<Surveyed, CliError> {
    let now = Timestamp::now();
    let seen = Seen::gather(client, only, operator, now, notes).await?;
    let set = generate(&seen.world.policy, &Operator::in_namespace(operator), &seen.waived, now);
    let offline = Offline::new(&set)?;
    let surveys = futures::stream::iter(&seen.chosen)
        .map(|namespace| survey_one(client, &seen, &offline, namespace))
        .buffered(AT_ONCE)
        .try_collect::<Vec<Survey>>()
        .await?;
    let world = seen.world;
    Ok(Surveyed { surveys, set, world })
}

/// What is read once for all namespaces.
struct Seen {
    world: World,
    waived: Waived,
    chosen: Vec<Namespace>,
    /// `None`: they may not be listed.
    services: Option<Vec<Service>>,
}

impl Seen {
    async fn gather(
        client: &Client,
        only: Option<&str>,
        operator: &str,
        now: Timestamp,
        notes: &mut Vec<String>,
    ) -> Result<Self, CliError> {
        let policy = policy(client, notes).await?;
        let listed = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await;
        let (namespaces, all_known) = match (listed, only) {
            (Ok(list), _) => (list.items, true),
            (Err(error), Some(name)) if forbidden(&error) => {
                let found = Api::<Namespace>::all(client.clone()).get(name).await;
                (
                    vec![found.map_err(CliError::api(format!("get Namespace {name}")))?],
                    false,
                )
            }
            (Err(error), _) => return Err(CliError::api("list Namespaces")(error)),
        };
        let workloads = workloads(client, only, notes).await?;
        let waivers = stored_waivers(client, notes).await?;
        let max_days = policy.waivers.max_days;
        let mut world = World {
            namespaces: namespaces
                .iter()
                .map(|ns| facts_of(ns, &policy))
                .map(|facts| (facts.name.clone(), facts))
                .collect(),
            workloads: workloads
                .iter()
                .filter_map(workload_facts)
                .map(|w| (w.key.clone(), w))
                .collect(),
            waivers: waivers::of(&waivers, max_days, now),
            policy: Arc::new(policy),
            cluster: addresses(client, notes).await?,
            // What is lost is told from the flows alone: nothing here judges policies.
            cluster_policies: Vec::new(),
        };
        if !all_known {
            notes
                .push("you may not list Namespaces: what the catalogue and peers name is taken for granted".to_owned());
            world::others(&mut world, &mut Vec::new());
        }
        let chosen = match only {
            Some(name) => {
                let found: Vec<Namespace> = namespaces.into_iter().filter(|ns| ns.name_any() == name).collect();
                if found.is_empty() {
                    return Err(CliError::Usage(format!("there is no namespace {name:?}")));
                }
                found
            }
            None => namespaces
                .into_iter()
                .filter(|ns| !is_reserved(&ns.name_any(), operator))
                .collect(),
        };
        Ok(Self {
            services: services(client, notes).await?,
            waived: Waived::new(&waivers, &world.policy, now),
            world,
            chosen,
        })
    }
}

/// The cluster's own addresses, by the controller's reading; a tenant may not read them all.
pub(in crate::cli) async fn addresses(client: &Client, notes: &mut Vec<String>) -> Result<ClusterNetwork, CliError> {
    match gather(client).await {
        Ok(found) => Ok(found),
        Err(error) if forbidden(&error) => {
            notes.push(
                "you may not read the cluster's own addresses: DNS and the API servers count as closed".to_owned(),
            );
            Ok(ClusterNetwork::default())
        }
        Err(error) => Err(CliError::api("read the cluster's own addresses")(error)),
    }
}

async fn gather(client: &Client) -> Result<ClusterNetwork, kube::Error> {
    let of_api_servers = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default")
        .list(&of_api_servers)
        .await?;
    let slices: Vec<Arc<EndpointSlice>> = slices.into_iter().map(Arc::new).collect();
    facts::gather(client, &slices).await
}

/// No stage can hold these.
fn is_reserved(name: &str, operator: &str) -> bool {
    name.starts_with("kube-")
        || name == operator
        || name == names::CANARY_NAMESPACE
        || names::PACKETS_NAMESPACES.contains(&name)
}

pub(in crate::cli) async fn policy(client: &Client, notes: &mut Vec<String>) -> Result<AiSecurityPolicySpec, CliError> {
    let found = Api::<AiSecurityPolicy>::all(client.clone()).get(names::SINGLETON).await;
    let why = match found {
        Ok(policy) => return Ok(policy.spec),
        Err(error) if absent(&error) => "there is no AiSecurityPolicy",
        Err(error) if forbidden(&error) => "you may not read the AiSecurityPolicy",
        Err(error) => return Err(CliError::api("get AiSecurityPolicy default")(error)),
    };
    notes.push(format!("{why}: judged by the defaults"));
    Ok(serde_json::from_value(json!({})).map_err(std::io::Error::other)?)
}

async fn workloads(client: &Client, only: Option<&str>, notes: &mut Vec<String>) -> Result<Vec<AiWorkload>, CliError> {
    let all = Api::<AiWorkload>::all(client.clone())
        .list(&ListParams::default())
        .await;
    match (all, only) {
        (Ok(list), _) => Ok(list.items),
        (Err(error), _) if absent(&error) => Ok(Vec::new()),
        (Err(error), Some(namespace)) if forbidden(&error) => {
            let here = Api::<AiWorkload>::namespaced(client.clone(), namespace);
            match here.list(&ListParams::default()).await {
                Ok(list) => {
                    notes.push(
                        "you may not list AiWorkloads elsewhere: flows to other namespaces count as closed".to_owned(),
                    );
                    Ok(list.items)
                }
                Err(error) => Err(CliError::api(format!("list AiWorkloads in {namespace}"))(error)),
            }
        }
        (Err(error), _) => Err(CliError::api("list AiWorkloads")(error)),
    }
}

/// The Waivers. Who may not list them is judged as if there were none.
pub(in crate::cli) async fn stored_waivers(client: &Client, notes: &mut Vec<String>) -> Result<Vec<Waiver>, CliError> {
    match Api::<Waiver>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(error) if absent(&error) => Ok(Vec::new()),
        Err(error) if forbidden(&error) => {
            notes.push("you may not list Waivers: judged as if there were none".to_owned());
            Ok(Vec::new())
        }
        Err(error) => Err(CliError::api("list Waivers")(error)),
    }
}

async fn services(client: &Client, notes: &mut Vec<String>) -> Result<Option<Vec<Service>>, CliError> {
    match Api::<Service>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(Some(list.items)),
        Err(error) if forbidden(&error) => {
            notes.push("what would be lost is not known: you may not list Services of the cluster".to_owned());
            Ok(None)
        }
        Err(error) => Err(CliError::api("list Services")(error)),
    }
}

async fn survey_one(
    client: &Client,
    seen: &Seen,
    offline: &Offline,
    namespace: &Namespace,
) -> Result<Survey, CliError> {
    let name = namespace.name_any();
    let facts = facts_of(namespace, &seen.world.policy);
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, &ApiResource::erase::<Pod>(&()));
    let listed = pods.list(&ListParams::default()).await;
    let listed = listed.map_err(CliError::api(format!("list Pods in {name}")))?;
    let pods = listed.items.iter().filter_map(|pod| serde_json::to_value(pod).ok());
    let pods: Vec<Value> = pods.filter(is_alive).collect();
    let guess = if facts.stage.is_none() {
        pods::looks_like(&pods)
    } else {
        None
    };
    let stage = facts.stage.or(guess).unwrap_or(NamespaceStage::Training);
    let workloads: BTreeSet<String> = seen.world.workloads_in(&name).map(|w| w.key.name.clone()).collect();
    let shared = stage == NamespaceStage::Shared;
    let refused = if shared {
        None
    } else {
        let enforced = as_enforced(&name, &facts.uid, stage, &workloads);
        Some(pods::judge(offline, &pods, &enforced)?)
    };
    let (denied, limited) = own_policies(client, &name).await?;
    // Behind the deny only what is declared is open; a shared namespace keeps its way out.
    let closed = shared || (denied && facts.mode == Mode::Enforce);
    let loss = if closed {
        Some(Loss::default())
    } else {
        let services = seen.services.as_ref();
        services.map(|services| loss::of(&seen.world, &name, services))
    };
    Ok(Survey {
        stage: facts.stage,
        mode: facts.mode,
        name,
        guess,
        pods,
        refused,
        loss,
        sealed: is_sealed(namespace, facts.stage),
        denied,
        limited: limited && !denied,
        workloads,
    })
}

fn is_sealed(namespace: &Namespace, stage: Option<NamespaceStage>) -> bool {
    let (Some(stage), Some(uid)) = (stage, namespace.uid()) else {
        return false;
    };
    namespace.annotations().get(names::SEALED_ANNOTATION) == Some(&format!("{uid}/{stage}"))
}

/// Whether our deny is in place, and whether anything limits what pods reach.
async fn own_policies(client: &Client, namespace: &str) -> Result<(bool, bool), CliError> {
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace);
    let listed = match policies.list(&ListParams::default()).await {
        Ok(listed) => listed.items,
        Err(error) if forbidden(&error) => return Ok((false, false)),
        Err(error) => return Err(CliError::api(format!("list NetworkPolicies in {namespace}"))(error)),
    };
    let limits = |policy: &NetworkPolicy| {
        let types = policy.spec.as_ref().and_then(|spec| spec.policy_types.as_ref());
        types.into_iter().flatten().any(|kind| kind == "Egress")
    };
    let denied = listed.iter().any(|policy| policy.name_any() == names::DENY_POLICY);
    Ok((denied, listed.iter().any(limits)))
}
