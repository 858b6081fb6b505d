//! `cloison-store`: what tenants ask of storage and of devices. Claims of volumes, snapshots, and claims of devices: each can
//! bring what was written, or what computes, in another stage.
//!
//! Whose volume or snapshot a name means CEL cannot see. So nobody names one but whoever may make such an object in the
//! first place, which no tenant may: the storage of the whole cluster is open to them anyway. KServe's cache of models and
//! tools that restore backups hold that right; the controller that binds claims is named besides.
//!
//! What an update cannot change is asked of new objects alone: the data source of a volume claim, and all that a claim of
//! devices asks for. What was there before an update is nobody's fault.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use super::{USER, Written};
use crate::admission::cel::{entry, field, list, text};
use crate::admission::clause::{Clause, Found, denied, observed};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, moded, requirement, resources};
use crate::admission::operator::Operator;
use crate::admission::waived::Waived;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::NamespaceStage;
use crate::compliance::id::{DAT_07, ENC_02, WKL_04};

/// The policy's name.
pub const NAME: &str = "cloison-store";

/// The group of snapshots. Where its CRDs are not installed, nothing of it can be asked for.
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
/// The controller that binds claims to volumes, with and without an account of its own. It makes no claims: those it would be
/// asked to make by a tenant's template come from other controllers.
const BINDERS: [&str; 2] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:persistent-volume-binder",
];
/// The older place of a claim's StorageClass. Kubernetes reads it before `spec.storageClassName`.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// How drivers let several containers take turns on one device.
const SHARED: [&str; 2] = ["MPS", "TimeSlicing"];

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    hash: &str,
) -> Written {
    let clauses = Clauses::new(spec, modes);
    let mut variables = variables();
    variables.extend([
        ("volumesFound", denied(&clauses.volumes)),
        ("contentsFound", denied(&clauses.contents)),
        ("othersFound", denied(&clauses.others)),
        ("observed", observed(&clauses.all())),
    ]);
    variables.extend(waived.but_for(
        &[
            ("volumesFound", "volumes"),
            ("contentsFound", "contents"),
            ("othersFound", "others"),
        ],
        None,
    ));
    let both = ["CREATE", "UPDATE"];
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str)),
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![
            resources("", "v1", &["persistentvolumeclaims"], &both),
            resources(SNAPSHOTS, "v1", &["volumesnapshots"], &both),
            // 1.33 serves only the two older versions. An object is judged in the version it is sent in.
            NamedRuleWithOperations {
                api_versions: Some(["v1", "v1beta1", "v1beta2"].map(str::to_owned).into()),
                ..resources(
                    "resource.k8s.io",
                    "v1",
                    &["resourceclaims", "resourceclaimtemplates"],
                    &["CREATE"],
                )
            },
        ],
        named: variables,
        passes: format!(
            "others.size() == 0 && (volumes.size() == 0 || !creates && {USER} in {} || {}) && (contents.size() == 0 || {})",
            list(BINDERS),
            may_create("", "persistentvolumes"),
            may_create(SNAPSHOTS, "volumesnapshotcontents"),
        ),
        // Messages cannot ask who may do what. Beside another problem these two are left out: they may be none.
        problems: "(others.size() > 0 ? others : volumes + contents)".to_owned(),
        observed: Some("observed".to_owned()),
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// What Waivers may be for.
pub(super) fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    Clauses::new(spec, modes).all()
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(spec: &AiSecurityPolicySpec, modes: &Modes) -> bool {
    Clauses::new(spec, modes).all().iter().any(Clause::refuses)
}

fn may_create(group: &str, resource: &str) -> String {
    format!(
        "authorizer.group({}).resource({}).check('create').allowed()",
        text(group),
        text(resource)
    )
}

/// The clauses, by who may pass them.
struct Clauses {
    /// Who may create PersistentVolumes, and their controller.
    volumes: Vec<Clause>,
    /// Who may create VolumeSnapshotContents.
    contents: Vec<Clause>,
    /// Nobody.
    others: Vec<Clause>,
}

impl Clauses {
    fn new(spec: &AiSecurityPolicySpec, modes: &Modes) -> Self {
        let of_data = |rule: &'static str, found: Found| Clause::new(DAT_07.rule(rule), modes, found);
        let mut others = vec![
            of_data("data-source", foreign_source()),
            of_data("source-kind", strange_source()),
        ];
        others.extend(storage_class(spec).map(|found| Clause::new(ENC_02.rule("storage-class"), modes, found)));
        others.push(Clause::new(WKL_04.rule("admin-access"), modes, admin_access()));
        others.push(Clause::new(WKL_04.rule("shared-request"), modes, shared()));
        Self {
            volumes: vec![of_data("volume-name", volume_name())],
            contents: vec![of_data("snapshot-content", snapshot_content())],
            others,
        }
    }

