//! Looks for what nobody may find: keys, as bytes and as text, and values of Secrets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cloison::agent::node::{FILE, RING};
use cloison::encryption::config;

use super::scene::Scene;

/// What is looked for, with a name that may be told.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Every key of these files, and this value.
    fn of(files: &[Vec<u8>], canary: &str) -> Self {
        let mut all = Vec::new();
        let mut add = |name: &str, bytes: &[u8]| {
            all.push((format!("{name} as it is"), bytes.to_vec()));
            all.push((format!("{name} in base64"), STANDARD_NO_PAD.encode(bytes).into_bytes()));
            let hex = bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            all.push((format!("{name} in hex"), hex.into_bytes()));
        };
        add("the canary", canary.as_bytes());
        for file in files {
            for key in config::read(file).unwrap().keys() {
                let text = key.material.to_base64();
                add(key.name.as_str(), &STANDARD.decode(text.as_bytes()).unwrap());
            }
        }
        Self(all)
    }

    /// The names of what is in there.
    fn found_in(&self, hay: &[u8]) -> BTreeSet<&str> {
        let found = self.0.iter().filter(|(_, needle)| {
            let mut windows = hay.windows(needle.len());
            windows.any(|window| window == needle)
        });
        found.map(|(name, _)| name.as_str()).collect()
    }
}

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
