//! What every generated policy keeps to, whatever the AiSecurityPolicy says. No cluster needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

use std::collections::BTreeMap;

use cloison::admission::{
    Canary, Offline, Operator, PolicySet, Request, Waived, canaries, canary_annotations, canary_labels, generate,
    not_evaluated, overrides,
};
use cloison::api::Waiver;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::compliance::Catalogue;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

fn spec(value: Value) -> AiSecurityPolicySpec {
    serde_json::from_value(value).unwrap()
}

fn set(value: Value) -> PolicySet {
    generate(
        &spec(value),
        &Operator::in_namespace("cloison-system"),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    )
}

/// With more Waivers than there is room for.
fn crowded(value: Value) -> PolicySet {
    let waivers: Vec<Waiver> = (0..600)
        .map(|n| {
            let name = format!("{n:03}{}", "x".repeat(60));
            let controls: Vec<String> = ["WKL-01", "WKL-02", "WKL-04", "SUP-01", "NET-11"].map(str::to_owned).into();
            serde_json::from_value(json!({
                "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
                "metadata": {"name": name, "generation": 1, "creationTimestamp": "1970-01-01T00:00:00Z"},
                "spec": {"target": {"namespace": name, "workload": name}, "controls": controls, "reason": "more than there is room for",
                         "requestedBy": "alice", "expirationTime": "1970-01-02T00:00:00Z"},
                "status": {"approval": {"by": "bob", "time": "1970-01-01T00:00:00Z", "generation": 1}},
            }))
            .unwrap()
        })
        .collect();
    let spec = spec(value);
    let waived = Waived::new(&waivers, &spec, Timestamp::UNIX_EPOCH);
    assert!(waived.names(&waivers[0].name_any()) && !waived.names(&waivers[599].name_any()));
    let operator = Operator::in_namespace("cloison-system");
    generate(&spec, &operator, &waived, Timestamp::UNIX_EPOCH)
}

/// From nothing configured to everything, and to names that try to leave their quotes.
fn specs() -> Vec<Value> {
    let images: Vec<Value> = (0..64)
        .map(|n| json!({"prefix": format!("registry-{n}.example.com/{}", "x".repeat(200))}))
        .collect();
    let stages = ["Training", "Evaluation", "Inference"];
    let many = |number: usize, length: usize| -> Vec<String> {
        (0..number)
            .map(|n| format!("{n:02}{}", "x".repeat(length - 2)))
            .collect()
    };
    let of_all = |field: &str, values: Vec<String>| -> Vec<Value> {
        let each = values.into_iter();
        each.map(|value| json!({field: value.to_uppercase(), "stages": stages}))
            .collect()
    };
    let dedicated: Vec<Value> = many(32, 253)
        .into_iter()
        .enumerate()
        .map(|(n, name)| json!({"name": format!("n{n}"), "networkAttachment": format!("{name}/x"), "stages": stages}))
        .collect();
    let enforced = ["ENC-02", "ENC-04", "NET-11", "WKL-04"].map(|id| json!({"id": id, "mode": "Enforce"}));
    let largest = json!({"mode": "Enforce",
        "pods": {"images": of_all("prefix", many(64, 253).iter().map(|it| format!("{it}/x")).collect()),
            "addCapabilities": of_all("capability", many(16, 64)), "inlineCSIDrivers": many(32, 253),
            "tokenRequesters": many(32, 253), "sandboxRuntimeClasses": many(16, 253)},
        "network": {"dataplaneControllers": many(16, 253), "mesh": "Istio", "dedicatedInterfaces": dedicated},
        "secrets": {"encryptedStorageClasses": many(32, 253)},
        "controls": enforced,
        "prohibitedUses": many(64, 63), "restrictedUses": many(64, 63)});
    vec![
        largest,
        json!({}),
        json!({"mode": "Enforce", "pods": {"images": images, "inlineCSIDrivers": ["a'b\\"], "addCapabilities": [{"capability": "IPC_LOCK"}]},
               "network": {"dataplaneControllers": ["x'] || true || ['"]}, "prohibitedUses": [], "restrictedUses": []}),
        json!({"controls": [{"id": "WKL-01", "mode": "Disabled", "reason": "r"}, {"id": "SUP-01", "mode": "Enforce"}]}),
    ]
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for spec in specs() {
        let (one, two) = (set(spec.clone()), set(spec));
        assert_eq!(
            serde_json::to_string(&one).unwrap(),
            serde_json::to_string(&two).unwrap()
        );
    }
}

