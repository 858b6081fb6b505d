//! What is asked of a program that judges NetworkPolicies.

use cloison::network::reach::concrete::Blocks;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::case::{Case, Packet};

/// A program that says what NetworkPolicies allow.
pub trait Judge {
    const NAME: &'static str;
    /// What an `ipBlock` means to it.
    const BLOCKS: Blocks;

    /// Whether each packet passes.
    fn judge(&mut self, case: &Case, packets: &[Packet]) -> Vec<bool>;

    /// The same policy in words that it reads.
    fn given(policy: &NetworkPolicy) -> NetworkPolicy;

    /// What it gets wrong, and we know of: policies that mean to everybody what these mean to it. `None` where they are
    /// the same.
    fn misread(policies: &[NetworkPolicy]) -> Option<Vec<NetworkPolicy>>;
}
