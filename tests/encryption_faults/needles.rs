//! What nobody may find, in the forms in which it may be told.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cloison::encryption::config;

/// What is looked for, with a name that may be told.
pub struct Needles {
    all: Vec<(String, Vec<u8>)>,
    /// By their first two bytes: a search goes over its hay once.
    by_start: Vec<Vec<usize>>,
}

/// One byte after the other, each in this form.
fn each(bytes: &[u8], form: impl Fn(u8) -> String) -> Vec<u8> {
    bytes.iter().map(|byte| form(*byte)).collect::<String>().into_bytes()
}

/// As a list, such as `Debug` and JSON make of bytes, without its brackets: it may be part of a longer one.
fn list(bytes: &[u8], separator: &str) -> Vec<u8> {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    numbers.join(separator).into_bytes()
}

/// In base64, where it begins at any place of what was encoded.
fn inside_base64(bytes: &[u8], before: usize) -> Vec<u8> {
    let text = STANDARD_NO_PAD.encode([&vec![0; before], bytes].concat());
    let (from, until) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
    text.as_bytes()[from..until].to_vec()
}

/// Every form of these bytes.
fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let percent = |byte: u8| format!("%{byte:02X}");
    let mixed = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            percent(byte)
        }
    };
    vec![
        ("as it is", bytes.to_vec()),
        ("in base64", inside_base64(bytes, 0)),
        ("in base64 from the second byte", inside_base64(bytes, 1)),
        ("in base64 from the third byte", inside_base64(bytes, 2)),
        ("in hex", each(bytes, |byte| format!("{byte:02x}"))),
        ("in upper hex", each(bytes, |byte| format!("{byte:02X}"))),
        ("as a Debug list", list(bytes, ", ")),
        ("as a JSON list", list(bytes, ",")),
        ("escaped \\x", each(bytes, |byte| format!("\\x{byte:02x}"))),
        (
            "escaped where it must be",
            bytes.escape_ascii().to_string().into_bytes(),
        ),
        ("escaped \\u{}", each(bytes, |byte| format!("\\u{{{byte:x}}}"))),
        ("escaped \\u00", each(bytes, |byte| format!("\\u{byte:04x}"))),
        ("in percent", each(bytes, percent)),
        ("in percent where it must be", each(bytes, mixed)),
    ]
}

impl Needles {
    /// Every key of these files, itself and its base64, and this value; in every form.
    pub fn of(files: &[Vec<u8>], canary: &str) -> Self {
        let mut all = Vec::new();
        let mut add = |name: &str, bytes: &[u8]| {
            let named = |(form, needle): (&str, Vec<u8>)| (format!("{name} {form}"), needle);
            all.extend(forms(bytes).into_iter().map(named));
        };
        add("the canary", canary.as_bytes());
        for (name, key) in keys(files) {
            add(&name, &key);
            add(&format!("base64 of {name}"), STANDARD.encode(key).as_bytes());
        }
        Self::new(all)
    }

    /// Every key of these files as memory holds it: its bytes and its base64, also half of either. A buffer that grew, or
    /// a part of a stack that was used again, may have kept no more than that.
    pub fn in_memory(files: &[Vec<u8>]) -> Self {
        let mut all = Vec::new();
        for (name, key) in keys(files) {
            for (form, bytes) in [
                ("", key.clone()),
                ("base64 of ", STANDARD_NO_PAD.encode(key).into_bytes()),
            ] {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                all.push((format!("the first half of {form}{name}"), first.to_vec()));
                all.push((format!("the second half of {form}{name}"), second.to_vec()));
            }
        }
        Self::new(all)
    }

    fn new(all: Vec<(String, Vec<u8>)>) -> Self {
        let mut by_start = vec![Vec::new(); 1 << 16];
        for (index, (_, needle)) in all.iter().enumerate() {
            by_start[start(needle)].push(index);
        }
        Self { all, by_start }
    }

    /// The names of what is in there.
    pub fn found_in(&self, hay: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for at in 0..hay.len().saturating_sub(1) {
            for index in &self.by_start[start(&hay[at..])] {
                let (name, needle) = &self.all[*index];
                if hay[at..].starts_with(needle) {
                    found.insert(name.as_str());
                }
            }
        }
        found
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// By name, each once.
fn keys(files: &[Vec<u8>]) -> BTreeSet<(String, Vec<u8>)> {
    let read = |file: &Vec<u8>| {
        let keys = config::read(file).unwrap().keys();
        keys.into_iter()
            .map(|key| (key.name.to_string(), key.material.bytes().to_vec()))
    };
    files.iter().flat_map(read).collect()
}

#[test]
fn a_value_is_found_in_every_form() {
    let value = [0x12, 0x34, b'a', 0xFF, b'/', b'+', 7, 0];
    let needles = Needles::new(
        forms(&value)
            .into_iter()
            .map(|(name, it)| (name.to_owned(), it))
            .collect(),
    );
    let found = |hay: &str| {
        needles
            .found_in(hay.as_bytes())
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&format!("{value:?}")), ["as a Debug list"]);
    assert_eq!(found(&serde_json::to_string(&value).unwrap()), ["as a JSON list"]);
    assert_eq!(
        found(&format!("b\"{}\"", value.escape_ascii())),
        ["escaped where it must be"]
    );
    assert_eq!(found("key=%124a%FF%2F%2B%07%00"), ["in percent where it must be"]);
    let mut text = String::new();
    for byte in value {
        let _ = write!(text, "\\u{{{byte:x}}}");
    }
    assert_eq!(found(&text), ["escaped \\u{}"]);
    for (before, name) in [
        "in base64",
        "in base64 from the second byte",
        "in base64 from the third byte",
    ]
    .iter()
    .enumerate()
    {
        let longer = [&[9; 3][..before], &value, &[1; 5]].concat();
        assert_eq!(found(&STANDARD.encode(longer)), [*name]);
    }
    assert!(found("1, 18, 52, 97").is_empty(), "half of it is not it");
}
