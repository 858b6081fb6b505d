//! What is committed is what the code says: definitions, schemas, the chart's roles, reference pages.
//! `make gen` (this test with CLOISON_GEN=1) writes them.
#![allow(clippy::unwrap_used, clippy::unreachable)] // a test fails by panicking

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cloison::generated::{OWNED_FOLDERS, files};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, from the root, with `/` between folders.
fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Where two texts part: the first differing line, counted from one.
fn first_difference(committed: &str, generated: &str) -> String {
    let (mut left, mut right) = (committed.lines(), generated.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (a, b) if a == b && a.is_some() => {}
            (None, None) => return "line endings or the end of the file differ".to_owned(),
            (a, b) => {
                return format!(
                    "line {number}\n  committed: {}\n  generated: {}",
                    a.unwrap_or("(end of file)"),
                    b.unwrap_or("(end of file)")
                );
            }
        }
    }
    unreachable!("lines are finite")
}

#[test]
fn committed_files_are_what_the_code_generates() {
    let files = files().unwrap();
    let wanted: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(wanted.len(), files.len(), "two generated files have one path");
    let mut present = BTreeSet::new();
    for folder in OWNED_FOLDERS {
        walk(&root().join(folder), &mut present);
    }
    let stale: Vec<&String> = present.difference(&wanted).collect();

    if std::env::var_os("CLOISON_GEN").is_some() {
        for path in stale {
            fs::remove_file(root().join(path)).unwrap();
        }
        for file in files {
            let path = root().join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.text).unwrap();
        }
        return;
    }

    let mut problems: Vec<String> = stale
        .iter()
        .map(|path| format!("{path}: nothing generates this file any more"))
        .collect();
    for file in files {
        match fs::read_to_string(root().join(&file.path)) {
            Ok(committed) if committed == file.text => {}
            Ok(committed) => problems.push(format!("{}: {}", file.path, first_difference(&committed, &file.text))),
            Err(error) => problems.push(format!("{}: {error}", file.path)),
        }
    }
    assert!(
        problems.is_empty(),
        "run `make gen` and commit:\n{}",
        problems.join("\n")
    );
}

#[test]
fn yaml_says_what_the_objects_say() {
    let definitions = cloison::api::definitions::definitions();
    assert_eq!(definitions.len(), 6);
    for definition in definitions {
        let path = format!("crds/{}.yaml", definition["spec"]["names"]["plural"].as_str().unwrap());
        let text = files()
            .unwrap()
            .into_iter()
            .find(|file| file.path == path)
            .unwrap()
            .text;
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, definition, "{path}");
    }
}

#[test]
fn generating_twice_gives_the_same_bytes() {
    assert_eq!(files().unwrap(), files().unwrap());
}

#[test]
fn the_first_difference_is_named() {
    assert_eq!(
        first_difference("a\nb\n", "a\nc\n"),
        "line 2\n  committed: b\n  generated: c"
    );
    assert_eq!(
        first_difference("a\n", "a\nb\n"),
        "line 2\n  committed: (end of file)\n  generated: b"
    );
    assert_eq!(
        first_difference("a", "a\n"),
        "line endings or the end of the file differ"
    );
}
