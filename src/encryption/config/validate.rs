//! The rules of kube-apiserver 1.36 for a file: strict decoding, `ValidateEncryptionConfiguration`
//! (`apiserver/validation/validation_encryption.go`) and the check for masked rules
//! (`server/options/encryptionconfig/config.go`).

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use super::document::Node;
use super::golang;

/// What the API server refuses in a file: where and why, in one line that shows nothing out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The JSON path, `resources[0].providers[1].aesgcm.keys[0].secret`; empty for the whole file.
    pub at: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Fault {
    /// About the file as a whole.
    pub(super) fn whole(why: impl Into<String>) -> Self {
        Self::new("", why)
    }

    fn new(at: &str, why: impl Into<String>) -> Self {
        Self {
            at: at.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => formatter.write_str(&self.why),
            at => write!(formatter, "{at}: {}", self.why),
        }
    }
}

impl std::error::Error for Fault {}

/// One entry of `resources`.
pub struct Resources {
    pub patterns: Vec<String>,
    pub providers: Vec<Provider>,
}

/// One entry of `providers`.
pub enum Provider {
    Keys(Cipher, Vec<KeyEntry>),
    Identity,
    Kms(Kms),
}

/// A provider with keys in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aesgcm,
    Aescbc,
    Secretbox,
}

/// A key of a file.
pub struct KeyEntry {
    pub name: String,
    pub material: Zeroizing<Vec<u8>>,
}

/// A plugin.
pub struct Kms {
    pub name: String,
    pub v2: bool,
}

const UNIQUE: &str = "give it the cipher aesgcm, aescbc, secretbox, kms or identity, one each";

/// Decodes and validates. The first fault in the order of the file is told.
pub fn validate(file: &Node) -> Result<Vec<Resources>, Fault> {
    let fields = Fields::of(file, "", &["apiVersion", "kind", "resources"])?;
    version(&fields)?;
    let entries = fields.list("resources")?;
    if entries.is_empty() {
        return Err(Fault::new("resources", "at least one entry is needed"));
    }
    let mut plugins = BTreeSet::new();
    let mut parsed = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        parsed.push(resources(entry, &format!("resources[{index}]"), &mut plugins)?);
    }
    masked(&parsed)?;
    Ok(parsed)
}

/// `apiserver.config.k8s.io/v1, EncryptionConfiguration`, or the older `v1, EncryptionConfig`.
fn version(fields: &Fields<'_>) -> Result<(), Fault> {
    let (version, kind) = (fields.text("apiVersion")?, fields.text("kind")?);
    match (version, kind) {
        // `/v1` is `v1` to the parser of the API server.
        ("apiserver.config.k8s.io/v1", "EncryptionConfiguration") | ("v1" | "/v1", "EncryptionConfig") => Ok(()),
        ("apiserver.config.k8s.io/v1", _) => Err(Fault::new("kind", "must be EncryptionConfiguration")),
        _ => Err(Fault::new("apiVersion", "must be apiserver.config.k8s.io/v1")),
    }
}

fn resources(entry: &Node, at: &str, plugins: &mut BTreeSet<String>) -> Result<Resources, Fault> {
    let fields = Fields::of(entry, at, &["resources", "providers"])?;
    let here = fields.path("resources");
    let mut patterns = Vec::new();
    for (index, pattern) in fields.list("resources")?.iter().enumerate() {
        patterns.push(text(pattern, &format!("{here}[{index}]"))?.to_owned());
    }
    if patterns.is_empty() {
        return Err(Fault::new(&here, "at least one resource is needed"));
    }
    overlap(&patterns, &here)?;
    for (index, pattern) in patterns.iter().enumerate() {
        if let Some(why) = resource_problem(pattern) {
            return Err(Fault::new(&format!("{here}[{index}]"), why));
        }
    }
    let here = fields.path("providers");
    let mut providers = Vec::new();
    for (index, entry) in fields.list("providers")?.iter().enumerate() {
        providers.push(provider(entry, &format!("{here}[{index}]"), plugins)?);
    }
    if providers.is_empty() {
        return Err(Fault::new(&here, "at least one provider is needed"));
    }
    Ok(Resources { patterns, providers })
}

/// `secrets` is of the core group, `*.` all of it.
pub(super) fn group_resource(pattern: &str) -> (&str, &str) {
    let (resource, group) = pattern.split_once('.').unwrap_or((pattern, ""));
    (group, resource)
}

