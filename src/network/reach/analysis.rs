//! The judgement of one namespace: walk every half that leads out of its stage, and look at the other end for one that
//! fits.

use std::collections::BTreeMap;

use crate::api::names;
use crate::compliance::finding::{Finding, Location, Subject};
use crate::network::cluster_policy::KIND;
use crate::network::ports::{Interval, PortSet};
use crate::network::rules;

use super::map::{Half, Map, Reach, Site};
use super::policy::Direction;
use super::satisfy::{self, Answer};
use super::selector::{Constraint, Selector};
use super::{End, Isolation, Place, Provenance, Witness};

/// Why a path is only a possible one.
pub(super) const CNI_DEPENDENT: &str = "CniDependent";
pub(super) const TOO_COMPLEX: &str = "TooComplex";

/// Two halves, put together.
pub(super) enum Meeting {
    Apart,
    Perhaps { reason: &'static str, message: String },
    Path(Box<Witness>),
}

/// What two halves come to, before anything is said of how sure they are themselves.
pub(super) enum Found {
    Apart,
    Unsure {
        reason: &'static str,
        what: String,
    },
    Ends {
        /// Labels of the pod in the namespace that is judged, and of the other.
        pods: [BTreeMap<String, String>; 2],
        ports: Interval,
        /// Labels of the other's namespace, where a search had to choose them.
        later: Option<BTreeMap<String, String>>,
    },
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
pub(super) struct Side<'m, 'p> {
    pub half: &'m Half<'p>,
    /// `None`: a namespace created later, in which no NetworkPolicy isolates anything.
    pub site: Option<&'m Site<'p>>,
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
    fn leads_to(&self, wanted: Far, near: &Site<'p>, own: Side<'_, 'p>, mut doubted: bool) -> Meeting {
        let half = own.half;
        let mut doubt = Meeting::Apart;
        let mut ask = |theirs: Side<'_, 'p>, labels: &BTreeMap<String, String>| {
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
            let other_stage = far.is_staged();
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
            for half in &self.open_later[direction as usize] {
                let theirs = Side {
                    half,
                    site: None,
                    direction,
                };
                if let Some(path) = ask(theirs, &labels) {
                    return path;
                }
            }
        }
        doubt
    }

    /// The namespaces worth asking: those named, where a rule names them, or else all.
    pub(super) fn candidates<'m>(&'m self, half: &'m Half<'p>) -> impl Iterator<Item = &'m Site<'p>> {
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
            Some(Constraint::In(values)) => Some(*values.iter().find(|name| !self.namespaces.contains_key(**name))?),
            // Names do not run out.
            Some(Constraint::NotIn(_) | Constraint::Present(_)) | None => None,
        };
        let without_stage = Selector::all_of(vec![(names::STAGE_LABEL, Constraint::Absent)])?;
        let others = wanted.forgetting(names::NAMESPACE_NAME_LABEL).and(&without_stage)?;
        let mut labels = others.example();
        labels.extend(name.map(|name| (names::NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())));
        Some(labels)
    }