#[test]
fn the_hash_names_the_content() {
    let hash = |value: Value| set(value).hash;
    assert_eq!(hash(json!({})).len(), 8);
    assert!(hash(json!({})).bytes().all(|b| b.is_ascii_hexdigit()));
    for other in [
        json!({"mode": "Enforce"}),
        json!({"prohibitedUses": ["X"]}),
        json!({"network": {"dataplaneControllers": []}}),
        json!({"network": {"tenantPolicies": "None"}}),
        json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}}),
        json!({"pods": {"tokenRequesters": ["system:serviceaccount:a:b"]}}),
        json!({"network": {"sources": [{"name": "edge", "kind": "Gateway", "from": {"namespace": "istio-system"}}]}}),
        json!({"controls": [{"id": "SUP-01", "mode": "Enforce"}]}),
        json!({"controls": [{"id": "ENC-04", "mode": "Enforce"}]}),
        json!({"secrets": {"encryptedStorageClasses": ["gold"]}}),
        json!({"network": {"dedicatedInterfaces": [{"name": "n", "networkAttachment": "a/b", "stages": ["Training"]}]}}),
    ] {
        assert_ne!(hash(json!({})), hash(other.clone()), "{other}");
    }
    // What admission does not look at does not make a new generation.
    assert_eq!(hash(json!({})), hash(json!({"minScore": 90})));
    let elsewhere = generate(
        &spec(json!({})),
        &Operator::in_namespace("elsewhere"),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    );
    assert_ne!(hash(json!({})), elsewhere.hash);
    for policy in set(json!({})).policies {
        let text = serde_json::to_string(&policy).unwrap();
        assert!(text.contains(&hash(json!({}))) && !text.contains("00000000"), "{text}");
    }
}

/// What a cluster cannot do without: no policy of ours may ever stand between it and these.
const VITAL: [&str; 14] = [
    "apiservices",
    "bindings",
    "certificatesigningrequests",
    "configmaps",
    "csinodes",
    "endpointslices",
    "events",
    "leases",
    "localsubjectaccessreviews",
    "nodes",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "tokenreviews",
];

