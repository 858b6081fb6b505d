//! The judgement of one namespace: walk every half that leads out of its stage, and look at the other end for one that
//! fits.

use std::collections::BTreeMap;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::compliance::finding::{Finding, Location, Subject};
use crate::network::ports::{Interval, PortSet};
use crate::network::rules;

use super::map::{Half, Map, Reach, Site};
use super::policy::Direction;
use super::satisfy::{self, Answer};
use super::selector::{Constraint, Selector};
use super::{End, Isolation, Place, Provenance, Witness};

/// Why a path is only a possible one.
const CNI_DEPENDENT: &str = "CniDependent";
const TOO_COMPLEX: &str = "TooComplex";

/// Two halves, put together.
pub(super) enum Meeting {
    Apart,
    Perhaps { reason: &'static str, message: String },
    Path(Box<Witness>),
}

/// Which namespaces are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Far {
    OtherStages,
    /// Shared ones, those without a stage, and those that do not exist yet.
    Elsewhere,
}

/// One end of a meeting.
#[derive(Clone, Copy)]
pub(super) struct Side<'m> {
    pub half: &'m Half<'m>,
    /// `None`: a namespace created later, which nothing isolates.
    pub site: Option<&'m Site<'m>>,
    pub direction: Direction,
}

impl<'p> Map<'p> {
    /// The verdict on a namespace of a stage. Paths are looked for in a fixed order, those to another stage before all
    /// others, egress first, by policy and rule, then by the namespace at the other end; the first is the witness.
    pub(super) fn judge(&self, near: &Site<'p>) -> Isolation {
        let mut doubt = None;
        for far in [Far::OtherStages, Far::Elsewhere] {
            for direction in Direction::BOTH {
                for half in &near.halves[direction as usize] {
                    if half.is_outside() || (far == Far::Elsewhere && self.permits.cover_everywhere(half)) {
                        continue;
                    }
                    let own = Side {
                        half,
                        site: Some(near),
                        direction,
                    };
                    match self.leads_to(far, near, own, doubt.is_some()) {
                        Meeting::Apart => {}
                        Meeting::Path(witness) => return Isolation::PathExists(*witness),
                        Meeting::Perhaps { reason, message } => {
                            doubt.get_or_insert(Isolation::Unknown { reason, message });
                        }
                    }
                }
            }
        }
        doubt.unwrap_or(Isolation::Isolated)
    }

