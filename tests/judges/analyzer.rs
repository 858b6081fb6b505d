//! network-config-analyzer: exact sets of connections, computed all at once. To it an `ipBlock` is never a pod.
//!
//! One interpreter answers all questions (`analyzer.py`): a start costs more than a hundred of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cloison::network::reach::concrete::Blocks;
use cloison_testbed::{Tool, find};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case::{Case, Packet};
use crate::{Judge, bugs};

pub struct Analyzer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
enum Answer {
    #[serde(rename = "allowed")]
    Allowed(String),
    #[serde(rename = "error")]
    Error(String),
}

impl Analyzer {
    pub fn start() -> Self {
        let python = find(Tool::NetworkConfigAnalyzer).unwrap_or_else(|error| panic!("{error}"));
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/analyzer.py");
        let mut child = Command::new(python)
            .arg(driver)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It warns of every selector that matches nothing.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// What it answers, or its complaint.
    pub fn ask(&mut self, case: &Case, packets: &[Packet]) -> Result<Vec<bool>, String> {
        let probe = |packet: &Packet| {
            let (from, to) = (case.name(packet.from), case.name(packet.to));
            json!([from, to, packet.protocol.as_str(), packet.port])
        };
        let question = json!({
            "namespaces": case.namespaces(),
            "pods": case.pods(),
            "policies": case.snapshot.policies,
            "packets": packets.iter().map(probe).collect::<Vec<Value>>(),
        });
        writeln!(self.questions.as_mut().unwrap(), "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "network-config-analyzer ended; run tests/judges/analyzer.py with its Python to see why"
        );
        match serde_json::from_str(&line).unwrap() {
            Answer::Allowed(digits) => Ok(digits.chars().map(|digit| digit == '1').collect()),
            Answer::Error(error) => Err(error),
        }
    }
}

impl Drop for Analyzer {
    fn drop(&mut self) {
        // It ends when there are no more questions.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

impl Judge for Analyzer {
    const NAME: &'static str = "network-config-analyzer";
    const BLOCKS: Blocks = Blocks::External;

    fn judge(&mut self, case: &Case, packets: &[Packet]) -> Vec<bool> {
        let answer = self.ask(case, packets);
        answer.unwrap_or_else(|error| panic!("{error}: {}", case.describe(packets[0])))
    }

    fn given(policy: &NetworkPolicy) -> NetworkPolicy {
        bugs::readable(policy)
    }

    fn misread(policies: &[NetworkPolicy]) -> Option<Vec<NetworkPolicy>> {
        bugs::exists_stays_at_home(policies)
    }
}
