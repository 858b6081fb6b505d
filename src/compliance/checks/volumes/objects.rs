//! What is kept of classes, claims and volumes: of tens of thousands nothing else is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;

use super::drivers::asked;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// A StorageClass.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = StorageClass)]
#[serde(from = "StorageClass")]
pub struct Class {
    metadata: ObjectMeta,
    pub(super) says: ClassSays,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = PersistentVolumeClaim)]
#[serde(from = "PersistentVolumeClaim")]
pub struct Claim {
    metadata: ObjectMeta,
    pub(super) says: ClaimSays,
}

/// A PersistentVolume.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = PersistentVolume)]
#[serde(from = "PersistentVolume")]
pub struct Volume {
    metadata: ObjectMeta,
    pub(super) says: VolumeSays,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClassSays {
    pub driver: String,
    /// The parameters that matter.
    pub parameters: BTreeMap<String, String>,
    pub default: bool,
    pub created: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimSays {
    pub class: Option<String>,
    pub volume: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeSays {
    pub driver: Option<String>,
    /// The attributes that matter.
    pub attributes: BTreeMap<String, String>,
    pub class: String,
    /// Where its data is; `None` where that is not known beyond one node.
    pub place: Option<Box<str>>,
    /// Namespace and name.
    pub claim: Option<(String, String)>,
    pub provisioned_by: Option<String>,
    pub created: Option<Timestamp>,
}

impl From<StorageClass> for Class {
    fn from(class: StorageClass) -> Self {
        let says = ClassSays {
            parameters: asked(class.parameters.as_ref()),
            default: annotation(&class.metadata, DEFAULT_CLASS).is_some_and(|mark| mark == "true"),
            created: created(&class.metadata),
            driver: class.provisioner,
        };
        let metadata = identity(class.metadata);
        Self { metadata, says }
    }
}

impl From<PersistentVolumeClaim> for Claim {
    fn from(claim: PersistentVolumeClaim) -> Self {
        let spec = claim.spec.unwrap_or_default();
        let says = ClaimSays {
            class: spec.storage_class_name,
            volume: spec.volume_name.filter(|name| !name.is_empty()),
        };
        let metadata = identity(claim.metadata);
        Self { metadata, says }
    }
}

impl From<PersistentVolume> for Volume {
    fn from(volume: PersistentVolume) -> Self {
        let spec = volume.spec.unwrap_or_default();
        let place = place(&spec);
        let (driver, attributes) = spec.csi.map(|csi| (csi.driver, csi.volume_attributes)).unzip();
        let says = VolumeSays {
            driver,
            attributes: asked(attributes.flatten().as_ref()),
            class: spec.storage_class_name.unwrap_or_default(),
            place: place.map(String::into_boxed_str),
            claim: spec.claim_ref.and_then(|claim| Some((claim.namespace?, claim.name?))),
            provisioned_by: annotation(&volume.metadata, PROVISIONED_BY).cloned(),
            created: created(&volume.metadata),
        };
        let metadata = identity(volume.metadata);
        Self { metadata, says }
    }
}

/// The storage that a volume leads to, the same for all that lead there. A directory inside another is another place here.
fn place(spec: &PersistentVolumeSpec) -> Option<String> {
    let csi = spec
        .csi
        .as_ref()
        .map(|it| format!("csi {} {}", it.driver, it.volume_handle));
    let nfs = spec.nfs.as_ref().map(|it| {
        let path = it.path.trim_end_matches('/');
        format!("nfs {} {path}", it.server.to_lowercase())
    });
    let iscsi = spec.iscsi.as_ref().map(|it| format!("iscsi {} {}", it.iqn, it.lun));
    let fc = spec
        .fc
        .as_ref()
        .map(|it| format!("fc {:?} {:?} {:?}", it.wwids, it.target_wwns, it.lun));
    csi.or(nfs).or(iscsi).or(fc)
}

fn annotation<'m>(metadata: &'m ObjectMeta, key: &str) -> Option<&'m String> {
    metadata.annotations.as_ref()?.get(key)
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Which object it is, and which version of it.
fn identity(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        ..ObjectMeta::default()
    }
}

/// The storage of a cluster, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub(super) classes: BTreeMap<String, Arc<Class>>,
    pub(super) claims: BTreeMap<(String, String), Arc<Claim>>,
    pub(super) volumes: BTreeMap<String, Arc<Volume>>,
}

