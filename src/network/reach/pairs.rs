//! Two halves of a path where ClusterNetworkPolicies are in force too: is there a pair of pods, with a port, that meets
//! both halves and that no Deny stops before?
//!
//! Deny makes it a search: a pair gets round a rule when the one pod, or the other, or its namespace, or the port does
//! not fit. A Pass or an Accept before the Deny gets round it too, so each of these is tried in its turn. There is one
//! budget for a meeting.
//!
//! What the API leaves open and what cannot be known here (the order of equal priorities, networks that may be those of
//! pods, peers that are not modelled) is taken both ways: a path that is there at the worst is certain, and one that is
//! there only at the best is possible.

use crate::network::cluster_policy::{Action, Tier};
use crate::network::ports::PortSet;

use super::analysis::{CNI_DEPENDENT, Found, Side, TOO_COMPLEX, TOO_MANY};
use super::map::{Half, Map, Reach, Site};
use super::policy::Peer;
use super::satisfy::{self, BUDGET, Candidate};
use super::selector::Selector;
use super::tiers::Step;

/// Why a path is only a possible one.
const ORDER_UNSPECIFIED: &str = "OrderUnspecified";

/// How what cannot be known is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    AtTheWorst,
    AtTheBest,
}

/// What two pods and a port between them must be.
#[derive(Clone, Debug, Default)]
struct Pair<'a> {
    /// The pod in the namespace that is judged, and the other.
    pods: [Selector<'a>; 2],
    /// The namespace of the other, where it is one created later.
    place: Selector<'a>,
    ports: PortSet,
}

impl Pair<'_> {
    /// Both at once.
    fn and(&self, other: &Self) -> Option<Self> {
        let ports = self.ports.intersection(&other.ports);
        Some(Self {
            pods: [self.pods[0].and(&other.pods[0])?, self.pods[1].and(&other.pods[1])?],
            place: self.place.and(&other.place)?,
            ports: (!ports.is_empty()).then_some(ports)?,
        })
    }
}

impl Candidate for Pair<'_> {
    type Obstacle = Self;

    fn meets(&self, obstacle: &Self) -> bool {
        self.and(obstacle).is_some()
    }

    fn ways_around(&self, obstacle: &Self) -> Vec<Self> {
        let mut ways = Vec::new();
        for end in 0..2 {
            for pod in self.pods[end].ways_around(&obstacle.pods[end]) {
                let mut way = self.clone();
                way.pods[end] = pod;
                ways.push(way);
            }
        }
        let places = self.place.ways_around(&obstacle.place).into_iter();
        ways.extend(places.map(|place| Self { place, ..self.clone() }));
        let ports = self.ports.difference(&obstacle.ports);
        if !ports.is_empty() {
            ways.push(Self { ports, ..self.clone() });
        }
        ways
    }
}

/// A step that may concern the two namespaces.
struct Met<'m, 'p> {
    step: &'m Step<'p>,
    /// All that it may match.
    term: Pair<'p>,
}

impl<'p> Met<'_, 'p> {
    /// What must not be met for the step to be got round. A pod that is to be found gives its ports the names it likes,
    /// unless the path already lives on such a name.
    fn obstacle(&self, taken: Taken, named: bool) -> Option<Pair<'p>> {
        let ports = &self.step.rule.ports;
        let ports = match taken {
            Taken::AtTheWorst if named => &ports.possible,
            Taken::AtTheWorst | Taken::AtTheBest => &ports.numbers,
        };
        let counts = taken == Taken::AtTheWorst || self.step.is_sure();
        (counts && !ports.is_empty()).then(|| Pair {
            ports: ports.clone(),
            ..self.term.clone()
        })
    }
}

/// One end: its half, and the steps of the tiers around it.
struct Lane<'m, 'p> {
    side: Side<'m, 'p>,
    /// Which of the two pods it is for.
    end: usize,
    admin: Vec<Met<'m, 'p>>,
    baseline: Vec<Met<'m, 'p>>,
}

/// One way through an end.
#[derive(Clone, Copy)]
struct Way<'m, 'p> {
    /// The Accept or Pass of the Admin tier that is met; `None`: no Deny is.
    admin: Option<usize>,
    baseline: Baseline<'m, 'p>,
}

#[derive(Clone, Copy)]
enum Baseline<'m, 'p> {
    /// A NetworkPolicy decides, or an Accept before it.
    NotAsked,
    /// As in the Admin tier.
    Asked(Option<usize>),
    /// Some implementations do not ask it for a pod that a NetworkPolicy selects in the other direction.
    Skipped(&'m Selector<'p>),
}

