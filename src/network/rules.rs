//! The rules of the catalogue that the network leg speaks of, in one place.

use crate::compliance::id::{NET_02, NET_03, NET_04, NET_05, NET_06, NET_09, RuleId, WKL_02};

/// The name cannot be the value of a pod label.
pub const NAME: RuleId = WKL_02.rule("name");
/// The list of the namespace's workloads is full.
pub const NO_ROOM: RuleId = WKL_02.rule("room");
/// A workload's stage is not its namespace's.
pub const STAGE_MISMATCH: RuleId = NET_02.rule("stage-mismatch");
/// A workload in a shared namespace.
pub const SHARED_NAMESPACE: RuleId = NET_02.rule("stage-mismatch");
/// A workload in a namespace without a stage.
pub const NO_STAGE: RuleId = NET_02.rule("no-stage");

/// A flow to or from a workload of another stage.
pub const CROSS_STAGE: RuleId = NET_03.rule("cross-stage");

/// A flow whose entry is not one thing exactly.
pub const EGRESS_FLOW: RuleId = NET_04.rule("flow");
/// A port that is none, or a range that ends before it starts.
pub const EGRESS_PORT: RuleId = NET_04.rule("port");
/// No end names a port.
pub const EGRESS_NO_PORT: RuleId = NET_04.rule("no-ports");
/// Not a network, or one with host bits.
pub const EGRESS_CIDR: RuleId = NET_04.rule("cidr");
/// The whole Internet.
pub const EGRESS_ANY_ADDRESS: RuleId = NET_04.rule("any-address");
/// Wider than the policy allows.
pub const EGRESS_CIDR_WIDTH: RuleId = NET_04.rule("cidr-width");
/// Addresses of the cluster itself.
pub const EGRESS_CIDR_IN_CLUSTER: RuleId = NET_04.rule("cidr-in-cluster");
/// No such service.
pub const UNKNOWN_SERVICE: RuleId = NET_04.rule("unknown-service");
/// A service that is not for this stage.
pub const SERVICE_STAGE: RuleId = NET_04.rule("stage");
/// A service inside a stage, where only workloads may declare flows.
pub const SERVICE_IN_STAGE: RuleId = NET_04.rule("stage");
/// A service whose place does not exist or is not known.
pub const SERVICE_UNRESOLVED: RuleId = NET_04.rule("unresolved");
/// A service given by host names.
pub const FQDN_UNSUPPORTED: RuleId = NET_04.rule("fqdn-unsupported");
/// A reference to a workload in a namespace that does not exist or has no stage, or to one that is itself refused.
pub const UNKNOWN_WORKLOAD: RuleId = NET_04.rule("unknown-workload");

/// Link-local and other addresses of the infrastructure.
pub const INFRASTRUCTURE_ADDRESS: RuleId = NET_05.rule("metadata");
/// The API servers' own addresses.
pub const API_SERVER_ADDRESS: RuleId = NET_05.rule("api-server");

/// As [`EGRESS_FLOW`], for what connects to the workload.
pub const INGRESS_FLOW: RuleId = NET_06.rule("flow");
/// As [`EGRESS_PORT`].
pub const INGRESS_PORT: RuleId = NET_06.rule("port");
/// As [`EGRESS_NO_PORT`].
pub const INGRESS_NO_PORT: RuleId = NET_06.rule("no-ports");
/// As [`EGRESS_CIDR`].
pub const INGRESS_CIDR: RuleId = NET_06.rule("cidr");
/// As [`EGRESS_ANY_ADDRESS`].
pub const INGRESS_ANY_ADDRESS: RuleId = NET_06.rule("any-address");
/// As [`EGRESS_CIDR_WIDTH`].
pub const INGRESS_CIDR_WIDTH: RuleId = NET_06.rule("cidr-width");
/// As [`EGRESS_CIDR_IN_CLUSTER`].
pub const INGRESS_CIDR_IN_CLUSTER: RuleId = NET_06.rule("cidr-in-cluster");
/// No such source.
pub const UNKNOWN_SOURCE: RuleId = NET_06.rule("unknown-source");
/// A source that is not for this stage.
pub const SOURCE_STAGE: RuleId = NET_06.rule("source-stage");
/// A source inside the same stage, where only workloads may declare flows.
pub const SOURCE_IN_STAGE: RuleId = NET_06.rule("source-stage");
/// A source whose place does not exist or is not known.
pub const SOURCE_UNRESOLVED: RuleId = NET_06.rule("unresolved");
/// A scraper, and no port with metrics is known.
pub const NO_METRICS_PORT: RuleId = NET_06.rule("metrics-port");

/// An object with a name of ours that is not ours.
pub const FOREIGN_OBJECT: RuleId = NET_09.rule("foreign-object");
/// Metadata of others on an object of ours that can make it vanish or mean something else.
pub const FOREIGN_METADATA: RuleId = NET_09.rule("foreign-metadata");
/// A policy of somebody else opens a stage to addresses outside the cluster.
pub const WIDENING: RuleId = NET_09.rule("widening");
