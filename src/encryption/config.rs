//! The EncryptionConfiguration file: what is written ([`render`]), and what any file means ([`read`]).
//!
//! One file, `C(w;R)`: `w` writes, everything of `R` is read. All control-plane nodes hold the same bytes, because the
//! hash of the bytes is how an API server says which file it runs with ([`hash`]): the form is canonical JSON, sorted,
//! without a timestamp. JSON also because a YAML file that is cut off can be a valid smaller one, and the API server then
//! runs with fewer keys; JSON that is cut off is refused (both measured on 1.36.3).

mod document;
mod golang;
mod seen;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::material::KeyMaterial;
use crate::api::encryption::{Provider, ResourceName};
use crate::api::names;

/// What lets the agents take over a file that somebody else wrote. `hash` is that file's: another one is left alone.
pub fn adopt_command(hash: &str) -> String {
    format!(
        "kubectl annotate --overwrite secretencryption {} {}={hash}",
        names::SINGLETON,
        names::ADOPT_ANNOTATION
    )
}

pub use seen::{Entry, Objection, Objections, Seen, SeenKey, SeenProvider, read};
pub use validate::Fault;

/// The API group of this program. Its objects must stay readable to recover the keys, so they are never encrypted.
const OWN_GROUP: &str = "cloison.dev";

/// The name of a key. It is part of every value written under the key (`k8s:enc:aesgcm:v1:k7:…`), so a key that is
/// renamed cannot read what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name of a key of ours: `k` and its number. Numbers only grow.
    pub fn minted(id: u64) -> Self {
        Self(format!("k{id}"))
    }

    /// Any name that can be told from others in a stored value: not empty, and without `:`, which ends it there. The API
    /// server checks neither.
    pub fn parse(name: &str) -> Option<Self> {
        (!name.is_empty() && !name.contains(':')).then(|| Self(name.to_owned()))
    }

    /// Its number, if the name has the form of ours. New numbers must be greater than all of these, adopted keys too.
    pub fn id(&self) -> Option<u64> {
        let id = self.0.strip_prefix('k')?.parse().ok()?;
        (Self::minted(id) == *self).then_some(id)
    }

    /// As it stands in the file and in stored values.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A key as the file holds it. `Debug` shows no material.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: KeyName,
    /// The cipher it is for. A key never changes it.
    pub provider: Provider,
    /// The secret part.
    pub material: KeyMaterial,
}

/// Whether two keys are the same one: name, cipher and material.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            provider,
            material,
        } = other;
        (&self.name, self.provider) == (name, *provider) && self.material.bytes() == material.bytes()
    }
}

impl Eq for Key {}

/// The field of a provider in the file.
pub fn field(provider: Provider) -> &'static str {
    match provider {
        Provider::AESGCM => "aesgcm",
        Provider::Secretbox => "secretbox",
    }
}

/// What writes or reads values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transformer {
    /// A key.
    Key(Key),
    /// No encryption: the provider `identity`. Only while encryption is first enabled, or disabled.
    Identity,
}

/// A configuration `C(w;R)` that may be written. Total order and no two meanings of one name: see [`Desired::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    resources: Vec<ResourceName>,
    write: Transformer,
    /// Newest key first, `identity` last.
    read: Vec<Transformer>,
}

/// Why a configuration must not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undesirable {
    /// Nothing would be encrypted.
    #[error("spec.resources is empty; name at least one resource, such as secrets")]
    NoResource,
    /// A resource that the API server refuses, or that we do.
    #[error("spec.resources names {0:?}: {1}")]
    Resource(String, &'static str),
    /// One name, two keys: whichever comes first would fail on what the other wrote.
    #[error("two different keys are named {0}; a name belongs to one key for ever")]
    NameReused(KeyName),
}

