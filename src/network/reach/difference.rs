//! What is open in one cluster and was not in another. A connection is new when it passes now and one of its ends, at
//! least, closed it before: that is a look at both pods at once, because the rules before may have let through some of
//! the pairs and not others.

use std::collections::BTreeSet;

use crate::api::network::Protocol;
use crate::network::ports::{Interval, PortSet};

use super::analysis::{Meeting, Side, labels_of_later, perhaps, shared, too_complex, witness};
use super::map::{Half, Map, Reach, Site};
use super::paths::forbidden;
use super::policy::{Direction, Peer};
use super::satisfy::{self, Answer, Candidate};
use super::selector::Selector;

/// Why it is not known whether a path is new.
const BEYOND_TIERS: &str = "ClusterNetworkPolicy";

/// What is wanted of the pods of a connection, and of the namespace at its other end where that one is created later.
#[derive(Clone, Default)]
struct Wanted<'a> {
    near: Selector<'a>,
    far: Selector<'a>,
    place: Selector<'a>,
}

impl Candidate for Wanted<'_> {
    type Obstacle = Self;

    fn meets(&self, obstacle: &Self) -> bool {
        self.and(obstacle).is_some()
    }

    fn ways_around(&self, obstacle: &Self) -> Vec<Self> {
        let near = self.near.ways_around(&obstacle.near).into_iter();
        let far = self.far.ways_around(&obstacle.far).into_iter();
        let place = self.place.ways_around(&obstacle.place).into_iter();
        near.map(|near| Self { near, ..self.clone() })
            .chain(far.map(|far| Self { far, ..self.clone() }))
            .chain(place.map(|place| Self { place, ..self.clone() }))
            .collect()
    }
}

impl Wanted<'_> {
    fn and(&self, other: &Self) -> Option<Self> {
        Some(Self {
            near: self.near.and(&other.near)?,
            far: self.far.and(&other.far)?,
            place: self.place.and(&other.place)?,
        })
    }

    fn implies(&self, other: &Self) -> bool {
        self.near.implies(&other.near) && self.far.implies(&other.far) && self.place.implies(&other.place)
    }
}

/// Which end of a connection something is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Near,
    Far,
}

/// A cluster as it was and as it is.
pub(super) struct Difference<'x> {
    before: &'x Map<'x>,
    now: &'x Map<'x>,
}

/// One end of a connection as it was before.
struct Was<'x> {
    end: End,
    direction: Direction,
    /// `None`: it did not exist, so nothing isolated its pods.
    site: Option<&'x Site<'x>>,
    /// The other end; `None` for a namespace created later.
    other: Option<&'x Site<'x>>,
}

impl<'x> Difference<'x> {
    pub(super) const fn new(before: &'x Map<'x>, now: &'x Map<'x>) -> Self {
        Self { before, now }
    }

    /// A forbidden connection through two halves of now that was not open before.
    pub(super) fn opened(&self, own: Side<'x, 'x>, theirs: Side<'x, 'x>) -> Meeting {
        if self.now.has_tiers() || self.before.has_tiers() {
            return self.opened_in_tiers(own, theirs);
        }
        if matches!(self.now.beyond_waivers(own, theirs), Some(Meeting::Apart)) {
            return Meeting::Apart;
        }
        let ports = shared(own.half.ports(), theirs.half.ports());
        let Some(wanted) = self.wanted(own, theirs).filter(|_| !ports.is_empty()) else {
            return Meeting::Apart;
        };
        let doubt = self.now.doubt(own, theirs);
        let isolated = |side: Side<'x, 'x>, of: End| {
            let avoided = side.site.map(|site| site.avoided(side.half, side.direction));
            let avoided = avoided.unwrap_or_default().iter();
            avoided.map(move |selector| of.wants((*selector).clone()))
        };
        let avoid: Vec<Wanted<'x>> = isolated(own, End::Near).chain(isolated(theirs, End::Far)).collect();
        let found = match self.was(own, theirs) {
            None => search(wanted, &avoid, &ports),
            Some(ends) => {
                let mut found = Answer::No;
                for was in &ends {
                    let half = if was.end == End::Near { own.half } else { theirs.half };
                    match self.closed(was, half, doubt.is_some(), (&wanted, &avoid, &ports)) {
                        Answer::No => {}
                        Answer::TooHard => found = Answer::TooHard,
                        yes @ Answer::Yes(_) => {
                            found = yes;
                            break;
                        }
                    }
                }
                found
            }
        };
        match (found, doubt) {
            (Answer::No, _) => Meeting::Apart,
            (Answer::TooHard, _) => too_complex(own, theirs),
            (Answer::Yes(_), Some(doubt)) => doubt,
            (Answer::Yes((found, ports)), None) => {
                let pods = [found.near.example(), found.far.example()];
                let place = labels_of_later(&found.place);
                Meeting::Path(Box::new(witness(own, theirs, pods, &place, ports)))
            }
        }
    }