#[test]
fn every_policy_has_the_shape_that_cannot_lock_a_cluster_out() {
    let crowded = specs().into_iter().map(crowded);
    for set in specs().into_iter().map(set).chain(crowded) {
        let names: Vec<&str> = set
            .policies
            .iter()
            .map(|p| p.metadata.name.as_deref().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "cloison-connect",
                "cloison-crd",
                "cloison-guard",
                "cloison-managed",
                "cloison-namespace",
                "cloison-net",
                "cloison-pod",
                "cloison-rbac",
                "cloison-store",
                "cloison-templates",
            ]
        );
        for policy in &set.policies {
            let spec = policy.spec.as_ref().unwrap();
            assert!(spec.param_kind.is_none());
            let name = policy.metadata.name.as_deref().unwrap();
            let tells = name == "cloison-templates";
            // A policy that only warns must refuse nothing by an error either; every other refuses what it cannot judge.
            let failure = if tells { "Ignore" } else { "Fail" };
            assert_eq!(spec.failure_policy.as_deref(), Some(failure));
            let constraints = spec.match_constraints.as_ref().unwrap();
            for rule in constraints.resource_rules.iter().flatten() {
                let words = [&rule.api_groups, &rule.api_versions, &rule.resources, &rule.operations];
                assert!(
                    words.into_iter().flatten().flatten().all(|word| !word.contains('*')),
                    "{rule:?}"
                );
                for resource in rule.resources.iter().flatten() {
                    // A part of an object is written by whoever keeps the object alive.
                    let whole = resource.split('/').next().unwrap();
                    assert!(!VITAL.contains(&whole), "{resource}");
                }
            }
            let validations = spec.validations.as_ref().unwrap();
            // Of refusals the API server tells one, so they are in one; of warnings it tells all.
            assert_eq!(validations.len() > 1, tells);
            let prefix = format!("[cloison {}] ", set.hash);
            for validation in validations {
                assert_eq!(validation.reason.as_deref(), Some("Forbidden"));
                assert!(validation.message.as_ref().unwrap().starts_with(&prefix));
                // Messages have no authorizer: one that asks it would fail, and the plain message be shown.
                let message = validation.message_expression.as_ref().unwrap();
                assert!(!message.contains("authorizer"));
                for expression in [&validation.expression, message] {
                    let size = expression.chars().count();
                    assert!(size < 100_000, "{name}: {size} characters, and cel-go reads no more");
                }
            }
            assert_eq!(spec.variables, None, "an API server from before 1.36 may crash by them");
            for condition in spec.match_conditions.iter().flatten() {
                assert!(!condition.expression.contains("namespaceObject"), "it is null there");
            }
            for annotation in spec.audit_annotations.iter().flatten() {
                let size = annotation.value_expression.len();
                assert!(size <= 5 * 1024, "{name}: {size} bytes, and the API server refuses it");
            }
        }
    }
}

#[test]
fn at_most_two_policies_match_one_request() {
    let set = set(json!({}));
    let operator = Operator::in_namespace("cloison-system").user;
    for ours in [true, false] {
        let mut matches: BTreeMap<(String, String), usize> = BTreeMap::new();
        for policy in &set.policies {
            let spec = policy.spec.as_ref().unwrap();
            // Of NetworkPolicies one policy takes the operator's and another everybody else's.
            let about = |sign: &str| format!("request.userInfo.username {sign} '{operator}'");
            let not_for = |resource: &str| {
                let mut conditions = spec
                    .match_conditions
                    .iter()
                    .flatten()
                    .map(|condition| &condition.expression);
                let other = about(if ours { "!=" } else { "==" });
                resource == "networkpolicies" && conditions.any(|condition| condition.ends_with(&other))
            };
            let rules = spec.match_constraints.as_ref().unwrap().resource_rules.iter().flatten();
            for rule in rules {
                for resource in rule.resources.iter().flatten().filter(|resource| !not_for(resource)) {
                    for operation in rule.operations.iter().flatten() {
                        *matches.entry((resource.clone(), operation.clone())).or_default() += 1;
                    }
                }
            }
        }
        assert!(matches.values().all(|count| *count <= 2), "{matches:?}");
        assert_eq!(matches[&("pods".to_owned(), "CREATE".to_owned())], 1);
        for stream in ["exec", "attach", "portforward", "proxy"] {
            assert_eq!(matches[&(format!("pods/{stream}"), "CONNECT".to_owned())], 1);
        }
    }
}

/// What is only reported is in the audit log. There is little room in one annotation, so each subject has one of its own.
#[test]
fn controls_in_audit_are_judged_for_the_audit_log() {
    let controls: Vec<Value> = ["NET-05", "NET-06", "NET-10"]
        .map(|id| json!({"id": id, "mode": "Audit", "reason": "tried out"}))
        .into();
    let sources = json!([{"name": "edge", "kind": "Gateway", "from": {"namespace": "istio-system"}},
                         {"name": "knative", "kind": "Controller", "from": {"namespace": "knative-serving"}}]);
    let set = set(json!({"controls": controls, "network": {"sources": sources}}));
    let annotations = set
        .policy("cloison-net")
        .unwrap()
        .spec
        .clone()
        .unwrap()
        .audit_annotations;
    let written: Vec<(String, usize, bool)> = annotations
        .into_iter()
        .flatten()
        .map(|it| {
            (
                it.key,
                it.value_expression.len(),
                it.value_expression.contains("are not judged"),
            )
        })
        .collect();
    let keys: Vec<&str> = written.iter().map(|(key, ..)| key.as_str()).collect();
    assert_eq!(keys, ["observed", "observed-services", "observed-routes"]);
    assert!(written.iter().all(|(.., unjudged)| !unjudged), "{written:?}");
}

