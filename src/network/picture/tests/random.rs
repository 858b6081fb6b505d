//! Random clusters of 1 to 300 workloads: flows, holes, policies nobody can read. The same seed, the same cluster.

use std::fmt::Write as _;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime;
use crate::network::picture::{Picture, allowed, declared};
use crate::network::policies;
use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
use crate::network::reach::{Analysis, UnmodelledPolicy, analyse};
use crate::network::testkit::{self, labels, policy};
use crate::network::world::World;

/// SplitMix64: small, and good enough to mix.
pub(in crate::network::picture) struct Dice(pub u64);

impl Dice {
    /// A number below `end`.
    pub(in crate::network::picture) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    /// A DNS label of 1 to 63 characters with a number that makes it unique. Wide letters and narrow ones.
    fn name(&mut self, number: usize) -> String {
        let letters = ["a", "m", "w", "i", "l", "-", "train", "9"];
        let mut name = format!("n{number}");
        let end = if self.one_in(3) { 63 } else { 6 + self.below(20) };
        while name.len() < end {
            name.push_str(letters[self.below(letters.len())]);
        }
        name.truncate(end);
        name.trim_end_matches('-').to_owned()
    }
}

/// A cluster and what the analysis says of it.
pub(in crate::network::picture) struct Case {
    pub world: World,
    pub analysis: Analysis,
    pub picture: Picture,
}

