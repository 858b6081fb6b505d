//! What a Waiver opens, and what of it nobody asks about: told to whoever wrote it, before anybody relies on it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::policies;
use crate::api::Waiver;
use crate::compliance::id::NET_03;
use crate::compliance::waiver::Effect;
use crate::compliance::{RuleId, waiver};

/// What a Waiver opens while it holds, by what the policies and the network ask about: nobody asks about requests that have
/// no clock, rights of people, the labels of namespaces; most ask for a whole namespace only; and one with a flow is the
/// network's alone.
pub fn effect(waiver: &Waiver) -> Effect {
    let spec = &waiver.spec;
    let anywhere = policies::waivable(false);
    let heard = match (&spec.flow, &spec.target.workload) {
        (Some(_), _) => vec![NET_03.rule("cross-stage")],
        (None, workload) => policies::waivable(workload.is_some()),
    };
    let (mut opens, mut deaf) = (false, BTreeMap::<Deaf, Vec<String>>::new());
    for written in &spec.controls {
        // `judge` refuses a Waiver with one that cannot be read.
        let Ok(id) = written.parse::<RuleId>() else { continue };
        let part_of = |rule: &&RuleId| id.covers(rule);
        if !heard.iter().any(|rule| part_of(&rule)) {
            let why = match &spec.flow {
                _ if !anywhere.iter().any(|rule| part_of(&rule)) => Deaf::Everywhere,
                Some(_) => Deaf::BesideAFlow,
                None => Deaf::ForOneWorkload,
            };
            deaf.entry(why).or_default().push(written.to_string());
            continue;
        }
        opens = true;
        if spec.flow.is_none() {
            let beyond = anywhere.iter().filter(part_of).filter(|rule| !heard.contains(rule));
            let beyond: BTreeSet<String> = beyond.map(ToString::to_string).collect();
            if !beyond.is_empty() {
                deaf.entry(Deaf::ForOneWorkload).or_default().extend(beyond);
            }
        }
    }
    let why: Vec<String> = deaf.iter().map(|(why, of)| why.said(&of.join(", "))).collect();
    let why = why.join("; ");
    match (opens, why.is_empty()) {
        (true, true) => Effect::Whole,
        (true, false) => Effect::Part(why),
        (false, _) => Effect::Nothing(waiver::NO_EFFECT, why),
    }
}

/// Why nobody asks about a control of a Waiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deaf {
    Everywhere,
    ForOneWorkload,
    BesideAFlow,
}

impl Deaf {
    fn said(self, controls: &str) -> String {
        match self {
            Self::Everywhere => format!("nothing that judges {controls} knows Waivers (docs/waivers.md)"),
            Self::ForOneWorkload => {
                format!("{controls} can be waived for a whole namespace only: write one without spec.target.workload")
            }
            Self::BesideAFlow => format!("one with a flow lets nothing else through: write another one for {controls}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::waived::Waived;
    use crate::admission::waived::tests::{NOON, at, spec, waiver, wide};

    fn with(controls: Value, change: impl FnOnce(&mut Value)) -> Effect {
        effect(&waiver("w", |object| {
            object["spec"]["controls"] = controls;
            change(object);
        }))
    }

    fn crossing(object: &mut Value) {
        let end = json!({"namespace": "train", "workload": "road"});
        object["spec"]["flow"] = json!({"from": end, "to": end, "ports": [{"port": 8080}]});
    }

    const DEAF: &str = "nothing that judges WKL-06/exec, NET-03 knows Waivers (docs/waivers.md)";

    #[test]
    fn a_part_that_no_clause_asks_about_is_told_and_the_rest_still_opens() {
        let heard = json!(["WKL-01", "SUP-01/digest", "NET-10/no-peers"]);
        assert_eq!(with(heard, wide), Effect::Whole);
        assert_eq!(
            with(json!(["WKL-06/exec", "WKL-01", "NET-03"]), wide),
            Effect::Part(DEAF.to_owned())
        );
        assert_eq!(
            with(json!(["WKL-06/exec", "NET-03"]), wide),
            Effect::Nothing("NoEffect", DEAF.to_owned())
        );
    }

    #[test]
    fn for_one_workload_only_the_rules_of_its_pods_are_asked_about() {
        let whole = |controls: &str| {
            format!("{controls} can be waived for a whole namespace only: write one without spec.target.workload")
        };
        let namespaces = ["NET-10/no-peers", "DAT-07/data-source", "IAM-07/foreign-account"];
        for control in namespaces {
            let told = with(json!([control]), |_| {});
            assert_eq!(told, Effect::Nothing("NoEffect", whole(control)));
            // The policies bear it out: without the name of a workload such a Waiver has no text.
            let one = waiver("w", |object| object["spec"]["controls"] = json!([control]));
            let waived = Waived::new([&one], &spec(), at(NOON));
            assert!(!waived.but_for(&[("found", "problems")], None)[0].1.contains(control));
            assert_eq!(with(json!([control]), wide), Effect::Whole);
        }
        assert_eq!(
            with(json!(["WKL-01/host-ipc", "NET-10"]), |_| {}),
            Effect::Part(whole("NET-10"))
        );
        assert_eq!(with(json!(["WKL-01/host-ipc"]), |_| {}), Effect::Whole);
    }

    #[test]
    fn beside_a_flow_nothing_else_opens() {
        assert_eq!(with(json!(["NET-03"]), crossing), Effect::Whole);
        assert_eq!(
            with(json!(["NET-03/cross-stage", "WKL-01/host-ipc", "NET-10"]), crossing),
            Effect::Part(
                "one with a flow lets nothing else through: write another one for WKL-01/host-ipc, NET-10".to_owned()
            )
        );
        assert_eq!(
            with(json!(["NET-03"]), |_| {}),
            Effect::Nothing(
                "NoEffect",
                "nothing that judges NET-03 knows Waivers (docs/waivers.md)".to_owned()
            ),
            "without its flow"
        );
    }
}
