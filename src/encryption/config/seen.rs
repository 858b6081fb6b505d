//! What a file on disk means: whether it is ours, what it would do, and what of it we refuse to take over.

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use super::document::{Language, parse};
use super::validate::{self, Cipher, Fault, group_resource, validate};
use super::{Desired, Key, KeyMaterial, KeyName, OWN_GROUP, Provider, ResourceName, Transformer, hash, render};

/// A file that the API server accepts.
#[derive(Clone, Debug)]
pub struct Seen {
    hash: String,
    ours: Option<Desired>,
    entries: Vec<Entry>,
    objections: Objections,
}

/// One entry of `resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Group-resources, wildcards too, as they stand.
    pub resources: Vec<String>,
    /// The first writes, all are tried for reading.
    pub providers: Vec<SeenProvider>,
}

/// One entry of `providers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenProvider {
    /// `aesgcm`.
    Aesgcm(Vec<SeenKey>),
    /// `aescbc`.
    Aescbc(Vec<SeenKey>),
    /// `secretbox`.
    Secretbox(Vec<SeenKey>),
    /// `identity`: plaintext.
    Identity,
    /// A plugin.
    Kms {
        /// Its name, which is part of every value it wrote.
        name: String,
        /// KMS v2; otherwise v1, which the API server takes only with `--feature-gates=KMSv1=true`.
        v2: bool,
    },
}

/// A key of any size. `Debug` shows its name alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SeenKey {
    /// Its name, as it stands.
    pub name: String,
    /// Its bytes: 16, 24 or 32.
    pub material: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SeenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SeenKey({})", self.name)
    }
}

/// Why a file that the API server accepts is not written by us, and cannot be taken over as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Objection {
    /// Written in YAML: cut off, it may be a valid smaller file.
    Yaml,
    /// `identity` writes: nothing new is encrypted. Ours holds it first while encryption is first enabled or disabled.
    IdentityFirst,
    /// `identity` reads: plaintext that somebody put into etcd is served. Ours holds it only until all is encrypted.
    IdentityReads,
    /// `aescbc`: not authenticated.
    Aescbc,
    /// KMS v1.
    KmsV1,
    /// KMS v2: observed, not written.
    KmsV2,
    /// A key of 16 or 24 bytes.
    KeySize,
    /// A key with a colon in its name, which ends the name in stored values.
    KeyName,
    /// One name, two keys.
    KeyNameReused,
    /// A wildcard.
    Wildcard,
    /// Our own objects are encrypted, so the keys could not be recovered.
    OwnGroup,
    /// Several entries, or one with a resource twice.
    Entries,
}

/// All objections against a file.
pub type Objections = BTreeSet<Objection>;

impl fmt::Display for Objection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Yaml => {
                "it is YAML, and a YAML file that is cut off can be a valid one with fewer keys; ours is JSON"
            }
            Self::IdentityFirst => "the provider identity writes, so nothing new is encrypted",
            Self::IdentityReads => {
                "the provider identity reads, so plaintext put into etcd is served; remove it once all is encrypted"
            }
            Self::Aescbc => "aescbc does not notice changed values; rewrite them under aesgcm or secretbox first",
            Self::KmsV1 => "KMS v1 is deprecated and off by default; move to KMS v2",
            Self::KmsV2 => "keys are in a KMS v2 plugin; its key_id is followed and the file is left alone",
            Self::KeySize => "a key of 16 or 24 bytes; rewrite its values under a key of 32 bytes first",
            Self::KeyName => "a key has a colon in its name, so its values cannot be told from others",
            Self::KeyNameReused => "two different keys have one name",
            Self::Wildcard => "a wildcard encrypts what nobody named; name resources one by one",
            Self::OwnGroup => {
                "it encrypts cloison.dev, and our own objects must stay readable to recover the keys; leave them out"
            }
            Self::Entries => "ours has one entry of resources, each named once",
        })
    }
}

/// Reads a file. `Err` is what the API server refuses; it does so before it looks at etcd, and at a reload keeps the file
/// before. Rules are those of 1.36.
///
/// Stricter than the API server in: an escape of half a surrogate pair in JSON, YAML tags, the host of a plugin's
/// endpoint, and the internal version of the API.
pub fn read(bytes: &[u8]) -> Result<Seen, Fault> {
    let (document, language) = parse(bytes)?;
    let entries: Vec<Entry> = validate(&document)?.into_iter().map(Entry::of).collect();
    let mut objections = objections(&entries);
    if language == Language::Yaml {
        objections.insert(Objection::Yaml);
    }
    let ours = desired(&entries).filter(|desired| render(desired).as_bytes() == bytes);
    Ok(Seen {
        hash: hash(bytes),
        ours,
        entries,
        objections,
    })
}

impl Seen {
    /// The hash an API server shows that loaded it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What it is the canonical form of; `None` if it is foreign.
    pub fn ours(&self) -> Option<&Desired> {
        self.ours.as_ref()
    }

    /// Its entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Why we would not write it, and cannot take it over as it is. A file of ours may have some for a while.
    pub fn objections(&self) -> &Objections {
        &self.objections
    }

