//! Services that open a stage, or lead out of it, and Endpoints that somebody wrote by hand.
//!
//! An update is judged by what it adds: one that is older than the rules keeps its type while it leads to the same pods by
//! the same ports, so that a cloud controller can go on with its finalizers and node ports. `status.loadBalancer` is
//! not looked at: the API server itself keeps it to the type `LoadBalancer`.

use super::namespaces;
use crate::admission::cel::{field, text};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::admission::policies::USER;
use crate::api::network::SourceKind;
use crate::api::policy::PolicyNetwork;
use crate::compliance::id::NET_06;

/// Where Services are by their names. A cluster may have another domain, which nothing tells us: there an alias is refused.
const CLUSTER_DOMAIN: &str = ".svc.cluster.local";

pub(super) fn variables(network: &PolicyNetwork) -> Vec<(&'static str, String)> {
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:");
    // One text for each port: a list of these is compared at a price that a thousand ports can pay.
    let ports = |root: &str| {
        format!(
            "{}.map(p, string(p.port) + '/' + {} + '/' + string({}))",
            field(root, "spec.ports", "[]"),
            field("p", "protocol", "'TCP'"),
            field("p", "targetPort", "p.port"),
        )
    };
    vec![
        ("gateways", namespaces(network, SourceKind::Gateway, str::to_owned)),
        // Knative writes Services without a selector, and their Endpoints, to put its activator before a model.
        (
            "steered",
            format!(
                "({}).exists(c, {USER}.startsWith(c))",
                namespaces(network, SourceKind::Controller, account)
            ),
        ),
        (
            "service",
            "request.resource.resource == 'services' ? [dyn(object)] : []".to_owned(),
        ),
        (
            "formerService",
            "request.resource.resource == 'services' && oldObject != null ? [dyn(oldObject)] : []".to_owned(),
        ),
        (
            "servicePorts",
            format!("service.size() == 0 ? [] : {}", ports("dyn(object)")),
        ),
        (
            "formerPorts",
            format!("formerService.size() == 0 ? [] : {}", ports("dyn(oldObject)")),
        ),
        (
            "serviceType",
            format!("service.size() == 0 ? '' : {}", kind("dyn(object)")),
        ),
        // What it was, where it led to the same pods by the same ports. Asked of those alone that open anything: to compare
        // lists of thousands of ports has its price.
        (
            "asBefore",
            format!(
                "formerService.filter(o, (serviceType in ['NodePort', 'LoadBalancer'] || {}.size() > 0) && {} == {} && \
                 (servicePorts == formerPorts || servicePorts.all(p, p in formerPorts)))",
                addresses("dyn(object)"),
                selector("dyn(object)"),
                selector("o")
            ),
        ),
        (
            "claimed",
            format!(
                "service.size() == 0 ? [] : {}.filter(i, !asBefore.exists(o, i in {}))",
                addresses("dyn(object)"),
                addresses("o")
            ),
        ),
        (
            "sourceRanges",
            format!("service.size() == 0 ? [] : {}", ranges("dyn(object)")),
        ),
        (
            "alias",
            format!("serviceType == 'ExternalName' ? [string({})] : []", name("dyn(object)")),
        ),
    ]
}

fn kind(service: &str) -> String {
    field(service, "spec.type", "'ClusterIP'")
}

fn name(service: &str) -> String {
    field(service, "spec.externalName", "''")
}

fn addresses(service: &str) -> String {
    field(service, "spec.externalIPs", "[]")
}

fn ranges(service: &str) -> String {
    field(service, "spec.loadBalancerSourceRanges", "[]")
}

fn selector(service: &str) -> String {
    field(service, "spec.selector", "{}")
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let clause = |rule: &'static str, found: Found| Clause::new(NET_06.rule(rule), modes, found);
    let service = |rule: &'static str, test: String, what: &str| clause(rule, Found::When(test, what.to_owned()));
    let old = kind("o");
    vec![
        service(
            "node-port",
            format!("serviceType == 'NodePort' && !asBefore.exists(o, {old} in ['NodePort', 'LoadBalancer'])"),
            "'the Service is of type NodePort'",
        ),
        service(
            "load-balancer",
            format!(
                "serviceType == 'LoadBalancer' && !asBefore.exists(o, {old} == 'LoadBalancer' && ({before}.size() == 0 || \
                 (sourceRanges.size() > 0 && sourceRanges.all(r, r in {before}))))",
                before = ranges("o"),
            ),
            "'the Service is of type LoadBalancer'",
        ),
        service(
            "external-ips",
            "claimed.size() > 0".to_owned(),
            "'the Service claims ' + claimed.join(', ')",
        ),
        service(
            "external-name",
            format!(
                "alias.exists(a, !gateways.exists(g, a.endsWith('.' + g + '{CLUSTER_DOMAIN}')) && \
                 !formerService.exists(o, {old} == 'ExternalName' && {} == a))",
                name("o"),
            ),
            "'the Service is an alias of \"' + alias[0] + '\"'",
        ),
        service(
            "selectorless",
            format!(
                "!(serviceType in ['', 'ExternalName']) && {}.size() == 0 && !steered && !formerService.exists(o, \
                 {old} != 'ExternalName' && {}.size() == 0)",
                selector("dyn(object)"),
                selector("o")
            ),
            "'the Service has no selector'",
        ),
        clause("endpoints", by_hand()),
    ]
}

/// Addresses behind a Service that were not there before, by somebody who has no business with them.
fn by_hand() -> Found {
    let subsets = |root: &str| field(root, "subsets", "[]");
    Found::When(
        format!(
            "request.resource.resource == 'endpoints' && !steered && {}.exists(e, oldObject == null || !(e in {}))",
            subsets("dyn(object)"),
            subsets("dyn(oldObject)")
        ),
        text("Endpoints that no controller of the cluster wrote"),
    )
}
