//! What one end of a connection says, tier by tier, for pods that there are.
//!
//! Sets of ports go through the steps in order; what a step matches leaves with its action. Where it cannot be known
//! whether a step matches, or which of two comes first, the ports take both ways, so that in the end a port may be
//! allowed and may be denied: that is unknown, and said with the reason.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::network::cluster_policy::{Action, Tier};
use crate::network::ports::PortSet;

use super::classes::Class;
use super::concrete::{Connectivity, Endpoint, Other, Pod, Subject, ports_at, selects};
use super::ends::Ends;
use super::policy::{Direction, Peer};
use super::tiers::Step;

/// What is known of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Allowed, taken at the best.
    pub may_allow: PortSet,
    /// Denied, taken at the worst.
    pub may_deny: PortSet,
}

impl Settled {
    /// Allowed in any case.
    pub(super) fn certain(&self) -> PortSet {
        self.may_allow.difference(&self.may_deny)
    }

    /// Neither certainly allowed nor certainly denied.
    pub(super) fn unknown(&self) -> PortSet {
        self.may_allow.intersection(&self.may_deny)
    }
}

/// Connections of which nobody knows whether they are allowed, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// How many pairs of ends, each pod one.
    pub pairs: usize,
    /// The first of them by name, with the ports.
    pub example: (Endpoint, Endpoint, PortSet),
}

/// What NetworkPolicies say of a pod in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Middle {
    /// The ports they let through; `None` where none isolates the pod.
    pub allowed: Option<PortSet>,
    /// Whether some isolate it in the other direction.
    pub elsewhere: bool,
}

/// A step that is for a pod, with the ports it matches for sure and at the most.
pub(super) struct Match<'m, 's> {
    pub step: &'m Step<'s>,
    pub surely: PortSet,
    pub possibly: PortSet,
}

/// Ports by what may become of them in a tier.
#[derive(Default)]
struct Sorted {
    accepted: PortSet,
    denied: PortSet,
    /// Left to the next tier.
    on: PortSet,
}

/// Whatever the address of the target is, or that it is not known.
const UNKNOWN_ADDRESS: [Option<IpAddr>; 1] = [None];

impl<'s> Connectivity<'s> {
    /// What all tiers say at one end.
    pub(super) fn settled(&self, own: &Subject<'_>, direction: Direction, other: Other<'_>) -> Settled {
        let middle = Middle {
            allowed: self.by_network_policies(own, direction, other),
            elsewhere: !own.isolating[direction.opposite() as usize].is_empty(),
        };
        let mut all = Settled {
            may_deny: PortSet::all(),
            ..Settled::default()
        };
        // A connection is allowed when it is by one of the target's addresses.
        for address in addresses(other) {
            let settled = self.settled_at(own.pod, direction, other, address, &middle, PortSet::all());
            all.may_deny = all.may_deny.difference(&settled.certain());
            all.may_allow = all.may_allow.union(&settled.may_allow);
        }
        all
    }

    /// The same for some ports, by one address of the target.
    pub(super) fn settled_at(
        &self,
        own: &Pod,
        direction: Direction,
        other: Other<'_>,
        address: Option<IpAddr>,
        middle: &Middle,
        ports: PortSet,
    ) -> Settled {
        let admin = sorted(&self.matches(Tier::Admin, own, direction, other, address), ports);
        let mut settled = Settled {
            may_allow: admin.accepted,
            may_deny: admin.denied,
        };
        let mut allow = |ports: &PortSet| settled.may_allow = settled.may_allow.union(ports);
        let mut deny = |ports: &PortSet| settled.may_deny = settled.may_deny.union(ports);
        if let Some(allowed) = &middle.allowed {
            allow(&admin.on.intersection(allowed));
            deny(&admin.on.difference(allowed));
            return settled;
        }
        let baseline = sorted(&self.matches(Tier::Baseline, own, direction, other, address), admin.on);
        allow(&baseline.accepted);
        allow(&baseline.on);
        deny(&baseline.denied);
        // "Further evaluation only happens for Pods not selected by a v1.NetworkPolicy": some implementations take a pod
        // for selected that is so in the other direction.
        if middle.elsewhere {
            allow(&baseline.denied);
        }
        settled
    }

