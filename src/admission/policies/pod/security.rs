//! The rules of Pod Security *baseline*, as our own, so that they have stages, modes and allow-lists; and no volume that
//! leads out of the namespace.

use crate::admission::cel::{field, list, present};
use crate::admission::clause::Clause;
use crate::admission::modes::{Modes, STAGES};
use crate::api::policy::PolicyPods;
use crate::api::stage::NamespaceStage;
use crate::compliance::id::WKL_01;

/// Capabilities that baseline lets a container add.
const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Sysctls that baseline calls safe, as of 1.32.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// SELinux types that baseline allows.
const SELINUX_TYPES: &[&str] = &[
    "",
    "container_engine_t",
    "container_init_t",
    "container_kvm_t",
    "container_t",
];

/// Volumes that stay inside the namespace and the node. hostPath and csi have rules of their own; an `emptyDir` is
/// always allowed, in memory too (NCCL needs `/dev/shm`).
const VOLUME_TYPES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Annotations by which AppArmor was chosen before it had a field; containerd still reads them.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn variables(pods: &PolicyPods) -> Vec<(&'static str, String)> {
    let containers = |root: &str| {
        format!(
            "{} + {} + {}",
            field(root, "containers", "[]"),
            field(root, "initContainers", "[]"),
            field(root, "ephemeralContainers", "[]")
        )
    };
    vec![
        (
            "formerNames",
            format!("({}).map(c, c.name)", containers("variables.before")),
        ),
        // A container's settings never change, so on an update only a container that was added is judged.
        (
            "containers",
            format!(
                "({}).filter(c, !(c.name in variables.formerNames))",
                containers("variables.spec")
            ),
        ),
        // What stands in the pod itself never changes either.
        ("pods", "variables.creates ? [variables.spec] : []".to_owned()),
        (
            "volumes",
            format!("variables.creates ? {} : []", field("variables.spec", "volumes", "[]")),
        ),
        ("capabilities", capabilities(pods)),
    ]
}

/// What may be added: baseline, and the policy's list for the stage.
fn capabilities(pods: &PolicyPods) -> String {
    let allowed = |stage: NamespaceStage| {
        let listed = pods.add_capabilities.iter().flatten().filter(|rule| {
            rule.stages
                .as_ref()
                .is_none_or(|stages| stages.iter().any(|s| NamespaceStage::from(*s) == stage))
        });
        let mut names: Vec<&str> = listed.map(|rule| rule.capability.as_str()).collect();
        names.extend(BASELINE_CAPABILITIES);
        names.sort_unstable();
        names.dedup();
        list(names)
    };
    let [training, evaluation, inference] = STAGES.map(allowed);
    format!("variables.stage == 'training' ? {training} : variables.stage == 'evaluation' ? {evaluation} : {inference}")
}

/// One clause about settings that a pod has as a whole and each container by itself.
fn either(pod: &str, container: &str) -> String {
    format!(
        "variables.pods.filter(c, {pod}).map(c, 'the pod') + variables.containers.filter(c, {container}).map(c, \
         'container \"' + c.name + '\"')"
    )
}

