//! Looks for what nobody may find: keys as bytes and as text, values of Secrets, what opens the ring.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cloison::encryption::config;
use cloison_testbed::Program;

/// What is looked for, with a name that may be told.
pub struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Every key of these files, and this value.
    pub fn of(files: &[Vec<u8>], canary: &str) -> Self {
        let mut all = Vec::new();
        let mut add = |name: &str, bytes: &[u8]| {
            all.push((format!("{name} as it is"), bytes.to_vec()));
            all.push((format!("{name} in base64"), STANDARD_NO_PAD.encode(bytes).into_bytes()));
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
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

    /// The same and this text.
    pub fn and(mut self, name: &str, text: &str) -> Self {
        self.0.push((name.to_owned(), text.as_bytes().to_vec()));
        self
    }

    /// The names of what is in there. One pass, whatever is looked for: a core is large.
    pub fn found_in(&self, hay: &[u8]) -> Vec<&str> {
        let mut begins = [false; 256];
        for (_, needle) in &self.0 {
            begins[usize::from(needle[0])] = true;
        }
        let mut found = BTreeSet::new();
        for (at, byte) in hay.iter().enumerate() {
            if begins[usize::from(*byte)] {
                let here = self.0.iter().filter(|(_, needle)| hay[at..].starts_with(needle));
                found.extend(here.map(|(name, _)| name.as_str()));
            }
        }
        found.into_iter().collect()
    }
}

/// Whether this is in there.
pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    !Needles(vec![(String::new(), needle.to_vec())]).found_in(hay).is_empty()
}

/// What a running program has in its memory: heap, stacks and all that it did not map from a file.
pub fn core(program: &Program, folder: &Path) -> Vec<u8> {
    let id = program.process_id().unwrap();
    let prefix = folder.join("core");
    let done = Command::new("gcore")
        .arg("-o")
        .arg(&prefix)
        .arg(id.to_string())
        .output()
        .expect("gcore, of Debian's package gdb");
    let file = PathBuf::from(format!("{}.{id}", prefix.display()));
    let bytes = fs::read(&file).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&done.stderr));
    });
    fs::remove_file(file).unwrap();
    bytes
}
