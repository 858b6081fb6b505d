//! Pods that come at random, the same in every run.

use serde_json::{Value, json};

use crate::common::{digest, with};
use crate::dice::Dice;

pub fn images() -> Vec<String> {
    let digest = digest();
    let names = [
        "nginx",
        "nginx:1.27",
        "library/redis",
        "docker.io/nginx",
        "index.docker.io/library/nginx",
        "bitnami/redis:7",
        "registry.example.com/train/app",
        "registry.example.com/train/app:v1",
        "registry.example.com/trainer",
        "registry.example.com:5000/train/app",
        "localhost/a",
        "localhost:5000/a",
        "ghcr.io/kserve/init:latest",
        "ghcr.io/pinned/a:v1",
        "host.example/a/b/c",
        "a.b/c",
        "REGISTRY.example.com/train/app",
        "x/y/z",
    ];
    let both = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}@{digest}")]);
    both.chain([
        "registry.example.com/train/é".to_owned(),
        "registry.example.com/train/a@sha256:00".to_owned(),
        "registry.example.com/train/a b".to_owned(),
        "registry.example.com//a".to_owned(),
    ])
    .collect()
}

pub fn container(dice: &mut Dice, images: &[String], name: &str) -> Value {
    let mut container = json!({"name": name, "image": dice.pick(images)});
    if dice.once_in(2) {
        let mut context = json!({});
        let parts = [
            json!({"privileged": true}),
            json!({"privileged": false}),
            json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
            json!({"capabilities": {"add": ["IPC_LOCK"]}}),
            json!({"capabilities": {"drop": ["ALL"]}}),
            json!({"procMount": "Default"}),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"appArmorProfile": {"type": "Unconfined"}}),
            json!({"seLinuxOptions": {"type": "spc_t"}}),
            json!({"seLinuxOptions": {"type": "container_t"}}),
            json!({"seLinuxOptions": {"user": "u"}}),
            json!({"runAsUser": 0}),
        ];
        for _ in 0..=dice.roll(2) {
            context = with(context, dice.pick(&parts).clone());
        }
        container["securityContext"] = context;
    }
    if dice.once_in(6) {
        container["ports"] = dice
            .pick(&[
                json!([{"containerPort": 80}]),
                json!([{"containerPort": 80, "hostPort": 80}]),
                json!([]),
                json!(null),
            ])
            .clone();
    }
    if dice.once_in(8) {
        let probes = [
            json!({"readinessProbe": {"httpGet": {"port": 80, "host": "10.0.0.9"}}}),
            json!({"readinessProbe": {"tcpSocket": {"port": 80}}}),
            json!({"lifecycle": {"postStart": {"httpGet": {"port": 80, "host": "x"}}}}),
        ];
        container = with(container, dice.pick(&probes).clone());
    }
    if dice.once_in(2) {
        container = with(container, dice.pick(&variables()).clone());
    }
    container
}

