//! Storage drivers whose words on encryption are known: encryption of volumes is asked for in parameters of their own.

use std::collections::{BTreeMap, BTreeSet};

/// A driver whose parameters are known.
pub(super) struct Driver {
    /// How its name ends: Rook puts the namespace of the operator before that of Ceph.
    name: &'static str,
    /// The parameters that ask for encryption, each with the value it must have; `None` is any.
    pub asks: &'static [(&'static str, Option<&'static str>)],
    /// Whether it repeats them in the attributes of the volume it made.
    pub repeats: bool,
}

const fn driver(name: &'static str, asks: &'static [(&'static str, Option<&'static str>)], repeats: bool) -> Driver {
    Driver { name, asks, repeats }
}

static DRIVERS: [Driver; 9] = [
    driver("ebs.csi.aws.com", &[("encrypted", Some("true"))], false),
    driver("kubernetes.io/aws-ebs", &[("encrypted", Some("true"))], false),
    driver("pd.csi.storage.gke.io", &[("disk-encryption-kms-key", None)], false),
    driver("disk.csi.azure.com", &[("diskEncryptionSetID", None)], false),
    driver("kubernetes.io/azure-disk", &[("diskEncryptionSetID", None)], false),
    driver(
        "rbd.csi.ceph.com",
        &[("encrypted", Some("true")), ("encryptionKMSID", None)],
        true,
    ),
    driver("driver.longhorn.io", &[("encrypted", Some("true"))], true),
    driver("pxd.portworx.com", &[("secure", Some("true"))], false),
    driver("kubernetes.io/portworx-volume", &[("secure", Some("true"))], false),
];

/// Inline drivers that put credentials into memory, and keep no data.
pub(super) const CREDENTIAL_DRIVERS: [&str; 4] = [
    "csi.cert-manager.io",
    "csi.spiffe.io",
    "secrets-store.csi.k8s.io",
    "spiffe.csi.cert-manager.io",
];

/// Of parameters or attributes those that a driver of the list is asked by, without case: provisioners read them so.
pub(super) fn asked(map: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let keys = DRIVERS.iter().flat_map(|driver| driver.asks);
    let wanted: BTreeSet<String> = keys.map(|(key, _)| key.to_ascii_lowercase()).collect();
    let entries = map.into_iter().flatten();
    let known = entries.map(|(key, value)| (key.to_ascii_lowercase(), value.clone()));
    known.filter(|(key, _)| wanted.contains(key)).collect()
}

pub(super) fn known(driver: &str) -> Option<&'static Driver> {
    let named = |end: &str| driver == end || driver.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    DRIVERS.iter().find(|known| named(known.name))
}

/// The first key without the value that it must have.
pub(super) fn missing(
    keys: &[(&'static str, Option<&str>)],
    values: &BTreeMap<String, String>,
) -> Option<&'static str> {
    let says = |key: &str, wanted: Option<&str>| {
        let value = values.get(&key.to_ascii_lowercase());
        value.is_some_and(|value| match wanted {
            Some(wanted) => value.eq_ignore_ascii_case(wanted),
            None => !value.is_empty(),
        })
    };
    keys.iter()
        .find(|(key, wanted)| !says(key, *wanted))
        .map(|(key, _)| *key)
}
