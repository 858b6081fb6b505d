//! The sealed ring: whatever is done to it, every key that lives can be opened by everybody who must be able to and by
//! nobody else, no number comes twice, and no key is seen outside. The stock `age` is the judge of what is sealed.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "common/dice.rs"]
mod dice;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use cloison::agent::sealing::{new_identity, new_material, seal};
use cloison::api::encryption::{Escrow, EscrowRequirement, Provider};
use cloison::api::key_ring::{Approval, EncryptionKeyRingSpec, KeyOrigin, RingKey};
use cloison::api::text::{AgeRecipient, Armored, Contact, KeyName, ObjectName};
use cloison::encryption::KeyMaterial;
use cloison::encryption::ring::{
    Act, Change, Fault, Identity, Opened, Refusal, change, commitment, identities, inspect, living, open, recipients,
    succeeds, unsealed, writes,
};
use cloison_testbed::{Tool, find};
use dice::Dice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn now() -> Time {
    Time("2026-11-26T04:00:00Z".parse().unwrap())
}

fn node(name: &str) -> ObjectName {
    ObjectName(name.to_owned())
}

fn key(byte: u8) -> KeyMaterial {
    KeyMaterial::new([byte; 32])
}

fn offline(identities: &[&Identity]) -> Escrow {
    Escrow {
        recipients: Some(identities.iter().map(|one| one.recipient().clone()).collect()),
        requirement: EscrowRequirement::Required,
    }
}

fn waived() -> Escrow {
    Escrow {
        recipients: None,
        requirement: EscrowRequirement::Waived,
    }
}

fn make(ring: &EncryptionKeyRingSpec, what: &Change, keys: &Opened) -> Result<EncryptionKeyRingSpec, Refusal> {
    let act = Act {
        now: now(),
        keys,
        seal: &seal,
    };
    change(ring, what, &act)
}

fn found(name: &str, identity: &Identity) -> Change {
    Change::Found {
        node: node(name),
        recipient: identity.recipient().clone(),
    }
}

fn approval(name: &str, identity: &Identity) -> Change {
    Change::Admit(Approval {
        node: node(name),
        recipient: identity.recipient().clone(),
        by: Contact("ana@example.com".to_owned()),
        time: now(),
    })
}

fn mint(after: i64, material: KeyMaterial, escrow: &Escrow) -> Change {
    Change::Mint {
        after,
        provider: Provider::AESGCM,
        request: None,
        material,
        escrow: escrow.clone(),
    }
}

/// A ring of one node and one escrow recipient with these keys.
fn ring(keys: &[u8]) -> (EncryptionKeyRingSpec, Identity, Identity, Escrow) {
    let (member, safe) = (new_identity().unwrap(), new_identity().unwrap());
    let escrow = offline(&[&safe]);
    let none = Opened::new();
    let mut ring = make(&EncryptionKeyRingSpec::default(), &found("cp-1", &member), &none).unwrap();
    ring = make(&ring, &Change::Escrow(escrow.clone()), &none).unwrap();
    for byte in keys {
        ring = make(&ring, &mint(ring.last_id, key(*byte), &escrow), &none).unwrap();
    }
    (ring, member, safe, escrow)
}

#[test]
fn a_key_opens_for_its_members_and_its_escrow_and_for_nobody_else() {
    let (ring, member, safe, _) = ring(&[1, 2]);
    assert_eq!(
        ring.keys.iter().map(|key| &*key.name.0).collect::<Vec<_>>(),
        ["k1", "k2"]
    );
    for holder in [&member, &safe] {
        let opened = open(&ring, holder).unwrap();
        assert_eq!(opened.values().map(|key| key.bytes()[0]).collect::<Vec<_>>(), [1, 2]);
    }
    let stranger = new_identity().unwrap();
    let refused = open(&ring, &stranger).unwrap_err();
    assert_eq!(refused.to_string(), "key k1 is not sealed for this identity");
    // It cannot help itself to another's seal either.
    let mut stolen = ring.clone();
    for key in &mut stolen.keys {
        key.wraps[0].recipient = stranger.recipient().clone();
    }
    let faults: Vec<_> = inspect(&stolen, &stranger)
        .into_iter()
        .map(|(_, opened)| opened.unwrap_err())
        .collect();
    assert_eq!(faults, [Fault::Unreadable, Fault::Unreadable]);
}