pub(super) fn clauses(modes: &Modes, pods: &PolicyPods) -> Vec<Clause> {
    let clause = |rule: &'static str, before: &str, subjects: &str, after: &str| {
        Clause::new(WKL_01.rule(rule), modes, Clause::sentence(before, subjects, after))
    };
    let containers =
        |condition: &str| format!("variables.containers.filter(c, {condition}).map(c, '\"' + c.name + '\"')");
    let volumes = |condition: &str| format!("variables.volumes.filter(v, {condition}).map(v, '\"' + v.name + '\"')");
    let pod = |name: &str| {
        format!(
            "variables.pods.filter(p, {}).map(p, '{name}')",
            field("p", name, "false")
        )
    };
    let both = |path: &str, test: &str| {
        let of = field("c", &format!("securityContext.{path}"), "''");
        let condition = format!("{of} {test}");
        either(&condition, &condition)
    };
    let host_process = field("c", "securityContext.windowsOptions.hostProcess", "false");
    let capability = field("c", "securityContext.capabilities.add", "[]");
    let refused = format!("{capability}.filter(a, !(a in variables.capabilities))");
    vec![
        clause("host-network", "the pod sets ", &pod("hostNetwork"), ""),
        clause("host-pid", "the pod sets ", &pod("hostPID"), ""),
        clause("host-ipc", "the pod sets ", &pod("hostIPC"), ""),
        clause(
            "privileged",
            "privileged: container ",
            &containers(&field("c", "securityContext.privileged", "false")),
            "",
        ),
        clause(
            "capabilities",
            "capabilities beyond the allowed ones: ",
            &format!(
                "variables.containers.filter(c, {capability}.exists(a, !(a in variables.capabilities))).map(c, \
                 'container \"' + c.name + '\" adds ' + {refused}.join(' '))"
            ),
            "",
        ),
        clause("host-path", "hostPath: volume ", &volumes("has(v.hostPath)"), ""),
        clause("host-port", "hostPort: container ", &containers(&host_port()), ""),
        clause(
            "proc-mount",
            "procMount other than Default: container ",
            &containers(&format!(
                "!({} in ['', 'Default'])",
                field("c", "securityContext.procMount", "''")
            )),
            "",
        ),
        clause(
            "seccomp-unconfined",
            "seccomp Unconfined: ",
            &both("seccompProfile.type", "== 'Unconfined'"),
            "",
        ),
        clause(
            "apparmor",
            "AppArmor switched off: ",
            &apparmor(&both("appArmorProfile.type", "== 'Unconfined'")),
            "",
        ),
        clause("selinux", "SELinux options: ", &either(&selinux(), &selinux()), ""),
        clause("sysctls", "unsafe sysctls: ", &sysctls(), ""),
        clause(
            "windows-host-process",
            "Windows HostProcess: ",
            &either(&host_process, &host_process),
            "",
        ),
        clause(
            "probe-host",
            "a probe or hook names a host: container ",
            &containers(&probe_host()),
            "",
        ),
        clause(
            "volume-type",
            "a volume of a type that leads out: ",
            &volumes(&foreign_volume()),
            "",
        ),
        clause(
            "inline-csi",
            "an inline CSI driver that is not listed: ",
            &inline_csi(pods),
            "",
        ),
    ]
}

fn host_port() -> String {
    format!(
        "{}.exists(p, {} != 0)",
        field("c", "ports", "[]"),
        field("p", "hostPort", "0")
    )
}

/// The field of the pod and of containers, and the old annotations that this request brings.
fn apparmor(fields: &str) -> String {
    let of = |root: &str| field(root, "metadata.annotations", "{}");
    let former = format!("(oldObject == null ? {{}} : {})", of("dyn(oldObject)"));
    let annotations = of("dyn(object)");
    format!(
        "{fields} + {annotations}.filter(k, k.startsWith('{APPARMOR_ANNOTATION}') && !({annotations}[k] in ['', \
         'runtime/default']) && !{annotations}[k].startsWith('localhost/') && !(k in {former} && {former}[k] == \
         {annotations}[k])).map(k, 'annotation of container \"' + k.split('/')[1] + '\"')"
    )
}

fn selinux() -> String {
    let of = |name: &str| field("c", &format!("securityContext.seLinuxOptions.{name}"), "''");
    format!(
        "{} != '' || {} != '' || !({} in {})",
        of("user"),
        of("role"),
        of("type"),
        list(SELINUX_TYPES)
    )
}

fn sysctls() -> String {
    format!(
        "variables.pods.map(p, {}.filter(s, !(s.name in {})).map(s, s.name).join(' ')).filter(s, s != '')",
        field("p", "securityContext.sysctls", "[]"),
        list(SAFE_SYSCTLS)
    )
}

/// The kubelet sends probes from the node, past every NetworkPolicy.
fn probe_host() -> String {
    let places = [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
    ];
    let hosts = places.iter().flat_map(|place| {
        ["httpGet", "tcpSocket"].map(|how| format!("{} != ''", field("c", &format!("{place}.{how}.host"), "''")))
    });
    hosts.collect::<Vec<_>>().join(" || ")
}

/// A volume without any type is an `emptyDir`; one of a type that is not known here is refused.
fn foreign_volume() -> String {
    format!("v.exists(k, !(k in {} || k == 'name'))", list(VOLUME_TYPES))
}

fn inline_csi(pods: &PolicyPods) -> String {
    let listed = list(pods.inline_csi_drivers.iter().flatten().map(|name| name.0.as_str()));
    format!(
        "variables.volumes.filter(v, {} && !(v.csi.driver in {listed})).map(v, '\"' + v.name + '\" (' + v.csi.driver + \
         ')')",
        present("v", "csi.driver")
    )
}
