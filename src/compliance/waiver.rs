//! Whether a Waiver holds. One function decides it, for the controller and the command line alike; time is an argument.
//!
//! It holds when it is well formed, short enough, approved by another person, and not over. What fails first is told. That
//! the name in an approval is the approver's own is for the API server: whoever may write `waivers/status` is trusted with it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::catalogue::Catalogue;
use super::id::{CLU_04, DAT_01, NET_03, NET_07, OPS_02, RuleId};
use crate::api::Waiver;
use crate::api::conditions::{Truth, Verdict, types};

/// Waived for a flow between two stages.
const CROSS_STAGE: RuleId = NET_03.rule("cross-stage");
/// Controls that nothing waives.
const UNTOUCHABLE: [super::ControlId; 3] = [DAT_01, NET_07, CLU_04];

/// Why a Waiver holds for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inactive {
    /// A CamelCase word for a condition.
    pub reason: &'static str,
    /// One line, with the fix.
    pub message: String,
}

/// What the checks look at.
struct Asked<'a> {
    waiver: &'a Waiver,
    max_days: i32,
    now: Timestamp,
}

type Check = fn(&Asked<'_>) -> Option<Inactive>;
/// In the order in which they are worth telling: what nobody can mend any more comes first.
const CHECKS: [Check; 7] = [deleted, expired, controls, flow, target, too_long, not_approved];

/// Whether a Waiver holds at `now`. `max_days` is `spec.waivers.maxDays` of the policy, counted from the creation; of one
/// that was not created yet, from now.
pub fn judge(waiver: &Waiver, max_days: i32, now: Timestamp) -> Result<(), Inactive> {
    let asked = Asked { waiver, max_days, now };
    CHECKS.iter().find_map(|check| check(&asked)).map_or(Ok(()), Err)
}

/// So long before its end people are told that it ends.
const WARNING: SignedDuration = SignedDuration::from_hours(72);

/// How far a Waiver is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It holds.
    Active,
    /// It holds, and for at most 72 hours more.
    ExpiresSoon,
    /// It holds for nothing.
    Inactive,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::ExpiresSoon, Self::Inactive];

    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::ExpiresSoon => "ExpiresSoon",
            Self::Inactive => "Inactive",
        }
    }
}

/// The state of a Waiver, by the same checks.
pub fn state(waiver: &Waiver, max_days: i32, now: Timestamp) -> State {
    let left = waiver.spec.expiration_time.0.duration_since(now);
    match judge(waiver, max_days, now) {
        Err(_) => State::Inactive,
        // Of one that lasts no longer than the warning everybody knows it.
        Ok(()) if left <= WARNING && lasts(waiver).is_none_or(|whole| whole > WARNING) => State::ExpiresSoon,
        Ok(()) => State::Active,
    }
}

/// The state of one that opens so much: what opens nothing is not active.
pub fn seen(waiver: &Waiver, max_days: i32, now: Timestamp, effect: &Effect) -> State {
    match effect {
        Effect::Nothing(..) => State::Inactive,
        Effect::Whole | Effect::Part(_) => state(waiver, max_days, now),
    }
}

fn lasts(waiver: &Waiver) -> Option<SignedDuration> {
    let created = waiver.metadata.creation_timestamp.as_ref()?;
    Some(waiver.spec.expiration_time.0.duration_since(created.0))
}

/// The next moment after `now` at which its state changes by the clock alone.
pub fn next_change(waiver: &Waiver, now: Timestamp) -> Option<Timestamp> {
    let end = waiver.spec.expiration_time.0;
    [end - WARNING, end].into_iter().find(|moment| *moment > now)
}

/// Whether a flow that it opened may still be open at `now`: its time is over, and its condition of before says nobody has
/// seen to it. What it waived at the door is closed by the API server's own clock.
pub fn is_overdue(waiver: &Waiver, now: Timestamp) -> bool {
    let conditions = waiver.status.iter().flat_map(|status| &status.conditions);
    let mut active = conditions.filter(|condition| condition.type_ == types::ACTIVE && condition.status == "True");
    waiver.spec.flow.is_some() && now >= waiver.spec.expiration_time.0 && active.next().is_some()
}

