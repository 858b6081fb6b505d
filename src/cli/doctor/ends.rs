//! Waivers that hold, and those whose end somebody has to see to. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::verdict::{Verdict, Word, first, verdict};
use crate::admission::effect;
use crate::api::Waiver;
use crate::compliance::waiver::{self, State};

/// By name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// The time is over, and the flow may be open.
    overdue: Vec<String>,
    /// What holds for at most 72 hours more, each with its end.
    soon: Vec<String>,
    /// What opens something for longer, with where, what and until when.
    active: Vec<String>,
}

impl Ends {
    pub(super) fn of(waivers: &[Waiver], max_days: i32, now: Timestamp) -> Self {
        let names = |is: &dyn Fn(&&Waiver) -> bool, told: fn(&Waiver) -> String| {
            let mut found: Vec<String> = waivers.iter().filter(is).map(told).collect();
            found.sort();
            found
        };
        Self {
            overdue: names(&|it| waiver::is_overdue(it, now), Waiver::name_any),
            soon: names(&|it| waiver::state(it, max_days, now) == State::ExpiresSoon, |it| {
                format!("{} at {}", it.name_any(), it.spec.expiration_time.0)
            }),
            active: names(
                &|it| waiver::seen(it, max_days, now, &effect(it)) == State::Active,
                open,
            ),
        }
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let about = "Waivers";
        let mut told = Vec::new();
        if !self.overdue.is_empty() {
            let overdue = first(&self.overdue);
            let message = format!("WaiverOverdue: {overdue}: the time is over and the flow may be open");
            told.push(verdict(about, Word::Attention, message));
        }
        if !self.soon.is_empty() {
            let soon = first(&self.soon);
            let message = format!("end within 72 hours: {soon}; ask for the next one, or mend what it is for");
            told.push(verdict(about, Word::Attention, message));
        }
        if told.is_empty() {
            let message = "no flow is open past the end of its Waiver, and none ends within 72 hours";
            told.push(verdict(about, Word::Fine, message));
        }
        if !self.active.is_empty() {
            let message = format!("hold until their end: {}", first(&self.active));
            told.push(verdict(about, Word::Fine, message));
        }
        told
    }
}

/// `trial in train/road (WKL-01) until 2030-01-02T00:00:00Z`.
fn open(waiver: &Waiver) -> String {
    let spec = &waiver.spec;
    let workload = spec.target.workload.as_ref().map(|name| format!("/{}", &**name));
    let controls: Vec<&str> = spec.controls.iter().map(|control| &**control).collect();
    format!(
        "{} in {}{} ({}) until {}",
        waiver.name_any(),
        &*spec.target.namespace,
        workload.unwrap_or_default(),
        controls.join(", "),
        spec.expiration_time.0
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn waiver(name: &str, until: &str, flow: bool) -> Waiver {
        let end = |namespace: &str| json!({"namespace": namespace, "workload": "w"});
        let flow = flow.then(|| json!({"from": end("train"), "to": end("infer"), "ports": [{"port": 8080}]}));
        let object: Value = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": name, "generation": 1, "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {
                "target": {"namespace": "train"}, "controls": ["NET-03"], "flow": flow,
                "reason": "Shadow evaluation of the new detector", "requestedBy": "alice", "expirationTime": until,
            },
            "status": {
                "approval": {"by": "bob", "time": "2030-01-01T01:00:00Z", "generation": 1},
                "conditions": [{"type": "Active", "status": "True", "reason": "Active", "message": "",
                                "lastTransitionTime": "2030-01-01T01:00:00Z"}],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_ends_soon_and_what_is_overdue_is_named() {
        let told = |waivers: &[Waiver]| {
            let ends = Ends::of(waivers, 90, "2030-01-10T00:00:00Z".parse().unwrap());
            let lines = ends.verdicts().into_iter();
            lines.map(|it| (it.word, it.message)).collect::<Vec<_>>()
        };
        let later = waiver("later", "2030-02-01T00:00:00Z", true);
        let soon = waiver("soon", "2030-01-12T00:00:00Z", true);
        let over = waiver("over", "2030-01-09T00:00:00Z", true);
        let door = waiver("door", "2030-01-09T00:00:00Z", false);
        let [(Word::Fine, _), (Word::Fine, active)] = &told(&[later.clone(), door])[..] else {
            unreachable!("two lines")
        };
        assert_eq!(
            active, "hold until their end: later in train (NET-03) until 2030-02-01T00:00:00Z",
            "and the one that has ended is none of them"
        );
        let all = told(&[over, later, soon]);
        let [
            (Word::Attention, overdue),
            (Word::Attention, ending),
            (Word::Fine, still),
        ] = &all[..]
        else {
            unreachable!("three lines")
        };
        assert_eq!(still, active);
        assert_eq!(
            overdue,
            "WaiverOverdue: over: the time is over and the flow may be open"
        );
        assert_eq!(
            ending,
            "end within 72 hours: soon at 2030-01-12T00:00:00Z; ask for the next one, or mend what it is for"
        );
    }
}
