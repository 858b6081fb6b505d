//! The verdicts on requests as an API server sends them.

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::network::world::World;

const NOW: &str = "2030-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// `train` and `infer` in mode enforce, `common` shared, `plain` of no stage, and a service `registry`.
fn sight() -> Sight {
    let mut world: World = crate::network::testkit::world();
    world
        .stage("train", Training)
        .stage("infer", Inference)
        .stage("common", Shared);
    world.plain("plain", "");
    world.policy(
        "{services: [{name: registry, to: {namespace: common}, ports: [{port: 5000}]}], tenantPolicies: Analysed}",
    );
    Sight {
        world,
        policy_missing: false,
        hash: "0a1b2c3d".to_owned(),
    }
}

fn body(resource: (&str, &str, &str, &str), namespace: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let (group, version, kind, plural) = resource;
    let name = [object, old]
        .into_iter()
        .find_map(|o| o.pointer("/metadata/name"))
        .cloned();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74", "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": plural},
            "name": name, "namespace": namespace, "operation": operation,
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": false,
        },
    })
}

fn request(body: &Value) -> Request {
    read(body.to_string().as_bytes()).unwrap()
}

const WORKLOADS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "AiWorkload", "aiworkloads");
const POLICIES: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "AiSecurityPolicy", "aisecuritypolicies");
const ENCRYPTIONS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "SecretEncryption", "secretencryptions");
const WAIVERS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "Waiver", "waivers");
const TENANT: (&str, &str, &str, &str) = ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
const CLAIMS: (&str, &str, &str, &str) = ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");

fn workload(namespace: &str, stage: &str, network: &Value) -> Value {
    json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload", "metadata": {"name": "road", "namespace": namespace},
        "spec": {"stage": stage, "owner": "team@ville.example", "purpose": "Something worth testing", "network": network},
    })
}

fn judged(body: &Value, sight: &Sight) -> Answer {
    let request = request(body);
    let found = needs(&request, sight).into_iter().map(|lookup| {
        let found = match &lookup {
            Lookup::Namespace(_) => Found::Namespace(None),
            Lookup::Volume(_) => Found::Volume(None),
            Lookup::Pods(_) => Found::Pods(0),
        };
        (lookup, found)
    });
    review(&request, sight, &found.collect(), now())
}

fn create(object: &Value) -> Answer {
    let namespace = object["metadata"]["namespace"].as_str().unwrap().to_owned();
    judged(&body(WORKLOADS, &namespace, "CREATE", object, &Value::Null), &sight())
}

fn rules(answer: &Answer) -> Vec<String> {
    answer.refused.iter().map(|finding| finding.rule.to_string()).collect()
}

fn wide() -> Value {
    workload(
        "train",
        "Training",
        &json!({"connectTo": [{"service": "registry"}, {"cidr": "8.0.0.0/6", "ports": [{"port": 443}]}]}),
    )
}

#[test]
fn a_flow_that_is_not_allowed_is_refused_with_its_path() {
    assert_eq!(
        create(&workload(
            "train",
            "Training",
            &json!({"connectTo": [{"service": "registry"}]})
        )),
        Answer::default()
    );
    let refused = body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null);
    let answer = judged(&refused, &sight())
        .review(&request(&refused), "0a1b2c3d")
        .unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    let response = &answer["response"];
    assert_eq!(
        (&response["allowed"], &response["uid"]),
        (&json!(false), &json!("0c9a8d74"))
    );
    assert_eq!(response["status"]["code"], 403);
    let cause = &response["status"]["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.network.connectTo[1]");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "[cloison 0a1b2c3d] NET-04/cidr-width egress \"8.0.0.0/6\" is wider than the policy allows (/16); "
        ),
        "{message}"
    );
}

#[test]
fn what_may_still_come_true_is_told_and_passes() {
    let answer = create(&workload(
        "train",
        "Training",
        &json!({"connectTo": [{"service": "regsitry"}, {"workload": {"name": "later"}}]}),
    ));
    assert!(answer.allows(), "{answer:?}");
    let [warning] = answer.warnings.as_slice() else {
        panic!("{answer:?}")
    };
    assert!(
        warning.starts_with("[cloison 0a1b2c3d] NET-04/unknown-service ") && warning.contains("registry"),
        "{warning}"
    );
}

