#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::compliance::id::CONSTANTS;

fn builtin() -> &'static Catalogue {
    Catalogue::try_builtin().unwrap()
}

fn rules() -> impl Iterator<Item = (&'static Control, &'static Rule, RuleId)> {
    let of = |control: &'static Control| {
        control
            .rules
            .iter()
            .zip(control.rule_ids())
            .map(move |(r, id)| (control, r, id))
    };
    builtin().controls().iter().flat_map(of)
}

#[test]
fn the_text_can_be_read() {
    if let Err(error) = Catalogue::try_builtin() {
        panic!("{error}");
    }
    assert_eq!(builtin().control_set(), "2026.1");
    assert_eq!(Catalogue::builtin(), builtin());
}

/// The reference's sixty, none lost, and what the admission and network rules needed on top.
#[test]
fn it_holds_the_sixty_controls_and_eight_more() {
    let last = |family| builtin().controls().iter().filter(|c| c.id.family() == family).count();
    let counts = Family::ALL.map(last);
    // NET-10, NET-11, ENC-06, WKL-08, DAT-07, IAM-06, IAM-07 and CLU-05 are ours.
    assert_eq!(counts, [11, 6, 8, 6, 7, 7, 10, 3, 2, 3, 5]);
    assert_eq!(counts.iter().sum::<usize>(), 60 + 8);
    for family in Family::ALL {
        let ids: Vec<String> = builtin()
            .controls()
            .iter()
            .filter(|c| c.id.family() == family)
            .map(|c| c.id.to_string())
            .collect();
        let expected: Vec<String> = (1..=ids.len()).map(|number| format!("{family}-{number:02}")).collect();
        assert_eq!(ids, expected, "no gap");
    }
}

#[test]
fn the_constants_are_the_controls() {
    let text: Vec<ControlId> = builtin().controls().iter().map(|control| control.id).collect();
    assert_eq!(text, CONSTANTS);
}

#[test]
fn every_rule_id_is_unique_and_can_be_read_back() {
    let mut seen = BTreeSet::new();
    for (_, rule, id) in rules() {
        assert_eq!(id.to_string().parse::<RuleId>().unwrap(), id);
        assert!(builtin().contains(&id) && rule.id.len() <= 32, "{id}");
        assert!(seen.insert(id.clone()), "{id} stands twice");
    }
    assert!(seen.len() > 150, "{}", seen.len());
}

/// The rules that other parts of the program were promised.
#[test]
fn the_promised_rules_exist() {
    let promised = "
        WKL-01/privileged WKL-01/host-network WKL-01/host-pid WKL-01/host-ipc WKL-01/host-path WKL-01/host-port
        WKL-01/capabilities WKL-01/proc-mount WKL-01/seccomp-unconfined WKL-01/apparmor WKL-01/selinux WKL-01/sysctls
        WKL-01/windows-host-process WKL-01/volume-type WKL-01/inline-csi SUP-01/digest SUP-01/registry
        WKL-02/unknown WKL-02/frozen WKL-02/gated NET-01/seal NET-01/deny NET-02/stage-mismatch NET-02/stage-label
        NET-03/path NET-04/unknown-service NET-04/cidr-width NET-04/any-address NET-04/stage NET-04/fqdn-unsupported
        NET-04/awaiting-peer NET-09/foreign-object NET-09/drift NET-09/dangling CLU-04/managed-object
        CLU-04/annotation CLU-04/finalizer CLU-04/status DAT-01/prohibited DAT-01/restricted DAT-02/ceiling
        WKL-06/exec WKL-06/attach WKL-06/port-forward WKL-06/debug WKL-06/proxy SUP-03/format";
    for id in promised.split_whitespace() {
        assert!(builtin().contains(&id.parse().unwrap()), "{id}");
    }
}

