//! Keys of others, counts of writes, and the end of a key.

use super::*;

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