/// The namespaces whose volumes may have another word than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A class changed, which any claim may name.
    Everywhere,
    /// Claims of these changed, or the volumes bound to them.
    In(BTreeSet<String>),
}

impl Changed {
    /// Whether a namespace is one of them.
    pub fn concerns(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(names) => names.contains(namespace),
        }
    }
}

impl Storage {
    /// Of classes, claims and volumes.
    pub fn new(
        classes: impl IntoIterator<Item = Arc<Class>>,
        claims: impl IntoIterator<Item = Arc<Claim>>,
        volumes: impl IntoIterator<Item = Arc<Volume>>,
    ) -> Self {
        let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
        let of_claim = |claim: &Claim| {
            let namespace = claim.metadata.namespace.clone().unwrap_or_default();
            (namespace, name(&claim.metadata))
        };
        Self {
            classes: classes
                .into_iter()
                .map(|class| (name(&class.metadata), class))
                .collect(),
            claims: claims.into_iter().map(|claim| (of_claim(&claim), claim)).collect(),
            volumes: volumes
                .into_iter()
                .map(|volume| (name(&volume.metadata), volume))
                .collect(),
        }
    }

    /// The same with claims that name no volume bound to the one that is reserved for them, as a cluster will bind them.
    #[must_use]
    pub fn reserved(&self) -> Self {
        let reserved = self.volumes.iter();
        let reserved = reserved.filter_map(|(name, volume)| Some((volume.says.claim.as_ref()?, name)));
        let reserved: BTreeMap<_, _> = reserved.collect();
        let mut bound = self.clone();
        for (key, claim) in &mut bound.claims {
            if claim.says.volume.is_none() {
                Arc::make_mut(claim).says.volume = reserved.get(key).map(|name| (*name).clone());
            }
        }
        bound
    }

    /// The volume of a claim, and where its data is. Nothing where they are not bound to each other, or the place is not known.
    pub(in crate::compliance) fn place(&self, namespace: &str, claim: &str) -> Option<(&str, &str)> {
        let key = (namespace.to_owned(), claim.to_owned());
        let bound = self.claims.get(&key)?.says.volume.as_ref()?;
        let (name, volume) = self.volumes.get_key_value(bound)?;
        let says = Some(&volume.says).filter(|says| says.claim.as_ref() == Some(&key))?;
        Some((name, says.place.as_deref()?))
    }

    /// What changed from this to another.
    pub fn changed_since(&self, now: &Self) -> Changed {
        let classes = differing(&self.classes, &now.classes, |class| &class.says);
        if classes.count() > 0 {
            return Changed::Everywhere;
        }
        let claims = differing(&self.claims, &now.claims, |claim| &claim.says);
        let volumes = differing(&self.volumes, &now.volumes, |volume| &volume.says);
        let bound = volumes.flat_map(|name| [self, now].map(|storage| storage.volumes.get(name)?.says.claim.as_ref()));
        let namespaces = claims.chain(bound.flatten()).map(|(namespace, _)| namespace.clone());
        Changed::In(namespaces.collect())
    }
}

/// The keys under which two maps do not say the same.
fn differing<'m, K: Ord, V, S: PartialEq + 'm>(
    before: &'m BTreeMap<K, Arc<V>>,
    now: &'m BTreeMap<K, Arc<V>>,
    says: fn(&V) -> &S,
) -> impl Iterator<Item = &'m K> {
    let keys: BTreeSet<&K> = before.keys().chain(now.keys()).collect();
    let said = move |map: &'m BTreeMap<K, Arc<V>>, key: &K| map.get(key).map(|object| says(object));
    keys.into_iter().filter(move |key| said(before, key) != said(now, key))
}
