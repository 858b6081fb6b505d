//! kube-apiserver 1.36 as judge of files: it ends when it refuses the file, so one that goes on
//! to its next option accepted it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloison_testbed::{Minor, Program, Tool, eventually, find};

/// What 1.36 says of its next option once the file has passed. That it looks for etcd shows nothing: it dials while it
/// still reads the file.
const NEXT: &str = "The manifest file is empty, ignoring.";
/// Nothing listens there.
const NO_ETCD: &str = "127.0.0.1:1";

/// What the API server said.
#[derive(Debug)]
pub enum Verdict {
    Accepted,
    /// With its words.
    Refused(String),
}

/// Asks real API servers, one after the other.
pub struct Judge {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Judge {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A private key of P-256 in SEC 1; the public half is computed from it.
        let mut key = vec![0x30, 0x31, 2, 1, 1, 4, 32];
        key.extend([7; 32]);
        key.extend([0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
        let kind = "EC PRIVATE KEY";
        let pem = format!(
            "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
            STANDARD.encode(key)
        );
        fs::write(folder.path().join("tokens.pem"), pem).unwrap();
        Self {
            folder,
            program: find(Tool::KubeApiserver(Minor::V1_36)).unwrap(),
        }
    }

    /// Whether an API server starts with the file.
    pub async fn judge(&self, file: &[u8], more_flags: &[&str]) -> Verdict {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        fs::write(path("config"), file).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut arguments = vec![
            format!("--etcd-servers=http://{NO_ETCD}"),
            format!("--cert-dir={}", path("certificates")),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path("tokens.pem")),
            format!("--service-account-signing-key-file={}", path("tokens.pem")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--encryption-provider-config={}", path("config")),
            "--encryption-provider-config-automatic-reload=true".to_owned(),
        ];
        arguments.extend(more_flags.iter().map(|flag| (*flag).to_owned()));
        let server = Program::new("judge", &self.program, arguments, path("log"));
        let _ = fs::remove_file(path("log"));
        server.start().unwrap();
        let verdict = eventually(
            Duration::from_secs(60),
            "the API server says something of the file",
            async || {
                let said = server.output();
                // What is wrong may take several lines.
                if let Some((_, about)) = said.split_once("command failed") {
                    let parsing = ["error while parsing file: ", "error while building transformers: "];
                    return match parsing.iter().find_map(|words| about.split_once(words)) {
                        Some((_, words)) => Ok(Verdict::Refused(words.to_owned())),
                        None => Err(format!("it failed on something else: {about}")),
                    };
                }
                if said.contains(NEXT) {
                    Ok(Verdict::Accepted)
                } else {
                    Err(said)
                }
            },
        );
        let verdict = verdict.await;
        server.kill();
        verdict.unwrap()
    }
}
