//! The proof by reads, for who asks for it (`proof: Reads`): the metadata of every Secret is read through one API server,
//! and its counters say with which keys. Repeated when the set of API servers or their file changes, when nothing was
//! proven, and in time before the proof is too old; between two runs it costs no request.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::Gathering;
use super::encryption::EncryptionSettings;
use super::fleet::Fleet;
use crate::api::conditions::Truth;
use crate::api::names;
use crate::cluster::api_servers::{Address, Error, PinnedApiServer};
use crate::cluster::sweep::{self, Loan, Work};
use crate::encryption::Observation;
use crate::encryption::sweep::{Barrier, NoBarrier, Pass, Reads, Shape, Tally, reads, unread};

/// The first pause after a run that proved nothing; each next one is twice as long, up to [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSettings {
    /// Requests a second.
    pub rate: u32,
    /// How long a proof counts.
    pub max_age: Duration,
}

/// What reading has shown, and of which API servers.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadsProof {
    /// What was found.
    pub reads: Reads,
    /// Who wrote then, and with which file: it stands as long as they do.
    pub shape: Shape,
    /// When the run began.
    pub at: Time,
}

/// A run that ended.
struct Last {
    shape: Shape,
    truth: Truth,
    failures: u32,
    ended: Instant,
}

/// How long after the last run the next is due.
fn due(last: &Last, shape: &Shape, max_age: Duration) -> Duration {
    if last.shape != *shape {
        return Duration::ZERO;
    }
    match last.truth {
        // In time for another try before the proof is too old.
        Truth::True => max_age / 2,
        Truth::False | Truth::Unknown => AGAIN.saturating_mul(2_u32.saturating_pow(last.failures)).min(LONGEST),
    }
}

/// Runs with the fleet that the loop for new Secrets looks after. Never ends.
pub(super) async fn observe(
    gathering: &Gathering,
    fleet: &Mutex<Fleet>,
    mut settings: watch::Receiver<EncryptionSettings>,
) {
    let mut last: Option<Last> = None;
    loop {
        let now = settings.borrow_and_update().clone();
        match now.reads {
            None => {
                last = None;
                gathering.evidence.publish_reads(None);
            }
            Some(asked) if now.writes => {
                let observation = fleet.lock().await.observation(None);
                // While it is not known who writes what, reading proves nothing.
                if let Ok(before) = Barrier::of(&observation) {
                    let shape = before.shape();
                    let wait = last
                        .as_ref()
                        .map(|last| due(last, &shape, asked.max_age).saturating_sub(last.ended.elapsed()));
                    if wait.is_none_or(|wait| wait.is_zero()) {
                        let stop = unasked(settings.clone());
                        last = once(gathering, fleet, &now, asked, (before, &observation), last, stop).await;
                    }
                }
            }
            // Nothing is decided at present: what is known stays, and grows old.
            Some(_) => {}
        }
        tokio::select! {
            () = sleep(now.interval) => {}
            Ok(()) = settings.changed() => {}
        }
    }
}

/// Ends when nobody asks for reads any more, or nothing is to be done at present.
async fn unasked(mut settings: watch::Receiver<EncryptionSettings>) {
    let stop = settings.wait_for(|now| now.reads.is_none() || !now.writes);
    if stop.await.is_err() {
        // The sender is gone: the last settings hold.
        std::future::pending().await
    }
}

