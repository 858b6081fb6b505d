use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::admission::{Operator, PolicySet, Waived, generate};
use crate::controller::workload_facts;
use crate::network::world::Namespace;

fn set(policy: &Value) -> PolicySet {
    let policy = serde_json::from_value(policy.clone()).unwrap();
    let operator = Operator::in_namespace("cloison-system");
    generate(&policy, &operator, &Waived::default(), Timestamp::UNIX_EPOCH)
}

fn offline(policy: &Value) -> Offline {
    Offline::new(&set(policy)).unwrap()
}

fn pod(name: &str, workload: Option<&str>, spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {names::WORKLOAD_LABEL: workload, "job-index": name},
            "annotations": {"cni.projectcalico.org/podIP": name, "k8s.v1.cni.cncf.io/network-status": name}},
        "spec": {
            "nodeName": format!("node-of-{name}"), "hostname": name,
            "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": format!("kube-api-access-{name}"), "mountPath": "/t"}]}],
            "volumes": [{"name": format!("kube-api-access-{name}"), "projected": {"sources": []}}],
        },
        "status": {"phase": "Running", "podIP": name},
    });
    let all = spec.as_object().unwrap().clone();
    pod["spec"].as_object_mut().unwrap().extend(all);
    pod
}

fn world(stage: Option<NamespaceStage>) -> World {
    let mut world = World::default();
    let namespace = Namespace {
        name: "train".to_owned(),
        uid: "u".to_owned(),
        labels: BTreeMap::new(),
        stage,
        mode: Mode::Audit,
        terminating: false,
    };
    world.namespaces.insert(namespace.name.clone(), namespace);
    for name in ["road", "lane"] {
        let object = json!({"metadata": {"name": name, "namespace": "train"},
            "spec": {"stage": "Training", "owner": "team@ville.example", "purpose": "For a test of the scan"}});
        let facts = workload_facts(&serde_json::from_value(object).unwrap()).unwrap();
        world.workloads.insert(facts.key.clone(), facts);
    }
    world
}

fn scan(before: Judged, hasher: &RandomState) -> Scan {
    let world = world(Some(NamespaceStage::Training));
    Scan::of(&world, "train", hasher.clone(), before).unwrap()
}

#[test]
fn no_other_namespaces_are_scanned_than_the_rules_are_about() {
    let is_scanned = |world: &World| Scan::of(world, "train", RandomState::new(), Judged::default()).is_some();
    assert!(is_scanned(&world(Some(NamespaceStage::Inference))));
    assert!(!is_scanned(&world(Some(NamespaceStage::Shared))));
    assert!(!is_scanned(&world(None)));
    let mut ending = world(Some(NamespaceStage::Training));
    ending.namespaces.get_mut("train").unwrap().terminating = true;
    assert!(!is_scanned(&ending));
    assert!(Scan::of(&ending, "other", RandomState::new(), Judged::default()).is_none());
}

/// The rules that are told of `road`.
fn rules(found: &BTreeMap<String, Vec<Told>>) -> Vec<String> {
    let told = found.get("road").into_iter().flatten();
    told.map(|told| told.finding.rule.to_string()).collect()
}

const IPC: &str = "WKL-01/host-ipc";

#[test]
fn pods_of_one_template_are_judged_once_and_told_once() {
    let (offline, hasher) = (offline(&json!({})), RandomState::new());
    let mut scan = scan(Judged::default(), &hasher);
    for name in ["abcde", "fghij"] {
        scan.judge(&offline, &pod(name, Some("road"), &json!({"hostIPC": true})));
    }
    scan.judge(&offline, &pod("other", Some("road"), &json!({})));
    let (found, judged) = scan.ended();
    assert_eq!(judged.len(), 2, "two templates");
    let road = &found["road"];
    let of_rule = |rule: &str| -> Vec<&Told> {
        road.iter()
            .filter(|told| told.finding.rule.to_string() == rule)
            .collect()
    };
    let [ipc] = of_rule(IPC)[..] else { panic!("{road:?}") };
    let begin = "a running pod would be refused in mode enforce: ";
    assert!(ipc.refused && ipc.finding.message.starts_with(begin), "{ipc:?}");
    assert_eq!(ipc.finding.subject, Subject::namespaced("AiWorkload", "train", "road"));
    // An image without a digest is only reported in training.
    let [image] = of_rule("SUP-01/digest")[..] else {
        panic!("{road:?}")
    };
    assert!(
        !image.refused && image.finding.message.starts_with("a running pod: "),
        "{image:?}"
    );
    let text = format!("{found:?}");
    for own in ["abcde", "fghij"] {
        assert!(!text.contains(own), "of a pod alone: {text}");
    }
}

#[test]
fn in_whatever_order_pods_come_the_same_is_told() {
    let (offline, hasher) = (offline(&json!({})), RandomState::new());
    let pods: Vec<Value> = ["b", "a", "c"]
        .map(|name| json!({"volumes": [{"name": name, "hostPath": {"path": "/x"}}]}))
        .map(|spec| pod("p", Some("road"), &spec))
        .into();
    let told = |order: &[usize]| {
        let mut scan = scan(Judged::default(), &hasher);
        order.iter().for_each(|at| scan.judge(&offline, &pods[*at]));
        scan.ended().0
    };
    let first = told(&[0, 1, 2]);
    assert!(rules(&first).contains(&"WKL-01/host-path".to_owned()), "{first:?}");
    assert_ne!(told(&[0]), told(&[2]), "they say different things");
    assert_eq!(first, told(&[2, 1, 0]));
    assert_eq!(first, told(&[1, 0, 2, 1]));
}

