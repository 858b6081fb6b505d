//! What is read and what is answered, also of what nobody should send.

use proptest::prelude::*;

use super::*;

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
