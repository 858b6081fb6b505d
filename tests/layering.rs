//! Rule 1: what decides is pure. The API, the network, encryption, admission and compliance legs and the judges of the
//! controller use no client, no async runtime, no clock, no environment, no file and no randomness.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files whose code only decides.
const PURE: [&str; 8] = [
    "src/api",
    "src/network",
    "src/encryption",
    "src/admission",
    "src/compliance",
    "src/controller/judge.rs",
    "src/controller/backoff.rs",
    "src/controller/withdrawals.rs",
];

/// What none of it may name, and why.
const FORBIDDEN: [(&str, &str); 33] = [
    ("kube::Client", "a client"),
    ("kube::Api", "a client"),
    ("kube::Config", "a client"),
    ("kube::api", "a client"),
    ("kube::client", "a client"),
    ("kube::config", "a client"),
    ("kube::runtime", "a runtime"),
    ("kube_client", "a client"),
    ("kube_lease_manager", "a client"),
    ("hyper", "a client"),
    ("tokio", "a runtime"),
    ("futures", "a runtime"),
    ("std::time::SystemTime", "a clock"),
    ("std::time::Instant", "a clock"),
    ("Timestamp::now", "a clock"),
    ("Zoned::now", "a clock"),
    ("std::env", "the environment"),
    ("std::fs", "files"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("ring", "randomness"),
    ("age::encrypt", "randomness"),
    ("age::encrypt_and_armor", "randomness"),
    ("age::Encryptor", "randomness"),
    ("age::x25519::Identity::generate", "randomness"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("std::net::TcpStream", "the network"),
    ("std::net::UdpSocket", "the network"),
    ("crate::cli", "an edge"),
    ("crate::cluster::client", "an edge"),
    ("crate::cluster::telemetry", "an edge"),
    ("crate::controller", "an edge"),
];

/// Modules that are forbidden as a whole name alone: `use std::time;` hides `time::Instant::now()`, `Duration` is harmless.
const FORBIDDEN_ALONE: [(&str, &str); 4] = [
    ("std::time", "a clock"),
    ("std::net", "the network"),
    ("crate::cluster", "an edge"),
    ("std", "everything"),
];

/// What a piece of code names that it must not: line and reason. Code of tests, comments and texts do not count.
fn violations(source: &str) -> Vec<(usize, String)> {
    let code = without_tests(source);
    let mut found = Vec::new();
    for (line, path) in paths(&code) {
        if let Some((_, what)) = FORBIDDEN_ALONE.iter().find(|(alone, _)| path == *alone) {
            found.push((line, format!("{path}: {what}")));
        }
        for (forbidden, what) in FORBIDDEN {
            let whole = path == forbidden || path.starts_with(&format!("{forbidden}::"));
            // `Timestamp::now` is written after any path, and however the type was brought in.
            let call = forbidden.ends_with("::now") && path.ends_with(&format!("::{forbidden}"));
            if whole || call {
                found.push((line, format!("{path}: {what}")));
            }
        }
    }
    found
}

/// The code up to a `#[cfg(test)] mod tests {`; other lines after `#[cfg(test)]` are left out too. Comments and the
/// contents of strings are blanked, so that words in them are no code.
fn without_tests(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut skip_next = false;
    for line in source.lines() {
        let text = line.trim_start();
        if text.starts_with("#[cfg(test)]") {
            skip_next = true;
        } else if skip_next {
            if text.starts_with("mod ") && text.ends_with('{') {
                return code;
            }
            skip_next = text.starts_with("#[");
        } else if !text.starts_with("//") {
            code.push_str(&blank_strings(line));
        }
        code.push('\n');
    }
    code
}

/// A line without what stands between quotation marks, or after `//`.
fn blank_strings(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut inside = false;
    let mut previous = ' ';
    for c in line.chars() {
        match c {
            '"' if previous != '\\' && previous != '\'' => inside = !inside,
            '/' if !inside && previous == '/' => return out,
            c if !inside => out.push(c),
            _ => {}
        }
        previous = c;
    }
    out
}

/// Every path in the code with its line: `use` trees are spelt out, so that `use std::{env, fs::File}` gives both.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut offset = 0;
    while let Some(at) = rest.find("use ") {
        let start = offset + at;
        let starts_line = code[..start].ends_with(['\n', ' ', '(', ')']) || start == 0;
        let end = code[start..].find(';').map_or(code.len(), |end| start + end);
        if starts_line {
            let line = code[..start].matches('\n').count() + 1;
            let tree: String = code[start + 4..end].split_whitespace().collect::<Vec<_>>().join(" ");
            found.extend(leaves("", &tree).into_iter().map(|path| (line, path)));
        }
        offset = start + 4;
        rest = &code[offset..];
    }
    let path_char = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for (index, line) in code.lines().enumerate() {
        let words = line
            .split(|c: char| !path_char(c))
            .filter(|word| word.contains("::") && !word.ends_with("::"));
        found.extend(words.map(|word| (index + 1, word.trim_matches(':').to_owned())));
    }
    found
}

/// The leaves of a `use` tree.
fn leaves(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = path.trim_end_matches("self").trim_end_matches("::");
        return vec![format!("{prefix}{path}").trim_end_matches("::").to_owned()];
    };
    let head = format!("{prefix}{}", &tree[..open].trim());
    let body = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(&head, part)).collect()
}

