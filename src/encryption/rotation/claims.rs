//! What is claimed of the API servers and of the keys: one small check for each condition.

use std::collections::BTreeSet;

use super::at_rest::{absent, with_next};
use super::blocked::Blocked;
use super::observation::{Configuration, Observation, RingKey, Under};
use super::told::types;
use super::view::{Seen, View};
use crate::api::conditions::{Truth, Verdict};
use crate::api::encryption::Provider;

/// `Converged`, `Escrowed`, `IdentityRemoved`, `RelocationProtected`. Total and deterministic.
pub fn claims(seen: &Observation) -> [Verdict; 4] {
    let view = View::of(seen);
    [
        converged(&view),
        escrowed(&view),
        identity_removed(&view),
        relocation_protected(&view),
    ]
}

fn unknown(kind: &'static str, blocked: &Blocked) -> Verdict {
    Verdict::new(kind, Truth::Unknown, blocked.reason(), with_next(blocked))
}

/// What every API server is to have: what was ordered, and before any order what the first of them has.
fn wanted(view: &View<'_>) -> Option<Configuration> {
    let ordered = view.seen.order.configuration.clone();
    ordered.or_else(|| view.nodes.first()?.running.clone())
}

/// Every API server runs with what was ordered, and has it on its disk.
fn converged(view: &View<'_>) -> Verdict {
    let kind = types::CONVERGED;
    if let Some(blocked) = absent(view) {
        return unknown(kind, &blocked);
    }
    let Some(wanted) = wanted(view) else {
        return unknown(kind, &Blocked::NoNodes);
    };
    if let Some(node) = view.nodes.iter().find(|node| !has(node, &wanted)) {
        let message = format!(
            "Node/{}: wanted {wanted}, its API server runs with {}{}; next: cloison encryption status",
            node.name,
            node.running.as_ref().map(Configuration::to_string).unwrap_or_default(),
            match node.on_disk() {
                Some(file) => format!(" and its file says {file}"),
                None => " and there is no file".to_owned(),
            }
        );
        return Verdict::new(kind, Truth::False, "HashDivergent", message);
    }
    let message = format!("all {} API servers run with {wanted}", view.nodes.len());
    Verdict::new(kind, Truth::True, "Converged", message)
}

/// Without an EncryptionConfiguration there is no file that could be another.
fn has(node: &Seen<'_>, wanted: &Configuration) -> bool {
    node.has(wanted) || node.file.is_none() && node.running.as_ref() == Some(wanted)
}

/// How many API servers run with what was ordered, and how many there are to be.
pub fn replicas_converged(seen: &Observation) -> (usize, usize) {
    let view = View::of(seen);
    let Some(wanted) = wanted(&view) else { return (0, 0) };
    let alike = view
        .nodes
        .iter()
        .filter(|node| node.server.is_some() && has(node, &wanted));
    (alike.count(), view.nodes.len())
}

/// API servers that loaded different files, of those that loaded one: nothing in their readiness shows it.
pub fn divergent(seen: &Observation) -> Option<String> {
    let view = View::of(seen);
    let loaded = |node: &Seen<'_>| Some((node.server?.loaded.clone()?, node.name.to_owned()));
    let mut all = view.nodes.iter().filter_map(loaded);
    let (first, one) = all.next()?;
    let (other, two) = all.find(|(hash, _)| *hash != first)?;
    let short = |hash: &str| hash.get(..19).unwrap_or(hash).to_owned();
    Some(format!(
        "the API servers have run with different files for longer than a reload takes: Node/{one} with {}, Node/{two} with \
         {}; next: cloison encryption status",
        short(&first),
        short(&other)
    ))
}