/// What only tells denies nowhere, and is silent in audit.
#[test]
fn templates_are_never_refused() {
    let told = set(json!({"mode": "Enforce"}))
        .bindings
        .into_iter()
        .filter_map(|binding| {
            let spec = binding.spec.unwrap();
            (spec.policy_name.as_deref() == Some("cloison-templates")).then_some(spec.validation_actions.unwrap())
        });
    assert_eq!(told.collect::<Vec<_>>(), [vec!["Audit"], vec!["Warn", "Audit"]]);
}

/// Whatever the label of a namespace says, exactly one binding of a moded policy takes it.
#[test]
fn every_namespace_selects_exactly_one_binding() {
    for default in ["Audit", "Warn", "Enforce"] {
        let set = set(json!({"mode": default}));
        for policy in [
            "cloison-pod",
            "cloison-crd",
            "cloison-net",
            "cloison-connect",
            "cloison-rbac",
            "cloison-store",
            "cloison-templates",
        ] {
            for label in [
                None,
                Some("audit"),
                Some("warn"),
                Some("enforce"),
                Some("Enforce"),
                Some(""),
            ] {
                let selected: Vec<&str> = set
                    .bindings
                    .iter()
                    .filter(|b| b.spec.as_ref().unwrap().policy_name.as_deref() == Some(policy))
                    .filter(|b| {
                        let resources = b.spec.as_ref().unwrap().match_resources.as_ref().unwrap();
                        let expressions = resources
                            .namespace_selector
                            .as_ref()
                            .unwrap()
                            .match_expressions
                            .as_ref()
                            .unwrap();
                        expressions.iter().all(|e| {
                            let listed =
                                label.is_some_and(|label| e.values.as_ref().unwrap().iter().any(|v| v == label));
                            listed == (e.operator == "In")
                        })
                    })
                    .map(|b| b.metadata.name.as_deref().unwrap())
                    .collect();
                let mode = label
                    .filter(|l| ["audit", "warn", "enforce"].contains(l))
                    .map_or(default.to_lowercase(), str::to_owned);
                let kind = match mode.as_str() {
                    "enforce" if policy == "cloison-templates" => "warn",
                    "enforce" => "deny",
                    other => other,
                };
                assert_eq!(selected, [format!("{policy}-{kind}")], "{label:?} under {default}");
            }
        }
    }
}