    fn all(&self) -> Vec<Clause> {
        [&self.volumes, &self.contents, &self.others]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

fn variables() -> Vec<(&'static str, String)> {
    let of = |root: &str| {
        format!(
            "{root} == null ? {{}} : {}",
            field(&format!("dyn({root})"), "spec", "{}")
        )
    };
    let class = |root: &str| {
        let old = entry(&format!("dyn({root}).metadata.annotations"), CLASS_ANNOTATION);
        let own = field(&format!("dyn({root})"), "spec.storageClassName", "''");
        format!("({old} != '' ? {old} : {own})")
    };
    vec![
        ("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL)),
        ("kind", "request.resource.resource".to_owned()),
        ("creates", "request.operation == 'CREATE'".to_owned()),
        ("spec", of("object")),
        ("before", of("oldObject")),
        ("isClaim", "kind == 'persistentvolumeclaims'".to_owned()),
        // The class of a volume claim, where it is new; the controller gives one to a claim that has none.
        (
            "classes",
            format!(
                "isClaim ? [dyn({new})].filter(c, creates || c != {old}) : []",
                new = class("object"),
                old = class("oldObject")
            ),
        ),
        (
            "sources",
            "isClaim && creates ? (has(spec.dataSource) ? [spec.dataSource] : []) + (has(spec.dataSourceRef) ? \
             [spec.dataSourceRef] : []) : []"
                .to_owned(),
        ),
        // What a claim of devices, or the template of one, asks for.
        (
            "deviceSpec",
            format!(
                "kind == 'resourceclaimtemplates' ? {} : kind == 'resourceclaims' ? spec : {{}}",
                field("spec", "spec", "{}")
            ),
        ),
    ]
}

/// Of a claim, what it is and what it is called.
const CLAIM: &str = "'PersistentVolumeClaim \"' + dyn(object).metadata.name + '\"'";

fn volume_name() -> Found {
    let name = |root: &str| field(root, "volumeName", "''");
    Found::When(
        format!(
            "isClaim && {new} != '' && {new} != {old}",
            new = name("spec"),
            old = name("before")
        ),
        format!("{CLAIM} + ' names PersistentVolume \"' + spec.volumeName + '\" itself'"),
    )
}

fn snapshot_content() -> Found {
    let content = |root: &str| field(root, "source.volumeSnapshotContentName", "''");
    Found::When(
        format!(
            "kind == 'volumesnapshots' && {new} != '' && {new} != {old}",
            new = content("spec"),
            old = content("before")
        ),
        "'VolumeSnapshot \"' + dyn(object).metadata.name + '\" names VolumeSnapshotContent \"' + \
         spec.source.volumeSnapshotContentName + '\" itself'"
            .to_owned(),
    )
}

fn foreign_source() -> Found {
    let namespace = field("s", "namespace", "request.namespace");
    Found::When(
        format!("sources.exists(s, {namespace} != request.namespace)"),
        format!(
            "{CLAIM} + ' is filled from namespace ' + sources.filter(s, {namespace} != request.namespace).map(s, \
             string(s.namespace))[0]"
        ),
    )
}

fn strange_source() -> Found {
    // The API server shows an absent group as null here.
    let core = "(!has(s.apiGroup) || s.apiGroup == null || s.apiGroup == '')";
    let snapshots = format!("has(s.apiGroup) && s.apiGroup == '{SNAPSHOTS}'");
    let strange =
        format!("!({core} && s.kind == 'PersistentVolumeClaim' || {snapshots} && s.kind == 'VolumeSnapshot')");
    Found::When(
        format!("sources.exists(s, {strange})"),
        format!(
            "{CLAIM} + ' is filled from a ' + sources.filter(s, {strange}).map(s, string(s.kind))[0] + ', and where that \
             takes its data from is not known'"
        ),
    )
}

/// Only where the policy lists classes. What another class asks of its driver CEL cannot see.
fn storage_class(spec: &AiSecurityPolicySpec) -> Option<Found> {
    let listed = spec.secrets.as_ref()?.encrypted_storage_classes.as_deref()?;
    let listed = (!listed.is_empty()).then(|| list(listed.iter().map(|name| name.0.as_str())))?;
    Some(Found::When(
        format!("classes.exists(c, !(c in {listed}))"),
        format!(
            "{CLAIM} + (classes[0] == '' ? ' names no StorageClass' : ' uses StorageClass \"' + classes[0] + '\", which is \
             not listed as encrypted')"
        ),
    ))
}

/// What a claim of devices, or a template, is called.
const DEVICES: &str = "(kind == 'resourceclaims' ? 'ResourceClaim' : 'ResourceClaimTemplate') + ' \"' + \
                       dyn(object).metadata.name + '\"'";

/// In v1beta1 a request has the field itself, since v1beta2 under `exactly`.
fn admin_access() -> Found {
    Found::When(
        format!(
            "{}.exists(r, {} || {})",
            field("deviceSpec", "devices.requests", "[]"),
            field("r", "exactly.adminAccess", "false"),
            field("r", "adminAccess", "false")
        ),
        format!("{DEVICES} + ' asks for admin access'"),
    )
}

/// The parameters are the driver's, and may have any shape.
fn shared() -> Found {
    let configs = field("deviceSpec", "devices.config", "[]");
    let sharing = "f.opaque.parameters.sharing";
    let takes_turns = format!(
        "has(f.opaque) && has(f.opaque.parameters) && type(f.opaque.parameters) == map && has({sharing}) && \
         type({sharing}) == map && has({sharing}.strategy) && {sharing}.strategy in {}",
        list(SHARED)
    );
    Found::When(
        format!("{configs}.exists(f, {takes_turns})"),
        format!(
            "{DEVICES} + ' shares devices by ' + {configs}.filter(f, {takes_turns}).map(f, string({sharing}.strategy))[0]"
        ),
    )
}
