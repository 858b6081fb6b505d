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
        // What it was, where it led to the same pods by the same ports. Asked of those alone that open anything: to compare
        // lists of thousands of ports has its price.
        (
            "asBefore",
            format!(
                "formerService.filter(o, service.exists(s, ({} in ['NodePort', 'LoadBalancer'] || {}.size() > 0) && {} == {} && \
                 (servicePorts == formerPorts || servicePorts.all(p, p in formerPorts))))",
                kind("s"),
                addresses("s"),
                selector("s"),
                selector("o")
            ),
        ),
    ]
}

fn kind(service: &str) -> String {
    field(service, "spec.type", "'ClusterIP'")
}

fn addresses(service: &str) -> String {
    field(service, "spec.externalIPs", "[]")
}

fn selector(service: &str) -> String {
    field(service, "spec.selector", "{}")
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let clause = |rule: &'static str, found: Found| Clause::new(NET_06.rule(rule), modes, found);
    let service = |rule: &'static str, test: String, what: String| {
        clause(rule, Found::When(format!("service.exists(s, {test})"), what))
    };
    let (new, old) = (kind("s"), kind("o"));
    let ranges = |service: &str| field(service, "spec.loadBalancerSourceRanges", "[]");
    let name = |service: &str| field(service, "spec.externalName", "''");
    let claimed = format!(
        "{}.filter(i, !asBefore.exists(o, i in {}))",
        addresses("s"),
        addresses("o")
    );
    vec![
        service(
            "node-port",
            format!("{new} == 'NodePort' && !asBefore.exists(o, {old} in ['NodePort', 'LoadBalancer'])"),
            text("the Service is of type NodePort"),
        ),
        service(
            "load-balancer",
            format!(
                "{new} == 'LoadBalancer' && !asBefore.exists(o, {old} == 'LoadBalancer' && ({before}.size() == 0 || \
                 ({after}.size() > 0 && {after}.all(r, r in {before}))))",
                before = ranges("o"),
                after = ranges("s"),
            ),
            text("the Service is of type LoadBalancer"),
        ),
        service(
            "external-ips",
            format!("{claimed}.size() > 0"),
            format!("'the Service claims ' + service.map(s, {claimed}.join(', '))[0]"),
        ),
        service(
            "external-name",
            format!(
                "{new} == 'ExternalName' && !gateways.exists(g, {alias}.endsWith('.' + g + '{CLUSTER_DOMAIN}')) && \
                 !formerService.exists(o, {old} == 'ExternalName' && {} == {alias})",
                name("o"),
                alias = name("s"),
            ),
            format!(
                "'the Service is an alias of \"' + service.map(s, string({}))[0] + '\"'",
                name("s")
            ),
        ),
        service(
            "selectorless",
            format!(
                "{new} != 'ExternalName' && {}.size() == 0 && !steered && !formerService.exists(o, \
                 {old} != 'ExternalName' && {}.size() == 0)",
                selector("s"),
                selector("o")
            ),
            text("the Service has no selector"),
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
