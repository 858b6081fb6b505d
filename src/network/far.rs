//! The other end of open flows. A flow that is allowed at one end alone passes nothing: what is rendered for the other
//! has to be stored there, as it was meant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicySpec};

use super::drift::{self, Drift};
use super::flows::{Flows, Opening, Peer};
use super::policies;
use super::world::{Workload, WorkloadKey, World};
use crate::api::names;
use crate::api::stage::{Mode, NamespaceStage};
use crate::api::workload::{FlowDirection, FlowState};

/// The open flows of a workload, by what their other end is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// How many are allowed at both ends.
    pub both: usize,
    /// Names of those whose other end is not ours to open: addresses, sources, namespaces without a stage, and those where
    /// nothing of ours is written yet.
    pub one_sided: Vec<String>,
    /// Those that are not allowed at the other end: the name, and why.
    pub missing: Vec<String>,
}

/// Looks at the other end of every flow of `flows`, which are those of `workload`. `stored` finds a policy by namespace
/// and name.
pub fn ends(
    world: &World,
    workload: &Workload,
    flows: &Flows,
    stored: impl Fn(&str, &str) -> Option<Arc<NetworkPolicy>>,
) -> Ends {
    let look = Look {
        world,
        key: &workload.key,
        stored: &stored,
    };
    let mut ends = Ends::default();
    let mut named: BTreeSet<(FlowDirection, &str)> = BTreeSet::new();
    for (direction, openings) in [
        (FlowDirection::Egress, &flows.egress),
        (FlowDirection::Ingress, &flows.ingress),
    ] {
        let mut by_name: BTreeMap<&str, Vec<&Opening>> = BTreeMap::new();
        for opening in openings {
            by_name.entry(&opening.name).or_default().push(opening);
        }
        for (name, openings) in by_name {
            named.insert((direction, name));
            let peers = openings.iter().flat_map(|opening| &opening.peers);
            let found: BTreeSet<Far> = peers.map(|peer| look.at(direction, name, peer)).collect();
            match found.into_iter().next_back() {
                Some(Far::Missing(why)) => ends.missing.push(format!("{name}: {why}")),
                Some(Far::NotOurs) | None => ends.one_sided.push(name.to_owned()),
                Some(Far::InPlace) => ends.both += 1,
            }
        }
    }
    // Traffic inside a workload is open and needs no rule of its own.
    let inside = flows.statuses.iter().filter(|flow| flow.state == FlowState::Open);
    ends.both += inside
        .filter(|flow| !named.contains(&(flow.direction, flow.name.as_str())))
        .count();
    ends
}

/// From the best to the worst.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Far {
    InPlace,
    NotOurs,
    Missing(String),
}

struct Look<'a, F> {
    world: &'a World,
    key: &'a WorkloadKey,
    stored: &'a F,
}

impl<F: Fn(&str, &str) -> Option<Arc<NetworkPolicy>>> Look<'_, F> {
    fn at(&self, direction: FlowDirection, name: &str, peer: &Peer) -> Far {
        let (namespace, missing) = match (peer, name.strip_prefix("service "), direction) {
            (Peer::Workload(other), _, _) => (&other.namespace, self.workload(other)),
            (Peer::Pods { namespace, .. }, Some(entry), FlowDirection::Egress)
                if self.world.stage_of(namespace) == Some(NamespaceStage::Shared) =>
            {
                (namespace, self.service(namespace, entry))
            }
            (Peer::Pods { .. } | Peer::Network { .. }, _, _) => return Far::NotOurs,
        };
        match missing {
            None => Far::InPlace,
            // Nothing of ours closes it, and nothing of ours opens it against the policies of others there.
            Some(_) if self.open(namespace) => Far::NotOurs,
            Some(why) => Far::Missing(why),
        }
    }

    /// Whether no deny of ours closes a namespace: in audit and warn none was written yet.
    fn open(&self, namespace: &str) -> bool {
        let mode = self.world.namespaces.get(namespace).map(|found| found.mode);
        mode.is_some_and(|mode| mode != Mode::Enforce) && (self.stored)(namespace, names::DENY_POLICY).is_none()
    }

    /// Why the policy of another workload is not in place; `None` where it is.
    fn workload(&self, other: &WorkloadKey) -> Option<String> {
        let name = policies::workload_policy_name(&other.name);
        let stored = (self.stored)(&other.namespace, &name);
        let drift = match policies::workload(self.world, other) {
            Some(desired) => drift::compare(&desired, stored.as_deref()),
            None => Drift::Missing,
        };
        not_same(&format!("{}/{name}", other.namespace), drift)
    }

    /// Why the policies of a service do not let this workload in; `None` where one does.
    fn service(&self, namespace: &str, entry: &str) -> Option<String> {
        let entry = self.world.services().iter().find(|known| *known.name == *entry)?;
        let (name, desired) = (
            policies::service_policy_name(&entry.name, 0),
            policies::service(self.world, entry, self.key)?,
        );
        let first = (self.stored)(namespace, &name);
        if let Some(foreign) = first.as_deref().filter(|first| !drift::is_ours(&first.metadata)) {
            return not_same(&format!("{namespace}/{name}"), drift::compare(&desired, Some(foreign)));
        }
        let numbered = |index| (self.stored)(namespace, &policies::service_policy_name(&entry.name, index));
        let chunk = (0..).map_while(numbered).find_map(|policy| self.about_us(&policy));
        not_same(&format!("{namespace}/{name}"), drift::compare(&desired, chunk.as_ref()))
    }

    /// A service's policy without the other workloads in it; `None` where this one is not in it.
    fn about_us(&self, policy: &NetworkPolicy) -> Option<NetworkPolicy> {
        let us = policies::peer(&Peer::Workload(self.key.clone()));
        let spec = policy.spec.as_ref()?;
        let mut named = false;
        let mut ingress = Vec::new();
        for rule in spec.ingress.iter().flatten() {
            let from: Vec<_> = rule
                .from
                .iter()
                .flatten()
                .filter(|peer| **peer == us)
                .cloned()
                .collect();
            named |= !from.is_empty();
            ingress.push(NetworkPolicyIngressRule {
                from: Some(from),
                ports: rule.ports.clone(),
            });
        }
        let found = NetworkPolicy {
            metadata: policy.metadata.clone(),
            spec: Some(NetworkPolicySpec {
                ingress: Some(ingress),
                ..spec.clone()
            }),
        };
        named.then_some(found)
    }
}

