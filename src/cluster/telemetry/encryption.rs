//! What is shown of the rotation of keys. Names of keys and resources are labels here: the ring holds at most 128 keys,
//! and `spec.resources` 64.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label: a step of the rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    /// For instance `Sweep`.
    pub step: &'static str,
}

/// One label: a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyLabel {
    /// Its name, `k7`.
    pub key: String,
}

/// Three labels: values of one resource under one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ValuesLabels {
    /// For instance `secrets`.
    pub resource: String,
    /// Its name; `identity` for plaintext.
    pub key: String,
    /// `Write`, `Read`, `Minted`, `Retired`, `Destroyed`; `None` where the ring has no such key.
    pub state: &'static str,
}

/// One label: what became of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `rewritten`, `current`, `gone`, `blocked`.
    pub result: &'static str,
}

/// Everything that is counted of the rotation. Gauges are there while it is managed.
#[derive(Clone, Debug, Default)]
pub struct EncryptionMetrics {
    /// 1 for the step that it stands at.
    pub step: Family<StepLabel, Gauge>,
    /// Values in etcd, by the last reading.
    pub values: Family<ValuesLabels, Gauge>,
    /// API servers that run with what was ordered.
    pub converged: Gauge,
    /// API servers that are to.
    pub replicas: Gauge,
    /// Seconds since 1970 of the moment a key was made; keys that are in use.
    pub key_created: Family<KeyLabel, Gauge>,
    /// Values written under a key, by all API servers; keys that are in use.
    pub key_writes: Family<KeyLabel, Gauge>,
    /// What became of the objects of all passes of the sweep.
    pub swept: Family<ResultLabel, Counter>,
    /// Objects that the last pass could not rewrite.
    pub blocked: Gauge,
}

impl EncryptionMetrics {
    /// All of them, under their names.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            step,
            values,
            converged,
            replicas,
            key_created,
            key_writes,
            swept,
            blocked,
        } = self;
        registry.register("encryption_step", "The step of the rotation of keys", step.clone());
        registry.register(
            "encryption_values",
            "Values in etcd by resource and key",
            values.clone(),
        );
        registry.register(
            "encryption_replicas_converged",
            "API servers that run with what was ordered",
            converged.clone(),
        );
        registry.register(
            "encryption_replicas",
            "API servers on control-plane nodes",
            replicas.clone(),
        );
        registry.register(
            "encryption_key_created_timestamp_seconds",
            "When a key that is in use was made",
            key_created.clone(),
        );
        registry.register(
            "encryption_key_writes",
            "Values written under a key that is in use",
            key_writes.clone(),
        );
        registry.register(
            "encryption_sweep_objects",
            "Objects of the sweep by result",
            swept.clone(),
        );
        registry.register(
            "encryption_blocked_objects",
            "Objects that the last pass of the sweep could not rewrite",
            blocked.clone(),
        );
    }

    /// Nothing is managed any more: what was last seen is not shown on.
    pub fn clear(&self) {
        self.step.clear();
        self.values.clear();
        self.key_created.clear();
        self.key_writes.clear();
        self.converged.set(0);
        self.replicas.set(0);
        self.blocked.set(0);
    }
}