/// Every key whose material is there is sealed for all offline recipients.
fn escrowed(view: &View<'_>) -> Verdict {
    let kind = types::ESCROWED;
    let escrow = &view.seen.wish.escrow;
    let missing = || with_next(&Blocked::EscrowMissing);
    if escrow.is_empty() {
        let reason = if view.seen.wish.escrow_waived {
            "Waived"
        } else {
            "EscrowMissing"
        };
        let message = if view.seen.wish.escrow_waived {
            "waived: losing all control-plane nodes loses every encrypted value".to_owned()
        } else {
            missing()
        };
        return Verdict::new(kind, Truth::False, reason, message);
    }
    let mut living = view.seen.ring.keys.iter().filter(|key| !key.destroyed).peekable();
    if living.peek().is_none() {
        return Verdict::new(kind, Truth::Unknown, "NoKeys", "there is no key yet");
    }
    let lacks = |key: &RingKey| escrow.iter().find(|who| !key.sealed_for.contains(*who)).cloned();
    if let Some((key, who)) = living.find_map(|key| Some((key, lacks(key)?))) {
        let blocked = Blocked::NotSealed(key.name.clone(), who);
        return Verdict::new(kind, Truth::False, blocked.reason(), with_next(&blocked));
    }
    let message = format!("every key is sealed for {} offline recipients", escrow.len());
    Verdict::new(kind, Truth::True, "Escrowed", message)
}

/// No API server serves plaintext any more, also not one that restarts: what is injected into etcd is not read.
fn identity_removed(view: &View<'_>) -> Verdict {
    let kind = types::IDENTITY_REMOVED;
    let mut nodes = view.nodes.iter();
    let reads = |it: Option<&Configuration>| it.is_some_and(|it| it.read.contains(&Under::Identity));
    if let Some(node) = nodes.find(|node| reads(node.running.as_ref()) || reads(node.on_disk())) {
        let message = format!(
            "Node/{}: its API server reads plaintext until the first enable has ended",
            node.name
        );
        return Verdict::new(kind, Truth::False, "IdentityServed", message);
    }
    match absent(view) {
        Some(blocked) => unknown(kind, &blocked),
        None => Verdict::new(
            kind,
            Truth::True,
            "Removed",
            "no API server reads values that are not encrypted",
        ),
    }
}