/// Public mappings are often invented. What is cited must stand in a list of its own, which says where it comes from.
#[test]
fn every_reference_exists() {
    let known: References = serde_saphyr::from_str(include_str!("../../../tests/fixtures/references.yaml")).unwrap();
    assert_eq!(known[&Source::Anssi].len(), 35);
    assert_eq!(known[&Source::ZeroTrust].len(), 6);
    assert_eq!(
        known[&Source::Iso42001]
            .iter()
            .filter(|id| id.starts_with("A."))
            .count(),
        38
    );
    for control in builtin().controls() {
        assert!(!control.references.is_empty(), "{}", control.id);
        for (source, ids) in &control.references {
            assert!(!ids.is_empty(), "{}: {source} is empty", control.id);
            for id in ids {
                assert!(known[source].contains(id), "{}: {source} has no {id}", control.id);
            }
            assert_eq!(
                ids.iter().collect::<BTreeSet<_>>().len(),
                ids.len(),
                "{}: {source} repeats",
                control.id
            );
        }
    }
}

/// The seeds are what was asked for: each of their rows is somewhere, and so is every recommendation of the ANSSI that
/// a cluster can do something about (R30 to R32 are about how people write code).
#[test]
fn nothing_that_was_asked_for_is_forgotten() {
    let cited = |source| -> BTreeSet<&str> {
        let of = |control: &'static Control| control.references.get(&source).into_iter().flatten();
        builtin().controls().iter().flat_map(of).map(String::as_str).collect()
    };
    let seeds: BTreeSet<String> = (1..=16)
        .map(|row| format!("s{row}"))
        .chain(["a1", "a2", "a3"].map(Into::into))
        .collect();
    assert_eq!(cited(Source::Seed), seeds.iter().map(String::as_str).collect());
    let anssi: BTreeSet<String> = (1..=35)
        .filter(|r| !(30..=32).contains(r))
        .map(|r| format!("R{r}"))
        .collect();
    assert_eq!(cited(Source::Anssi), anssi.iter().map(String::as_str).collect());
}

#[test]
fn three_controls_are_untouchable() {
    let ids: Vec<String> = builtin()
        .controls()
        .iter()
        .filter(|control| control.untouchable)
        .map(|control| control.id.to_string())
        .collect();
    assert_eq!(ids, ["NET-07", "DAT-01", "CLU-04"]);
}

/// Texts complete a message after a semicolon, on one line of at most 900 bytes that may hold three of them.
#[test]
fn texts_fit_into_messages() {
    let fixes = rules().filter_map(|(_, rule, id)| Some((id.to_string(), rule.fix.as_deref()?)));
    let fixes = fixes.chain(
        builtin()
            .controls()
            .iter()
            .map(|control| (control.id.to_string(), control.fix.as_str())),
    );
    for (id, fix) in fixes {
        assert!(!fix.is_empty() && fix.len() <= 120, "{id}: {}", fix.len());
        assert!(!fix.ends_with('.') && !fix.contains('\n'), "{id}: {fix}");
        assert!(!fix.starts_with(|c: char| c.is_uppercase()), "{id}: {fix}");
    }
    let titles = rules().map(|(_, rule, id)| (id.to_string(), rule.title.as_str()));
    let titles = titles.chain(
        builtin()
            .controls()
            .iter()
            .map(|control| (control.id.to_string(), control.title.as_str())),
    );
    for (id, title) in titles {
        assert!(
            title.len() >= 10 && title.len() <= 100 && !title.ends_with('.'),
            "{id}: {title}"
        );
    }
}

/// What only observes refuses nothing, and must not look as if it did.
#[test]
fn posture_is_never_on() {
    for control in builtin()
        .controls()
        .iter()
        .filter(|control| control.mechanism == Mechanism::Posture)
    {
        assert_eq!(control.mode, ControlMode::Audit, "{}", control.id);
        assert!(
            control.rules.iter().all(|rule| rule.mode != Some(ControlMode::Enforce)),
            "{}",
            control.id
        );
    }
}

