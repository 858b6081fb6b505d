//! What the scenes play on: the control plane, the controller, and kubectl for everybody.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, Tool, find};
use tokio::signal::unix::{SignalKind, signal};

/// How long anything may take to become true.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The stage.
pub struct Stage {
    /// etcd, two API servers, the controller manager.
    pub plane: ControlPlane,
    /// The controller, once it was started.
    pub controller: Option<Program>,
    /// The agents on the control-plane nodes, once they were started.
    pub agents: Vec<Program>,
    kubectl: PathBuf,
    helm: PathBuf,
    admin: PathBuf,
    seen: Vec<(String, bool)>,
    start: Instant,
}

/// What a command said.
pub struct Output {
    /// Both streams, in order of the streams.
    pub text: String,
    /// Whether it ended with 0.
    pub ok: bool,
}

impl Stage {
    /// Builds what is missing and starts the control plane.
    pub async fn build() -> Result<Self, String> {
        let start = Instant::now();
        say(
            "Cloison keeps AI training and AI inference apart, and proves it. This is a real etcd, two real API servers",
        );
        say(
            "and a real controller manager on this machine; nothing is simulated. There is no node and no network plugin:",
        );
        say("pods stay Pending, and nothing here can show that packets are dropped. Cloison says so, too.\n");
        let kubectl = find(Tool::Kubectl).map_err(|error| error.to_string())?;
        let helm = find(Tool::Helm).map_err(|error| error.to_string())?;
        let server = ApiServerOptions {
            // A rotation waits for each of them: with the defaults it takes a quarter of an hour.
            fast_reload: true,
            extra_args: vec![
                "--request-timeout=10s".to_owned(),
                "--etcd-compaction-interval=10s".to_owned(),
            ],
            ..ApiServerOptions::default()
        };
        let options = Options {
            api_servers: vec![server; 2],
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.map_err(|error| error.to_string())?;
        let admin = plane.admin_kubeconfig().map_err(|error| error.to_string())?;
        // Everybody else works there, and has the examples too.
        std::os::unix::fs::symlink(Self::repository().join("examples"), plane.folder().join("examples"))
            .map_err(|error| format!("{}: {error}", plane.folder().display()))?;
        say(&format!("control plane ready after {:.0?}", start.elapsed()));
        Ok(Self {
            plane,
            controller: None,
            agents: Vec::new(),
            kubectl,
            helm,
            admin,
            seen: Vec::new(),
            start,
        })
    }

    /// The folder of the repository.
    pub fn repository() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// Runs kubectl as the admin, and shows what was typed and answered.
    pub fn admin(&self, words: &[&str]) -> Result<Output, String> {
        self.kubectl_as("admin", &self.admin, words, true)
    }

    /// Runs kubectl as the admin without showing it.
    pub fn quietly(&self, words: &[&str]) -> Result<Output, String> {
        self.kubectl_as("admin", &self.admin, words, false)
    }

    /// Runs kubectl as anybody.
    pub fn kubectl_as(&self, who: &str, kubeconfig: &Path, words: &[&str], show: bool) -> Result<Output, String> {
        let mut command = Command::new(&self.kubectl);
        // The admin works in the checkout, a tenant in a folder of her own.
        let folder = if who == "admin" {
            Self::repository()
        } else {
            self.plane.folder()
        };
        command.current_dir(folder).env("KUBECONFIG", kubeconfig).args(words);
        Self::run(who, "kubectl", command, words, show)
    }

    /// Runs Helm as the admin.
    pub fn helm(&self, words: &[&str]) -> Result<Output, String> {
        let home = self.plane.folder().join("helm");
        let mut command = Command::new(&self.helm);
        command
            .current_dir(Self::repository())
            .env("KUBECONFIG", &self.admin)
            .args(words);
        command
            .env("HELM_CACHE_HOME", &home)
            .env("HELM_CONFIG_HOME", &home)
            .env("HELM_DATA_HOME", &home);
        Self::run("admin", "helm", command, words, true)
    }

    /// Runs our own program as the admin, and puts what it writes into a file instead of showing it.
    pub fn draw(&self, program: &Path, words: &[&str], file: &Path) -> Result<Output, String> {
        say(&format!("admin$ cloison {} > {}", words.join(" "), file.display()));
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.admin).args(words);
        let output = command.output().map_err(|error| format!("cloison: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.is_empty() {
            say(said.trim_end());
        }
        let error = |error: std::io::Error| format!("{}: {error}", file.display());
        std::fs::create_dir_all(file.parent().unwrap_or(file)).map_err(error)?;
        std::fs::write(file, &output.stdout).map_err(error)?;
        Ok(Output {
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            ok: output.status.success(),
        })
    }

    /// Runs our own program as the admin, whose lines are seen as they come; returns whether it ended with 0.
    pub fn cloison(&self, program: &Path, words: &[&str]) -> Result<bool, String> {
        say(&format!("admin$ cloison {}", words.join(" ")));
        let mut command = Command::new(program);
        let ended = command.env("KUBECONFIG", &self.admin).args(words).status();
        ended
            .map(|status| status.success())
            .map_err(|error| format!("cloison: {error}"))
    }

    fn run(who: &str, name: &str, mut command: Command, words: &[&str], show: bool) -> Result<Output, String> {
        if show {
            let shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            say(&format!("{who}$ {name} {}", shown.join(" ")));
        }
        let output = command.output().map_err(|error| format!("{name}: {error}"))?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if show {
            say(text.trim_end());
        }
        Ok(Output {
            text,
            ok: output.status.success(),
        })
    }

    /// Repeats a quiet kubectl until `enough` is content, and then shows the last answer.
    pub fn wait(&self, words: &[&str], enough: impl Fn(&Output) -> bool) -> Result<Output, String> {
        self.wait_as("admin", &self.admin, words, enough)
    }

    /// As [`Self::wait`], without showing anything.
    pub fn until(&self, words: &[&str], enough: impl Fn(&Output) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !enough(&self.quietly(words)?) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// As [`Self::wait`], for anybody.
    pub fn wait_as(
        &self,
        who: &str,
        kubeconfig: &Path,
        words: &[&str],
        enough: impl Fn(&Output) -> bool,
    ) -> Result<Output, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.kubectl_as(who, kubeconfig, words, false)?;
            if enough(&output) || Instant::now() > end {
                let shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                say(&format!(
                    "{who}$ kubectl {}\n{}",
                    shown.join(" "),
                    output.text.trim_end()
                ));
                return Ok(output);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Notes whether a scene showed what it must.
    pub fn expect(&mut self, what: &str, seen: bool) {
        say(&format!("{} {what}", if seen { "✔" } else { "✘ NOT SEEN:" }));
        self.seen.push((what.to_owned(), seen));
    }

    /// Prints what was shown; returns how much was missed.
    pub fn summary(&self) -> usize {
        let missed = self.seen.iter().filter(|(_, seen)| !seen).count();
        say(&format!("\n── Summary, after {:.0?}", self.start.elapsed()));
        for (what, seen) in &self.seen {
            say(&format!("{} {what}", if *seen { "✔" } else { "✘" }));
        }
        if missed == 0 {
            say(
                "\nNot shown, because nothing here could: that a network plugin enforces the policies (EnforcementVerified and",
            );
            say("NetworkIsolated stay Unknown).");
        } else {
            say(&format!("\n{missed} of {} were not seen", self.seen.len()));
        }
        missed
    }

    /// Keeps the folder of the control plane, and says where the logs are.
    pub fn keep_logs(&self) -> String {
        self.plane.keep_logs();
        format!("the logs are kept in {}", self.plane.logs_dir().display())
    }

    /// Leaves everything running until Ctrl-C.
    pub async fn keep(&self) -> Result<(), String> {
        if let Some(controller) = &self.controller {
            controller.start().map_err(|error| error.to_string())?;
        }
        say("\nEverything keeps running until Ctrl-C. To play with it:");
        say(&format!("  export KUBECONFIG={}", self.admin.display()));
        say(&format!(
            "  export PATH={}:$PATH",
            self.kubectl.parent().unwrap_or(Path::new("")).display()
        ));
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    if word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c))
    {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// Opens a scene.
pub fn scene(title: &str) {
    say(&format!("\n── {title}"));
}

/// Prints a line. A reader who went away must not stop the clean-up.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
