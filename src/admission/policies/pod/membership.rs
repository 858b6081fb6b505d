//! The seal of the namespace, the workload of the pod, and its gates.
//!
//! In audit and warn the controller seals nothing, so there the seal is not asked for, and membership only where the
//! controller has written the open list.

use crate::admission::cel::{entry, text};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::api::names;
use crate::compliance::id::{NET_01, WKL_02};

pub(super) fn variables() -> Vec<(&'static str, String)> {
    let annotations = "namespaceObject.metadata.annotations";
    vec![
        (
            "sealed",
            format!(
                // `namespaceObject.metadata.uid` does not compile: the declared type spells it UID.
                "{} == dyn(namespaceObject).metadata.uid + '/' + stage",
                entry(annotations, names::SEALED_ANNOTATION)
            ),
        ),
        (
            "open",
            format!(
                // Without the filter an empty annotation is a list of one empty name, and an empty label is in it.
                "{}.split(' ').filter(e, e != '')",
                entry(annotations, names::OPEN_ANNOTATION)
            ),
        ),
        (
            "gates",
            format!(
                "enforces ? sealed : (has({annotations}) && {} in {annotations})",
                text(names::OPEN_ANNOTATION)
            ),
        ),
        // The workload this request makes the pod join: on an update only where it had none.
        (
            "joins",
            format!(
                "!gates ? [] : creates ? (is.size() == 0 ? [{}] : is) : (was.size() == 0 ? is : [])",
                text(names::DEFAULT_WORKLOAD)
            ),
        ),
    ]
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let exists = "open.exists(e, e == w || e.startsWith(w + ':'))";
    let when = |condition: &str, what: String| Found::When(condition.to_owned(), what);
    vec![
        Clause::new(
            NET_01.rule("seal"),
            modes,
            when(
                "creates && enforces && !sealed",
                "'namespace ' + request.namespace + ' is being sealed'".to_owned(),
            ),
        ),
        Clause::new(
            WKL_02.rule("unknown"),
            modes,
            Found::Each(format!(
                "joins.filter(w, !{exists}).map(w, 'no AiWorkload \"' + w + '\" in ' + \
                 request.namespace)"
            )),
        ),
        Clause::new(
            WKL_02.rule("gated"),
            modes,
            Found::Each(
                "joins.filter(w, !(w in open)).map(w, open.filter(e, \
                 e.startsWith(w + ':')).map(e, 'AiWorkload \"' + w + '\" waits for ' + e.split(':')[1])).filter(l, \
                 l.size() > 0).map(l, l[0])"
                    .to_owned(),
            ),
        ),
        Clause::new(
            WKL_02.rule("frozen"),
            modes,
            when(
                "was.size() > 0 && is != was",
                format!(
                    "'label {} is \"' + was[0] + '\" and cannot change'",
                    names::WORKLOAD_LABEL
                ),
            ),
        ),
    ]
}
