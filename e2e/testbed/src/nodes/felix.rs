//! Calico's Felix: the part that turns NetworkPolicies into iptables rules and ipsets, one for each node.

use std::path::Path;
use std::process::Command;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::namespace::{NetworkNamespace, refused};
use crate::binaries::{find, find_in_background};
use crate::{ControlPlane, Error, Program, Tool};

/// Other programs that Felix runs, and the Debian packages that have them.
const RUNS: [(&str, &str); 6] = [
    ("iptables-nft-restore", "iptables"),
    ("ip6tables-nft-restore", "iptables"),
    ("ipset", "ipset"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
];

/// What Felix needs of the machine; one line that says what is missing.
pub(super) fn check_machine() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Usage(
            "nodes need root: they are network namespaces with iptables rules in them; run the tests as root, or in a \
             container with CAP_SYS_ADMIN and CAP_NET_ADMIN"
                .into(),
        ));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let mut missing: Vec<&str> = RUNS
        .iter()
        .filter(|(program, _)| !there(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    Err(Error::Usage(format!(
        "Felix runs programs that are not installed; apt-get install {packages}"
    )))
}

/// Serves Calico's kinds, and tells Felix that they are complete.
pub(super) async fn prepare(plane: &ControlPlane) -> Result<(), Error> {
    let felix = find_in_background(Tool::CalicoFelix).await?;
    let definitions = felix.with_file_name("calico-crds");
    let (folder, kubeconfig) = (definitions.clone(), plane.admin_kubeconfig()?);
    let applied = tokio::task::spawn_blocking(move || {
        kubectl(&kubeconfig, &["apply", "--server-side", "-f"], &folder)?;
        kubectl(
            &kubeconfig,
            &["wait", "--for=condition=Established", "--timeout=30s", "-f"],
            &folder,
        )
    });
    applied
        .await
        .map_err(|error| refused("Calico's CRDs", error.to_string()))??;
    let client = plane.admin()?;
    for (kind, plural, spec) in [
        (
            "ClusterInformation",
            "clusterinformations",
            json!({"datastoreReady": true}),
        ),
        ("FelixConfiguration", "felixconfigurations", json!({})),
    ] {
        let group = GroupVersionKind::gvk("crd.projectcalico.org", "v1", kind);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&group, plural));
        let object: Value = json!({"apiVersion": "crd.projectcalico.org/v1", "kind": kind,
                                   "metadata": {"name": "default"}, "spec": spec});
        let apply = PatchParams::apply("cloison-testbed");
        api.patch("default", &apply, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

fn kubectl(kubeconfig: &Path, words: &[&str], folder: &Path) -> Result<(), Error> {
    let program = find(Tool::Kubectl)?;
    let failed = |reason: String| refused("Calico's CRDs", format!("kubectl {}: {reason}", words[0]));
    let output = Command::new(program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(words)
        .arg(folder)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// The Felix of a node, not started yet.
pub(super) fn program(plane: &ControlPlane, node: &str, namespace: &NetworkNamespace) -> Result<Program, Error> {
    let enter = format!("--net={}", namespace.path().display());
    let kubeconfig = format!("KUBECONFIG={}", plane.admin_kubeconfig()?.display());
    let name = format!("FELIX_FELIXHOSTNAME={node}");
    let felix = find(Tool::CalicoFelix)?;
    let log = plane.logs_dir().join(format!("felix-{node}.log"));
    // A mount namespace of its own, for what it mounts; and it writes the MTU that it found where the CNI plugin of a node
    // looks for it, which might be a real one's. That it cannot is an error in its log and nothing more.
    let aside = r#"mount -o bind,ro /var/lib /var/lib && exec "$@""#;
    let mut words: Vec<String> = [
        &enter,
        "--",
        "unshare",
        "--mount",
        "--",
        "sh",
        "-c",
        aside,
        "sh",
        "env",
        &kubeconfig,
        &name,
    ]
    .map(str::to_owned)
    .into();
    words.extend(
        [
            "FELIX_DATASTORETYPE=kubernetes",
            "FELIX_LOGFILEPATH=none",
            "FELIX_LOGSEVERITYSCREEN=Warning",
            "FELIX_LOGSEVERITYSYS=none",
            "FELIX_USAGEREPORTINGENABLED=false",
            "FELIX_IPV6SUPPORT=true",
            "FELIX_IPTABLESBACKEND=NFT",
            "FELIX_BPFENABLED=false",
            "FELIX_XDPENABLED=false",
        ]
        .map(str::to_owned),
    );
    words.push(felix.display().to_string());
    Ok(Program::new(&format!("felix-{node}"), "nsenter", words, log))
}
