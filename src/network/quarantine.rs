//! Quarantine: whether nothing leads to the pods of a workload and nothing away from them.
//!
//! NetworkPolicy only adds, so an emptied policy of ours does not close what a policy of somebody else opens: such a policy
//! is named. What is not seen here is what no NetworkPolicy sees: traffic from the pods' own node, their node's network,
//! interfaces beside the pod network, and requests through the API server.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::cluster_policy::{Action, ClusterNetworkPolicy, Tier};
use super::policies;
use super::reach::{self, UnmodelledPolicy};
use super::world::WorkloadKey;
use crate::api::conditions::{Truth, Verdict, types};
use crate::api::names;

/// Most rules that a message names.
const NAMED: usize = 3;

/// The condition `Quarantined` of a workload whose own policy is in place. `stored` are the policies as they are.
pub fn judge<'p>(
    workload: &WorkloadKey,
    stored: impl IntoIterator<Item = &'p NetworkPolicy>,
    of_cluster: &[ClusterNetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
) -> Verdict {
    let kind = types::QUARANTINED;
    let WorkloadKey { namespace, name } = workload;
    let open = reach::openings_of(namespace, &policies::in_workload(name), stored);
    if !open.rules.is_empty() {
        let named: Vec<String> = open.rules.iter().take(NAMED).map(ToString::to_string).collect();
        let more = open.rules.len().saturating_sub(NAMED);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" (+{more} more)")
        };
        let message = format!(
            "still open for its pods: {}{more}; delete or narrow these policies",
            named.join(", ")
        );
        return Verdict::new(kind, Truth::False, "PathExists", message);
    }
    if let Some(first) = open.unreadable.first() {
        return Verdict::new(
            kind,
            Truth::Unknown,
            "UnreadablePolicy",
            format!("NetworkPolicy {first}"),
        );
    }
    if let Some(policy) = of_cluster.iter().find(|policy| may_accept(policy)) {
        let message = format!("ClusterNetworkPolicy {} may accept what is closed here", policy.name);
        return Verdict::new(kind, Truth::Unknown, "ClusterPolicy", message);
    }
    let others = unmodelled
        .iter()
        .find(|other| other.namespace.as_ref().is_none_or(|home| home == namespace));
    if let Some(other) = others {
        let message = format!(
            "{} may open what is closed here, and the analysis does not model it",
            other.kind
        );
        return Verdict::new(kind, Truth::Unknown, "UnmodelledPolicy", message);
    }
    let pods = if name == names::DEFAULT_WORKLOAD {
        format!("-l '!{}'", names::WORKLOAD_LABEL)
    } else {
        format!("-l {}={name}", names::WORKLOAD_LABEL)
    };
    Verdict::new(
        kind,
        Truth::True,
        "EstablishedConnectionsMayPersist",
        format!(
            "no policy lets anything in or out of its pods; connections from before may persist on some network plugins \
             until the pods are gone: kubectl delete pod -n {namespace} {pods}"
        ),
    )
}

