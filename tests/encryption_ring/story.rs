//! Random stories of a ring.

use super::*;

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