#[test]
fn what_is_sealed_is_what_was_minted() {
    let (ring, member, _, _) = ring(&[1, 2]);
    let other = seal(member.recipient(), &key(9)).unwrap();
    let fault = |sealed: Armored| {
        let mut tampered = ring.clone();
        let wraps = &mut tampered.keys[0].wraps;
        wraps
            .iter_mut()
            .find(|wrap| wrap.recipient == *member.recipient())
            .unwrap()
            .sealed = sealed;
        open(&tampered, &member).unwrap_err().to_string()
    };
    assert!(fault(other).contains("differs from its commitment"));
    // The seal of another key of the same ring is another key.
    assert!(
        fault(
            ring.keys[1]
                .wraps
                .iter()
                .find(|w| w.recipient == *member.recipient())
                .unwrap()
                .sealed
                .clone()
        )
        .contains("differs from its commitment")
    );
    let cut = &ring.keys[0].wraps[0].sealed.0;
    assert!(fault(Armored(cut[..cut.len() / 2].to_owned())).contains("was changed or cut"));
    // A name, a number or a cipher that was changed is another key too.
    let changes: [fn(&mut RingKey); 3] = [
        |key| key.name = KeyName("k7".to_owned()),
        |key| key.id = 7,
        |key| key.provider = Provider::Secretbox,
    ];
    for change in changes {
        let mut tampered = ring.clone();
        change(&mut tampered.keys[0]);
        assert!(
            open(&tampered, &member)
                .unwrap_err()
                .to_string()
                .contains("differs from its commitment")
        );
    }
}

#[test]
fn a_commitment_is_fixed_for_ever() {
    // Computed with sha256sum over the parts, each after its length in eight bytes.
    let said = commitment(7, "k7", Provider::AESGCM, &key(1));
    assert_eq!(said.0, COMMITMENT);
    assert_ne!(said, commitment(7, "k7", Provider::AESGCM, &key(2)));
}

const COMMITMENT: &str = "sha256:11ed8f65732324a5dafe8bee4cafc730f846a0057a0c911956a44c1753c9d1e3";

#[test]
fn a_second_holder_mints_nothing_over_the_first() {
    let (ring, member, _, escrow) = ring(&[1]);
    let keys = open(&ring, &member).unwrap();
    let order = mint(1, key(2), &escrow);
    let first = make(&ring, &order, &keys).unwrap();
    assert_eq!(first.last_id, 2);
    let refused = make(&first, &order, &keys).unwrap_err();
    assert_eq!(refused, Refusal::Overtaken { after: 1, newest: 2 });
    // Random numbers that repeat are none.
    let refused = make(&first, &mint(2, key(1), &escrow), &keys).unwrap_err();
    assert_eq!(refused, Refusal::MaterialReused("k1".to_owned()));
}

