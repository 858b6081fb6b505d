//! That a person takes encryption away is told as what it is.

use super::observation::Observation;
use super::{Action, Decision};
use crate::api::conditions::{Truth, Verdict};
use crate::api::encryption_status::Step;

/// The condition: encryption is taken away.
pub const DISABLED: &str = "Disabled";

/// The condition [`DISABLED`]; `None` while nobody wants it.
pub fn verdict(seen: &Observation, decision: &Decision) -> Option<Verdict> {
    if seen.wish.provider.is_some() {
        return None;
    }
    let done = decision.step == Step::Idle && decision.action == Action::Nothing;
    let why = "spec.provider is Identity; the keys are kept in the ring, and any other provider encrypts again";
    let (reason, message) = if done {
        ("Plaintext", format!("Secrets are stored in plaintext: {why}"))
    } else {
        (
            "Disabling",
            format!("Secrets will be stored in plaintext, new ones and old ones: {why}"),
        )
    };
    Some(Verdict::new(DISABLED, Truth::True, reason, message))
}