    /// The same as a selector, for a search that narrows it further.
    pub(super) fn place_of_later(&self, half: &Half<'p>) -> Option<Selector<'p>> {
        let names: Vec<&str> = self.namespaces.keys().map(String::as_str).collect();
        let new = Selector::all_of(vec![
            (names::STAGE_LABEL, Constraint::Absent),
            (names::NAMESPACE_NAME_LABEL, Constraint::Present(names)),
        ])?;
        half.namespaces().map_or(Some(new.clone()), |wanted| wanted.and(&new))
    }

    /// Puts two halves together: ports in common, and a pod at each end.
    pub(super) fn meet(&self, mine: Side<'_, 'p>, theirs: Side<'_, 'p>, later: &BTreeMap<String, String>) -> Meeting {
        match self.beyond_waivers(mine, theirs) {
            // Where tiers are in force, what is found beyond the Waivers may be denied before.
            Some(Meeting::Path(_)) if self.has_tiers() => {
                return match self.in_tiers(mine, theirs) {
                    Found::Apart => Meeting::Apart,
                    Found::Unsure { .. } | Found::Ends { .. } => {
                        perhaps(mine, theirs, TOO_COMPLEX, "ClusterNetworkPolicies beside a Waiver")
                    }
                };
            }
            Some(beyond) => return beyond,
            None => {}
        }
        let found = if self.tiers.is_empty() {
            without_tiers(mine, theirs)
        } else {
            self.in_tiers(mine, theirs)
        };
        let (pods, ports, later) = match found {
            Found::Apart => return Meeting::Apart,
            Found::Unsure { reason, what } => return perhaps(mine, theirs, reason, &what),
            Found::Ends {
                pods,
                ports,
                later: chosen,
            } => (pods, ports, chosen.unwrap_or_else(|| later.clone())),
        };
        self.doubt(mine, theirs)
            .unwrap_or_else(|| Meeting::Path(Box::new(witness(mine, theirs, pods, &later, ports))))
    }

    /// Why a path through two halves is only a possible one; `None` where it is certain.
    pub(super) fn doubt(&self, mine: Side<'_, '_>, theirs: Side<'_, '_>) -> Option<Meeting> {
        let (reason, what) = self.reason(mine, theirs)?;
        Some(perhaps(mine, theirs, reason, &what))
    }

    /// The same as a word for a condition, and what the path depends on.
    pub(super) fn reason(&self, mine: Side<'_, '_>, theirs: Side<'_, '_>) -> Option<(&'static str, String)> {
        let of_half = |side: Side<'_, '_>| match side.half {
            Half::Doubt(doubt) => Some((doubt.reason, doubt.what.clone())),
            Half::Rule {
                reach: Reach::MaybePods,
                ..
            } => Some((CNI_DEPENDENT, self.about_block(side))),
            Half::Accept(step) => step.unknown(),
            Half::Rule { .. } | Half::Open => None,
        };
        let cloud = || self.cloud.map(|doubt| (doubt.reason, doubt.what.clone()));
        of_half(mine).or_else(|| of_half(theirs)).or_else(cloud)
    }

    fn about_block(&self, side: Side<'_, '_>) -> String {
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
            let (rule, subject) = match half {
                Half::Rule { policy, rule, .. } => (
                    *rule,
                    Subject::namespaced("NetworkPolicy", policy.namespace, policy.name),
                ),
                Half::Accept(step) => (&step.rule, Subject::cluster(KIND, step.policy)),
                Half::Open | Half::Doubt(_) => continue,
            };
            if !half.is_outside() || self.permits.cover(near, half, None) {
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
            findings.push(
                Finding::new(rules::WIDENING, subject, message).at(Location::field(format!("spec.{}", rule.field()))),
            );
        }
        findings.sort();
        findings
    }
}

/// Two halves where there are NetworkPolicies only.
fn without_tiers(mine: Side<'_, '_>, theirs: Side<'_, '_>) -> Found {
    let Some(ports) = common(mine.half.ports(), theirs.half.ports()) else {
        return Found::Apart;
    };
    let any = &Selector::default();
    match (pod(mine, theirs, any), pod(theirs, mine, any)) {
        (Answer::No, _) | (_, Answer::No) => Found::Apart,
        (Answer::Yes(mine), Answer::Yes(theirs)) => Found::Ends {
            pods: [mine, theirs],
            ports,
            later: None,
        },
        (Answer::TooHard, _) | (_, Answer::TooHard) => Found::Unsure {
            reason: TOO_COMPLEX,
            what: TOO_MANY.to_owned(),
        },
    }
}

/// Labels of a namespace that somebody creates. Its name is told only where it matters: other names do not run out.
pub(super) fn labels_of_later(place: &Selector<'_>) -> BTreeMap<String, String> {
    let mut labels = place.example();
    if !matches!(place.constraint(names::NAMESPACE_NAME_LABEL), Some(Constraint::In(_))) {
        labels.remove(names::NAMESPACE_NAME_LABEL);
    }
    labels
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
pub(super) fn pod(own: Side<'_, '_>, other: Side<'_, '_>, also: &Selector<'_>) -> Answer {
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
    mine: Side<'_, '_>,
    theirs: Side<'_, '_>,
    pods: [BTreeMap<String, String>; 2],
    later: &BTreeMap<String, String>,
    ports: Interval,
) -> Witness {
    let end = |side: Side<'_, '_>, labels| End {
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

/// What nobody knows who cannot search that long.
pub(super) const TOO_MANY: &str = "more policies than can be searched";

pub(super) fn too_complex(mine: Side<'_, '_>, theirs: Side<'_, '_>) -> Meeting {
    perhaps(mine, theirs, TOO_COMPLEX, TOO_MANY)
}

pub(super) fn perhaps(mine: Side<'_, '_>, theirs: Side<'_, '_>, reason: &'static str, what: &str) -> Meeting {
    let message = depends(mine, theirs, what);
    Meeting::Perhaps { reason, message }
}

/// What a possible path hangs on, in one line.
pub(super) fn depends(mine: Side<'_, '_>, theirs: Side<'_, '_>, what: &str) -> String {
    let (from, to) = match mine.direction {
        Direction::Egress => (place(mine), place(theirs)),
        Direction::Ingress => (place(theirs), place(mine)),
    };
    format!("whether a pod in {from} can reach a pod in {to} depends on {what}")
}

fn place<'p>(side: Side<'_, 'p>) -> &'p str {
    side.site.map_or("a namespace created later", |site| site.name)
}

pub(super) fn provenance(side: Side<'_, '_>) -> (Direction, Provenance) {
    let provenance = match side.half {
        Half::Rule { policy, rule, .. } => Provenance::Rule {
            policy: format!("{}/{}", policy.namespace, policy.name),
            field: rule.field(),
        },
        Half::Accept(step) => Provenance::Rule {
            policy: format!("{KIND} {}", step.policy),
            field: step.rule.field(),
        },
        Half::Open | Half::Doubt(_) => Provenance::NotIsolated {
            namespace: side.site.map(|site| site.name.to_owned()),
        },
    };
    (side.direction, provenance)
}
