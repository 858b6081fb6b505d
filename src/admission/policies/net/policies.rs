//! The NetworkPolicies that tenants write themselves.
//!
//! NetworkPolicy only adds, so nothing that we render can close what a tenant opens. One policy is judged alone, without
//! a look at the others: the two halves of a path may arrive at two API servers in the same second. What stays within
//! its namespace, or leads out of the cluster, is no half of any path between stages.
//!
//! An update is judged by the peers it adds: a policy that is older than the rules can still be narrowed and relabelled.

use crate::admission::cel::{field, list, text};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::api::policy::{AiSecurityPolicySpec, PolicyNetwork, TenantPolicies};
use crate::compliance::id::{NET_05, NET_10};
use crate::network::validate::INFRASTRUCTURE;

/// Where pods and nodes are unless the policy names the cluster's ranges: RFC 1918, RFC 6598 and RFC 4193. The detected
/// ranges are not used: they change with every node, and each change would make a new generation of all policies.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
];

pub(super) fn variables(network: &PolicyNetwork) -> Vec<(&'static str, String)> {
    // Of no declared type: selectors, rules and peers of two directions stand in one list.
    let rules = |root: &str| {
        let of = |direction: &str, peers: &str| {
            format!(
                "{}.map(r, {{'at': dyn({}), 'peers': dyn({}), 'ports': dyn({})}})",
                field(root, &format!("spec.{direction}"), "[]"),
                text(direction),
                field("r", peers, "[]"),
                field("r", "ports", "[]"),
            )
        };
        format!("{} + {}", of("egress", "to"), of("ingress", "from"))
    };
    let same = |path: &str, default: &str| {
        let (new, old) = (field("new", path, default), field("old", path, default));
        format!("[dyn(object)].all(new, [dyn(oldObject)].all(old, {new} == {old}))")
    };
    vec![
        // The rules that were there before, for the same pods and in the same directions.
        (
            "former",
            format!(
                "oldObject != null && {} && {} ? {} : [].filter(r, false)",
                same("spec.podSelector", "{}"),
                same("spec.policyTypes", "[]"),
                rules("dyn(oldObject)"),
            ),
        ),
        // What each rule adds to them.
        (
            "rules",
            format!(
                "({}).map(r, {{'at': r.at, 'bare': dyn(r.peers.size() == 0 && !former.exists(f, f.at == r.at && \
                 f.ports == r.ports && f.peers.size() == 0)), 'peers': dyn(r.peers.filter(p, !former.exists(f, \
                 f.at == r.at && f.ports == r.ports && p in f.peers)))}})",
                rules("dyn(object)")
            ),
        ),
        (
            "blocks",
            "rules.map(r, {'at': r.at, 'cidrs': dyn(r.peers.filter(p, has(p.ipBlock)).map(p, \
             string(p.ipBlock.cidr)))})"
                .to_owned(),
        ),
        ("infrastructure", list(INFRASTRUCTURE)),
        ("ranges", list(ranges(network))),
    ]
}

/// Addresses that may be pods, Services, nodes or API servers.
fn ranges(network: &PolicyNetwork) -> Vec<&str> {
    let known = network.cluster_cidrs.iter().flatten();
    let servers = network.api_server.iter().flat_map(|server| &server.cidrs);
    let mut ranges: Vec<&str> = known.map(|cidr| cidr.0.as_str()).collect();
    if ranges.is_empty() {
        ranges.extend(PRIVATE);
    }
    ranges.extend(servers.map(|cidr| cidr.0.as_str()));
    // One that cannot be read would refuse every policy.
    ranges.retain(|range| range.parse::<ipnet::IpNet>().is_ok());
    ranges
}

pub(super) fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    if spec.network.tenant_policies == TenantPolicies::None {
        return vec![Clause::new(
            NET_10.rule("not-allowed"),
            modes,
            Found::When(
                "rules.exists(r, r.bare || r.peers.size() > 0)".to_owned(),
                "'NetworkPolicy \"' + dyn(object).metadata.name + '\" allows something, and tenants may write none that \
                 do'"
                    .to_owned(),
            ),
        )];
    }
    let clause = |rule: &'static str, found: Found| Clause::new(NET_10.rule(rule), modes, found);
    let limits = spec.network.max_egress_cidr;
    let (v4, v6) = (limits.ipv4_prefix_length, limits.ipv6_prefix_length);
    let limit = format!("(c.contains(':') ? {v6} : {v4})");
    let wide = format!("isCIDR(c) && cidr(c).prefixLength() < {limit}");
    let in_the_cluster = if spec
        .network
        .cluster_cidrs
        .as_ref()
        .is_some_and(|known| !known.is_empty())
    {
        "meets addresses of this cluster"
    } else {
        "is in a private range, where pods of this cluster may be (the admin can say where they are: \
         spec.network.clusterCIDRs)"
    };
    let mut clauses = vec![
        clause(
            "no-peers",
            Found::When(
                "rules.exists(r, r.bare)".to_owned(),
                "'a rule without peers: ' + rules.filter(r, r.bare).map(r, string(r.at)).join(', ')".to_owned(),
            ),
        ),
        clause("cidr", blocks("!isCIDR(c)", "'is not a network in its plain form'")),
        clause(
            "cidr-width",
            blocks(
                &wide,
                &format!("'is wider than the policy allows (/' + string({limit}) + ')'"),
            ),
        ),
        clause("cluster-address", blocks(&meets("ranges"), &text(in_the_cluster))),
        Clause::new(
            NET_05.rule("metadata"),
            modes,
            blocks(
                &meets("infrastructure"),
                "'meets addresses of the infrastructure (metadata, loopback, multicast)'",
            ),
        ),
    ];
    // With `Analysed`, where a peer in another namespace leads is for the webhook to say; the controller writes it so only
    // while the API servers ask that and refuse without an answer.
    if spec.network.tenant_policies != TenantPolicies::Analysed {
        clauses.insert(
            1,
            clause(
                "namespace-selector",
                Found::When(
                    "rules.exists(r, r.peers.exists(p, has(p.namespaceSelector)))".to_owned(),
                    "'a peer with a namespaceSelector: ' + rules.filter(r, r.peers.exists(p, \
                     has(p.namespaceSelector))).map(r, string(r.at)).join(', ')"
                        .to_owned(),
                ),
            ),
        );
    }
    clauses
}

/// A text for every rule that has such an ipBlock.
fn blocks(test: &str, what: &str) -> Found {
    Found::Each(format!(
        "blocks.filter(b, b.cidrs.exists(c, {test})).map(b, string(b.at) + ' ' + b.cidrs.filter(c, \
         {test}).map(c, '\"' + string(c) + '\" ' + {what}).join(', '))"
    ))
}

/// Two networks meet when one holds the first address of the other.
fn meets(ranges: &str) -> String {
    format!("isCIDR(c) && {ranges}.exists(g, cidr(g).containsIP(cidr(c).ip()) || cidr(c).containsIP(cidr(g).ip()))")
}
