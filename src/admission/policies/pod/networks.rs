//! Annotations by which a pod gets networks that no NetworkPolicy sees, or leaves the mesh. They may come later, too.
//!
//! What an annotation names is read as `network::interfaces` reads it, with one difference: CEL has no parser of JSON, so a
//! list in JSON is read only where every element has the few plain fields that networks are named by.

use crate::admission::cel::{field, list, text};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::api::policy::{Mesh, PolicyNetwork};
use crate::api::stage::NamespaceStage;
use crate::compliance::id::NET_11;
use crate::network::interfaces::{ANNOTATIONS, GKE_INTERFACES};

/// Annotations that lead traffic around the CNI: addresses that are not the CNI's to give, or traffic that it does not see.
const AROUND_CNI: [Steering; 4] = [
    never("cni.projectcalico.org/allowedSourcePrefixes"),
    never("cni.projectcalico.org/floatingIPs"),
    never("cni.projectcalico.org/ipAddrsNoIpam"),
    never("policy.cilium.io/no-track-port"),
];
/// The same for Istio's sidecar and for its ambient mesh.
const AROUND_ISTIO: [Steering; 9] = [
    but("ambient.istio.io/redirection", &["enabled"]),
    but("sidecar.istio.io/inject", &["true"]),
    never("sidecar.istio.io/interceptionMode"),
    never("traffic.sidecar.istio.io/excludeInboundPorts"),
    never("traffic.sidecar.istio.io/excludeInterfaces"),
    never("traffic.sidecar.istio.io/excludeOutboundIPRanges"),
    never("traffic.sidecar.istio.io/excludeOutboundPorts"),
    but("traffic.sidecar.istio.io/includeInboundPorts", &["*"]),
    but("traffic.sidecar.istio.io/includeOutboundIPRanges", &["*"]),
];
/// And for Linkerd.
const AROUND_LINKERD: [Steering; 4] = [
    never("config.linkerd.io/skip-inbound-ports"),
    never("config.linkerd.io/skip-outbound-ports"),
    never("config.linkerd.io/skip-subnets"),
    but("linkerd.io/inject", &["enabled", "ingress"]),
];

/// An annotation, and the values that change nothing.
struct Steering {
    key: &'static str,
    harmless: &'static [&'static str],
}

