//! The analysis of running pods beside cyclonus and network-config-analyzer: the same small clusters, policies and packets in
//! the same run. Numbers are printed, never asserted.
//!
//! Each program is asked as a whole, with what it costs to hand it the question: cyclonus is started for each cluster, one
//! interpreter answers for network-config-analyzer. The ratio says what a user waits, not what the algorithms cost.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, fails by panicking, and shares the files of the judges' tests"
)]

#[path = "../tests/common/dice.rs"]
mod dice;
#[path = "../src/network/testkit/packets.rs"]
mod packets;

#[path = "../tests/judges/analyzer.rs"]
mod analyzer;
#[path = "../tests/judges/bugs.rs"]
mod bugs;
#[path = "../tests/judges/case.rs"]
mod case;
#[path = "../tests/judges/corpus.rs"]
mod corpus;
#[path = "../tests/judges/cyclonus.rs"]
mod cyclonus;
#[path = "../tests/judges/judge.rs"]
mod judge;

use std::hint::black_box;
use std::time::{Duration, Instant};

use judge::Judge;

/// Clusters that are asked about.
const CASES: usize = 50;

fn main() {
    println!("{CASES} clusters of 5 pods and 3 to 7 policies, every packet between two ends on 9 ports\n");
    println!("| judge | packets | seconds | the analysis | **ratio** |");
    println!("|---|---|---|---|---|");
    beside(&mut cyclonus::Cyclonus);
    beside(&mut analyzer::Analyzer::start());
}

fn beside<J: Judge>(judge: &mut J) {
    let mut dice = dice::Dice(0x000C_1C10);
    let (mut ours, mut theirs, mut number) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..CASES {
        let case = corpus::case(&mut dice);
        let packets = case.packets();
        let question = case.with(case.snapshot.policies.iter().map(J::given).collect());
        number += packets.len();
        let start = Instant::now();
        black_box(question.analysed(J::BLOCKS, &packets));
        ours += start.elapsed();
        let start = Instant::now();
        black_box(judge.judge(&question, &packets));
        theirs += start.elapsed();
    }
    let (ours, theirs) = (ours.as_secs_f64(), theirs.as_secs_f64());
    println!(
        "| {} | {number} | {theirs:.2} | {ours:.3} | **{:.0}** |",
        J::NAME,
        theirs / ours
    );
}