/// What is wrong with how a Waiver is written, each with the rule, the field and the fix: what no approval and no waiting
/// would mend. By the same checks; of one that was not created yet, from now.
pub fn malformed(waiver: &Waiver, max_days: i32, now: Timestamp) -> Vec<Malformed> {
    let asked = Asked { waiver, max_days, now };
    let checks: [(Check, &'static str); 5] = [
        (expired, "spec.expirationTime"),
        (controls, "spec.controls"),
        (flow, "spec.controls"),
        (target, "spec.target"),
        (too_long, "spec.expirationTime"),
    ];
    let found = checks
        .into_iter()
        .filter_map(|(check, field)| Some((check(&asked)?, field)));
    found
        .map(|(inactive, field)| {
            let (first, rest) = inactive.message.split_once(' ').unwrap_or_default();
            let (rule, text) = match first.parse::<RuleId>() {
                Ok(rule) => (rule, rest),
                Err(_) => (RuleId::from(OPS_02), inactive.message.as_str()),
            };
            let (message, fix) = text.split_once("; ").unwrap_or((text, ""));
            Malformed {
                rule,
                field,
                message: message.to_owned(),
                fix: (!fix.is_empty()).then(|| fix.to_owned()),
            }
        })
        .collect()
}

/// Something that is wrong with how a Waiver is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The rule.
    pub rule: RuleId,
    /// Where.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do, where that is not the catalogue's own fix.
    pub fix: Option<String>,
}

/// Nobody asks about what it names.
pub const NO_EFFECT: &str = "NoEffect";
/// The policies have no room for it.
pub const NO_ROOM: &str = "NoRoom";
/// Its flow is closed by something else.
pub const FLOW_CLOSED: &str = "FlowClosed";
/// Why one that holds opens nothing, as reasons of a condition.
pub const CLOSED: [&str; 3] = [NO_EFFECT, NO_ROOM, FLOW_CLOSED];

/// What a Waiver that holds opens of what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// All of it.
    Whole,
    /// Not all of it: what not and why, in a sentence.
    Part(String),
    /// Nothing: a reason, a CamelCase word for a condition, and a sentence.
    Nothing(&'static str, String),
}

/// The conditions of a Waiver, by the same checks. `effect` is what it opens when all of them pass.
pub fn conditions(waiver: &Waiver, max_days: i32, now: Timestamp, effect: &Effect) -> Vec<Verdict> {
    let asked = Asked { waiver, max_days, now };
    let approved = match not_approved(&asked) {
        Some(why) => Verdict::new(types::APPROVED, Truth::False, why.reason, why.message),
        None => Verdict::new(types::APPROVED, Truth::True, "Approved", "another person approved it"),
    };
    let active = match (judge(waiver, max_days, now), effect) {
        (Err(why), _) => Verdict::new(types::ACTIVE, Truth::False, why.reason, why.message),
        (Ok(()), Effect::Nothing(reason, why)) => {
            let message = format!("it holds, and opens nothing: {why}");
            Verdict::new(types::ACTIVE, Truth::False, reason, message)
        }
        (Ok(()), Effect::Whole | Effect::Part(_)) => {
            let state = state(waiver, max_days, now);
            let soon = match state {
                State::ExpiresSoon => ", at most 72 hours more: ask for the next one, or mend what it is for",
                State::Active | State::Inactive => "",
            };
            let but = match effect {
                Effect::Part(why) => format!("; it does not open all that it names: {why}"),
                Effect::Whole | Effect::Nothing(..) => String::new(),
            };
            let message = format!("it holds until {}{soon}{but}", waiver.spec.expiration_time.0);
            Verdict::new(types::ACTIVE, Truth::True, state.as_str(), message)
        }
    };
    vec![approved, active]
}

fn inactive(reason: &'static str, message: impl Into<String>) -> Inactive {
    let message = message.into();
    Inactive { reason, message }
}

fn deleted(asked: &Asked<'_>) -> Option<Inactive> {
    asked.waiver.metadata.deletion_timestamp.as_ref()?;
    Some(inactive("Deleted", "it is being deleted"))
}

fn expired(asked: &Asked<'_>) -> Option<Inactive> {
    let end = asked.waiver.spec.expiration_time.0;
    (asked.now >= end).then(|| Inactive {
        reason: "Expired",
        message: format!("it expired at {end}; write a new one"),
    })
}

fn controls(asked: &Asked<'_>) -> Option<Inactive> {
    let catalogue = Catalogue::builtin();
    asked.waiver.spec.controls.iter().find_map(|written| {
        let known = written.parse::<RuleId>().ok().filter(|id| catalogue.contains(id));
        match known {
            None => Some(inactive(
                "Malformed",
                format!(
                    "OPS-02/unknown-control {:?} is no control of the catalogue; see kubectl cloison controls",
                    &**written
                ),
            )),
            Some(id) if UNTOUCHABLE.contains(&id.control()) => Some(inactive(
                "Malformed",
                format!("OPS-02/untouchable {id} cannot be waived; remove it from spec.controls"),
            )),
            Some(_) => None,
        }
    })
}

fn flow(asked: &Asked<'_>) -> Option<Inactive> {
    asked.waiver.spec.flow.as_ref()?;
    let mut written = asked.waiver.spec.controls.iter();
    let covers = written.any(|written| written.parse::<RuleId>().is_ok_and(|id| id.covers(&CROSS_STAGE)));
    if covers {
        return None;
    }
    Some(inactive(
        "Malformed",
        "OPS-02/flow its flow needs NET-03 or NET-03/cross-stage in spec.controls",
    ))
}

