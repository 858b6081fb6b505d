//! `cloison check` as other programs read it, and what a baseline accepts: one list of findings, one exit code.

use std::fs;
use std::path::Path;

use crate::check::{INTO, OUT, base, check, folder, json_of, lines};
use crate::command::Said;
use serde_json::Value;
use tempfile::TempDir;

const FORMATS: [&str; 5] = ["table", "json", "sarif", "markdown", "github"];
/// A name that a folder may well have, and that breaks out of whatever is not careful.
const FILE: &str = "a b,c:d%é.yaml";
const BASELINE: &str = ".cloison-baseline.yaml";

/// Two findings, one thing that is not known and a note, of objects whose names try to leave cells, lines and elements.
fn nasty() -> TempDir {
    let out = OUT.replace(
        "name: out",
        r#"name: "out|`x`*\n::error::<b>%0A é @all [x](https://e.test) \"q\"""#,
    );
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: train}}\ndata:\n  \"k|`x`*\\n::error::<b>%0A é \
         @all\": |\n    A=1\n    KEY=ghp_{}\n",
        "abcdefghijklmnopqrstuvwxyz0123456789"
    );
    let other =
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: other, namespace: serve}\nspec: {}\n";
    let all = [&out, INTO, &map, other].join("---\n");
    folder(&[("base.yaml", &base()), (FILE, &all)])
}

