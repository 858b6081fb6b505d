//! The control catalogue and what is said about it. Pure: data and functions, no client, no clock, no environment.
//!
//! A *control* (`NET-04`) is what the score, the policy and the auditor speak of; a *rule* (`WKL-01/host-path`) is one
//! thing a control checks, and what messages and waivers name. Both live in `catalogue.yaml`.

pub mod baseline;
pub mod catalogue;
pub mod checks;
pub mod finding;
pub mod fingerprint;
pub mod formats;
pub mod id;
pub mod mode;
pub mod reference;
pub mod vocabulary;
pub mod waiver;

pub use catalogue::{Catalogue, CatalogueError, Control, Rule};
pub use finding::{Assurance, Finding, Location, Subject, worst};
pub use id::{ControlId, Family, RuleId};
pub use mode::{ControlOverride, PerStage};
pub use vocabulary::{Mechanism, Severity, Source};
