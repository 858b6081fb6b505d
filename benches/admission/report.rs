//! What is printed: what each figure is, the figures, their limits and the ratios.

use std::fs;
use std::time::Duration;

use crate::gatekeeper::number_of_rules;
use crate::load::{Cost, number};
use crate::pods::cases;
use crate::reviews::{RATE, Reviews};
use crate::scan::{self, Scan};

/// By case.
pub struct Costs {
    pub ours: Vec<Cost>,
    pub theirs: Vec<Cost>,
    /// Without any policy, before Gatekeeper and after it.
    pub before: Vec<Cost>,
    pub after: Vec<Cost>,
}

impl Costs {
    /// The time of the API server beyond that without any policy, of which the mean is taken.
    fn added(&self, of: &[Cost], case: usize) -> f64 {
        of[case].server - f64::midpoint(self.before[case].server, self.after[case].server)
    }

    pub fn print(&self) {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        println!(
            "{processors} processors, load average now {}\n",
            load.split(' ').take(3).collect::<Vec<_>>().join(" ")
        );
        println!(
            "Dry-run CREATE of a pod with 3 containers, {} requests for each figure, no audit log. Cloison: its policies in the\n\
             API server; no process is asked. Gatekeeper: {} constraints, asked as a webhook by URL on the same machine.\n\
             - server ms: time of processors that the API server used for a request; of 2 clients\n\
             - added ms: the same without that of `no policy` (the mean of before and after)\n\
             - engine ms: time of processors that the engine's own process used for a request\n\
             - p50 / p99 ms: from request to answer, of 2 clients\n\
             - 8 / 32 clients: requests a second of so many clients, which share the processors with the server\n",
            number(),
            number_of_rules()
        );
        println!("| engine | pod | server ms | added ms | engine ms | p50 / p99 ms | 8 clients | 32 clients |");
        println!("|---|---|---|---|---|---|---|---|");
        let engines = [
            ("no policy, before", &self.before),
            ("no policy, after", &self.after),
            ("Cloison", &self.ours),
            ("Gatekeeper", &self.theirs),
        ];
        for (name, costs) in engines {
            for (index, (case, cost)) in cases().iter().zip(costs).enumerate() {
                println!(
                    "| {name} | {} | {:.2} | {:+.2} | {:.2} | {:.1} / {:.1} | {:.0} | {:.0} |",
                    case.what,
                    cost.server,
                    self.added(costs, index),
                    cost.engine,
                    cost.p50,
                    cost.p99,
                    cost.at_8,
                    cost.at_32
                );
            }
        }
    }
}

/// What was measured beside the costs.
pub struct Report {
    pub costs: Costs,
    pub reviews: Reviews,
    pub our_start: Duration,
    pub their_start: Duration,
    pub our_memory: f64,
    pub their_memory: f64,
    pub bytes: [usize; 2],
    pub scanned: Scan,
    pub plan: Scan,
    pub judgement: Scan,
    pub audit: Scan,
}

impl Report {
    pub fn print(&self) {
        self.limits();
        self.ratios();
        self.scans();
    }

    fn limits(&self) {
        let costs = &self.costs;
        let added = |case| costs.added(&costs.ours, case);
        println!("\n| Cloison | measured | limit | measured / limit |\n|---|---|---|---|");
        let row = |what: &str, measured: f64, limit: f64| {
            println!("| {what} | {measured:.2} | {limit} | {:.2} |", measured / limit);
        };
        row("API server ms added to an unmanaged pod", added(0), 0.1);
        row("API server ms added to a managed pod, allowed", added(1), 0.8);
        row("API server ms added to a managed pod, refused", added(2), 0.8);
        row(
            &format!("webhook p99 ms at {RATE} reviews a second"),
            self.reviews.p99,
            5.0,
        );
        row("webhook, resident MB after them", self.reviews.resident, 40.0);
        row(
            &format!("controller, resident MB, idle with {} pods", scan::number()),
            self.our_memory,
            40.0,
        );
        let [workload, policy] = self.bytes.map(|bytes| bytes as f64);
        row("bytes in etcd for a workload and its status", workload, 4_096.0);
        row(
            "bytes in etcd for these and its NetworkPolicy",
            workload + policy,
            4_096.0,
        );
        println!(
            "\nThe webhook's p50 is {:.1} ms, and it uses {:.2} ms of a processor for a review.",
            self.reviews.p50, self.reviews.each
        );
    }

