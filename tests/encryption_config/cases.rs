//! Files, good and bad.

/// What an API server of 1.36 makes of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    Accepted,
    Refused,
    /// Accepted only with `--feature-gates=KMSv1=true`.
    Gated,
}

use Expected::{Accepted, Gated, Refused};

pub struct Case {
    pub name: String,
    pub file: Vec<u8>,
    pub expected: Expected,
}

/// 32, 24, 16 and 5 bytes.
pub const KEYS: [&str; 4] = [
    "Q0FOQVJZLXBsYW50ZWQtYnktdGhlLXRlc3QtMDAwMDA=",
    "Q0FOQVJZLXBsYW50ZWQtYnktdGhlLXRl",
    "Q0FOQVJZLXBsYW50ZWQtYg==",
    "c2hvcnQ=",
];

/// A provider with one key.
pub fn cipher(name: &str, key: &str) -> String {
    format!(r#"{{"{name}":{{"keys":[{{"name":"k1","secret":"{key}"}}]}}}}"#)
}

/// An entry of `resources`.
pub fn entry(resources: &str, providers: &str) -> String {
    format!(r#"{{"resources":[{resources}],"providers":[{providers}]}}"#)
}

pub fn file(entries: &str) -> String {
    format!(r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{entries}]}}"#)
}

