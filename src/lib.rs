//! Cloison keeps AI training and AI inference apart in a Kubernetes cluster, and proves it.
//!
//! The way of the data: **observe** (edge) → **validate** (pure; a refusal is a result, not an error) → **plan** (pure,
//! infallible) → **apply** (edge) → **judge** (pure) → **report** (edge).
//!
//! Pure, with time and entropy as arguments: [`api`], [`network`], [`encryption`], [`admission`], [`compliance`]. The
//! thin edge around them: [`controller`], [`webhook`], [`agent`], [`cluster`], [`cli`].

pub mod admission;
pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod compliance;
pub mod controller;
pub mod encryption;
pub mod generated;
pub mod network;
pub mod webhook;
