//! The search for the shortest chains between two stages: breadth first, over classes of pods. A class is what a hop says
//! of the pod it ends at; the next hop starts at a pod of that class or is none.

use std::collections::{BTreeMap, VecDeque};

use crate::api::stage::NamespaceStage;

use super::super::analysis::Side;
use super::super::policy::Direction;
use super::super::satisfy::Answer;
use super::super::selector::Selector;
use super::graph::{Door, Graph, Sure, ports};

/// Most looks at a namespace, at a door or at a class, for all searches of one answer. A thousand namespaces that are open
/// to each other take a million for each search.
pub(super) const MOST_LOOKS: u64 = 100_000_000;
/// How many looks it takes to put selectors together.
pub(super) const TOGETHER: u64 = 10;
/// Most classes of one search.
const MOST_CLASSES: usize = 20_000;

/// Two doors that face each other, seen from where the search starts.
#[derive(Clone, Copy)]
pub(super) struct Hop<'h, 'p> {
    pub near: usize,
    pub mine: &'h Door<'p>,
    pub far: usize,
    pub theirs: &'h Door<'p>,
}

/// The pods that a chain of hops ends at.
struct Class<'h, 'p> {
    pods: Selector<'p>,
    hop: Hop<'h, 'p>,
    before: Option<usize>,
}

impl Class<'_, '_> {
    /// Whether every pod of another is one of these.
    fn holds(&self, pods: &Selector<'_>, theirs: &Door<'_>) -> bool {
        (theirs.is_open() || !self.hop.theirs.is_open()) && pods.implies(&self.pods)
    }
}

/// What is looked for.
pub(super) struct Search<'h, 'm, 'p> {
    pub graph: &'h Graph<'m, 'p>,
    /// `Egress`: chains that start in the one stage and end in the other; `Ingress`: the same, followed backwards.
    pub direction: Direction,
    pub from: NamespaceStage,
    pub to: NamespaceStage,
    /// Only through doors that are known to be open.
    pub certain: bool,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Found<'h, 'p> {
    /// For each namespace at the other end the hops to there.
    pub chains: BTreeMap<usize, Vec<Hop<'h, 'p>>>,
    /// Something was left out because it is not certain.
    pub left_out: bool,
    /// There was more than could be looked at.
    pub cut: bool,
}

/// A search under way.
struct Walk<'s, 'h, 'm, 'p> {
    search: &'s Search<'h, 'm, 'p>,
    /// The namespaces whose chain is still looked for.
    wanted: Vec<bool>,
    left: usize,
    classes: Vec<Class<'h, 'p>>,
    /// The classes of each namespace.
    at: Vec<Vec<usize>>,
    queue: VecDeque<usize>,
    found: Found<'h, 'p>,
    looks: &'s mut u64,
}

impl<'h, 'p> Search<'h, '_, 'p> {
    /// Finds the shortest chain to each namespace of `wanted`. `looks` is what may still be looked at.
    pub(super) fn run(&self, wanted: impl IntoIterator<Item = usize>, looks: &mut u64) -> Found<'h, 'p> {
        let sites = self.graph.map.sites.len();
        let mut walk = Walk {
            search: self,
            wanted: vec![false; sites],
            left: 0,
            classes: Vec::new(),
            at: vec![Vec::new(); sites],
            queue: VecDeque::new(),
            found: Found::default(),
            looks,
        };
        for site in wanted {
            walk.left += usize::from(!walk.wanted[site]);
            walk.wanted[site] = true;
        }
        walk.all();
        walk.found
    }

    /// The two sides of a hop.
    pub(super) fn sides(&self, hop: &Hop<'h, 'p>) -> [Side<'h, 'p>; 2] {
        let side = |door: &'h Door<'p>, site: usize, direction| Side {
            half: &door.half,
            site: Some(&self.graph.map.sites[site]),
            direction,
        };
        [
            side(hop.mine, hop.near, self.direction),
            side(hop.theirs, hop.far, self.direction.opposite()),
        ]
    }

    /// A pod between two hops: the far end of the one and the near end of the other at once.
    pub(super) fn pod(
        &self,
        site: usize,
        before: Option<&Hop<'h, 'p>>,
        after: Option<&Hop<'h, 'p>>,
        looks: &mut u64,
    ) -> Answer {
        let mut wanted = Some(Selector::default());
        let mut unisolated = Vec::new();
        if let Some(hop) = before {
            wanted = wanted.and_then(|pods| hop.theirs.pods_of(&hop.mine.far_pods_of(&pods)?));
            unisolated.extend(hop.theirs.is_open().then_some(self.direction.opposite()));
        }
        if let Some(hop) = after {
            wanted = wanted.and_then(|pods| hop.mine.pods_of(&hop.theirs.far_pods_of(&pods)?));
            unisolated.extend(hop.mine.is_open().then_some(self.direction));
        }
        wanted.map_or(Answer::No, |wanted| self.graph.pod(site, wanted, &unisolated, looks))
    }
}