    /// Looks for the other end of a half. One doubt is enough (`doubted`): only certainty can still change the verdict.
    fn leads_to(&self, wanted: Far, near: &Site<'p>, own: Side<'_>, mut doubted: bool) -> Meeting {
        let half = own.half;
        let mut doubt = Meeting::Apart;
        let mut ask = |theirs: Side<'_>, labels: &BTreeMap<String, String>| {
            if doubted && (half.is_doubtful() || theirs.half.is_doubtful()) {
                return None;
            }
            let found = self.meet(own, theirs, labels);
            if matches!(found, Meeting::Perhaps { .. }) && !doubted {
                (doubt, doubted) = (found, true);
                return None;
            }
            matches!(found, Meeting::Path(_)).then_some(found)
        };
        let direction = own.direction.opposite();
        for far in self.candidates(half) {
            let other_stage = far.stage.and_then(NamespaceStage::workload_stage).is_some();
            let asked = other_stage == (wanted == Far::OtherStages) && far.stage != near.stage;
            // What the policy permits leads nowhere but out of the stages; between two stages nothing is permitted.
            if !asked || !half.meets(far) || (!other_stage && self.permits.cover(near, half, Some(far))) {
                continue;
            }
            let theirs = far.halves[direction as usize].iter();
            for half in theirs.filter(|half| !half.is_outside() && half.meets(near)) {
                if !other_stage && self.permits.cover(far, half, Some(near)) {
                    continue;
                }
                let site = Some(far);
                let theirs = Side { half, site, direction };
                if let Some(path) = ask(theirs, &BTreeMap::new()) {
                    return path;
                }
            }
        }
        if wanted == Far::Elsewhere
            && !self.permits.cover(near, half, None)
            && let Some(labels) = self.later(half)
        {
            let (half, site) = (&Half::Open, None);
            let theirs = Side { half, site, direction };
            if let Some(path) = ask(theirs, &labels) {
                return path;
            }
        }
        doubt
    }

    /// The namespaces worth asking: those named, where a rule names them, or else all.
    pub(super) fn candidates<'m>(&'m self, half: &'m Half<'_>) -> impl Iterator<Item = &'m Site<'p>> {
        let name = half
            .namespaces()
            .and_then(|selector| selector.constraint(names::NAMESPACE_NAME_LABEL));
        let (listed, all) = match name {
            Some(Constraint::In(listed)) => (listed.as_slice(), [].as_slice()),
            _ => ([].as_slice(), self.sites.as_slice()),
        };
        let found = listed
            .iter()
            .filter_map(|name| self.sites.get(*self.by_name.get(name)?));
        found.chain(all)
    }

    /// Labels of a namespace that does not exist, that nobody gave a stage, and that the half meets.
    pub(super) fn later(&self, half: &Half<'_>) -> Option<BTreeMap<String, String>> {
        let Some(wanted) = half.namespaces() else {
            return Some(BTreeMap::new());
        };
        let name = match wanted.constraint(names::NAMESPACE_NAME_LABEL) {
            // The API server writes the name on every namespace.
            Some(Constraint::Absent) => return None,
            Some(Constraint::In(values)) => Some(*values.iter().find(|name| !self.by_name.contains_key(*name))?),
            // Names do not run out.
            Some(Constraint::NotIn(_) | Constraint::Present(_)) | None => None,
        };
        let without_stage = Selector::all_of(vec![(names::STAGE_LABEL, Constraint::Absent)])?;
        let others = wanted.forgetting(names::NAMESPACE_NAME_LABEL).and(&without_stage)?;
        let mut labels = others.example();
        labels.extend(name.map(|name| (names::NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())));
        Some(labels)
    }

    /// Puts two halves together: ports in common, and a pod at each end.
    pub(super) fn meet(&self, mine: Side<'_>, theirs: Side<'_>, later: &BTreeMap<String, String>) -> Meeting {
        if let Some(beyond) = self.beyond_waivers(mine, theirs) {
            return beyond;
        }
        let Some(ports) = common(mine.half.ports(), theirs.half.ports()) else {
            return Meeting::Apart;
        };
        let any = &Selector::default();
        let (mine_pod, their_pod) = match (pod(mine, theirs, any), pod(theirs, mine, any)) {
            (Answer::No, _) | (_, Answer::No) => return Meeting::Apart,
            (Answer::Yes(mine), Answer::Yes(theirs)) => (mine, theirs),
            (Answer::TooHard, _) | (_, Answer::TooHard) => {
                return too_complex(mine, theirs);
            }
        };
        self.doubt(mine, theirs)
            .unwrap_or_else(|| Meeting::Path(Box::new(witness(mine, theirs, [mine_pod, their_pod], later, ports))))
    }

    /// Why a path through two halves is only a possible one; `None` where it is certain.
    pub(super) fn doubt(&self, mine: Side<'_>, theirs: Side<'_>) -> Option<Meeting> {
        [mine, theirs].into_iter().find_map(|side| match side.half {
            Half::Doubt(doubt) => Some(perhaps(mine, theirs, doubt.reason, &doubt.what)),
            Half::Rule {
                reach: Reach::MaybePods,
                ..
            } => Some(perhaps(mine, theirs, CNI_DEPENDENT, &self.about_block(side))),
            Half::Rule { .. } | Half::Open => None,
        })
    }

    fn about_block(&self, side: Side<'_>) -> String {
        let (_, provenance) = provenance(side);
        if self.ranges_known {
            format!("{provenance}: its ipBlock meets the cluster's ranges, and CNIs disagree whether that matches pods")
        } else {
            format!(
                "{provenance}: its ipBlock may be one of pods, because the cluster's ranges are not known \
                 (spec.network.clusterCIDRs of the AiSecurityPolicy)"
            )
        }
    }

    /// What others open to addresses outside the cluster.
    pub(super) fn undeclared(&self, near: &Site<'p>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for half in near.halves.iter().flatten() {
            let Half::Rule {
                policy,
                rule,
                reach: Reach::Outside,
                ..
            } = half
            else {
                continue;
            };
            if self.permits.cover(near, half, None) {
                continue;
            }
            let what = match rule.direction {
                Direction::Egress => "egress to",
                Direction::Ingress => "ingress from",
            };
            let message = format!(
                "opens {what} addresses outside the cluster that nothing declares, on {}",
                rule.ports.possible
            );
            let subject = Subject::namespaced("NetworkPolicy", policy.namespace, policy.name);
            findings.push(
                Finding::new(rules::WIDENING, subject, message).at(Location::field(format!("spec.{}", rule.field()))),
            );
        }
        findings.sort();
        findings
    }
}

