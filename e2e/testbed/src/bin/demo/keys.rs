//! Secrets are encrypted, and their key rotates: nobody has to touch a key, and no read fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloison_testbed::{ApiServer, Program};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use tokio::task::JoinSet;

use super::scenes::{NAMESPACE, program};
use super::stage::{Stage, say, scene};

const SECRETS: usize = 40;
const ASK: &str = r#"jsonpath={.status.conditions[?(@.type=="SecretsEncrypted")].status} {.status.conditions[?(@.type=="SecretsEncrypted")].message}{"\n"}"#;
const ENCRYPTED: &str = r#"--for=jsonpath={.status.conditions[?(@.type=="Encrypted")].status}=True"#;
const ALONE: &str = r#"--for=jsonpath={.status.conditions[?(@.type=="IdentityRemoved")].status}=True"#;

/// From plaintext to the first key.
pub async fn first_enable(stage: &mut Stage) -> Result<(), String> {
    scene("Secrets are in plaintext in etcd");
    for number in 0..SECRETS {
        let name = format!("token-{number}");
        stage.quietly(&["create", "secret", "generic", &name, "--from-literal=token=hunter2"])?;
    }
    let ask = ["get", "aisp", "default", "-o", ASK];
    let before = stage.wait(&ask, |output| output.text.starts_with("False"))?;
    stage.expect(
        "SecretsEncrypted is False: the API servers have no EncryptionConfiguration",
        before.text.starts_with("False"),
    );
    let stored = etcd(stage).await?;
    stage.expect(
        "etcd itself, read without the API servers: every value is plaintext",
        stored.keys().eq(["plaintext"]),
    );

    scene("The admin has the agent installed on the control-plane nodes, and asks for encryption in `mode: Manage`");
    let chart = ["upgrade", "cloison", "charts/cloison", "--namespace", NAMESPACE];
    let upgraded = stage.helm(&[&chart[..], &["--reuse-values", "--set", "agent.enabled=true"]].concat())?;
    stage.expect("Helm installed the agent", upgraded.ok);
    // Nobody needs the keys of the demo after it: the identity is not kept.
    let escrow = age::x25519::Identity::generate().to_public();
    let manifest = format!(
        "apiVersion: cloison.dev/v1alpha1\nkind: SecretEncryption\nmetadata:\n  name: default\nspec:\n  mode: Manage\n  \
         escrow:\n    recipients: [{escrow}]\n"
    );
    apply(stage, "encryption.yaml", &manifest)?;
    say(
        "(the recipient is of an age identity that the demo just made on this machine, and forgets. Yours is made with",
    );
    say(
        " age-keygen on a machine without a network, and kept there: it opens the keys when all control-plane nodes are",
    );
    say(" lost. Two Nodes stand for the control plane; an agent runs on each as a process, with the");
    say(" token of a pod there and with no other right)");
    for index in 0..stage.plane.api_servers().len() {
        let agent = agent(stage, index)?;
        agent.start().map_err(|error| error.to_string())?;
        stage.agents.push(agent);
    }
    let next = [
        "get",
        "secretencryption",
        "default",
        "-o",
        "jsonpath={.status.nextCommand}",
    ];
    let asked = stage.wait(&next, |output| output.text.contains("--encryption-provider-config="))?;
    stage.expect(
        "the one thing that the agents never do is asked for: the flags of the API servers, ready to copy",
        asked.text.contains("--encryption-provider-config="),
    );
    say("(the admin adds the flags; each API server is started anew, for the only time)");
    for server in stage.plane.api_servers() {
        let file = folder(stage, server.index()).join("encryption.json");
        let flags = [
            format!("--encryption-provider-config={}", file.display()),
            "--encryption-provider-config-automatic-reload=true".to_owned(),
        ];
        let restarted = server.restart_with(|options| options.extra_args.extend(flags));
        restarted.await.map_err(|error| error.to_string())?;
    }
    say("From here on everything goes by itself, while every Secret is read again and again from both API servers.");
    let readers = Readers::start(stage)?;
    let wait = ["wait", "secretencryption", "default", "--timeout=300s"];
    let done = stage.admin(&[&wait[..], &[ALONE]].concat())?.ok && stage.admin(&[&wait[..], &[ENCRYPTED]].concat())?.ok;
    stage.expect("the first key is in use, and nothing else is read any more", done);
    let stored = etcd(stage).await?;
    stage.expect(
        "etcd itself: every value is under k1, old ones too",
        stored.keys().eq(["k8s:enc:aesgcm:v1:k1:"]),
    );
    readers.judge(stage).await;
    let after = stage.wait(&ask, |output| output.text.starts_with("True"))?;
    stage.expect("SecretsEncrypted is True", after.text.starts_with("True"));
    Ok(())
}

