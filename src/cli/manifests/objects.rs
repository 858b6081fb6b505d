//! The kinds that the network and admission legs look at, out of everything that was read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::schema::Schemas;
use super::{Document, Manifests, Problem, did_you_mean};
use crate::api::{
    AiSecurityPolicy, AiWorkload, ControlPlaneReport, EncryptionKeyRing, SecretEncryption, Waiver, names,
};
use crate::network::cluster_policy::{ClusterNetworkPolicy, GROUP, KIND, VERSION};
use crate::network::reach::UnmodelledPolicy;

/// Kinds of policies other than NetworkPolicy that are of a namespace when they name none.
const NAMESPACED: [&str; 4] = [
    "ApplicationNetworkPolicy",
    "CiliumNetworkPolicy",
    "MultiNetworkPolicy",
    "NetworkPolicy",
];

/// An object and the document it was read from.
#[derive(Debug)]
pub(in crate::cli) struct Sourced<T> {
    /// The object.
    pub object: T,
    /// Where.
    pub document: Document,
    /// Whether it is of what is judged, and not of what was read beside it.
    pub own: bool,
}

/// By namespace and name.
type Named<T> = BTreeMap<(String, String), Sourced<T>>;

/// Everything that a verdict depends on.
#[derive(Debug, Default)]
pub(in crate::cli) struct Objects {
    /// Namespaces.
    pub namespaces: Named<Namespace>,
    /// Workloads.
    pub workloads: Named<AiWorkload>,
    /// The policy; at most one.
    pub policies: Named<AiSecurityPolicy>,
    /// Waivers.
    pub waivers: Named<Waiver>,
    /// The settings of the encryption; at most one.
    pub encryptions: Named<SecretEncryption>,
    /// NetworkPolicies that people wrote.
    pub network_policies: Named<NetworkPolicy>,
    /// Policies of kinds that the analysis does not model.
    pub unmodelled: Vec<Sourced<UnmodelledPolicy>>,
    /// ClusterNetworkPolicies, by name.
    pub cluster_policies: BTreeMap<String, Sourced<ClusterNetworkPolicy>>,
    /// What could not be read, by file and line.
    pub problems: Vec<Problem>,
    /// Documents of other kinds, by kind.
    pub passed_over: BTreeMap<String, usize>,
}

impl Objects {
    /// Sorts the documents by kind. `home` is the namespace of objects that name none.
    pub(in crate::cli) fn of(manifests: Manifests, home: &str) -> Self {
        let mut objects = Self {
            problems: manifests.problems,
            ..Self::default()
        };
        let schemas = Schemas::builtin();
        for mut document in manifests.documents {
            if is_ours(document.kind().0) {
                document.root.drop_nulls();
            }
            let refused = check(&schemas, &document);
            if !refused.is_empty() {
                objects.problems.extend(refused);
            } else if let Err(problem) = objects.add(document, home) {
                objects.problems.push(problem);
            }
        }
        objects.problems.sort_by(|a, b| a.at.cmp(&b.at));
        objects
    }

    /// Takes from another input what this one lacks. What both hold is as it is here.
    pub(in crate::cli) fn complete(&mut self, beside: Self) {
        fn take<T>(into: &mut Named<T>, from: Named<T>) {
            for (key, found) in from {
                into.entry(key).or_insert(Sourced { own: false, ..found });
            }
        }
        take(&mut self.namespaces, beside.namespaces);
        take(&mut self.workloads, beside.workloads);
        take(&mut self.waivers, beside.waivers);
        take(&mut self.network_policies, beside.network_policies);
        if self.policies.is_empty() {
            take(&mut self.policies, beside.policies);
        }
        for (name, found) in beside.cluster_policies {
            let known = self.cluster_policies.entry(name);
            known.or_insert(Sourced { own: false, ..found });
        }
        let others = beside.unmodelled.into_iter();
        self.unmodelled
            .extend(others.map(|found| Sourced { own: false, ..found }));
        self.problems.extend(beside.problems);
    }