fn providers(list: &str) -> String {
    file(&entry(r#""secrets""#, list))
}

fn resources(list: &str) -> String {
    file(&entry(list, &cipher("aesgcm", KEYS[0])))
}

/// One key, written out.
fn key(fields: &str) -> String {
    providers(&format!(r#"{{"aesgcm":{{"keys":[{{{fields}}}]}}}}"#))
}

fn kms(fields: &str) -> String {
    providers(&format!(r#"{{"kms":{{"timeout":"10ms",{fields}}}}}"#))
}

const YAML: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

fn yaml(rest: &str) -> String {
    format!("{YAML}{}", rest.replace("KEY", KEYS[0]))
}

/// The table.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: &str, expected: Expected, file: String| {
        all.push(Case {
            name: name.to_owned(),
            file: file.into_bytes(),
            expected,
        });
    };
    let good = providers(&cipher("aesgcm", KEYS[0]));
    shape(&mut add, &good);
    lists(&mut add);
    keys(&mut add);
    plugins(&mut add);
    other_language(&mut add, &good);
    let mut foreign = good.clone().into_bytes();
    let at = good.find("secrets").unwrap();
    foreign[at] = 0xff;
    all.push(Case {
        name: "JSON that is not UTF-8".to_owned(),
        file: foreign,
        expected: Accepted,
    });
    all.push(Case {
        name: "YAML that is not UTF-8".to_owned(),
        file: b"kind: \xff".to_vec(),
        expected: Refused,
    });
    all
}

fn shape(add: &mut impl FnMut(&str, Expected, String), good: &str) {
    add("plain", Accepted, good.to_owned());
    add("empty", Refused, String::new());
    add("white space", Refused, " \n".to_owned());
    add("null", Refused, "null".to_owned());
    add("an empty object", Refused, "{}".to_owned());
    add("cut off", Refused, good[..good.len() - 1].to_owned());
    add("something after the end", Refused, format!("{good}}}"));
    add("white space around", Accepted, format!(" \n{good}\n"));
    add(
        "the older name",
        Accepted,
        good.replace("apiserver.config.k8s.io/v1", "v1")
            .replace("Configuration", "Config"),
    );
    add(
        "the older name with a slash",
        Accepted,
        good.replace("apiserver.config.k8s.io/v1", "/v1")
            .replace("Configuration", "Config"),
    );
    add(
        "both names mixed",
        Refused,
        good.replace("apiserver.config.k8s.io/v1", "v1"),
    );
    add("another version", Refused, good.replace(".io/v1", ".io/v1beta1"));
    add(
        "no version",
        Refused,
        good.replace(r#""apiVersion":"apiserver.config.k8s.io/v1","#, ""),
    );
    add(
        "another kind",
        Refused,
        good.replace("EncryptionConfiguration", "AuthenticationConfiguration"),
    );
    add(
        "no kind",
        Refused,
        good.replace(r#""kind":"EncryptionConfiguration","#, ""),
    );
    add("an unknown field", Refused, good.replacen('{', r#"{"metadata":{},"#, 1));
    add(
        "an unknown field that is null",
        Refused,
        good.replacen('{', r#"{"spec":null,"#, 1),
    );
    add("a field in capitals", Refused, good.replace("\"kind\"", "\"Kind\""));
    add(
        "a field twice",
        Refused,
        good.replacen('{', r#"{"kind":"EncryptionConfiguration","#, 1),
    );
    add("no entry", Refused, file(""));
    add("entries are null", Refused, file("").replace("[]", "null"));
    add("an entry is null", Refused, file("null"));
    add("entries are an object", Refused, file("").replace("[]", "{}"));
    add("a number for a text", Refused, good.replace("\"k1\"", "1"));
}

fn lists(add: &mut impl FnMut(&str, Expected, String)) {
    let aes = cipher("aesgcm", KEYS[0]);
    let two = |first: &str, second: &str| file(&format!("{},{}", entry(first, &aes), entry(second, &aes)));
    for (list, expected) in [
        ("", Refused),
        (r#""secrets","configmaps""#, Accepted),
        (r#""secrets","secrets""#, Refused),
        (r#""secrets","secrets.""#, Refused),
        (r#""Secrets""#, Refused),
        (r#""*""#, Refused),
        (r#""*.""#, Accepted),
        (r#""*.*""#, Accepted),
        (r#""*.apps""#, Accepted),
        (r#""secrets.*""#, Refused),
        (r#""*.","secrets""#, Refused),
        (r#""*.apps","deployments.apps""#, Refused),
        (r#""*.apps","secrets""#, Accepted),
        (r#""*.*","secrets""#, Refused),
        (r#""secrets","*.*""#, Refused),
        (r#""events.events.k8s.io""#, Refused),
        (r#""*.events.k8s.io""#, Refused),
        (r#""ingresses.extensions""#, Refused),
        (r#""serviceipallocations""#, Refused),
        (r#""apiserveripinfo""#, Refused),
        (r#""no such thing""#, Accepted),
        (r#""""#, Accepted),
        (r#""secrets",null"#, Accepted),
        (r#""secrets",1"#, Refused),
    ] {
        add(&format!("resources [{list}]"), expected, resources(list));
    }
    for (first, second, expected) in [
        (r#""secrets""#, r#""*.""#, Accepted),
        (r#""*.""#, r#""secrets""#, Refused),
        (r#""*.*""#, r#""secrets""#, Refused),
        (r#""*.apps""#, r#""*.*""#, Accepted),
        (r#""*.apps""#, r#""deployments.apps""#, Refused),
        (r#""*.apps""#, r#""*.apps""#, Refused),
        (r#""secrets""#, r#""secrets""#, Accepted),
    ] {
        add(
            &format!("entries [{first}] and [{second}]"),
            expected,
            two(first, second),
        );
    }
}

#[allow(clippy::too_many_lines)] // a table
fn keys(add: &mut impl FnMut(&str, Expected, String)) {
    for name in ["aesgcm", "aescbc", "secretbox"] {
        for (secret, bytes) in KEYS.iter().zip([32, 24, 16, 5]) {
            let fits = if name == "secretbox" { bytes == 32 } else { bytes >= 16 };
            let expected = if fits { Accepted } else { Refused };
            add(
                &format!("{name} with {bytes} bytes"),
                expected,
                providers(&cipher(name, secret)),
            );
        }
    }
    let name = r#""name":"k1","#;
    let secret = KEYS[0];
    for (what, expected, fields) in [
        ("no name", Refused, format!(r#""secret":"{secret}""#)),
        ("an empty name", Refused, format!(r#""name":"","secret":"{secret}""#)),
        (
            "a colon in the name",
            Accepted,
            format!(r#""name":"a:b","secret":"{secret}""#),
        ),
        ("no secret", Refused, r#""name":"k1""#.to_owned()),
        ("an empty secret", Refused, format!(r#"{name}"secret":"""#)),
        ("a secret that is null", Refused, format!(r#"{name}"secret":null"#)),
        (
            "no base64",
            Refused,
            format!(r#"{name}"secret":"{}""#, secret.replace('Q', "-")),
        ),
        (
            "base64 without padding",
            Refused,
            format!(r#"{name}"secret":"{}""#, secret.trim_end_matches('=')),
        ),
        (
            "base64 with a line end",
            Accepted,
            format!(r#"{name}"secret":"{}""#, secret.replacen("Q0", "Q0\\n", 1)),
        ),
        (
            "base64 with a space",
            Refused,
            format!(r#"{name}"secret":"{}""#, secret.replacen("Q0", "Q0 ", 1)),
        ),
        (
            "base64 with unused bits",
            Accepted,
            format!(r#"{name}"secret":"{}""#, secret.replace("A=", "B=")),
        ),
        (
            "an unknown field in a key",
            Refused,
            format!(r#"{name}"secret":"{secret}","id":1"#),
        ),
        (
            "a secret twice",
            Refused,
            format!(r#"{name}"secret":"{secret}","secret":"{secret}""#),
        ),
    ] {
        add(what, expected, key(&fields));
    }
    let aes = cipher("aesgcm", secret);
    let both = format!("{},{}", &aes[..aes.len() - 1], &cipher("secretbox", secret)[1..]);
    let twice = format!(r#"{{"name":"k1","secret":"{secret}"}}"#);
    for (what, expected, list) in [
        ("no provider", Refused, String::new()),
        ("an empty provider", Refused, "{}".to_owned()),
        ("a provider that is null", Refused, "null".to_owned()),
        ("two providers in one entry", Refused, both),
        ("an unknown provider", Refused, r#"{"rot13":{}}"#.to_owned()),
        ("identity", Accepted, r#"{"identity":{}}"#.to_owned()),
        ("identity that is null", Refused, r#"{"identity":null}"#.to_owned()),
        (
            "identity with a field",
            Refused,
            r#"{"identity":{"keys":[]}}"#.to_owned(),
        ),
        ("identity that is a list", Refused, r#"{"identity":[]}"#.to_owned()),
        ("identity first", Accepted, format!(r#"{{"identity":{{}}}},{aes}"#)),
        ("identity last", Accepted, format!(r#"{aes},{{"identity":{{}}}}"#)),
        (
            "identity twice",
            Accepted,
            r#"{"identity":{}},{"identity":{}}"#.to_owned(),
        ),
        ("no keys", Refused, r#"{"aesgcm":{"keys":[]}}"#.to_owned()),
        ("keys left out", Refused, r#"{"aesgcm":{}}"#.to_owned()),
        (
            "a key that is null",
            Refused,
            r#"{"aesgcm":{"keys":[null]}}"#.to_owned(),
        ),
        (
            "two keys of one name",
            Accepted,
            format!(r#"{{"aesgcm":{{"keys":[{twice},{twice}]}}}}"#),
        ),
        ("one cipher twice", Accepted, format!("{aes},{aes}")),
    ] {
        add(what, expected, providers(&list));
    }
}

fn plugins(add: &mut impl FnMut(&str, Expected, String)) {
    let v2 = r#""apiVersion":"v2","name":"p","endpoint":"unix:///tmp/no-such.sock""#;
    let v1 = v2.replace("v2", "v1");
    add("KMS v2", Accepted, kms(v2));
    add("KMS v1", Gated, kms(&v1));
    add(
        "KMS without a version",
        Gated,
        kms(&v2.replace(r#""apiVersion":"v2","#, "")),
    );
    add("KMS v1 with a cache", Gated, kms(&format!(r#"{v1},"cachesize":-1"#)));
    add(
        "KMS v1 with a cache of nothing",
        Refused,
        kms(&format!(r#"{v1},"cachesize":0"#)),
    );
    add("KMS v2 with a cache", Refused, kms(&format!(r#"{v2},"cachesize":100"#)));
    add("KMS v3", Refused, kms(&v2.replace("v2", "v3")));
    add("KMS without a name", Refused, kms(&v2.replace(r#""name":"p","#, "")));
    add(
        "KMS v2 with a colon in its name",
        Refused,
        kms(&v2.replace("\"p\"", "\"a:b\"")),
    );
    add(
        "KMS v1 with a colon in its name",
        Gated,
        kms(&v1.replace("\"p\"", "\"a:b\"")),
    );
    add(
        "KMS without an endpoint",
        Refused,
        kms(r#""apiVersion":"v2","name":"p""#),
    );
    add("KMS over TCP", Refused, kms(&v2.replace("unix://", "tcp://127.0.0.1")));
    add(
        "KMS with a broken endpoint",
        Refused,
        kms(&v2.replace("no-such", "%zz")),
    );
    for (timeout, expected) in [
        ("3s", Accepted),
        ("0s", Refused),
        ("-1s", Refused),
        ("3", Refused),
        ("", Refused),
    ] {
        let file = kms(v2).replace("\"10ms\"", &format!("\"{timeout}\""));
        add(&format!("KMS timeout {timeout:?}"), expected, file);
    }
    add("KMS timeout as a number", Refused, kms(v2).replace("\"10ms\"", "3"));
    let plugin = format!(r#"{{"kms":{{"timeout":"10ms",{v2}}}}}"#);
    add("one plugin twice", Refused, providers(&format!("{plugin},{plugin}")));
    let other = plugin.replace("\"p\"", "\"q\"");
    add("two plugins", Accepted, providers(&format!("{plugin},{other}")));
}

#[allow(clippy::too_many_lines)] // a table
fn other_language(add: &mut impl FnMut(&str, Expected, String), good: &str) {
    let tail = "resources:\n- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n      - name: k1\n        secret: KEY\n";
    add("YAML", Accepted, yaml(tail));
    add(
        "YAML, cut off after a key",
        Accepted,
        yaml(&format!("{tail}      - name: k2\n        secret: KEY\n"))
            .replace("      - name: k2\n", "      # ")
            .replace("#         secret: ", "# "),
    );
    add("YAML, cut off in a key", Refused, yaml(&tail[..tail.len() - 6]));
    add("YAML with a comment", Accepted, format!("# c\n{}", yaml(tail)));
    add("YAML that holds JSON", Accepted, format!("---\n{good}"));
    add(
        "YAML, the first of two documents counts",
        Accepted,
        format!("{}---\nkind: Nonsense\n", yaml(tail)),
    );
    add(
        "YAML, an empty document first",
        Refused,
        format!("---\n---\n{}", yaml(tail)),
    );
    add(
        "YAML, a field twice",
        Refused,
        yaml(&tail.replace("name: k1", "name: k1\n        name: k1")),
    );
    add(
        "YAML, an unknown field",
        Refused,
        yaml(&tail.replace("name: k1", "nam: k1")),
    );
    add(
        "YAML, a name that is a boolean",
        Refused,
        yaml(&tail.replace("k1", "yes")),
    );
    add(
        "YAML, a name in quotation marks",
        Accepted,
        yaml(&tail.replace("k1", "\"yes\"")),
    );
    add(
        "YAML, a name that is a number",
        Refused,
        yaml(&tail.replace("k1", "017")),
    );
    add(
        "YAML, a name that is a date",
        Accepted,
        yaml(&tail.replace("k1", "2026-01-02")),
    );
    add(
        "YAML, identity without a value",
        Refused,
        yaml("resources:\n- resources: [secrets]\n  providers:\n  - identity:\n"),
    );
    add(
        "YAML, an anchor",
        Accepted,
        yaml(&tail.replace("aesgcm:", "aesgcm: &a")).replace("- name: k1", "- name: &n k1") + "  - secretbox: *a\n",
    );
    add(
        "YAML, a merge",
        Accepted,
        yaml(&tail.replace(
            "- name: k1\n        secret: KEY",
            "- &k\n        name: k1\n        secret: KEY\n      - <<: *k",
        )),
    );
    add(
        "YAML, a merge over a field",
        Refused,
        yaml(&tail.replace(
            "- name: k1\n        secret: KEY",
            "- &k\n        name: k1\n        secret: KEY\n      - <<: *k\n        name: k2",
        )),
    );
    add(
        "YAML, a name with the tag !!str",
        Accepted,
        yaml(&tail.replace("k1", "!!str 1")),
    );
    add("YAML 1.2", Refused, format!("%YAML 1.2\n---\n{}", yaml(tail)));
    add("YAML 1.1", Accepted, format!("%YAML 1.1\n---\n{}", yaml(tail)));
    add(
        "YAML, a tab",
        Refused,
        yaml(&tail.replace("  providers", "\tproviders")),
    );
    add("YAML, a list", Refused, "- a\n".to_owned());
    add(
        "YAML, a wildcard without quotation marks",
        Refused,
        yaml(&tail.replace("[secrets]", "[*.*]")),
    );
    add(
        "YAML, a wildcard in quotation marks",
        Accepted,
        yaml(&tail.replace("[secrets]", "['*.*']")),
    );
    add("YAML, a comment alone", Refused, "# nothing\n".to_owned());
}
