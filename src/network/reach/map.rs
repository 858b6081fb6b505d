//! The cluster as the analysis sees it: each namespace with the halves of paths that lead out of it or into it. A path
//! is two halves, one at each end, that fit together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::network::cluster_policy::KIND;
use crate::network::drift::same_rules;
use crate::network::ports::PortSet;
use crate::network::world::{Namespace, World};

use super::UnmodelledPolicy;
use super::around::{self, Around};
use super::cidr::Addresses;
use super::permits::Permits;
use super::policy::{self, Direction, Peer, Policy, Rule};
use super::satisfy::{self, Answer};
use super::selector::Selector;
use super::tiers::{Step, Tiers};
use super::waived::Waived;

/// All policies, read.
#[derive(Debug, Default)]
pub(super) struct Book<'a> {
    pub policies: Vec<(Policy<'a>, Standing)>,
    /// ClusterNetworkPolicies.
    pub tiers: Tiers<'a>,
    /// How many of the first doubts are ClusterNetworkPolicies.
    pub unreadable_tiers: usize,
    /// What cannot be read, by namespace; the empty name stands for the whole cluster.
    pub doubts: Vec<Doubt<'a>>,
    /// What is judged, where that is not everything: the rest is read as far as it concerns that.
    pub around: Option<&'a Around<'a>>,
}

/// Whether a policy is exactly one that we render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ours,
    Foreign,
}

/// Something that may open or close anything in its namespace.
#[derive(Debug)]
pub(super) struct Doubt<'a> {
    /// `None`: in every namespace.
    pub namespace: Option<&'a str>,
    pub reason: &'static str,
    pub what: String,
}

impl<'a> Book<'a> {
    /// Reads everything, in an order that does not depend on the order of the input.
    pub(super) fn read(
        world: &'a World,
        policies: &[&'a NetworkPolicy],
        unmodelled: &'a [UnmodelledPolicy],
        desired: &[&NetworkPolicy],
    ) -> Self {
        Self::read_around(world, policies, unmodelled, desired, None)
    }

    /// Reads what concerns the namespaces that are judged.
    pub(super) fn read_around(
        world: &'a World,
        policies: &[&'a NetworkPolicy],
        unmodelled: &'a [UnmodelledPolicy],
        desired: &[&NetworkPolicy],
        around: Option<&'a Around<'a>>,
    ) -> Self {
        let wanted: HashMap<(&str, &str), &NetworkPolicy> = desired
            .iter()
            .map(|policy| (policy::identity(policy), *policy))
            .collect();
        let mut sorted: Vec<&'a NetworkPolicy> = policies.to_vec();
        sorted.sort_by_key(|policy| policy::identity(policy));
        let (mut tiers, unreadable) = Tiers::read(&world.cluster_policies);
        tiers.locate(world.ranges().map(|ranges| Addresses::of(&ranges)).as_ref());
        let mut book = Self {
            tiers,
            unreadable_tiers: unreadable.len(),
            around,
            ..Self::default()
        };
        book.doubts.extend(unreadable.into_iter().map(|(name, error)| Doubt {
            namespace: None,
            reason: "UnreadablePolicy",
            what: format!("{KIND} {name}, which cannot be read: {error}"),
        }));
        for found in sorted {
            let identity = policy::identity(found);
            match around::read(around, found) {
                Ok(None) => {}
                Ok(Some(read)) => {
                    // Only rules are ours or not.
                    let leads_out = read.rules.iter().any(Rule::leads_out);
                    let ours = leads_out && wanted.get(&identity).is_some_and(|wanted| same_rules(wanted, found));
                    let standing = if ours { Standing::Ours } else { Standing::Foreign };
                    book.policies.push((read, standing));
                }
                Err(error) => book.doubts.push(Doubt {
                    namespace: Some(identity.0),
                    reason: "UnreadablePolicy",
                    what: format!(
                        "NetworkPolicy {}/{}, which cannot be read: {error}",
                        identity.0, identity.1
                    ),
                }),
            }
        }
        let mut others: Vec<&UnmodelledPolicy> = unmodelled.iter().collect();
        others.sort();
        book.doubts.extend(others.into_iter().map(|other| Doubt {
            namespace: other.namespace.as_deref(),
            reason: "UnmodelledPolicy",
            what: match &other.namespace {
                Some(namespace) => format!("{} in {namespace}, which the analysis does not model", other.kind),
                None => format!("{} of the whole cluster, which the analysis does not model", other.kind),
            },
        }));
        book
    }
}

/// What an `ipBlock` may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Pods, by selectors.
    Pods,
    /// Addresses inside the cluster's ranges, or nobody knows: CNIs disagree whether that matches pods.
    MaybePods,
    /// Addresses outside the cluster, or known ones that are no pods.
    Outside,
}

/// One end of a path: what a namespace lets out, or in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half<'p> {
    /// By a peer of a rule.
    Rule {
        policy: &'p Policy<'p>,
        rule: &'p Rule<'p>,
        reach: Reach,
        standing: Standing,
    },
    /// By a ClusterNetworkPolicy that accepts, whatever NetworkPolicies say.
    Accept(&'p Step<'p>),
    /// For pods that no policy isolates in this direction.
    Open,
    /// Perhaps.
    Doubt(&'p Doubt<'p>),
}