    fn ratios(&self) {
        println!("\n| side by side | Cloison | Gatekeeper | Cloison / Gatekeeper |\n|---|---|---|---|");
        let row = |what: String, ours: f64, theirs: f64| {
            println!("| {what} | {ours:.2} | {theirs:.2} | {} |", ratio(ours, theirs));
        };
        for (index, case) in cases().iter().enumerate() {
            let costs = &self.costs;
            let (ours, theirs) = (costs.ours[index], costs.theirs[index]);
            let (added, their_added) = (costs.added(&costs.ours, index), costs.added(&costs.theirs, index));
            let what = case.what;
            row(format!("{what}: API server ms added"), added, their_added);
            row(
                format!("{what}: the same and the engine's own"),
                added + ours.engine,
                their_added + theirs.engine,
            );
            row(format!("{what}: p50 ms"), ours.p50, theirs.p50);
            row(format!("{what}: p99 ms"), ours.p99, theirs.p99);
            row(
                format!("{what}: requests a second of 8 clients"),
                ours.at_8,
                theirs.at_8,
            );
            row(
                format!("{what}: requests a second of 32 clients"),
                ours.at_32,
                theirs.at_32,
            );
        }
        row(
            "seconds from a process's start to enforcing".to_owned(),
            self.our_start.as_secs_f64(),
            self.their_start.as_secs_f64(),
        );
        row(
            "resident MB of what runs beside the API server (controller and webhook; one process with webhook, status and generate)".to_owned(),
            self.our_memory + self.reviews.resident,
            self.their_memory,
        );
        println!(
            "\nThe controller found no policy and wrote all of them; Gatekeeper found its rules in place. While neither runs, the\n\
             policies go on refusing, and Gatekeeper's webhook refuses everything or nothing.\n\
             Bytes in etcd have no counterpart: Gatekeeper stores nothing for a workload."
        );
    }

    fn scans(&self) {
        let (number, refused) = (scan::number(), scan::refused());
        println!(
            "\nScan of {number} stored pods, of which {refused} break a rule, found by each:\n\n\
             | by | seconds | processor seconds | MB |\n|---|---|---|---|"
        );
        let row = |what: &str, scan: &Scan| {
            println!(
                "| {what} | {:.1} | {:.1} | {:.0} |",
                scan.took, scan.processor, scan.memory
            );
        };
        row(
            "`cloison plan -A`: lists, judges, prints; MB: the most that was resident",
            &self.plan,
        );
        row(
            "the controller, from a declared workload in each namespace to the last status; MB: resident afterwards",
            &self.scanned,
        );
        row(
            "the judgement of `plan` alone, of pods in memory; MB: beyond them",
            &self.judgement,
        );
        row(
            "one audit of Gatekeeper, by its own clock; processor and MB: of the process since its start",
            &self.audit,
        );
        println!(
            "\n**ratio** of `cloison plan -A` to Gatekeeper's audit: **{}** of the time, **{}** of the memory",
            ratio(self.plan.took, self.audit.took),
            ratio(self.plan.memory, self.audit.memory)
        );
    }
}

/// What is next to nothing has none.
fn ratio(ours: f64, theirs: f64) -> String {
    if ours < 0.05 || theirs < 0.05 {
        "-".to_owned()
    } else {
        format!("{:.2}", ours / theirs)
    }
}