fn judged(world: &World, others: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> (Vec<NetworkPolicy>, Analysis) {
    let mut all = policies::all(world);
    all.extend_from_slice(others);
    let analysis = analyse(world, &all, unmodelled);
    (all, analysis)
}

/// Where a rule is, as if from a file.
pub(in crate::network::picture) fn locate(policy: &str, field: &str) -> String {
    format!("{policy} manifests/{policy}.yaml:12:7 spec.{field}")
}

/// How many workloads, from few to 300, so that every grain is drawn.
fn size(dice: &mut Dice) -> usize {
    let most = [3, 12, 40, 300][dice.below(4)];
    1 + dice.below(most)
}

/// With AiWorkloads.
pub(in crate::network::picture) fn with_workloads(seed: u64) -> Case {
    let mut dice = Dice(seed);
    let count = size(&mut dice);
    let mut world = testkit::world();
    let most = count.min(if dice.one_in(2) { 8 } else { 120 });
    let spaces: Vec<String> = (0..=dice.below(most)).map(|number| dice.name(number)).collect();
    for name in &spaces {
        let stage = [Training, Evaluation, Inference][dice.below(3)];
        world.stage(name, stage);
    }
    let most = if dice.one_in(8) { 60 } else { 8 };
    let services = dice.below(most);
    let sources = dice.below(6);
    let mut catalogue =
        String::from("services:\n- {name: mirror, to: {cidrs: [203.0.113.0/24]}, ports: [{port: 443}]}\n");
    for number in 0..services {
        let namespace = format!("shared-{}", number / 4);
        if number % 5 == 4 {
            world.plain(&namespace, "");
        } else {
            world.stage(&namespace, Shared);
        }
        let _ = writeln!(
            catalogue,
            "- {{name: s{number}, to: {{namespace: {namespace}}}, ports: [{{port: {}}}]}}",
            5000 + number
        );
    }
    catalogue += "sources:\n- {name: office, kind: Gateway, from: {cidrs: [198.51.100.0/24]}}\n";
    for number in 0..sources {
        world.plain(&format!("gate-{number}"), "");
        let _ = writeln!(
            catalogue,
            "- {{name: g{number}, kind: Gateway, from: {{namespace: gate-{number}}}}}"
        );
    }
    world.policy(&catalogue);
    let homes: Vec<String> = (0..count).map(|_| spaces[dice.below(spaces.len())].clone()).collect();
    let names: Vec<String> = (0..count).map(|number| dice.name(number)).collect();
    let mut to = vec![Vec::new(); count];
    let mut from = vec![Vec::new(); count];
    for one in 0..count {
        for _ in 0..dice.below(4) {
            match dice.below(4) {
                0 => to[one].push("service: mirror".to_owned()),
                1 if services > 0 => to[one].push(format!("service: s{}", dice.below(services))),
                2 => from[one].push(match sources {
                    0 => "source: office, ports: [{port: 8000}]".to_owned(),
                    _ => format!("source: g{}, ports: [{{port: 8000}}]", dice.below(sources)),
                }),
                _ => {
                    let other = dice.below(count);
                    let reference = |at: usize| format!("workload: {{name: {}, namespace: {}}}", names[at], homes[at]);
                    to[one].push(format!("{}, ports: [{{port: 7}}]", reference(other)));
                    from[other].push(format!("{}, ports: [{{port: 7}}]", reference(one)));
                }
            }
        }
    }
    for one in 0..count {
        let list = |entries: &[String]| {
            entries
                .iter()
                .map(|entry| format!("{{{entry}}}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let network = format!("connectTo: [{}]\nacceptFrom: [{}]\n", list(&to[one]), list(&from[one]));
        world.workload(&homes[one], &names[one], Runtime::Generic, &network);
    }
    let (others, unmodelled) = trouble(&mut dice, &spaces);
    let (_, analysis) = judged(&world, &others, &unmodelled);
    let picture = declared(&world, &analysis, &[], &locate);
    Case {
        world,
        analysis,
        picture,
    }
}

/// Without AiWorkloads: pods and what the policies allow.
pub(in crate::network::picture) fn with_pods(seed: u64) -> Case {
    let mut dice = Dice(seed);
    let count = size(&mut dice).min(100);
    let mut world = testkit::world();
    let spaces: Vec<String> = (0..=dice.below(count.min(60)))
        .map(|number| dice.name(number))
        .collect();
    for name in &spaces {
        match dice.below(4) {
            0 => world.plain(name, ""),
            1 => world.stage(name, Shared),
            2 => world.stage(name, Training),
            _ => world.stage(name, Inference),
        };
    }
    let pod = |dice: &mut Dice, number: usize| Pod {
        namespace: spaces[dice.below(spaces.len())].clone(),
        owner: ("Deployment".to_owned(), dice.name(number)),
        labels: labels(&format!("app=a{}", number % 5)),
        ..Pod::default()
    };
    let pods = (0..count).map(|number| pod(&mut dice, number)).collect();
    let (mut others, unmodelled) = trouble(&mut dice, &spaces);
    if !dice.one_in(3) {
        for space in &spaces {
            others.push(policy(
                space,
                "deny",
                "{podSelector: {}, policyTypes: [Ingress, Egress]}",
            ));
        }
    }
    let out = "{podSelector: {matchLabels: {app: a1}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}], \
               ports: [{port: 443}]}]}";
    others.push(policy(&spaces[0], "out", out));
    let analysis = analyse(&world, &others, &unmodelled);
    let snapshot = Snapshot {
        namespaces: world
            .namespaces
            .iter()
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect(),
        pods,
        policies: others,
        cluster_policies: Vec::new(),
    };
    let connections = Connectivity::read(&snapshot, Blocks::External).unwrap().connections();
    let picture = allowed(&world, &analysis, &snapshot, &connections, &[], &locate);
    Case {
        world,
        analysis,
        picture,
    }
}

/// Policies that open holes, and kinds that nobody can read; often none.
fn trouble(dice: &mut Dice, spaces: &[String]) -> (Vec<NetworkPolicy>, Vec<UnmodelledPolicy>) {
    let mut others = Vec::new();
    let some = |dice: &mut Dice| match dice.below(4) {
        0 | 1 => 0,
        2 => 1,
        _ => spaces.len() / 2 + 1,
    };
    for number in 0..some(dice) {
        let space = &spaces[dice.below(spaces.len())];
        let open = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}";
        others.push(policy(
            space,
            &format!("{}-{number}", "lets-everybody-in".repeat(dice.below(4))),
            open,
        ));
    }
    let unmodelled = (0..some(dice)).map(|_| UnmodelledPolicy {
        namespace: Some(spaces[dice.below(spaces.len())].clone()),
        kind: "CiliumNetworkPolicy.cilium.io".to_owned(),
    });
    (others, unmodelled.collect())
}
