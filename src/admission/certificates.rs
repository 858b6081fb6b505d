//! The webhook's own authority and certificate: what is to be done next, from what is stored and what API servers trust.
//!
//! An authority is replaced in two phases, so that no moment has a certificate that an API server does not trust: the new
//! one is added to the bundle; once the configuration shows both, the certificate is issued by the new one; once every
//! replica has had the time to load that, the old one is left out. The step is derived from what is there, never stored.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long an authority lasts.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// How long a certificate lasts.
pub const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// So long replicas may take to load a new certificate: they watch the Secret, and look every minute.
pub const LOADED_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// What is made is valid from so long ago: clocks differ.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// From when until when something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
}

impl Validity {
    /// Valid at `now`, with more than a third of its life to come.
    fn is_fresh(self, now: Timestamp) -> bool {
        let life = self.until.duration_since(self.from);
        self.holds(now) && self.until.duration_since(now) > life / 3
    }

    /// Valid at `now`.
    pub fn holds(self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// An authority of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Which one.
    pub fingerprint: String,
    /// From when until when.
    pub validity: Validity,
}

/// The certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The fingerprint of the authority of the bundle that signed it; `None` for none of them.
    pub issuer: Option<String>,
    /// From when until when.
    pub validity: Validity,
    /// Whether it is for the names of the Service, and its key is beside it.
    pub is_ours: bool,
}

/// What the Secret holds; nothing of it is taken on trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The bundle, the newest first.
    pub authorities: Vec<Authority>,
    /// Whether the key of the newest is beside it.
    pub signs: bool,
    /// The certificate; `None` where there is none that can be read.
    pub certificate: Option<Certificate>,
}

/// What API servers trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// There is no configuration: nobody calls.
    Nobody,
    /// The fingerprints that every entry of the configuration has.
    These(Vec<String>),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that is stored can be used: make an authority and a certificate.
    Begin,
    /// Make an authority and put it before the present ones; the certificate stays.
    AddAuthority,
    /// Issue a certificate by the newest authority.
    Issue,
    /// Leave the authorities out that the certificate does not need.
    DropOld,
    /// Nothing.
    Keep,
}