#[test]
fn there_is_no_key_without_escrow_unless_somebody_said_so() {
    let member = new_identity().unwrap();
    let none = Opened::new();
    let ring = make(&EncryptionKeyRingSpec::default(), &found("cp-1", &member), &none).unwrap();
    let required = Escrow::default();
    assert_eq!(
        make(&ring, &mint(0, key(1), &required), &none),
        Err(Refusal::EscrowMissing)
    );
    assert_eq!(
        make(&ring, &Change::Escrow(required), &none),
        Err(Refusal::EscrowMissing)
    );
    let waived = make(&ring, &mint(0, key(1), &waived()), &none).unwrap();
    assert_eq!(waived.keys[0].wraps.len(), 1);
    // What is asked for has to be in the ring first.
    let safe = new_identity().unwrap();
    let escrow = offline(&[&safe]);
    assert_eq!(
        make(&ring, &mint(0, key(1), &escrow), &none),
        Err(Refusal::EscrowDiffers)
    );
    // An identity of a node is not offline, from either side.
    let on_node = offline(&[&member]);
    let refused = make(&ring, &Change::Escrow(on_node), &none).unwrap_err();
    assert!(matches!(refused, Refusal::EscrowOnNode { .. }), "{refused}");
    let ring = make(&ring, &Change::Escrow(escrow), &none).unwrap();
    let refused = make(&ring, &found("cp-2", &safe), &none).unwrap_err();
    assert!(matches!(refused, Refusal::EscrowOnNode { .. }), "{refused}");
    // A ring without a member has nobody to mint.
    let nobody = make(
        &EncryptionKeyRingSpec::default(),
        &mint(0, key(1), &self::waived()),
        &none,
    );
    assert_eq!(nobody, Err(Refusal::NoMember));
    let plugin = Escrow {
        recipients: Some(vec![AgeRecipient("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq".to_owned())]),
        requirement: EscrowRequirement::Required,
    };
    let ring = make(&ring, &mint(0, key(1), &offline(&[&safe])), &none).unwrap();
    let refused = make(&ring, &Change::Escrow(plugin), &open(&ring, &member).unwrap())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("k1 cannot be sealed for age1yubikey1"), "{refused}");
}

#[test]
fn a_new_node_waits_for_a_person() {
    let (ring, member, _, _) = ring(&[1, 2]);
    let keys = open(&ring, &member).unwrap();
    let late = new_identity().unwrap();
    let refused = make(&ring, &found("cp-2", &late), &keys).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node cp-2 is new and the ring has keys; a person lets it in: kubectl cloison ring approve cp-2"
    );
    // Who holds no key seals none.
    let refused = make(&ring, &approval("cp-2", &late), &Opened::new()).unwrap_err();
    assert_eq!(refused, Refusal::NotHeld("k1".to_owned()));
    // Nor what is another's: a holder's key that is not the ring's.
    let wrong: Opened = [(1, key(8)), (2, key(9))].into();
    assert!(
        make(&ring, &approval("cp-2", &late), &wrong)
            .unwrap_err()
            .to_string()
            .contains("commitment")
    );
    let admitted = make(&ring, &approval("cp-2", &late), &keys).unwrap();
    assert_eq!(open(&admitted, &late).unwrap().len(), 2);
    let said = admitted.members[1].approved_by.as_ref().unwrap();
    assert_eq!(&**said, "ana@example.com");
    assert_eq!(
        make(&admitted, &approval("cp-2", &late), &keys).unwrap(),
        admitted,
        "twice is once"
    );
    // What was sealed stays as it was.
    for (old, new) in ring.keys.iter().zip(&admitted.keys) {
        assert!(old.wraps.iter().all(|wrap| new.wraps.contains(wrap)));
    }
    let again = make(&admitted, &approval("cp-2", &new_identity().unwrap()), &keys);
    assert_eq!(again, Err(Refusal::IdentityChanged("cp-2".to_owned())));
    let copied = make(&admitted, &approval("cp-3", &late), &keys).unwrap_err();
    assert!(matches!(copied, Refusal::IdentityCopied { .. }), "{copied}");
}

#[test]
fn a_node_that_went_opens_nothing_new() {
    let (ring, member, _, escrow) = ring(&[1]);
    let keys = open(&ring, &member).unwrap();
    let late = new_identity().unwrap();
    let both = make(&ring, &approval("cp-2", &late), &keys).unwrap();
    let one = make(&both, &Change::Remove(node("cp-2")), &keys).unwrap();
    assert_eq!(one.keys, ring.keys);
    let next = make(&one, &mint(1, key(2), &escrow), &keys).unwrap();
    assert!(open(&next, &late).is_err());
    assert_eq!(
        make(&one, &Change::Remove(node("cp-2")), &keys).unwrap(),
        one,
        "twice is once"
    );
    let refused = make(&one, &Change::Remove(node("cp-1")), &keys).unwrap_err();
    assert_eq!(refused, Refusal::LastMember("cp-1".to_owned()));
}