/// A value that is copied to another place in etcd is not served there: AES-GCM binds it to its place.
fn relocation_protected(view: &View<'_>) -> Verdict {
    let kind = types::RELOCATION_PROTECTED;
    let read = view.read_anywhere();
    if read.contains(&Under::Identity) {
        let message = "plaintext is served from wherever it is put in etcd: see IdentityRemoved";
        return Verdict::new(kind, Truth::False, "IdentityServed", message);
    }
    let boxed: BTreeSet<String> = read
        .iter()
        .filter(|under| view.key(under).is_some_and(|key| key.provider == Provider::Secretbox))
        .map(Under::to_string)
        .collect();
    if !boxed.is_empty() {
        let message = format!(
            "{} is for Secretbox, which does not bind a value to its place: a ciphertext that is copied in etcd is served in \
             another namespace; `spec.provider: AESGCM` does bind it",
            boxed.into_iter().collect::<Vec<_>>().join(", ")
        );
        return Verdict::new(kind, Truth::False, "Secretbox", message);
    }
    if let Some(blocked) = absent(view) {
        return unknown(kind, &blocked);
    }
    match read.iter().find(|under| view.key(under).is_none()) {
        Some(under) => {
            let message = format!("the cipher of {under} is not known: the key ring does not hold it");
            Verdict::new(kind, Truth::Unknown, "KeyLost", message)
        }
        None => Verdict::new(
            kind,
            Truth::True,
            "AESGCM",
            "every key that is read binds a value to its place in etcd",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use std::time::Duration;

    use super::super::fixture::enabled;
    use super::super::observation::{File, Node};
    use super::*;

    fn said(kind: &str, change: impl Fn(&mut Observation)) -> (Truth, &'static str) {
        let mut seen = enabled();
        change(&mut seen);
        let all = claims(&seen);
        let found = all.iter().find(|verdict| verdict.kind == kind).unwrap();
        (found.truth, found.reason)
    }

    fn silent(seen: &mut Observation) {
        seen.nodes[1].silent_for = Duration::from_hours(1);
    }

    fn file(node: &mut Node) -> &mut File {
        node.report.as_mut().unwrap().file.as_mut().unwrap()
    }

    #[test]
    fn converged_is_every_api_server_with_what_was_ordered() {
        assert_eq!(said(types::CONVERGED, |_| {}), (Truth::True, "Converged"));
        assert_eq!(said(types::CONVERGED, silent), (Truth::Unknown, "NodeUnreachable"));
        let late = |seen: &mut Observation| {
            let k2 = Under::named("k2").unwrap();
            seen.order.configuration = Some(Configuration::new(Under::named("k1").unwrap(), [k2]));
        };
        assert_eq!(said(types::CONVERGED, late), (Truth::False, "HashDivergent"));
        let mut seen = enabled();
        assert_eq!(replicas_converged(&seen), (2, 2));
        file(&mut seen.nodes[0]).hash = "other".to_owned();
        assert_eq!(replicas_converged(&seen), (1, 2));
    }

    #[test]
    fn files_that_differ_are_named_by_their_nodes() {
        let mut seen = enabled();
        assert_eq!(divergent(&seen), None);
        let server = seen.nodes[1].report.as_mut().unwrap().api_server.as_mut();
        server.unwrap().loaded = Some("sha256:other".to_owned());
        let said = divergent(&seen).unwrap();
        assert!(
            said.contains("Node/a with sha256:k1, Node/b with sha256:other"),
            "{said}"
        );
    }

    #[test]
    fn escrowed_is_every_key_for_every_offline_recipient() {
        assert_eq!(said(types::ESCROWED, |_| {}), (Truth::True, "Escrowed"));
        let another = |seen: &mut Observation| {
            seen.wish.escrow.insert("age1other".to_owned());
        };
        assert_eq!(said(types::ESCROWED, another), (Truth::False, "NotSealed"));
        let none = |seen: &mut Observation| seen.wish.escrow.clear();
        assert_eq!(said(types::ESCROWED, none), (Truth::False, "EscrowMissing"));
        let waived = |seen: &mut Observation| {
            seen.wish.escrow.clear();
            seen.wish.escrow_waived = true;
        };
        assert_eq!(said(types::ESCROWED, waived), (Truth::False, "Waived"));
        let no_keys = |seen: &mut Observation| seen.ring.keys.clear();
        assert_eq!(said(types::ESCROWED, no_keys), (Truth::Unknown, "NoKeys"));
    }

    #[test]
    fn plaintext_that_any_file_still_reads_is_not_removed() {
        let kind = types::IDENTITY_REMOVED;
        assert_eq!(said(kind, |_| {}), (Truth::True, "Removed"));
        assert_eq!(said(kind, silent), (Truth::Unknown, "NodeUnreachable"));
        let on_disk = |seen: &mut Observation| {
            // Its API server runs with the file from before.
            let file = file(&mut seen.nodes[1]);
            file.hash = "sha256:other".to_owned();
            file.configuration.as_mut().unwrap().read.insert(Under::Identity);
        };
        assert_eq!(said(kind, on_disk), (Truth::False, "IdentityServed"));
        assert_eq!(
            said(types::RELOCATION_PROTECTED, on_disk),
            (Truth::False, "IdentityServed")
        );
    }

    #[test]
    fn a_value_under_secretbox_can_be_moved() {
        let kind = types::RELOCATION_PROTECTED;
        assert_eq!(said(kind, |_| {}), (Truth::True, "AESGCM"));
        let boxed = |seen: &mut Observation| seen.ring.keys[0].provider = Provider::Secretbox;
        assert_eq!(said(kind, boxed), (Truth::False, "Secretbox"));
        assert_eq!(said(kind, silent), (Truth::Unknown, "NodeUnreachable"));
        let lost = |seen: &mut Observation| seen.ring.keys.clear();
        assert_eq!(said(kind, lost), (Truth::Unknown, "KeyLost"));
    }
}
