use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::api::stage::ControlMode;
use crate::compliance::PerStage;
use crate::compliance::checks::volumes::{Claim, Volume};
use crate::compliance::id::ControlId;

const TRAIN: NamespaceStage = NamespaceStage::Training;
const INFER: NamespaceStage = NamespaceStage::Inference;

fn holder(namespace: &str, workload: &str, stage: NamespaceStage, claim: &str) -> Holder {
    Holder {
        namespace: namespace.to_owned(),
        workload: workload.to_owned(),
        stage,
        classification: None,
        claim: claim.to_owned(),
    }
}

/// Claims `namespace/name` and where their volumes lead, as the `spec` of a PersistentVolume says it.
fn storage(claims: &[(&str, Value)]) -> Storage {
    let (mut bound, mut volumes) = (Vec::new(), Vec::new());
    for (index, (claim, source)) in claims.iter().enumerate() {
        let (namespace, name) = claim.split_once('/').unwrap();
        let volume = format!("pv-{index}");
        let mut spec = json!({"claimRef": {"namespace": namespace, "name": name}});
        spec.as_object_mut()
            .unwrap()
            .extend(source.as_object().unwrap().clone());
        let claim = json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"volumeName": volume}});
        let volume = json!({"metadata": {"name": volume}, "spec": spec});
        bound.push(Arc::new(serde_json::from_value::<Claim>(claim).unwrap()));
        volumes.push(Arc::new(serde_json::from_value::<Volume>(volume).unwrap()));
    }
    Storage::new([], bound, volumes)
}

fn csi(handle: &str) -> Value {
    json!({"csi": {"driver": "disk.example.com", "volumeHandle": handle}})
}

/// Whose, and what is said.
fn told(findings: &[Finding]) -> Vec<(&str, &str)> {
    let each = findings.iter();
    each.map(|it| (it.subject.name.as_str(), it.message.as_str())).collect()
}

#[test]
fn two_volumes_that_lead_to_one_disk_are_told_to_both_stages() {
    let storage = storage(&[
        ("train/data", csi("one")),
        ("infer/models", csi("one")),
        ("infer/own", csi("two")),
        ("lab/data", csi("one")),
    ]);
    let all = [
        holder("train", "fit", TRAIN, "data"),
        holder("lab", "play", TRAIN, "data"),
        holder("infer", "serve", INFER, "models"),
        holder("infer", "alone", INFER, "own"),
    ];
    let found = volumes(all.clone(), &storage, &[]);
    let text = |own: &str, at: &str, other: &str, theirs: &str| {
        format!(
            "PersistentVolumeClaim {own} is kept where namespace {at}, keeps its claim {other}: PersistentVolumes {theirs} lead \
             to one storage"
        )
    };
    let serve = text("models", "lab, of stage training", "data", "pv-1 and pv-3");
    let play = text("data", "infer, of stage inference", "models", "pv-3 and pv-1");
    let fit = text("data", "infer, of stage inference", "models", "pv-0 and pv-1");
    assert_eq!(told(&found), [("serve", &*serve), ("play", &*play), ("fit", &*fit)]);
    assert!(found.iter().all(|it| it.rule.to_string() == "DAT-07/shared-volume"));
    let turned = volumes(all.iter().rev().cloned(), &storage, &[]);
    assert_eq!(turned, found, "whatever the order");
    // Where one of the stages has no pod there, nobody shares it.
    assert_eq!(volumes(all[..2].to_vec(), &storage, &[]), []);
}

#[test]
fn each_kind_of_storage_has_its_own_word_for_a_place() {
    let nfs = |server: &str, path: &str| json!({"nfs": {"server": server, "path": path}});
    let iscsi =
        |lun: i32| json!({"iscsi": {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.com.example:a", "lun": lun}});
    let fc = |lun: i32| json!({"fc": {"targetWWNs": ["50060e801049cfd1"], "lun": lun}});
    let driver = |name: &str| json!({"csi": {"driver": name, "volumeHandle": "one"}});
    let node = json!({"hostPath": {"path": "/data"}});
    for (one, other, same) in [
        (csi("one"), csi("one"), true),
        (csi("one"), driver("other.example.com"), false),
        (nfs("Files.example.com", "/a/"), nfs("files.example.com", "/a"), true),
        (nfs("files.example.com", "/a"), nfs("files.example.com", "/b"), false),
        (iscsi(0), iscsi(0), true),
        (iscsi(0), iscsi(1), false),
        (fc(0), fc(0), true),
        (fc(0), fc(1), false),
        // Of another node, as far as anybody knows.
        (node.clone(), node, false),
    ] {
        let storage = storage(&[("train/a", one.clone()), ("infer/b", other.clone())]);
        let all = [holder("train", "x", TRAIN, "a"), holder("infer", "y", INFER, "b")];
        assert_eq!(
            volumes(all, &storage, &[]).len(),
            if same { 2 } else { 0 },
            "{one} {other}"
        );
    }
}

#[test]
fn a_volume_that_is_not_bound_to_the_claim_is_nobodys() {
    let read = |namespace: &str, name: &str, volume: &str| {
        let claim = json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"volumeName": volume}});
        Arc::new(serde_json::from_value::<Claim>(claim).unwrap())
    };
    let volume = |name: &str, claim: Value| {
        let mut spec = csi("one");
        spec["claimRef"] = claim;
        let volume = json!({"metadata": {"name": name}, "spec": spec});
        Arc::new(serde_json::from_value::<Volume>(volume).unwrap())
    };
    let holders = || [holder("train", "x", TRAIN, "a"), holder("infer", "y", INFER, "b")];
    let found = |of_infer: Value| {
        let volumes_there = [
            volume("one", json!({"namespace": "train", "name": "a"})),
            volume("two", of_infer),
        ];
        let claims = [read("train", "a", "one"), read("infer", "b", "two")];
        volumes(holders(), &Storage::new([], claims, volumes_there), &[]).len()
    };
    assert_eq!(found(json!({"namespace": "infer", "name": "b"})), 2);
    assert_eq!(found(Value::Null), 0, "named by the claim, and bound to none");
    assert_eq!(found(json!({"namespace": "infer", "name": "other"})), 0);
}

