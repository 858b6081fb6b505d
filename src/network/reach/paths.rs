//! The halves that meet: every two rules that could make a forbidden path, where the verdict needs but one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::stage::NamespaceStage;
use crate::network::world::World;

use super::analysis::{Meeting, Side, provenance};
use super::map::{Book, Half, Map, Site};
use super::permits::Permits;
use super::policy::Direction;
use super::{Provenance, Witness};

/// Most paths of one answer. Two policies of ten thousand rules make a hundred million.
pub const MOST: usize = 1_000;

/// Every forbidden path of the namespaces that `of` names: an example for each two rules that make one, sorted, at most
/// [`MOST`]. `wanted` says by what lets out and what lets in whether a path is of interest. `desired` is
/// [`policies::all`](crate::network::policies::all) of the same world.
pub fn paths(
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    of: &dyn Fn(&str) -> bool,
    wanted: &dyn Fn(&Provenance, &Provenance) -> bool,
) -> Vec<Witness> {
    let dns = world.dns();
    let book = Book::read(world, policies, &[], desired);
    let map = Map::new(world, &book, Permits::new(world, &book, desired, &dns), None);
    let mut found: BTreeMap<[Provenance; 2], Witness> = BTreeMap::new();
    for near in map.sites.iter().filter(|site| site.is_staged() && of(site.name)) {
        let _ = map.pairs(near, &mut |own, theirs| {
            let (mine, other) = (provenance(own).1, provenance(theirs).1);
            let halves = match own.direction {
                Direction::Egress => [mine, other],
                Direction::Ingress => [other, mine],
            };
            let [out, into] = &halves;
            if !wanted(out, into) || found.contains_key(&halves) {
                return ControlFlow::Continue(());
            }
            if let Meeting::Path(witness) = map.meet_anywhere(own, theirs) {
                found.insert(halves, *witness);
            }
            if found.len() < MOST {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    }
    found.into_values().collect()
}

/// Whether the stage matrix knows no way between two places: of different stages, one of which at least holds workloads.
/// What the policy permits between a stage and the world outside of the stages is for [`Permits`](super::permits).
pub(super) fn forbidden(near: Option<NamespaceStage>, far: Option<NamespaceStage>) -> bool {
    near != far && (is_workload(near) || is_workload(far))
}

/// Whether it is one that holds workloads.
pub(super) fn is_workload(stage: Option<NamespaceStage>) -> bool {
    stage.and_then(NamespaceStage::workload_stage).is_some()
}

impl Site<'_> {
    /// Whether it holds workloads.
    pub(super) fn is_staged(&self) -> bool {
        is_workload(self.stage)
    }
}

impl<'p> Map<'p> {
    /// A namespace by name.
    pub(super) fn site(&self, name: &str) -> Option<&Site<'p>> {
        self.sites.get(*self.by_name.get(name)?)
    }

    /// Visits every two halves that could make a forbidden path between a namespace and another, or one created later:
    /// each lets the other's namespace through, and the policy permits neither. In a fixed order.
    pub(super) fn pairs<'m>(
        &'m self,
        near: &'m Site<'p>,
        visit: &mut dyn FnMut(Side<'m, 'p>, Side<'m, 'p>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for direction in Direction::BOTH {
            let opposite = direction.opposite();
            for half in near.halves[direction as usize].iter().filter(|half| !half.is_outside()) {
                let own = Side {
                    half,
                    site: Some(near),
                    direction,
                };
                for far in self.candidates(half) {
                    if !forbidden(near.stage, far.stage) || !half.meets(far) || self.permitted(near, half, far) {
                        continue;
                    }
                    let theirs = far.halves[opposite as usize].iter();
                    for half in theirs.filter(|half| !half.is_outside() && half.meets(near)) {
                        if !self.permitted(far, half, near) {
                            let site = Some(far);
                            let direction = opposite;
                            visit(own, Side { half, site, direction })?;
                        }
                    }
                }
                if near.is_staged() && !self.permits.cover(near, half, None) {
                    for half in &self.open_later[opposite as usize] {
                        let (site, direction) = (None, opposite);
                        visit(own, Side { half, site, direction })?;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether there may be a forbidden path between two namespaces, or to one created later.
    pub(super) fn could_meet(&self, near: &Site<'p>, far: Option<&str>) -> bool {
        let found = self.pairs(near, &mut |own, theirs| {
            if theirs.site.map(|site| site.name) != far {
                return ControlFlow::Continue(());
            }
            match self.meet_anywhere(own, theirs) {
                Meeting::Apart => ControlFlow::Continue(()),
                Meeting::Path(_) | Meeting::Perhaps { .. } => ControlFlow::Break(()),
            }
        });
        found.is_break()
    }

    /// Puts two halves of [`Map::pairs`] together.
    pub(super) fn meet_anywhere(&self, own: Side<'_, 'p>, theirs: Side<'_, 'p>) -> Meeting {
        let later = match theirs.site {
            Some(_) => Some(BTreeMap::new()),
            None => self.later(own.half),
        };
        later.map_or(Meeting::Apart, |labels| self.meet(own, theirs, &labels))
    }

    /// Whether the policy permits all that a half lets through to another namespace. Between two stages it permits
    /// nothing.
    pub(super) fn permitted(&self, near: &Site<'_>, half: &Half<'_>, far: &Site<'_>) -> bool {
        !(near.is_staged() && far.is_staged()) && self.permits.cover(near, half, Some(far))
    }
}
