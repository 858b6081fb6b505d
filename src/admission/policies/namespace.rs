//! `cloison-namespace`: who says which stage a namespace has and what Kubernetes itself refuses there, and who writes the
//! seal.
//!
//! It is scoped by an objectSelector, which matches the old **or** the new labels. A namespaceSelector sees only the new
//! ones: a patch that drops the stage label and changes something else would pass by it.

use super::{USER, Written, may};
use crate::admission::cel::{entries, list, text};
use crate::admission::clause::{Clause, denied};
use crate::admission::objects::{Draft, always, requirement, resources};
use crate::admission::operator::Operator;
use crate::api::names;
use crate::api::stage::{Mode, NamespaceStage};
use crate::compliance::id::{CLU_04, NET_02, WKL_01, WKL_04};

/// The policy's name.
pub const NAME: &str = "cloison-namespace";

/// The least that Kubernetes itself asks of pods; without it the default of the cluster, which no policy can see.
const LEVEL_LABEL: &str = "pod-security.kubernetes.io/enforce";
/// The version of Kubernetes whose levels are meant: older ones ask for less.
const VERSION_LABEL: &str = "pod-security.kubernetes.io/enforce-version";
/// Where claims may ask for access to devices that others use; before 1.34 it was called otherwise.
const ADMIN_ACCESS_LABELS: [&str; 2] = ["resource.kubernetes.io/admin-access", "resource.k8s.io/admin-access"];

pub(in crate::admission) fn write(operator: &Operator, hash: &str) -> Written {
    let draft = Draft {
        name: NAME,
        objects: vec![requirement(names::STAGE_LABEL, "Exists", &[])],
        resources: vec![resources(
            "",
            "v1",
            // The two subresources can carry labels as well.
            &["namespaces", "namespaces/finalize", "namespaces/status"],
            &["CREATE", "UPDATE"],
        )],
        named: variables(operator),
        passes: format!(
            "never.size() == 0 && (claims.size() == 0 || {})",
            may("assign", "stages")
        ),
        problems: "(never.size() > 0 ? never : claims)".to_owned(),
        ..Draft::default()
    };
    draft.written(hash, always(NAME, hash))
}

fn variables(operator: &Operator) -> Vec<(&'static str, String)> {
    let new = |map: &str, key: &str| entries("object", &format!("metadata.{map}"), key);
    let old = |map: &str, key: &str| entries("oldObject", &format!("metadata.{map}"), key);
    vec![
        ("operator", format!("{USER} == {}", text(&operator.user))),
        ("stage", new("labels", names::STAGE_LABEL)),
        ("stageWas", old("labels", names::STAGE_LABEL)),
        ("mode", new("labels", names::MODE_LABEL)),
        ("modeWas", old("labels", names::MODE_LABEL)),
        ("level", new("labels", LEVEL_LABEL)),
        ("levelWas", old("labels", LEVEL_LABEL)),
        ("version", new("labels", VERSION_LABEL)),
        ("versionWas", old("labels", VERSION_LABEL)),
        ("sealed", new("annotations", names::SEALED_ANNOTATION)),
        ("sealedWas", old("annotations", names::SEALED_ANNOTATION)),
        ("open", new("annotations", names::OPEN_ANNOTATION)),
        ("openWas", old("annotations", names::OPEN_ANNOTATION)),
        ("joins", "stage.size() > 0 && stageWas.size() == 0".to_owned()),
        ("claims", denied(&claims())),
        ("never", denied(&never(operator))),
    ]
}

/// What a holder of `assign stages` may do.
fn claims() -> Vec<Clause> {
    let changed = |rule: &'static str, is: &str, key: &str| {
        Clause::always(
            NET_02.rule(rule),
            format!("{is} != {is}Was"),
            text(&format!("you may not set, change or remove the label {key}")),
        )
    };
    // Without its seal a namespace lets no new pod in, so taking it off loosens nothing.
    let removed = |is: &str, key: &str| {
        Clause::always(
            CLU_04.rule("annotation"),
            format!("!operator && {is}Was.size() > 0 && {is}.size() == 0"),
            text(&format!("you may not remove the annotation {key}")),
        )
    };
    let mut claims = vec![
        changed("stage-label", "stage", names::STAGE_LABEL),
        changed("mode-label", "mode", names::MODE_LABEL),
        lowered(),
        pinned(),
        removed("sealed", names::SEALED_ANNOTATION),
        removed("open", names::OPEN_ANNOTATION),
    ];
    claims.extend(ADMIN_ACCESS_LABELS.map(opened));
    claims
}

