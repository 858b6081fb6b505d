//! The network leg. Pure: data in, data out; no client, no clock, no environment, no randomness.
//!
//! [`world`] is what is known, [`validate`] and [`flows`] say what of it may be open, [`policies`] renders exactly that,
//! [`drift`] compares it with what is stored, [`reach`] judges the whole set of policies, those of others included,
//! [`enforcement`] says what packets have shown of the network plugin, and [`picture`] draws it.

pub mod cluster_deny;
pub mod cluster_policy;
pub mod drift;
pub mod enforcement;
pub mod far;
pub mod flows;
pub mod foreign;
pub mod interfaces;
mod mesh;
pub mod picture;
pub mod policies;
pub mod ports;
pub mod presets;
pub mod quarantine;
pub mod reach;
pub mod remnants;
pub mod rules;
#[cfg(test)]
pub(crate) mod testkit;
pub mod validate;
pub mod verdict;
pub mod waivers;
pub mod world;
