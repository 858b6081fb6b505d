//! `make mutants`: breaks the code on purpose, one way at a time, and sees the named test fail.
//!
//! Each entry of `tests/mutants.toml` names a guarantee, the text that keeps it, what is put in its place, and the test
//! that must then fail. It works in a copy of the checkout under `target/mutants`, with a build folder of its own. An
//! argument is taken as part of a name or of a test, to run a few.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    guarantee: String,
    file: String,
    find: String,
    replace: String,
    /// Arguments of `cargo test`.
    test: String,
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match run(&wanted) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(survivors) => {
            say(&format!(
                "{survivors} survived: the tests named for them do not see what they promise to see"
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("mutants: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Returns how many were not noticed.
fn run(wanted: &str) -> Result<usize, String> {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let repository = repository.canonicalize().map_err(|error| error.to_string())?;
    let list = repository.join("tests/mutants.toml");
    let text = std::fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let Mutants { mutant } = toml::from_str(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let chosen: Vec<Mutant> = mutant
        .into_iter()
        .filter(|mutant| mutant.name.contains(wanted) || mutant.test.contains(wanted))
        .collect();
    let copy = repository.join("target/mutants/tree");
    let mut survivors = 0;
    for mutant in &chosen {
        refresh(&repository, &copy)?;
        let start = Instant::now();
        let outcome = try_one(&repository, &copy, mutant)?;
        survivors += usize::from(!outcome.killed);
        let word = if outcome.killed { "killed  " } else { "SURVIVED" };
        say(&format!(
            "{word} {:>4.0?} s  {}: {}\n           by: cargo test {}",
            start.elapsed().as_secs_f64(),
            mutant.name,
            mutant.guarantee,
            mutant.test
        ));
        if !outcome.killed {
            say(&format!("           {}", outcome.why));
        }
    }
    say(&format!(
        "{} mutants, {} killed",
        chosen.len(),
        chosen.len() - survivors
    ));
    Ok(survivors)
}

struct Outcome {
    killed: bool,
    why: String,
}

fn try_one(repository: &Path, copy: &Path, mutant: &Mutant) -> Result<Outcome, String> {
    let file = copy.join(&mutant.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {}: {error}", mutant.name, mutant.file))?;
    let places = text.matches(&mutant.find).count();
    if places != 1 {
        return Err(format!(
            "{}: the text to find stands {places} times in {}, not once",
            mutant.name, mutant.file
        ));
    }
    std::fs::write(&file, text.replacen(&mutant.find, &mutant.replace, 1)).map_err(|error| error.to_string())?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(copy)
        .args(["test", "--locked"])
        .args(mutant.test.split_whitespace());
    cargo.env("CARGO_TARGET_DIR", repository.join("target/mutants/build"));
    if std::env::var_os("CLOISON_TOOLCHAIN").is_none() {
        cargo.env("CLOISON_TOOLCHAIN", repository.join("target/toolchain"));
    }
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A mutant that does not compile, or a test that does not exist, proves nothing.
    let failed = said.contains("test result: FAILED");
    let why = match (output.status.success(), failed) {
        (true, _) if said.contains("test result: ok. 0 passed") && !said.contains("1 passed") => {
            "no such test ran".to_owned()
        }
        (true, _) => "the test passed".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!("it did not compile, or the test did not run: {}", last_lines(&said)),
    };
    Ok(Outcome {
        killed: failed && !output.status.success(),
        why,
    })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("error")).take(3).collect();
    lines.join(" | ")
}

/// Makes the copy equal to the checkout, file by file, so that unchanged files keep their times and are not rebuilt.
fn refresh(repository: &Path, copy: &Path) -> Result<(), String> {
    let list = Command::new("git")
        .current_dir(repository)
        .args(["ls-files", "-z"])
        .output();
    let list = list.map_err(|error| format!("git: {error}"))?;
    for name in list.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        let (from, to) = (repository.join(&name), copy.join(&name));
        let wanted = std::fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        if std::fs::read(&to).is_ok_and(|found| found == wanted) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        // `copy` keeps the mode: scripts stay executable.
        std::fs::copy(&from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_finds_its_place() {
        let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let text = std::fs::read_to_string(repository.join("tests/mutants.toml")).unwrap();
        let Mutants { mutant } = toml::from_str(&text).unwrap();
        assert!(mutant.len() >= 15, "{} mutants", mutant.len());
        let mut names = std::collections::BTreeSet::new();
        for mutant in mutant {
            let source = std::fs::read_to_string(repository.join(&mutant.file)).unwrap();
            assert_eq!(
                source.matches(&mutant.find).count(),
                1,
                "{} in {}",
                mutant.name,
                mutant.file
            );
            assert_ne!(mutant.find, mutant.replace, "{} changes nothing", mutant.name);
            assert!(names.insert(mutant.name.clone()), "{} stands twice", mutant.name);
        }
    }
}