impl Desired {
    /// `write` writes; `write` and all of `read` are read. The order of `read` and of `resources` is of no account.
    pub fn new(
        resources: impl IntoIterator<Item = ResourceName>,
        write: Transformer,
        read: impl IntoIterator<Item = Transformer>,
    ) -> Result<Self, Undesirable> {
        let mut resources: Vec<ResourceName> = resources.into_iter().collect();
        resources.sort();
        resources.dedup();
        if resources.is_empty() {
            return Err(Undesirable::NoResource);
        }
        for ResourceName(name) in &resources {
            if let Some(why) = validate::resource_problem(name).or_else(|| ours(name)) {
                return Err(Undesirable::Resource(name.clone(), why));
            }
        }
        let mut names = BTreeMap::new();
        let mut identity = false;
        let mut keys = Vec::new();
        for transformer in std::iter::once(write.clone()).chain(read) {
            match transformer {
                Transformer::Identity => identity = true,
                Transformer::Key(key) => match names.insert(key.name.clone(), key.clone()) {
                    None => keys.push(key),
                    Some(same) if same == key => {}
                    Some(_) => return Err(Undesirable::NameReused(key.name)),
                },
            }
        }
        keys.retain(|key| !matches!(&write, Transformer::Key(first) if first == key));
        keys.sort_by_key(|key| Reverse((key.name.id(), key.name.clone())));
        let mut read: Vec<Transformer> = keys.into_iter().map(Transformer::Key).collect();
        if identity && write != Transformer::Identity {
            read.push(Transformer::Identity);
        }
        Ok(Self { resources, write, read })
    }

    /// The group-resources it is for, sorted.
    pub fn resources(&self) -> &[ResourceName] {
        &self.resources
    }

    /// What writes.
    pub fn write(&self) -> &Transformer {
        &self.write
    }

    /// What reads, besides what writes.
    pub fn read(&self) -> &[Transformer] {
        &self.read
    }
}

/// Rules that are ours alone.
fn ours(resource: &str) -> Option<&'static str> {
    let group = resource.split_once('.').map_or("", |(_, group)| group);
    if resource.contains('*') {
        return Some("wildcards encrypt what nobody named, and rewriting it would touch it; name resources one by one");
    }
    (group == OWN_GROUP || group.ends_with(".cloison.dev"))
        .then_some("our own objects must stay readable to recover the keys; leave cloison.dev out")
}

/// The canonical bytes of a configuration. Same configuration, same bytes, on every node.
///
/// All keys of one cipher share one provider entry. Two entries of one cipher would work too, but a value under a key of
/// the second makes the first count it as `unknown` (`prefixTransformers` of 1.36.3), and that counter is the alarm for
/// values nobody can read.
pub fn render(desired: &Desired) -> Zeroizing<String> {
    let Desired { resources, write, read } = desired;
    // Grown later, the text would leave its key material behind in the smaller buffer.
    let names: usize = resources.iter().map(|ResourceName(name)| name.len() + 3).sum();
    let keys: usize = desired.keys().map(|key| key.name.as_str().len() * 6 + 100).sum();
    let mut text = Zeroizing::new(String::with_capacity(256 + names + keys));
    text.push_str(
        r#"{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{"providers":["#,
    );
    let mut providers: Vec<Provider> = Vec::new();
    for key in desired.keys() {
        if !providers.contains(&key.provider) {
            providers.push(key.provider);
        }
    }
    let mut separator = "";
    let mut entry = |text: &mut String, keys: Option<Provider>| {
        text.push_str(separator);
        separator = ",";
        match keys {
            Some(provider) => render_keys(text, provider, desired),
            None => text.push_str(r#"{"identity":{}}"#),
        }
    };
    if *write == Transformer::Identity {
        entry(&mut text, None);
    }
    for provider in providers {
        entry(&mut text, Some(provider));
    }
    if read.contains(&Transformer::Identity) {
        entry(&mut text, None);
    }
    text.push_str(r#"],"resources":["#);
    for (index, ResourceName(name)) in resources.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&quoted(name));
    }
    text.push_str("]}]}");
    text
}

fn render_keys(text: &mut String, provider: Provider, desired: &Desired) {
    text.push_str(r#"{""#);
    text.push_str(field(provider));
    text.push_str(r#"":{"keys":["#);
    for (index, key) in desired.keys().filter(|key| key.provider == provider).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(r#"{"name":"#);
        text.push_str(&quoted(key.name.as_str()));
        text.push_str(r#","secret":""#);
        text.push_str(&key.material.to_base64());
        text.push_str(r#""}"#);
    }
    text.push_str("]}}");
}

impl Desired {
    /// Every key in it, the one that writes first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let all = std::iter::once(&self.write).chain(&self.read);
        all.filter_map(|transformer| match transformer {
            Transformer::Key(key) => Some(key),
            Transformer::Identity => None,
        })
    }
}

/// A name in JSON.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// The hash of a file as the API server shows it in `apiserver_encryption_config_controller_last_config_info`.
pub fn hash(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}
