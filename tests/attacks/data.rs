//! What the rows say of themselves: each promises once, can be looked up, and stands on the page for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::rows::{self, Try, When, book};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A row that promises something promises it once, and can be looked up.
#[test]
fn all_fifty_two_rows_are_there_and_each_says_what_meets_it() {
    let book = book();
    let numbers: BTreeSet<u8> = book.rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=52).collect());
    for row in &book.rows {
        let says = [!row.tries.is_empty(), row.shown.is_some(), row.open.is_some()];
        assert_eq!(says.iter().filter(|it| **it).count(), 1, "row {}", row.number);
        if let Some(test) = &row.shown {
            let (file, name) = test.split_once(' ').unwrap();
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            assert!(text.contains(&format!("fn {name}(")), "row {}: {test}", row.number);
        }
        for attempt in &row.tries {
            assert!(
                attempt.refused.is_some() != attempt.stock.is_some(),
                "row {}",
                row.number
            );
        }
        let refused = row.tries.iter().any(|attempt| attempt.refused.is_some());
        assert!(!refused || !row.control.is_empty(), "row {} has no control", row.number);
    }
    // What stays open is known by number.
    let open: Vec<u8> = book
        .rows
        .iter()
        .filter(|row| row.open.is_some())
        .map(|row| row.number)
        .collect();
    assert_eq!(open, [10, 26, 28, 29, 30, 31, 32, 35, 37, 39, 42, 48]);
    // Only these need us alive, and they fail closed.
    let asks = |attempt: &Try| attempt.when == Some(When::Webhook);
    let webhook: Vec<u8> = book
        .rows
        .iter()
        .filter(|row| row.tries.iter().any(asks))
        .map(|row| row.number)
        .collect();
    assert_eq!(webhook, [8]);
}

/// A mutant of `tests/mutants.toml`: its name, and the file that it breaks.
fn mutants() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("tests/mutants.toml")).unwrap();
    let value = |line: &str, key: &str| {
        Some(
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')?
                .to_owned(),
        )
    };
    let of = |key: &str| text.lines().filter_map(|line| value(line, key)).collect::<Vec<_>>();
    let (names, files) = (of("name"), of("file"));
    let entries = text.lines().filter(|line| *line == "[[mutant]]").count();
    assert_eq!(
        (names.len(), files.len()),
        (entries, entries),
        "the list was not read whole"
    );
    names.into_iter().zip(files).collect()
}

/// Whether a file is one in which a policy is written, or what the webhook judges by.
fn writes(policy: &str, file: &str) -> bool {
    match policy.strip_prefix("cloison-") {
        Some(name) => {
            let place = format!("src/admission/policies/{name}");
            file == format!("{place}.rs") || file.starts_with(&format!("{place}/"))
        }
        None => file == "src/network/validate.rs" || file.starts_with("src/admission/review/"),
    }
}

/// Each rule that refuses an attack has a test that fails once the rule is gone, and the list of mutants says which.
#[test]
fn every_rule_that_refuses_has_a_mutant_that_takes_it_away() {
    let mutants = mutants();
    for row in &book().rows {
        let refused = row.tries.iter().filter_map(|attempt| attempt.refused.as_ref());
        let rules: BTreeSet<String> = refused.map(|(by, rule)| format!("{by} {rule}")).collect();
        let named: BTreeSet<String> = row.mutant.keys().cloned().collect();
        assert_eq!(named, rules, "row {}", row.number);
        for (rule, names) in &row.mutant {
            let (policy, id) = rule.split_once(' ').unwrap();
            let (_, word) = id.split_once('/').unwrap();
            // As a rule of the catalogue, or as the constant that it has where two sides use it.
            let spelt = [format!("\"{word}\""), word.to_uppercase().replace('-', "_")];
            let mut written = false;
            for name in names {
                let file = mutants
                    .get(name)
                    .unwrap_or_else(|| panic!("row {}: no mutant is called {name}", row.number));
                assert!(
                    writes(policy, file),
                    "row {}: {name} breaks {file}, not {policy}",
                    row.number
                );
                let text = std::fs::read_to_string(root().join(file)).unwrap();
                written |= spelt.iter().any(|spelt| text.contains(spelt));
            }
            assert!(written, "row {}: no mutant breaks the file that has {rule}", row.number);
        }
    }
}

#[test]
fn the_page_of_attacks_is_committed() {
    let file = root().join("docs/attacks.md");
    let page = rows::page(&book());
    if std::env::var_os("CLOISON_GEN").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), page, "run make gen");
}
