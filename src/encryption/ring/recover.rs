//! What can be got back with an identity and a ring from anywhere, when no API server answers.

use serde::Deserialize;

use super::{Opened, living};
use crate::api::encryption::ResourceName;
use crate::api::key_ring::{EncryptionKeyRing, EncryptionKeyRingSpec};
use crate::encryption::config::{Desired, Key, KeyName, Transformer, Undesirable};

/// How every ring begins in etcd, and so in a snapshot: bbolt keeps a value in one piece.
const BEGINNING: &[u8] = br#"{"apiVersion":"cloison.dev/v1alpha1","kind":"EncryptionKeyRing","#;

/// The ring in a file: the sealed copy of a node, or the object as `kubectl get -o json` prints it.
pub fn parse(text: &[u8]) -> Option<EncryptionKeyRingSpec> {
    let object = serde_json::from_slice::<EncryptionKeyRing>(text).map(|ring| ring.spec);
    object.ok().or_else(|| serde_json::from_slice(text).ok())
}

/// The newest ring in a piece of an etcd snapshot, of all versions that are in it, and its generation. Pieces of versions
/// that were overwritten are passed over.
pub fn find(snapshot: &[u8]) -> Option<(i64, EncryptionKeyRingSpec)> {
    let (mut found, mut rest): (Option<(i64, EncryptionKeyRingSpec)>, _) = (None, snapshot);
    while let Some(at) = rest.windows(BEGINNING.len()).position(|window| window == BEGINNING) {
        let here = &rest[at..];
        let mut values = serde_json::Deserializer::from_slice(here);
        if let Ok(ring) = EncryptionKeyRing::deserialize(&mut values) {
            let generation = ring.metadata.generation.unwrap_or_default();
            if found.as_ref().is_none_or(|(newest, _)| generation > *newest) {
                found = Some((generation, ring.spec));
            }
        }
        rest = &here[BEGINNING.len()..];
    }
    found
}

/// A configuration that reads everything: the newest key that is not retired writes, all others and plaintext are read.
/// `None` when there is no key to write with.
pub fn recovered(
    ring: &EncryptionKeyRingSpec,
    opened: &Opened,
    resources: impl IntoIterator<Item = ResourceName>,
) -> Option<Result<Desired, Undesirable>> {
    let mut keys: Vec<_> = living(ring)
        .filter_map(|key| {
            let transformer = Transformer::Key(Key {
                name: KeyName::parse(&key.name)?,
                provider: key.provider,
                material: opened.get(&key.id)?.clone(),
            });
            Some((key.retired_time.is_none(), key.id, transformer))
        })
        .collect();
    keys.sort_by_key(|(current, id, _)| (*current, *id));
    let (_, _, write) = keys.pop()?;
    let read = keys.into_iter().map(|(_, _, key)| key).chain([Transformer::Identity]);
    Some(Desired::new(resources, write, read))
}
