//! Requests about workloads: flows, modes, updates and deletions.

use super::*;

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
