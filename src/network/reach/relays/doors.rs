//! Every namespace with the doors of its pods: what lets them out, and in. Beside the halves that lead out of it there
//! are those between its own pods, because a chain may go through two pods of one namespace.

use std::collections::HashMap;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::network::ports::PortSet;

use super::super::analysis::{self, Meeting, Side};
use super::super::map::{Book, Half, Map, Reach, Site, Standing};
use super::super::policy::{Direction, Peer};
use super::super::satisfy::{self, Answer};
use super::super::selector::{Constraint, Selector};

/// A way in or out of pods of one namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'p> {
    pub half: Half<'p>,
    /// The pods at the other end; `None` for all.
    pods: Option<&'p Selector<'p>>,
    /// It is between pods of one namespace.
    own: bool,
}

impl<'p> Door<'p> {
    fn new(half: Half<'p>) -> Self {
        let (pods, own) = match half.rule().map(|rule| &rule.peer) {
            Some(Peer::Own(pods)) => (Some(pods), true),
            _ => (half.pods(), false),
        };
        Self { half, pods, own }
    }

    /// The pods that it is for, of those that match `of`.
    pub(super) fn pods_of(&self, of: &Selector<'p>) -> Option<Selector<'p>> {
        self.half
            .subject()
            .map_or_else(|| Some(of.clone()), |subject| of.and(subject))
    }

    /// What it wants of the pod at the other end, of those that match `of`.
    pub(super) fn far_pods_of(&self, of: &Selector<'p>) -> Option<Selector<'p>> {
        self.pods.map_or_else(|| Some(of.clone()), |pods| of.and(pods))
    }

    /// Whether it is for pods that nothing isolates.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.half, Half::Open)
    }

    /// Whether it may open anything.
    pub(super) const fn is_doubt(&self) -> bool {
        matches!(self.half, Half::Doubt(_))
    }

    /// The namespaces that it names; `None` where it may be any.
    fn named<'m>(&'m self, site: &Site<'p>) -> Option<Vec<&'p str>> {
        if self.own {
            return Some(vec![site.name]);
        }
        let name = self.half.namespaces()?.constraint(names::NAMESPACE_NAME_LABEL)?;
        match name {
            Constraint::In(listed) => Some(listed.clone()),
            Constraint::NotIn(_) | Constraint::Present(_) | Constraint::Absent => None,
        }
    }

    fn meets(&self, far: &Site<'_>) -> bool {
        // One of its own is only ever found under its namespace's name.
        self.own || self.half.meets(far)
    }
}

/// The doors of one namespace in one direction.
#[derive(Debug, Default)]
struct Doors<'p> {
    all: Vec<Door<'p>>,
    /// Those that name a namespace, by its name.
    named: HashMap<&'p str, Vec<usize>>,
    /// The others.
    unnamed: Vec<usize>,
}

/// All of them.
pub(super) struct House<'m, 'p> {
    pub map: &'m Map<'p>,
    /// In the order of the sites of the map: out, and in.
    doors: Vec<[Doors<'p>; 2]>,
}

/// Whether a hop is certain.
pub(super) enum Sure {
    No,
    Yes,
    Perhaps,
}

impl<'m, 'p> House<'m, 'p> {
    pub(super) fn new(map: &'m Map<'p>, book: &'p Book<'p>) -> Self {
        let mut inside: HashMap<&str, [Vec<Half<'p>>; 2]> = HashMap::new();
        for (policy, standing) in &book.policies {
            for rule in policy.rules.iter().filter(|rule| !rule.leads_out()) {
                let (reach, standing): (_, Standing) = (Reach::Pods, *standing);
                inside.entry(policy.namespace).or_default()[rule.direction as usize].push(Half::Rule {
                    policy,
                    rule,
                    reach,
                    standing,
                });
            }
        }
        let of = |site: &Site<'p>| {
            Direction::BOTH.map(|direction| {
                let own = inside
                    .get(site.name)
                    .map(|halves| halves[direction as usize].as_slice());
                let leading_out = site.halves[direction as usize].iter().filter(|half| !half.is_outside());
                let all = leading_out.chain(own.unwrap_or_default()).copied().map(Door::new);
                Doors::of(site, all.collect())
            })
        };
        Self {
            map,
            doors: map.sites.iter().map(of).collect(),
        }
    }

