use proptest::prelude::*;

use super::*;

fn key(id: u64, provider: Provider) -> Key {
    let byte = u8::try_from(id % 251).unwrap();
    Key {
        name: KeyName::minted(id),
        provider,
        material: KeyMaterial::new([byte.wrapping_add(100); 32]),
    }
}

fn aes(id: u64) -> Transformer {
    Transformer::Key(key(id, Provider::AESGCM))
}

fn secrets() -> [ResourceName; 1] {
    [ResourceName("secrets".to_owned())]
}

fn file(write: Transformer, read: impl IntoIterator<Item = Transformer>) -> Zeroizing<String> {
    render(&Desired::new(secrets(), write, read).unwrap())
}

#[test]
fn the_bytes_are_canonical() {
    let text = file(aes(2), [Transformer::Identity, aes(1), aes(2)]);
    let secret = |id| key(id, Provider::AESGCM).material.to_base64();
    let expected = format!(
        r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{{"providers":[{{"aesgcm":{{"keys":[{{"name":"k2","secret":"{}"}},{{"name":"k1","secret":"{}"}}]}}}},{{"identity":{{}}}}],"resources":["secrets"]}}]}}"#,
        *secret(2),
        *secret(1),
    );
    assert_eq!(*text, expected);
    assert_eq!(
        *text,
        *file(aes(2), [aes(1), Transformer::Identity]),
        "whatever the order"
    );
    let first = file(Transformer::Identity, [aes(1)]);
    assert!(
        first.contains(r#""providers":[{"identity":{}},{"aesgcm""#),
        "identity writes: {}",
        first.len()
    );
}

#[test]
fn what_a_person_wrote_is_told_from_ours() {
    let text = file(aes(1), []);
    assert!(read(text.as_bytes()).unwrap().ours().is_some());
    let spaced = text.replace("[{\"providers\"", "[ {\"providers\"");
    let seen = read(spaced.as_bytes()).unwrap();
    assert!(seen.ours().is_none(), "one space more");
    assert_eq!(
        seen.keys(),
        [key(1, Provider::AESGCM)],
        "and its keys can be taken over"
    );
}

#[test]
fn keys_of_one_cipher_share_one_provider_whatever_stands_between_them() {
    let secretbox = Transformer::Key(key(2, Provider::Secretbox));
    let text = file(aes(3), [secretbox, aes(1)]);
    assert_eq!(text.matches("aesgcm").count(), 1);
    let order: Vec<_> = ["k3", "k1", "secretbox", "k2"]
        .map(|word| text.find(word).unwrap())
        .into();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn what_must_not_be_written_is_refused() {
    let refused = |resource: &str| {
        let resources = [ResourceName(resource.to_owned())];
        Desired::new(resources, aes(1), []).unwrap_err().to_string()
    };
    assert!(refused("*.").contains("wildcards"));
    assert!(refused("Secrets").contains("capital letters"));
    assert!(refused("encryptionkeyrings.cloison.dev").contains("stay readable"));
    assert_eq!(Desired::new([], aes(1), []), Err(Undesirable::NoResource));
    let other = Transformer::Key(Key {
        material: KeyMaterial::new([9; 32]),
        ..key(1, Provider::AESGCM)
    });
    let reused = Desired::new(secrets(), aes(1), [other]);
    assert_eq!(reused, Err(Undesirable::NameReused(KeyName::minted(1))));
    let same_number = Transformer::Key(key(1, Provider::Secretbox));
    assert!(
        Desired::new(secrets(), aes(1), [same_number]).is_err(),
        "also under another cipher"
    );
}

#[test]
fn names_keep_their_number() {
    assert_eq!(KeyName::minted(17).id(), Some(17));
    for foreign in ["k01", "key1", "k", "K1", "k-1", "k+1"] {
        assert_eq!(KeyName::parse(foreign).unwrap().id(), None, "{foreign}");
    }
    assert_eq!(KeyName::parse("a:b"), None);
    assert_eq!(KeyName::parse(""), None);
}

#[test]
fn the_hash_is_the_one_the_api_server_shows() {
    // sha256sum of `{}`.
    let expected = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(hash(b"{}"), expected);
}

/// A file with one provider list, in JSON.
fn with_providers(providers: &str) -> String {
    format!(
        r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{{"resources":["secrets"],"providers":{providers}}}]}}"#
    )
}