impl<'p> Half<'p> {
    /// The rule, where it is one.
    pub(super) const fn rule(&self) -> Option<&'p Rule<'p>> {
        match self {
            Self::Rule { rule, .. } => Some(rule),
            Self::Accept(step) => Some(&step.rule),
            Self::Open | Self::Doubt(_) => None,
        }
    }

    /// The pods of the namespace that it is for; `None` for all.
    pub(super) fn subject(&self) -> Option<&'p Selector<'p>> {
        match self {
            Self::Rule { policy, .. } => Some(&policy.subject),
            Self::Accept(step) => Some(&step.pods),
            Self::Open | Self::Doubt(_) => None,
        }
    }

    /// The pods at the other end; `None` for all.
    pub(super) fn pods(&self) -> Option<&'p Selector<'p>> {
        match &self.rule()?.peer {
            Peer::Pods { pods, .. } => Some(pods),
            Peer::Everything | Peer::Own(_) | Peer::Addresses(_) => None,
        }
    }

    /// The namespaces at the other end; `None` for all.
    pub(super) fn namespaces(&self) -> Option<&'p Selector<'p>> {
        match &self.rule()?.peer {
            Peer::Pods { namespaces, .. } => Some(namespaces),
            Peer::Everything | Peer::Own(_) | Peer::Addresses(_) => None,
        }
    }

    /// The ports; `None` for all.
    pub(super) fn ports(&self) -> Option<&'p PortSet> {
        self.rule().map(|rule| &rule.ports.possible)
    }

    /// Whether its ports may be those that a pod gives a name.
    pub(super) fn lives_on_a_name(&self) -> bool {
        self.rule().is_some_and(|rule| !rule.ports.names.is_empty())
    }

    /// Whether it lets pods of that namespace meet those of this one.
    pub(super) fn meets(&self, site: &Site<'_>) -> bool {
        self.namespaces()
            .is_none_or(|namespaces| namespaces.matches(|key| site.label(key)))
    }

    /// Whether it leads to no pod at all.
    pub(super) const fn is_outside(&self) -> bool {
        matches!(
            self,
            Self::Rule {
                reach: Reach::Outside,
                ..
            } | Self::Accept(Step {
                reach: Reach::Outside,
                ..
            })
        )
    }

    /// Whether a path through it is only a possible one.
    pub(super) const fn is_doubtful(&self) -> bool {
        match self {
            Self::Doubt(_)
            | Self::Rule {
                reach: Reach::MaybePods,
                ..
            } => true,
            Self::Accept(step) => !step.is_sure(),
            Self::Rule { .. } | Self::Open => false,
        }
    }
}

/// A namespace.
#[derive(Debug)]
pub(super) struct Site<'p> {
    pub name: &'p str,
    pub stage: Option<NamespaceStage>,
    labels: &'p BTreeMap<String, String>,
    /// The selectors of the policies that isolate egress, ingress.
    pub isolating: [Vec<&'p Selector<'p>>; 2],
    /// What it lets out, and in.
    pub halves: [Vec<Half<'p>>; 2],
}

impl<'p> Site<'p> {
    /// A label of the namespace. Its name is the API server's own word, whatever a stale cache says.
    pub(super) fn label(&self, key: &str) -> Option<&'p str> {
        if key == names::NAMESPACE_NAME_LABEL {
            return Some(self.name);
        }
        self.labels.get(key).map(String::as_str)
    }

    /// The selectors that a pod must escape for a half to hold.
    pub(super) fn avoided(&self, half: &Half<'_>, direction: Direction) -> &[&'p Selector<'p>] {
        match half {
            Half::Open => &self.isolating[direction as usize],
            Half::Rule { .. } | Half::Accept(_) | Half::Doubt(_) => &[],
        }
    }

    /// Whether a pod could exist here that nothing isolates in a direction.
    fn has_open(&self, direction: Direction) -> bool {
        let isolating = &self.isolating[direction as usize];
        let denied = isolating.iter().any(|selector| selector.is_everything());
        !denied && satisfy::pod(&Selector::default(), isolating) != Answer::No
    }
}