#[test]
fn keys_of_others_are_taken_in_under_their_names() {
    let (ring, member, _, escrow) = ring(&[1]);
    let keys = open(&ring, &member).unwrap();
    let import = |name: &str, byte| Change::Import {
        name: name.to_owned(),
        provider: Provider::Secretbox,
        material: key(byte),
        escrow: escrow.clone(),
    };
    let taken = make(&ring, &import("key1", 2), &keys).unwrap();
    let (id, origin) = (taken.keys[1].id, taken.keys[1].origin);
    assert_eq!((id, origin), (2, KeyOrigin::Imported));
    assert_eq!(open(&taken, &member).unwrap()[&2].bytes(), key(2).bytes());
    assert_eq!(make(&taken, &import("key1", 2), &keys).unwrap(), taken, "twice is once");
    // One key under two names is what others do; two keys under one name cannot be told apart.
    assert!(make(&taken, &import("key2", 2), &keys).is_ok());
    assert_eq!(
        make(&taken, &import("key1", 3), &keys),
        Err(Refusal::NameReused("key1".to_owned()))
    );
    // A name of our form takes its number, so that none is minted later with the same name.
    assert_eq!(
        make(&taken, &import("k1", 3), &keys),
        Err(Refusal::NameReused("k1".to_owned()))
    );
    let nine = make(&taken, &import("k9", 3), &keys).unwrap();
    let ten = make(&nine, &mint(9, key(4), &escrow), &keys).unwrap();
    assert_eq!(&*ten.keys.last().unwrap().name.0, "k10");
    assert_eq!(
        make(&ten, &import("k5", 5), &keys),
        Err(Refusal::NameReused("k5".to_owned()))
    );
    for bad in ["", "a:b", "a b", &"x".repeat(254)] {
        assert_eq!(
            make(&ring, &import(bad, 3), &keys),
            Err(Refusal::BadName(bad.to_owned()))
        );
    }
}

#[test]
fn writes_are_never_counted_down() {
    let (ring, _, _, _) = ring(&[1]);
    let count = |ring: &EncryptionKeyRingSpec, name: &str, count| {
        let writes = [("k1", count), ("k9", 5)].map(|(name, count)| (KeyName(name.to_owned()), count));
        let what = Change::Count {
            node: node(name),
            writes: writes.into(),
        };
        make(ring, &what, &Opened::new())
    };
    let mut counted = ring.clone();
    for (name, number, sum) in [
        ("cp-1", 5, 5),
        ("cp-2", 7, 12),
        ("cp-1", 3, 12),
        ("cp-1", 9, 16),
        ("cp-1", 9, 16),
    ] {
        counted = count(&counted, name, number).unwrap();
        assert_eq!(writes(&counted.keys[0]), sum);
    }
    for number in 3..=32 {
        counted = count(&counted, &format!("n-{number}"), 1).unwrap();
    }
    assert_eq!(
        count(&counted, "one-more", 1),
        Err(Refusal::TooManyWriters("k1".to_owned()))
    );
    assert_eq!(writes(&counted.keys[0]), 46);
}

#[test]
fn a_key_is_destroyed_only_after_it_was_retired_and_its_number_is_gone_for_ever() {
    let (ring, member, _, escrow) = ring(&[1, 2]);
    let keys = open(&ring, &member).unwrap();
    assert_eq!(
        make(&ring, &Change::Destroy(1), &keys),
        Err(Refusal::NotRetired("k1".to_owned()))
    );
    assert_eq!(make(&ring, &Change::Retire(3), &keys), Err(Refusal::NoSuchKey(3)));
    let retired = make(&ring, &Change::Retire(1), &keys).unwrap();
    assert_eq!(
        open(&retired, &member).unwrap().len(),
        2,
        "it may be needed for a backup"
    );
    let destroyed = make(&retired, &Change::Destroy(1), &keys).unwrap();
    assert_eq!(open(&destroyed, &member).unwrap().into_keys().collect::<Vec<_>>(), [2]);
    assert_eq!(
        make(&destroyed, &Change::Destroy(1), &keys).unwrap(),
        destroyed,
        "twice is once"
    );
    // A full ring makes room of what was destroyed, and of nothing else.
    let mut full = destroyed;
    while full.keys.len() < 128 {
        let material = new_material().unwrap();
        full = make(&full, &mint(full.last_id, material, &escrow), &keys).unwrap();
    }
    let more = make(&full, &mint(full.last_id, key(7), &escrow), &keys).unwrap();
    assert_eq!((more.keys.len(), more.keys[0].id, more.last_id), (128, 2, 129));
    assert_eq!(make(&more, &mint(129, key(8), &escrow), &keys), Err(Refusal::Full));
}

