//! Gatekeeper as a plain process beside the API server: no cluster runs it, and its webhook is called by URL.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cloison_testbed::{ControlPlane, Program, Tool, eventually, find};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::load::{memory, resident, used};
use crate::operator::{PATIENCE, apply, plain};
use crate::scan::{self, Scan};
use crate::scene::Scene;

const MODULE: &str = "github.com/open-policy-agent/gatekeeper/v3";
const NAMESPACE: &str = "gatekeeper-system";
const CONFIGURATION: &str = "gatekeeper";
/// By which the API server names it in refusals and metrics.
pub const WEBHOOK: &str = "validation.gatekeeper.sh";

/// What `gatekeeper.yaml` holds.
#[derive(Deserialize)]
struct Rules {
    /// Stands in every template.
    helpers: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    /// Of the constraint; the template is called like it.
    kind: String,
    rego: String,
}

fn rules() -> Rules {
    serde_saphyr::from_str(include_str!("gatekeeper.yaml")).expect("rules")
}

/// How many constraints there are.
pub fn number_of_rules() -> usize {
    rules().rules.len()
}

pub struct Gatekeeper {
    webhook: Program,
    audit: Program,
}

/// A command of Go in the folder that pins the version.
fn go(arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/toolchain/gatekeeper");
    let mut command = Command::new("go");
    command
        .current_dir(folder)
        .envs([("GOFLAGS", ""), ("GOWORK", "off"), ("CGO_ENABLED", "0")]);
    let output = command.args(arguments).output();
    let output = output.expect("Gatekeeper needs Go 1.26 or newer; install it from go.dev");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Builds it beside the other programs. Go itself knows what is up to date.
pub fn built() -> PathBuf {
    let beside = std::env::var_os("CLOISON_TOOLCHAIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/toolchain"),
        PathBuf::from,
    );
    let program = beside.join("gatekeeper");
    let version = go(&["list", "-mod=readonly", "-m", "-f", "{{.Version}}", MODULE]);
    eprintln!("building Gatekeeper {version} (first time: about 4 minutes on 2 cores; cached afterwards)");
    let to = program.display().to_string();
    let flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"];
    go(&[&["build"], &flags[..], &["-o", &to, MODULE]].concat());
    program
}

/// A certificate for this machine that signs itself, in the files that Gatekeeper reads.
fn certificate(folder: &Path) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let made = params.self_signed(&key).expect("a certificate").pem();
    fs::create_dir_all(folder).expect("a folder");
    for (file, text) in [("tls.crt", &made), ("tls.key", &key.serialize_pem())] {
        fs::write(folder.join(file), text).expect("a file");
    }
    made.into_bytes()
}