fn claim(namespace: &str, name: &str, pod: &str, devices: &[&str]) -> Value {
    let results: Vec<Value> = devices
        .iter()
        .map(|device| json!({"request": "r", "driver": "gpu.example.com", "pool": "a", "device": device}))
        .collect();
    json!({"metadata": {"namespace": namespace, "name": name}, "status": {
        "allocation": {"devices": {"results": results}},
        "reservedFor": [{"resource": "pods", "name": pod, "uid": "u"}, {"apiGroup": "example.com", "resource": "others", "name": "no-pod"}]}})
}

#[test]
fn an_allocation_is_read_for_its_pods_and_devices() {
    let read = Allocation::read(&claim("train", "gpu", "p", &["0", "1"])).unwrap();
    assert_eq!((read.namespace.as_str(), read.claim.as_str()), ("train", "gpu"));
    assert_eq!(read.pods, BTreeMap::from([("p".to_owned(), "u".to_owned())]));
    assert_eq!(read.devices.len(), 2);
    let waiting = json!({"metadata": {"namespace": "train", "name": "gpu"}, "spec": {}});
    assert_eq!(Allocation::read(&waiting), None);
}

#[test]
fn one_device_of_two_stages_or_classifications_is_told_to_both() {
    let read = |devices: &[&str]| Allocation::read(&claim("n", "gpu", "p", devices)).unwrap().devices;
    let classified = |classification: Classification, workload: &str| Holder {
        classification: Some(classification),
        ..holder("train", workload, TRAIN, workload)
    };
    let (low, high) = (
        classified(Classification::Internal, "low"),
        classified(Classification::Confidential, "high"),
    );
    let infer = holder("infer", "serve", INFER, "gpu");
    let found = devices([(low.clone(), read(&["0", "1"])), (infer, read(&["1", "2"]))], &[]);
    assert_eq!(
        told(&found),
        [
            (
                "serve",
                "ResourceClaim gpu has device gpu.example.com/a/1, which workload train/low, of stage training, has too"
            ),
            (
                "low",
                "ResourceClaim low has device gpu.example.com/a/1, which workload infer/serve, of stage inference, has too"
            ),
        ]
    );
    assert!(found.iter().all(|it| it.rule.to_string() == "WKL-04/mixed-device"));
    let found = devices([(low.clone(), read(&["0"])), (high, read(&["0"]))], &[]);
    assert_eq!(
        told(&found),
        [
            (
                "high",
                "ResourceClaim high has device gpu.example.com/a/0, which workload train/low, with Internal data, has too"
            ),
            (
                "low",
                "ResourceClaim low has device gpu.example.com/a/0, which workload train/high, with Confidential data, has too"
            ),
        ]
    );
    // Of one stage and classification, and of one that nobody declared.
    let same = classified(Classification::Internal, "same");
    let undeclared = holder("train", "default", TRAIN, "gpu");
    let alike = [low, same, undeclared].map(|it| (it, read(&["0"])));
    assert_eq!(devices(alike, &[]), []);
}

#[test]
fn a_policy_may_want_to_hear_of_neither() {
    let storage = storage(&[("train/a", csi("one")), ("infer/b", csi("one"))]);
    let all = || [holder("train", "x", TRAIN, "a"), holder("infer", "y", INFER, "b")];
    let disabled = |id: ControlId| ControlOverride {
        id: id.into(),
        mode: Some(ControlMode::Disabled),
        per_stage: PerStage::default(),
    };
    assert_eq!(volumes(all(), &storage, &[disabled(WKL_04)]).len(), 2);
    assert_eq!(volumes(all(), &storage, &[disabled(DAT_07)]), []);
}
