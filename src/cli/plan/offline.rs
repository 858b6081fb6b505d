//! `plan -f`: what the controller would write for these manifests, and what is against them. No cluster is asked.

use std::collections::BTreeMap;
use std::process::ExitCode;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{Arguments, Output, print, world};
use crate::admission::{Offline, Operator, PolicySet, Request, generate};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::Mode;
use crate::api::workload::FlowStatus;
use crate::cli::manifests::{Manifests, Objects, Problem};
use crate::cli::{CliError, FINDINGS, UNREADABLE, out};
use crate::compliance::id::{NET_02, NET_03};
use crate::compliance::{Assurance, Finding, Location, Severity, Subject, worst};
use crate::network::flows::Resolver;
use crate::network::reach::{self, Isolation};
use crate::network::world::{WorkloadKey, World};
use crate::network::{drift, policies};

/// Everything there is to say.
pub(super) struct Plan {
    /// What it was judged in.
    pub world: World,
    /// What was assumed.
    pub notes: Vec<String>,
    /// By namespace and name; also of namespaces where nothing is written yet.
    pub policies: Vec<NetworkPolicy>,
    /// Generated, if they were asked for.
    pub admission: Option<PolicySet>,
    /// Every declared and automatic flow.
    pub flows: Vec<(WorkloadKey, FlowStatus)>,
    /// Gravest first, with file and line.
    pub findings: Vec<Finding>,
}

