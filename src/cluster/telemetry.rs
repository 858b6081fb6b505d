//! Logs and metrics. Labels are bounded: kinds, reasons, stages, never names.

pub mod encryption;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::encryption::EncryptionMetrics;
use self::webhook::WebhookMetrics;

/// Starts logging to standard error: text for people, JSON with `CLOISON_LOG_FORMAT=json`. `CLOISON_LOG` filters.
pub fn start_logging(json: bool, filter: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call, in tests, changes nothing.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}

/// One label: the kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// For instance `NetworkPolicy`.
    pub kind: &'static str,
}

/// Two labels: the kind of object and what happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindResult {
    /// For instance `NetworkPolicy`.
    pub kind: &'static str,
    /// For instance `applied`, `Forbidden`.
    pub result: &'static str,
}

/// Two labels: a condition and its status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    /// The condition's type.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
}

/// One label: a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// `True`, `False` or `Unknown`; of Waivers their state.
    pub status: &'static str,
}

/// Everything that is counted.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Writes to the API server, by kind and result.
    pub writes: Family<KindResult, Counter>,
    /// Objects put back because somebody changed or deleted them.
    pub drift_repaired: Family<Kind, Counter>,
    /// Objects that our types cannot read at present, by kind.
    pub unreadable: Family<Kind, Gauge>,
    /// Watch errors, by kind.
    pub watch_errors: Family<Kind, Counter>,
    /// Reconciles, by kind and result.
    pub reconciles: Family<KindResult, Counter>,
    /// Seconds of a reconcile, by kind.
    pub reconcile_seconds: Family<Kind, Histogram>,
    /// Cluster-wide conditions: 1 for the status that holds.
    pub conditions: Family<ConditionLabels, Gauge>,
    /// Stage namespaces by the verdict on the policies; False where a forbidden path exists.
    pub policies_isolate: Family<Status, Gauge>,
    /// Seconds since 1970 of the newest proof, by leg: `admission`, `encryption`, `etcd`, `packets`, `reads`.
    pub proof_time: Family<Kind, Gauge<f64, AtomicU64>>,
    /// The rotation of keys.
    pub encryption: EncryptionMetrics,
    /// The webhook.
    pub webhook: WebhookMetrics,
    /// Workloads deleted whose flows are still open, because withdrawals are rationed.
    pub withdrawals_waiting: Gauge,
    /// Workloads that vanished without a DELETE of their own; their flows stay open.
    pub vanished_workloads: Gauge,
    /// Waivers by state: `Active`, `ExpiresSoon`, `Inactive`.
    pub waivers: Family<Status, Gauge>,
    /// Seconds since 1970 at which the next flow that a Waiver opened has to be closed; 0 while none is open.
    pub next_flow_end: Gauge,
    /// 1 while this process holds the lease.
    pub leader: Gauge,
    /// 1 while the stop button is pressed.
    pub off: Gauge,
    /// 1 while the AiSecurityPolicy is missing or unreadable.
    pub policy_missing: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cloison");
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let mut metrics = Self {
            registry: Arc::default(),
            writes: Family::default(),
            drift_repaired: Family::default(),
            unreadable: Family::default(),
            watch_errors: Family::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            conditions: Family::default(),
            policies_isolate: Family::default(),
            proof_time: Family::default(),
            encryption: EncryptionMetrics::default(),
            webhook: WebhookMetrics::default(),
            withdrawals_waiting: Gauge::default(),
            vanished_workloads: Gauge::default(),
            waivers: Family::default(),
            next_flow_end: Gauge::default(),
            leader: Gauge::default(),
            off: Gauge::default(),
            policy_missing: Gauge::default(),
        };
        registry.register("writes", "Writes to the API server", metrics.writes.clone());
        registry.register(
            "drift_repaired",
            "Objects put back after a foreign change",
            metrics.drift_repaired.clone(),
        );
        registry.register(
            "unreadable_objects",
            "Objects our types cannot read",
            metrics.unreadable.clone(),
        );
        registry.register("watch_errors", "Errors of watches", metrics.watch_errors.clone());
        registry.register("reconciles", "Reconciles", metrics.reconciles.clone());
        registry.register(
            "reconcile_seconds",
            "Time of a reconcile",
            metrics.reconcile_seconds.clone(),
        );
        registry.register("condition", "Cluster-wide conditions", metrics.conditions.clone());
        registry.register(
            "policies_isolate",
            "Stage namespaces by whether a forbidden path exists",
            metrics.policies_isolate.clone(),
        );
        registry.register(
            "proof_timestamp_seconds",
            "Time of the newest proof",
            metrics.proof_time.clone(),
        );
        metrics.encryption.register(&mut registry);
        metrics.webhook.register(&mut registry);
        registry.register(
            "withdrawals_waiting",
            "Deleted workloads whose flows are still open",
            metrics.withdrawals_waiting.clone(),
        );
        registry.register(
            "vanished_workloads",
            "Workloads that vanished without being deleted; their flows stay",
            metrics.vanished_workloads.clone(),
        );
        registry.register("waivers", "Waivers by state", metrics.waivers.clone());
        registry.register(
            "next_flow_end_timestamp_seconds",
            "When the next flow that a Waiver opened has to be closed",
            metrics.next_flow_end.clone(),
        );
        registry.register("leader", "Whether this process holds the lease", metrics.leader.clone());
        registry.register("off", "Whether the stop button is pressed", metrics.off.clone());
        registry.register(
            "policy_missing",
            "Whether the policy is missing",
            metrics.policy_missing.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    /// The metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
