//! `cloison-net`: what tenants write that says who may reach whom: NetworkPolicies, Services and routes.
//!
//! One policy for all of these kinds, because each that matches costs the API server about 0.4 ms. What is named for one
//! kind is empty for the others.
//!
//! EndpointSlices are not matched: controllers write them all day, for every pod, and a policy that errs would keep them
//! from it. No stock role lets a tenant write them (docs/decisions/021).

mod policies;
mod routes;
mod services;

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use super::{USER, Written};
use crate::admission::cel::{entry, list, text};
use crate::admission::clause::{Clause, denied, observed, passes};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, moded, requirement, resources};
use crate::admission::operator::Operator;
use crate::admission::waived::Waived;
use crate::api::names;
use crate::api::network::{Source, SourceKind};
use crate::api::policy::{AiSecurityPolicySpec, PolicyNetwork};
use crate::api::stage::NamespaceStage;

/// The policy's name.
pub const NAME: &str = "cloison-net";

/// The API server keeps the Service `kubernetes`, which selects nothing, and its Endpoints itself.
const API_SERVER: &str = "system:apiserver";
/// Who writes Endpoints after the pods that a Service selects: the controller, under both names it goes by.
const ENDPOINTS_CONTROLLERS: [&str; 2] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:endpoint-controller",
];

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    hash: &str,
) -> Written {
    let parts = parts(spec, modes);
    let mut variables = vec![("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL))];
    variables.extend(policies::variables(&spec.network));
    variables.extend(services::variables(&spec.network));
    variables.extend(routes::variables(&spec.network));
    variables.push(("found", parts.each_ref().map(|part| denied(&part.clauses)).join(" + ")));
    variables.extend(waived.but_for(&[("found", "problems")], None));
    let (seen, keys): (Vec<_>, Vec<_>) = parts
        .iter()
        .filter(|part| part.clauses.iter().any(Clause::reports))
        .map(|part| {
            (
                (part.observed, observed(&part.clauses)),
                (part.key, part.observed.to_owned()),
            )
        })
        .unzip();
    variables.extend(seen);
    variables.push((
        "observed",
        parts.each_ref().map(|part| observed(&part.clauses)).join(" + "),
    ));
    let writes = ["CREATE", "UPDATE"];
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str)),
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![
            resources("networking.k8s.io", "v1", &["ingresses", "networkpolicies"], &writes),
            resources("", "v1", &["endpoints", "services"], &writes),
            // What a cluster does not serve is never asked for. Of the versions the one that it serves is matched.
            NamedRuleWithOperations {
                api_versions: Some(routes::VERSIONS.map(str::to_owned).into()),
                ..resources(routes::GROUP, "v1", &routes::RESOURCES, &writes)
            },
        ],
        conditions: vec![
            // What our own account may write is for `cloison-guard` to say.
            ("not-the-operator", format!("{USER} != {}", text(&operator.user))),
            // A namespace like `default` may have a stage.
            ("not-the-api-server", format!("{USER} != {}", text(API_SERVER))),
            (
                "not-the-endpoints-controller",
                format!(
                    "request.resource.resource != 'endpoints' || !({USER} in {})",
                    list(ENDPOINTS_CONTROLLERS)
                ),
            ),
        ],
        named: variables,
        passes: if waived.is_empty() {
            passes(&clauses(spec, modes))
        } else {
            "problems.size() == 0".to_owned()
        },
        problems: "problems".to_owned(),
        observed_by_key: keys,
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// The clauses about one subject.
struct Part {
    /// What its list of observations is called in the policy, and in the audit log.
    observed: &'static str,
    key: &'static str,
    clauses: Vec<Clause>,
}

fn parts(spec: &AiSecurityPolicySpec, modes: &Modes) -> [Part; 3] {
    let part = |observed, key, clauses| Part { observed, key, clauses };
    [
        part("observedPolicies", "observed", policies::clauses(spec, modes)),
        part("observedServices", "observed-services", services::clauses(modes)),
        part("observedRoutes", "observed-routes", routes::clauses(modes)),
    ]
}

/// All clauses.
pub(super) fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    parts(spec, modes).into_iter().flat_map(|part| part.clauses).collect()
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(spec: &AiSecurityPolicySpec, modes: &Modes) -> bool {
    clauses(spec, modes).iter().any(Clause::refuses)
}

/// The policy's sources of one kind that are open to a stage.
fn sources(network: &PolicyNetwork, kind: SourceKind, stage: NamespaceStage) -> impl Iterator<Item = &Source> {
    let open = move |source: &&Source| {
        let stages = source.stages.as_ref();
        source.kind == kind && stages.is_none_or(|listed| listed.iter().any(|s| NamespaceStage::from(*s) == stage))
    };
    network.sources.iter().flatten().filter(open)
}

/// The namespaces of these sources, in a form of their own, as a list that depends on the stage.
fn namespaces(network: &PolicyNetwork, kind: SourceKind, form: impl Fn(&str) -> String) -> String {
    let of = |stage: NamespaceStage| {
        let found = sources(network, kind, stage).filter_map(|source| source.from.namespace.as_ref());
        let mut found: Vec<String> = found.map(|namespace| form(&namespace.0)).collect();
        found.sort_unstable();
        found.dedup();
        list(found)
    };
    let [training, evaluation, inference] = STAGES.map(of);
    format!("stage == 'training' ? {training} : stage == 'evaluation' ? {evaluation} : {inference}")
}