    /// The stage of a namespace.
    pub(super) fn stage(&self, site: usize) -> Option<NamespaceStage> {
        self.map.sites[site].stage
    }

    /// What leads from a namespace.
    pub(super) fn doors(&self, site: usize, direction: Direction) -> &[Door<'p>] {
        &self.doors[site][direction as usize].all
    }

    /// The namespaces that a door leads to.
    pub(super) fn beyond(&self, site: usize, door: &Door<'p>) -> Vec<usize> {
        let near = &self.map.sites[site];
        match door.named(near) {
            Some(named) => {
                let known = named.iter().filter_map(|name| self.map.by_name.get(name).copied());
                known.filter(|far| door.meets(&self.map.sites[*far])).collect()
            }
            None => (0..self.map.sites.len())
                .filter(|far| door.meets(&self.map.sites[*far]))
                .collect(),
        }
    }

    /// The doors of a namespace that a pod of the other one stands before.
    pub(super) fn facing(&self, far: usize, near: usize, direction: Direction) -> impl Iterator<Item = &Door<'p>> {
        let doors = &self.doors[far][direction as usize];
        let site = &self.map.sites[near];
        let named = doors.named.get(site.name).into_iter().flatten();
        let found = named.chain(&doors.unnamed).map(|index| &doors.all[*index]);
        found.filter(move |door| door.meets(site))
    }

    /// Asks for one pod that matches, and that nothing isolates in these directions.
    pub(super) fn pod(&self, site: usize, wanted: &Selector<'p>, unisolated: &[Direction]) -> Answer {
        let isolating = unisolated
            .iter()
            .flat_map(|direction| &self.map.sites[site].isolating[*direction as usize]);
        satisfy::pod(wanted, &isolating.copied().collect::<Vec<_>>())
    }

    /// Whether two doors that face each other let through what each of them says, whichever pods fit.
    pub(super) fn is_sure(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Sure {
        let doubtful = mine.half.is_doubtful() || theirs.half.is_doubtful() || self.map.cloud.is_some();
        if self.map.tiers.is_empty() {
            return if doubtful { Sure::Perhaps } else { Sure::Yes };
        }
        if self.map.is_apart(mine, theirs) {
            Sure::No
        } else if doubtful || !self.map.is_left_alone(mine, theirs) {
            Sure::Perhaps
        } else {
            Sure::Yes
        }
    }

    /// Why a hop is not certain.
    pub(super) fn doubt(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Option<(&'static str, String)> {
        let of_tiers = || {
            let sure = matches!(self.is_sure(mine, theirs), Sure::Yes);
            let what = "ClusterNetworkPolicies, and whether one relay gets round them on both sides";
            (!sure).then(|| analysis::perhaps(mine, theirs, analysis::TOO_COMPLEX, what))
        };
        match self.map.doubt(mine, theirs).or_else(of_tiers)? {
            Meeting::Perhaps { reason, message } => Some((reason, message)),
            Meeting::Apart | Meeting::Path(_) => None,
        }
    }
}

impl<'p> Doors<'p> {
    fn of(site: &Site<'p>, all: Vec<Door<'p>>) -> Self {
        let mut doors = Self::default();
        for (index, door) in all.iter().enumerate() {
            match door.named(site) {
                Some(listed) => {
                    for name in listed {
                        doors.named.entry(name).or_default().push(index);
                    }
                }
                None => doors.unnamed.push(index),
            }
        }
        doors.all = all;
        doors
    }
}

/// The ports that two doors let through.
pub(super) fn ports(mine: &Door<'_>, theirs: &Door<'_>) -> PortSet {
    analysis::shared(mine.half.ports(), theirs.half.ports())
}