/// From the first key to the second.
pub async fn rotation(stage: &mut Stage) -> Result<(), String> {
    scene("A key is replaced: each month by itself, and whenever the admin asks");
    let readers = Readers::start(stage)?;
    let program = program()?;
    let done = stage.cloison(&program, &["encryption", "rotate", "--wait=5"])?;
    stage.expect("the rotation came to its end", done);
    let stored = etcd(stage).await?;
    stage.expect(
        "etcd itself: every value is under k2, and none under k1",
        stored.keys().eq(["k8s:enc:aesgcm:v1:k2:"]),
    );
    readers.judge(stage).await;
    stage.cloison(&program, &["encryption", "status"])?;
    Ok(())
}

fn apply(stage: &Stage, name: &str, manifest: &str) -> Result<(), String> {
    let file = stage.plane.folder().join(name);
    fs::write(&file, manifest).map_err(|error| error.to_string())?;
    say(&format!("admin$ cat {name}\n{}", manifest.trim_end()));
    let applied = stage.admin(&["apply", "--server-side", "-f", &file.display().to_string()])?;
    applied.ok.then_some(()).ok_or_else(|| format!("{name} was refused"))
}

/// The directory that the agent owns.
fn folder(stage: &Stage, index: usize) -> PathBuf {
    stage.plane.folder().join(format!("cp-{index}")).join("keys")
}

