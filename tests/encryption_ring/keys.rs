//! Keys are made once, and are sealed for whoever must open them.

use super::*;

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