#[test]
fn the_law_sets_dates() {
    let date = |id: &str| {
        builtin()
            .effective_from(&id.parse().unwrap())
            .map(|date| date.to_string())
    };
    assert_eq!(date("DAT-01/prohibited").as_deref(), Some("2025-02-02"));
    assert_eq!(date("DAT-01/intimate-imagery").as_deref(), Some("2026-12-02"));
    for id in ["DAT-06/logs", "EVD-04/rights", "EVD-05/high-risk"] {
        assert_eq!(date(id).as_deref(), Some("2027-12-02"), "{id}");
    }
    assert_eq!(date("NET-04"), None);
}

/// A mistyped control does not compile; a mistyped rule fails here: every `XXX_00.rule("…")` of the sources is in the
/// catalogue, except in tests of the id type itself.
#[test]
fn the_sources_name_no_unknown_rule() {
    let (mut unknown, mut read) = (Vec::new(), 0);
    for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        read += 1;
        for (at, marker) in text.match_indices(".rule(\"") {
            let name = text[at + marker.len()..].split('"').next().unwrap();
            let before = text[..at].trim_end();
            let control = before
                .get(before.len().saturating_sub(6)..)
                .unwrap_or_default()
                .replace('_', "-");
            let id = format!("{control}/{name}");
            if !file.ends_with("compliance/id.rs") && id.parse().is_ok_and(|id| !builtin().contains(&id)) {
                unknown.push(format!("{}: {id}", file.display()));
            }
        }
    }
    assert!(read > 5);
    assert_eq!(unknown, Vec::<String>::new());
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| if path.is_dir() { rust_files(&path) } else { vec![path] };
    paths
        .flat_map(files)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn with(control: &str) -> Result<Catalogue, CatalogueError> {
    Catalogue::parse(&format!(
        "{{controlSet: '1', families: {{NET: {{title: Network}}}}, controls: [{control}]}}"
    ))
}

fn contradiction_of(controls: &str) -> String {
    with(controls).unwrap_err().to_string()
}

#[test]
fn a_catalogue_that_contradicts_itself_is_refused() {
    let good = "{id: NET-01, title: T, severity: Low, mode: 'Enforce', mechanism: Network, fix: f, stages: [training]}";
    assert!(with(good).is_ok());
    let changed = |from: &str, to: &str| contradiction_of(&good.replace(from, to));
    assert!(contradiction_of(&format!("{good}, {good}")).contains("NET-01 stands twice or out of order"));
    assert!(changed("NET-01", "ENC-01").contains("family without an entry"));
    assert!(changed("stages: [training]", "cluster: false").contains("either stages or cluster"));
    assert!(changed("stages:", "cluster: true, stages:").contains("either stages or cluster"));
    assert!(changed("stages:", "perStage: {shared: 'Enforce'}, stages:").contains("does not apply"));
    assert!(changed("mode: 'Enforce'", "mode: 'Disabled', untouchable: true").contains("is Disabled"));
    let rule = |rule: &str| changed("fix: f", &format!("fix: f, untouchable: true, rules: [{rule}]"));
    assert!(rule("{id: Seal, title: t}").contains("words in lower case"));
    assert!(rule("{id: a, title: t}, {id: a, title: t}").contains("NET-01/a stands twice"));
    assert!(rule("{id: a, title: t, perStage: {shared: 'Enforce'}}").contains("does not apply"));
    assert!(rule("{id: a, title: t, perStage: {training: 'Disabled'}}").contains("NET-01/a may not be switched off"));
}

#[test]
fn unknown_fields_and_sources_are_refused() {
    let bad =
        "{id: NET-01, title: T, severity: Low, mode: 'Enforce', mechanism: Network, fix: f, stages: [training], X}";
    for extra in ["phase: training", "references: {iso: [A.1]}", "references: {anssi: R1}"] {
        assert!(
            matches!(with(&bad.replace('X', extra)), Err(CatalogueError::Unreadable(_))),
            "{extra}"
        );
    }
}

#[test]
fn what_is_not_in_the_catalogue_is_not_taken_lightly() {
    let missing = NOTHING.severity(&crate::compliance::id::NET_04.into());
    assert_eq!(missing, Severity::High);
    assert_eq!(
        NOTHING.default_mode(&crate::compliance::id::NET_04.into(), None),
        ControlMode::Enforce
    );
}
