//! `cloison-crd`: what an `AiWorkload` declares.

use super::Written;
use crate::admission::cel::{entry, field, list};
use crate::admission::clause::{Clause, Found, denied, observed};
use crate::admission::modes::Modes;
use crate::admission::objects::{Draft, moded, resources};
use crate::admission::uses::{INTIMATE_IMAGERY, PROHIBITED_USES, RESTRICTED_USES, Use};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::text::CamelCase;
use crate::compliance::id::{DAT_01, NET_02};

/// The policy's name.
pub const NAME: &str = "cloison-crd";

pub(in crate::admission) fn write(spec: &AiSecurityPolicySpec, modes: &Modes, hash: &str) -> Written {
    let clauses = clauses(spec, modes);
    let uses = field("dyn(object)", "spec.uses", "[]");
    let former = field("dyn(oldObject)", "spec.uses", "[]");
    let draft = Draft {
        name: NAME,
        resources: vec![resources(
            names::GROUP,
            names::VERSION,
            &["aiworkloads"],
            &["CREATE", "UPDATE"],
        )],
        named: vec![
            ("creates", "request.operation == 'CREATE'".to_owned()),
            (
                "namespaceStage",
                entry("namespaceObject.metadata.labels", names::STAGE_LABEL),
            ),
            (
                "declared",
                format!("{}.lowerAscii()", field("dyn(object)", "spec.stage", "''")),
            ),
            ("stage", "namespaceStage == '' ? declared : namespaceStage".to_owned()),
            // An update is judged by what it adds: one that was declared in audit can still be edited.
            (
                "newUses",
                format!("{uses}.filter(u, oldObject == null || !(u in {former}))"),
            ),
            ("problems", denied(&clauses)),
            ("observed", observed(&clauses)),
        ],
        passes: "problems.size() == 0".to_owned(),
        problems: "problems".to_owned(),
        observed: Some("observed".to_owned()),
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(spec: &AiSecurityPolicySpec, modes: &Modes) -> bool {
    clauses(spec, modes).iter().any(Clause::refuses)
}

/// The policy's own list, or the law's.
fn listed(own: Option<&Vec<CamelCase>>, law: &[Use]) -> Vec<String> {
    let mut uses: Vec<String> = match own {
        Some(own) => own.iter().map(|name| name.0.clone()).collect(),
        None => law.iter().map(|entry| entry.name.to_owned()).collect(),
    };
    uses.sort_unstable();
    uses.dedup();
    uses
}

fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    let prohibited = listed(spec.prohibited_uses.as_ref(), PROHIBITED_USES);
    let (imagery, prohibited): (Vec<String>, Vec<String>) = prohibited
        .into_iter()
        .partition(|name| INTIMATE_IMAGERY.contains(&name.as_str()));
    let restricted = listed(spec.restricted_uses.as_ref(), RESTRICTED_USES);
    let uses = |names: &[String], before: &str| {
        let listed = format!("u in {}", list(names));
        Found::among("newUses", "u", &listed, before, "string(u)")
    };
    vec![
        Clause::new(
            NET_02.rule("stage-mismatch"),
            modes,
            Found::When(
                "creates && namespaceStage != '' && namespaceStage != declared".to_owned(),
                "'spec.stage is ' + dyn(object).spec.stage + ' and the namespace has stage ' + namespaceStage"
                    .to_owned(),
            ),
        ),
        Clause::new(DAT_01.rule("prohibited"), modes, uses(&prohibited, "prohibited use: ")),
        Clause::new(
            DAT_01.rule("intimate-imagery"),
            modes,
            uses(&imagery, "prohibited use: "),
        ),
        // The gate is the open list: pods wait for the assessment, the declaration itself is welcome.
        Clause::new(DAT_01.rule("restricted"), modes, uses(&restricted, "restricted use: ")).reported(),
    ]
}
