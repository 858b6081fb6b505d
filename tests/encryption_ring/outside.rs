//! What is seen outside: no key; and what the stock `age` makes of a seal.

use super::*;

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