/// The whole cluster.
#[derive(Debug)]
pub(super) struct Map<'p> {
    /// All that exist.
    pub namespaces: &'p BTreeMap<String, Namespace>,
    /// Those that are looked at.
    pub sites: Vec<Site<'p>>,
    pub by_name: HashMap<&'p str, usize>,
    pub permits: Permits<'p>,
    pub tiers: &'p Tiers<'p>,
    /// A ClusterNetworkPolicy that cannot be read: it may deny whatever is found.
    pub cloud: Option<&'p Doubt<'p>>,
    /// What Waivers permit between two stages.
    pub waived: Waived<'p>,
    pub ranges_known: bool,
    /// What a namespace created later lets out, and in: no NetworkPolicy isolates anything there.
    pub open_later: [Vec<Half<'p>>; 2],
}

impl<'p> Map<'p> {
    /// Whether ClusterNetworkPolicies decide anything.
    pub(super) fn has_tiers(&self) -> bool {
        !self.tiers.is_empty() || self.cloud.is_some()
    }

    /// Sorts the policies by namespace. Policies in a namespace that is not known are left out: it counts as one that
    /// is created later, without any policy. `only` names the namespaces that are looked at where that is not all.
    pub(super) fn new(
        world: &'p World,
        book: &'p Book<'p>,
        permits: Permits<'p>,
        only: Option<&BTreeSet<&str>>,
    ) -> Self {
        let ranges = world.ranges().map(|ranges| Addresses::of(&ranges));
        let mut map = Self {
            namespaces: &world.namespaces,
            sites: Vec::with_capacity(only.map_or(world.namespaces.len(), BTreeSet::len)),
            by_name: HashMap::new(),
            permits,
            tiers: &book.tiers,
            cloud: book.doubts.first().filter(|_| book.unreadable_tiers > 0),
            waived: Waived::of(world),
            ranges_known: ranges.is_some(),
            open_later: Direction::BOTH.map(|direction| {
                let accepts = book.tiers.accepts(direction).map(Half::Accept);
                std::iter::once(Half::Open).chain(accepts).collect()
            }),
        };
        let looked_at = |name: &String| only.is_none_or(|only| only.contains(name.as_str()));
        for (name, found) in world.namespaces.iter().filter(|(name, _)| looked_at(name)) {
            map.by_name.insert(name, map.sites.len());
            map.sites.push(Site {
                name,
                stage: found.stage,
                labels: &found.labels,
                isolating: [Vec::new(), Vec::new()],
                halves: [Vec::new(), Vec::new()],
            });
        }
        for (policy, standing) in &book.policies {
            let Some(site) = map
                .by_name
                .get(policy.namespace)
                .and_then(|index| map.sites.get_mut(*index))
            else {
                continue;
            };
            for direction in Direction::BOTH {
                if policy.isolates[direction as usize] {
                    site.isolating[direction as usize].push(&policy.subject);
                }
            }
            for rule in policy.rules.iter().filter(|rule| rule.leads_out()) {
                site.halves[rule.direction as usize].push(Half::Rule {
                    policy,
                    rule,
                    reach: reach(&rule.peer, ranges.as_ref(), &map.permits),
                    standing: *standing,
                });
            }
        }
        for site in &mut map.sites {
            let doubts = book.doubts.iter();
            let here = doubts.filter(|doubt| doubt.namespace.is_none_or(|namespace| namespace == site.name));
            let here: Vec<Half<'_>> = here.map(Half::Doubt).collect();
            for direction in Direction::BOTH {
                let accepts = book.tiers.accepts(direction);
                let accepts = accepts.filter(|step| step.namespaces.matches(|key| site.label(key)));
                let accepts: Vec<Half<'_>> = accepts.map(Half::Accept).collect();
                site.halves[direction as usize].extend(accepts);
                let open = site.has_open(direction).then_some(Half::Open);
                site.halves[direction as usize].extend(open);
                site.halves[direction as usize].extend(here.iter().copied());
            }
        }
        map
    }
}

fn reach(peer: &Peer<'_>, ranges: Option<&Addresses>, permits: &Permits<'_>) -> Reach {
    match (peer, ranges) {
        (Peer::Everything | Peer::Own(_) | Peer::Pods { .. }, _) => Reach::Pods,
        (Peer::Addresses(block), Some(ranges)) if !block.overlaps(ranges) => Reach::Outside,
        (Peer::Addresses(block), _) if permits.is_infrastructure(block) => Reach::Outside,
        (Peer::Addresses(_), _) => Reach::MaybePods,
    }
}
