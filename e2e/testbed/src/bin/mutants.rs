//! `make mutants`: breaks the code on purpose, one way at a time, and sees the named test fail.
//!
//! Each entry of `tests/mutants.toml` names a guarantee, the text that keeps it, what is put in its place, and the test
//! that must then fail. Every named test runs on the unbroken code first: one that fails there proves nothing about its
//! mutants. It works in a copy of the checkout under `target/mutants`, with a build folder of its own. An argument is
//! taken as part of a name or of a test, to run a few.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(Clone, Deserialize)]
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

/// What one run of `cargo test` showed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ran {
    Passed,
    Failed,
    /// It ended well and ran nothing: a wrong name.
    NoTest,
    /// It did not compile, or ended before a test did.
    Broken(String),
}

/// How many mutants met which end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    killed: usize,
    survived: usize,
    /// Their test does not pass on the unbroken code.
    not_tried: usize,
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let start = Instant::now();
    match run(&wanted) {
        Ok(tally) => {
            say(&summary(&tally, start.elapsed()));
            if tally.killed > 0 && tally.survived + tally.not_tried == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            say(&format!("mutants: {error}"));
            ExitCode::from(2)
        }
    }
}

fn summary(tally: &Tally, took: Duration) -> String {
    let Tally {
        killed,
        survived,
        not_tried,
    } = tally;
    let minutes = took.as_secs() / 60;
    let seconds = took.as_secs() % 60;
    let all = killed + survived + not_tried;
    let mut parts = vec![format!("{all} mutants, {killed} killed, in {minutes} min {seconds} s")];
    if *survived > 0 {
        parts.push(format!(
            "{survived} survived: the tests named for them do not see what they promise to see"
        ));
    }
    if *not_tried > 0 {
        parts.push(format!(
            "{not_tried} not tried: their tests must pass on the unbroken code first"
        ));
    }
    if all == 0 {
        parts.push("no name and no test contains the word given".to_owned());
    }
    parts.join("; ")
}

fn run(wanted: &str) -> Result<Tally, String> {
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
    try_all(&by_test(chosen), |test, mutant| {
        refresh(&repository, &copy)?;
        if let Some(mutant) = mutant {
            break_it(&copy, mutant)?;
        }
        cargo_test(&repository, &copy, test)
    })
}

/// The mutants with those of one test behind each other, tests in the order of the list: cargo then builds each test
/// for one change after the other.
fn by_test(mutants: Vec<Mutant>) -> Vec<(String, Vec<Mutant>)> {
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<(String, Vec<Mutant>)> = Vec::new();
    for mutant in mutants {
        let index = *place.entry(mutant.test.clone()).or_insert(groups.len());
        if index == groups.len() {
            groups.push((mutant.test.clone(), Vec::new()));
        }
        groups[index].1.push(mutant);
    }
    groups
}

/// Runs every test on the unbroken code, then each mutant whose test passed there.
fn try_all(
    groups: &[(String, Vec<Mutant>)],
    mut test: impl FnMut(&str, Option<&Mutant>) -> Result<Ran, String>,
) -> Result<Tally, String> {
    let mut sound = Vec::new();
    for (name, _) in groups {
        let start = Instant::now();
        let ran = test(name, None)?;
        let word = if ran == Ran::Passed { "passes  " } else { "UNSOUND " };
        say(&format!("{word} {} unbroken: cargo test {name}", seconds(start)));
        match &ran {
            Ran::Passed => {}
            Ran::Failed => say("           it fails without any mutant"),
            Ran::NoTest => say("           no such test"),
            Ran::Broken(why) => say(&format!("           {why}")),
        }
        sound.push(ran == Ran::Passed);
    }
    let mut tally = Tally::default();
    for ((name, mutants), sound) in groups.iter().zip(sound) {
        if !sound {
            tally.not_tried += mutants.len();
            continue;
        }
        for mutant in mutants {
            let start = Instant::now();
            let ran = test(name, Some(mutant))?;
            let killed = ran == Ran::Failed;
            *(if killed { &mut tally.killed } else { &mut tally.survived }) += 1;
            let word = if killed { "killed  " } else { "SURVIVED" };
            say(&format!(
                "{word} {} {}: {}\n           by: cargo test {name}",
                seconds(start),
                mutant.name,
                mutant.guarantee,
            ));
            match &ran {
                Ran::Failed => {}
                Ran::Passed => say("           the test passed"),
                Ran::NoTest => say("           no such test ran"),
                // A mutant that does not compile proves nothing.
                Ran::Broken(why) => say(&format!("           {why}")),
            }
        }
    }
    Ok(tally)
}

fn seconds(since: Instant) -> String {
    format!("{:>4.0?} s ", since.elapsed().as_secs_f64())
}

fn break_it(copy: &Path, mutant: &Mutant) -> Result<(), String> {
    let file = copy.join(&mutant.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {}: {error}", mutant.name, mutant.file))?;
    let places = text.matches(&mutant.find).count();
    if places != 1 {
        return Err(format!(
            "{}: the text to find stands {places} times in {}, not once",
            mutant.name, mutant.file
        ));
    }
    std::fs::write(&file, text.replacen(&mutant.find, &mutant.replace, 1)).map_err(|error| error.to_string())
}

fn cargo_test(repository: &Path, copy: &Path, test: &str) -> Result<Ran, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(copy)
        .args(["test", "--locked"])
        .args(test.split_whitespace());
    cargo.env("CARGO_TARGET_DIR", repository.join("target/mutants/build"));
    // A snapshot that a mutant broke is no proposal.
    cargo.env("INSTA_UPDATE", "no");
    if std::env::var_os("CLOISON_TOOLCHAIN").is_none() {
        cargo.env("CLOISON_TOOLCHAIN", repository.join("target/toolchain"));
    }
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(read(output.status.success(), &said))
}

