//! Whether a stored policy is still the one that was wanted. The API server drops empty lists and fills in defaults; a
//! comparison that does not know that would repair for ever.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use serde_json::{Value, json};

use crate::api::names;

/// How a stored object compares with the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Nothing to do.
    Same,
    /// It does not exist.
    Missing,
    /// Applying it again repairs these fields. Those that [`Drift::Touched`] would name are among them.
    Differs(Vec<String>),
    /// Its rules are as wanted, but others put these on it, and an apply cannot take them off: they make the object
    /// vanish or mean something else. To be reported as NET-09/foreign-metadata.
    Touched(Vec<String>),
    /// Somebody else's object under a name of ours: left alone and reported as NET-09/foreign-object.
    Foreign {
        /// Why it is not taken for ours.
        why: String,
    },
}

/// Annotations that make a CNI read the same rules differently.
const MEANINGFUL_ANNOTATIONS: [&str; 2] = [
    // OVN-Kubernetes: stateless rules, replies are no longer implied.
    "k8s.ovn.org/acl-stateless",
    // Multus: the policy is for a secondary network.
    "k8s.v1.cni.cncf.io/policy-for",
];

/// Finalizers of dataplanes that program our policies. EKS adds this one before it programs anything.
const DATAPLANE_FINALIZERS: [&str; 1] = ["networking.k8s.aws/resources"];

/// Compares. `desired` is what [`policies`](super::policies) rendered.
pub fn compare(desired: &NetworkPolicy, observed: Option<&NetworkPolicy>) -> Drift {
    let Some(observed) = observed else {
        return Drift::Missing;
    };
    if !is_ours(&observed.metadata) {
        let name = observed.metadata.name.as_deref().unwrap_or_default();
        return Drift::Foreign {
            why: format!(
                "NetworkPolicy {name} carries neither {}={} nor a field of manager {}",
                names::MANAGED_BY_LABEL,
                names::CLOISON,
                names::FIELD_MANAGER
            ),
        };
    }
    let mut repairable = labels(&desired.metadata, &observed.metadata);
    repairable.extend(spec(desired.spec.as_ref(), observed.spec.as_ref()));
    let touched = touched(&desired.metadata, &observed.metadata);
    match (repairable.is_empty(), touched.is_empty()) {
        (true, true) => Drift::Same,
        (true, false) => Drift::Touched(touched),
        (false, _) => {
            repairable.extend(touched);
            Drift::Differs(repairable)
        }
    }
}

/// The merge patch that takes off what [`Drift::Touched`] names, and fails when the policy changed since. A dataplane
/// keeps its finalizer; on a policy that is going it goes too, so that the policy can come back.
pub fn strip(observed: &NetworkPolicy) -> Value {
    let metadata = &observed.metadata;
    let going = metadata.deletion_timestamp.is_some();
    let stays = |finalizer: &&String| !going && DATAPLANE_FINALIZERS.contains(&finalizer.as_str());
    let finalizers: Vec<&String> = metadata.finalizers.iter().flatten().filter(stays).collect();
    let annotations: serde_json::Map<String, Value> = MEANINGFUL_ANNOTATIONS
        .iter()
        .map(|key| ((*key).to_owned(), Value::Null))
        .collect();
    json!({ "metadata": {
        "resourceVersion": metadata.resource_version,
        "finalizers": finalizers,
        "ownerReferences": null,
        "annotations": annotations,
    }})
}

/// Whether two policies have the same rules, whatever the API server dropped or filled in.
pub fn same_rules(a: &NetworkPolicy, b: &NetworkPolicy) -> bool {
    a.spec == b.spec || spec(a.spec.as_ref(), b.spec.as_ref()).is_empty()
}

/// Our label, or a field that we own: either alone can be taken away by somebody else.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    let labelled = labels.and_then(|labels| labels.get(names::MANAGED_BY_LABEL));
    let mut managers = metadata.managed_fields.iter().flatten();
    labelled.is_some_and(|value| value == names::CLOISON)
        || managers.any(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
}

fn labels(desired: &ObjectMeta, observed: &ObjectMeta) -> Vec<String> {
    let observed = observed.labels.as_ref();
    let kept = |key: &str, value: &String| observed.and_then(|labels| labels.get(key)) == Some(value);
    let wanted = desired.labels.iter().flatten();
    wanted
        .filter(|(key, value)| !kept(key, value))
        .map(|(key, _)| format!("metadata.labels[{key}]"))
        .collect()
}

/// What others put on the object that an apply leaves there.
fn touched(desired: &ObjectMeta, observed: &ObjectMeta) -> Vec<String> {
    let mut fields = Vec::new();
    if observed.deletion_timestamp.is_some() {
        fields.push("metadata.deletionTimestamp".to_owned());
    }
    let wanted = desired.finalizers.as_deref().unwrap_or_default();
    let extra =
        |finalizer: &&String| !wanted.contains(finalizer) && !DATAPLANE_FINALIZERS.contains(&finalizer.as_str());
    let finalizers = observed.finalizers.iter().flatten().filter(extra);
    fields.extend(finalizers.map(|finalizer| format!("metadata.finalizers[{finalizer}]")));

    // The garbage collector deletes the object with the last of its owners.
    let wanted: BTreeSet<&str> = desired
        .owner_references
        .iter()
        .flatten()
        .map(|owner| &*owner.uid)
        .collect();
    let owners = observed.owner_references.iter().flatten();
    let owners = owners.filter(|owner| !wanted.contains(&*owner.uid));
    fields.extend(owners.map(|owner| format!("metadata.ownerReferences[{} {}]", owner.kind, owner.name)));

    let wanted = desired.annotations.as_ref();
    let said = |key: &&&str| {
        let found = observed.annotations.as_ref().and_then(|all| all.get(**key));
        found.is_some() && found != wanted.and_then(|all| all.get(**key))
    };
    let annotations = MEANINGFUL_ANNOTATIONS.iter().filter(said);
    fields.extend(annotations.map(|key| format!("metadata.annotations[{key}]")));
    fields
}