#[test]
fn whoever_is_of_no_workload_and_whatever_has_ended_is_passed_over() {
    let (offline, hasher) = (offline(&json!({})), RandomState::new());
    let mut scan = scan(Judged::default(), &hasher);
    let bad = json!({"hostIPC": true});
    scan.judge(&offline, &pod("a", None, &bad));
    scan.judge(&offline, &pod("b", Some("unknown"), &bad));
    for phase in ["Succeeded", "Failed"] {
        let mut ended = pod("c", Some("road"), &bad);
        ended["status"]["phase"] = json!(phase);
        scan.judge(&offline, &ended);
    }
    scan.judge(&offline, &pod("d", Some("lane"), &bad));
    let (found, judged) = scan.ended();
    assert_eq!(
        (found.keys().map(String::as_str).collect::<Vec<_>>(), judged.len()),
        (vec!["lane"], 1)
    );
}

#[test]
fn what_was_judged_by_these_policies_is_not_judged_again() {
    let hasher = RandomState::new();
    let (strict, off) = (
        offline(&json!({})),
        offline(&json!({"controls": [{"id": "WKL-01", "mode": "Disabled", "reason": "for a test of the scan"}]})),
    );
    let bad = pod("p", Some("road"), &json!({"hostIPC": true}));
    let has = |found: &BTreeMap<String, Vec<Told>>| rules(found).contains(&IPC.to_owned());
    let judged_by = |offline: &Offline, before: Judged| {
        let mut scan = scan(before, &hasher);
        scan.judge(offline, &bad);
        scan.ended()
    };
    let (found, known) = judged_by(&strict, Judged::default());
    assert!(has(&found));
    assert!(has(&judged_by(&off, known.clone()).0), "known before");
    // A scan that comes to no end loses nothing of it.
    let kept = scan(known, &hasher).given_up();
    assert!(has(&judged_by(&off, kept).0), "known before one that failed");
    assert!(!has(&judged_by(&off, Judged::default()).0), "the control");
}

/// What is left out of the text that is judged must be what no rule reads: all labels but ours, names and places.
#[test]
fn the_rules_for_pods_read_no_other_label() {
    let set = set(
        &json!({"pods": {"images": [{"prefix": "r.example/", "digest": "Required"}]}, "network": {"mesh": "Istio"}}),
    );
    let spec = set.policy("cloison-pod").unwrap().spec.as_ref().unwrap();
    let text = format!(
        "{:?} {:?} {:?}",
        spec.match_conditions, spec.variables, spec.validations
    );
    let rest = text.replace(&format!("metadata.labels['{}']", names::WORKLOAD_LABEL), "");
    let rest = rest.replace(&format!("'{}' in object.metadata.labels", names::WORKLOAD_LABEL), "");
    let rest = rest.replace(&format!("'{}' in oldObject.metadata.labels", names::WORKLOAD_LABEL), "");
    let rest = rest
        .replace("has(object.metadata.labels)", "")
        .replace("has(oldObject.metadata.labels)", "");
    let rest = rest.replace("namespaceObject.metadata.labels", "");
    assert!(text.contains(names::WORKLOAD_LABEL), "it reads ours");
    for unread in [
        "metadata.labels",
        "hostname",
        "metadata.name",
        "generateName",
        "ownerReferences",
    ] {
        let at = rest.find(unread);
        assert!(
            at.is_none(),
            "{unread}: {:?}",
            at.map(|at| &rest[at.saturating_sub(60)..at + 40])
        );
    }
}

#[test]
fn what_annotations_break_is_found_and_what_says_nothing_is_left_out() {
    let (offline, hasher) = (offline(&json!({})), RandomState::new());
    let mut scan = scan(Judged::default(), &hasher);
    let mut attached = pod("p", Some("road"), &json!({}));
    attached["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "fast"});
    scan.judge(&offline, &attached);
    let (found, _) = scan.ended();
    assert!(
        rules(&found).contains(&"NET-11/secondary-network".to_owned()),
        "{found:?}"
    );
    // The keys that are kept are those in the text of the policy.
    let set = set(&json!({"network": {"mesh": "Istio"}}));
    let spec = set.policy("cloison-pod").unwrap().spec.as_ref().unwrap();
    let text = format!("{:?} {:?}", spec.variables, spec.validations);
    for key in [
        "k8s.v1.cni.cncf.io/networks",
        "sidecar.istio.io/inject",
        "policy.cilium.io/no-track-port",
    ] {
        assert!(text.contains(key) && policies::pod::reads_annotation(key), "{key}");
    }
    assert!(text.contains("container.apparmor.security.beta.kubernetes.io/"));
    assert!(policies::pod::reads_annotation(
        "container.apparmor.security.beta.kubernetes.io/c"
    ));
}

#[test]
fn a_pod_that_is_too_large_to_be_judged_is_unknown() {
    let (offline, hasher) = (offline(&json!({})), RandomState::new());
    let mut scan = scan(Judged::default(), &hasher);
    let many: Vec<Value> = (0..6_000)
        .map(|n| json!({"name": format!("V{n}"), "value": "x"}))
        .collect();
    let large = json!({"hostIPC": true, "containers": [{"name": "c", "image": "x", "env": many}]});
    scan.judge(&offline, &pod("p", Some("road"), &large));
    let (found, _) = scan.ended();
    let [told] = &found["road"][..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (told.finding.rule.to_string().as_str(), told.refused),
        ("WKL-01/unjudged", false)
    );
    assert_eq!(told.finding.assurance, Assurance::Unknown);
}
