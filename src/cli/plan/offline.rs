//! `plan -f`: what the controller would write for these manifests, and what is against them. No cluster is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::input::{Input, Sources};
use super::{Arguments, Output, door, print, templates, world};
use crate::admission::{Operator, PolicySet, Waived, generate, not_evaluated};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::Mode;
use crate::api::workload::FlowStatus;
use crate::cli::findings::{Case, is_report};
use crate::cli::manifests::{Objects, Problem};
use crate::cli::{CliError, FINDINGS, UNREADABLE, out};
use crate::compliance::id::NET_02;
use crate::compliance::{Assurance, Finding, Location, Severity, Subject, worst};
use crate::network::flows::Resolver;
use crate::network::policies;
use crate::network::reach::UnmodelledPolicy;
use crate::network::world::{WorkloadKey, World};

/// Everything there is to say.
pub(in crate::cli) struct Plan {
    /// What it was judged in.
    pub world: World,
    /// What was assumed.
    pub notes: Vec<String>,
    /// By namespace and name; also of namespaces where nothing is written yet.
    pub policies: Vec<NetworkPolicy>,
    /// The generated admission policies; `None` where they are not shown.
    pub admission: Option<PolicySet>,
    /// Every declared and automatic flow.
    pub flows: Vec<(WorkloadKey, FlowStatus)>,
    /// Gravest first, with file and line.
    pub findings: Vec<Finding>,
    /// Those of pods and settings that the API server would not refuse for.
    pub reported: BTreeSet<Finding>,
}

/// Reads, judges, prints.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let sources = Sources {
        files: &arguments.files,
        home: arguments.namespace.as_deref(),
        policy: arguments.policy.as_deref(),
        beside: &[],
    };
    let input = sources.read()?;
    let as_enforced = arguments.as_enforced;
    let mut plan = judge(&input, &arguments.operator_namespace, as_enforced)?;
    if !arguments.admission {
        plan.admission = None;
    }
    let objects = &input.objects;
    tell(&objects.problems);
    match arguments.output {
        Some(Output::Yaml) => {
            eprint!("{}", print::remarks(&plan));
            out::print(&print::yaml(&plan)?)?;
        }
        None => out::print(&print::tables(&plan, objects.problems.is_empty()))?,
    }
    Ok(exit_code(
        &objects.problems,
        &plan.findings,
        &plan.reported,
        &plan.world,
    ))
}

/// Whether a finding alone makes a run fail. What is not known blocks nobody: it is told, and counts neither for nor against.
/// Nor does what is only reported.
pub(in crate::cli) fn is_against(finding: &Finding, reported: &BTreeSet<Finding>, world: &World) -> bool {
    let counts = finding.assurance != Assurance::Unknown && finding.severity >= Severity::Medium;
    counts && !reported.contains(finding) && !is_report(finding, world)
}

/// What a run ends with.
pub(in crate::cli) fn exit_code(
    problems: &[Problem],
    findings: &[Finding],
    reported: &BTreeSet<Finding>,
    world: &World,
) -> ExitCode {
    if !problems.is_empty() {
        ExitCode::from(UNREADABLE)
    } else if findings.iter().any(|finding| is_against(finding, reported, world)) {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    }
}

/// What is judged by, where the input does not say.
pub(super) fn without_policy(objects: &Objects) -> Option<String> {
    let readable = if objects.problems.is_empty() { "" } else { "readable " };
    let note = || format!("no {readable}AiSecurityPolicy in the input: judged by the defaults");
    objects.policy().is_none().then(note)
}

/// What nothing was said about: neither a kind that verdicts depend on, nor one whose pods were `judged`.
fn passed_over(objects: &Objects, judged: &BTreeMap<String, usize>) -> Option<String> {
    let mut left = objects.passed_over.clone();
    for (kind, number) in judged {
        let of_kind = left.entry(kind.clone()).or_default();
        *of_kind = of_kind.saturating_sub(*number);
    }
    left.retain(|_, number| *number > 0);
    let kinds = left.iter().map(|(kind, number)| format!("{number} {kind}"));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let number = out::count(left.values().sum(), "document");
    (!kinds.is_empty()).then(|| {
        format!(
            "{number} of other kinds not judged here: {kinds}; once pods run, `cloison plan -n NAMESPACE` judges them"
        )
    })
}

/// What only an API server can judge.
fn asked_of_the_api_server(set: &PolicySet) -> Option<String> {
    let clauses = not_evaluated(set);
    let why = clauses.first()?.why;
    let names: Vec<&str> = clauses.iter().map(|clause| clause.policy.as_str()).collect();
    Some(format!("not judged here: {}: each {why}", names.join(", ")))
}

/// What could not be read, with file, line and field.
pub(in crate::cli) fn tell(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}

