//! Looks for what nobody may find: keys and values of Secrets, in what is written down, and keys in memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloison::agent::node::{FILE, RING};
use cloison_testbed::Program;

use super::needles::Needles;
use super::scene::Scene;

/// Where a key of these files or this value was found: logs of all programs, everything in etcd (objects and events, Secrets
/// as they are stored), the sealed copies of the ring.
pub async fn leaks(scene: &Scene, files: &[Vec<u8>], canary: &str) -> Vec<String> {
    let needles = Needles::of(files, canary);
    // It finds what is there.
    let file = needles.found_in(&scene.nodes[0].read(FILE));
    assert!(file.contains("k2 in base64"), "{file:?}");
    let planted = format!("a log line with {} in it", STANDARD.encode(canary));
    assert!(needles.found_in(planted.as_bytes()).contains("the canary in base64"));

    let mut places = Vec::new();
    for entry in fs::read_dir(scene.plane.logs_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(places.len() >= 6, "controller, agents, API servers and etcd have logs");
    places.extend(scene.plane.etcd().list("/").await.unwrap());
    let sealed = |node: &super::agents::Node| (format!("{} of {}", RING, node.name), node.read(RING));
    places.extend(scene.nodes.iter().map(sealed));
    assert!(places.len() > 200, "{}", places.len());
    let mut leaks = Vec::new();
    for (place, hay) in &places {
        leaks.extend(needles.found_in(hay).into_iter().map(|name| format!("{place}: {name}")));
    }
    leaks
}

/// What a core of the controller and of each agent would hold of the keys of these files. An agent opens the keys in each
/// pass, so it is looked at until it is caught between two of them: what a pass leaves behind is there then as well.
pub fn remembered(scene: &Scene, files: &[Vec<u8>]) -> Vec<String> {
    let needles = Needles::in_memory(files);
    // It finds what is there: this process has read the files.
    let own = found_in_memory(&needles, std::process::id());
    assert!(own.iter().any(|what| what.contains("base64 of k2")), "{own:?}");
    let mut remembered = found(&needles, &scene.controller);
    for node in &scene.nodes {
        let mut least = found(&needles, &node.agent);
        for _ in 0..40 {
            if least.is_empty() {
                break;
            }
            let next = found(&needles, &node.agent);
            least = if next.len() < least.len() { next } else { least };
        }
        remembered.extend(least);
    }
    remembered
}

/// While it stands still.
fn found(needles: &Needles, program: &Program) -> Vec<String> {
    let process = program.process_id().unwrap();
    let signal = |signal: &str| {
        let sent = Command::new("kill").args([signal, &process.to_string()]).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    let found = found_in_memory(needles, process);
    signal("-CONT");
    found
}

/// In every mapping that can be written. Others hold what is in their files.
fn found_in_memory(needles: &Needles, process: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).expect("root may read the memory of another process");
    let (mut found, mut size) = (Vec::new(), 0);
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.get(5).copied().unwrap_or("memory without a name");
        if !words[1].starts_with("rw") {
            continue;
        }
        let (from, until) = words[0].split_once('-').unwrap();
        let [from, until] = [from, until].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(until - from).unwrap()];
        // One that went away meanwhile is not read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            size += bytes.len();
            let names = needles.found_in(&bytes).into_iter();
            found.extend(names.map(|name| format!("process {process}, {place}: {name}")));
        }
    }
    assert!(size > 1 << 20, "{size} bytes were read");
    found
}