/// Reads, judges, prints.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let home = arguments.namespace.as_deref().unwrap_or("default");
    let mut objects = Objects::of(Manifests::read(&arguments.files), home);
    let mut notes = Vec::new();
    if let Some(path) = &arguments.policy {
        let chosen = Objects::of(Manifests::read(std::slice::from_ref(path)), home);
        objects.problems.extend(chosen.problems);
        if chosen.policies.is_empty() {
            tell(&objects.problems);
            return Err(CliError::Usage(format!(
                "{} holds no readable AiSecurityPolicy",
                path.display()
            )));
        }
        if let Some(aside) = objects.policy() {
            notes.push(format!(
                "AiSecurityPolicy at {} is set aside for --policy",
                aside.document.locate("")
            ));
        }
        objects.policies = chosen.policies;
    }
    let plan = judge(&objects, arguments, notes)?;
    tell(&objects.problems);
    match arguments.output {
        Some(Output::Yaml) => {
            eprint!("{}", print::remarks(&plan));
            out::print(&print::yaml(&plan)?)?;
        }
        None => out::print(&print::tables(&plan, objects.problems.is_empty()))?,
    }
    Ok(if !objects.problems.is_empty() {
        ExitCode::from(UNREADABLE)
    } else if plan.findings.iter().any(|finding| finding.severity >= Severity::Medium) {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// What nothing was said about.
fn passed_over(objects: &Objects) -> Option<String> {
    let kinds = objects
        .passed_over
        .iter()
        .map(|(kind, number)| format!("{number} {kind}"));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let number = out::count(objects.passed_over.values().sum(), "document");
    (!kinds.is_empty()).then(|| {
        format!(
            "{number} of other kinds not judged here: {kinds}; once pods run, `cloison plan -n NAMESPACE` judges them"
        )
    })
}

/// What could not be read, with file, line and field.
fn tell(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}

fn judge(objects: &Objects, arguments: &Arguments, mut notes: Vec<String>) -> Result<Plan, CliError> {
    if objects.policy().is_none() {
        let readable = if objects.problems.is_empty() { "" } else { "readable " };
        notes.push(format!(
            "no {readable}AiSecurityPolicy in the input: judged by the defaults"
        ));
    }
    let spec = policy(objects)?;
    let operator = Operator::in_namespace(&arguments.operator_namespace);
    let set = generate(&spec, &operator, Timestamp::now());
    let (world, assumed) = world::of(objects, spec, arguments.as_enforced);
    notes.extend(assumed);
    notes.extend(passed_over(objects));
    let mut policies = policies::all(&world);
    let (flows, mut findings) = network(&world);
    findings.extend(isolation(objects, &world, &policies));
    findings.extend(unknown_stages(objects, &world));
    // The namespace of a peer was assumed to judge the flow; what is written there is for its own manifests to say.
    policies.retain(|policy| {
        let namespace = policy.namespace().unwrap_or_default();
        world.workloads_in(&namespace).next().is_some() || objects.namespaces.contains_key(&(String::new(), namespace))
    });
    let refused = admission(objects, &world, &set)?;
    // Both legs know the stage of a namespace; the network leg names the field.
    let said = |finding: &Finding| {
        findings
            .iter()
            .any(|f| f.rule == finding.rule && f.subject == finding.subject)
    };
    let refused: Vec<Finding> = refused.into_iter().filter(|finding| !said(finding)).collect();
    findings.extend(refused);
    let findings = findings.into_iter().map(|finding| locate(objects, finding));
    Ok(Plan {
        findings: worst(findings, usize::MAX),
        admission: arguments.admission.then_some(set),
        world,
        notes,
        policies,
        flows,
    })
}

/// The policy in the input, or the one of an installation that nobody configured.
fn policy(objects: &Objects) -> Result<AiSecurityPolicySpec, CliError> {
    match objects.policy() {
        Some(policy) => Ok(policy.object.spec.clone()),
        // The schema's defaults are in the deserializer, not in `Default`.
        None => Ok(serde_json::from_value(json!({})).map_err(std::io::Error::other)?),
    }
}

/// The world of what is in the input, and what was assumed.
pub(in crate::cli) fn world_of(objects: &Objects) -> Result<(World, Vec<String>), CliError> {
    Ok(world::of(objects, policy(objects)?, false))
}

/// The NetworkPolicies that the operator would write for what is in the input: in namespaces of mode Enforce.
pub(in crate::cli) fn planned(objects: &Objects) -> Result<Vec<NetworkPolicy>, CliError> {
    let (world, _) = world_of(objects)?;
    let mut policies = policies::all(&world);
    policies.retain(|policy| {
        let namespace = policy.namespace().unwrap_or_default();
        let enforced = world
            .namespaces
            .get(&namespace)
            .is_some_and(|facts| facts.mode == Mode::Enforce);
        enforced && objects.namespaces.contains_key(&(String::new(), namespace))
    });
    Ok(policies)
}

fn network(world: &World) -> (Vec<(WorkloadKey, FlowStatus)>, Vec<Finding>) {
    let resolver = Resolver::new(world);
    let (mut flows, mut findings) = (Vec::new(), Vec::new());
    for (key, workload) in &world.workloads {
        let of_workload = resolver.resolve(workload);
        flows.extend(of_workload.statuses.into_iter().map(|flow| (key.clone(), flow)));
        findings.extend(of_workload.findings);
    }
    (flows, findings)
}

/// The analysis of the policies in the input together with those that would be written.
fn isolation(objects: &Objects, world: &World, planned: &[NetworkPolicy]) -> Vec<Finding> {
    let written = objects.network_policies.values().map(|found| &found.object);
    let all: BTreeMap<(String, String), &NetworkPolicy> = written
        .chain(planned)
        .map(|policy| ((policy.namespace().unwrap_or_default(), policy.name_any()), policy))
        .collect();
    let all: Vec<NetworkPolicy> = all.into_values().cloned().collect();
    let analysis = reach::analyse(world, &all, &[]);
    let mut findings: Vec<Finding> = analysis.findings.into_values().flatten().collect();
    for (namespace, isolation) in analysis.namespaces {
        let subject = Subject::cluster("Namespace", namespace);
        match isolation {
            Isolation::Isolated => {}
            Isolation::PathExists(witness) => {
                findings.push(Finding::new(NET_03.rule("path"), subject, witness.to_string()));
            }
            Isolation::Unknown { message, .. } => {
                let rule = NET_03.rule("cni-dependent");
                findings.push(Finding::new(rule, subject, message).with_assurance(Assurance::Unknown));
            }
        }
    }
    findings
}

fn unknown_stages(objects: &Objects, world: &World) -> Vec<Finding> {
    let unknown = |facts: &crate::network::world::Namespace| {
        let label = facts.labels.get(names::STAGE_LABEL).filter(|_| facts.stage.is_none())?;
        let message = format!("the label {} is {label:?}", names::STAGE_LABEL);
        let subject = Subject::cluster("Namespace", &facts.name);
        Some(Finding::new(NET_02.rule("unknown-stage"), subject, message).at(Location::field("metadata.labels")))
    };
    let known = |facts: &&crate::network::world::Namespace| {
        objects.namespaces.contains_key(&(String::new(), facts.name.clone()))
    };
    world.namespaces.values().filter(known).filter_map(unknown).collect()
}

/// What the door would say to each workload, and to each NetworkPolicy that is not the operator's: the very
/// expressions, evaluated here.
fn admission(objects: &Objects, world: &World, set: &PolicySet) -> Result<Vec<Finding>, CliError> {
    let theirs = objects.network_policies.values();
    let theirs: Vec<&NetworkPolicy> = theirs
        .map(|found| &found.object)
        .filter(|policy| !drift::is_ours(&policy.metadata))
        .collect();
    if objects.workloads.is_empty() && theirs.is_empty() {
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
    for found in objects.workloads.values() {
        let workload = serde_json::to_value(&found.object).map_err(std::io::Error::other)?;
        let home = namespace(found.object.namespace());
        findings.extend(offline.judge_workload(&workload, &home, &request)?.problems);
    }
    for policy in theirs {
        let home = namespace(policy.namespace());
        let policy = serde_json::to_value(policy).map_err(std::io::Error::other)?;
        findings.extend(offline.judge_network_policy(&policy, &home, &request)?.problems);
    }
    Ok(findings)
}

/// The file and line of a finding, where its subject was read from one.
fn locate(objects: &Objects, finding: Finding) -> Finding {
    let Subject { kind, namespace, name } = &finding.subject;
    let key = (namespace.clone().unwrap_or_default(), name.clone());
    let document = match kind.as_str() {
        "AiWorkload" => objects.workloads.get(&key).map(|found| &found.document),
        "NetworkPolicy" => objects.network_policies.get(&key).map(|found| &found.document),
        "Namespace" => objects.namespaces.get(&key).map(|found| &found.document),
        _ => None,
    };
    let Some(document) = document else { return finding };
    let field = finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default();
    finding.at(document.locate(&field))
}