/// Judges an input. `as_enforced` takes every namespace with a stage as one in mode Enforce.
pub(in crate::cli) fn judge(input: &Input, operator_namespace: &str, as_enforced: bool) -> Result<Plan, CliError> {
    let Input {
        objects,
        pods,
        makers,
        secrets,
        told,
        notes,
        files: _,
    } = input;
    let mut notes = notes.clone();
    notes.extend(without_policy(objects));
    let scene = Scene::of(objects, as_enforced)?;
    let now = Timestamp::now();
    let waivers = objects.waivers.values().map(|found| &found.object);
    let waived = Waived::new(waivers, &scene.world.policy, now);
    let set = generate(
        &scene.world.policy,
        &Operator::in_namespace(operator_namespace),
        &waived,
        now,
    );
    let stored = in_force(
        objects,
        scene.rendered.iter().filter(|policy| scene.is_enforced(policy)),
    );
    let Scene {
        world,
        assumed,
        rendered: mut policies,
        unmodelled,
    } = scene;
    notes.extend(assumed);
    let of_secrets = secrets.findings(objects, &world, &waived);
    // Both know how a template takes credentials; the checks name the field.
    let of_pods = templates::judge(makers, objects, &world, &set, &of_secrets, &secrets.environment)?;
    notes.extend(passed_over(objects, &of_pods.kinds));
    notes.extend(of_pods.notes);
    notes.extend(asked_of_the_api_server(&set));
    let case = Case {
        world: &world,
        stored: &stored,
        unmodelled: &unmodelled,
        pods,
        objects: Some(objects),
    };
    let (flows, mut findings) = network(&world);
    findings.extend(unknown_stages(objects, &world));
    let refused = door::admission(
        objects.workloads.values().map(|found| &found.object),
        objects.network_policies.values().map(|found| &found.object),
        &world,
        &set,
    )?;
    // Both legs know the stage of a namespace; the network leg names the field.
    let said = |finding: &Finding| {
        findings
            .iter()
            .any(|f| f.rule == finding.rule && f.subject == finding.subject)
    };
    let refused: Vec<Finding> = refused.into_iter().filter(|finding| !said(finding)).collect();
    findings.extend(refused);
    findings.retain(|finding| case.is_own(&finding.subject));
    findings.extend(case.findings());
    findings.extend(of_secrets);
    findings.extend(of_pods.findings);
    findings.extend(told.iter().cloned());
    let mut reported = of_pods.reported;
    reported.extend(told.iter().cloned());
    let findings: Vec<Finding> = findings.into_iter().map(|finding| case.locate(finding)).collect();
    // The namespace of a peer was assumed to judge the flow; what is written there is for its own manifests to say.
    policies.retain(|policy| {
        let namespace = policy.namespace().unwrap_or_default();
        world.workloads_in(&namespace).next().is_some() || objects.namespaces.contains_key(&(String::new(), namespace))
    });
    Ok(Plan {
        findings: worst(findings, usize::MAX),
        admission: Some(set),
        world,
        notes,
        policies,
        flows,
        reported,
    })
}

/// The world of an input, and what is in it.
pub(super) struct Scene {
    /// Namespaces, workloads, the organisation's policy.
    pub world: World,
    /// What was assumed.
    pub assumed: Vec<String>,
    /// Everything that the operator would write if every namespace were enforced.
    pub rendered: Vec<NetworkPolicy>,
    /// Policies of kinds that are not modelled.
    pub unmodelled: Vec<UnmodelledPolicy>,
}

impl Scene {
    pub(super) fn of(objects: &Objects, as_enforced: bool) -> Result<Self, CliError> {
        let (world, assumed) = world::of(objects, policy(objects)?, as_enforced);
        Ok(Self {
            rendered: policies::all(&world),
            world,
            assumed,
            unmodelled: objects.unmodelled.iter().map(|found| found.object.clone()).collect(),
        })
    }

    /// Whether the operator would write a policy: in mode Enforce.
    pub(super) fn is_enforced(&self, policy: &NetworkPolicy) -> bool {
        let namespace = self.world.namespaces.get(&policy.namespace().unwrap_or_default());
        namespace.is_some_and(|namespace| namespace.mode == Mode::Enforce)
    }
}

/// The NetworkPolicies that people wrote together with ours, which win over what bears their name.
pub(super) fn in_force<'p>(objects: &'p Objects, ours: impl Iterator<Item = &'p NetworkPolicy>) -> Vec<NetworkPolicy> {
    let written = objects.network_policies.values().map(|found| &found.object);
    let all: BTreeMap<(String, String), &NetworkPolicy> = written
        .chain(ours)
        .map(|policy| ((policy.namespace().unwrap_or_default(), policy.name_any()), policy))
        .collect();
    all.into_values().cloned().collect()
}

/// The policy in the input, or the one of an installation that nobody configured.
pub(super) fn policy(objects: &Objects) -> Result<AiSecurityPolicySpec, CliError> {
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

pub(in crate::cli) fn network(world: &World) -> (Vec<(WorkloadKey, FlowStatus)>, Vec<Finding>) {
    let resolver = Resolver::new(world);
    let (mut flows, mut findings) = (Vec::new(), Vec::new());
    for (key, workload) in &world.workloads {
        let of_workload = resolver.resolve(workload);
        flows.extend(of_workload.statuses.into_iter().map(|flow| (key.clone(), flow)));
        findings.extend(of_workload.findings);
    }
    (flows, findings)
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