/// The level is less than it was: raising it is free, and so is a first one that is the highest; any other may be less than the
/// default of the cluster. An unknown word counts for the least where it is new; where it is old, Kubernetes holds pods to
/// `restricted`.
fn lowered() -> Clause {
    Clause::always(
        WKL_01.rule("pod-security-label"),
        "levelWas.exists(w, w != 'privileged' && !level.exists(l, l == 'restricted' || l == w)) || \
         levelWas.size() == 0 && level.exists(l, l != 'restricted')",
        text(&format!(
            "you may not lower or remove the label {LEVEL_LABEL}, nor begin with less than restricted"
        )),
    )
}

/// The levels are those of some version, and were not.
fn pinned() -> Clause {
    Clause::always(
        WKL_01.rule("pod-security-label"),
        "version != versionWas && version.exists(v, v != 'latest')",
        text(&format!(
            "you may not set the label {VERSION_LABEL} to other than latest"
        )),
    )
}

/// Admin access is on, and was not.
fn opened(key: &str) -> Clause {
    let of = |root: &str| entries(root, "metadata.labels", key);
    Clause::always(
        WKL_04.rule("admin-access-label"),
        format!("{} == ['true'] && {} != ['true']", of("object"), of("oldObject")),
        text(&format!("you may not set the label {key}")),
    )
}

/// What nobody but the operator may do, and what nobody may do.
fn never(operator: &Operator) -> Vec<Clause> {
    let stages = list(NamespaceStage::ALL.map(NamespaceStage::as_str));
    let modes = list(Mode::ALL.map(Mode::label));
    let reserved = list(operator.reserved_namespaces());
    let unknown = |rule: &'static str, is: &str, known: &str, key: &str| {
        Clause::always(
            NET_02.rule(rule),
            format!("{is} != {is}Was && {is}.exists(v, !(v in {known}))"),
            format!("{} + {is}[0] + '\"'", text(&format!("label {key} is \""))),
        )
    };
    let written = |is: &str, key: &str| {
        Clause::always(
            CLU_04.rule("annotation"),
            format!("!operator && {is}.size() > 0 && {is} != {is}Was"),
            text(&format!("the annotation {key} is the operator's")),
        )
    };
    // An annotation written while the namespace had no stage, and so no guard, or left over from an earlier life: with
    // the stage it would open the gate before the deny is there.
    let planted = |is: &str, key: &str| {
        Clause::always(
            CLU_04.rule("annotation"),
            format!(
                "!operator && joins && {is}.size() > 0 && {is} == \
                 {is}Was"
            ),
            text(&format!(
                "the annotation {key} is older than the stage; remove it in the same request"
            )),
        )
    };
    vec![
        unknown("unknown-stage", "stage", &stages, names::STAGE_LABEL),
        unknown("mode-label", "mode", &modes, names::MODE_LABEL),
        Clause::always(
            NET_02.rule("stage-label"),
            format!("joins && object.metadata.name in {reserved}"),
            "'the namespace ' + object.metadata.name + ' cannot have a stage'",
        ),
        written("sealed", names::SEALED_ANNOTATION),
        written("open", names::OPEN_ANNOTATION),
        planted("sealed", names::SEALED_ANNOTATION),
        planted("open", names::OPEN_ANNOTATION),
        Clause::always(
            CLU_04.rule("annotation"),
            "!operator && stageWas.size() > 0 && stage.size() > 0 && stage != \
             stageWas && sealed.exists(s, s == dyn(object).metadata.uid + '/' + \
             stage[0])",
            text(&format!(
                "the annotation {} already claims this stage; remove it in the same request",
                names::SEALED_ANNOTATION
            )),
        ),
    ]
}