    /// The same where ClusterNetworkPolicies are in force, now or before. Where two namespaces could not meet before, any
    /// path between them is new; what is added to one that was there is not told apart from it.
    fn opened_in_tiers(&self, own: Side<'x, 'x>, theirs: Side<'x, 'x>) -> Meeting {
        let found = self.now.meet_anywhere(own, theirs);
        let could_meet = || {
            let near = own.site.and_then(|site| self.before.site(site.name));
            near.is_some_and(|near| self.before.could_meet(near, theirs.site.map(|site| site.name)))
        };
        match found {
            Meeting::Path(_) if could_meet() => perhaps(
                own,
                theirs,
                BEYOND_TIERS,
                "what was open between them before, which is not told apart where ClusterNetworkPolicies are",
            ),
            found => found,
        }
    }

    /// What both halves want of both ends; `None` when no pods fit.
    fn wanted(&self, own: Side<'x, 'x>, theirs: Side<'x, 'x>) -> Option<Wanted<'x>> {
        let both = |side: Side<'x, 'x>, other: Side<'x, 'x>| {
            let subject = side.half.subject().cloned().unwrap_or_default();
            match other.half.pods() {
                Some(pods) => subject.and(pods),
                None => Some(subject),
            }
        };
        let place = match theirs.site {
            Some(_) => Selector::default(),
            None => self.now.place_of_later(own.half)?,
        };
        Some(Wanted {
            near: both(own, theirs)?,
            far: both(theirs, own)?,
            place,
        })
    }

    /// Both ends as they were; `None` when nothing between them was both forbidden and possible, so that all is new.
    fn was(&self, own: Side<'x, 'x>, theirs: Side<'x, 'x>) -> Option<[Was<'x>; 2]> {
        // Of a namespace that does not exist the labels are known from what it is now. One without a stage could have
        // been created by anybody at any time.
        let as_it_was = |side: Side<'x, 'x>| match side.site {
            None => Some((None, None)),
            Some(now) => match self.before.site(now.name) {
                Some(before) => Some((Some(before), Some(before))),
                None => now.stage.is_none().then_some((None, Some(now))),
            },
        };
        let ((near, near_labels), (far, far_labels)) = (as_it_was(own)?, as_it_was(theirs)?);
        let stage = |site: Option<&Site<'_>>| site.and_then(|site| site.stage);
        if !forbidden(stage(near), stage(far)) {
            return None;
        }
        let near = Was {
            end: End::Near,
            direction: own.direction,
            site: near,
            other: far_labels,
        };
        let far = Was {
            end: End::Far,
            direction: theirs.direction,
            site: far,
            other: near_labels,
        };
        Some([near, far])
    }

    /// A connection that one end closed before. `half` is what lets it through at that end now; with `doubtful` the
    /// connection is only a possible one, and what was possible before is not new.
    fn closed(
        &self,
        was: &Was<'x>,
        half: &Half<'x>,
        doubtful: bool,
        (wanted, avoid, ports): (&Wanted<'x>, &[Wanted<'x>], &PortSet),
    ) -> Answer<(Wanted<'x>, Interval)> {
        let Some(site) = was.site else { return Answer::No };
        let mut open: Vec<(Wanted<'x>, &PortSet)> = Vec::new();
        for before in &site.halves[was.direction as usize] {
            let Half::Rule { rule, reach, .. } = before else {
                if doubtful && matches!(before, Half::Doubt(_)) {
                    return Answer::No;
                }
                continue;
            };
            let covers = match reach {
                Reach::Outside => false,
                Reach::Pods => true,
                Reach::MaybePods => doubtful && is_within(half, &rule.peer),
            };
            if covers && self.was_forbidden(site, before, was.other) {
                let wants = was.end.lets(before, was.other.is_none());
                if wanted.implies(&wants) && ports.is_within(&rule.ports.possible) {
                    return Answer::No;
                }
                open.push((wants, &rule.ports.possible));
            }
        }
        // It was isolated at all: by one policy or another. One of all pods makes the others of no account.
        let isolating = &site.isolating[was.direction as usize];
        let everything = isolating.iter().find(|selector| selector.is_everything());
        let isolating = everything.map_or(isolating.as_slice(), std::slice::from_ref);
        let mut doubt = false;
        for selector in isolating {
            let Some(wanted) = wanted.and(&was.end.wants((*selector).clone())) else {
                continue;
            };
            for cell in cells(ports, open.iter().map(|(_, ports)| *ports)) {
                let here = open
                    .iter()
                    .filter(|(_, ports)| holds(ports, cell))
                    .map(|(wants, _)| wants);
                let here: Vec<&Wanted<'x>> = avoid.iter().chain(here).collect();
                match satisfy::outside(wanted.clone(), here) {
                    Answer::Yes(found) => return Answer::Yes((found, cell)),
                    Answer::No => {}
                    Answer::TooHard => doubt = true,
                }
            }
        }
        if doubt { Answer::TooHard } else { Answer::No }
    }

    /// Whether what a half let through before was forbidden then: it met the other end, and the policy did not permit it.
    fn was_forbidden(&self, site: &Site<'x>, half: &Half<'x>, other: Option<&Site<'x>>) -> bool {
        match other {
            Some(other) => half.meets(other) && !self.before.permitted(site, half, other),
            None => !self.before.permits.cover(site, half, None),
        }
    }
}