impl<'m, 'p> Lane<'m, 'p> {
    fn ways(&self, taken: Taken) -> Vec<Way<'m, 'p>> {
        let gates = |steps: &[Met<'_, '_>], actions: &[Action]| {
            let fitting = |met: &Met<'_, '_>| {
                actions.contains(&met.step.action) && (taken == Taken::AtTheBest || met.step.is_sure())
            };
            let found = steps.iter().enumerate().filter(|(_, met)| fitting(met));
            found.map(|(index, _)| Some(index)).collect::<Vec<_>>()
        };
        let otherwise = |steps: &[Met<'_, '_>], actions| {
            let mut all = vec![None];
            all.extend(gates(steps, actions));
            all
        };
        let (admin, baseline) = match self.side.half {
            Half::Doubt(_) => (vec![None], vec![Baseline::NotAsked]),
            Half::Accept(accept) => {
                let mut accepts = gates(&self.admin, &[Action::Accept]);
                accepts.retain(|gate| gate.is_some_and(|index| std::ptr::eq(self.admin[index].step, *accept)));
                (accepts, vec![Baseline::NotAsked])
            }
            Half::Rule { .. } => (otherwise(&self.admin, &[Action::Pass]), vec![Baseline::NotAsked]),
            Half::Open => {
                let asked = otherwise(&self.baseline, &[Action::Accept, Action::Pass]).into_iter();
                let mut baseline: Vec<Baseline<'_, '_>> = asked.map(Baseline::Asked).collect();
                let denies = self.baseline.iter().any(|met| met.step.action == Action::Deny);
                if let Some(site) = self.side.site
                    && denies
                    && taken == Taken::AtTheBest
                {
                    let others = &site.isolating[self.side.direction.opposite() as usize];
                    baseline.extend(others.iter().map(|selector| Baseline::Skipped(selector)));
                }
                (otherwise(&self.admin, &[Action::Pass]), baseline)
            }
        };
        let with = |admin: &Option<usize>| {
            let admin = *admin;
            baseline.iter().map(move |baseline| Way {
                admin,
                baseline: *baseline,
            })
        };
        admin.iter().flat_map(with).collect()
    }

    /// What a way wants.
    fn wanted(&self, way: Way<'m, 'p>) -> Vec<&Met<'m, 'p>> {
        let baseline = match way.baseline {
            Baseline::Asked(gate) => gate,
            Baseline::NotAsked | Baseline::Skipped(_) => None,
        };
        let admin = way.admin.and_then(|index| self.admin.get(index));
        let baseline = baseline.and_then(|index| self.baseline.get(index));
        admin.into_iter().chain(baseline).collect()
    }

    /// What a way must get round.
    fn in_the_way(&self, way: Way<'m, 'p>, taken: Taken) -> Vec<&Met<'m, 'p>> {
        let mut found = match self.side.half {
            Half::Doubt(_) => Vec::new(),
            // A Pass before an Accept leaves it to the NetworkPolicies.
            Half::Accept(_) => before(&self.admin, way.admin, &[Action::Deny, Action::Pass], taken),
            Half::Rule { .. } | Half::Open => before(&self.admin, way.admin, &[Action::Deny], taken),
        };
        if let Baseline::Asked(gate) = way.baseline {
            found.extend(before(&self.baseline, gate, &[Action::Deny], taken));
        }
        found
    }

    /// The policies that a pod of an end without any must escape.
    fn isolating(&self) -> impl Iterator<Item = Pair<'p>> + '_ {
        let site = self.side.site.into_iter();
        let avoided = site.flat_map(|site| site.avoided(self.side.half, self.side.direction));
        avoided.map(|selector| {
            let mut pair = Pair {
                ports: PortSet::all(),
                ..Pair::default()
            };
            pair.pods[self.end] = (*selector).clone();
            pair
        })
    }
}

/// The steps with one of these actions that come before a gate, or all of them. Steps that are tied with the gate may.
fn before<'l, 'm, 'p>(
    steps: &'l [Met<'m, 'p>],
    gate: Option<usize>,
    actions: &[Action],
    taken: Taken,
) -> Vec<&'l Met<'m, 'p>> {
    let comes = |index: usize, met: &Met<'_, '_>| {
        let Some(at) = gate else { return true };
        let gate = steps[at].step;
        if met.step.is_tied_with(gate) {
            taken == Taken::AtTheWorst
        } else {
            index < at
        }
    };
    let steps = steps.iter().enumerate();
    let found = steps.filter(|(index, met)| actions.contains(&met.step.action) && comes(*index, met));
    found.map(|(_, met)| met).collect()
}

