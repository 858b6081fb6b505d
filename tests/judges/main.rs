//! The analysis of running pods against three judges that know nothing of it and nothing of each other: the plain
//! evaluator of this repository, cyclonus (a Go module) and network-config-analyzer (a Python package). Random policies,
//! every ordered pair of ends, port by port; not one verdict may stay unexplained.
//!
//! `CLOISON_VERDICTS` is how many packets each of the two programs judges, 100,000 where it is not set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/dice.rs"]
mod dice;
#[path = "../../src/network/testkit/packets.rs"]
mod packets;

mod analyzer;
mod bugs;
mod case;
mod corpus;
mod cyclonus;
mod judge;
mod mix;

use std::io::Write as _;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use dice::Dice;
use judge::Judge;
use mix::Mix;

#[test]
fn cyclonus_says_the_same_of_every_packet() {
    compare(&mut cyclonus::Cyclonus, 0x000C_1C10);
}

#[test]
fn network_config_analyzer_says_the_same_of_every_packet() {
    compare(&mut analyzer::Analyzer::start(), 0x0A11_CA11);
}

fn compare<J: Judge>(judge: &mut J, seed: u64) {
    let wanted: u64 = std::env::var("CLOISON_VERDICTS").map_or(100_000, |number| {
        number
            .parse()
            .unwrap_or_else(|_| panic!("CLOISON_VERDICTS is {number:?} and should be a number, like 1000000"))
    });
    let mut dice = Dice(seed);
    let mut mix = Mix::default();
    let (mut verdicts, mut masked, mut reworded) = ([0_u64; 2], 0, 0);
    while verdicts.iter().sum::<u64>() < wanted {
        let case = corpus::case(&mut dice);
        mix.count(&case.snapshot.policies);
        let packets = case.packets();
        let ours = case.analysed(J::BLOCKS, &packets);
        let plain = case.plain(J::BLOCKS, &packets);
        let given: Vec<NetworkPolicy> = case.snapshot.policies.iter().map(J::given).collect();
        let both = case.snapshot.policies.iter().zip(&given);
        reworded += both.filter(|(written, given)| written != given).count();
        let question = case.with(given);
        assert!(
            plain == question.plain(J::BLOCKS, &packets),
            "other words, another meaning: {}",
            case.describe(packets[0])
        );
        let theirs = judge.judge(&question, &packets);
        assert_eq!(theirs.len(), packets.len(), "{} left packets out", J::NAME);
        // With its known mistakes, and with no others, the judge must say exactly this.
        let explained = match J::misread(&case.snapshot.policies) {
            Some(policies) => case.with(policies).analysed(J::BLOCKS, &packets),
            None => ours.clone(),
        };
        for (at, packet) in packets.iter().enumerate() {
            let said = || case.describe(*packet);
            assert_eq!(
                ours[at],
                plain[at],
                "left the analysis, right the plain evaluator: {}",
                said()
            );
            assert_eq!(
                explained[at],
                theirs[at],
                "left the analysis, right {}: {}",
                J::NAME,
                said()
            );
            masked += u64::from(explained[at] != ours[at]);
            verdicts[usize::from(ours[at])] += 1;
        }
    }
    let [denied, allowed] = verdicts;
    let total = denied + allowed;
    let share = 100 * allowed / total;
    let known = 100 * masked / total;
    say(&format!(
        "{}: {total} verdicts, {share} % allowed, 0 unexplained, {masked} ({known} %) by its known bugs, \
         {reworded} policies in other words; {mix}",
        J::NAME
    ));
    mix.is_rich();
    assert!((30..=70).contains(&share), "one-sided: {share} % are allowed");
    assert!(known < 10, "the known bugs of {} hide too much: {known} %", J::NAME);
}

/// To standard error, past the test harness.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