    /// The providers for a resource such as `secrets` or `deployments.apps`: of the entries that name it, else of those
    /// for its group, else of those for all. None: it is stored in plaintext.
    pub fn providers(&self, resource: &str) -> Vec<&SeenProvider> {
        let (group, name) = group_resource(resource);
        for wanted in [(group, name), (group, "*"), ("*", "*")] {
            let names = |entry: &&Entry| entry.resources.iter().any(|pattern| group_resource(pattern) == wanted);
            let found: Vec<&SeenProvider> = self.entries.iter().filter(names).flat_map(|e| &e.providers).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// The configuration of ours that writes and reads the same as this file, whoever wrote it; or what stands against it.
    pub fn adoptable(&self) -> Result<Desired, Objection> {
        let harmless = [Objection::Yaml, Objection::IdentityFirst, Objection::IdentityReads];
        if let Some(objection) = self.objections.iter().find(|one| !harmless.contains(one)) {
            return Err(*objection);
        }
        desired(&self.entries).ok_or(Objection::Entries)
    }

    /// Whether a KMS plugin is in it.
    pub fn kms(&self) -> bool {
        self.objections.contains(&Objection::KmsV1) || self.objections.contains(&Objection::KmsV2)
    }

    /// The keys that can be taken over, to be read, each once and in the order of the file.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for key in self
            .entries
            .iter()
            .flat_map(|entry| &entry.providers)
            .flat_map(SeenProvider::keys)
        {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

impl Entry {
    fn of(entry: validate::Resources) -> Self {
        Self {
            resources: entry.patterns,
            providers: entry.providers.into_iter().map(SeenProvider::of).collect(),
        }
    }
}

impl SeenProvider {
    fn of(provider: validate::Provider) -> Self {
        match provider {
            validate::Provider::Identity => Self::Identity,
            validate::Provider::Kms(validate::Kms { name, v2 }) => Self::Kms { name, v2 },
            validate::Provider::Keys(cipher, keys) => {
                let keys = keys
                    .into_iter()
                    .map(|validate::KeyEntry { name, material }| SeenKey { name, material });
                match cipher {
                    Cipher::Aesgcm => Self::Aesgcm(keys.collect()),
                    Cipher::Aescbc => Self::Aescbc(keys.collect()),
                    Cipher::Secretbox => Self::Secretbox(keys.collect()),
                }
            }
        }
    }

    /// The keys of it that we could use.
    fn keys(&self) -> Vec<Key> {
        let (provider, keys) = match self {
            Self::Aesgcm(keys) => (Provider::AESGCM, keys),
            Self::Secretbox(keys) => (Provider::Secretbox, keys),
            Self::Aescbc(_) | Self::Identity | Self::Kms { .. } => return Vec::new(),
        };
        let usable = |key: &SeenKey| {
            Some(Key {
                name: KeyName::parse(&key.name)?,
                provider,
                material: KeyMaterial::from_slice(&key.material)?,
            })
        };
        keys.iter().filter_map(usable).collect()
    }

    pub(super) fn all_keys(&self) -> &[SeenKey] {
        match self {
            Self::Aesgcm(keys) | Self::Aescbc(keys) | Self::Secretbox(keys) => keys,
            Self::Identity | Self::Kms { .. } => &[],
        }
    }
}

fn objections(entries: &[Entry]) -> Objections {
    let mut found = Objections::new();
    let mut names: Vec<&SeenKey> = Vec::new();
    if entries.len() > 1 {
        found.insert(Objection::Entries);
    }
    for entry in entries {
        for pattern in &entry.resources {
            let (group, resource) = group_resource(pattern);
            if resource == "*" {
                found.insert(Objection::Wildcard);
            }
            let own = group == OWN_GROUP || group.ends_with(".cloison.dev") || group == "*";
            if own
                && entry
                    .providers
                    .iter()
                    .any(|provider| *provider != SeenProvider::Identity)
            {
                found.insert(Objection::OwnGroup);
            }
        }
        for (index, provider) in entry.providers.iter().enumerate() {
            match provider {
                SeenProvider::Identity if index == 0 => drop(found.insert(Objection::IdentityFirst)),
                SeenProvider::Identity => drop(found.insert(Objection::IdentityReads)),
                SeenProvider::Aescbc(_) => drop(found.insert(Objection::Aescbc)),
                SeenProvider::Kms { v2: true, .. } => drop(found.insert(Objection::KmsV2)),
                SeenProvider::Kms { v2: false, .. } => drop(found.insert(Objection::KmsV1)),
                SeenProvider::Aesgcm(_) | SeenProvider::Secretbox(_) => {}
            }
            for key in provider.all_keys() {
                if key.material.len() != 32 {
                    found.insert(Objection::KeySize);
                }
                if KeyName::parse(&key.name).is_none() {
                    found.insert(Objection::KeyName);
                }
                if names
                    .iter()
                    .any(|other| other.name == key.name && other.material != key.material)
                {
                    found.insert(Objection::KeyNameReused);
                }
                names.push(key);
            }
        }
    }
    found
}

/// The configuration that a file would be, if it were ours.
fn desired(entries: &[Entry]) -> Option<Desired> {
    let [entry] = entries else { return None };
    let mut transformers = Vec::new();
    for provider in &entry.providers {
        match provider {
            SeenProvider::Identity => transformers.push(Transformer::Identity),
            other => transformers.extend(other.keys().into_iter().map(Transformer::Key)),
        }
    }
    let mut transformers = transformers.into_iter();
    let resources = entry.resources.iter().cloned().map(ResourceName);
    Desired::new(resources, transformers.next()?, transformers).ok()
}