/// The files of a folder, those of tests left out.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let test = |path: &PathBuf| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        stem == "tests" || stem == "testkit" || stem.ends_with("_tests")
    };
    let code = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
    entries
        .filter(|path| !test(path) && code(path))
        .flat_map(|path| files(&path))
        .collect()
}

#[test]
fn what_decides_is_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut seen = 0;
    for place in PURE {
        let files = files(&root.join(place));
        assert!(!files.is_empty(), "{place} is gone: mend this list");
        for file in files {
            seen += 1;
            let source = fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(root).unwrap().display().to_string();
            found.extend(
                violations(&source)
                    .into_iter()
                    .map(|(line, what)| format!("{name}:{line} {what}")),
            );
        }
    }
    assert!(seen > 40, "only {seen} files were looked at");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_scanner_sees_what_it_must() {
    let bad = [
        ("use kube::{Api, ResourceExt};", "a client"),
        ("use kube::api::{\n    Patch,\n    PatchParams,\n};", "a client"),
        ("fn f(c: &kube::Client) {}", "a client"),
        ("use std::{collections::BTreeMap, env};", "the environment"),
        ("use std::time::{Duration, Instant};", "a clock"),
        ("let now = std::time::SystemTime::now();", "a clock"),
        ("let now = Timestamp::now();", "a clock"),
        ("let now = jiff::Timestamp::now();", "a clock"),
        ("    use tokio::sync::Mutex as Lock;", "a runtime"),
        ("pub(crate) use futures::StreamExt;", "a runtime"),
        ("use rand::Rng;", "randomness"),
        ("let sealed = age::encrypt_and_armor(&to, key);", "randomness"),
        ("let text = std::fs::read(path);", "files"),
        ("use std::time;", "a clock"),
        ("use std::{net, time::Duration};", "the network"),
        ("use crate::controller::context::Context;", "an edge"),
        ("use crate::{cli, network};", "an edge"),
    ];
    for (code, what) in bad {
        let found = violations(code);
        assert!(found.iter().any(|(_, said)| said.ends_with(what)), "{code}: {found:?}");
    }
    let good = [
        "use kube::{CustomResource, CustomResourceExt};",
        "use std::time::Duration;",
        "use std::net::{IpAddr, Ipv4Addr};",
        "// use tokio::sync::Mutex;",
        "/// Not `std::env::var`.",
        "let text = \"tokio::spawn\";",
        "use super::random::operand;",
        "#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        "use kube::core::cel::cel::Program;",
    ];
    for code in good {
        assert_eq!(violations(code), Vec::new(), "{code}");
    }
}
