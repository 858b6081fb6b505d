//! Accelerators that are taken without being asked for, and pods that go past the scheduler or before everybody else.

use crate::admission::cel::field;
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::admission::policies::USER;
use crate::compliance::id::{ECO_01, WKL_04};

/// The variable by which NVIDIA's container runtime chooses devices. A pod's own word wins over the device plugin's.
pub(super) const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// Its values that take none.
const NONE: &str = "['', 'none', 'void']";

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let name = "'container \"' + c.name + '\"'";
    vec![
        Clause::new(
            WKL_04.rule("visible-devices"),
            modes,
            Found::among(
                "envLists",
                "l",
                &takes_devices(),
                &format!("{VISIBLE} without a request of a device: "),
                "'container \"' + l.of.name + '\"'",
            ),
        ),
        Clause::new(
            WKL_04.rule("shared-request"),
            modes,
            Found::among(
                "containers",
                "c",
                "has(c.resources) && has(c.resources.limits) && c.resources.limits.exists(k, k.endsWith('.shared'))",
                "devices that containers take turns on: ",
                name,
            ),
        ),
        Clause::new(WKL_04.rule("node-name"), modes, placed()),
        Clause::new(ECO_01.rule("system-priority"), modes, system_priority()),
    ]
}

/// A value from elsewhere may be `all`. A request of none is no request.
fn takes_devices() -> String {
    let takes = format!("e.name == '{VISIBLE}' && (has(e.valueFrom) || has(e.value) && !(e.value in {NONE}))");
    let asks = "l.of.resources.limits.exists(k, (k.startsWith('nvidia.com/gpu') || k.startsWith('nvidia.com/mig-')) && \
                !string(l.of.resources.limits[k]).startsWith('0'))";
    format!(
        "l.env.exists(e, {takes}) && !(has(l.of.resources) && (has(l.of.resources.limits) && {asks} || \
         has(l.of.resources.claims) && l.of.resources.claims.size() > 0))"
    )
}

/// Kubelets make the mirrors of their static pods. No controller needs this field: the pods of a DaemonSet are scheduled
/// like others, by an affinity, and the scheduler binds them in a request of its own.
fn placed() -> Found {
    let kubelet = "has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups";
    let node = field("p", "nodeName", "''");
    Found::When(
        format!("pods.exists(p, {node} != '') && !({USER}.startsWith('system:node:') && {kubelet})"),
        "'the pod names node \"' + spec.nodeName + '\" itself'".to_owned(),
    )
}

fn system_priority() -> Found {
    let class = field("p", "priorityClassName", "''");
    Found::among(
        "pods",
        "p",
        &format!("{class}.startsWith('system-')"),
        "PriorityClass ",
        "p.priorityClassName",
    )
}