fn check_as(folder: &Path, format: &str, more: &[&str]) -> Said {
    check(folder, &[&["-f", ".", "-o", format], more].concat())
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// How many findings and how many notes, without what could not be read.
fn counts(format: &str, said: &Said) -> (usize, usize) {
    let starts = |with: &[&str]| {
        let line = |line: &&str| with.iter().any(|start| line.starts_with(start));
        said.out.lines().filter(line).count()
    };
    match format {
        "table" => (lines(said).len(), starts(&["note: "])),
        "json" => {
            let report = json(said);
            let count = |key: &str| report[key].as_array().unwrap().len();
            (count("findings"), count("notes"))
        }
        "sarif" => {
            let run = json(said)["runs"][0].clone();
            let told = run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
            let notes = told.iter().filter(|one| one["level"] == "note").count();
            (run["results"].as_array().unwrap().len(), notes)
        }
        "markdown" => (starts(&["| "]).saturating_sub(1), starts(&["- "])),
        _ => {
            let notes = starts(&["::notice title=note::"]);
            let unreadable = said.out.matches("title=cannot be read::").count();
            (starts(&["::"]) - notes - unreadable, notes)
        }
    }
}

macro_rules! golden {
    ($name:literal, $text:expr) => {
        insta::with_settings!({snapshot_path => "../fixtures/formats", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn each_format_is_as_committed() {
    let folder = nasty();
    let said = |format| check_as(folder.path(), format, &[]).out;
    golden!("table", said("table"));
    golden!("json", said("json"));
    golden!("sarif", said("sarif").replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    golden!("markdown", said("markdown"));
    golden!("github", said("github"));
}

#[test]
fn every_finding_and_every_note_is_in_every_format() {
    let folder = nasty();
    let wanted = counts("json", &check_as(folder.path(), "json", &[]));
    assert_eq!(wanted, (3, 2));
    for format in FORMATS {
        let said = check_as(folder.path(), format, &[]);
        assert_eq!(counts(format, &said), wanted, "{format}: {}", said.out);
        assert_eq!((said.code, said.err.as_str()), (1, ""), "{format}");
        // Same bytes in, same bytes out.
        assert_eq!(check_as(folder.path(), format, &[]), said);
    }
}

#[test]
fn all_formats_end_with_the_same_code() {
    let broken = [("base.yaml", base()), ("broken.yaml", "kind: [\n".to_owned())];
    let unknown =
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: other, namespace: serve}\nspec: {}\n";
    let path = [OUT, INTO].join("---\n");
    let cases: [(i32, Vec<(&str, String)>); 4] = [
        (0, vec![("base.yaml", base())]),
        (0, vec![("base.yaml", base()), ("unknown.yaml", unknown.to_owned())]),
        (1, vec![("base.yaml", base()), ("path.yaml", path)]),
        (2, broken.to_vec()),
    ];
    for (code, files) in cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = folder(&files);
        for format in FORMATS {
            let said = check_as(folder.path(), format, &[]);
            assert_eq!(said.code, code, "{format}: {said:?}");
            // What could not be read is told wherever there is a place for it.
            let told = ["sarif", "markdown", "github"].contains(&format) && code == 2;
            assert!(!told || said.out.contains("broken.yaml"), "{format}: {said:?}");
        }
    }
}

#[test]
fn what_is_written_is_known_and_what_is_new_is_named() {
    let folder = nasty();
    let at = |more: &[&str]| check_as(folder.path(), "table", more);
    let written = at(&["--write-baseline", BASELINE]);
    assert_eq!((written.code, lines(&written).len()), (0, 1), "{written:?}");
    assert!(
        written.out.contains("no new findings, 2 in the baseline, 1 unknown\n"),
        "{written:?}"
    );
    assert!(
        written
            .out
            .contains("note: 2 findings written to the baseline .cloison-baseline.yaml\n")
    );
    let text = fs::read_to_string(folder.path().join(BASELINE)).unwrap();
    assert!(
        !text.contains("ghp_a") && !text.contains(":9:7") && !text.contains(", line "),
        "{text}"
    );

    // Whatever moves, and however often it is written.
    let path = folder.path().join(FILE);
    let moved = format!("# one\n# two\n{}", fs::read_to_string(&path).unwrap());
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("moved.yaml"), &moved).unwrap();
    let known = at(&["--baseline", BASELINE]);
    assert_eq!((known.code, lines(&known).len()), (0, 1), "{known:?}");
    assert!(!known.out.contains("not found any more"), "{known:?}");
    assert_eq!(at(&["--write-baseline", "again"]).code, 0);
    assert_eq!(fs::read_to_string(folder.path().join("again")).unwrap(), text);

    // One that is new is told, and counts.
    let second = OUT
        .replace("name: out", "name: second")
        .replace("app: leak", "app: other");
    fs::write(folder.path().join("second.yaml"), &second).unwrap();
    for format in FORMATS {
        let said = check_as(folder.path(), format, &["--baseline", BASELINE]);
        // SARIF lists what is known as well, and says so.
        let listed = if format == "sarif" { 4 } else { 2 };
        assert_eq!((said.code, counts(format, &said).0), (1, listed), "{format}: {said:?}");
    }
    let new = at(&["--baseline", BASELINE]);
    let counted: Vec<&str> = lines(&new)
        .into_iter()
        .filter(|line| !line.contains("Unknown"))
        .collect();
    assert!(
        counted.len() == 1 && counted[0].starts_with("./second.yaml:9:7"),
        "{new:?}"
    );
    let report = json(&check_as(folder.path(), "json", &["--baseline", BASELINE]));
    assert_eq!(report["known"].as_array().unwrap().len(), 2);

    // One that is gone is told, on one line.
    fs::remove_file(folder.path().join("second.yaml")).unwrap();
    fs::write(
        folder.path().join("moved.yaml"),
        moved.replace("KEY=", "A=").replace("ghp_", "none_"),
    )
    .unwrap();
    let gone = at(&["--baseline", BASELINE]);
    let note = "note: the baseline .cloison-baseline.yaml holds 1 finding not found any more, to be deleted from it: \
                ENC-04/config-map ConfigMap train/settings\n";
    assert_eq!((gone.code, gone.out.contains(note)), (0, true), "{gone:?}");
}

/// The objects that a finding counts for are as many as were accepted, not all that look alike.
#[test]
fn a_baseline_never_covers_more_than_it_names() {
    let folder = nasty();
    check_as(folder.path(), "table", &["--write-baseline", BASELINE]);
    let path = folder.path().join(BASELINE);
    let text = fs::read_to_string(&path).unwrap();
    let (head, entries) = text.split_once("- rule: ").unwrap();
    let (one, other) = entries.split_once("- rule: ").unwrap();
    let map = if one.starts_with("NET-03") { other } else { one };
    fs::write(&path, format!("{head}- rule: {map}")).unwrap();
    let said = check_as(folder.path(), "table", &["--baseline", BASELINE]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains("1 new finding, 1 in the baseline, 1 unknown"),
        "{said:?}"
    );
}

#[test]
fn a_baseline_that_cannot_be_read_is_no_empty_one() {
    let folder = nasty();
    let at = |name: &str| check_as(folder.path(), "github", &["--baseline", name]);
    check_as(folder.path(), "table", &["--write-baseline", BASELINE]);
    let text = fs::read_to_string(folder.path().join(BASELINE)).unwrap();
    let cases = [
        ("empty", String::new(), "cloison: empty:1: this is no baseline"),
        (
            "cut",
            text.chars().take(text.chars().count() / 2).collect(),
            "cloison: cut:",
        ),
        (
            "list",
            "version: 1\nfindings:\n".to_owned(),
            "cloison: list:2: this is no baseline",
        ),
        ("other", "apiVersion: v1\nkind: Pod\n".to_owned(), "cloison: other:"),
        (
            "newer",
            "version: 2\nfindings: []\n".to_owned(),
            "cloison: newer:1: version 2 ",
        ),
        ("edited", text.replace("settings", "setting"), "cloison: edited:"),
    ];
    for (name, text, wanted) in cases {
        fs::write(folder.path().join(name), text).unwrap();
        let said = at(name);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        assert!(
            said.err.starts_with(wanted) && said.err.lines().count() == 1,
            "{said:?}"
        );
    }
    let missing = at("missing");
    assert_eq!(missing.code, 2);
    assert!(
        missing.err.contains("the baseline missing: No such file") && missing.err.contains("--write-baseline"),
        "{missing:?}"
    );
    assert_eq!(
        check_as(folder.path(), "table", &["--baseline", "a", "--write-baseline", "b"]).code,
        2
    );
}

#[test]
fn a_baseline_may_lie_among_the_manifests() {
    let folder = nasty();
    let at = |flag: &str| check_as(folder.path(), "table", &[flag, "baseline.yaml"]);
    for flag in ["--write-baseline", "--write-baseline", "--baseline"] {
        let said = at(flag);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    }
    let (code, _) = json_of(folder.path(), &["-f", "."]);
    assert_eq!(code, 2, "without its flag it is a file that holds no object");
}

#[test]
fn a_baseline_is_written_of_everything_or_not_at_all() {
    let folder = nasty();
    fs::write(folder.path().join("broken.yaml"), "kind: [\n").unwrap();
    let said = check_as(folder.path(), "table", &["--write-baseline", BASELINE]);
    assert_eq!(said.code, 2);
    assert!(
        said.out.contains("is not written: not everything could be read"),
        "{said:?}"
    );
    assert!(!folder.path().join(BASELINE).exists());
    fs::remove_file(folder.path().join("broken.yaml")).unwrap();
    let said = check_as(folder.path(), "table", &["--write-baseline", "nowhere/baseline.yaml"]);
    assert_eq!((said.code, said.err.lines().count()), (2, 1), "{said:?}");
}