/// The first ports that both let through.
fn common(mine: Option<&PortSet>, theirs: Option<&PortSet>) -> Option<Interval> {
    shared(mine, theirs).intervals().first().copied()
}

/// The ports that both let through.
pub(super) fn shared(mine: Option<&PortSet>, theirs: Option<&PortSet>) -> PortSet {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.intersection(theirs),
        (Some(ports), None) | (None, Some(ports)) => ports.clone(),
        (None, None) => PortSet::all(),
    }
}

/// A pod for one end: what its own half wants, what the other half wants of it, and nothing that isolates it where
/// its own half is the absence of that; of the pods that match `also`.
pub(super) fn pod(own: Side<'_>, other: Side<'_>, also: &Selector<'_>) -> Answer {
    let everything = Selector::default();
    let subject = own.half.subject().unwrap_or(&everything);
    let wanted = match other.half.pods() {
        Some(pods) => subject.and(pods),
        None => Some(subject.clone()),
    };
    let Some(wanted) = wanted.and_then(|wanted| wanted.and(also)) else {
        return Answer::No;
    };
    let avoid = own
        .site
        .map(|site| site.avoided(own.half, own.direction))
        .unwrap_or_default();
    satisfy::pod(&wanted, avoid)
}

/// The example: `pods` are the labels at this end and at the other, `later` those of a namespace that does not exist.
pub(super) fn witness(
    mine: Side<'_>,
    theirs: Side<'_>,
    pods: [BTreeMap<String, String>; 2],
    later: &BTreeMap<String, String>,
    ports: Interval,
) -> Witness {
    let end = |side: Side<'_>, labels| End {
        namespace: side.site.map_or_else(
            || Place::Later(later.clone()),
            |site| Place::Namespace(site.name.to_owned()),
        ),
        labels,
    };
    let [mine_pod, their_pod] = pods;
    let (mine_end, their_end) = (end(mine, mine_pod), end(theirs, their_pod));
    let (mine, theirs) = (provenance(mine), provenance(theirs));
    let (from, to, egress, ingress) = match mine.0 {
        Direction::Egress => (mine_end, their_end, mine.1, theirs.1),
        Direction::Ingress => (their_end, mine_end, theirs.1, mine.1),
    };
    Witness {
        from,
        to,
        protocol: ports.protocol,
        ports: (ports.first, ports.last),
        egress,
        ingress,
    }
}

pub(super) fn too_complex(mine: Side<'_>, theirs: Side<'_>) -> Meeting {
    perhaps(mine, theirs, TOO_COMPLEX, "more policies than can be searched")
}

fn perhaps(mine: Side<'_>, theirs: Side<'_>, reason: &'static str, what: &str) -> Meeting {
    let (from, to) = match mine.direction {
        Direction::Egress => (place(mine), place(theirs)),
        Direction::Ingress => (place(theirs), place(mine)),
    };
    Meeting::Perhaps {
        reason,
        message: format!("whether a pod in {from} can reach a pod in {to} depends on {what}"),
    }
}

fn place(side: Side<'_>) -> &str {
    side.site.map_or("a namespace created later", |site| site.name)
}

pub(super) fn provenance(side: Side<'_>) -> (Direction, Provenance) {
    let provenance = match side.half {
        Half::Rule { policy, rule, .. } => Provenance::Rule {
            policy: format!("{}/{}", policy.namespace, policy.name),
            field: rule.field(),
        },
        Half::Open | Half::Doubt(_) => Provenance::NotIsolated {
            namespace: side.site.map(|site| site.name.to_owned()),
        },
    };
    (side.direction, provenance)
}