fn certificates(plane: &ControlPlane) -> PathBuf {
    plane.folder().join("gatekeeper")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A process of it that does one of its operations. As in its chart one of them makes definitions from templates, here both.
fn program(plane: &ControlPlane, built: &Path, operation: &str, more: &[String]) -> Program {
    let kubeconfig = plane.admin_kubeconfig().expect("a kubeconfig");
    let mut arguments = vec![
        "POD_NAME=gatekeeper".to_owned(),
        format!("POD_NAMESPACE={NAMESPACE}"),
        format!("KUBECONFIG={}", kubeconfig.display()),
        built.display().to_string(),
        format!("--operation={operation}"),
        "--operation=status".to_owned(),
        "--operation=generate".to_owned(),
        "--disable-cert-rotation".to_owned(),
        format!("--health-addr=127.0.0.1:{}", free_port()),
        format!("--prometheus-port={}", free_port()),
        // The audit serves nothing, and wants them too.
        format!("--cert-dir={}", certificates(plane).display()),
    ];
    arguments.extend_from_slice(more);
    let name = format!("gatekeeper-{operation}");
    let log = plane.logs_dir().join(format!("{name}.log"));
    Program::new(&name, "/usr/bin/env", arguments, log)
}

impl Gatekeeper {
    /// Starts it with its rules and its webhook; it may be a moment until it refuses.
    pub async fn start(scene: &Scene, built: &Path) -> Self {
        let (admin, plane) = (&scene.admin, &scene.plane);
        let authority = certificate(&certificates(plane));
        let port = free_port();
        let serves = [
            format!("--port={port}"),
            "--host=127.0.0.1".to_owned(),
            "--log-level=WARNING".to_owned(),
        ];
        // It does not make this folder.
        let cache = plane.folder().join("gatekeeper-audit");
        fs::create_dir_all(&cache).expect("a folder");
        let audits = [
            "--audit-interval=5".to_owned(),
            "--audit-match-kind-only=true".to_owned(),
            format!("--api-cache-dir={}", cache.display()),
        ];
        let both = Self {
            webhook: program(plane, built, "webhook", &serves),
            audit: program(plane, built, "audit", &audits),
        };
        definitions(plane);
        // What it reports belongs to the pod that it takes itself for.
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gatekeeper", "namespace": NAMESPACE},
                "spec": {"containers": [{"name": "manager", "image": "gatekeeper"}]}}),
        ] {
            apply(admin, object).await.expect("what it needs");
        }
        both.webhook.start().expect("it starts");
        constraints(admin).await;
        // By the stage of the namespace, so that it is asked about no pod that we do not judge.
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION}, "webhooks": [{
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 3, "matchPolicy": "Exact",
            "namespaceSelector": {"matchLabels": {"cloison.dev/stage": "training"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}],
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/v1/admit"), "caBundle": ByteString(authority)},
        }]});
        apply(admin, configuration).await.expect("a webhook");
        both
    }

    pub fn process(&self) -> u32 {
        self.webhook.process_id().expect("it runs")
    }

    pub fn resident(&self) -> f64 {
        resident(self.process())
    }

    /// Ends it and starts it again, its rules in place.
    pub fn restart(&self) {
        self.webhook.kill();
        self.webhook.start().expect("it starts");
    }

    /// Ends it and takes its webhook away. Its rules stay.
    pub async fn stop(&self, admin: &Client) {
        let all: Api<ValidatingWebhookConfiguration> = Api::all(admin.clone());
        let deleted = all.delete(CONFIGURATION, &DeleteParams::default()).await;
        deleted.expect("it was there");
        self.webhook.kill();
    }

    /// One pass of its audit over the pods of the cluster, which must find all that [`scan::store`] stored: what it says that
    /// this took, and the most that was resident.
    pub async fn audit(&self, admin: &Client) -> Scan {
        self.audit.start().expect("it starts");
        let process = self.audit.process_id().expect("it runs");
        let all = constraints_of(admin, "CloisonHostNamespaces");
        let took = eventually(Duration::from_secs(900), "the audit", || async {
            let constraint = all
                .get("cloisonhostnamespaces")
                .await
                .map_err(|error| error.to_string())?;
            let status = &constraint.data["status"];
            if status["totalViolations"] != json!(scan::refused()) {
                return Err(format!("it found {}", status["totalViolations"]));
            }
            // An audit is called by the time of its start.
            let which = status["auditTimestamp"].as_str().unwrap_or("none").to_owned();
            let said = plain(&self.audit.output());
            let mut lines = said.lines().filter(|line| line.contains("auditing is complete"));
            let line = lines.find(|line| line.contains(&which)).ok_or("it goes on")?;
            seconds(line).ok_or_else(|| format!("no duration: {line}"))
        })
        .await
        .expect("an audit");
        let scan = Scan {
            took,
            processor: used(process) / 1_000.0,
            memory: memory(&process.to_string(), "VmHWM").expect("it runs"),
        };
        self.audit.kill();
        scan
    }
}

/// Its chart's CustomResourceDefinitions.
fn definitions(plane: &ControlPlane) {
    let module = go(&["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", MODULE]);
    let mut kubectl = Command::new(find(Tool::Kubectl).expect("kubectl"));
    kubectl.env("KUBECONFIG", plane.admin_kubeconfig().expect("a kubeconfig"));
    kubectl.args(["apply", "--server-side", "-f"]);
    let output = kubectl.arg(format!("{module}/charts/gatekeeper/crds")).output();
    let output = output.expect("kubectl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Their plural is the word itself.
fn constraints_of(admin: &Client, kind: &str) -> Api<DynamicObject> {
    let of = GroupVersionKind::gvk("constraints.gatekeeper.sh", "v1beta1", kind);
    let resource = ApiResource::from_gvk_with_plural(&of, &kind.to_lowercase());
    Api::all_with(admin.clone(), &resource)
}

/// Each rule's template, and a constraint of it called like it.
async fn constraints(admin: &Client) {
    let Rules { helpers, rules } = rules();
    for rule in &rules {
        let name = rule.kind.to_lowercase();
        let rego = format!("package {name}\n{helpers}{}", rule.rego);
        let template = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
            "metadata": {"name": name},
            "spec": {"crd": {"spec": {"names": {"kind": rule.kind}}},
                "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}]}});
        apply(admin, template).await.expect("a template");
    }
    for rule in &rules {
        let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": rule.kind,
            "metadata": {"name": rule.kind.to_lowercase()},
            "spec": {"match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}}});
        let (all, name) = (constraints_of(admin, &rule.kind), rule.kind.to_lowercase());
        // Its definition comes from the template.
        eventually(PATIENCE, &rule.kind, || async {
            all.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&constraint))
                .await
        })
        .await
        .expect("a constraint");
    }
}

/// What a line of the log says in Go's words: `1m2.5s`, `850ms`.
fn seconds(line: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = line["duration"].as_str()?;
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return Some(milliseconds.parse::<f64>().ok()? / 1_000.0);
    }
    let (minutes, rest) = text.split_once('m').unwrap_or(("0", text));
    Some(minutes.parse::<f64>().ok()? * 60.0 + rest.strip_suffix('s')?.parse::<f64>().ok()?)
}
