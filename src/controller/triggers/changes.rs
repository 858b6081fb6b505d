//! Which change sets off which reconcile.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Index, Triggers, lock};
use crate::api::stage::NamespaceStage;
use crate::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use crate::controller::caches::Seen;
use crate::network::policies;
use crate::network::world::WorkloadKey;

impl Triggers {
    /// A Namespace changed.
    pub fn on_namespace(&self, index: &Index, seen: &Seen<'_, Namespace>) {
        let namespace = seen.object();
        let name = namespace.name_any();
        self.shown(seen);
        let old = match seen {
            Seen::Applied { old: Some(old), .. } => Some(old),
            _ => None,
        };
        let same_labels = old.is_some_and(|old| {
            old.labels() == namespace.labels()
                && old.uid() == namespace.uid()
                && old.metadata.deletion_timestamp == namespace.metadata.deletion_timestamp
        });
        if !same_labels {
            self.changed_world();
            self.cluster.notify_one();
            self.rights.notify_one();
            self.pods_changed(&name);
            // Anybody may use what the catalogue has here, and no workload names it.
            if lock(&self.catalogue).contains(&name) {
                self.everything(index);
                return;
            }
            self.shared_namespaces(index);
            // A new or changed stage opens or closes the flows of those who name this namespace.
            let named = |w: &AiWorkload| references(w).any(|(ns, _)| ns == name);
            for workload in index.workloads.state_filter(named) {
                self.workload(ObjectRef::from_obj(workload.as_ref()));
            }
        }
        if !same_labels || old.is_some_and(|old| old.annotations() != namespace.annotations()) {
            self.namespace(&name);
            self.workloads_in(index, &name);
        }
    }

    /// An `AiWorkload` changed.
    pub fn on_workload(&self, index: &Index, seen: &Seen<'_, AiWorkload>) {
        let workload = seen.object();
        if let Seen::Applied { old: Some(old), new } = seen
            && old.metadata.generation == new.metadata.generation
            && old.uid() == new.uid()
            && old.annotations() == new.annotations()
            && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        {
            return;
        }
        self.changed_world();
        self.cluster.notify_one();
        if let Seen::Deleted(deleted) = seen {
            let _ = self.deletions.send((*deleted).clone());
        }
        let Some(namespace) = workload.namespace() else { return };
        let name = workload.name_any();
        self.pods_changed(&namespace);
        self.namespace(&namespace);
        self.workload(ObjectRef::from_obj(workload));
        let old = match seen {
            Seen::Applied { old, .. } => old.as_deref(),
            Seen::Deleted(_) | Seen::Gone(_) => None,
        };
        for (peer_namespace, peer) in references(workload).chain(old.into_iter().flat_map(references)) {
            self.workload(ObjectRef::new(&peer).within(&peer_namespace));
        }
        let names_us = |w: &AiWorkload| references(w).any(|(ns, peer)| ns == namespace && peer == name);
        for peer in index.workloads.state_filter(names_us) {
            self.workload(ObjectRef::from_obj(peer.as_ref()));
        }
        self.shared_namespaces(index);
    }

    /// Sets off the shared namespaces: their services are rendered from the workloads that declare them.
    fn shared_namespaces(&self, index: &Index) {
        let shared = |ns: &Namespace| {
            ns.labels()
                .get(names::STAGE_LABEL)
                .is_some_and(|s| s == NamespaceStage::Shared.as_str())
        };
        index
            .namespaces
            .state_filter(shared)
            .iter()
            .for_each(|ns| self.namespace(&ns.name_any()));
    }

