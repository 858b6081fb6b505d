//! Who holds the keys: members and escrow, and the seals that follow them.

use super::super::{Fault, Refusal, commitment, living, unsealed};
use super::{Act, MAX_MEMBERS, key};
use crate::api::encryption::{Escrow, EscrowRequirement};
use crate::api::key_ring::{Approval, EncryptionKeyRingSpec, Member, Wrap};
use crate::api::text::{AgeRecipient, Contact, ObjectName};
use crate::encryption::KeyMaterial;

pub(super) fn found(
    ring: &mut EncryptionKeyRingSpec,
    node: &ObjectName,
    recipient: &AgeRecipient,
    act: &Act<'_>,
) -> Result<(), Refusal> {
    if !is_new(ring, node, recipient)? {
        return Ok(());
    }
    if ring.last_id > 0 {
        return Err(Refusal::NotApproved(node.to_string()));
    }
    join(ring, node, recipient, None, act)
}

pub(super) fn admit(ring: &mut EncryptionKeyRingSpec, approval: &Approval, act: &Act<'_>) -> Result<(), Refusal> {
    let Approval {
        node,
        recipient,
        by,
        time: _,
    } = approval;
    if !is_new(ring, node, recipient)? {
        return Ok(());
    }
    join(ring, node, recipient, Some(by.clone()), act)
}

/// Whether the node is no member yet. One that is has to be the same.
fn is_new(ring: &EncryptionKeyRingSpec, node: &ObjectName, recipient: &AgeRecipient) -> Result<bool, Refusal> {
    for member in &ring.members {
        match (member.node == *node, member.recipient == *recipient) {
            (true, true) => return Ok(false),
            (true, false) => return Err(Refusal::IdentityChanged(node.to_string())),
            (false, true) => {
                return Err(Refusal::IdentityCopied {
                    node: node.to_string(),
                    other: member.node.to_string(),
                });
            }
            (false, false) => {}
        }
    }
    if ring.escrow.contains(recipient) {
        return Err(Refusal::EscrowOnNode {
            recipient: recipient.to_string(),
            node: node.to_string(),
        });
    }
    Ok(true)
}

fn join(
    ring: &mut EncryptionKeyRingSpec,
    node: &ObjectName,
    recipient: &AgeRecipient,
    approved_by: Option<Contact>,
    act: &Act<'_>,
) -> Result<(), Refusal> {
    if ring.members.len() >= MAX_MEMBERS {
        return Err(Refusal::TooManyMembers);
    }
    ring.members.push(Member {
        node: node.clone(),
        recipient: recipient.clone(),
        approved_by,
        joined_time: act.now.clone(),
    });
    ring.members.sort_by(|a, b| a.node.cmp(&b.node));
    seal_missing(ring, act)
}

pub(super) fn remove(ring: &mut EncryptionKeyRingSpec, node: &ObjectName) -> Result<(), Refusal> {
    let Some(at) = ring.members.iter().position(|member| member.node == *node) else {
        return Ok(());
    };
    if ring.members.len() == 1 && living(ring).next().is_some() {
        return Err(Refusal::LastMember(node.to_string()));
    }
    let gone = ring.members.remove(at).recipient;
    drop_wraps(ring, |recipient| *recipient == gone);
    Ok(())
}

pub(super) fn escrow(ring: &mut EncryptionKeyRingSpec, asked: &Escrow, act: &Act<'_>) -> Result<(), Refusal> {
    let wanted = wanted(asked)?;
    for member in &ring.members {
        if wanted.contains(&member.recipient) {
            return Err(Refusal::EscrowOnNode {
                recipient: member.recipient.to_string(),
                node: member.node.to_string(),
            });
        }
    }
    let before = std::mem::replace(&mut ring.escrow, wanted.clone());
    drop_wraps(ring, |recipient| {
        before.contains(recipient) && !wanted.contains(recipient)
    });
    seal_missing(ring, act)
}

/// The recipients that are asked for, sorted. None is an answer only where somebody said so.
pub(super) fn wanted(asked: &Escrow) -> Result<Vec<AgeRecipient>, Refusal> {
    let mut wanted = asked.recipients.clone().unwrap_or_default();
    wanted.sort();
    wanted.dedup();
    if wanted.is_empty() && asked.requirement == EscrowRequirement::Required {
        return Err(Refusal::EscrowMissing);
    }
    Ok(wanted)
}

fn drop_wraps(ring: &mut EncryptionKeyRingSpec, gone: impl Fn(&AgeRecipient) -> bool) {
    for key in &mut ring.keys {
        key.wraps.retain(|wrap| !gone(&wrap.recipient));
    }
}

/// Seals every key that lives for everybody who has to have it and does not.
fn seal_missing(ring: &mut EncryptionKeyRingSpec, act: &Act<'_>) -> Result<(), Refusal> {
    let missing: Vec<(i64, Vec<AgeRecipient>)> = living(ring)
        .map(|key| (key.id, unsealed(ring, key).into_iter().cloned().collect()))
        .collect();
    for (id, recipients) in missing {
        let key = key(ring, id)?;
        for recipient in recipients {
            let held = act
                .keys
                .get(&id)
                .ok_or_else(|| Refusal::NotHeld(key.name.to_string()))?;
            // What this holder has is what was minted: an agent that was handed a ring of another's making seals nothing.
            if commitment(key.id, &key.name, key.provider, held) != key.commitment {
                return Err(Refusal::Closed {
                    name: key.name.to_string(),
                    fault: Fault::Mismatch,
                });
            }
            let wrap = seal(&key.name, &recipient, held, act)?;
            key.wraps.push(wrap);
        }
        key.wraps.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    }
    Ok(())
}

pub(super) fn seal(
    name: &str,
    recipient: &AgeRecipient,
    material: &KeyMaterial,
    act: &Act<'_>,
) -> Result<Wrap, Refusal> {
    match (act.seal)(recipient, material) {
        Ok(sealed) => Ok(Wrap {
            recipient: recipient.clone(),
            sealed,
        }),
        Err(why) => Err(Refusal::NotSealed {
            name: name.to_owned(),
            recipient: recipient.to_string(),
            why,
        }),
    }
}
