//! The graph that is searched: every namespace with the doors of its pods, which let them out, and in. Beside the halves
//! that lead out of a namespace there are those between its own pods, because a chain may go through two pods of one.

use std::collections::HashMap;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::network::ports::PortSet;

use super::super::analysis::{self, Found, Side, TOO_COMPLEX};
use super::super::map::{Book, Half, Map, Reach, Site};
use super::super::policy::{Direction, Peer};
use super::super::satisfy::{self, Answer, BUDGET};
use super::super::selector::{Constraint, Selector};
use super::search::TOGETHER;

/// A way in or out of pods of one namespace.
#[derive(Debug)]
pub(super) struct Door<'p> {
    pub half: Half<'p>,
    /// The pods at the other end; `None` for all.
    pods: Option<&'p Selector<'p>>,
    /// The namespaces that it leads to, where it names them; `None` for those that its half meets.
    named: Option<Vec<usize>>,
}

impl<'p> Door<'p> {
    fn new(half: Half<'p>, site: usize, map: &Map<'p>) -> Self {
        if let Some(Peer::Own(pods)) = half.rule().map(|rule| &rule.peer) {
            let (pods, named) = (Some(pods), Some(vec![site]));
            return Self { half, pods, named };
        }
        let name = half.namespaces();
        let name = name.and_then(|wanted| wanted.constraint(names::NAMESPACE_NAME_LABEL));
        let named = match name {
            Some(Constraint::In(listed)) => {
                let known = listed.iter().filter_map(|name| map.by_name.get(name).copied());
                Some(known.filter(|far| half.meets(&map.sites[*far])).collect())
            }
            Some(Constraint::NotIn(_) | Constraint::Present(_) | Constraint::Absent) | None => None,
        };
        let pods = half.pods();
        Self { half, pods, named }
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

    /// Whether it leads to a namespace, where it names that or names none.
    pub(super) fn meets(&self, far: &Site<'_>) -> bool {
        self.named.is_some() || self.half.meets(far)
    }
}

/// The doors of one namespace in one direction.
#[derive(Debug, Default)]
struct Doors<'p> {
    all: Vec<Door<'p>>,
    /// Those that name a namespace, by that.
    named: HashMap<usize, Vec<usize>>,
    /// The others.
    unnamed: Vec<usize>,
}

impl<'p> Doors<'p> {
    fn of(all: Vec<Door<'p>>) -> Self {
        let mut doors = Self::default();
        for (index, door) in all.iter().enumerate() {
            match &door.named {
                Some(listed) => {
                    for far in listed {
                        doors.named.entry(*far).or_default().push(index);
                    }
                }
                None => doors.unnamed.push(index),
            }
        }
        doors.all = all;
        doors
    }
}

/// All of it.
pub(super) struct Graph<'m, 'p> {
    pub map: &'m Map<'p>,
    /// In the order of the sites of the map: out, and in.
    doors: Vec<[Doors<'p>; 2]>,
}

/// Whether the tiers of ClusterNetworkPolicies leave a hop as it is.
pub(super) enum Sure {
    No,
    Yes,
    Perhaps,
}

impl<'m, 'p> Graph<'m, 'p> {
    pub(super) fn new(map: &'m Map<'p>, book: &'p Book<'p>) -> Self {
        let mut inside: HashMap<&str, [Vec<Half<'p>>; 2]> = HashMap::new();
        for (policy, standing) in &book.policies {
            for rule in policy.rules.iter().filter(|rule| !rule.leads_out()) {
                inside.entry(policy.namespace).or_default()[rule.direction as usize].push(Half::Rule {
                    policy,
                    rule,
                    reach: Reach::Pods,
                    standing: *standing,
                });
            }
        }
        let of = |(index, site): (usize, &Site<'p>)| {
            Direction::BOTH.map(|direction| {
                let own = inside
                    .get(site.name)
                    .map(|halves| halves[direction as usize].as_slice());
                let leading_out = site.halves[direction as usize].iter().filter(|half| !half.is_outside());
                let all = leading_out.chain(own.unwrap_or_default());
                Doors::of(all.map(|half| Door::new(*half, index, map)).collect())
            })
        };
        Self {
            map,
            doors: map.sites.iter().enumerate().map(of).collect(),
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

    /// The namespaces that a door may lead to: those that it [`meets`](Door::meets), and perhaps others.
    pub(super) fn beyond<'d>(&self, door: &'d Door<'p>) -> impl Iterator<Item = usize> + use<'d, 'p> {
        let (named, all) = match &door.named {
            Some(named) => (named.as_slice(), 0..0),
            None => ([].as_slice(), 0..self.map.sites.len()),
        };
        named.iter().copied().chain(all)
    }

    /// The doors of a namespace that a pod of the other one may stand before, in the same sense.
    pub(super) fn facing(&self, far: usize, near: usize, direction: Direction) -> impl Iterator<Item = &Door<'p>> {
        let doors = &self.doors[far][direction as usize];
        let named = doors.named.get(&near).into_iter().flatten();
        named.chain(&doors.unnamed).map(|index| &doors.all[*index])
    }

    /// Asks for one pod that matches, and that nothing isolates in these directions. `looks` lose what it takes.
    pub(super) fn pod(&self, site: usize, wanted: Selector<'p>, unisolated: &[Direction], looks: &mut u64) -> Answer {
        let isolating = unisolated
            .iter()
            .flat_map(|direction| &self.map.sites[site].isolating[*direction as usize]);
        let isolating: Vec<&Selector<'p>> = isolating.copied().collect();
        let (policies, mut budget) = (isolating.len() as u64, BUDGET);
        let found = satisfy::search(wanted, isolating, &mut budget);
        *looks = looks.saturating_sub(TOGETHER * u64::from(BUDGET - budget) * (1 + policies));
        match found {
            Some(pods) => Answer::Yes(pods.example()),
            None if budget == 0 => Answer::TooHard,
            None => Answer::No,
        }
    }

    /// Whether two doors that face each other let through what each of them says, whichever pods fit, as far as tiers have
    /// a say. `looks` lose what it takes.
    pub(super) fn is_sure(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>, looks: &mut u64) -> Sure {
        if self.map.is_left_alone(mine, theirs) {
            return Sure::Yes;
        }
        let mut budget = BUDGET;
        let found = self.map.in_tiers_within(mine, theirs, &mut budget);
        *looks = looks.saturating_sub(TOGETHER * u64::from(BUDGET - budget));
        match found {
            Found::Apart => Sure::No,
            Found::Unsure { .. } | Found::Ends { .. } => Sure::Perhaps,
        }
    }

    /// Why a hop is not certain.
    pub(super) fn doubt(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Option<(&'static str, String)> {
        let of_tiers = || match self.map.in_tiers(mine, theirs) {
            Found::Unsure { reason, what } => (reason, what),
            Found::Apart | Found::Ends { .. } => {
                let what = "ClusterNetworkPolicies, and whether one relay gets round them on both sides";
                (TOO_COMPLEX, what.to_owned())
            }
        };
        let denied = || (!self.map.is_left_alone(mine, theirs)).then(of_tiers);
        let (reason, what) = self.map.reason(mine, theirs).or_else(denied)?;
        Some((reason, analysis::depends(mine, theirs, &what)))
    }
}

/// The ports that two doors let through.
pub(super) fn ports(mine: &Door<'_>, theirs: &Door<'_>) -> PortSet {
    analysis::shared(mine.half.ports(), theirs.half.ports())
}