    /// A NetworkPolicy changed.
    pub fn on_network_policy(&self, index: &Index, seen: &Seen<'_, NetworkPolicy>) {
        let policy = seen.object();
        let Some(namespace) = policy.namespace() else { return };
        lock(&self.touched).insert(namespace.clone());
        self.shown(seen);
        self.analysis.notify_one();
        // What they say of their flows depends on it: the other end has to be in place.
        for WorkloadKey { namespace, name } in told(seen) {
            self.workload(ObjectRef::new(&name).within(&namespace));
        }
        let name = policy.name_any();
        if let Some(workload) = name.strip_prefix(names::WORKLOAD_POLICY_PREFIX) {
            self.workload(ObjectRef::new(workload).within(&namespace));
            self.namespace(&namespace);
        } else if name == names::DENY_POLICY {
            self.namespace(&namespace);
            self.workloads_in(index, &namespace);
        } else if name.starts_with(names::SERVICE_POLICY_PREFIX) {
            self.namespace(&namespace);
        }
    }

    /// A Waiver changed. Its end is none: nobody writes it.
    pub fn on_waiver(&self, seen: &Seen<'_, Waiver>) {
        let of = |waiver: &Waiver| {
            let approval = waiver.status.as_ref().and_then(|status| status.approval.clone());
            let metadata = &waiver.metadata;
            (
                metadata.uid.clone(),
                metadata.generation,
                metadata.deletion_timestamp.clone(),
                approval,
            )
        };
        if matches!(seen, Seen::Applied { old: Some(old), new } if of(old) == of(new)) {
            return;
        }
        // Before it is told: whoever looks from now on sees it.
        self.changed_world();
        self.waivers.notify_one();
    }

    /// What Waivers open between two workloads changed.
    pub fn waived_flow(&self, ends: [&WorkloadKey; 2]) {
        self.changed_world();
        self.cluster.notify_one();
        for WorkloadKey { namespace, name } in ends {
            self.workload(ObjectRef::new(name).within(namespace));
        }
    }

    /// The policy, or the stop button, changed.
    pub fn on_policy(&self, index: &Index, seen: &Seen<'_, AiSecurityPolicy>) {
        let same = matches!(seen, Seen::Applied { old: Some(old), new } if old.metadata.generation == new.metadata.generation && old.uid() == new.uid());
        if !same {
            let network = &seen.object().spec.network;
            let services = network
                .services
                .iter()
                .flatten()
                .filter_map(|entry| entry.to.namespace.as_deref());
            let sources = network
                .sources
                .iter()
                .flatten()
                .filter_map(|entry| entry.from.namespace.as_deref());
            *lock(&self.catalogue) = services.chain(sources).map(str::to_owned).collect();
            self.everything(index);
        }
    }
}

/// The workloads for which a change of a policy of ours is news. A service has many users, and each of them changes its
/// policy: news is only to those that came or left, unless anything else changed.
fn told(seen: &Seen<'_, NetworkPolicy>) -> BTreeSet<WorkloadKey> {
    let now = policies::named(seen.object());
    let Seen::Applied { old: Some(old), new } = seen else {
        return now;
    };
    let before = policies::named(old);
    let rest = |policy: &NetworkPolicy| {
        let mut policy = policy.clone();
        let rules = policy
            .spec
            .iter_mut()
            .flat_map(|spec| spec.ingress.iter_mut().flatten());
        rules.for_each(|rule| rule.from = None);
        (policy.spec, policy.metadata.labels, policy.metadata.deletion_timestamp)
    };
    if rest(old) == rest(new) {
        now.symmetric_difference(&before).cloned().collect()
    } else {
        now.union(&before).cloned().collect()
    }
}

/// The workloads that a workload names.
fn references(workload: &AiWorkload) -> impl Iterator<Item = (String, String)> {
    let own = workload.namespace().unwrap_or_default();
    let network = workload.spec.network.clone().unwrap_or_default();
    let to = network
        .connect_to
        .unwrap_or_default()
        .into_iter()
        .filter_map(|flow| flow.workload);
    let from = network
        .accept_from
        .unwrap_or_default()
        .into_iter()
        .filter_map(|flow| flow.workload);
    to.chain(from).map(move |peer| {
        (
            peer.namespace.map_or_else(|| own.clone(), |ns| ns.to_string()),
            peer.name.to_string(),
        )
    })
}