const SECRET: &str = "Q0FOQVJZLXBsYW50ZWQtYnktdGhlLXRlc3QtMDAwMDA=";

#[test]
fn a_fault_says_where_and_never_what_stands_there() {
    let provider = |provider: &str| with_providers(&format!("[{provider}]"));
    let cases = [
        (
            provider(&format!(
                r#"{{"aesgcm":{{"keys":[{{"name":"k1","secret":"{SECRET}A"}}]}}}}"#
            )),
            "resources[0].providers[0].aesgcm.keys[0].secret: not base64 (RFC 4648, padded)",
        ),
        (
            provider(&format!(r#"{{"aesgcm":{{"keys":[{{"name":"k1","{SECRET}":1}}]}}}}"#)),
            "resources[0].providers[0].aesgcm.keys[0]: unknown field (not shown); known are name, secret",
        ),
        (
            provider(&format!(r#"{{"aesgcm":{{"keys":"{SECRET}"}}}}"#)),
            "resources[0].providers[0].aesgcm.keys: must be a list, is a text",
        ),
        (
            provider(r#"{"secretbox":{"keys":[{"name":"k1","secret":"c2hvcnQ="}]}}"#),
            "resources[0].providers[0].secretbox.keys[0].secret: 5 bytes long after base64; it must be 32 bytes",
        ),
        (
            provider(r#"{"aesgcm":{"keys":[{"name":"k1","name":"k2"}]}}"#),
            "resources[0].providers[0].aesgcm.keys[0]: the field name is there twice",
        ),
        (format!("{SECRET}: ["), "not valid YAML at line 1"),
    ];
    for (text, expected) in cases {
        let fault = read(text.as_bytes()).unwrap_err();
        assert_eq!(fault.to_string(), expected);
        assert!(!format!("{fault:?}").contains(SECRET));
    }
}

#[test]
fn a_file_that_is_read_is_never_shown() {
    let text = with_providers(&format!(
        r#"[{{"aesgcm":{{"keys":[{{"name":"k1","secret":"{SECRET}"}}]}}}},{{"aescbc":{{"keys":[{{"name":"k2","secret":"{SECRET}"}}]}}}}]"#
    ));
    let seen = read(text.as_bytes()).unwrap();
    let shown = format!("{seen:?} {:?}", seen.keys());
    assert!(
        shown.contains("k1") && !shown.contains("Q0FO") && !shown.contains("67, 65, 78"),
        "{shown}"
    );
}

#[test]
fn what_is_legal_and_not_ours_to_write_is_told_apart() {
    let all = |text: &str| -> Vec<Objection> { read(text.as_bytes()).unwrap().objections().iter().copied().collect() };
    let key = format!(r#"{{"keys":[{{"name":"k1","secret":"{SECRET}"}}]}}"#);
    assert_eq!(all(&with_providers(&format!(r#"[{{"aesgcm":{key}}}]"#))), []);
    let last = with_providers(&format!(r#"[{{"aesgcm":{key}}},{{"identity":{{}}}}]"#));
    assert_eq!(all(&last), [Objection::IdentityReads]);
    let first = with_providers(&format!(r#"[{{"identity":{{}}}},{{"aescbc":{key}}}]"#));
    assert_eq!(all(&first), [Objection::IdentityFirst, Objection::Aescbc]);
    let kms = |version| {
        let plugin = format!(r#"{{"name":"p","endpoint":"unix:///p.sock","apiVersion":"{version}"}}"#);
        all(&with_providers(&format!(r#"[{{"kms":{plugin}}}]"#)))
    };
    assert_eq!((kms("v1"), kms("v2")), (vec![Objection::KmsV1], vec![Objection::KmsV2]));
    let everything = with_providers(&format!(r#"[{{"aesgcm":{key}}}]"#)).replace("secrets", "*.*");
    assert_eq!(all(&everything), [Objection::Wildcard, Objection::OwnGroup]);
}

#[test]
fn a_cut_yaml_file_can_be_valid_and_a_cut_file_of_ours_never() {
    let yaml = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - aesgcm:\n      keys:\n      - {{name: k2, secret: {SECRET}}}\n"
    );
    let whole = format!("{yaml}      - {{name: k1, secret: {SECRET}}}\n");
    assert_eq!(
        read(whole.as_bytes()).unwrap().entries()[0].providers[0]
            .all_keys()
            .len(),
        2
    );
    let cut = read(yaml.as_bytes()).unwrap();
    assert_eq!(cut.keys().len(), 1, "one key less and nothing to see");
    assert!(cut.objections().contains(&Objection::Yaml));
    let ours = file(aes(2), [aes(1)]);
    for end in 0..ours.len() {
        assert!(read(&ours.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn the_most_specific_entry_counts_for_a_resource() {
    let entry = |resources: &str, provider: &str| format!(r#"{{"resources":[{resources}],"providers":[{provider}]}}"#);
    let cipher = |name: &str| format!(r#"{{"{name}":{{"keys":[{{"name":"k1","secret":"{SECRET}"}}]}}}}"#);
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"EncryptionConfig","resources":[{},{},{}]}}"#,
        entry(r#""events""#, r#"{"identity":{}}"#),
        entry(r#""*.""#, &cipher("aesgcm")),
        entry(r#""*.*""#, &cipher("secretbox")),
    );
    let seen = read(text.as_bytes()).unwrap();
    assert_eq!(seen.providers("events"), [&SeenProvider::Identity]);
    assert!(matches!(seen.providers("secrets")[..], [SeenProvider::Aesgcm(_)]));
    assert!(matches!(
        seen.providers("leases.coordination.k8s.io")[..],
        [SeenProvider::Secretbox(_)]
    ));
}

fn transformer() -> impl Strategy<Value = Transformer> {
    prop_oneof![
        1 => Just(Transformer::Identity),
        4 => (1..40_u64).prop_map(|id| {
            // A number has one cipher.
            let provider = if id % 3 == 0 { Provider::Secretbox } else { Provider::AESGCM };
            Transformer::Key(key(id, provider))
        }),
        1 => "[ -~]{1,6}".prop_filter_map("a name", |name| {
            let name = KeyName::parse(&format!("old-{name}"))?;
            Some(Transformer::Key(Key { name, provider: Provider::AESGCM, material: KeyMaterial::new([3; 32]) }))
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_as_ours(
        write in transformer(),
        mut reads in prop::collection::vec(transformer(), 0..6),
        resources in prop::sample::subsequence(vec!["secrets", "configmaps", "routes.example.org"], 1..=3),
    ) {
        let desired = |reads: Vec<Transformer>| {
            Desired::new(resources.iter().map(|name| ResourceName((*name).to_owned())), write.clone(), reads).unwrap()
        };
        let one = desired(reads.clone());
        reads.reverse();
        let text = render(&desired(reads));
        prop_assert_eq!(&*text, &*render(&one), "the order of what is read is of no account");
        let seen = read(text.as_bytes()).unwrap();
        prop_assert_eq!(seen.ours(), Some(&one));
        prop_assert_eq!(seen.hash(), hash(text.as_bytes()));
        prop_assert!(text.capacity() >= text.len());
    }

    #[test]
    fn any_text_is_read_without_panic(text in "(?s).{0,200}", near in "[\\[\\]{}:,\"a-z0-9 \n&*<!|>-]{0,60}") {
        let _ = read(text.as_bytes());
        let _ = read(near.as_bytes());
        let _ = read(with_providers(&near).as_bytes());
    }
}