const fn but(key: &'static str, harmless: &'static [&'static str]) -> Steering {
    Steering { key, harmless }
}

const fn never(key: &'static str) -> Steering {
    but(key, &[""])
}

/// Whether any clause, in whatever mesh, reads an annotation.
pub(super) fn reads(key: &str) -> bool {
    let around = AROUND_CNI.iter().chain(&AROUND_ISTIO).chain(&AROUND_LINKERD);
    ANNOTATIONS.contains(&key) || around.into_iter().any(|it| it.key == key)
}

pub(super) fn variables(network: &PolicyNetwork, pod: &str, former: &str) -> Vec<(&'static str, String)> {
    vec![
        // What this request writes: on an update only what it changes.
        (
            "annotationsNow",
            format!(
                "[{new}].map(n, n.filter(k, k in {keys} && (creates || !(k in {old} && {old}[k] == n[k]))).map(k, \
                 {{'key': k, 'says': n[k]}}))[0]",
                new = annotations(pod),
                old = annotations(former),
                keys = list(ANNOTATIONS.into_iter().chain(steering(network.mesh).map(|it| it.key))),
            ),
        ),
        (
            "attachedNetworks",
            format!(
                "annotationsNow.filter(a, a.key in {}).map(a, {{'key': a.key, 'says': dyn({})}}).map(a, {})",
                list(ANNOTATIONS),
                compact("a.says"),
                attached(),
            ),
        ),
        ("dedicatedNetworks", dedicated(network)),
    ]
}

fn annotations(root: &str) -> String {
    field(root, "metadata.annotations", "{}")
}

/// Without the blanks that JSON and lists may have between words.
fn compact(says: &str) -> String {
    [r"' '", r"'\n'", r"'\t'", r"'\r'"]
        .iter()
        .fold(says.to_owned(), |said, blank| format!("{said}.split({blank}).join('')"))
}

/// The networks that one annotation names, `namespace/name`; or that it cannot be read.
fn attached() -> String {
    // Keys are compared as they are: a reader that ignores their case would find another name than this one.
    let json = |keys: &str, name: &str| {
        let element = format!(r#"\\{{("({keys})":"[A-Za-z0-9._-]+",?)+\\}}"#);
        format!(
            r#"a.says.matches('^\\[({element},?)*\\]$') && a.says.split('{{').all(e, !e.contains('"') || e.split('"{name}":').size() == 2 && e.split('"namespace":').size() <= 2)"#
        )
    };
    let value = |name: &str| format!(r#"e.split('"{name}":"')[1].split('"')[0]"#);
    let elements = |name: &str| format!(r#"a.says.split('{{').filter(e, e.contains('"{name}":'))"#);
    let own = format!(
        r#"(e.contains('"namespace":') ? {} : request.namespace) + '/' + {}"#,
        value("namespace"),
        value("name")
    );
    let unreadable = "['what annotation ' + a.key + ' says, which cannot be read here']";
    format!(
        "a.key == {gke} ? ({gke_json} ? {gke_elements}.filter(e, {network} != 'default').map(e, request.namespace + '/' + \
         {network}) : a.says == '' ? [] : {unreadable}) : a.says.startsWith('[') ? ({json} ? {elements}.map(e, {own}) : \
         {unreadable}) : a.says.split(',').filter(w, w != '').map(w, w.split('@')[0]).map(w, w.contains('/') ? w : \
         request.namespace + '/' + w)",
        gke = text(GKE_INTERFACES),
        gke_json = json("interfaceName|network", "network"),
        gke_elements = elements("network"),
        network = value("network"),
        json = json("interface|name|namespace", "name"),
        elements = elements("name"),
    )
}

/// The networks that the policy gives to the pod's stage. Each stands there once: an expression has room for 100,000
/// characters.
fn dedicated(network: &PolicyNetwork) -> String {
    let entries = network.dedicated_interfaces.iter().flatten();
    let named = entries.filter_map(|entry| Some((entry.network_attachment.as_ref()?, &entry.stages)));
    let named: Vec<String> = named
        .map(|(name, stages)| {
            let stages = stages.iter().map(|stage| NamespaceStage::from(*stage).as_str());
            list(std::iter::once(name.0.as_str()).chain(stages))
        })
        .collect();
    if named.is_empty() {
        return "[]".to_owned();
    }
    // No network is called like a stage: its name has a slash.
    format!("[{}].filter(d, stage in d).map(d, d[0])", named.join(", "))
}

fn steering(mesh: Mesh) -> impl Iterator<Item = &'static Steering> {
    let around_mesh: &[Steering] = match mesh {
        Mesh::None => &[],
        Mesh::Istio | Mesh::Ambient => &AROUND_ISTIO,
        Mesh::Linkerd => &AROUND_LINKERD,
    };
    AROUND_CNI.iter().chain(around_mesh)
}

pub(super) fn clauses(modes: &Modes, network: &PolicyNetwork) -> Vec<Clause> {
    let foreign = "n.filter(w, !(w in dedicatedNetworks))";
    let steers: Vec<String> = steering(network.mesh)
        .map(|it| format!("a.key == {} && !(a.says in {})", text(it.key), list(it.harmless)))
        .collect();
    vec![
        Clause::new(
            NET_11.rule("secondary-network"),
            modes,
            Found::among(
                "attachedNetworks",
                "n",
                "n.exists(w, !(w in dedicatedNetworks))",
                "networks that no NetworkPolicy sees: ",
                &format!("{foreign}.join(' ')"),
            ),
        ),
        Clause::new(
            NET_11.rule("steering-annotation"),
            modes,
            Found::among(
                "annotationsNow",
                "a",
                &steers.join(" || "),
                "annotations that lead around the policies: ",
                "a.key + '=' + a.says",
            ),
        ),
    ]
}
