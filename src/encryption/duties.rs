//! What the agent of one control-plane node does next. Pure. The controller orders; an agent does what keeps its own rules
//! and nothing else, so that an order that is wrong, old or forged loses no Secret:
//!
//! - [`due`] says what is to change in the ring, [`changed`] changes it;
//! - [`file()`] says what is to be in the file, or why the one that is there stays.

mod destroy;
mod file;
pub mod report;

pub use destroy::Witness;
pub use file::{Current, Hold, Local, adopted, file, plaintext_let};

use crate::api::encryption::{EncryptionMode, SecretEncryptionSpec};
use crate::api::encryption_status::Order;
use crate::api::key_ring::{Approval, EncryptionKeyRingSpec, RingKey};
use crate::api::text::{AgeRecipient, ObjectName};
use crate::encryption::KeyMaterial;
use crate::encryption::ring::{Act, Change, Refusal, change};

/// What one agent looks at before it changes the ring.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Its node.
    pub node: &'a ObjectName,
    /// Its identity's public half.
    pub recipient: &'a AgeRecipient,
    /// What people want.
    pub spec: &'a SecretEncryptionSpec,
    /// What the controller orders.
    pub order: &'a Order,
    /// Nodes that people let in.
    pub approvals: &'a [Approval],
    /// What it sees itself: nothing is retired or destroyed on an order alone.
    pub witness: Witness<'a>,
}

/// Whether the agent may change anything at all.
pub fn acts(spec: &SecretEncryptionSpec) -> bool {
    spec.mode == EncryptionMode::Manage && !spec.suspend
}

/// The changes of the ring that are due, in their order. `spare` is a new key, used if one is to be minted.
pub fn due(ring: &EncryptionKeyRingSpec, asked: &Asked<'_>, spare: &KeyMaterial) -> Vec<Change> {
    let Asked {
        node,
        recipient,
        spec,
        order,
        approvals,
        witness,
    } = asked;
    if !acts(spec) {
        return Vec::new();
    }
    let member = |node: &ObjectName| ring.members.iter().any(|member| member.node == *node);
    if !ring
        .members
        .iter()
        .any(|member| member.node == **node && member.recipient == **recipient)
    {
        return vec![Change::Found {
            node: (*node).clone(),
            recipient: (*recipient).clone(),
        }];
    }
    let mut due = Vec::new();
    // Whoever reads this order is not gone.
    let approved = |node: &ObjectName| approvals.iter().any(|approval| approval.node == *node);
    let gone = order.remove.iter();
    // Its approval goes first: see [`approvals_left`].
    let gone = gone.filter(|gone| member(gone) && !approved(gone) && *gone != *node);
    due.extend(gone.cloned().map(Change::Remove));
    let waiting = approvals
        .iter()
        .filter(|approval| !member(&approval.node) && !order.remove.contains(&approval.node));
    due.extend(waiting.cloned().map(Change::Admit));
    due.push(Change::Escrow(spec.escrow.clone()));
    if let Some(mint) = order.mint.as_ref().filter(|mint| mint.after_id == ring.last_id) {
        due.push(Change::Mint {
            after: mint.after_id,
            provider: mint.provider,
            request: mint.request.clone(),
            material: spare.clone(),
            escrow: spec.escrow.clone(),
        });
    }
    let key = |id: &i64| ring.keys.iter().find(|key| key.id == *id);
    // Where this node has no file of its own, another node's agent retires.
    let unused = |key: &RingKey| {
        witness
            .in_file
            .is_some_and(|names| !names.contains(key.name.0.as_str()))
    };
    let retire = order.retire.iter();
    due.extend(
        retire
            .filter(|id| key(id).is_some_and(|key| key.retired_time.is_none() && unused(key)))
            .map(|id| Change::Retire(*id)),
    );
    let destroy = to_destroy(ring, order).filter(|key| destroy::may_destroy(key, spec, witness).is_ok());
    due.extend(destroy.map(|key| Change::Destroy(key.id)));
    due
}

/// The keys of the ring that are still there and that the order gives up for good.
fn to_destroy<'r>(ring: &'r EncryptionKeyRingSpec, order: &Order) -> impl Iterator<Item = &'r RingKey> {
    let asked = |key: &&RingKey| order.destroy.contains(&key.id) && key.destroyed_time.is_none();
    ring.keys.iter().filter(asked)
}

/// Why a key is not destroyed that the order names.
pub fn spared(ring: &EncryptionKeyRingSpec, asked: &Asked<'_>) -> Option<Refusal> {
    let refused = |key: &RingKey| destroy::may_destroy(key, asked.spec, &asked.witness).err();
    to_destroy(ring, asked.order).find_map(refused)
}

/// The approvals without those of nodes that are to be removed: an approval that outlives its node would let it in again.
/// `None` when there are none to take away.
pub fn approvals_left(asked: &Asked<'_>) -> Option<Vec<Approval>> {
    let gone = |approval: &&Approval| asked.order.remove.contains(&approval.node) && approval.node != *asked.node;
    if !acts(asked.spec) || !asked.approvals.iter().any(|approval| gone(&approval)) {
        return None;
    }
    Some(
        asked
            .approvals
            .iter()
            .filter(|approval| !gone(approval))
            .cloned()
            .collect(),
    )
}

/// The ring after all changes that are possible, and the first refusal: what cannot be done does not hold up the rest.
pub fn changed(
    ring: &EncryptionKeyRingSpec,
    changes: &[Change],
    act: &Act<'_>,
) -> (EncryptionKeyRingSpec, Option<Refusal>) {
    let (mut next, mut refused) = (ring.clone(), None);
    for one in changes {
        match change(&next, one, act) {
            Ok(made) => next = made,
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    (next, refused)
}

#[cfg(test)]
mod tests;