#[test]
fn another_stage_is_refused() {
    let answer = create(&workload(
        "train",
        "Training",
        &json!({"connectTo": [{"workload": {"name": "m", "namespace": "infer"}}]}),
    ));
    assert_eq!(rules(&answer), ["NET-03/cross-stage"]);
}

#[test]
fn the_weaker_of_the_two_modes_holds() {
    let judge = |mode: Mode| {
        let mut sight = sight();
        sight.world.namespaces.get_mut("train").unwrap().mode = mode;
        judged(&body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null), &sight)
    };
    assert_eq!(rules(&judge(Mode::Enforce)), ["NET-04/cidr-width"]);
    let warned = judge(Mode::Warn);
    assert!(warned.allows() && warned.warnings.len() == 1, "{warned:?}");
    let silent = judge(Mode::Audit);
    assert!(
        silent.allows() && silent.warnings.is_empty() && silent.observed.len() == 1,
        "{silent:?}"
    );
    // A control that the policy sets to Audit refuses nothing in a namespace that enforces.
    let mut eased = sight();
    let spec = std::sync::Arc::make_mut(&mut eased.world.policy);
    spec.controls =
        Some(serde_json::from_value(json!([{"id": "NET-04", "mode": "Audit", "reason": "a trial"}])).unwrap());
    let told = judged(&body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null), &eased);
    assert!(told.allows() && told.observed.len() == 1, "{told:?}");
    // While the policy is missing nobody knows what it would say.
    let missing = Sight {
        policy_missing: true,
        ..sight()
    };
    let told = judged(&body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null), &missing);
    assert!(told.allows() && told.warnings.len() == 1, "{told:?}");
}

#[test]
fn an_update_is_judged_by_what_it_adds() {
    let update = |old: &Value, new: &Value| rules(&judged(&body(WORKLOADS, "train", "UPDATE", new, old), &sight()));
    assert_eq!(update(&wide(), &wide()), [""; 0]);
    let mut moved = wide();
    moved["spec"]["network"]["connectTo"].as_array_mut().unwrap().reverse();
    assert_eq!(update(&wide(), &moved), [""; 0], "places may move");
    let mut more = wide();
    more["spec"]["network"]["acceptFrom"] = json!([{"cidr": "203.0.113.1/24", "ports": [{"port": 80}]}]);
    assert_eq!(update(&wide(), &more), ["NET-06/cidr"]);
    let mut going = more.clone();
    going["metadata"]["deletionTimestamp"] = json!(NOW);
    assert_eq!(
        update(&wide(), &going),
        ["NET-06/cidr"],
        "a finalizer keeps it in force"
    );
}

#[test]
fn a_namespace_without_a_stage_is_governed_by_nobody() {
    let answer = create(&workload("plain", "Training", &Value::Null));
    assert!(answer.allows() && answer.warnings.len() == 1, "{answer:?}");
    assert!(answer.warnings[0].contains("NET-02/no-stage"), "{answer:?}");
}

#[test]
fn a_namespace_that_is_new_is_looked_up() {
    let policy = json!({"metadata": {"name": "own", "namespace": "new"}, "spec": {"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}});
    let request = request(&body(TENANT, "new", "CREATE", &policy, &Value::Null));
    let asked = needs(&request, &sight());
    assert_eq!(asked, [Lookup::Namespace("new".to_owned())]);
    let with = |found: Found| review(&request, &sight(), &LookedUp::from([(asked[0].clone(), found)]), now());
    let training = Namespace {
        name: "new".to_owned(),
        stage: Some(Training),
        mode: Mode::Enforce,
        ..Namespace::default()
    };
    assert_eq!(with(Found::Namespace(Some(training))), Answer::default());
    assert!(
        !with(Found::Failed("503".to_owned())).allows(),
        "a gate stays shut when nothing is known"
    );
    assert!(
        with(Found::Namespace(None)).allows(),
        "nobody can create anything in it"
    );
    assert!(
        !review(&request, &sight(), &LookedUp::new(), now()).allows(),
        "nobody looked"
    );
}

fn tenant(namespace: &str, spec: &str, old: Option<&str>) -> Answer {
    let object = |spec: &str| {
        let policy = crate::network::testkit::policy(namespace, "own", spec);
        let mut value = serde_json::to_value(policy).unwrap();
        value["apiVersion"] = json!("networking.k8s.io/v1");
        value["kind"] = json!("NetworkPolicy");
        value
    };
    let (operation, old) = old.map_or(("CREATE", Value::Null), |old| ("UPDATE", object(old)));
    judged(&body(TENANT, namespace, operation, &object(spec), &old), &sight())
}

const HALF: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infer}}}]}]}";
const OWN: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}";