impl<'h, 'p> Walk<'_, 'h, '_, 'p> {
    fn all(&mut self) {
        let search = self.search;
        for site in 0..search.graph.map.sites.len() {
            if search.graph.stage(site) == Some(search.from) {
                self.go_on(site, None);
            }
        }
        while let Some(class) = self.queue.pop_front() {
            if self.left == 0 || self.found.cut {
                return;
            }
            self.go_on(self.classes[class].hop.far, Some(class));
        }
    }

    /// Takes every hop from the pods of a class, or, at the start, from any pod of the namespace.
    fn go_on(&mut self, near: usize, before: Option<usize>) {
        let search = self.search;
        let (graph, direction) = (search.graph, search.direction);
        let pods = before.map_or_else(Selector::default, |class| self.classes[class].pods.clone());
        for mine in graph.doors(near, direction) {
            if !self.may_look(TOGETHER) {
                return;
            }
            // What nobody knows of a stage's own end is for its verdict to tell.
            if before.is_none() && mine.is_doubt() {
                continue;
            }
            if search.certain && mine.half.is_doubtful() {
                self.found.left_out = true;
                continue;
            }
            let Some(own) = mine.pods_of(&pods) else { continue };
            for far in graph.beyond(mine) {
                // One at the namespace, and one at each class that is there already.
                if !self.may_look(1 + self.at[far].len() as u64) {
                    return;
                }
                if !mine.meets(&graph.map.sites[far]) || !self.is_worth(far, before.is_some()) {
                    continue;
                }
                for theirs in graph.facing(far, near, direction.opposite()) {
                    if !self.may_look(TOGETHER + self.at[far].len() as u64) {
                        return;
                    }
                    if theirs.meets(&graph.map.sites[near]) {
                        let hop = Hop {
                            near,
                            mine,
                            far,
                            theirs,
                        };
                        self.take(hop, &own, before);
                    }
                }
            }
        }
    }

    fn may_look(&mut self, times: u64) -> bool {
        self.found.cut |= *self.looks == 0 || self.classes.len() >= MOST_CLASSES;
        *self.looks = self.looks.saturating_sub(times);
        !self.found.cut
    }

    /// Whether going to a namespace can still add anything. A relay of the first stage or of the last would only make
    /// the chain longer.
    fn is_worth(&self, far: usize, relayed: bool) -> bool {
        let stage = self.search.graph.stage(far);
        if stage == Some(self.search.from) {
            return false;
        }
        if stage == Some(self.search.to) {
            return relayed && self.wanted[far];
        }
        let into = self.search.direction.opposite();
        let isolates = !self.search.graph.map.sites[far].isolating[into as usize].is_empty();
        let everything = |class: &usize| {
            let class = &self.classes[*class];
            class.pods.is_everything() && !(isolates && class.hop.theirs.is_open())
        };
        !self.at[far].iter().any(everything)
    }

    /// Takes a hop, if there are pods for it.
    fn take(&mut self, hop: Hop<'h, 'p>, own: &Selector<'p>, before: Option<usize>) {
        let search = self.search;
        let last = search.graph.stage(hop.far) == Some(search.to);
        if last && hop.theirs.is_doubt() {
            return;
        }
        if search.certain && hop.theirs.half.is_doubtful() {
            self.found.left_out = true;
            return;
        }
        let reached = hop.mine.far_pods_of(&Selector::default());
        let Some(reached) = reached.and_then(|pods| hop.theirs.pods_of(&pods)) else {
            return;
        };
        let known = |class: &usize| self.classes[*class].holds(&reached, hop.theirs);
        if hop.theirs.far_pods_of(own).is_none()
            || ports(hop.mine, hop.theirs).is_empty()
            || (!last && self.at[hop.far].iter().any(known))
        {
            return;
        }
        let earlier = before.map(|class| self.classes[class].hop);
        for pod in [
            search.pod(hop.near, earlier.as_ref(), Some(&hop), self.looks),
            search.pod(hop.far, Some(&hop), None, self.looks),
        ] {
            match pod {
                Answer::No => return,
                Answer::TooHard if search.certain => {
                    self.found.left_out = true;
                    return;
                }
                Answer::Yes(_) | Answer::TooHard => {}
            }
        }
        let [mine, theirs] = search.sides(&hop);
        match search.graph.is_sure(mine, theirs, self.looks) {
            Sure::No => return,
            Sure::Perhaps if search.certain => {
                self.found.left_out = true;
                return;
            }
            Sure::Yes | Sure::Perhaps => {}
        }
        if last {
            self.arrive(hop, before);
        } else {
            self.at[hop.far].push(self.classes.len());
            self.queue.push_back(self.classes.len());
            self.classes.push(Class {
                pods: reached,
                hop,
                before,
            });
        }
    }

    fn arrive(&mut self, hop: Hop<'h, 'p>, before: Option<usize>) {
        if !std::mem::take(&mut self.wanted[hop.far]) {
            return;
        }
        self.left -= 1;
        let mut hops = vec![hop];
        let mut at = before;
        while let Some(class) = at.map(|class| &self.classes[class]) {
            hops.push(class.hop);
            at = class.before;
        }
        hops.reverse();
        self.found.chains.insert(hop.far, hops);
    }
}
