//! The network part of what people write: ports, ends and flows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stage::Stage;
use super::text::{Cidr, DnsLabel, LabelValue, Line};

/// A transport protocol. NetworkPolicy knows these three; ICMP is never isolated by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// The protocol of a port that names none.
    #[default]
    TCP,
    /// User datagrams.
    UDP,
    /// Stream control.
    SCTP,
}

impl Protocol {
    /// As NetworkPolicy spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::SCTP => "SCTP",
        }
    }
}

/// A destination port, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.endPort) || self.endPort >= self.port",
    "message": "NET-04/port `endPort` must not be smaller than `port`",
}]))]
pub struct Port {
    /// The port, or the first of a range.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// TCP unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// Another `AiWorkload`; in this namespace unless `namespace` says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadRef {
    /// Its name.
    pub name: DnsLabel,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DnsLabel>,
}

/// Something this workload connects to: exactly one of `service`, `workload`, `cidr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "[has(self.service), has(self.workload), has(self.cidr)].filter(x, x).size() == 1",
        "message": "NET-04/flow exactly one of `service`, `workload`, `cidr` must be set",
    },
    {
        "rule": "!has(self.service) || !has(self.ports)",
        "message": "NET-04/flow the ports of a service come from the catalogue; remove `ports`",
    },
    { "rule": "!has(self.cidr) || has(self.ports)", "message": "NET-04/flow a `cidr` needs `ports`" },
]))]
pub struct ConnectTo {
    /// A service of the policy's catalogue, or the built-in `kubernetes-api`. Brings its own ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<DnsLabel>,
    /// Another workload. The flow opens once that workload accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// A network outside the cluster, no wider than the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Destination ports. For a workload, absent means whatever the other end accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Option<Vec<Port>>,
}

/// Something that may connect to this workload: exactly one of `source`, `workload`, `cidr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.source), has(self.workload), has(self.cidr)].filter(x, x).size() == 1",
    "message": "NET-06/flow exactly one of `source`, `workload`, `cidr` must be set",
}]))]
pub struct AcceptFrom {
    /// A source of the policy: a gateway, a scraper or a controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DnsLabel>,
    /// Another workload. The flow opens once that workload declares it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// A network outside the cluster, no wider than the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Ports of this workload; absent means the serving ports of its runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Option<Vec<Port>>,
}

/// Labels of pods; all must match.
pub type PodLabels = BTreeMap<String, LabelValue>;

/// Where a catalogue service is: exactly one of `namespace`, `cidrs`, `fqdns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "[has(self.namespace), has(self.cidrs), has(self.fqdns)].filter(x, x).size() == 1",
        "message": "NET-04/catalogue exactly one of `namespace`, `cidrs`, `fqdns` must be set",
    },
    {
        "rule": "!has(self.podLabels) || has(self.namespace)",
        "message": "NET-04/catalogue `podLabels` needs `namespace`",
    },
]))]
pub struct ServiceEnd {
    /// A namespace of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DnsLabel>,
    /// Pods of that namespace; absent means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8, "x-kubernetes-validations" = [
        {
            "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue())",
            "message": "NET-04/catalogue a key of `podLabels` is no label key; write a name of letters, digits, `-`, `_` and `.`, at most 63, after a DNS prefix and `/` if it has one",
        },
        {
            "rule": "self.all(key, !format.labelValue().validate(self[key]).hasValue())",
            "message": "NET-04/catalogue a value of `podLabels` is no label value; write letters, digits, `-`, `_` and `.`, at most 63",
        },
    ]))]
    pub pod_labels: Option<PodLabels>,
    /// Networks outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub cidrs: Option<Vec<Cidr>>,
    /// Host names. They need a backend that enforces names; without one the service is reported as unsupported and
    /// never widened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub fqdns: Option<Vec<Line>>,
}

/// A shared service that workloads name in `connectTo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogueService {
    /// The name engineers write.
    pub name: DnsLabel,
    /// What it is and how to reach it; shown by `cloison catalogue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
    /// Where it is.
    pub to: ServiceEnd,
    /// Its ports.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<Port>,
    /// Stages that may use it; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Option<Vec<Stage>>,
    /// Every workload of those stages gets it without asking: a mesh control plane, a vault, telemetry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<bool>,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceKind {
    /// Brings users' requests to serving ports.
    Gateway,
    /// Reads metrics.
    Scraper,
    /// Steers pods: an operator, a notebook culler, an autoscaler.
    Controller,
}

/// Marks that nodes themselves are the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nodes {}

/// Where a source is: exactly one of `namespace`, `cidrs`, `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "[has(self.namespace), has(self.cidrs), has(self.nodes)].filter(x, x).size() == 1",
        "message": "NET-06/source exactly one of `namespace`, `cidrs`, `nodes` must be set",
    },
    { "rule": "!has(self.podLabels) || has(self.namespace)", "message": "NET-06/source `podLabels` needs `namespace`" },
]))]
pub struct SourceEnd {
    /// A namespace of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DnsLabel>,
    /// Pods of that namespace; absent means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8, "x-kubernetes-validations" = [
        {
            "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue())",
            "message": "NET-06/source a key of `podLabels` is no label key; write a name of letters, digits, `-`, `_` and `.`, at most 63, after a DNS prefix and `/` if it has one",
        },
        {
            "rule": "self.all(key, !format.labelValue().validate(self[key]).hasValue())",
            "message": "NET-06/source a value of `podLabels` is no label value; write letters, digits, `-`, `_` and `.`, at most 63",
        },
    ]))]
    pub pod_labels: Option<PodLabels>,
    /// Networks, for gateways on host networks or outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub cidrs: Option<Vec<Cidr>>,
    /// The nodes' own addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
}

/// Something outside the stages that may connect into them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The name engineers write.
    pub name: DnsLabel,
    /// What it is.
    pub kind: SourceKind,
    /// Where it is.
    pub from: SourceEnd,
    /// Ports it may reach; absent means the ports of the runtime that fit its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Option<Vec<Port>>,
    /// Stages it may reach; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Option<Vec<Stage>>,
    /// Every workload of those stages accepts it without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<bool>,
}

/// Pods that answer DNS: a namespace with pod labels, or addresses.
pub type DnsServer = ServiceEnd;