#[test]
fn a_policy_that_opens_half_a_path_is_refused_with_the_counterexample() {
    assert_eq!(tenant("train", OWN, None), Answer::default());
    let refused = tenant("train", HALF, None);
    assert_eq!(rules(&refused), ["NET-10/opens-path"]);
    let finding = &refused.refused[0];
    assert_eq!(
        finding.at.as_ref().unwrap().field.as_deref(),
        Some("spec.egress[0].to[0]")
    );
    insta::assert_snapshot!(finding.message, @"train/own egress[0].to[0] lets pods of train reach pods in infer, which is of stage inference");
    // Its update is judged by the peers that it adds.
    assert_eq!(tenant("train", HALF, Some(HALF)), Answer::default());
    let more = HALF.replace("to: [", "to: [{podSelector: {}}, ");
    assert_eq!(tenant("train", &more, Some(HALF)), Answer::default());
    assert_eq!(rules(&tenant("train", &more, Some(OWN))), ["NET-10/opens-path"]);
    let other_pods = HALF.replace(
        "podSelector: {}, policyTypes",
        "podSelector: {matchLabels: {a: b}}, policyTypes",
    );
    assert_eq!(
        rules(&tenant("train", &other_pods, Some(HALF))),
        ["NET-10/opens-path"],
        "for other pods"
    );
    let everybody = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
    assert_eq!(rules(&tenant("train", everybody, Some(HALF))), ["NET-10/opens-path"]);
    assert_eq!(tenant("train", everybody, Some(everybody)), Answer::default());
}

#[test]
fn without_the_organisations_policy_nothing_is_decided_about_tenants_policies() {
    let mut sight = sight();
    sight.policy_missing = true;
    let policy = serde_json::to_value(crate::network::testkit::policy("train", "own", HALF)).unwrap();
    assert!(!judged(&body(TENANT, "train", "CREATE", &policy, &Value::Null), &sight).allows());
}

fn claim(found: Option<Found>) -> Answer {
    let object = json!({"metadata": {"name": "data", "namespace": "train"}, "spec": {"volumeName": "pv-1"}});
    let request = request(&body(CLAIMS, "train", "CREATE", &object, &Value::Null));
    let lookup = Lookup::Volume("pv-1".to_owned());
    assert_eq!(needs(&request, &sight()), std::slice::from_ref(&lookup));
    review(
        &request,
        &sight(),
        &found.into_iter().map(|found| (lookup.clone(), found)).collect(),
        now(),
    )
}

#[test]
fn a_volume_of_another_stage_is_refused() {
    let of = |namespace: &str| {
        let volume = json!({"spec": {"claimRef": {"namespace": namespace, "name": "data"}}});
        claim(Some(Found::Volume(Some(Box::new(
            serde_json::from_value(volume).unwrap(),
        )))))
    };
    for other in ["infer", "common", "plain", "nowhere"] {
        assert_eq!(rules(&of(other)), ["DAT-07/foreign-volume"], "{other}");
    }
    assert_eq!(of("train"), Answer::default());
    assert_eq!(
        claim(Some(Found::Volume(None))),
        Answer::default(),
        "a volume that comes later is nobody's"
    );
    assert!(!claim(Some(Found::Failed("timeout".to_owned()))).allows());
    assert!(!claim(None).allows(), "nobody looked");
}

#[test]
fn a_deletion_passes_and_says_what_still_runs() {
    let object = workload("train", "Training", &Value::Null);
    let request = request(&body(WORKLOADS, "train", "DELETE", &Value::Null, &object));
    let lookup = Lookup::Pods(WorkloadKey::new("train", "road"));
    assert_eq!(needs(&request, &sight()), std::slice::from_ref(&lookup));
    for (found, warnings) in [
        (Found::Pods(0), 0),
        (Found::Pods(2), 1),
        (Found::Failed("403".to_owned()), 1),
    ] {
        let answer = review(&request, &sight(), &LookedUp::from([(lookup.clone(), found)]), now());
        assert!(answer.allows() && answer.warnings.len() == warnings, "{answer:?}");
    }
}