/// Whether it may let through what no NetworkPolicy does. Its pods and peers are not looked at: such rules are rare.
fn may_accept(policy: &ClusterNetworkPolicy) -> bool {
    let Ok(spec) = &policy.spec else { return true };
    let ingress = spec.ingress.iter().map(|rule| rule.action);
    let mut actions = ingress.chain(spec.egress.iter().map(|rule| rule.action));
    spec.tier == Tier::Admin && actions.any(|action| action == Action::Accept)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::api::stage::NamespaceStage;
    use crate::api::workload::{FlowState, Runtime};
    use crate::network::world::World;
    use crate::network::{flows, testkit};

    fn world() -> World {
        let mut world = testkit::world();
        let between = "{connectTo: [{workload: {name: model}, ports: [{port: 80}]}, {service: registry}], \
                       acceptFrom: [{workload: {name: model}, ports: [{port: 80}]}]}";
        world
            .stage("serve", NamespaceStage::Inference)
            .stage("common", NamespaceStage::Shared)
            .policy("{services: [{name: registry, to: {namespace: common}, ports: [{port: 5000}]}]}")
            .workload("serve", "front", Runtime::Generic, between)
            .workload(
                "serve",
                "model",
                Runtime::VLLM,
                &between.replace("name: model", "name: front"),
            )
            .workload("serve", "default", Runtime::Generic, "");
        world
    }

    fn quarantined(names: &[&str]) -> World {
        let mut world = world();
        for name in names {
            world
                .workloads
                .get_mut(&WorkloadKey::new("serve", *name))
                .unwrap()
                .quarantined = true;
        }
        world
    }

    fn verdict(world: &World, name: &str, others: &[NetworkPolicy]) -> Verdict {
        let stored = policies::all(world);
        judge(&WorkloadKey::new("serve", name), stored.iter().chain(others), &[], &[])
    }

    #[test]
    fn nothing_is_rendered_for_it_and_the_others_keep_the_rest() {
        let world = quarantined(&["model"]);
        let rendered = policies::namespace(&world, "serve");
        let named = |name: &str| {
            rendered
                .iter()
                .find(|policy| policy.metadata.name.as_deref() == Some(name))
                .unwrap()
        };
        let spec = named("cloison-wl-model").spec.clone().unwrap();
        assert_eq!((spec.ingress.unwrap().len(), spec.egress.unwrap().len()), (0, 0));
        let front = serde_json::to_string(named("cloison-wl-front")).unwrap();
        assert!(!front.contains("\"model\"") && front.contains("5000"), "{front}");
        let service = serde_json::to_string(&policies::namespace(&world, "common")).unwrap();
        assert!(
            !service.contains("\"model\"") && service.contains("\"front\""),
            "{service}"
        );

        let states = |name: &str| {
            let flows = flows::resolve(&world, world.get("serve", name));
            assert_eq!(flows.findings, [], "nobody did anything wrong");
            flows
                .statuses
                .into_iter()
                .map(|flow| (flow.state, flow.message))
                .collect::<Vec<_>>()
        };
        assert!(
            states("model")
                .iter()
                .all(|(state, why)| *state == FlowState::Refused && why.contains("in quarantine"))
        );
        let to_model = |(state, why): &&(FlowState, String)| {
            *state == FlowState::AwaitingPeer && why.contains("AiWorkload serve/model is in quarantine")
        };
        assert_eq!(states("front").iter().filter(to_model).count(), 2);
    }

    #[test]
    fn it_holds_only_when_no_policy_is_for_its_pods() {
        let world = quarantined(&["model", "default"]);
        for name in ["model", "default"] {
            let verdict = verdict(&world, name, &[]);
            assert_eq!(
                (verdict.truth, verdict.reason),
                (Truth::True, "EstablishedConnectionsMayPersist")
            );
        }
        assert_eq!(
            verdict(&world, "front", &[]).truth,
            Truth::False,
            "it is not in quarantine"
        );
        assert_eq!(verdict(&self::world(), "model", &[]).truth, Truth::False);
    }

    #[test]
    fn a_policy_of_somebody_else_is_named() {
        let world = quarantined(&["model", "default"]);
        let policy = |selector: &str| {
            let spec = format!(
                "{{podSelector: {selector}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{}}}}]}}]}}"
            );
            testkit::policy("serve", "theirs", &spec)
        };
        for (selector, model, default) in [
            ("{}", Truth::False, Truth::False),
            ("{matchLabels: {app: x}}", Truth::False, Truth::False),
            (
                "{matchLabels: {cloison.dev/workload: model}}",
                Truth::False,
                Truth::True,
            ),
            ("{matchLabels: {cloison.dev/workload: front}}", Truth::True, Truth::True),
            (
                "{matchExpressions: [{key: cloison.dev/workload, operator: NotIn, values: [model]}]}",
                Truth::True,
                Truth::False,
            ),
        ] {
            let theirs = [policy(selector)];
            assert_eq!(verdict(&world, "model", &theirs).truth, model, "{selector}");
            let default_says = verdict(&world, "default", &theirs);
            assert_eq!(default_says.truth, default, "{selector}");
            if default == Truth::False {
                assert!(
                    default_says.message.contains("serve/theirs egress[0].to[0]"),
                    "{}",
                    default_says.message
                );
            }
        }
        let elsewhere = testkit::policy(
            "other",
            "theirs",
            "{podSelector: {}, policyTypes: [Egress], egress: [{}]}",
        );
        assert_eq!(
            verdict(&world, "model", &[elsewhere]).truth,
            Truth::True,
            "it selects no pod of this namespace"
        );
    }

    #[test]
    fn without_the_deny_and_its_own_policy_nothing_is_claimed() {
        let world = quarantined(&["model"]);
        let key = WorkloadKey::new("serve", "model");
        assert_eq!(judge(&key, &[], &[], &[]).truth, Truth::False);
        let own = policies::workload(&world, &key).unwrap();
        assert_eq!(
            judge(&key, [&own], &[], &[]).truth,
            Truth::True,
            "it isolates by itself"
        );
        let mut half = own.clone();
        half.spec.as_mut().unwrap().policy_types = Some(vec!["Ingress".to_owned()]);
        let said = judge(&key, [&half], &[], &[]);
        assert!(
            said.truth == Truth::False && said.message.contains("no policy isolates"),
            "{}",
            said.message
        );
    }

    #[test]
    fn what_is_not_known_is_not_claimed() {
        let world = quarantined(&["model"]);
        let stored = policies::all(&world);
        let key = WorkloadKey::new("serve", "model");
        let odd = testkit::policy("serve", "odd", "{podSelector: {}, policyTypes: [Sideways]}");
        let said = judge(&key, stored.iter().chain([&odd]), &[], &[]);
        assert_eq!((said.truth, said.reason), (Truth::Unknown, "UnreadablePolicy"));
        for (namespace, truth) in [
            (None, Truth::Unknown),
            (Some("serve"), Truth::Unknown),
            (Some("common"), Truth::True),
        ] {
            let other = UnmodelledPolicy {
                namespace: namespace.map(str::to_owned),
                kind: "CiliumNetworkPolicy".to_owned(),
            };
            assert_eq!(judge(&key, &stored, &[], &[other]).truth, truth, "{namespace:?}");
        }
    }

    #[test]
    fn a_policy_of_the_cluster_that_accepts_may_undo_it() {
        let world = quarantined(&["model"]);
        let stored = policies::all(&world);
        let key = WorkloadKey::new("serve", "model");
        let policy = |tier: &str, action: &str| {
            let rule = serde_json::json!({"action": action, "from": [{"namespaces": {}}]});
            let spec =
                serde_json::json!({"tier": tier, "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]});
            ClusterNetworkPolicy::read("theirs", spec)
        };
        for (tier, action, truth) in [
            ("Admin", "Accept", Truth::Unknown),
            ("Admin", "Deny", Truth::True),
            ("Admin", "Pass", Truth::True),
            // After the NetworkPolicies, which isolate its pods.
            ("Baseline", "Accept", Truth::True),
        ] {
            assert_eq!(
                judge(&key, &stored, &[policy(tier, action)], &[]).truth,
                truth,
                "{tier} {action}"
            );
        }
        let unreadable = ClusterNetworkPolicy::read("odd", serde_json::json!({"tier": "Admin", "unknown": 1}));
        assert_eq!(judge(&key, &stored, &[unreadable], &[]).truth, Truth::Unknown);
    }
}