#[test]
fn every_rule_is_in_the_catalogue() {
    let text = serde_json::to_string(&set(specs().remove(1))).unwrap();
    let mut seen = 0;
    for word in text.split(['\'', ' ', '"', '(']) {
        if let Ok(rule) = word.parse::<cloison::compliance::RuleId>()
            && rule.name().is_some()
        {
            assert!(Catalogue::builtin().contains(&rule), "{rule}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn a_policy_without_a_reason_or_before_its_time_weakens_nothing() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let modes = |value: Value, now: &str| overrides(&spec(json!({"controls": [value]})), at(now)).len();
    assert_eq!(
        modes(json!({"id": "WKL-01", "mode": "Audit"}), "2026-01-01T00:00:00Z"),
        0
    );
    assert_eq!(
        modes(
            json!({"id": "WKL-01", "mode": "Audit", "reason": "r"}),
            "2026-01-01T00:00:00Z"
        ),
        1
    );
    assert_eq!(
        modes(json!({"id": "SUP-01", "mode": "Enforce"}), "2026-01-01T00:00:00Z"),
        1
    );
    let later = json!({"id": "SUP-01", "perStage": {"training": "Enforce"}, "effectiveTime": "2026-06-01T00:00:00Z"});
    let hash = |now: &str| {
        generate(
            &spec(json!({"controls": [later.clone()]})),
            &Operator::in_namespace("o"),
            &Waived::default(),
            at(now),
        )
        .hash
    };
    assert_ne!(hash("2026-05-31T23:59:59Z"), hash("2026-06-01T00:00:01Z"));
    let built_in = generate(
        &spec(json!({})),
        &Operator::in_namespace("o"),
        &Waived::default(),
        at("2026-01-01T00:00:00Z"),
    )
    .hash;
    assert_eq!(hash("2026-05-31T23:59:59Z"), built_in);
}

#[test]
fn clauses_that_ask_for_rights_are_named_as_not_evaluated() {
    let named: Vec<String> = not_evaluated(&set(json!({})))
        .into_iter()
        .map(|clause| clause.policy)
        .collect();
    assert_eq!(
        named,
        [
            "cloison-connect",
            "cloison-guard",
            "cloison-managed",
            "cloison-namespace",
            "cloison-rbac",
            "cloison-store"
        ]
    );
}

#[test]
fn each_canary_is_refused_by_its_policy_and_its_control_passes() {
    for value in [
        json!({}),
        json!({"pods": {"images": [{"prefix": "r.example/x:1"}]}}),
        json!({"pods": {"images": [{"prefix": "nginx"}]}}),
        json!({"pods": {"images": [{"prefix": "nginx:1.27"}]}}),
        json!({"pods": {"images": [{"prefix": "registry.example.com:5000"}]}}),
        json!({"pods": {"images": [{"prefix": "docker.io"}]}}),
        json!({"pods": {"images": [{"prefix": "bitnami/"}]}}),
        json!({"controls": [{"id": "WKL-02", "mode": "Disabled", "reason": "r"}]}),
        json!({"controls": [{"id": "NET-10", "mode": "Audit", "reason": "r"}]}),
        json!({"network": {"tenantPolicies": "None"}}),
        json!({"controls": [{"id": "ENC-04", "mode": "Enforce"}, {"id": "WKL-04", "mode": "Enforce"}]}),
        json!({"pods": {"images": [{"prefix": "infer.example", "stages": ["Inference"]}, {"prefix": "train.example", "digest": "Required"}]}}),
    ] {
        let spec = spec(value);
        let set = generate(
            &spec,
            &Operator::in_namespace("cloison-system"),
            &Waived::default(),
            Timestamp::UNIX_EPOCH,
        );
        let canaries = canaries(&set, &spec, Timestamp::UNIX_EPOCH);
        assert_eq!(canaries.len(), 9);
        let offline = Offline::new(&set).unwrap();
        let mut labels = json!(canary_labels());
        labels["kubernetes.io/metadata.name"] = json!("cloison-canary");
        let namespace = json!({"metadata": {"name": "cloison-canary", "uid": "u", "labels": labels, "annotations": canary_annotations("u")}});
        let judged = |canary: &Canary, body: &Value| match canary.id {
            "cloison-pod" => offline.judge_pod(body, &namespace, &Request::default()).unwrap(),
            "cloison-net" => offline
                .judge_network_policy(body, &namespace, &Request::default())
                .unwrap(),
            _ => offline.judge_workload(body, &namespace, &Request::default()).unwrap(),
        };
        for canary in canaries
            .iter()
            .filter(|canary| ["cloison-pod", "cloison-crd", "cloison-net"].contains(&canary.id))
        {
            let negative = judged(canary, &canary.negative.body);
            assert!(
                negative.refused && negative.problems.iter().any(|finding| finding.rule == canary.rule),
                "{canary:?}: {negative:?}"
            );
            let positive = judged(canary, &canary.positive.body);
            assert!(!positive.refused, "{canary:?}: {positive:?}");
        }
    }
}