/// One rule of either direction.
type Rule<'a> = (&'a [NetworkPolicyPeer], &'a [NetworkPolicyPort]);

/// The fields in which two specs differ.
fn spec(desired: Option<&NetworkPolicySpec>, observed: Option<&NetworkPolicySpec>) -> Vec<String> {
    let nothing = NetworkPolicySpec::default();
    let (desired, observed) = (desired.unwrap_or(&nothing), observed.unwrap_or(&nothing));
    let mut fields = Vec::new();
    let everything = LabelSelector::default();
    let (mine, theirs) = (desired.pod_selector.as_ref(), observed.pod_selector.as_ref());
    if !same_selector(mine.unwrap_or(&everything), theirs.unwrap_or(&everything)) {
        fields.push("spec.podSelector".to_owned());
    }
    let types =
        |spec: &NetworkPolicySpec| -> BTreeSet<String> { spec.policy_types.iter().flatten().cloned().collect() };
    if desired.policy_types != observed.policy_types && types(desired) != types(observed) {
        fields.push("spec.policyTypes".to_owned());
    }
    rules(
        "spec.ingress",
        "from",
        &ingress(desired),
        &ingress(observed),
        &mut fields,
    );
    rules("spec.egress", "to", &egress(desired), &egress(observed), &mut fields);
    fields
}

fn ingress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    let rules = spec.ingress.iter().flatten();
    rules
        .map(|rule| (list(rule.from.as_ref()), list(rule.ports.as_ref())))
        .collect()
}

fn egress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    let rules = spec.egress.iter().flatten();
    rules
        .map(|rule| (list(rule.to.as_ref()), list(rule.ports.as_ref())))
        .collect()
}

fn list<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map(Vec::as_slice).unwrap_or_default()
}

fn rules(path: &str, peers: &str, desired: &[Rule<'_>], observed: &[Rule<'_>], fields: &mut Vec<String>) {
    if desired.len() != observed.len() {
        fields.push(path.to_owned());
        return;
    }
    for (index, (mine, theirs)) in desired.iter().zip(observed).enumerate() {
        items(
            &format_args!("{path}[{index}].{peers}"),
            mine.0,
            theirs.0,
            same_peer,
            fields,
        );
        items(
            &format_args!("{path}[{index}].ports"),
            mine.1,
            theirs.1,
            same_port,
            fields,
        );
    }
}

fn items<T>(
    path: &dyn std::fmt::Display,
    desired: &[T],
    observed: &[T],
    same: fn(&T, &T) -> bool,
    fields: &mut Vec<String>,
) {
    if desired.len() != observed.len() {
        fields.push(path.to_string());
        return;
    }
    let pairs = desired.iter().zip(observed).enumerate();
    let differing = pairs.filter(|(_, (mine, theirs))| !same(mine, theirs));
    fields.extend(differing.map(|(index, _)| format!("{path}[{index}]")));
}

pub(super) fn same_peer(a: &NetworkPolicyPeer, b: &NetworkPolicyPeer) -> bool {
    // Here an absent selector and an empty one differ: absent is the own namespace, empty is every namespace.
    let selectors = |a: &Option<LabelSelector>, b: &Option<LabelSelector>| match (a, b) {
        (Some(a), Some(b)) => same_selector(a, b),
        (None, None) => true,
        _ => false,
    };
    let blocks = match (&a.ip_block, &b.ip_block) {
        (Some(a), Some(b)) => a.cidr == b.cidr && list(a.except.as_ref()) == list(b.except.as_ref()),
        (None, None) => true,
        _ => false,
    };
    blocks && selectors(&a.pod_selector, &b.pod_selector) && selectors(&a.namespace_selector, &b.namespace_selector)
}

fn same_port(a: &NetworkPolicyPort, b: &NetworkPolicyPort) -> bool {
    let protocol = |port: &NetworkPolicyPort| port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    a.port == b.port && a.end_port == b.end_port && (a.protocol == b.protocol || protocol(a) == protocol(b))
}

fn same_selector(a: &LabelSelector, b: &LabelSelector) -> bool {
    let nothing = BTreeMap::new();
    let labels = a.match_labels.as_ref().unwrap_or(&nothing) == b.match_labels.as_ref().unwrap_or(&nothing);
    let same = |(a, b): (&LabelSelectorRequirement, &LabelSelectorRequirement)| {
        a.key == b.key && a.operator == b.operator && list(a.values.as_ref()) == list(b.values.as_ref())
    };
    let (mine, theirs) = (list(a.match_expressions.as_ref()), list(b.match_expressions.as_ref()));
    labels && mine.len() == theirs.len() && mine.iter().zip(theirs).all(same)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests;
