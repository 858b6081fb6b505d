//! Requests about claims of volumes.

use super::*;

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