fn not_same(policy: &str, drift: Drift) -> Option<String> {
    let why = match drift {
        Drift::Same => return None,
        Drift::Missing => "is not there, or does not name this workload".to_owned(),
        Drift::Differs(fields) | Drift::Touched(fields) => format!("is not as it should be: {}", fields.join(", ")),
        Drift::Foreign { why } => format!("is not ours ({why}); rename or delete it"),
    };
    Some(format!("NetworkPolicy {policy} {why}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::api::workload::Runtime;
    use crate::network::{flows, testkit};

    fn world() -> World {
        let mut world = testkit::world();
        world
            .stage("infer", NamespaceStage::Inference)
            .stage("common", NamespaceStage::Shared)
            .plain("outside", "")
            .policy(
                "{services: [{name: registry, to: {namespace: common, podLabels: {app: registry}}, ports: [{port: 5000}]}, \
                 {name: vault, to: {namespace: outside}, ports: [{port: 8200}]}]}",
            )
            .workload(
                "infer",
                "front",
                Runtime::Generic,
                "{connectTo: [{workload: {name: model}}, {workload: {name: front}}, {service: registry}, {service: vault}, \
                 {service: kubernetes-api}]}",
            )
            .workload(
                "infer",
                "model",
                Runtime::Generic,
                "{acceptFrom: [{workload: {name: front}, ports: [{port: 8080}]}], connectTo: [{service: registry}]}",
            );
        world
    }

    /// The ends of `front`, with all policies stored but for what `change` does to them.
    fn seen(world: &World, change: impl Fn(&mut BTreeMap<(String, String), NetworkPolicy>)) -> Ends {
        let key = |policy: &NetworkPolicy| {
            let metadata = &policy.metadata;
            (metadata.namespace.clone().unwrap(), metadata.name.clone().unwrap())
        };
        let mut stored = policies::all(world)
            .into_iter()
            .map(|policy| (key(&policy), policy))
            .collect();
        change(&mut stored);
        let front = world.get("infer", "front");
        ends(world, front, &flows::resolve(world, front), |namespace, name| {
            stored
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned()
                .map(Arc::new)
        })
    }

    fn at(namespace: &str, name: &str) -> (String, String) {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn both_ends_are_counted_only_where_both_are_ours() {
        let ends = seen(&world(), |_| {});
        assert_eq!(ends.both, 3, "the model, itself and the registry: {ends:?}");
        assert_eq!(ends.one_sided, ["service kubernetes-api", "service vault"]);
        assert_eq!(ends.missing, [""; 0]);
    }

    #[test]
    fn what_is_not_in_place_at_the_other_end_is_named() {
        let gone = [
            (
                at("infer", "cloison-wl-model"),
                "workload infer/model: NetworkPolicy infer/cloison-wl-model is not there",
            ),
            (
                at("common", "cloison-svc-registry"),
                "service registry: NetworkPolicy common/cloison-svc-registry is not there",
            ),
        ];
        for (key, says) in gone {
            let missing = seen(&world(), |stored| drop(stored.remove(&key))).missing;
            assert!(missing.len() == 1 && missing[0].starts_with(says), "{missing:?}");
            let foreign = seen(&world(), |stored| stored.get_mut(&key).unwrap().metadata.labels = None).missing;
            assert!(foreign.len() == 1 && foreign[0].contains("is not ours"), "{foreign:?}");
            let emptied = seen(&world(), |stored| {
                let emptied = policies::emptied(&stored[&key]);
                stored.insert(key.clone(), emptied);
            });
            assert_eq!(emptied.missing.len(), 1, "{emptied:?}");
        }
    }

    #[test]
    fn a_policy_of_a_service_that_lets_others_in_lets_this_one_not() {
        let others = seen(&world(), |stored| {
            let service = stored.get_mut(&at("common", "cloison-svc-registry")).unwrap();
            let rules = service.spec.as_mut().unwrap().ingress.as_mut().unwrap();
            rules[0]
                .from
                .as_mut()
                .unwrap()
                .retain(|peer| policies::workload_of(peer).unwrap().name == "model");
        });
        assert_eq!(others.missing.len(), 1, "{others:?}");
    }

    #[test]
    fn where_nothing_closes_the_other_end_nothing_has_to_open_it() {
        let mut world = world();
        world.namespaces.get_mut("common").unwrap().mode = Mode::Audit;
        let service = at("common", "cloison-svc-registry");
        let without_deny = seen(&world, |stored| {
            stored.remove(&service);
            stored.remove(&at("common", names::DENY_POLICY));
        });
        assert_eq!(without_deny.missing, [""; 0]);
        assert!(
            without_deny.one_sided.contains(&"service registry".to_owned()),
            "{without_deny:?}"
        );
        assert_eq!(without_deny.both, 2, "what others wrote there was not looked at");
        let closed = seen(&world, |stored| drop(stored.remove(&service)));
        assert_eq!(closed.missing.len(), 1, "the deny of earlier days is still there");
    }
}