/// One run, and what comes of it; `last` when it was stopped.
async fn once(
    gathering: &Gathering,
    fleet: &Mutex<Fleet>,
    settings: &EncryptionSettings,
    asked: ReadSettings,
    (before, seen): (Barrier, &Observation),
    last: Option<Last>,
    stop: impl Future<Output = ()>,
) -> Option<Last> {
    let shape = before.shape();
    let after = async || {
        let mut fleet = fleet.lock().await;
        let looked = fleet.look(gathering, &settings.api_servers).await;
        looked.map_err(|error| NoBarrier::Unseen(error.to_string()))?;
        Barrier::of(&fleet.observation(None))
    };
    let progress = watch::Sender::default();
    let run = prove(gathering, seen, before, asked.rate, &progress, stop, after);
    let Some(proof) = run.await else { return last };
    tracing::info!(truth = proof.reads.truth.as_str(), reason = proof.reads.reason, message = %proof.reads.message, "stored Secrets");
    let truth = proof.reads.truth;
    gathering.evidence.publish_reads(Some(proof));
    Some(Last {
        failures: match (truth, last) {
            (Truth::False | Truth::Unknown, Some(last)) if last.shape == shape => last.failures.saturating_add(1),
            _ => 0,
        },
        shape,
        truth,
        ended: Instant::now(),
    })
}

/// One run, under the sweeper's account and with its right to read lent for as long; `None` when `stop` came first.
/// `after` looks at all API servers once more.
pub async fn prove(
    gathering: &Gathering,
    seen: &Observation,
    before: Barrier,
    rate: u32,
    progress: &watch::Sender<Tally>,
    stop: impl Future<Output = ()>,
    after: impl AsyncFnOnce() -> Result<Barrier, NoBarrier>,
) -> Option<ReadsProof> {
    let at = Time(Timestamp::now());
    let shape = before.shape();
    let read = async {
        let addresses = seen.replicas.iter().map(|replica| replica.address.as_str());
        let address = addresses
            .min()
            .ok_or_else(|| Error::Unusable("no API server is known".to_owned()))?;
        let address = Address::parse(address)?;
        let loan = Loan::take(&gathering.client, &gathering.namespace, names::SWEEPER_READS_ROLE);
        let loan = loan.await.map_err(|error| {
            Error::Unusable(format!(
                "the role {} could not be lent: {error}; for the controller set `encryption.readStored` in the chart's values, or \
                 prove it by hand with `cloison encryption verify`, as somebody who may bind that role",
                names::SWEEPER_READS_ROLE
            ))
        })?;
        let token = loan.token();
        let work = async {
            let server = PinnedApiServer::connect(&gathering.config, address, token).await?;
            sweep::admitted(&server.client()).await?;
            let first = server.metrics().await?;
            let settings = sweep::Settings {
                work: Work::Read,
                rate,
                // One connection, so that who answers is who counts.
                client: server.client(),
                parallel: 1,
            };
            let (tally, stop) = sweep::pass(&settings, progress).await;
            let last = server.metrics().await?;
            Ok::<_, Error>((first, last, tally, stop))
        };
        let (done, ended) = loan.during(work, stop).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the sweeper's role was not taken back; it is when nobody prolongs it");
        }
        let Some(done) = done else { return Ok(None) };
        let (first, last, tally, stop) = done?;
        let pass = Pass {
            tally,
            stop,
            before: Ok(before),
            after: after().await,
        };
        Ok(Some(reads(&pass, &first, &last)))
    };
    let reads = match read.await {
        Ok(reads) => reads?,
        Err::<_, Error>(error) => unread(&format!("stored Secrets could not be read: {error}")),
    };
    Some(ReadsProof { reads, shape, at })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shape(hash: &str) -> Shape {
        BTreeMap::from([("a".to_owned(), Some(hash.to_owned()))])
    }

    #[test]
    fn reading_is_repeated_when_the_api_servers_change_and_in_time_otherwise() {
        let day = Duration::from_hours(24);
        let last = |truth, failures| Last {
            shape: shape("x"),
            truth,
            failures,
            ended: Instant::now(),
        };
        assert_eq!(due(&last(Truth::True, 0), &shape("x"), day), day / 2);
        assert_eq!(due(&last(Truth::True, 0), &shape("y"), day), Duration::ZERO);
        assert_eq!(due(&last(Truth::Unknown, 0), &shape("x"), day), AGAIN);
        assert_eq!(due(&last(Truth::False, 2), &shape("x"), day), AGAIN * 4);
        assert_eq!(due(&last(Truth::False, 60), &shape("x"), day), LONGEST);
    }
}