fn waiver(change: impl FnOnce(&mut Value)) -> Answer {
    let mut object = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "w"},
        "spec": {
            "target": {"namespace": "train"}, "controls": ["SUP-01"], "reason": "Shadow evaluation of the new detector",
            "requestedBy": "alice", "expirationTime": "2030-01-02T00:00:00Z",
        },
    });
    change(&mut object);
    judged(&body(WAIVERS, "", "CREATE", &object, &Value::Null), &sight())
}

#[test]
fn a_waiver_that_could_never_hold_is_refused() {
    type Change = fn(&mut Value);
    assert_eq!(waiver(|_| {}), Answer::default());
    let cases: [(&str, &str, Change); 4] = [
        ("OPS-02", "spec.expirationTime", |o| {
            o["spec"]["expirationTime"] = json!("2029-01-01T00:00:00Z")
        }),
        ("OPS-02/too-long", "spec.expirationTime", |o| {
            o["spec"]["expirationTime"] = json!("2031-01-01T00:00:00Z")
        }),
        ("OPS-02/unknown-control", "spec.controls", |o| {
            o["spec"]["controls"] = json!(["SUP-99"])
        }),
        ("OPS-02/target", "spec.target", |o| {
            o["spec"]["controls"] = json!(["NET-03"]);
            let end = |namespace: &str| json!({"namespace": namespace, "workload": "a"});
            o["spec"]["flow"] = json!({"from": end("infer"), "to": end("common"), "ports": [{"port": 80}]});
        }),
    ];
    for (rule, field, change) in cases {
        let answer = waiver(change);
        if rule == "OPS-02/target" {
            assert_eq!(answer.observed.len(), 1, "the catalogue has it in Audit: {answer:?}");
            continue;
        }
        assert_eq!(rules(&answer), [rule]);
        assert_eq!(answer.refused[0].at.as_ref().unwrap().field.as_deref(), Some(field));
    }
    let slip = waiver(|o| o["spec"]["target"]["namespace"] = json!("trian"));
    assert!(
        slip.allows() && slip.warnings[0].contains("did you mean \"train\"?"),
        "{slip:?}"
    );
    for (controls, said) in [
        (
            json!(["WKL-06/exec"]),
            "it would open nothing: nothing that judges WKL-06/exec",
        ),
        (
            json!(["SUP-01", "WKL-06/exec"]),
            "it would not open all that it names: nothing that judges WKL-06/exec",
        ),
    ] {
        let deaf = waiver(|o| o["spec"]["controls"] = controls);
        assert!(deaf.allows() && deaf.warnings.concat().contains(said), "{deaf:?}");
    }
}

#[test]
fn settings_that_nobody_would_hear_are_refused() {
    let policy = |controls: Value, old: Value| {
        let object = |controls: &Value| json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {"controls": controls}});
        let old = if old.is_null() { Value::Null } else { object(&old) };
        let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
        judged(&body(POLICIES, "", operation, &object(&controls), &old), &sight())
    };
    let weak = json!([{"id": "NET-04", "mode": "Audit"}]);
    assert_eq!(rules(&policy(weak.clone(), Value::Null)), ["CLU-02/reason"]);
    assert_eq!(
        policy(weak.clone(), weak.clone()),
        Answer::default(),
        "it was so before"
    );
    assert_eq!(
        policy(
            json!([{"id": "NET-04", "mode": "Audit", "reason": "trial"}]),
            Value::Null
        ),
        Answer::default()
    );
    let off = json!([{"id": "NET-07", "mode": "Disabled", "reason": "no"}]);
    let refused = policy(off, Value::Null);
    assert_eq!(rules(&refused), ["CLU-02/untouchable"]);
    assert_eq!(
        refused.refused[0].at.as_ref().unwrap().field.as_deref(),
        Some("spec.controls[0]")
    );
    let encryption = |recipient: &str| {
        let object = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
            "spec": {"escrow": {"recipients": [recipient]}}});
        rules(&judged(
            &body(ENCRYPTIONS, "", "CREATE", &object, &Value::Null),
            &sight(),
        ))
    };
    let good = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    assert_eq!(encryption(good), [""; 0]);
    assert_eq!(encryption(&good.replace("3z7h", "3z7k")), ["ENC-01/escrow"]);
}