    /// The document of an object, where it was read from one, and whether it is of what is judged.
    pub(in crate::cli) fn source(&self, kind: &str, namespace: &str, name: &str) -> Option<(&Document, bool)> {
        fn found<'o, T>(all: &'o Named<T>, namespace: &str, name: &str) -> Option<(&'o Document, bool)> {
            let found = all.get(&(namespace.to_owned(), name.to_owned()))?;
            Some((&found.document, found.own))
        }
        match kind {
            "AiWorkload" => found(&self.workloads, namespace, name),
            "NetworkPolicy" => found(&self.network_policies, namespace, name),
            "Namespace" => found(&self.namespaces, "", name),
            _ => None,
        }
    }

    fn add(&mut self, mut document: Document, home: &str) -> Result<(), Problem> {
        let (version, kind) = document.kind();
        if !is_ours(version) {
            return match (version, kind) {
                ("v1", "Namespace") => keep(&mut self.namespaces, document, None),
                ("networking.k8s.io/v1", "NetworkPolicy") => keep(&mut self.network_policies, document, Some(home)),
                (version, KIND) if version.split_once('/').is_some_and(|(group, _)| group == GROUP) => {
                    self.keep_cluster_policy(document)
                }
                // Every kind of policy there is bears this name, whoever defined it; so do versions that nobody serves.
                (_, kind) if kind.ends_with("NetworkPolicy") => {
                    self.unmodelled.push(unmodelled(document, home));
                    Ok(())
                }
                _ => {
                    *self.passed_over.entry(kind.to_owned()).or_default() += 1;
                    Ok(())
                }
            };
        }
        match kind {
            "AiWorkload" => keep(&mut self.workloads, document, Some(home)),
            "AiSecurityPolicy" => {
                // An empty policy is the policy of an installation that nobody configured.
                document.root.or_empty("spec");
                keep(&mut self.policies, document, None)
            }
            "SecretEncryption" => {
                document.root.or_empty("spec");
                keep(&mut self.encryptions, document, None)
            }
            "EncryptionKeyRing" => document.read::<EncryptionKeyRing>().map(drop),
            "ControlPlaneReport" => document.read::<ControlPlaneReport>().map(drop),
            // `check` lets no other kind of ours by.
            _ => keep(&mut self.waivers, document, None),
        }
    }

    /// A ClusterNetworkPolicy; of the version that is modelled, because another may mean something else.
    fn keep_cluster_policy(&mut self, mut document: Document) -> Result<(), Problem> {
        document.root.drop_nulls();
        let (version, _) = document.kind();
        if version != format!("{GROUP}/{VERSION}") {
            return Err(Problem {
                at: document.locate("apiVersion"),
                message: format!("{version} {KIND} is not modelled; write it as {GROUP}/{VERSION}"),
            });
        }
        let metadata = document.root.get("metadata");
        let Some(name) = metadata.and_then(|metadata| metadata.text("name")).map(str::to_owned) else {
            return Err(Problem {
                at: document.locate("metadata"),
                message: "metadata.name is missing".to_owned(),
            });
        };
        let Some(spec) = document.root.get("spec") else {
            return Err(Problem {
                at: document.locate("spec"),
                message: "spec is missing".to_owned(),
            });
        };
        if let Some(first) = self.cluster_policies.get(&name) {
            return Err(Problem {
                at: document.locate("metadata.name"),
                message: format!("{KIND} {name} was already read from {}", first.document.locate("")),
            });
        }
        let spec = document.read_part(spec)?;
        let object = ClusterNetworkPolicy {
            name: name.clone(),
            spec: Ok(spec),
        };
        let own = true;
        self.cluster_policies.insert(name, Sourced { object, document, own });
        Ok(())
    }

    /// The policy, where there is one.
    pub(in crate::cli) fn policy(&self) -> Option<&Sourced<AiSecurityPolicy>> {
        self.policies.values().next()
    }
}

