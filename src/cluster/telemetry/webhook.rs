//! What is shown of the webhook.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// One label: what a request ended with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReviewLabel {
    /// `allowed`, `warned`, `refused`, `undecided`, `malformed`, `overloaded`, `timeout`.
    pub result: &'static str,
}

/// Everything that is counted of the webhook.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    /// Requests, by what they ended with.
    pub reviews: Family<ReviewLabel, Counter>,
    /// Seconds of a request, its body included.
    pub seconds: Histogram,
    /// Seconds since 1970 of the end of the certificate that is served.
    pub certificate_expiry: Gauge<f64, AtomicU64>,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            reviews: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_5, 4.0, 8)),
            certificate_expiry: Gauge::default(),
        }
    }
}

impl WebhookMetrics {
    /// For the webhook alone: nobody else has anything to show here.
    pub fn register(&self, registry: &mut Registry) {
        let webhook = registry.sub_registry_with_prefix("webhook");
        webhook.register("reviews", "Requests for admission", self.reviews.clone());
        webhook.register(
            "review_seconds",
            "Time of a request for admission",
            self.seconds.clone(),
        );
        webhook.register(
            "certificate_expiry_timestamp_seconds",
            "End of the certificate that is served",
            self.certificate_expiry.clone(),
        );
    }

    /// Counts one request.
    pub fn count(&self, result: &'static str) {
        self.reviews.get_or_create(&ReviewLabel { result }).inc();
    }
}
