//! The chart installs what the code says, with real Helm on real API servers, and leaves what it promises to leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/operator.rs"]
mod operator;

mod agreement;
mod cases;
mod definitions;
mod examples;
mod release;
mod rendering;

use std::path::{Path, PathBuf};
use std::process::Command;

use cloison_testbed::{ApiServerOptions, ControlPlane, Minor, Options, Tool, find};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use tokio::sync::OnceCell;

/// Where the chart is installed in these tests.
const NAMESPACE: &str = "cloison-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a program said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Said {
    /// Its standard output, or a failed test with what it complained about.
    fn fine(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }
}

/// Runs a program of the toolchain in the root of the repository.
fn run(tool: Tool, kubeconfig: Option<&Path>, args: &[&str]) -> Said {
    let mut command = Command::new(find(tool).unwrap());
    command.current_dir(root()).args(args);
    // Neither the developer's cluster nor the developer's Helm plugins.
    command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null")));
    command
        .env("HELM_CONFIG_HOME", "/nonexistent")
        .env("HELM_DATA_HOME", "/nonexistent");
    let output = command.output().unwrap();
    Said {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Renders the chart as Argo CD does.
fn template(args: &[&str]) -> Said {
    let mut all = vec![
        "template",
        "cloison",
        "charts/cloison",
        "--namespace",
        NAMESPACE,
        "--kube-version",
        "1.36.3",
    ];
    all.extend(args);
    run(Tool::Helm, None, &all)
}

/// A control plane with everything that an uninstall needs: garbage collection and the end of namespaces.
async fn plane(minor: Minor) -> ControlPlane {
    ControlPlane::start(Options {
        api_servers: vec![ApiServerOptions {
            minor,
            ..ApiServerOptions::default()
        }],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap()
}

/// The newest Kubernetes with the chart installed: shared by the tests that only need our kinds to be there.
async fn installed() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE
        .get_or_init(|| async {
            let plane = plane(Minor::V1_36).await;
            let kubeconfig = plane.admin_kubeconfig().unwrap();
            run(
                Tool::Helm,
                Some(&kubeconfig),
                &[
                    "install",
                    "cloison",
                    "charts/cloison",
                    "-n",
                    NAMESPACE,
                    "--create-namespace",
                ],
            )
            .fine();
            for plural in [
                "aisecuritypolicies",
                "aiworkloads",
                "controlplanereports",
                "encryptionkeyrings",
                "secretencryptions",
                "waivers",
            ] {
                let name = format!("crd/{plural}.cloison.dev");
                run(
                    Tool::Kubectl,
                    Some(&kubeconfig),
                    &["wait", "--for=condition=Established", &name],
                )
                .fine();
            }
            plane
        })
        .await
}

/// An API for one of our kinds, without its Rust type: the schema decides, not our code.
fn api(client: &Client, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let plural = match kind {
        "AiSecurityPolicy" => "aisecuritypolicies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let resource = ApiResource {
        group: "cloison.dev".into(),
        version: "v1alpha1".into(),
        api_version: "cloison.dev/v1alpha1".into(),
        kind: kind.into(),
        plural,
    };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The documents of a YAML file; comments and empty documents are none.
fn documents(text: &str) -> Vec<serde_json::Value> {
    let all: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}
