//! Credentials in ConfigMaps: everybody who may `view` a namespace reads them, and etcd keeps them in plain text by default.

use super::credentials;
use crate::compliance::finding::{Finding, Location, Subject};
use crate::compliance::id::ENC_04;

/// What is against one value of a ConfigMap.
pub fn value(subject: &Subject, key: &str, text: &str) -> Vec<Finding> {
    let told = credentials::sightings(text).into_iter().map(|sighting| {
        let message = format!("key {key:?}, line {} of its value: {}", sighting.line, sighting.what);
        Finding::new(ENC_04.rule("config-map"), subject.clone(), message).at(Location::field(format!("data.{key}")))
    });
    told.collect()
}