#[test]
fn what_is_no_review_is_said_to_be_none() {
    let good = body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null);
    for (change, told) in [
        (json!({"apiVersion": "admission.k8s.io/v1beta1"}), "v1beta1"),
        (json!({"kind": "TokenReview"}), "TokenReview"),
        (json!({"request": null}), "no `request`"),
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = read(bad.to_string().as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains(told) && error.starts_with("this is no request for admission"),
            "{error}"
        );
    }
    assert!(read(b"").is_err() && read(b"\xff").is_err() && read("[".repeat(100_000).as_bytes()).is_err());
    // An object of ours that this version cannot read is not waved through, unless it was so before.
    let mut strange = wide();
    strange["spec"]["stage"] = json!("Dreaming");
    assert!(!create(&strange).allows());
    assert!(judged(&body(WORKLOADS, "train", "UPDATE", &strange, &strange), &sight()).allows());
    assert!(!judged(&body(WORKLOADS, "train", "UPDATE", &strange, &wide()), &sight()).allows());
    // What the configuration should never send is no verdict either.
    let pods = ("", "v1", "Pod", "pods");
    assert!(
        !judged(
            &body(
                pods,
                "train",
                "CREATE",
                &json!({"metadata": {"name": "p"}}),
                &Value::Null
            ),
            &sight()
        )
        .allows()
    );
}

#[test]
fn a_message_is_one_line_of_at_most_three_problems() {
    let entries: Vec<Value> = (0..5)
        .map(|n| json!({"cidr": format!("{}.0.0.0/6", n * 4 + 20), "ports": [{"port": 443}]}))
        .collect();
    let many = workload("train", "Training", &json!({"connectTo": entries}));
    let body = body(WORKLOADS, "train", "CREATE", &many, &Value::Null);
    let answer = judged(&body, &sight());
    assert_eq!(answer.refused.len(), 5);
    let review = serde_json::to_value(answer.review(&request(&body), "0a1b2c3d").unwrap()).unwrap();
    let status = &review["response"]["status"];
    let message = status["message"].as_str().unwrap();
    assert!(
        message.ends_with("; +2 more: kubectl cloison why") && message.len() <= 900 && !message.contains('\n'),
        "{message}"
    );
    assert_eq!(status["details"]["causes"].as_array().unwrap().len(), 5);
}

/// A JSON value that is somewhere near what an API server sends.
fn scrambled() -> impl Strategy<Value = (Value, usize, Value)> {
    let objects = prop_oneof![
        Just(body(WORKLOADS, "train", "CREATE", &wide(), &Value::Null)),
        Just(body(
            WORKLOADS,
            "train",
            "UPDATE",
            &wide(),
            &workload("train", "Training", &Value::Null)
        )),
        Just(body(
            CLAIMS,
            "train",
            "CREATE",
            &json!({"metadata": {"name": "d"}, "spec": {"volumeName": "pv"}}),
            &Value::Null
        )),
    ];
    let junk = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(|text| json!(text)),
        Just(json!({"a": {"b": [1, 2, {"c": null}]}})),
    ];
    (objects, any::<usize>(), junk)
}

/// Every place in a value, as a pointer.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| places(value, &format!("{at}/{key}"), all)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(n, value)| places(value, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
    }

    /// One place of a request that must be refused is overwritten. Whatever comes of it, nothing panics; and where the
    /// request is still one about the same thing, what was wrong is still refused or nothing is decided.
    #[test]
    fn nothing_scrambled_passes_by_mistake((body, place, junk) in scrambled()) {
        let mut all = Vec::new();
        places(&body, "", &mut all);
        let place = &all[place % all.len()];
        let mut changed = body.clone();
        *changed.pointer_mut(place).unwrap() = junk;
        let Ok(request) = read(changed.to_string().as_bytes()) else { return Ok(()) };
        // Nothing was looked up: what needs a look must not pass for want of one.
        let answer = review(&request, &sight(), &LookedUp::new(), now());
        let review = answer.clone().review(&request, "0a1b2c3d");
        let text = format!("{:?}", review.map(|review| serde_json::to_string(&review).unwrap()));
        // Places that say nothing about what is asked for, or by whom.
        let harmless = ["/request/userInfo", "/request/dryRun", "/request/uid", "/request/name", "/request/kind"];
        if harmless.iter().any(|harmless| place.starts_with(harmless)) {
            prop_assert!(!answer.allows(), "{place}: {text}");
        }
        // What cannot be read as its kind is no object without faults.
        if place == "/request/object/spec" || place == "/request/object" {
            let reads_as_nothing = changed.pointer(place).is_some_and(|value| value == &json!({}) || value.is_null());
            prop_assert!(!answer.allows() || reads_as_nothing || request.resource.group.is_empty(), "{place}: {text}");
        }
    }
}
