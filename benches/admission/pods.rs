//! The pods that are asked for. Each rule that both engines have is tried once: that both refuse the same is what makes their
//! costs comparable.

use cloison::api::names;
use serde_json::{Value, json};

const IMAGE: &str =
    "registry.example.com/train/app@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121";

/// A namespace of no stage, which no engine is asked about, and one of the stage training.
pub const UNMANAGED: &str = "plain";
pub const MANAGED: &str = "train";

/// What is asked for, where, and whether it is refused.
pub struct Case {
    pub what: &'static str,
    pub namespace: &'static str,
    pub pod: Value,
    pub refused: bool,
}

pub fn cases() -> [Case; 3] {
    let case = |what, namespace, pod, refused| Case {
        what,
        namespace,
        pod,
        refused,
    };
    [
        case("unmanaged", UNMANAGED, pod(&json!({})), false),
        case("managed, allowed", MANAGED, pod(&json!({})), false),
        case("managed, refused", MANAGED, pod(&json!({"hostPID": true})), true),
    ]
}

/// Three containers, as trainers have with their sidecars. `more` replaces fields of the spec, and `annotations` those.
pub fn pod(more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {names::WORKLOAD_LABEL: "road"}},
        "spec": {"serviceAccountName": "default", "automountServiceAccountToken": false,
            "containers": [container("main", &json!({})), container("metrics", &json!({})), container("shipper", &json!({}))]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        let place = if key == "annotations" { "metadata" } else { "spec" };
        pod[place][key] = value.clone();
    }
    pod
}

fn container(name: &str, more: &Value) -> Value {
    let mut container = json!({"name": name, "image": IMAGE, "env": [{"name": "EPOCHS", "value": "3"}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "securityContext": {"allowPrivilegeEscalation": false}});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

/// A rule of ours, the kind of its counterpart in `gatekeeper.yaml`, and a pod that breaks this rule alone.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn broken() -> Vec<(&'static str, &'static str, Value)> {
    let spec = |more: Value| pod(&more);
    let first = |more: Value| pod(&json!({"containers": [container("main", &more)]}));
    let context = |more: Value| first(json!({"securityContext": more}));
    let volume = |more: Value| pod(&json!({"volumes": [more]}));
    let annotated = |key: &str, says: &str| pod(&json!({"annotations": {key: says}}));
    let probe = json!({"httpGet": {"host": "10.0.0.1", "port": 80}});
    let sysctls = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    let unmasked = json!({"securityContext": {"procMount": "Unmasked"}});
    vec![
        (
            "WKL-01/host-network",
            "CloisonHostNamespaces",
            spec(json!({"hostNetwork": true})),
        ),
        (
            "WKL-01/host-pid",
            "CloisonHostNamespaces",
            spec(json!({"hostPID": true})),
        ),
        (
            "WKL-01/host-ipc",
            "CloisonHostNamespaces",
            spec(json!({"hostIPC": true})),
        ),
        (
            "WKL-01/privileged",
            "CloisonPrivileged",
            context(json!({"privileged": true})),
        ),
        (
            "WKL-01/capabilities",
            "CloisonCapabilities",
            context(json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
        ),
        (
            "WKL-01/host-path",
            "CloisonHostPath",
            volume(json!({"name": "v", "hostPath": {"path": "/"}})),
        ),
        (
            "WKL-01/host-port",
            "CloisonHostPorts",
            first(json!({"ports": [{"containerPort": 80, "hostPort": 80}]})),
        ),
        (
            "WKL-01/proc-mount",
            "CloisonProcMount",
            spec(json!({"hostUsers": false, "containers": [container("main", &unmasked)]})),
        ),
        (
            "WKL-01/seccomp-unconfined",
            "CloisonSeccomp",
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
        ),
        (
            "WKL-01/apparmor",
            "CloisonAppArmor",
            context(json!({"appArmorProfile": {"type": "Unconfined"}})),
        ),
        (
            "WKL-01/selinux",
            "CloisonSelinux",
            context(json!({"seLinuxOptions": {"type": "spc_t"}})),
        ),
        (
            "WKL-01/sysctls",
            "CloisonSysctls",
            spec(json!({"securityContext": sysctls})),
        ),
        (
            "WKL-01/probe-host",
            "CloisonProbeHost",
            first(json!({"livenessProbe": probe})),
        ),
        (
            "WKL-01/volume-type",
            "CloisonVolumeTypes",
            volume(json!({"name": "v", "nfs": {"server": "s", "path": "/"}})),
        ),
        (
            "WKL-01/inline-csi",
            "CloisonInlineCsi",
            volume(json!({"name": "v", "csi": {"driver": "d.example.com"}})),
        ),
        (
            "SUP-01/registry",
            "CloisonRegistries",
            first(json!({"image": IMAGE.replace("/train/", "/other/")})),
        ),
        (
            "SUP-01/digest",
            "CloisonDigests",
            first(json!({"image": "registry.example.com/train/app:1"})),
        ),
        (
            "WKL-04/visible-devices",
            "CloisonVisibleDevices",
            first(json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]})),
        ),
        ("WKL-04/node-name", "CloisonNodeName", spec(json!({"nodeName": "n-1"}))),
        (
            "NET-11/secondary-network",
            "CloisonNetworks",
            annotated("k8s.v1.cni.cncf.io/networks", "other/net"),
        ),
    ]
}