/// What the API server has against one entry of a list of resources.
pub(super) fn resource_problem(pattern: &str) -> Option<&'static str> {
    if pattern.to_lowercase() != pattern {
        return Some("the name of a resource has no capital letters");
    }
    match (pattern, group_resource(pattern)) {
        ("*", _) => Some("use *. for all resources of the core group or *.* for all resources"),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            Some("a resource without a REST API cannot be encrypted")
        }
        (_, ("events.k8s.io", _)) => Some("its objects are stored under the core group; use events"),
        (_, ("extensions", _)) => Some("the group extensions is gone; name the resource's group of today"),
        (_, ("*", resource)) if resource != "*" => {
            Some("one resource in all groups cannot be named; name each group, or use *.*")
        }
        _ => None,
    }
}

/// One list must not name a thing twice, nor a wildcard beside what it covers.
fn overlap(patterns: &[String], at: &str) -> Result<(), Fault> {
    let all: Vec<(&str, &str)> = patterns.iter().map(|pattern| group_resource(pattern)).collect();
    for (index, one) in all.iter().enumerate() {
        for other in all.iter().skip(index + 1) {
            if one == other {
                return Err(Fault::new(at, "the same resource is named twice"));
            }
            let any = [one, other].contains(&&("*", "*"));
            let wild = one.0 == other.0 && (one.1 == "*" || other.1 == "*");
            if any || wild {
                let why = "a wildcard and a resource that it covers in one list; the resource would be masked";
                return Err(Fault::new(at, why));
            }
        }
    }
    Ok(())
}

/// A rule after a wildcard that covers it would never be used.
fn masked(entries: &[Resources]) -> Result<(), Fault> {
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (at, entry) in entries.iter().enumerate() {
        for (index, pattern) in entry.patterns.iter().enumerate() {
            let (group, resource) = group_resource(pattern);
            if known.contains(&(group, "*")) || known.contains(&("*", "*")) {
                let why = "masked by a wildcard of an earlier entry; put it before that entry";
                return Err(Fault::new(&format!("resources[{at}].resources[{index}]"), why));
            }
            known.insert((group, resource));
        }
    }
    Ok(())
}

fn provider(entry: &Node, at: &str, plugins: &mut BTreeSet<String>) -> Result<Provider, Fault> {
    let fields = Fields::of(entry, at, &["aesgcm", "aescbc", "secretbox", "identity", "kms"])?;
    let mut all = Vec::new();
    for (name, cipher) in [
        ("aesgcm", Cipher::Aesgcm),
        ("aescbc", Cipher::Aescbc),
        ("secretbox", Cipher::Secretbox),
    ] {
        if let Some(node) = fields.get(name) {
            all.push(Provider::Keys(cipher, keys(node, &fields.path(name), cipher)?));
        }
    }
    if let Some(node) = fields.get("identity") {
        Fields::of(node, &fields.path("identity"), &[])?;
        all.push(Provider::Identity);
    }
    if let Some(node) = fields.get("kms") {
        all.push(Provider::Kms(kms(node, &fields.path("kms"), plugins)?));
    }
    match (all.pop(), all.len()) {
        (Some(provider), 0) => Ok(provider),
        (Some(_), _) => Err(Fault::new(at, format!("more than one provider in one entry; {UNIQUE}"))),
        (None, _) => Err(Fault::new(at, format!("no provider in the entry; {UNIQUE}"))),
    }
}

fn keys(node: &Node, at: &str, cipher: Cipher) -> Result<Vec<KeyEntry>, Fault> {
    let fields = Fields::of(node, at, &["keys"])?;
    let here = fields.path("keys");
    let mut keys = Vec::new();
    for (index, entry) in fields.list("keys")?.iter().enumerate() {
        keys.push(key(entry, &format!("{here}[{index}]"), cipher)?);
    }
    if keys.is_empty() {
        return Err(Fault::new(&here, "at least one key is needed"));
    }
    Ok(keys)
}

fn key(entry: &Node, at: &str, cipher: Cipher) -> Result<KeyEntry, Fault> {
    let fields = Fields::of(entry, at, &["name", "secret"])?;
    let (name, secret) = (fields.text("name")?, fields.text("secret")?);
    if name.is_empty() {
        return Err(Fault::new(&fields.path("name"), "a key needs a name"));
    }
    let at = fields.path("secret");
    if secret.is_empty() {
        return Err(Fault::new(&at, "a key needs a secret"));
    }
    let Some(material) = golang::base64(secret) else {
        return Err(Fault::new(&at, "not base64 (RFC 4648, padded)"));
    };
    let (fits, sizes) = match cipher {
        Cipher::Secretbox => (material.len() == 32, "32 bytes"),
        Cipher::Aesgcm | Cipher::Aescbc => ([16, 24, 32].contains(&material.len()), "16, 24 or 32 bytes"),
    };
    if !fits {
        let why = format!("{} bytes long after base64; it must be {sizes}", material.len());
        return Err(Fault::new(&at, why));
    }
    Ok(KeyEntry {
        name: name.to_owned(),
        material,
    })
}

