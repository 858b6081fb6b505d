//! The edge that every component shares: connections, the lease, logs and metrics, the health server.

pub mod api_servers;
pub mod client;
pub mod health;
pub mod leadership;
pub mod telemetry;