/// Reads what cargo said.
fn read(success: bool, said: &str) -> Ran {
    let ends = said.lines().filter_map(|line| line.strip_prefix("test result: "));
    let ran_one = ends.clone().any(|end| {
        let counts = end.split_once(". ").map_or("", |(_, counts)| counts);
        !counts.starts_with("0 passed; 0 failed;")
    });
    match (success, ran_one) {
        (true, true) => Ran::Passed,
        (true, false) => Ran::NoTest,
        (false, _) if ends.clone().any(|end| end.starts_with("FAILED")) => Ran::Failed,
        (false, _) => Ran::Broken(format!(
            "it did not compile, or the test did not run: {}",
            last_lines(said)
        )),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("error")).take(3).collect();
    lines.join(" | ")
}

/// Makes the copy equal to the checkout, file by file, so that unchanged files keep their times and are not rebuilt.
fn refresh(repository: &Path, copy: &Path) -> Result<(), String> {
    for name in tracked(repository, "git")? {
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

/// The files of the checkout, by git: it alone knows what belongs to it.
fn tracked(repository: &Path, git: &str) -> Result<Vec<PathBuf>, String> {
    let listed = Command::new(git)
        .current_dir(repository)
        .args(["ls-files", "-z"])
        .output();
    let listed = match listed {
        Ok(listed) if listed.status.success() => listed,
        Ok(listed) => {
            let said = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
            return Err(format!(
                "git cannot list the files of {}: {said}; run it in a git checkout",
                repository.display()
            ));
        }
        Err(error) => {
            return Err(format!(
                "git lists the files to copy and cannot be run: {error}; install git"
            ));
        }
    };
    let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .collect())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, test: &str) -> Mutant {
        Mutant {
            name: name.to_owned(),
            guarantee: String::new(),
            file: String::new(),
            find: String::new(),
            replace: String::new(),
            test: test.to_owned(),
        }
    }

    #[test]
    fn a_test_that_fails_on_the_unbroken_code_kills_nothing() {
        let groups = by_test(vec![mutant("1", "busy"), mutant("2", "sound"), mutant("3", "busy")]);
        let mut runs = Vec::new();
        let tally = try_all(&groups, |test, mutant| {
            runs.push((test.to_owned(), mutant.map(|mutant| mutant.name.clone())));
            // `busy` fails whatever the code is, `sound` only when it is broken.
            Ok(if test == "busy" || mutant.is_some() {
                Ran::Failed
            } else {
                Ran::Passed
            })
        });
        let wanted = Tally {
            killed: 1,
            survived: 0,
            not_tried: 2,
        };
        assert_eq!(tally, Ok(wanted));
        let run = |test: &str, mutant: Option<&str>| (test.to_owned(), mutant.map(str::to_owned));
        let wanted = [run("busy", None), run("sound", None), run("sound", Some("2"))];
        assert_eq!(runs, wanted, "each test once, then the mutants");
    }

    #[test]
    fn mutants_of_one_test_follow_each_other() {
        let groups = by_test(vec![mutant("1", "b"), mutant("2", "a"), mutant("3", "b")]);
        let shown: Vec<(&str, Vec<&str>)> = groups
            .iter()
            .map(|(test, mutants)| {
                (
                    test.as_str(),
                    mutants.iter().map(|mutant| mutant.name.as_str()).collect(),
                )
            })
            .collect();
        assert_eq!(shown, [("b", vec!["1", "3"]), ("a", vec!["2"])]);
    }

    #[test]
    fn only_a_test_that_ran_says_anything() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        let ten = "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        let bad = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(read(true, none), Ran::NoTest);
        assert_eq!(read(true, &format!("{none}\n{ten}")), Ran::Passed);
        assert_eq!(read(false, bad), Ran::Failed);
        assert_eq!(read(false, &format!("{ten}\n{bad}")), Ran::Failed);
        assert!(matches!(read(false, "error: could not compile"), Ran::Broken(why) if why.contains("could not")));
        assert!(matches!(read(false, none), Ran::Broken(_)));
    }

    #[test]
    fn without_git_it_says_so() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let said = tracked(here, "no-such-git").unwrap_err();
        assert!(said.ends_with("install git"), "{said}");
        let said = tracked(Path::new("/"), "git").unwrap_err();
        assert!(said.contains("git cannot list the files of /"), "{said}");
        assert!(!tracked(here, "git").unwrap().is_empty());
    }

    #[test]
    fn the_summary_says_how_long_and_what_is_wrong() {
        let tally = Tally {
            killed: 2,
            survived: 1,
            not_tried: 3,
        };
        let said = summary(&tally, Duration::from_secs(125));
        assert!(
            said.starts_with("6 mutants, 2 killed, in 2 min 5 s; 1 survived"),
            "{said}"
        );
        assert!(said.contains("3 not tried"), "{said}");
    }

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
