//! What the agent counts. No name of a key is a label.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Everything that is counted.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    /// Looks at the node.
    pub passes: Counter,
    /// Files put in place.
    pub files: Counter,
    /// Files that could not be.
    pub file_errors: Counter,
    /// Changes of the ring.
    pub ring_changes: Counter,
    /// 1 while an order is not followed, or something is wrong on the node.
    pub held: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cloison_agent");
        let (passes, files, file_errors) = (Counter::default(), Counter::default(), Counter::default());
        let (ring_changes, held) = (Counter::default(), Gauge::default());
        registry.register("passes", "Looks at the node", passes.clone());
        registry.register("files_written", "Configuration files put in place", files.clone());
        registry.register(
            "file_write_errors",
            "Files that could not be written",
            file_errors.clone(),
        );
        registry.register("ring_changes", "Changes of the key ring", ring_changes.clone());
        registry.register("held", "Whether an order is not followed", held.clone());
        Self {
            registry: Arc::new(registry),
            passes,
            files,
            file_errors,
            ring_changes,
            held,
        }
    }
}

impl Metrics {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
