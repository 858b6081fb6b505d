//! What Waivers permit between two stages, exactly: pods of the one workload, pods of the other, the ports. Whatever two
//! halves let through beyond that is a path like any other.

use std::collections::{BTreeMap, HashMap};

use crate::api::names;
use crate::network::ports::PortSet;
use crate::network::world::World;

use super::analysis::{self, Meeting, Side, shared, too_complex};
use super::map::Map;
use super::policy::Direction;
use super::satisfy::Answer;
use super::selector::{Constraint, Selector};

/// A flow that a Waiver opens: the two workloads and the ports.
type Flow<'p> = (&'p str, &'p str, &'p PortSet);

/// The flows that Waivers open, by the namespaces of both ends.
#[derive(Debug, Default)]
pub(super) struct Waived<'p>(HashMap<(&'p str, &'p str), Vec<Flow<'p>>>);

impl<'p> Waived<'p> {
    pub(super) fn of(world: &'p World) -> Self {
        let mut flows: HashMap<_, Vec<Flow<'_>>> = HashMap::new();
        for waiver in world.waivers.values().filter(|waiver| waiver.closed.is_none()) {
            let (from, to) = (&waiver.from, &waiver.to);
            let ends = (from.namespace.as_str(), to.namespace.as_str());
            flows
                .entry(ends)
                .or_default()
                .push((&from.name, &to.name, &waiver.ports));
        }
        Self(flows)
    }
}

impl<'p> Map<'p> {
    /// What two halves between two stages let through beyond the Waivers; `None` where no Waiver is about their namespaces.
    pub(super) fn beyond_waivers(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Option<Meeting> {
        let (near, far) = (mine.site?, theirs.site?);
        let (from, to) = match mine.direction {
            Direction::Egress => (near, far),
            Direction::Ingress => (far, near),
        };
        if !(from.is_staged() && to.is_staged()) {
            return None;
        }
        let waived = self.waived.0.get(&(from.name, to.name))?;
        let ports = shared(mine.half.ports(), theirs.half.ports());
        let mut found = Meeting::Apart;
        let (sources, targets) = (parts(waived, |flow| flow.0), parts(waived, |flow| flow.1));
        for (source, sources) in &sources {
            for (target, targets) in &targets {
                let permitted = waived
                    .iter()
                    .filter(|(from, to, _)| (Some(*from), Some(*to)) == (*source, *target));
                let left = permitted.fold(ports.clone(), |left, (.., ports)| left.difference(ports));
                let Some(first) = left.intervals().first() else {
                    continue;
                };
                let (mine_also, theirs_also) = match mine.direction {
                    Direction::Egress => (sources, targets),
                    Direction::Ingress => (targets, sources),
                };
                let pods = (
                    analysis::pod(mine, theirs, mine_also),
                    analysis::pod(theirs, mine, theirs_also),
                );
                match pods {
                    (Answer::No, _) | (_, Answer::No) => {}
                    (Answer::Yes(near), Answer::Yes(far)) => {
                        let path = || {
                            let later = BTreeMap::new();
                            Meeting::Path(Box::new(analysis::witness(mine, theirs, [near, far], &later, *first)))
                        };
                        return Some(self.doubt(mine, theirs).unwrap_or_else(path));
                    }
                    (Answer::TooHard, _) | (_, Answer::TooHard) => found = too_complex(mine, theirs),
                }
            }
        }
        Some(found)
    }
}

/// The pods of a namespace in parts: those of each workload that a Waiver names, and all the others, first.
fn parts<'p>(waived: &[Flow<'p>], end: impl Fn(&Flow<'p>) -> &'p str) -> Vec<(Option<&'p str>, Selector<'p>)> {
    let mut named: Vec<&str> = waived.iter().map(end).collect();
    named.sort_unstable();
    named.dedup();
    let labels: Vec<&str> = named
        .iter()
        .copied()
        .filter(|name| *name != names::DEFAULT_WORKLOAD)
        .collect();
    // Pods of `default` carry no label, so where it is named the others carry one.
    let others = if labels.len() == named.len() {
        Constraint::NotIn(labels)
    } else {
        Constraint::Present(labels)
    };
    let part = |constraint| Selector::all_of(vec![(names::WORKLOAD_LABEL, constraint)]).unwrap_or_default();
    let of = |name: &'p str| match name {
        names::DEFAULT_WORKLOAD => Constraint::Absent,
        name => Constraint::In(vec![name]),
    };
    let each = named.iter().map(|name| (Some(*name), part(of(name))));
    std::iter::once((None, part(others))).chain(each).collect()
}