#[test]
fn an_older_ring_or_another_does_not_follow() {
    let (ring, member, _, escrow) = ring(&[1]);
    let keys = open(&ring, &member).unwrap();
    let newer = make(&ring, &mint(1, key(2), &escrow), &keys).unwrap();
    let newer = make(&newer, &Change::Retire(1), &keys).unwrap();
    succeeds(&ring, &newer).unwrap();
    succeeds(&newer, &newer).unwrap();
    assert!(
        succeeds(&newer, &ring)
            .unwrap_err()
            .to_string()
            .contains("the newest key was k2 and is k1")
    );
    let tampered = |change: fn(&mut EncryptionKeyRingSpec)| {
        let mut other = newer.clone();
        change(&mut other);
        succeeds(&newer, &other).unwrap_err().to_string()
    };
    assert!(tampered(|ring| drop(ring.keys.remove(1))).contains("key k2 is gone"));
    assert!(tampered(|ring| ring.keys[1].commitment = ring.keys[0].commitment.clone()).contains("k2 is another key"));
    assert!(tampered(|ring| ring.keys[0].retired_time = None).contains("k1 was retired and is no more"));
    let destroyed = make(&newer, &Change::Destroy(1), &keys).unwrap();
    assert!(
        succeeds(&destroyed, &newer)
            .unwrap_err()
            .to_string()
            .contains("k1 was destroyed and is back")
    );
    let mut pruned = destroyed.clone();
    pruned.keys.remove(0);
    succeeds(&destroyed, &pruned).unwrap();
    assert!(
        succeeds(&pruned, &destroyed)
            .unwrap_err()
            .to_string()
            .contains("k1 was in use before")
    );
}

