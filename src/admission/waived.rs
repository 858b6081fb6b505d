//! Waivers in the policies: which rules do not refuse what, and until when. Their ends are written into the expressions
//! and compared with the API server's own clock, so that a Waiver ends also while no operator runs.
//!
//! Only a creation has a clock: the API server writes `metadata.creationTimestamp` itself, whatever the client sent. So a
//! Waiver lets an object be created, and never be changed for the worse.

mod effect;

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

pub use self::effect::effect;

use super::cel::{list, text};
use super::modes::{Modes, overrides};
use super::policies;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::{Waiver, names};
use crate::compliance::{RuleId, waiver};

/// The longest expression of `cloison-pod`, the longest of all, in characters: cel-go reads 100,000
/// (`defaultExpressionSizeCodePointLimit`), and the message says a little more than the rules.
const LONGEST: usize = 96_000;
/// The most text of Waivers in one policy, in bytes.
const MOST_TEXT: usize = 40_000;

/// A Waiver that holds, as far as the policies have to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exemption {
    name: String,
    namespace: String,
    workload: Option<String>,
    /// What the text of a problem begins with.
    rules: Vec<String>,
    until: Timestamp,
}

/// The Waivers of a set of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waived(Vec<Exemption>);

impl Waived {
    /// Those that hold at `now` and are for something else than a flow; flows are the network's. Of more than there is room
    /// for beside what the policy itself lists, the first by name.
    pub fn new<'w>(waivers: impl IntoIterator<Item = &'w Waiver>, spec: &AiSecurityPolicySpec, now: Timestamp) -> Self {
        let max_days = spec.waivers.max_days;
        let holding = waivers
            .into_iter()
            .filter(|waiver| waiver.spec.flow.is_none() && waiver::judge(waiver, max_days, now).is_ok());
        let mut all: Vec<Exemption> = holding.map(Exemption::of).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        if all.is_empty() {
            return Self::default();
        }
        let modes = Modes::new(overrides(spec, now));
        let mut room = LONGEST.saturating_sub(policies::pod::size(spec, &modes)).min(MOST_TEXT);
        let fits = |it: &Exemption| {
            let left = room.checked_sub(it.text(Some("workload")).map_or(0, |text| text.len()));
            room = left.unwrap_or_default();
            left.is_some()
        };
        let fitting = all.iter().map(fits).take_while(|fits| *fits).count();
        all.truncate(fitting);
        Self(all)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is one of them.
    pub fn names(&self, waiver: &str) -> bool {
        self.0.iter().any(|it| it.name == waiver)
    }

    /// Whether one of them lets a new pod of a workload break a rule. Only rules that the policy for pods asks about are
    /// waived; whatever else is found out about pods, nobody can waive.
    pub fn covers(&self, namespace: &str, workload: &str, rule: &RuleId) -> bool {
        let about =
            |it: &&Exemption| it.namespace == namespace && it.workload.as_ref().is_none_or(|name| name == workload);
        self.0.iter().filter(about).any(|it| it.is_about(rule)) && policies::waivable(true).contains(rule)
    }

    /// Those about one rule.
    pub(super) fn about(&self, rule: &RuleId) -> Self {
        Self(self.0.iter().filter(|it| it.is_about(rule)).cloned().collect())
    }

    /// Those of which so many characters have room where each stands beside every rule it is about, twice; and the namespaces of
    /// others that are about one of these rules.
    pub(super) fn beside(&self, rules: &[&RuleId], room: usize) -> (Self, BTreeSet<&str>) {
        let mut left = room;
        let fits = |it: &&Exemption| {
            let beside = rules.iter().filter(|rule| it.is_about(rule)).count();
            let length = it.text(Some(&of_the_pod())).map_or(0, |text| text.len());
            let room = left.checked_sub(2 * beside * length);
            left = room.unwrap_or_default();
            room.is_some()
        };
        let fitting: Vec<Exemption> = self.0.iter().take_while(fits).cloned().collect();
        let others = self.0[fitting.len()..].iter();
        let others = others.filter(|it| rules.iter().any(|rule| it.is_about(rule)));
        let others = others.map(|it| it.namespace.as_str()).collect();
        (Self(fitting), others)
    }

    /// What of lists of problems no Waiver covers, for what this request creates: pairs of the name of a list and the name
    /// of what is left of it. `workload` is an expression for the name of the object's workload; without one, only Waivers
    /// for whole namespaces count. Costs little where nothing is found.
    pub(super) fn but_for(
        &self,
        lists: &[(&'static str, &'static str)],
        workload: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        let each: Vec<String> = self.0.iter().filter_map(|it| it.text(workload)).collect();
        if each.is_empty() {
            return lists.iter().map(|(found, left)| (*left, (*found).to_owned())).collect();
        }
        let found: Vec<String> = lists.iter().map(|(found, _)| format!("{found}.size()")).collect();
        let covered = format!(
            // A list of lists: some two hundred that are added are nested too deep for the API server, which refuses the policy then.
            "{} && {} > 0 ? [{}] : [['']]",
            // What is new is known by this name where pods are judged, and templates of pods.
            workload.map_or("request.operation == 'CREATE'", |_| "creates"),
            found.join(" + "),
            each.join(", ")
        );
        let left = |(found, left): &(&'static str, &'static str)| {
            let text = format!("{found}.filter(p, !covered.exists(l, l.exists(r, r != '' && p.startsWith(r))))");
            (*left, text)
        };
        std::iter::once(("covered", covered))
            .chain(lists.iter().map(left))
            .collect()
    }
}