fn kms(node: &Node, at: &str, plugins: &mut BTreeSet<String>) -> Result<Kms, Fault> {
    let fields = Fields::of(node, at, &["apiVersion", "name", "cachesize", "endpoint", "timeout"])?;
    let fault = |field: &str, why: &str| Err(Fault::new(&fields.path(field), why));
    let v2 = match fields.text("apiVersion")? {
        "" | "v1" => false,
        "v2" => true,
        _ => return fault("apiVersion", "must be v2 (v1 is no longer supported)"),
    };
    let name = fields.text("name")?.to_owned();
    if name.is_empty() {
        return fault("name", "a plugin needs a name");
    }
    if v2 && name.contains(':') {
        return fault("name", "must not contain a colon, which ends it in stored values");
    }
    if !plugins.insert(name.clone()) {
        return fault("name", "another plugin has this name; names must be unique");
    }
    // Absent is 3 s.
    if fields.get("timeout").is_some() && golang::positive_duration(fields.text("timeout")?) != Some(true) {
        return fault("timeout", "must be a positive duration such as 3s");
    }
    match golang::url_scheme(fields.text("endpoint")?).as_deref() {
        Some("unix") => {}
        _ => return fault("endpoint", "must be the URL of a socket, unix:///path"),
    }
    match fields.get("cachesize") {
        None => {}
        Some(Node::Number(Some(size))) if i32::try_from(*size).is_ok() => {
            if v2 {
                return fault("cachesize", "v2 has no such field; remove it");
            }
            if *size == 0 {
                return fault("cachesize", "must be positive, or negative for no cache");
            }
        }
        Some(_) => return fault("cachesize", "must be a whole number of 32 bits"),
    }
    Ok(Kms { name, v2 })
}

/// The fields of an object, each there once and known. `null` is as good as absent.
struct Fields<'a> {
    at: &'a str,
    fields: Vec<(&'a str, &'a Node)>,
}

impl<'a> Fields<'a> {
    fn of(node: &'a Node, at: &'a str, known: &[&str]) -> Result<Self, Fault> {
        let map = match node {
            Node::Map(map) => map.as_slice(),
            Node::Null => &[],
            other => return Err(Fault::new(at, format!("must be an object, is {}", other.kind()))),
        };
        let mut fields: Vec<(&str, &Node)> = Vec::new();
        for (name, value) in map {
            let name = name.as_str();
            if !known.contains(&name) {
                return Err(Fault::new(at, unknown_field(name, known)));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Fault::new(at, format!("the field {name} is there twice")));
            }
            fields.push((name, value));
        }
        Ok(Self { at, fields })
    }

    fn path(&self, field: &str) -> String {
        match self.at {
            "" => field.to_owned(),
            at => format!("{at}.{field}"),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Node> {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map(|(_, node)| *node).filter(|node| !matches!(node, Node::Null))
    }

    fn list(&self, field: &str) -> Result<&'a [Node], Fault> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Node::List(items)) => Ok(items),
            Some(other) => {
                let why = format!("must be a list, is {}", other.kind());
                Err(Fault::new(&self.path(field), why))
            }
        }
    }

    fn text(&self, field: &str) -> Result<&'a str, Fault> {
        match self.get(field) {
            None => Ok(""),
            Some(node) => text(node, &self.path(field)),
        }
    }
}

/// A text; `null` is the empty one.
fn text<'a>(node: &'a Node, at: &str) -> Result<&'a str, Fault> {
    match node {
        Node::Text(text) => Ok(text.as_str()),
        Node::Null => Ok(""),
        other => Err(Fault::new(
            at,
            format!("must be a text, is {}; put it in quotation marks", other.kind()),
        )),
    }
}

/// A key that slipped out of its place would stand as a name here, so long or odd ones are not shown.
fn unknown_field(name: &str, known: &[&str]) -> String {
    let harmless = name.len() <= 16 && name.chars().all(|c| c.is_ascii_alphabetic());
    let shown = if harmless { name } else { "(not shown)" };
    match known {
        [] => format!("unknown field {shown}; it has none"),
        known => format!("unknown field {shown}; known are {}", known.join(", ")),
    }
}