/// The budget is spent.
struct TooHard;

impl<'p> Map<'p> {
    /// Whether two halves make a path, with all tiers.
    pub(super) fn in_tiers(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Found {
        self.in_tiers_within(mine, theirs, &mut { BUDGET })
    }

    /// The same, with what is left of a budget.
    pub(super) fn in_tiers_within<'m>(&'m self, mine: Side<'m, 'p>, theirs: Side<'m, 'p>, budget: &mut u32) -> Found {
        let Some(both) = self.both(mine, theirs) else {
            return Found::Apart;
        };
        let lanes = [self.lane(mine, theirs, 0, &both), self.lane(theirs, mine, 1, &both)];
        let doubtful = mine.half.is_doubtful() || theirs.half.is_doubtful();
        let certain = [Taken::AtTheWorst].into_iter().filter(|_| !doubtful);
        for taken in certain.chain([Taken::AtTheBest]) {
            match find(&both, &lanes, taken, budget) {
                Err(TooHard) => {
                    let (reason, what) = (TOO_COMPLEX, TOO_MANY.to_owned());
                    return Found::Unsure { reason, what };
                }
                Ok(None) => {}
                Ok(Some(pair)) if taken == Taken::AtTheWorst || doubtful => return ends(&pair, theirs.site),
                Ok(Some(pair)) => {
                    let (reason, what) = cause(&pair, &lanes);
                    return Found::Unsure { reason, what };
                }
            }
        }
        Found::Apart
    }

    /// Whether the tiers stop nothing of what two halves let through, whichever pods it is between.
    pub(super) fn is_left_alone(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> bool {
        if self.tiers.is_empty() {
            return true;
        }
        let Some(both) = self.both(mine, theirs) else {
            return true;
        };
        let taken = Taken::AtTheWorst;
        let lanes = [self.lane(mine, theirs, 0, &both), self.lane(theirs, mine, 1, &both)];
        // The first way through an end is the one that meets nothing but its own half.
        lanes.iter().all(|lane| {
            let way = lane.ways(taken).into_iter().next();
            way.is_some_and(|way| lane.in_the_way(way, taken).is_empty())
        })
    }

    /// What the halves want of the pods and the ports, before any tier is looked at.
    fn both(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Option<Pair<'p>> {
        let pod = |own: &Half<'p>, other: &Half<'p>| {
            let own = own.subject().cloned().unwrap_or_default();
            other.pods().map_or(Some(own.clone()), |pods| own.and(pods))
        };
        let ports = |half: &Half<'p>| half.ports().cloned().unwrap_or_else(PortSet::all);
        let ports = ports(mine.half).intersection(&ports(theirs.half));
        let place = match theirs.site {
            Some(_) => Selector::default(),
            None => self.place_of_later(mine.half)?,
        };
        Some(Pair {
            pods: [pod(mine.half, theirs.half)?, pod(theirs.half, mine.half)?],
            place,
            ports: (!ports.is_empty()).then_some(ports)?,
        })
    }

    /// The steps that may concern a pair, in their order.
    fn lane<'m>(&'m self, side: Side<'m, 'p>, other: Side<'m, 'p>, end: usize, both: &Pair<'p>) -> Lane<'m, 'p> {
        let steps = |tier| {
            let steps = self.tiers.steps(tier, side.direction).iter();
            let met = steps.filter_map(|step| {
                let term = term(step, side.site, other.site, end)?;
                both.meets(&term).then_some(Met { step, term })
            });
            met.collect()
        };
        Lane {
            side,
            end,
            admin: steps(Tier::Admin),
            baseline: steps(Tier::Baseline),
        }
    }
}