/// What containers are given, and what they ask for.
fn variables() -> Vec<Value> {
    let visible =
        |value: &str| json!({"env": [{"name": "A", "value": "b"}, {"name": "NVIDIA_VISIBLE_DEVICES", "value": value}]});
    let gpus = |name: &str| json!({"resources": {"limits": {name: "1"}}});
    vec![
        visible("all"),
        visible("void"),
        with(visible("0"), gpus("nvidia.com/gpu")),
        with(visible("0"), gpus("example.com/nic")),
        gpus("nvidia.com/gpu.shared"),
        json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}),
        json!({"env": [{"name": "T", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                       {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        // A token, put together here: this file holds none.
        json!({"env": [{"name": "N"}, {"name": "HF_TOKEN", "value": format!("hf_{}", "qwertzuiopasdfghjklyxcvbnmQWERTZUI")},
                       {"name": "X", "value": format!("hf_{}", "x".repeat(34))}], "envFrom": [{"configMapRef": {"name": "m"}}]}),
        json!({"envFrom": [{"secretRef": {"name": "s"}}]}),
        json!({"env": []}),
    ]
}

/// Annotations by which networks are attached, or left.
pub fn networks() -> Vec<Value> {
    let multus = |says: &str| json!({"k8s.v1.cni.cncf.io/networks": says});
    vec![
        multus(""),
        multus("fabric/storage"),
        multus(" own , fabric/fast@net1\n"),
        multus(r#"[ {"name": "storage", "namespace": "fabric"} ]"#),
        multus(r#"[{"name":"own"},{"name":"storage","namespace":"fabric","interface":"net1"}]"#),
        multus(r#"[{"name":"own","Name":"fast"}]"#),
        multus("[]"),
        json!({"v1.multus-cni.io/default-network": "kube-system/other"}),
        json!({"networking.gke.io/interfaces": r#"[{"interfaceName":"eth0","network":"default"}]"#}),
        json!({"networking.gke.io/interfaces": r#"[{"interfaceName":"eth1","network":"blue"}]"#}),
        json!({"sidecar.istio.io/inject": "false"}),
        json!({"sidecar.istio.io/inject": "true", "policy.cilium.io/no-track-port": "8080"}),
    ]
}

pub fn random_pod(dice: &mut Dice, images: &[String], namespace: &str) -> Value {
    let count = 1 + dice.roll(3);
    let containers: Vec<Value> = (0..count).map(|n| container(dice, images, &format!("c{n}"))).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{}", dice.roll(1000)), "namespace": namespace},
        "spec": {"containers": containers},
    });
    let labels = [
        json!(null),
        json!({}),
        json!({"cloison.dev/workload": "road-train"}),
        json!({"cloison.dev/workload": "nobody"}),
        json!({"cloison.dev/workload": "face-id"}),
        json!({"cloison.dev/workload": ""}),
        json!({"cloison.dev/workload": "default"}),
    ];
    pod["metadata"]["labels"] = dice.pick(&labels).clone();
    if !dice.once_in(4) {
        let image = dice.pick(images).clone();
        let sources = [
            json!({"emptyDir": {"medium": "Memory"}}),
            json!({}),
            json!({"hostPath": {"path": "/"}}),
            json!({"secret": {"secretName": "s"}}),
            json!({"nfs": {"server": "s", "path": "/"}}),
            json!({"csi": {"driver": "secrets-store.csi.k8s.io"}}),
            json!({"csi": {"driver": "other.example.com"}}),
            json!({"image": {"reference": image}}),
            json!({"persistentVolumeClaim": {"claimName": "c"}}),
            json!({"glusterfs": {"endpoints": "e", "path": "p"}}),
        ];
        let volumes: Vec<Value> = (0..=dice.roll(2))
            .map(|n| with(json!({"name": format!("v{n}")}), dice.pick(&sources).clone()))
            .collect();
        pod["spec"]["volumes"] = json!(volumes);
    }
    if dice.once_in(5) {
        pod["spec"]["initContainers"] = json!([with(json!({"name": "init"}), json!({"image": dice.pick(images)}))]);
    }
    let extras = [
        json!({"spec": {"hostPID": true}}),
        json!({"spec": {"hostIPC": true}}),
        json!({"spec": {"hostNetwork": true}}),
        json!({"spec": {"hostPID": false}}),
        json!({"spec": {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}}),
        json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}], "seccompProfile": null}}}),
        json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}, "seLinuxOptions": {"role": "r"}}}}),
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "unconfined"}}}),
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "runtime/default"}}}),
        json!({"metadata": {"annotations": null}}),
    ];
    pod = with(pod, dice.pick(&extras).clone());
    if dice.once_in(2) {
        pod = with(pod, json!({"metadata": {"annotations": dice.pick(&networks())}}));
    }
    if dice.once_in(2) {
        let places = [
            json!({"nodeName": "n-1"}),
            json!({"nodeName": ""}),
            json!({"priorityClassName": "system-node-critical"}),
            json!({"serviceAccountName": "default"}),
        ];
        pod = with(pod, json!({"spec": dice.pick(&places)}));
    }
    pod
}
