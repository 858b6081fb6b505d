//! The rules of Pod Security *baseline*, as our own, so that they have stages, modes and allow-lists; and no volume that
//! leads out of the namespace.

use crate::admission::cel::{field, list, present};
use crate::admission::clause::{Clause, Found};
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
pub(super) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `pod` is the object with the metadata, `former` what it was.
pub(super) fn variables(pods: &PolicyPods, pod: &str, former: &str) -> Vec<(&'static str, String)> {
    let containers = |root: &str| {
        format!(
            "{} + {} + {}",
            field(root, "containers", "[]"),
            field(root, "initContainers", "[]"),
            field(root, "ephemeralContainers", "[]")
        )
    };
    vec![
        ("allContainers", containers("spec")),
        ("formerContainers", format!("creates ? [] : {}", containers("before"))),
        ("formerNames", "formerContainers.map(c, c.name)".to_owned()),
        // A container's settings never change, so on an update only a container that was added is judged.
        (
            "containers",
            "allContainers.filter(c, !(c.name in formerNames))".to_owned(),
        ),
        // What stands in the pod itself never changes either.
        ("pods", "creates ? [spec] : []".to_owned()),
        // Every security context with the place it stands in: most clauses look at nothing else.
        (
            "contexts",
            "pods.filter(c, has(c.securityContext)).map(c, {'at': dyn('the pod'), 'of': c.securityContext}) + \
             containers.filter(c, has(c.securityContext)).map(c, {'at': dyn('container \"' + c.name + '\"'), \
             'of': c.securityContext})"
                .to_owned(),
        ),
        ("volumes", format!("creates ? {} : []", field("spec", "volumes", "[]"))),
        ("annotated", annotated(pod, former)),
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
    format!("stage == 'training' ? {training} : stage == 'evaluation' ? {evaluation} : {inference}")
}

pub(super) fn clauses(modes: &Modes, pods: &PolicyPods) -> Vec<Clause> {
    let clause = |rule: &'static str, found: Found| Clause::new(WKL_01.rule(rule), modes, found);
    let pod = |rule: &'static str, name: &str| {
        let set = field("p", name, "false");
        clause(
            rule,
            Found::among("pods", "p", &set, "the pod sets ", &format!("'{name}'")),
        )
    };
    let context = |rule: &'static str, before: &str, test: &str| {
        clause(rule, Found::among("contexts", "c", test, before, "c.at"))
    };
    let container = |rule: &'static str, before: &str, test: &str| {
        let name = "'container \"' + c.name + '\"'";
        clause(rule, Found::among("containers", "c", test, before, name))
    };
    let volume = |rule: &'static str, before: &str, test: &str, name: &str| {
        clause(rule, Found::among("volumes", "v", test, before, name))
    };
    let volume_name = "'volume \"' + v.name + '\"'";
    vec![
        pod("host-network", "hostNetwork"),
        pod("host-pid", "hostPID"),
        pod("host-ipc", "hostIPC"),
        context("privileged", "privileged: ", &field("c", "of.privileged", "false")),
        capabilities_clause(modes),
        volume("host-path", "hostPath: ", "has(v.hostPath)", volume_name),
        container("host-port", "hostPort: ", &host_port()),
        context(
            "proc-mount",
            "procMount other than Default: ",
            "has(c.of.procMount) && !(c.of.procMount in ['', 'Default'])",
        ),
        context(
            "seccomp-unconfined",
            "seccomp Unconfined: ",
            &format!("{} == 'Unconfined'", field("c", "of.seccompProfile.type", "''")),
        ),
        clause("apparmor", apparmor()),
        context("selinux", "SELinux options: ", &selinux()),
        clause(
            "sysctls",
            Found::among("contexts", "c", &sysctl_test(), "unsafe sysctls: ", &sysctl_names()),
        ),
        context(
            "windows-host-process",
            "Windows HostProcess: ",
            &field("c", "of.windowsOptions.hostProcess", "false"),
        ),
        container("probe-host", "a probe or hook names a host: ", &probe_host()),
        volume(
            "volume-type",
            "a type that leads out of the namespace: ",
            &foreign_volume(),
            volume_name,
        ),
        volume(
            "inline-csi",
            "an inline CSI driver that is not listed: ",
            &foreign_driver(pods),
            "'volume \"' + v.name + '\" (' + v.csi.driver + ')'",
        ),
    ]
}