/// One random story of a ring.
struct Story {
    dice: Dice,
    ring: EncryptionKeyRingSpec,
    escrow: Escrow,
    /// The identity each node has now.
    nodes: BTreeMap<usize, Identity>,
    safes: Vec<Identity>,
    /// Everybody who ever had an identity.
    everybody: BTreeMap<AgeRecipient, Identity>,
    minted: BTreeMap<i64, KeyMaterial>,
    mix: BTreeMap<&'static str, usize>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let safes: Vec<Identity> = (0..3).map(|_| new_identity().unwrap()).collect();
        let everybody = safes.iter().map(|one| (one.recipient().clone(), one.clone())).collect();
        Self {
            dice: Dice(seed),
            ring: EncryptionKeyRingSpec::default(),
            escrow: waived(),
            nodes: BTreeMap::new(),
            safes,
            everybody,
            minted: BTreeMap::new(),
            mix: BTreeMap::new(),
        }
    }

    /// A node, with the identity it has; sometimes its disk was lost and it makes a new one.
    fn node(&mut self) -> (String, Identity) {
        let number = self.dice.roll(4);
        if !self.nodes.contains_key(&number) || self.dice.once_in(8) {
            let made = new_identity().unwrap();
            self.everybody.insert(made.recipient().clone(), made.clone());
            self.nodes.insert(number, made);
        }
        (format!("cp-{number}"), self.nodes[&number].clone())
    }

    fn draw(&mut self) -> (&'static str, Change) {
        let (name, identity) = self.node();
        let any = i64::try_from(self.dice.roll(usize::try_from(self.ring.last_id).unwrap() + 2)).unwrap();
        match self.dice.roll(12) {
            0 | 1 => ("found", found(&name, &identity)),
            2..=4 => ("admit", approval(&name, &identity)),
            5 => ("remove", Change::Remove(node(&name))),
            6 => {
                let chosen: Vec<&Identity> = self.safes.iter().filter(|_| self.dice.once_in(2)).collect();
                let escrow = if chosen.is_empty() { waived() } else { offline(&chosen) };
                ("escrow", Change::Escrow(escrow))
            }
            7..=9 => {
                let after = self.ring.last_id - i64::from(self.dice.once_in(6));
                ("mint", mint(after, new_material().unwrap(), &self.escrow))
            }
            10 => ("retire", Change::Retire(any)),
            _ => {
                let retired: Vec<i64> = living(&self.ring)
                    .filter(|key| key.retired_time.is_some())
                    .map(|key| key.id)
                    .chain([any])
                    .collect();
                ("destroy", Change::Destroy(*self.dice.pick(&retired)))
            }
        }
    }

    fn step(&mut self) {
        let (kind, what) = self.draw();
        // Any member may be the one that does it.
        let keys = match self.ring.members.len() {
            0 => Opened::new(),
            members => {
                let holder = &self.ring.members[self.dice.roll(members)].recipient;
                open(&self.ring, &self.everybody[holder]).unwrap()
            }
        };
        match make(&self.ring, &what, &keys) {
            Ok(next) => {
                succeeds(&self.ring, &next).unwrap();
                *self.mix.entry(kind).or_default() += usize::from(next != self.ring);
                match what {
                    Change::Mint { material, .. } => drop(self.minted.insert(next.last_id, material)),
                    Change::Escrow(escrow) => self.escrow = escrow,
                    _ => {}
                }
                self.ring = next;
            }
            Err(refusal) => {
                let line = refusal.to_string();
                assert!(!line.contains('\n') && line.len() < 300, "{line}");
                *self.mix.entry("refused").or_default() += 1;
            }
        }
        self.check();
    }

    /// Every key that lives opens, as what was minted, for whoever must have it; and for nobody else.
    fn check(&self) {
        let ids: Vec<i64> = self.ring.keys.iter().map(|key| key.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(self.minted.keys().eq(&ids), "a number came twice or was left out");
        let must: BTreeSet<&AgeRecipient> = recipients(&self.ring).collect();
        for (recipient, identity) in &self.everybody {
            for (key, opened) in inspect(&self.ring, identity) {
                match opened {
                    Ok(material) => {
                        assert!(must.contains(recipient), "{} is sealed for somebody else", key.name);
                        assert_eq!(material.bytes(), self.minted[&key.id].bytes());
                    }
                    Err(fault) => {
                        assert_eq!(fault, Fault::NotSealed);
                        assert!(!must.contains(recipient), "{} is not sealed for {recipient}", key.name);
                    }
                }
            }
        }
        for key in living(&self.ring) {
            assert!(unsealed(&self.ring, key).is_empty(), "{}", key.name);
        }
    }
}

#[test]
fn whatever_is_done_every_holder_opens_every_key() {
    let mut mix: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=12_u64 {
        let mut story = Story::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for _ in 0..40 {
            story.step();
        }
        for (kind, count) in story.mix {
            *mix.entry(kind).or_default() += count;
        }
    }
    eprintln!("{mix:?}");
    for kind in [
        "admit", "destroy", "escrow", "found", "mint", "refused", "remove", "retire",
    ] {
        let count = mix.get(kind).copied().unwrap_or_default();
        assert!(count >= 5, "{kind} happened {count} times only: {mix:?}");
    }
}