    /// The steps of a tier that may match, in order.
    pub(super) fn matches(
        &self,
        tier: Tier,
        own: &Pod,
        direction: Direction,
        other: Other<'_>,
        address: Option<IpAddr>,
    ) -> Vec<Match<'_, 's>> {
        let steps = self.tiers.steps(tier, direction).iter();
        let steps = steps.filter(|step| self.is_for(step, own));
        let matched = steps.filter_map(|step| {
            let surely = self.is_peer(step, other, address);
            if surely == Some(false) {
                return None;
            }
            let possibly = match direction {
                Direction::Egress => ports_at(&step.rule, other),
                Direction::Ingress => ports_at(&step.rule, Other::Pod(own)),
            };
            let surely = if surely.is_some() {
                possibly.clone()
            } else {
                PortSet::none()
            };
            (!possibly.is_empty()).then_some(Match { step, surely, possibly })
        });
        matched.collect()
    }

    /// Whether a step is for a pod.
    pub(super) fn is_for(&self, step: &Step<'_>, own: &Pod) -> bool {
        !own.host_network && step.namespaces.matches(|key| self.label(&own.namespace, key)) && selects(&step.pods, own)
    }

    /// Whether the other end is the peer of a step; `None`: nobody knows.
    pub(super) fn is_peer(&self, step: &Step<'_>, other: Other<'_>, address: Option<IpAddr>) -> Option<bool> {
        if step.unmodelled.is_some() {
            return None;
        }
        match (&step.rule.peer, other) {
            (Peer::Pods { namespaces, pods }, Other::Pod(pod)) => Some(
                !pod.host_network && namespaces.matches(|key| self.label(&pod.namespace, key)) && selects(pods, pod),
            ),
            (Peer::Addresses(block), Other::Address(address)) => Some(block.contains(address)),
            (Peer::Addresses(block), Other::Pod(_)) => match address {
                Some(address) => Some(block.contains(address)),
                None => block.is_everything().then_some(true),
            },
            (Peer::Pods { .. } | Peer::Own(_), _) => Some(false),
            (Peer::Everything, _) => Some(true),
        }
    }

    /// The connections of which nobody knows whether they are allowed, by reason. There are none where no
    /// ClusterNetworkPolicy is.
    pub fn unsettled(&self) -> BTreeMap<String, Unsettled> {
        let mut found = BTreeMap::new();
        if self.tiers.is_empty() {
            return found;
        }
        let unsure = Direction::BOTH.map(|direction| {
            let classes = self.classes.iter();
            let unsure = classes.map(|class| self.may_be_unsure(&class.subject, direction));
            unsure.collect::<Vec<bool>>()
        });
        let outside = self.outside(Direction::Egress);
        let out = Ends::of(self, Direction::Egress, &outside);
        let into = Ends::of(self, Direction::Ingress, &[]);
        for (index, from) in self.classes.iter().enumerate() {
            // Where one end closes all for sure, it is of no account what the other says.
            let targets = Ends::targets(&out, &into, index).into_iter();
            for to in targets.filter(|to| unsure[0][index] || unsure[1][*to]) {
                let to = &self.classes[to];
                let halves = [
                    (&from.subject, Direction::Egress, Other::Pod(to.subject.pod)),
                    (&to.subject, Direction::Ingress, Other::Pod(from.subject.pod)),
                ];
                self.note_unknown(&halves, || pairs(from, to), &mut found);
            }
            for range in outside.iter().filter(|_| unsure[0][index]) {
                let halves = [(&from.subject, Direction::Egress, Other::Address(range.first))];
                let end = Endpoint::Addresses(*range);
                let pairs = || {
                    let own = from.workloads.iter();
                    own.map(|(own, count)| (own.clone(), end.clone(), *count)).collect()
                };
                self.note_unknown(&halves, pairs, &mut found);
            }
        }
        found
    }

    /// Whether anything that is unknown can come of the steps for a pod: most policies leave nothing open.
    fn may_be_unsure(&self, own: &Subject<'_>, direction: Direction) -> bool {
        let elsewhere = !own.isolating[direction.opposite() as usize].is_empty();
        [Tier::Admin, Tier::Baseline].into_iter().any(|tier| {
            let steps = self.tiers.steps(tier, direction).iter();
            let steps: Vec<&Step<'_>> = steps.filter(|step| self.is_for(step, own.pod)).collect();
            let skipped = |step: &Step<'_>| tier == Tier::Baseline && step.action == Action::Deny && elsewhere;
            let by_address = |step: &Step<'_>| matches!(step.rule.peer, Peer::Addresses(_));
            let mut ranks = steps.chunk_by(|a, b| a.priority == b.priority);
            let tied = ranks.any(|rank| rank.iter().any(|step| step.is_tied_with(rank[0])));
            tied || steps
                .iter()
                .any(|step| step.unmodelled.is_some() || by_address(step) || skipped(step))
        })
    }

