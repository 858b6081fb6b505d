//! Which API servers are alive, by their identity Leases.
//!
//! An API server renews its Lease in kube-system (label `apiserver.kubernetes.io/identity=kube-apiserver`) every 10 s;
//! it lives 3600 s, so its own expiry says nothing about now. No two clocks are compared here: renewTime is written with
//! the clock of each API server, and a replica that is taken for dead because its clock is late could write unseen. A
//! Lease is stale when *we* saw it unchanged for longer than [`STALE_AFTER`] and in several listings; anything else,
//! also a Lease seen for the first time, counts as alive and has to be accounted for. A mistake in that direction only
//! costs an `Unknown`.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Four renewals missed.
pub const STALE_AFTER: Duration = Duration::from_secs(40);
/// So many listings must have shown it unchanged: after a pause of this process one listing says nothing.
pub const STALE_LISTINGS: u32 = 4;

/// An identity Lease as one listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLease {
    /// Its name, `apiserver-…`.
    pub name: String,
    /// Anything that changes with each renewal: its resourceVersion.
    pub renewal: String,
    /// `host:port` from the annotation `kubernetes.io/peer-advertise-address`, which API servers write from 1.36 on.
    pub peer_address: Option<String>,
}

/// An API server that has to be accounted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreshLease {
    /// The name of its Lease.
    pub name: String,
    /// See [`SeenLease::peer_address`].
    pub peer_address: Option<String>,
}

impl FreshLease {
    /// What the API server calls itself in its metrics: `sha256:` and the hash of the name of its Lease.
    pub fn id_hash(&self) -> String {
        id_hash(&self.name)
    }
}

/// The `apiserver_id_hash` of the API server that holds a Lease of this name.
pub fn id_hash(lease: &str) -> String {
    format!("sha256:{:x}", Sha256::digest(lease))
}

/// Follows the identity Leases over time.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    followed: BTreeMap<String, Followed>,
}

#[derive(Clone, Debug)]
struct Followed {
    lease: SeenLease,
    since: Duration,
    unchanged: u32,
}

impl Leases {
    /// Takes in a listing. `now` is a monotonic clock of the caller with any origin.
    pub fn observe(&mut self, now: Duration, listed: impl IntoIterator<Item = SeenLease>) {
        let mut followed = BTreeMap::new();
        for lease in listed {
            let known = self.followed.remove(&lease.name);
            let next = match known {
                Some(known) if known.lease.renewal == lease.renewal => Followed {
                    lease,
                    since: known.since,
                    unchanged: known.unchanged.saturating_add(1),
                },
                _ => Followed {
                    lease,
                    since: now,
                    unchanged: 0,
                },
            };
            followed.insert(next.lease.name.clone(), next);
        }
        self.followed = followed;
    }

    /// The API servers that have to be accounted for, sorted by name.
    pub fn fresh(&self, now: Duration) -> Vec<FreshLease> {
        self.followed
            .values()
            .filter(|followed| followed.unchanged < STALE_LISTINGS || now.saturating_sub(followed.since) <= STALE_AFTER)
            .map(|followed| FreshLease {
                name: followed.lease.name.clone(),
                peer_address: followed.lease.peer_address.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(renewals: [(&str, u64); 2]) -> impl Iterator<Item = SeenLease> {
        renewals
            .map(|(name, renewal)| SeenLease {
                name: name.to_owned(),
                renewal: renewal.to_string(),
                peer_address: None,
            })
            .into_iter()
    }

    fn names(leases: &Leases, now: u64) -> Vec<String> {
        let fresh = leases.fresh(Duration::from_secs(now));
        fresh.into_iter().map(|lease| lease.name).collect()
    }

    #[test]
    fn the_hash_is_the_one_a_real_api_server_shows() {
        // Of 1.36.3, with the Lease of the same run.
        assert_eq!(
            id_hash("apiserver-fj5kznqc76qe2fhtpt4hqnivua"),
            "sha256:0fa598730a912e83a96f9fd205f14fe47ad9c2f2e63a1b679f36279766e6ffa0"
        );
    }

    #[test]
    fn a_lease_that_is_no_longer_renewed_goes_stale_and_the_others_do_not() {
        let mut leases = Leases::default();
        for second in (0..=50).step_by(10) {
            leases.observe(Duration::from_secs(second), listing([("a", 7), ("b", second)]));
        }
        assert_eq!(names(&leases, 40), ["a", "b"]);
        assert_eq!(names(&leases, 41), ["b"]);
    }

    #[test]
    fn a_lease_is_alive_until_it_was_seen_not_to_be_renewed() {
        let mut leases = Leases::default();
        leases.observe(Duration::ZERO, listing([("a", 7), ("b", 7)]));
        // This process stood still; perhaps the whole machine did.
        leases.observe(Duration::from_secs(500), listing([("a", 7), ("b", 8)]));
        assert_eq!(names(&leases, 500), ["a", "b"]);
    }

    #[test]
    fn a_renewal_brings_a_stale_lease_back_at_once() {
        let mut leases = Leases::default();
        for second in (0..=50).step_by(10) {
            leases.observe(Duration::from_secs(second), listing([("a", 7), ("b", 7)]));
        }
        assert!(names(&leases, 50).is_empty());
        leases.observe(Duration::from_secs(51), listing([("a", 8), ("b", 7)]));
        assert_eq!(names(&leases, 51), ["a"]);
    }
}