/// What a step matches between two namespaces; `None` for nothing.
fn term<'p>(step: &Step<'p>, own: Option<&Site<'_>>, other: Option<&Site<'_>>, end: usize) -> Option<Pair<'p>> {
    let everything = Selector::default();
    let (namespaces, pods) = match &step.rule.peer {
        Peer::Pods { namespaces, pods } => (namespaces, pods),
        Peer::Addresses(_) if step.reach == Reach::Outside => return None,
        // Which pods have such an address is not asked: the step is sure only if all have.
        Peer::Addresses(_) | Peer::Everything | Peer::Own(_) => (&everything, &everything),
    };
    let mut term = Pair {
        ports: step.rule.ports.possible.clone(),
        ..Pair::default()
    };
    for (selector, site) in [(&step.namespaces, own), (namespaces, other)] {
        match site {
            Some(site) if selector.matches(|key| site.label(key)) => {}
            Some(_) => return None,
            // Only one of the two is created later.
            None => term.place = selector.clone(),
        }
    }
    term.pods[end] = step.pods.clone();
    term.pods[1 - end] = pods.clone();
    Some(term)
}

fn find<'p>(
    both: &Pair<'p>,
    lanes: &[Lane<'_, 'p>; 2],
    taken: Taken,
    budget: &mut u32,
) -> Result<Option<Pair<'p>>, TooHard> {
    let ways = [lanes[0].ways(taken), lanes[1].ways(taken)];
    for mine in &ways[0] {
        for theirs in &ways[1] {
            *budget = budget.checked_sub(1).ok_or(TooHard)?;
            let both_ways = [(&lanes[0], *mine), (&lanes[1], *theirs)];
            let Some(wanted) = narrowed(both, both_ways) else {
                continue;
            };
            let wants = both_ways.iter().flat_map(|(lane, way)| lane.wanted(*way));
            let named = wants.map(|met| &met.step.rule).any(|rule| !rule.ports.names.is_empty())
                || lanes.iter().any(|lane| lane.side.half.lives_on_a_name());
            let obstacles = both_ways.iter().flat_map(|(lane, way)| {
                let denies = lane.in_the_way(*way, taken).into_iter();
                let denies = denies.filter_map(move |met| met.obstacle(taken, named));
                lane.isolating().chain(denies)
            });
            let obstacles: Vec<Pair<'_>> = obstacles.collect();
            match satisfy::search(wanted, obstacles.iter().collect(), budget) {
                Some(found) => return Ok(Some(found)),
                None if *budget == 0 => return Err(TooHard),
                None => {}
            }
        }
    }
    Ok(None)
}

/// What both halves and both ways want.
fn narrowed<'m, 'p>(both: &Pair<'p>, ways: [(&Lane<'m, 'p>, Way<'m, 'p>); 2]) -> Option<Pair<'p>> {
    let mut wanted = both.clone();
    for (lane, way) in ways {
        for met in lane.wanted(way) {
            wanted = wanted.and(&met.term)?;
        }
        if let Baseline::Skipped(selector) = way.baseline {
            wanted.pods[lane.end] = wanted.pods[lane.end].and(selector)?;
        }
    }
    Some(wanted)
}

fn ends(pair: &Pair<'_>, site: Option<&Site<'_>>) -> Found {
    let Some(ports) = pair.ports.intervals().first() else {
        return Found::Apart;
    };
    Found::Ends {
        pods: [pair.pods[0].example(), pair.pods[1].example()],
        ports: *ports,
        later: site.is_none().then(|| super::analysis::labels_of_later(&pair.place)),
    }
}

/// Why a path that a pair has at the best is not certain.
fn cause(pair: &Pair<'_>, lanes: &[Lane<'_, '_>; 2]) -> (&'static str, String) {
    let met: Vec<&Step<'_>> = lanes
        .iter()
        .flat_map(|lane| lane.admin.iter().chain(&lane.baseline))
        .filter(|met| pair.meets(&met.term))
        .map(|met| met.step)
        .collect();
    if let Some(unknown) = met.iter().find_map(|step| step.unmodelled.and_then(|_| step.unknown())) {
        return unknown;
    }
    for step in &met {
        let same_list = |other: &&&Step<'_>| other.tier == step.tier && other.rule.direction == step.rule.direction;
        let mut others = met.iter().filter(same_list);
        if let Some(other) = others.find(|other| step.is_tied_with(other) && step.action != other.action) {
            return (ORDER_UNSPECIFIED, step.tie(other));
        }
    }
    if let Some(unknown) = met.iter().find_map(|step| step.unknown()) {
        return unknown;
    }
    let deny = |step: &&&Step<'_>| step.tier == Tier::Baseline && step.action == Action::Deny;
    match met.iter().find(deny) {
        Some(step) => (CNI_DEPENDENT, step.skipped()),
        None => (
            TOO_COMPLEX,
            "which of the ports that ClusterNetworkPolicies name a pod gives which name".to_owned(),
        ),
    }
}