fn capabilities_clause(modes: &Modes) -> Clause {
    let added = field("c", "of.capabilities.add", "[]");
    let foreign = format!("{added}.filter(a, !(a in capabilities))");
    let found = Found::among(
        "contexts",
        "c",
        &format!("{added}.exists(a, !(a in capabilities))"),
        "capabilities beyond the allowed ones: ",
        &format!("c.at + ' adds ' + {foreign}.join(' ')"),
    );
    Clause::new(WKL_01.rule("capabilities"), modes, found)
}

fn host_port() -> String {
    "has(c.ports) && c.ports.exists(p, has(p.hostPort) && p.hostPort != 0)".to_owned()
}

/// Containers whose annotation, which AppArmor was chosen by before it had a field, switches it off. The API server
/// copies the annotation of a new container into its field; kubelets still read one that comes later.
fn annotated(pod: &str, former: &str) -> String {
    let of = |root: &str| field(root, "metadata.annotations", "{}");
    let (new, former) = (of(pod), of(former));
    format!(
        "{new}.filter(k, k.startsWith('{APPARMOR_ANNOTATION}') && !({new}[k] in ['', 'runtime/default']) && \
         !{new}[k].startsWith('localhost/') && (creates || !(k in {former} && {former}[k] == {new}[k])))\
         .map(k, k.split('/')[1])"
    )
}

/// The pod's field, a container's field, or its annotation where it has no field: in the order of the containers, so
/// that it reads the same before the API server has copied the annotation and after.
fn apparmor() -> Found {
    let by_field = format!("{} == 'Unconfined'", field("c", "of.appArmorProfile.type", "''"));
    let in_field = field("c", "securityContext.appArmorProfile.type", "''");
    let container = format!("{in_field} == 'Unconfined' || ({in_field} == '' && c.name in annotated)");
    let all = "(containers + (creates ? [] : spec.containers.filter(c, c.name in \
               formerNames)))";
    Found::When(
        format!("annotated.size() > 0 || contexts.exists(c, {by_field})"),
        format!(
            "'AppArmor switched off: ' + (contexts.filter(c, c.at == 'the pod' && {by_field}).map(c, \
             string(c.at)) + {all}.filter(c, {container}).map(c, 'container \"' + c.name + '\"')).join(', ')"
        ),
    )
}

fn selinux() -> String {
    let of = |name: &str| field("c", &format!("of.seLinuxOptions.{name}"), "''");
    format!(
        "has(c.of.seLinuxOptions) && ({} != '' || {} != '' || !({} in {}))",
        of("user"),
        of("role"),
        of("type"),
        list(SELINUX_TYPES)
    )
}

fn sysctl_test() -> String {
    format!(
        "has(c.of.sysctls) && c.of.sysctls.exists(s, !(s.name in {}))",
        list(SAFE_SYSCTLS)
    )
}

fn sysctl_names() -> String {
    format!(
        "c.of.sysctls.filter(s, !(s.name in {})).map(s, string(s.name)).join(' ')",
        list(SAFE_SYSCTLS)
    )
}

/// The kubelet sends probes from the node, past every NetworkPolicy.
fn probe_host() -> String {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let hooks = ["lifecycle.postStart", "lifecycle.preStop"];
    let names_host = |place: &str| {
        let by = |how: &str| format!("{} != ''", field("c", &format!("{place}.{how}.host"), "''"));
        format!("{} || {}", by("httpGet"), by("tcpSocket"))
    };
    let probes = probes.map(|probe| format!("has(c.{probe}) && ({})", names_host(probe)));
    let hooks = hooks.map(names_host).join(" || ");
    format!("{} || has(c.lifecycle) && ({hooks})", probes.join(" || "))
}

/// A volume without any type is an `emptyDir`; one of a type that is not known here is refused.
fn foreign_volume() -> String {
    format!("v.exists(k, k != 'name' && !(k in {}))", list(VOLUME_TYPES))
}

fn foreign_driver(pods: &PolicyPods) -> String {
    let listed = list(pods.inline_csi_drivers.iter().flatten().map(|name| name.0.as_str()));
    format!("{} && !(v.csi.driver in {listed})", present("v", "csi.driver"))
}