/// A key planted where a slip would show it: in what is printed, and in what is stored.
#[test]
fn no_key_is_seen_outside() {
    let planted: [u8; 32] = std::array::from_fn(|at| b"canary-of-key-material-32-bytes!"[at]);
    let material = KeyMaterial::new(planted);
    let base64 = material.to_base64();
    let hex = planted
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let list = format!("{planted:?}");
    let raw = String::from_utf8(planted.to_vec()).unwrap();
    let (ring, member, safe, escrow) = ring(&[]);
    let order = mint(0, material, &escrow);
    let ring = make(&ring, &order, &Opened::new()).unwrap();
    let keys = open(&ring, &member).unwrap();
    let act = Act {
        now: now(),
        keys: &keys,
        seal: &seal,
    };
    let import = Change::Import {
        name: "k1".to_owned(),
        provider: Provider::AESGCM,
        material: keys[&1].clone(),
        escrow,
    };
    let refused = make(&ring, &mint(1, keys[&1].clone(), &offline(&[&safe])), &keys).unwrap_err();
    let bad = identities(&format!("# mine\n{}x", *member.to_text())).unwrap_err();
    let shown = [
        format!("{order:?} {import:?} {act:?} {keys:?} {ring:?} {member:?} {refused:?} {refused} {bad} {bad:?}"),
        serde_json::to_string(&ring).unwrap(),
        serde_saphyr::to_string(&ring).unwrap(),
    ];
    let identity = member.to_text();
    for text in &shown {
        for secret in [
            &*base64,
            &hex,
            &list,
            &raw,
            &*identity,
            identity.trim_start_matches("AGE-SECRET-KEY-1"),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    // The search finds what is there.
    assert!(format!("{planted:?} {raw} {}", *base64).contains(&list));
}

/// What a person has who lost every node: the ring as an object, an escrow identity and the age tool.
#[test]
fn the_stock_age_opens_an_escrow_seal() {
    let (ring, _, safe, _) = ring(&[0xA7]);
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("escrow.txt");
    fs::write(&identity, format!("# offline\n{}\n", *safe.to_text())).unwrap();
    let wrap = ring.keys[0]
        .wraps
        .iter()
        .find(|wrap| wrap.recipient == *safe.recipient())
        .unwrap();
    let sealed = folder.path().join("k1.age");
    fs::write(&sealed, &wrap.sealed.0).unwrap();
    let age = find(Tool::Age).unwrap();
    let decrypt = |identity: &std::path::Path| {
        Command::new(&age)
            .arg("-d")
            .arg("-i")
            .arg(identity)
            .arg(&sealed)
            .output()
            .unwrap()
    };
    let opened = decrypt(&identity);
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    assert_eq!(String::from_utf8(opened.stdout).unwrap(), *key(0xA7).to_base64());
    // And for nobody else.
    fs::write(&identity, &**new_identity().unwrap().to_text()).unwrap();
    let refused = decrypt(&identity);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    // The other way: what the stock tool seals, we open.
    let plain = folder.path().join("plain");
    fs::write(&plain, &**key(0xA7).to_base64()).unwrap();
    let theirs = Command::new(&age)
        .args(["-a", "-r"])
        .arg(&*safe.recipient().0)
        .arg(&plain)
        .output()
        .unwrap();
    let mut resealed = ring.clone();
    let wraps = &mut resealed.keys[0].wraps;
    let theirs = Armored(String::from_utf8(theirs.stdout).unwrap());
    wraps
        .iter_mut()
        .find(|wrap| wrap.recipient == *safe.recipient())
        .unwrap()
        .sealed = theirs;
    assert_eq!(open(&resealed, &safe).unwrap()[&1].bytes(), key(0xA7).bytes());
}

#[test]
fn an_identity_file_that_is_none_is_told_why() {
    let identity = new_identity().unwrap();
    let text = identity.to_text();
    let file = format!(
        "# created: today\n# public key: {}\n\n{}\n",
        identity.recipient(),
        *text
    );
    assert_eq!(identities(&file).unwrap()[0].recipient(), identity.recipient());
    for (file, says) in [
        (String::new(), "holds no identity"),
        ("# nothing\n".to_owned(), "holds no identity"),
        (format!("# a\n{}", &text[..40]), "line 2 is no age identity"),
        (identity.recipient().to_string(), "line 1 is no age identity"),
        ("age-encryption.org/v1\n-> scrypt".to_owned(), "is encrypted"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned(), "is encrypted"),
    ] {
        let said = identities(&file).unwrap_err().to_string();
        assert!(said.contains(says) && !said.contains(&text[16..40]), "{said}");
    }
}