    fn note_unknown(
        &self,
        halves: &[(&Subject<'_>, Direction, Other<'_>)],
        pairs: impl Fn() -> Vec<(Endpoint, Endpoint, usize)>,
        found: &mut BTreeMap<String, Unsettled>,
    ) {
        let settled: Vec<Settled> = halves
            .iter()
            .map(|(own, direction, other)| self.settled(own, *direction, *other))
            .collect();
        let possible = settled
            .iter()
            .fold(PortSet::all(), |all, half| all.intersection(&half.may_allow));
        for ((own, direction, other), half) in halves.iter().zip(&settled) {
            let unknown = half.unknown().intersection(&possible);
            if unknown.is_empty() {
                continue;
            }
            let pairs = pairs();
            let count: usize = pairs.iter().map(|(.., count)| count).sum();
            let Some((from, to, _)) = pairs.into_iter().next() else {
                continue;
            };
            let example = (from, to, unknown.clone());
            for cause in self.causes(own.pod, *direction, *other, &unknown) {
                let example = example.clone();
                let note = found.entry(cause).or_insert(Unsettled {
                    pairs: 0,
                    example: example.clone(),
                });
                note.pairs += count;
                note.example = note.example.clone().min(example);
            }
        }
    }

    /// Why some ports are unknown at one end.
    pub(super) fn causes(&self, own: &Pod, direction: Direction, other: Other<'_>, unknown: &PortSet) -> Vec<String> {
        let mut causes = Vec::new();
        for address in addresses(other) {
            for tier in [Tier::Admin, Tier::Baseline] {
                let mut steps = self.matches(tier, own, direction, other, address);
                steps.retain(|found| !found.possibly.intersection(unknown).is_empty());
                for (index, found) in steps.iter().enumerate() {
                    if found.surely != found.possibly {
                        causes.extend(found.step.unknown().map(|(_, why)| why));
                    }
                    let tied = |other: &&Match<'_, '_>| {
                        let (a, b) = (found.step, other.step);
                        a.is_tied_with(b)
                            && a.action != b.action
                            && !found.possibly.intersection(&other.possibly).is_empty()
                    };
                    causes.extend(steps[index..].iter().find(tied).map(|other| found.step.tie(other.step)));
                }
                let skipped = steps
                    .iter()
                    .map(|found| found.step)
                    .find(|step| step.action == Action::Deny);
                if tier == Tier::Baseline && causes.is_empty() {
                    causes.extend(skipped.map(Step::skipped));
                }
            }
        }
        causes.sort();
        causes.dedup();
        causes
    }
}

/// The addresses by which an end is reached.
pub(super) fn addresses(other: Other<'_>) -> Vec<Option<IpAddr>> {
    match other {
        Other::Pod(pod) if !pod.addresses.is_empty() => pod.addresses.iter().copied().map(Some).collect(),
        Other::Pod(_) => UNKNOWN_ADDRESS.to_vec(),
        Other::Address(address) => vec![Some(address)],
    }
}

/// The workloads of two classes, pair by pair, with the number of pairs of pods; a workload and itself are none.
fn pairs(from: &Class<'_>, to: &Class<'_>) -> Vec<(Endpoint, Endpoint, usize)> {
    let with = |(source, some): (&Endpoint, &usize)| {
        let (source, some) = (source.clone(), *some);
        let others = to.workloads.iter().filter(|(target, _)| **target != source);
        let pair = |(target, others): (&Endpoint, &usize)| (source.clone(), target.clone(), some * others);
        others.map(pair).collect::<Vec<_>>()
    };
    from.workloads.iter().flat_map(with).collect()
}

/// Sends ports through the steps of a tier. Of policies with one priority each that matches may be the one that counts.
fn sorted(steps: &[Match<'_, '_>], ports: PortSet) -> Sorted {
    let mut sorted = Sorted {
        on: ports,
        ..Sorted::default()
    };
    let mut passed = PortSet::none();
    for rank in steps.chunk_by(|a, b| a.step.priority == b.step.priority) {
        let arriving = sorted.on.clone();
        for policy in rank.chunk_by(|a, b| a.step.policy == b.step.policy) {
            let mut here = arriving.clone();
            for found in policy {
                let taken = here.intersection(&found.possibly);
                let into = match found.step.action {
                    Action::Accept => &mut sorted.accepted,
                    Action::Deny => &mut sorted.denied,
                    Action::Pass => &mut passed,
                };
                *into = into.union(&taken);
                here = here.difference(&found.surely);
            }
            sorted.on = sorted.on.intersection(&here);
        }
    }
    sorted.on = sorted.on.union(&passed);
    sorted
}