impl Exemption {
    fn of(waiver: &Waiver) -> Self {
        let target = &waiver.spec.target;
        // `judge` refuses a Waiver with one that cannot be read.
        let rules = waiver.spec.controls.iter().filter_map(|id| id.parse::<RuleId>().ok());
        Self {
            name: waiver.name_any(),
            namespace: target.namespace.0.clone(),
            workload: target.workload.as_ref().map(|name| name.0.clone()),
            rules: rules
                .map(|rule| format!("{rule}{}", if rule.name().is_some() { ' ' } else { '/' }))
                .collect(),
            until: waiver.spec.expiration_time.0,
        }
    }

    fn is_about(&self, rule: &RuleId) -> bool {
        let text = format!("{rule} ");
        self.rules.iter().any(|begin| text.starts_with(begin))
    }

    /// What the text of a problem that it covers begins with, as a list; empty for the objects of others.
    fn text(&self, workload: Option<&str>) -> Option<String> {
        let whom = match (&self.workload, workload) {
            (None, _) => String::new(),
            (Some(name), Some(expression)) => format!(" && {expression} == {}", text(name)),
            (Some(_), None) => return None,
        };
        Some(format!(
            "(request.namespace == {}{whom} && timestamp(dyn(object).metadata.creationTimestamp) < timestamp({}) ? {} : [''])",
            text(&self.namespace),
            text(&self.until.to_string()),
            list(&self.rules),
        ))
    }
}

