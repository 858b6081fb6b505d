//! What people write and what they read back: the kinds, the conditions and every name in use. `serde` and `schemars`
//! only; nothing here talks to a cluster.

pub mod conditions;
pub mod control_plane_report;
pub mod definitions;
pub mod encryption;
pub mod encryption_status;
pub mod evidence;
pub mod key_ring;
pub mod names;
pub mod network;
pub mod off;
pub mod policy;
pub mod stage;
pub mod text;
pub mod waiver;
pub mod workload;

pub use control_plane_report::ControlPlaneReport;
pub use encryption::SecretEncryption;
pub use key_ring::EncryptionKeyRing;
pub use policy::AiSecurityPolicy;
pub use stage::{ControlMode, Mode, NamespaceStage, Stage};
pub use waiver::Waiver;
pub use workload::AiWorkload;
