use std::sync::Arc;

use serde_json::{Value, json};

use super::{Changed, Class, Storage, VolumeUse};
use crate::api::conditions::Truth::{self, False, True, Unknown};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A class, a claim of it, and the volume that is bound to the claim. `mend` changes them before they are read.
fn bound(driver: &str, parameters: Value, attributes: Value, mend: impl Fn(&mut [Value; 3])) -> Storage {
    let mut all = [
        json!({"metadata": {"name": "fast", "creationTimestamp": "2026-01-01T00:00:00Z"},
               "provisioner": driver, "parameters": parameters}),
        json!({"metadata": {"name": "data", "namespace": "train"}, "spec": {"storageClassName": "fast", "volumeName": "pv"}}),
        json!({"metadata": {"name": "pv", "creationTimestamp": "2026-02-01T00:00:00Z",
                            "annotations": {"pv.kubernetes.io/provisioned-by": driver}},
               "spec": {"storageClassName": "fast", "claimRef": {"namespace": "train", "name": "data"},
                        "csi": {"driver": driver, "volumeHandle": "h", "volumeAttributes": attributes}}}),
    ];
    mend(&mut all);
    let [class, claim, volume] = all;
    let present = |value: Value| (!value.is_null()).then_some(value);
    Storage::new(
        present(class).map(read).map(Arc::new),
        present(claim).map(read).map(Arc::new),
        present(volume).map(read).map(Arc::new),
    )
}

fn word(storage: &Storage, listed: &[&str]) -> (Truth, &'static str) {
    let word = storage
        .judge("train", &VolumeUse::Claim("data".to_owned()), listed)
        .unwrap();
    (word.truth, word.reason)
}

#[test]
fn each_driver_is_judged_by_its_own_parameters() {
    for (driver, parameters, attributes, wanted) in [
        (
            "ebs.csi.aws.com",
            json!({"encrypted": "true"}),
            json!({}),
            (True, "Encrypted"),
        ),
        (
            "ebs.csi.aws.com",
            json!({"Encrypted": "True", "kmsKeyId": "k"}),
            json!({}),
            (True, "Encrypted"),
        ),
        (
            "ebs.csi.aws.com",
            json!({"encrypted": "false"}),
            json!({}),
            (False, "NotRequested"),
        ),
        (
            "ebs.csi.aws.com",
            json!({"type": "gp3"}),
            json!({}),
            (False, "NotRequested"),
        ),
        (
            "pd.csi.storage.gke.io",
            json!({"disk-encryption-kms-key": "k"}),
            json!({}),
            (True, "Encrypted"),
        ),
        (
            "pd.csi.storage.gke.io",
            json!({"disk-encryption-kms-key": ""}),
            json!({}),
            (False, "NotRequested"),
        ),
        (
            "disk.csi.azure.com",
            json!({"diskEncryptionSetID": "/subscriptions/x"}),
            json!({}),
            (True, "Encrypted"),
        ),
        ("disk.csi.azure.com", json!({}), json!({}), (False, "NotRequested")),
        (
            "pxd.portworx.com",
            json!({"secure": "true"}),
            json!({}),
            (True, "Encrypted"),
        ),
        ("pxd.portworx.com", json!({}), json!({}), (False, "NotRequested")),
        // These write into the volume what they made; the class does not count any more.
        (
            "rook-ceph.rbd.csi.ceph.com",
            json!({"encrypted": "true", "encryptionKMSID": "v"}),
            json!({}),
            (False, "NotEncrypted"),
        ),
        (
            "rook-ceph.rbd.csi.ceph.com",
            json!({}),
            json!({"encrypted": "true", "encryptionKMSID": "v"}),
            (True, "Encrypted"),
        ),
        (
            "rbd.csi.ceph.com",
            json!({}),
            json!({"encrypted": "true"}),
            (False, "NotEncrypted"),
        ),
        (
            "driver.longhorn.io",
            json!({"encrypted": "true"}),
            json!({}),
            (False, "NotEncrypted"),
        ),
        (
            "driver.longhorn.io",
            json!({}),
            json!({"encrypted": "true"}),
            (True, "Encrypted"),
        ),
        (
            "nfs.csi.k8s.io",
            json!({"encrypted": "true"}),
            json!({"encrypted": "true"}),
            (Unknown, "UnknownDriver"),
        ),
        (
            "notrbd.csi.ceph.com",
            json!({}),
            json!({"encrypted": "true", "encryptionKMSID": "v"}),
            (Unknown, "UnknownDriver"),
        ),
    ] {
        let storage = bound(driver, parameters.clone(), attributes.clone(), |_| {});
        assert_eq!(word(&storage, &[]), wanted, "{driver} {parameters} {attributes}");
    }
}

