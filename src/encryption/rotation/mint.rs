//! S1: a key is made, and is sealed for everybody before anybody uses it.

use super::blocked::Blocked;
use super::goal::Due;
use super::observation::Under;
use super::persistence;
use super::view::View;
use super::{Action, Decision};
use crate::api::encryption::Provider;
use crate::api::encryption_status::Step;

/// S1. A key is made only when everybody who must have it can be given it.
pub fn mint(view: &View<'_>, due: Due, provider: Provider) -> Decision {
    let wish = &view.seen.wish;
    let mut blocked = Vec::new();
    if wish.escrow.is_empty() && !wish.escrow_waived {
        blocked.push(Blocked::EscrowMissing);
    }
    // Once a key is in use the flags are needed anyhow, and its API servers said what they loaded.
    if view.active().next().is_none() {
        let lacking = persistence::lacking(view.seen).filter(|lines| !lines.is_empty());
        blocked.extend(lacking.map(|lines| Blocked::FlagsNotPersistent(lines.to_vec())));
        let old = view
            .nodes
            .iter()
            .filter_map(|node| Some((node.name.to_owned(), node.too_old()?)));
        blocked.extend(old.map(|(node, version)| Blocked::TooOld(node, version)));
    }
    let strangers = view
        .nodes
        .iter()
        .filter(|node| !view.seen.ring.members.contains_key(node.name));
    blocked.extend(strangers.map(|node| Blocked::NotMember(node.name.to_owned())));
    if !blocked.is_empty() {
        return Decision::hold(Step::Mint, blocked);
    }
    // API servers without a configuration may not say who they are, so the barrier cannot be asked for yet.
    if view.nodes.is_empty() || view.nodes.iter().any(|node| !node.fresh) {
        return Decision::hold(Step::Mint, view.absent());
    }
    let decision = Decision::new(Step::Mint, Action::Mint(provider, due));
    let unread = view.unacknowledged();
    if decision.repeats(view.seen) || unread.is_empty() {
        decision
    } else {
        Decision::hold(Step::Mint, unread)
    }
}

/// I4: who lacks the key. Nobody does who lacks nothing: plaintext needs no key.
pub fn not_durable(view: &View<'_>, goal: &Under) -> Vec<Blocked> {
    let Some(key) = view.key(goal) else { return Vec::new() };
    let mut blocked = Vec::new();
    for node in &view.nodes {
        match view.seen.ring.members.get(node.name) {
            None => blocked.push(Blocked::NotMember(node.name.to_owned())),
            Some(recipient) if !key.sealed_for.contains(recipient) => {
                blocked.push(Blocked::NotSealed(key.name.clone(), format!("Node/{}", node.name)));
            }
            Some(_) if node.sealed_id < key.id => {
                blocked.push(Blocked::NotOnDisk(key.name.clone(), node.name.to_owned()));
            }
            Some(_) => {}
        }
    }
    let wish = &view.seen.wish;
    if wish.escrow.is_empty() && !wish.escrow_waived {
        blocked.push(Blocked::EscrowMissing);
    }
    let unsealed = wish
        .escrow
        .iter()
        .filter(|recipient| !key.sealed_for.contains(*recipient));
    blocked.extend(unsealed.map(|recipient| Blocked::NotSealed(key.name.clone(), recipient.clone())));
    blocked
}