impl End {
    /// A wish about the pods at this end.
    fn wants(self, pods: Selector<'_>) -> Wanted<'_> {
        match self {
            Self::Near => Wanted {
                near: pods,
                ..Wanted::default()
            },
            Self::Far => Wanted {
                far: pods,
                ..Wanted::default()
            },
        }
    }

    /// The connections that a half at this end lets through.
    fn lets<'a>(self, half: &Half<'a>, later: bool) -> Wanted<'a> {
        let subject = half.subject().cloned().unwrap_or_default();
        let peers = half.pods().cloned().unwrap_or_default();
        let (near, far) = match self {
            Self::Near => (subject, peers),
            Self::Far => (peers, subject),
        };
        let place = half.namespaces().filter(|_| later).cloned().unwrap_or_default();
        Wanted { near, far, place }
    }
}

/// Any of the ports, and what avoids all of `avoid`.
fn search<'a>(wanted: Wanted<'a>, avoid: &[Wanted<'a>], ports: &PortSet) -> Answer<(Wanted<'a>, Interval)> {
    let first = ports.intervals().first().copied();
    match (satisfy::outside(wanted, avoid.iter().collect()), first) {
        (Answer::Yes(found), Some(first)) => Answer::Yes((found, first)),
        (Answer::TooHard, _) => Answer::TooHard,
        (Answer::No | Answer::Yes(_), _) => Answer::No,
    }
}

/// Whether what a half lets through are addresses within those of a peer.
fn is_within(half: &Half<'_>, peer: &Peer<'_>) -> bool {
    let Half::Rule { rule, .. } = half else { return false };
    match (&rule.peer, peer) {
        (Peer::Addresses(block), Peer::Addresses(known)) => block.is_within(known),
        _ => false,
    }
}

fn holds(ports: &PortSet, cell: Interval) -> bool {
    ports.contains(cell.protocol, cell.first)
}

/// The ports, cut where any of the others begins or ends: what is true of one port of a cell is true of all.
fn cells<'a>(ports: &PortSet, others: impl Iterator<Item = &'a PortSet>) -> Vec<Interval> {
    let mut starts: BTreeSet<(Protocol, u16)> = BTreeSet::new();
    for other in others.flat_map(PortSet::intervals) {
        starts.insert((other.protocol, other.first));
        starts.extend(other.last.checked_add(1).map(|next| (other.protocol, next)));
    }
    let mut cells = Vec::new();
    for interval in ports.intervals() {
        let mut first = interval.first;
        let inside = (interval.protocol, interval.first)..=(interval.protocol, interval.last);
        for (_, start) in starts.range(inside).filter(|(_, start)| *start > interval.first) {
            cells.push(Interval {
                first,
                last: start - 1,
                ..*interval
            });
            first = *start;
        }
        cells.push(Interval { first, ..*interval });
    }
    cells
}
