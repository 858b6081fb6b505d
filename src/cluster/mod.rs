//! The edge that every component shares: connections, the lease, logs and metrics, the health server; and, as pure data,
//! the rights of each.

pub mod allocations;
pub mod api_servers;
pub mod client;
pub mod cluster_policies;
pub mod health;
pub mod leadership;
pub mod orders;
pub mod roles;
pub mod sweep;
pub mod telemetry;
