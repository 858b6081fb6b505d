//! A real Kubernetes control plane for tests: etcd, API servers and a controller manager, as plain processes.
//!
//! ```no_run
//! # async fn example() -> Result<(), cloison_testbed::Error> {
//! use cloison_testbed::{ApiServerOptions, ControlPlane, Options};
//!
//! let plane = ControlPlane::start(Options {
//!     api_servers: vec![ApiServerOptions::default(); 2],
//!     controller_manager: true,
//!     ..Options::default()
//! })
//! .await?;
//! let admin = plane.admin()?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is faked, with one exception that endpoints.rs explains. TLS is verified everywhere, every
//! replica of the API server has its own identity and address, and no container engine is needed: the
//! programs are built by `e2e/toolchain/build` unless the environment names them.
//!
//! | variable | meaning |
//! |---|---|
//! | `TEST_ASSET_ETCD`, `TEST_ASSET_KUBE_APISERVER`, `TEST_ASSET_KUBE_CONTROLLER_MANAGER`, `TEST_ASSET_KUBECTL` | programs to use instead of building them |
//! | `KUBEBUILDER_ASSETS` | a folder with such programs |
//! | `CLOISON_TOOLCHAIN` | where `e2e/toolchain/build` builds, instead of `target/toolchain` |
//! | `CLOISON_TESTBED_KEEP` | keeps the folder of every plane, `target/testbed/<pid>-<n>` |
//!
//! It runs on Linux, as root or not. Several replicas need UTS namespaces (`unshare`), which an unprivileged
//! container may forbid; one replica needs nothing. [`Nodes`] need root.
//!
//! A plane can live in a `static` that all tests of a binary share. It then ends with the process, by the
//! parent-death signal of its children, since statics are never dropped.

mod addresses;
mod api_server;
mod binaries;
mod certificates;
mod client_certificate;
mod control_plane;
mod controller_manager;
mod endpoints;
mod error;
mod etcd;
mod eventually;
mod identities;
mod metrics;
mod nodes;
mod options;
mod processes;
mod program;
mod replace;
mod shared;
mod tenants;
mod work_dir;

pub use api_server::ApiServer;
pub use binaries::{Tool, find};
pub use control_plane::ControlPlane;
pub use controller_manager::ControllerManager;
pub use error::Error;
pub use etcd::Etcd;
pub use eventually::eventually;
pub use identities::Identity;
pub use metrics::Metrics;
pub use nodes::{HostedPod, Listens, Nodes, Outcome, PodNetwork, Probe};
pub use options::{ApiServerOptions, Minor, Options};
pub use program::Program;
pub(crate) use work_dir::WorkDir;
