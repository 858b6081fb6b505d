//! Ingresses and Gateway API routes into a stage, and the grants by which routes of other namespaces lead into it.
//!
//! The API knows a gateway's object, the policy its pods. Where the namespace of neither tells, nothing is found: packets
//! are for the NetworkPolicies to stop.

use super::sources;
use crate::admission::cel::{field, list};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::{Modes, STAGES};
use crate::api::network::SourceKind;
use crate::api::policy::PolicyNetwork;
use crate::api::stage::NamespaceStage;
use crate::compliance::id::NET_06;

/// The group of the Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";
/// Its versions: kinds grow up one by one.
pub(super) const VERSIONS: [&str; 4] = ["v1", "v1beta1", "v1alpha3", "v1alpha2"];
/// Its resources that lead to Services.
pub(super) const RESOURCES: [&str; 6] = [
    "grpcroutes",
    "httproutes",
    "referencegrants",
    "tcproutes",
    "tlsroutes",
    "udproutes",
];

/// What a gateway refers to for itself: certificates. A grant for anything else lets a route lead there, to a Service or
/// to an InferencePool.
const FOR_GATEWAYS: [&str; 2] = ["ConfigMap", "Secret"];

pub(super) fn variables(network: &PolicyNetwork) -> Vec<(&'static str, String)> {
    // By addresses alone: on the nodes' own network, or outside of the cluster.
    let unplaced = STAGES
        .into_iter()
        .filter(|stage| sources(network, SourceKind::Gateway, *stage).any(|source| source.from.namespace.is_none()));
    let routes = RESOURCES.into_iter().filter(|resource| *resource != "referencegrants");
    let of = |root: &str, path: &str, resources: &str| {
        format!(
            "request.resource.resource in {resources} ? {} : []",
            field(root, path, "[]")
        )
    };
    let before = |list: String| format!("oldObject == null ? [] : {list}");
    let (routes, grants) = (list(routes), list(["referencegrants"]));
    vec![
        (
            "unplaced",
            format!("stage in {}", list(unplaced.map(NamespaceStage::as_str))),
        ),
        ("parents", of("dyn(object)", "spec.parentRefs", &routes)),
        (
            "formerParents",
            before(of("dyn(oldObject)", "spec.parentRefs", &routes)),
        ),
        ("grants", of("dyn(object)", "spec.from", &grants)),
        ("formerGrants", before(of("dyn(oldObject)", "spec.from", &grants))),
        ("granted", of("dyn(object)", "spec.to", &grants)),
        ("formerGranted", before(of("dyn(oldObject)", "spec.to", &grants))),
    ]
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let clause = |rule: &'static str, found: Found| Clause::new(NET_06.rule(rule), modes, found);
    vec![
        clause("route", ingress()),
        clause("route", route()),
        clause("reference-grant", grant()),
    ]
}

/// An Ingress names a class, and a class no namespace: it is only known to lead nowhere where the stage has no gateway.
fn ingress() -> Found {
    Found::When(
        format!(
            "request.resource.resource == 'ingresses' && gateways.size() == 0 && !unplaced && (oldObject == null || \
             {} != {})",
            field("dyn(object)", "spec", "{}"),
            field("dyn(oldObject)", "spec", "{}")
        ),
        "'an Ingress, and no gateway of the policy is open to stage ' + stage".to_owned(),
    )
}

/// A parent that a route had before is no news, whatever the route leads to: weights change all day. A Service as the
/// parent is the mesh, where no gateway is.
fn route() -> Found {
    let namespace = field("p", "namespace", "request.namespace");
    Found::among(
        "parents",
        "p",
        &format!(
            "!unplaced && {} != 'Service' && !({namespace} in gateways) && !(p in formerParents)",
            field("p", "kind", "'Gateway'")
        ),
        "in no namespace of a gateway that is open to the stage: ",
        &format!(
            "{} + ' \"' + {namespace} + '/' + p.name + '\"'",
            field("p", "kind", "'Gateway'")
        ),
    )
}

fn grant() -> Found {
    Found::When(
        format!(
            "granted.exists(t, !(t.kind in {})) && grants.exists(f, {FOREIGN})",
            list(FOR_GATEWAYS)
        ),
        format!(
            "'routes may lead into this namespace: ' + grants.filter(f, {FOREIGN}).map(f, f.kind + ' of \"' + \
             f.namespace + '\"').join(', ')"
        ),
    )
}

/// Whom `f` names is elsewhere, is no gateway, and could not lead there before.
const FOREIGN: &str = "f.namespace != request.namespace && !(f.namespace in gateways) && !(f in formerGrants && \
                       granted.all(t, t in formerGranted))";