/// The workload that a pod joins, in terms of `is`.
pub(super) fn of_the_pod() -> String {
    format!("(is.size() == 0 ? {} : is[0])", text(names::DEFAULT_WORKLOAD))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::{Offline, Operator, Request, generate};

    pub(super) fn waiver(name: &str, change: impl FnOnce(&mut Value)) -> Waiver {
        let mut object = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": name, "generation": 1, "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {
                "target": {"namespace": "train", "workload": "road"}, "controls": ["WKL-01/host-ipc"],
                "reason": "NCCL of this driver needs it until it is replaced", "requestedBy": "alice",
                "expirationTime": "2030-01-02T00:00:00Z",
            },
            "status": {"approval": {"by": "bob", "time": "2030-01-01T01:00:00Z", "generation": 1}},
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    pub(super) fn spec() -> AiSecurityPolicySpec {
        AiSecurityPolicySpec::default()
    }

    pub(super) fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// For every workload of the namespace.
    pub(super) fn wide(object: &mut Value) {
        object["spec"]["target"] = json!({"namespace": "train"});
    }

    pub(super) const NOON: &str = "2030-01-01T12:00:00Z";

    #[test]
    fn a_waiver_stands_beside_what_was_found_with_its_end() {
        let waived = Waived::new([&waiver("w", |_| {})], &spec(), at(NOON));
        let [(_, covered), (_, problems)] = &waived.but_for(&[("found", "problems")], Some("w"))[..] else {
            panic!("two expressions");
        };
        assert_eq!(
            covered,
            "creates && found.size() > 0 ? [(request.namespace == 'train' && w == 'road' && \
             timestamp(dyn(object).metadata.creationTimestamp) < timestamp('2030-01-02T00:00:00Z') ? ['WKL-01/host-ipc '] : \
             [''])] : [['']]"
        );
        assert_eq!(
            problems,
            "found.filter(p, !covered.exists(l, l.exists(r, r != '' && p.startsWith(r))))"
        );
        let none = [("problems", "found".to_owned())];
        assert_eq!(
            waived.but_for(&[("found", "problems")], None),
            none,
            "an object of no workload"
        );
        let whole = waiver("w", |object| object["spec"]["controls"] = json!(["WKL-01"]));
        let whole = Waived::new([&whole], &spec(), at(NOON)).but_for(&[("found", "problems")], Some("w"));
        assert!(whole[0].1.contains("['WKL-01/']"), "all of its rules");
    }

    #[test]
    fn what_is_found_in_a_pod_that_runs_is_covered_as_at_the_door() {
        let covers = |change: fn(&mut Value), namespace: &str, workload: &str, rule: &str| {
            let waived = Waived::new([&waiver("w", change)], &spec(), at(NOON));
            waived.covers(namespace, workload, &rule.parse().unwrap())
        };
        let reference: fn(&mut Value) =
            |object| object["spec"]["controls"] = json!(["ENC-04/reference", "IAM-01/token"]);
        assert!(covers(reference, "train", "road", "ENC-04/reference"));
        assert!(
            !covers(reference, "train", "lane", "ENC-04/reference"),
            "another workload"
        );
        assert!(
            !covers(reference, "infer", "road", "ENC-04/reference"),
            "another namespace"
        );
        assert!(!covers(reference, "train", "road", "ENC-04/env-from"), "another rule");
        assert!(
            !covers(reference, "train", "road", "IAM-01/token"),
            "the door does not ask about it"
        );
        let literal: fn(&mut Value) = |object| object["spec"]["controls"] = json!(["ENC-04/literal"]);
        assert!(
            covers(literal, "train", "road", "ENC-04/literal"),
            "the door asks about it"
        );
        let control: fn(&mut Value) = |object| {
            object["spec"]["controls"] = json!(["ENC-04"]);
            wide(object);
        };
        assert!(
            covers(control, "train", "lane", "ENC-04/env-from"),
            "all of its rules, for everybody"
        );
        let ended: fn(&mut Value) = |object| object["spec"]["expirationTime"] = json!("2030-01-01T11:00:00Z");
        assert!(!covers(ended, "train", "road", "WKL-01/host-ipc"));
    }

    /// Whatever the controller's clock says, the API server's decides until when a pod comes in.
    #[test]
    fn no_wrong_clock_of_ours_lengthens_a_waiver() {
        let namespace = json!({"metadata": {"name": "train", "uid": "u",
            "labels": {names::STAGE_LABEL: "training", names::MODE_LABEL: "enforce", names::NAMESPACE_NAME_LABEL: "train"},
            "annotations": {names::SEALED_ANNOTATION: "u/training", names::OPEN_ANNOTATION: "road"}}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "train", "labels": {names::WORKLOAD_LABEL: "road"}},
            "spec": {"hostIPC": true, "containers": [{"name": "main", "image": "registry.example.com/a"}]}});
        let refused = |ours: &str, theirs: &str| {
            let waived = Waived::new([&waiver("w", |_| {})], &spec(), at(ours));
            let operator = Operator::in_namespace("cloison-system");
            let mut set = generate(&spec(), &operator, &waived, at(ours));
            set.now = at(theirs);
            let offline = Offline::new(&set).unwrap();
            offline
                .judge_pod(&pod, &namespace, &Request::default())
                .unwrap()
                .refused
        };
        assert!(!refused(NOON, "2030-01-01T23:59:59Z"));
        // Ours is late: what is over is over all the same.
        assert!(refused(NOON, "2030-01-02T00:00:00Z"));
        assert!(refused(NOON, "2031-01-01T00:00:00Z"));
        // Ours is early: it closes too soon.
        assert!(refused("2030-01-02T00:00:01Z", NOON));
    }

    #[test]
    fn what_does_not_hold_and_what_is_for_a_flow_stand_nowhere() {
        let none = |waiver: &Waiver, now: &str| Waived::new([waiver], &spec(), at(now)) == Waived::default();
        assert!(!none(&waiver("w", |_| {}), NOON), "the control");
        assert!(none(&waiver("w", |_| {}), "2030-01-02T00:00:00Z"), "over");
        assert!(
            none(&waiver("w", |object| object["status"] = json!({})), NOON),
            "not approved"
        );
        let flow = waiver("w", |object| {
            let end = |namespace: &str, workload: &str| json!({"namespace": namespace, "workload": workload});
            object["spec"]["controls"] = json!(["NET-03", "WKL-01/host-ipc"]);
            object["spec"]["flow"] =
                json!({"from": end("train", "road"), "to": end("infer", "model"), "ports": [{"port": 8080}]});
        });
        assert!(none(&flow, NOON));
    }

    #[test]
    fn of_too_many_the_first_by_name_stand() {
        let all: Vec<Waiver> = (0..1000).rev().map(|n| waiver(&format!("w{n:03}"), |_| {})).collect();
        let waived = Waived::new(&all, &spec(), at(NOON));
        assert!(waived.names("w000") && !waived.names("w999"));
        let text = &waived.but_for(&[("found", "problems")], Some("workload"))[0].1;
        assert!(
            (MOST_TEXT / 2..MOST_TEXT + 1_000).contains(&text.len()),
            "{}",
            text.len()
        );
        // Where the policy's own lists are long, less is left.
        let images: Vec<Value> = (0..64)
            .map(|n| json!({"prefix": format!("r{n}.example/{}", "x".repeat(240))}))
            .collect();
        let drivers: Vec<String> = (0..32).map(|n| format!("{n:02}{}", "x".repeat(250))).collect();
        let networks: Vec<Value> = (0..32)
            .map(|n| json!({"name": "n", "networkAttachment": format!("{n}/{}", "x".repeat(250)), "stages": ["Training"]}))
            .collect();
        let long = json!({"pods": {"images": images, "inlineCSIDrivers": drivers},
                          "network": {"mesh": "Istio", "dedicatedInterfaces": networks}});
        let fewer = Waived::new(&all, &serde_json::from_value(long).unwrap(), at(NOON));
        assert!(
            fewer.names("w000") && fewer.0.len() < waived.0.len(),
            "{} {}",
            fewer.0.len(),
            waived.0.len()
        );
    }

    #[test]
    fn the_warnings_of_templates_have_a_bound() {
        let length = |number: usize| {
            let each = (0..number).map(|n| {
                waiver(&format!("w{n:03}"), |object| {
                    object["spec"]["controls"] = json!(["WKL-01"])
                })
            });
            let all: Vec<Waiver> = each.collect();
            let operator = Operator::in_namespace("cloison-system");
            let set = generate(&spec(), &operator, &Waived::new(&all, &spec(), at(NOON)), at(NOON));
            serde_json::to_string(set.policy("cloison-templates").unwrap())
                .unwrap()
                .len()
        };
        let (none, few, many) = (length(0), length(5), length(500));
        assert!(none < few && few < many, "{none} {few} {many}");
        // The half of what etcd takes.
        assert!(many < 750_000, "{many}");
    }
}