/// A flow is waived for one of its ends.
fn target(asked: &Asked<'_>) -> Option<Inactive> {
    let (flow, target) = (asked.waiver.spec.flow.as_ref()?, &asked.waiver.spec.target);
    let is_target = |end: &crate::api::waiver::FlowEnd| {
        *end.namespace == *target.namespace && target.workload.as_ref().is_none_or(|name| **name == *end.workload)
    };
    if is_target(&flow.from) || is_target(&flow.to) {
        return None;
    }
    Some(inactive(
        "Malformed",
        "OPS-02/target its target is neither end of its flow; name one of them in spec.target",
    ))
}

fn too_long(asked: &Asked<'_>) -> Option<Inactive> {
    let created = asked.waiver.metadata.creation_timestamp.as_ref();
    let created = created.map_or(asked.now, |created| created.0);
    let limit = SignedDuration::from_hours(24 * i64::from(asked.max_days));
    let end = asked.waiver.spec.expiration_time.0;
    (end.duration_since(created) > limit).then(|| Inactive {
        reason: "TooLong",
        message: format!(
            "OPS-02/too-long it lasts longer than {} days; write one with an earlier expirationTime",
            asked.max_days
        ),
    })
}

fn not_approved(asked: &Asked<'_>) -> Option<Inactive> {
    let waiver = asked.waiver;
    let Some(approval) = waiver.status.as_ref().and_then(|status| status.approval.as_ref()) else {
        let also = match &waiver.spec.approved_by {
            Some(_) => "; spec.approvedBy is somebody's word and no approval",
            None => "",
        };
        let message = format!("another person must approve it in status.approval{also}");
        return Some(inactive("NotApproved", message));
    };
    if *approval.by == *waiver.spec.requested_by {
        let message = format!(
            "OPS-02/own-approval {:?} both asked and approved; let another person approve",
            &*approval.by
        );
        return Some(inactive("NotApproved", message));
    }
    // Of a file that no API server saw, it is the first.
    let generation = waiver.metadata.generation.unwrap_or(1);
    (approval.generation != generation).then(|| Inactive {
        reason: "NotApproved",
        message: format!(
            "its approval is of generation {}, it is of {generation}; let it be approved again",
            approval.generation
        ),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOON: &str = "2030-01-01T12:00:00Z";

    type Change = fn(&mut Value);

    fn waiver(change: impl FnOnce(&mut Value)) -> Waiver {
        let end = |namespace: &str, workload: &str| json!({"namespace": namespace, "workload": workload});
        let mut object = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": "w", "generation": 1, "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {
                "target": {"namespace": "train", "workload": "road"}, "controls": ["NET-03/cross-stage"],
                "flow": {"from": end("train", "road"), "to": end("infer", "model"), "ports": [{"port": 8080}]},
                "reason": "Shadow evaluation of the new detector", "requestedBy": "alice",
                "expirationTime": "2030-01-02T00:00:00Z",
            },
            "status": {"approval": {"by": "bob", "time": "2030-01-01T01:00:00Z", "generation": 1}},
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn reason(waiver: &Waiver, now: &str) -> &'static str {
        judge(waiver, 90, now.parse().unwrap()).map_or_else(|inactive| inactive.reason, |()| "Active")
    }

    #[test]
    fn it_ends_at_its_expiry_to_the_second() {
        let waiver = waiver(|_| {});
        assert_eq!(reason(&waiver, "2030-01-01T23:59:59Z"), "Active");
        assert_eq!(reason(&waiver, "2030-01-02T00:00:00Z"), "Expired");
    }

    #[test]
    fn nothing_but_anothers_approval_of_this_very_object_opens_it() {
        let cases: [(&str, Change); 5] = [
            ("no status", |object| object["status"] = json!({})),
            ("a word", |object| {
                object["status"] = json!({});
                object["spec"]["approvedBy"] = json!("bob");
            }),
            ("oneself", |object| object["status"]["approval"]["by"] = json!("alice")),
            ("an older generation", |object| {
                object["metadata"]["generation"] = json!(2)
            }),
            ("a later generation", |object| {
                object["status"]["approval"]["generation"] = json!(7)
            }),
        ];
        for (what, change) in cases {
            let waiver = waiver(change);
            assert_eq!(reason(&waiver, NOON), "NotApproved", "{what}");
            let told = conditions(&waiver, 90, NOON.parse().unwrap(), &Effect::Whole);
            assert!(
                told.iter().all(|verdict| verdict.truth == Truth::False),
                "{what}: {told:?}"
            );
        }
    }

    #[test]
    fn a_malformed_one_holds_for_nothing() {
        let cases: [(&str, Change); 5] = [
            ("OPS-02/unknown-control", |object| {
                object["spec"]["controls"] = json!(["NET-03", "NET-99"])
            }),
            ("OPS-02/untouchable", |object| {
                object["spec"]["controls"] = json!(["NET-03", "DAT-01"])
            }),
            ("OPS-02/flow", |object| {
                object["spec"]["controls"] = json!(["NET-03/relay"])
            }),
            ("OPS-02/target", |object| {
                object["spec"]["target"] = json!({"namespace": "other"})
            }),
            ("OPS-02/target", |object| {
                object["spec"]["target"]["workload"] = json!("other")
            }),
        ];
        for (rule, change) in cases {
            let found = judge(&waiver(change), 90, NOON.parse().unwrap()).unwrap_err();
            assert_eq!(
                (found.reason, found.message.starts_with(rule)),
                ("Malformed", true),
                "{}",
                found.message
            );
        }
        let whole = waiver(|object| {
            object["spec"]["controls"] = json!(["NET-03"]);
            object["spec"]["target"] = json!({"namespace": "infer"});
        });
        assert_eq!(reason(&whole, NOON), "Active", "the other end, every workload of it");
    }

    #[test]
    fn the_longest_is_counted_from_the_creation() {
        let long = waiver(|object| object["spec"]["expirationTime"] = json!("2030-04-01T00:00:00Z"));
        assert_eq!(reason(&long, NOON), "Active", "90 days");
        let longer = waiver(|object| object["spec"]["expirationTime"] = json!("2030-04-01T00:00:01Z"));
        assert_eq!(reason(&longer, NOON), "TooLong");
        assert_eq!(
            reason(&longer, "2030-03-31T00:00:00Z"),
            "TooLong",
            "also when little is left of it"
        );
        let new = waiver(|object| {
            object["metadata"] = json!({"name": "w"});
            object["spec"]["expirationTime"] = json!("2030-04-01T00:00:01Z");
        });
        assert_eq!(reason(&new, NOON), "Active", "from now, in a file");
    }

    #[test]
    fn what_it_does_not_open_is_said_beside_what_it_does() {
        let told = |effect: &Effect| conditions(&waiver(|_| {}), 90, NOON.parse().unwrap(), effect).swap_remove(1);
        let part = told(&Effect::Part("nobody hears X".to_owned()));
        assert_eq!((part.truth, part.reason), (Truth::True, "Active"));
        assert_eq!(
            part.message,
            "it holds until 2030-01-02T00:00:00Z; it does not open all that it names: nobody hears X"
        );
        let nothing = told(&Effect::Nothing("NoEffect", "nobody hears X".to_owned()));
        assert_eq!((nothing.truth, nothing.reason), (Truth::False, "NoEffect"));
        assert_eq!(nothing.message, "it holds, and opens nothing: nobody hears X");
        assert_eq!(told(&Effect::Whole).message, "it holds until 2030-01-02T00:00:00Z");
        // And it is counted so.
        let counted = |effect: &Effect| seen(&waiver(|_| {}), 90, NOON.parse().unwrap(), effect);
        assert_eq!(counted(&Effect::Whole), State::Active);
        assert_eq!(counted(&Effect::Nothing(FLOW_CLOSED, String::new())), State::Inactive);
    }

    #[test]
    fn its_end_is_told_72_hours_before_to_the_second() {
        let long = waiver(|object| object["spec"]["expirationTime"] = json!("2030-01-20T12:00:00Z"));
        let at = |now: &str| {
            let now: Timestamp = now.parse().unwrap();
            let told = conditions(&long, 90, now, &Effect::Whole).swap_remove(1);
            let state = state(&long, 90, now);
            assert_eq!(told.reason, state.as_str());
            let next = next_change(&long, now).map(|moment| moment.to_string());
            (state, told.message.contains("at most 72 hours more"), next.unwrap())
        };
        let (warned, over) = ("2030-01-17T12:00:00Z".to_owned(), "2030-01-20T12:00:00Z".to_owned());
        assert_eq!(at("2030-01-17T11:59:59Z"), (State::Active, false, warned));
        for moment in ["2030-01-17T12:00:00Z", "2030-01-17T12:00:01Z"] {
            assert_eq!(at(moment), (State::ExpiresSoon, true, over.clone()));
        }
        // Of one that lasts no longer than that everybody knows it.
        let short = waiver(|object| object["spec"]["expirationTime"] = json!("2030-01-04T00:00:00Z"));
        assert_eq!(
            state(&short, 90, "2030-01-03T00:00:00Z".parse().unwrap()),
            State::Active
        );
    }

    #[test]
    fn one_that_is_being_deleted_holds_no_more() {
        let leaving = waiver(|object| object["metadata"]["deletionTimestamp"] = json!(NOON));
        assert_eq!(reason(&leaving, NOON), "Deleted");
    }
}