/// The agent on one control-plane node.
fn agent(stage: &Stage, index: usize) -> Result<Program, String> {
    let server: &ApiServer = stage.plane.api_server(index);
    let node = format!("cp-{index}");
    let pod = format!("cloison-agent-{index}");
    let objects = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  labels: {{node-role.kubernetes.io/control-plane: \"\"}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {NAMESPACE}}}\nspec:\n  nodeName: {node}\n  \
         serviceAccountName: cloison-agent\n  tolerations: [{{operator: Exists}}]\n  containers:\n  - {{name: agent, \
         image: registry.example.com/cloison}}\n"
    );
    let file = stage.plane.folder().join(format!("{node}.yaml"));
    fs::write(&file, objects).map_err(|error| error.to_string())?;
    let placed = stage.quietly(&["apply", "-f", &file.display().to_string()])?;
    let token = stage.quietly(&[
        "create",
        "token",
        "cloison-agent",
        "-n",
        NAMESPACE,
        "--bound-object-kind=Pod",
        &format!("--bound-object-name={pod}"),
    ])?;
    if !placed.ok || !token.ok {
        return Err(format!("{node}: {}{}", placed.text, token.text));
    }
    let kubeconfig = server.identity_of_token(&pod, token.text.trim()).kubeconfig();
    let kubeconfig = kubeconfig.map_err(|error| error.to_string())?;
    let folder = folder(stage, index);
    fs::create_dir_all(folder.parent().unwrap_or(&folder)).map_err(|error| error.to_string())?;
    let etcd = stage.plane.etcd();
    let path = |path: &Path| path.display().to_string();
    let arguments = [
        ("--kubeconfig", path(&kubeconfig)),
        ("--node", node.clone()),
        ("--directory", path(&folder)),
        ("--api-server", server.url().to_owned()),
        (
            "--manifest",
            path(&stage.plane.folder().join(&node).join("kube-apiserver.yaml")),
        ),
        ("--etcd", etcd.url().to_owned()),
        ("--etcd-ca", path(&etcd.authority_file())),
        ("--etcd-cert", path(etcd.certificate_file())),
        ("--etcd-key", path(etcd.key_file())),
        ("--health-address", "127.0.0.1:0".to_owned()),
        ("--interval-seconds", "1".to_owned()),
    ];
    let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let arguments = std::iter::once("agent".to_owned()).chain(arguments);
    let log = stage.plane.logs_dir().join(format!("{pod}.log"));
    Ok(Program::new(&node, program()?, arguments, log))
}

/// What the values of Secrets in etcd begin with, and how many do; shown with one of each.
async fn etcd(stage: &Stage) -> Result<BTreeMap<String, usize>, String> {
    let values = stage.plane.etcd().list("/registry/secrets/").await;
    let values = values.map_err(|error| error.to_string())?;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut shown = Vec::new();
    for (key, value) in values {
        let printable = |byte: &u8| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '.'
            }
        };
        let text: String = value.iter().take(400).map(printable).collect();
        let head = if text.starts_with("k8s:enc:") {
            text.split_inclusive(':').take(5).collect()
        } else {
            "plaintext".to_owned()
        };
        let count = found.entry(head).or_default();
        *count += 1;
        if key.ends_with("/token-0") {
            let from = if text.starts_with("k8s:enc:") {
                0
            } else {
                text.len().saturating_sub(100)
            };
            let until = (from + 100).min(text.len());
            shown.push(format!("{key}  {}", &text[from..until]));
        }
    }
    say(&format!("etcd$ {}", shown.join("\n")));
    for (head, count) in &found {
        say(&format!("      {count} values: {head}"));
    }
    Ok(found)
}

/// Reads every Secret, one by one and in lists, from each API server, all the time.
struct Readers {
    tasks: JoinSet<()>,
    count: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Readers {
    fn start(stage: &Stage) -> Result<Self, String> {
        let mut readers = Self {
            tasks: JoinSet::new(),
            count: Arc::default(),
            failures: Arc::default(),
        };
        for server in stage.plane.api_servers() {
            let client = server.admin().map_err(|error| error.to_string())?;
            let (index, count, failures) = (server.index(), readers.count.clone(), readers.failures.clone());
            let failed = move |what: &str| {
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("API server {index}: {what}"));
            };
            readers.tasks.spawn(async move {
                let secrets: Api<Secret> = Api::namespaced(client, "default");
                for number in (0..SECRETS).cycle() {
                    let name = format!("token-{number}");
                    match secrets.get(&name).await {
                        Ok(secret) => {
                            let token = secret.data.as_ref().and_then(|data| data.get("token"));
                            if token.is_none_or(|token| token.0 != b"hunter2") {
                                failed(&format!("{name} has another value"));
                            }
                        }
                        Err(error) => failed(&format!("{name}: {error}")),
                    }
                    match secrets.list(&ListParams::default()).await {
                        Ok(list) if list.items.len() >= SECRETS => {}
                        Ok(list) => failed(&format!("a list of {} Secrets only", list.items.len())),
                        Err(error) => failed(&error.to_string()),
                    }
                    count.fetch_add(2, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Ok(readers)
    }

    async fn judge(mut self, stage: &mut Stage) {
        self.tasks.shutdown().await;
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for failure in failures.iter().take(5) {
            say(&format!("failed: {failure}"));
        }
        let count = self.count.load(Ordering::Relaxed);
        let what = format!(
            "{count} reads from both API servers meanwhile, {} failed",
            failures.len()
        );
        stage.expect(&what, count > 100 && failures.is_empty());
    }
}