/// What to do next.
pub fn next(stored: &Stored, trusted: &Trusted, now: Timestamp) -> Step {
    let Some(newest) = stored.authorities.first() else {
        return Step::Begin;
    };
    let serves = stored.certificate.as_ref().filter(|certificate| {
        let issuer = certificate.issuer.as_ref();
        let by = |authority: &&Authority| Some(&authority.fingerprint) == issuer;
        let issuer = stored.authorities.iter().find(by);
        let lasts = issuer.is_some_and(|issuer| issuer.validity.holds(now));
        certificate.is_ours && certificate.validity.holds(now) && lasts
    });
    let is_known = match trusted {
        Trusted::Nobody => true,
        Trusted::These(known) => known.contains(&newest.fingerprint),
    };
    let can_sign = stored.signs && newest.validity.holds(now);
    let Some(certificate) = serves else {
        // Nobody is served anyway. An authority that is trusted already saves the detour.
        return if can_sign { Step::Issue } else { Step::Begin };
    };
    let by_newest = certificate.issuer.as_ref() == Some(&newest.fingerprint);
    if !by_newest {
        return match (can_sign, is_known) {
            (true, true) => Step::Issue,
            (true, false) => Step::Keep,
            (false, _) => Step::AddAuthority,
        };
    }
    if !can_sign || !newest.validity.is_fresh(now) {
        return Step::AddAuthority;
    }
    if !certificate.validity.is_fresh(now) {
        return Step::Issue;
    }
    let loaded = now.duration_since(certificate.validity.from) > LOADED_AFTER + SKEW;
    if stored.authorities.len() > 1 && loaded {
        return Step::DropOld;
    }
    Step::Keep
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1_000_000 + hours)
    }

    fn life(hours: i64, life: SignedDuration) -> Validity {
        Validity {
            from: at(hours) - SKEW,
            until: at(hours) + life,
        }
    }

    /// Everything that two replicas and an API server hold, stepped by hand.
    #[derive(Clone, Debug, Default)]
    struct World {
        stored: Stored,
        configured: Option<Vec<String>>,
        made: usize,
        /// The certificates that replicas serve: each with the authority that signed it.
        loaded: Vec<Certificate>,
    }

    impl World {
        fn begun() -> Self {
            let mut world = Self::default();
            world.act(Step::Begin, 0);
            world.publish();
            world.load(0);
            world
        }

        fn authority(&mut self, hours: i64) -> Authority {
            self.made += 1;
            Authority {
                fingerprint: format!("ca-{}", self.made),
                validity: life(hours, AUTHORITY_LIFE),
            }
        }

        fn act(&mut self, step: Step, hours: i64) {
            match step {
                Step::Begin => self.stored.authorities = vec![self.authority(hours)],
                Step::AddAuthority => {
                    let new = self.authority(hours);
                    self.stored.authorities.insert(0, new);
                }
                Step::DropOld => self.stored.authorities.truncate(1),
                Step::Issue | Step::Keep => {}
            }
            self.stored.signs = true;
            if matches!(step, Step::Begin | Step::Issue) {
                self.stored.certificate = Some(Certificate {
                    issuer: self
                        .stored
                        .authorities
                        .first()
                        .map(|authority| authority.fingerprint.clone()),
                    validity: life(hours, CERTIFICATE_LIFE),
                    is_ours: true,
                });
            }
        }

        fn publish(&mut self) {
            let all = self
                .stored
                .authorities
                .iter()
                .map(|authority| authority.fingerprint.clone());
            self.configured = Some(all.collect());
        }

        fn load(&mut self, replica: usize) {
            self.loaded.resize(2, self.stored.certificate.clone().unwrap());
            self.loaded[replica] = self.stored.certificate.clone().unwrap();
        }

        fn trusted(&self) -> Trusted {
            self.configured.clone().map_or(Trusted::Nobody, Trusted::These)
        }

        fn next(&self, hours: i64) -> Step {
            next(&self.stored, &self.trusted(), at(hours))
        }

        /// What an API server finds when it calls any replica.
        fn works(&self, hours: i64) -> bool {
            let configured = self.configured.clone().unwrap_or_default();
            self.loaded.iter().all(|certificate| {
                certificate.validity.holds(at(hours)) && configured.contains(certificate.issuer.as_ref().unwrap())
            })
        }
    }

    const DAY: i64 = 24;

    #[test]
    fn an_authority_is_replaced_in_two_phases() {
        let mut world = World::begun();
        assert_eq!(world.next(1), Step::Keep);
        assert_eq!(world.next(61 * DAY), Step::Issue, "a third of the certificate is left");
        let mut walked = Vec::new();
        world.act(Step::Issue, 240 * DAY);
        for hours in [244 * DAY, 244 * DAY + 1, 244 * DAY + 2] {
            let step = world.next(hours);
            walked.push(step);
            world.act(step, hours);
            assert_eq!(
                world.next(hours),
                Step::Keep,
                "not before the API servers trust it: {walked:?}"
            );
            world.publish();
        }
        assert_eq!(walked, [Step::AddAuthority, Step::Issue, Step::DropOld]);
    }

    #[test]
    fn what_cannot_be_used_is_made_anew() {
        let good = World::begun().stored;
        let trusted = Trusted::These(vec!["ca-1".to_owned()]);
        let next = |change: fn(&mut Stored)| {
            let mut stored = good.clone();
            change(&mut stored);
            next(&stored, &trusted, at(1))
        };
        assert_eq!(next(|stored| *stored = Stored::default()), Step::Begin);
        assert_eq!(next(|stored| stored.certificate = None), Step::Issue);
        assert_eq!(
            next(|stored| stored.certificate.as_mut().unwrap().is_ours = false),
            Step::Issue
        );
        assert_eq!(
            next(|stored| stored.certificate.as_mut().unwrap().issuer = None),
            Step::Issue
        );
        assert_eq!(
            next(|stored| stored.certificate.as_mut().unwrap().validity.until = at(0)),
            Step::Issue
        );
        assert_eq!(
            next(|stored| stored.signs = false),
            Step::AddAuthority,
            "what is served stays"
        );
        assert_eq!(
            next(|stored| {
                stored.signs = false;
                stored.certificate = None;
            }),
            Step::Begin
        );
        assert_eq!(next(|stored| stored.authorities[0].validity.until = at(0)), Step::Begin);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Act,
        Publish,
        Load(usize),
        Wait(i64),
    }

    proptest! {
        /// Whatever the order and the pace, as long as each has its turn well within the margins: no API server ever finds
        /// a certificate that it does not trust, or one that is over.
        #[test]
        fn no_order_of_events_breaks_a_call(events in proptest::collection::vec(
            prop_oneof![
                Just(Event::Act), Just(Event::Publish), (0..2_usize).prop_map(Event::Load), (1..20 * DAY).prop_map(Event::Wait),
            ], 0..200,
        )) {
            let mut world = World::begun();
            let mut hours = 0;
            for event in events {
                match event {
                    Event::Act => {
                        let step = world.next(hours);
                        world.act(step, hours);
                    }
                    Event::Publish => world.publish(),
                    Event::Load(replica) => world.load(replica),
                    Event::Wait(more) => {
                        // In all that time everybody has their turn: replicas load and publish, and the loop goes on.
                        hours += more;
                        for _ in 0..4 {
                            world.publish();
                            (0..2).for_each(|replica| world.load(replica));
                            let step = world.next(hours);
                            world.act(step, hours);
                        }
                        world.publish();
                        (0..2).for_each(|replica| world.load(replica));
                    }
                }
                prop_assert!(world.works(hours), "{world:?}");
            }
        }
    }
}