#[test]
fn the_bound_volume_must_be_one_of_the_class() {
    let ebs = |mend: fn(&mut [Value; 3])| bound("ebs.csi.aws.com", json!({"encrypted": "true"}), json!({}), mend);
    for (what, mend, wanted) in [
        ("as it is", (|_| {}) as fn(&mut [Value; 3]), (True, "Encrypted")),
        ("no claim", |all| all[1] = Value::Null, (Unknown, "ClaimMissing")),
        ("no volume", |all| all[2] = Value::Null, (Unknown, "VolumeMissing")),
        (
            "not bound",
            |all| all[1]["spec"]["volumeName"] = Value::Null,
            (Unknown, "NotBound"),
        ),
        (
            "another's",
            |all| all[2]["spec"]["claimRef"]["name"] = json!("other"),
            (Unknown, "ForeignVolume"),
        ),
        (
            "nobody's",
            |all| all[2]["spec"]["claimRef"] = Value::Null,
            (Unknown, "ForeignVolume"),
        ),
        (
            "made by hand",
            |all| all[2]["metadata"]["annotations"] = json!({}),
            (Unknown, "StaticVolume"),
        ),
        ("class gone", |all| all[0] = Value::Null, (Unknown, "StaticVolume")),
        (
            "without a class",
            |all| all[2]["spec"]["storageClassName"] = json!(""),
            (Unknown, "StaticVolume"),
        ),
        (
            "before the class",
            |all| all[2]["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z"),
            (Unknown, "OlderThanClass"),
        ),
    ] {
        assert_eq!(word(&ebs(mend), &[]), wanted, "{what}");
    }
}

#[test]
fn the_policys_list_says_of_a_class_what_its_driver_does_not() {
    let nfs = |mend: fn(&mut [Value; 3])| bound("nfs.csi.k8s.io", json!({}), json!({}), mend);
    assert_eq!(word(&nfs(|_| {}), &["fast"]), (True, "Listed"));
    assert_eq!(word(&nfs(|_| {}), &["slow"]), (Unknown, "UnknownDriver"));
    // A volume that somebody made by hand bears the name of any class.
    let by_hand = |all: &mut [Value; 3]| all[2]["metadata"]["annotations"] = json!({});
    assert_eq!(word(&nfs(by_hand), &["fast"]), (Unknown, "StaticVolume"));
}

#[test]
fn the_default_class_is_the_newest_that_is_marked() {
    let class = |name: &str, year: &str, default: &str, encrypted: &str| -> Arc<Class> {
        Arc::new(read(
            json!({"metadata": {"name": name, "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
                                 "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
                    "provisioner": "ebs.csi.aws.com", "parameters": {"encrypted": encrypted}}),
        ))
    };
    let judge = |classes: &[Arc<Class>]| {
        let word = Storage::new(classes.to_vec(), [], [])
            .judge("train", &VolumeUse::Ephemeral("v".to_owned(), None), &[])
            .unwrap();
        (word.truth, word.reason)
    };
    let (old, new, none) = (
        class("a", "2024", "true", "true"),
        class("b", "2025", "true", "false"),
        class("c", "2026", "false", "true"),
    );
    assert_eq!(
        judge(&[new.clone(), old.clone(), none.clone()]),
        (False, "NotRequested")
    );
    assert_eq!(judge(&[old, none.clone()]), (True, "Encrypted"));
    assert_eq!(judge(&[none]), (Unknown, "DefaultClassUnknown"));
}

#[test]
fn what_is_no_claim_is_not_called_encrypted() {
    let storage = Storage::default();
    let word = |used: VolumeUse| storage.judge("train", &used, &[]).map(|word| (word.truth, word.reason));
    assert_eq!(word(VolumeUse::NodeDisk), Some((Unknown, "NodeDisk")));
    assert_eq!(
        word(VolumeUse::Driver("inline.example.com".to_owned())),
        Some((Unknown, "UnknownDriver"))
    );
    assert_eq!(
        word(VolumeUse::Driver("secrets-store.csi.k8s.io".to_owned())),
        None,
        "it keeps no data"
    );
    assert_eq!(word(VolumeUse::Other("nfs".to_owned())), Some((Unknown, "UnknownKind")));
    assert_eq!(
        word(VolumeUse::Ephemeral("v".to_owned(), Some(String::new()))),
        Some((Unknown, "StaticVolume"))
    );
    assert_eq!(
        word(VolumeUse::Ephemeral("v".to_owned(), Some("x".to_owned()))),
        Some((Unknown, "ClassMissing"))
    );
}

#[test]
fn a_change_concerns_the_namespaces_it_is_about() {
    let as_is = || bound("ebs.csi.aws.com", json!({"encrypted": "true"}), json!({}), |_| {});
    let changed = |mend: fn(&mut [Value; 3])| {
        as_is().changed_since(&bound("ebs.csi.aws.com", json!({"encrypted": "true"}), json!({}), mend))
    };
    let train = Changed::In(["train".to_owned()].into());
    assert_eq!(changed(|_| {}), Changed::In([].into()));
    let touched = |all: &mut [Value; 3]| {
        all.iter_mut()
            .for_each(|one| one["metadata"]["resourceVersion"] = json!("9"))
    };
    assert_eq!(changed(touched), Changed::In([].into()), "they say the same");
    assert_eq!(
        changed(|all| all[0]["provisioner"] = json!("other")),
        Changed::Everywhere
    );
    assert_eq!(changed(|all| all[1] = Value::Null), train);
    assert_eq!(changed(|all| all[2] = Value::Null), train);
}
