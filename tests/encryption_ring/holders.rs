//! Who comes to hold the keys, and who does no more.

use super::*;

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
