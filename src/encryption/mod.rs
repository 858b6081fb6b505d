//! How Secrets are encrypted in etcd, decided from what the API servers show of themselves. Pure: metrics, time and
//! outcomes of requests are arguments; `controller::evidence` gathers them.
//!
//! What is proven is narrow and is said so: *new* Secrets are written under an encrypting provider by *every* API server
//! that has a fresh identity. Values written earlier are the subject of [`sweep`]: rewritten, or read on request.

pub mod canary;
pub mod config;
pub mod duties;
pub mod judge;
pub mod leases;
pub mod material;
pub mod memory;
pub mod metrics;
pub mod observation;
pub mod proof;
pub mod ring;
pub mod rotation;
pub mod stored;
pub mod sweep;

pub use canary::{Canary, Shows, Write};
pub use judge::judge;
pub use leases::{FreshLease, Leases, SeenLease};
pub use material::KeyMaterial;
pub use memory::Memory;
pub use metrics::{Operations, RunState, Scrape};
pub use observation::{Observation, Reading, Replica};
pub use proof::EncryptionProof;