/// Whether a version is of our group, served or not.
fn is_ours(version: &str) -> bool {
    version == names::GROUP
        || version
            .strip_prefix(names::GROUP)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What the API server would refuse of a kind of ours.
fn check(schemas: &Schemas, document: &Document) -> Vec<Problem> {
    let (version, kind) = document.kind();
    if !is_ours(version) {
        return Vec::new();
    }
    let schema = schemas
        .get(kind)
        .filter(|_| version == format!("{}/{}", names::GROUP, names::VERSION));
    let Some(schema) = schema else {
        let guess = did_you_mean(kind, schemas.kinds());
        return vec![Problem {
            at: document.locate("kind"),
            message: format!("{version} {kind} is no kind of this version{guess}"),
        }];
    };
    let faults = schema.check(&document.root.json()).into_iter();
    faults
        .map(|fault| Problem {
            at: document.locate(&fault.field),
            message: fault.message,
        })
        .collect()
}

/// Two documents of one object contradict each other: the first counts, and the second is a problem.
fn keep<T>(into: &mut Named<T>, document: Document, home: Option<&str>) -> Result<(), Problem>
where
    T: Resource<DynamicType = ()> + DeserializeOwned + Serialize,
{
    let mut object: T = document.read()?;
    let name = object.name_any();
    if name.is_empty() {
        let message = "metadata.name is missing".to_owned();
        return Err(Problem {
            at: document.locate("metadata"),
            message,
        });
    }
    if let Some(home) = home {
        object.meta_mut().namespace.get_or_insert_with(|| home.to_owned());
    }
    // Of our own kinds the schema knows every field.
    let unknown = (!is_ours(document.kind().0)).then(|| unknown_field(&document, &object));
    if let Some(unknown) = unknown.flatten() {
        return Err(unknown);
    }
    let key = (object.namespace().unwrap_or_default(), name);
    if let Some(first) = into.get(&key) {
        let message = format!(
            "{} {} was already read from {}",
            T::kind(&()),
            key.1,
            first.document.locate("")
        );
        return Err(Problem {
            at: document.locate("metadata.name"),
            message,
        });
    }
    into.insert(
        key,
        Sourced {
            object,
            document,
            own: true,
        },
    );
    Ok(())
}

/// A policy of another kind, as the controller names it: by kind and group. One that names no namespace may be of the
/// whole cluster.
fn unmodelled(document: Document, home: &str) -> Sourced<UnmodelledPolicy> {
    let (version, kind) = document.kind();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let namespaced = NAMESPACED.contains(&kind);
    let metadata = document.root.get("metadata");
    let namespace = metadata.and_then(|metadata| metadata.text("namespace"));
    let object = UnmodelledPolicy {
        namespace: namespace
            .map(str::to_owned)
            .or_else(|| namespaced.then(|| home.to_owned())),
        kind: format!("{kind}.{group}"),
    };
    Sourced {
        object,
        document,
        own: true,
    }
}

/// A field that the API server would drop without a word, unless it is asked not to: what was meant by it would count
/// for nothing. Kubernetes' own types leave out, when they are written, whatever they did not know when they were read.
fn unknown_field<T: Serialize>(document: &Document, object: &T) -> Option<Problem> {
    fn first(written: &Value, known: &Value, path: &str) -> Option<(String, String)> {
        match (written, known) {
            (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                let here = format!("{path}{dot}{key}");
                match known.get(key) {
                    Some(known) => first(value, known, &here),
                    None if value.is_null() => None,
                    None => Some((here, key.clone())),
                }
            }),
            (Value::Array(written), Value::Array(known)) => {
                let mut pairs = written.iter().zip(known).enumerate();
                pairs.find_map(|(index, (written, known))| first(written, known, &format!("{path}[{index}]")))
            }
            _ => None,
        }
    }
    let mut written = document.root.json();
    // Some versions wrote it; what it says is nobody's wish.
    if let Value::Object(map) = &mut written {
        map.remove("status");
    }
    let known = serde_json::to_value(object).ok()?;
    let (field, name) = first(&written, &known, "")?;
    Some(Problem {
        at: document.locate(&field),
        message: format!("unknown field `{name}`"),
    })
}
