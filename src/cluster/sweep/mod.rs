//! Sends the requests of a sweep, or of a proof by reads, and counts what became of them. What answers mean is decided in
//! [`encryption::sweep`](crate::encryption::sweep).
//!
//! Values never reach this process: lists and answers are asked for as `PartialObjectMetadata` and as nothing else, and
//! an answer that is something else ends the pass.

mod loan;
mod requests;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::api_servers::Error;
use crate::encryption::sweep::{self, Answer, Blocked, Entry, Listing, Obstacle, Outcome, Pace, Stop, Tally};

pub use loan::{Lent, Loan, lent, take_back};
pub use requests::client;

/// Requests of a rewrite that are under way at once.
pub const PARALLEL: usize = 16;
/// A Secret that others changed so often in a row is given up.
const CONFLICTS: u32 = 10;
/// So many answers in a row that are none, each followed by a longer pause: about a minute.
const FAILURES: u32 = 8;
/// An API server learns of a binding a moment after it is written, each for itself. It also comes back so soon after
/// another run took it away: see [`Loan`].
const ADMITTANCE: Duration = Duration::from_secs(20);
const ADMITTANCE_PAUSE: Duration = Duration::from_millis(200);
/// Progress is shown after so many Secrets.
const SHOWN: u64 = 50;

/// What is done to each Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A patch that changes nothing.
    Rewrite,
    /// A read of the metadata.
    Read,
}

/// How a pass is made.
#[derive(Clone)]
pub struct Settings {
    /// What is done.
    pub work: Work,
    /// Requests a second, those of the list included: `SecretEncryption.spec.sweep.maxRequestsPerSecond`.
    pub rate: u32,
    /// Where requests go.
    pub client: Client,
    /// How many Secrets have their turn at once.
    pub parallel: usize,
}

/// Goes over all Secrets of the cluster once. Ends early with the reason; the count is exact then too.
pub async fn pass(settings: &Settings, progress: &watch::Sender<Tally>) -> (Tally, Option<Stop>) {
    let runner = Runner {
        settings,
        pace: Mutex::new(Pace::per_second(settings.rate)),
        origin: Instant::now(),
    };
    let mut tally = Tally::default();
    progress.send_replace(Tally::default());
    let stop = runner.all(&mut tally, progress).await.err();
    progress.send_replace(tally.clone());
    (tally, stop)
}

/// Waits until the API server behind `client` knows that the sweeper's role is lent. It is asked, so that no request is
/// refused for it.
pub async fn admitted(client: &Client) -> Result<(), Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                resource: Some("secrets".to_owned()),
                verb: Some("list".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let asked = async {
        loop {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(());
            }
            sleep(ADMITTANCE_PAUSE).await;
        }
    };
    timeout(ADMITTANCE, asked)
        .await
        .unwrap_or(Err(Error::Timeout("the sweeper's role")))
}

struct Runner<'a> {
    settings: &'a Settings,
    pace: Mutex<Pace>,
    origin: Instant,
}

/// What was put up with so far for one Secret, or for one part of the list.
#[derive(Default)]
struct Patience {
    failures: u32,
    /// Since when every answer was that the account may not.
    denied: Option<Instant>,
}

impl Runner<'_> {
    /// The list, then each Secret of it.
    async fn all(&self, tally: &mut Tally, progress: &watch::Sender<Tally>) -> Result<(), Stop> {
        let (entries, broken) = self.list().await?;
        entries.iter().for_each(|entry| tally.listed(entry));
        broken.into_iter().for_each(|found| tally.broken(found));
        progress.send_replace(tally.clone());
        let work = stream::iter(entries).map(|entry| self.settle(entry));
        let mut work = std::pin::pin!(work.buffer_unordered(self.settings.parallel.max(1)));
        while let Some((entry, outcome)) = work.try_next().await? {
            tally.count(&entry, outcome);
            if tally.settled().is_multiple_of(SHOWN) {
                progress.send_replace(tally.clone());
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<(Vec<Entry>, Vec<Blocked>), Stop> {
        let mut listing = Listing::default();
        let mut patience = Patience::default();
        while !listing.ended() {
            self.turn().await;
            match requests::list(&self.settings.client, &listing).await? {
                Ok(page) => {
                    listing.page(page);
                    patience = Patience::default();
                }
                Err(refused) => {
                    if listing.refused(&refused)? {
                        continue;
                    }
                    let outcome = match sweep::read(&refused) {
                        // A read of a whole list fails for many reasons, and one bad value names itself.
                        Outcome::Blocked(_) => Outcome::Later(None),
                        outcome => outcome,
                    };
                    self.wait(&outcome, &refused, &mut patience).await?;
                }
            }
        }
        Ok(listing.found())
    }

    /// One Secret, until it is known what became of it.
    async fn settle(&self, mut entry: Entry) -> Result<(Entry, Outcome), Stop> {
        let mut patience = Patience::default();
        let mut conflicts = 0;
        self.turn().await;
        loop {
            let (answer, outcome) = self.once(&entry).await?;
            match outcome {
                Outcome::Conflict if conflicts == CONFLICTS => {
                    return Ok((entry, Outcome::Blocked(Obstacle::Contended)));
                }
                Outcome::Conflict => {
                    conflicts += 1;
                    self.turn().await;
                    let now = requests::get(&self.settings.client, &entry).await?;
                    match (sweep::read(&now), now.entry) {
                        (_, Some(now)) => entry = now,
                        (outcome @ (Outcome::Gone | Outcome::Blocked(_)), None) => return Ok((entry, outcome)),
                        // The next patch conflicts again, or tells why there is no answer.
                        (_, None) => {}
                    }
                    // The patch follows the read at once, or whoever writes often would always be faster.
                }
                Outcome::Later(_) | Outcome::Denied => {
                    self.wait(&outcome, &answer, &mut patience).await?;
                    self.turn().await;
                }
                done => return Ok((entry, done)),
            }
        }
    }

    /// One request, and a second one where the first leaves a doubt; with the answer that decided.
    async fn once(&self, entry: &Entry) -> Result<(Answer, Outcome), Stop> {
        let client = &self.settings.client;
        if self.settings.work == Work::Read {
            let answer = requests::get(client, entry).await?;
            let outcome = sweep::read(&answer);
            return Ok((answer, outcome));
        }
        let answer = requests::patch(client, entry).await?;
        let outcome = sweep::rewritten(entry, &answer);
        if outcome != Outcome::Ask {
            return Ok((answer, outcome));
        }
        self.turn().await;
        let seen = requests::get(client, entry).await?;
        let outcome = sweep::settle(&answer, &seen);
        Ok((seen, outcome))
    }

    /// Waits after an answer that was none, or ends the pass.
    async fn wait(&self, outcome: &Outcome, answer: &Answer, patience: &mut Patience) -> Result<(), Stop> {
        let Outcome::Later(asked) = outcome else {
            let since = *patience.denied.get_or_insert_with(Instant::now);
            if since.elapsed() >= ADMITTANCE {
                return Err(Stop::Denied(format!("{} {}", answer.code, answer.message)));
            }
            sleep(ADMITTANCE_PAUSE).await;
            return Ok(());
        };
        patience.denied = None;
        if patience.failures == FAILURES {
            return Err(Stop::Unavailable(answer.code));
        }
        self.pace
            .lock()
            .await
            .hold(self.origin.elapsed(), *asked, patience.failures);
        patience.failures += 1;
        Ok(())
    }

    async fn turn(&self) {
        let at = self.pace.lock().await.turn(self.origin.elapsed());
        sleep_until(self.origin + at).await;
    }
}

#[cfg(test)]
mod tests;
