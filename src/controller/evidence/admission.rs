//! Sends the admission canaries to every API server and judges the answers. Each is a dry run: nothing is ever stored.
//!
//! After a change of the policies they are sent again and again until all API servers refuse with the new hash: a policy
//! is not in force when it is created, but a second or two later, on each replica for itself.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::fleet::Fleet;
use super::{AdmissionProof, Gathering};
use crate::admission::{self, Answer, Canary, CanaryRequest, Outcome, PolicySet, ReplicaAnswers, Verb};
use crate::api::conditions::Truth;
use crate::api::policy::AiSecurityPolicySpec;
use crate::cluster::api_servers::{Error, PinnedApiServer};
use crate::encryption::{Observation, judge::barrier};

/// The first pause after an answer that is not True; each next one is twice as long, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// A Waiver that was approved makes new policies, and whoever waits for it should not wait for a pause.
const LAST_RETRY: Duration = Duration::from_secs(8);
/// So long after a change of the policies the last answer about the old ones stands: they are becoming active.
const ACTIVATION: Duration = Duration::from_secs(10);
/// See [`Expected::pace`]. Dry runs are cheap, and there are many of them.
const PACE: Duration = Duration::from_secs(4);

/// See [`Expected::leases_age`]. Several passes of the loop that lists the Leases, and its slowest.
const LEASES_AGE: Duration = Duration::from_secs(120);

/// The policies that must be in force, and how to see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// `PolicySet.hash`.
    pub hash: String,
    /// `admission::canaries` of the same set.
    pub canaries: Vec<Canary>,
    /// The shortest pause while all is well: `AiSecurityPolicy.spec.intervalSeconds`.
    pub interval: Duration,
    /// The shortest time per request while all is well, on average: many API servers make a round rarer.
    pub pace: Duration,
    /// How old the list of API servers may be: with an older one nobody knows whether all were asked.
    pub leases_age: Duration,
    /// Policies of the set that refuse and that no canary tries.
    pub unprobed: Vec<String>,
}

impl Expected {
    /// What to look for while `set`, which was generated from `spec` at `now`, is in force.
    pub fn new(set: &PolicySet, spec: &AiSecurityPolicySpec, now: Timestamp) -> Self {
        Self {
            hash: set.hash.clone(),
            canaries: admission::canaries(set, spec, now),
            interval: Duration::from_secs(u64::try_from(spec.interval_seconds).unwrap_or(60)),
            pace: PACE,
            leases_age: LEASES_AGE,
            unprobed: admission::unprobed(set, spec, now),
        }
    }
}

/// Runs with the fleet that the loop for Secrets looks after. Never ends.
pub(super) async fn observe(
    gathering: &Gathering,
    fleet: &Mutex<Fleet>,
    mut expected: watch::Receiver<Option<Arc<Expected>>>,
) {
    let mut members = fleet.lock().await.members();
    let mut since = Instant::now();
    let mut retry = FIRST_RETRY;
    loop {
        let wanted = expected.borrow_and_update().clone();
        members.borrow_and_update();
        let proof = match &wanted {
            Some(wanted) => ask_all(fleet, wanted).await,
            None => nothing(),
        };
        let pause = match (&wanted, proof.truth) {
            (None, _) => Duration::MAX,
            (Some(wanted), Truth::True) => {
                retry = FIRST_RETRY;
                period(wanted, members.borrow().len())
            }
            (Some(wanted), _) => {
                let pause = retry.min(period(wanted, members.borrow().len()));
                retry = retry.saturating_mul(2).min(LAST_RETRY);
                pause
            }
        };
        let activating = wanted.is_some() && since.elapsed() < ACTIVATION;
        if proof.truth == Truth::True || !activating {
            tracing::debug!(truth = proof.truth.as_str(), reason = proof.reason, "admission");
            gathering.evidence.publish_admission(proof);
        }
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = expected.changed() => {
                let now = expected.borrow().clone();
                if now.map(|now| now.hash.clone()) != wanted.map(|wanted| wanted.hash.clone()) {
                    since = Instant::now();
                }
                retry = FIRST_RETRY;
            }
            Ok(()) = members.changed() => retry = FIRST_RETRY,
        }
    }
}

/// Between two rounds while all is well.
fn period(wanted: &Expected, members: usize) -> Duration {
    let requests = wanted.canaries.len().saturating_mul(2).saturating_mul(members.max(1));
    let requests = u32::try_from(requests).unwrap_or(u32::MAX);
    wanted.interval.max(wanted.pace.saturating_mul(requests))
}

async fn ask_all(fleet: &Mutex<Fleet>, wanted: &Expected) -> AdmissionProof {
    let fleet = fleet.lock().await;
    let observation = fleet.observation(None);
    let who = observation.senders();
    let asked = fleet
        .connections
        .iter()
        .zip(who)
        .map(async |(held, who)| ReplicaAnswers {
            identity: who.map_or_else(|| held.server.address().to_string(), str::to_owned),
            answers: ask_one(&held.server, &wanted.canaries).await,
        });
    let answers = join_all(asked).await;
    conclude(&observation, fleet.leases_age(), &answers, wanted)
}

fn conclude(
    observation: &Observation,
    leases_age: Option<Duration>,
    answers: &[ReplicaAnswers],
    wanted: &Expected,
) -> AdmissionProof {
    let fresh: Vec<String> = observation.leases.iter().map(|lease| lease.name.clone()).collect();
    let verdict = admission::judge(&wanted.canaries, answers, &fresh, &wanted.hash).but_for(&wanted.unprobed);
    // The judge counts answers against Leases; an API server that hides from both is found by the barrier.
    let doubt = stale(leases_age, wanted.leases_age).or_else(|| barrier(observation));
    let (truth, reason, message) = match (verdict.truth, doubt) {
        (Truth::True, Some((reason, message))) => (Truth::Unknown, reason, message),
        _ => (verdict.truth, verdict.reason, verdict.message),
    };
    AdmissionProof {
        truth,
        reason,
        message,
        policy_hash: wanted.hash.clone(),
        at: Time(Timestamp::now()),
    }
}

/// Why a list of Leases of this age says nothing. The message names no moment: it would be another one each time.
fn stale(age: Option<Duration>, bound: Duration) -> Option<(&'static str, String)> {
    age.is_none_or(|age| age > bound).then(|| {
        let message = format!(
            "the identity Leases in kube-system could not be listed for more than {} s, so an API server that joined since \
             was not asked; give the controller the right to list them back",
            bound.as_secs()
        );
        ("LeasesStale", message)
    })
}

fn nothing() -> AdmissionProof {
    AdmissionProof {
        truth: Truth::Unknown,
        reason: "NoPolicies",
        message: "no admission policies are in force".to_owned(),
        policy_hash: String::new(),
        at: Time(Timestamp::now()),
    }
}

/// All canaries, one after the other; after the first that is not answered at all the connection is given up.
async fn ask_one(server: &PinnedApiServer, canaries: &[Canary]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(canaries.len());
    for canary in canaries {
        let (Ok(negative), Ok(positive)) = (
            send(server, &canary.negative).await,
            send(server, &canary.positive).await,
        ) else {
            break;
        };
        answers.push(Answer {
            id: canary.id.to_owned(),
            negative,
            positive,
        });
    }
    answers
}

async fn send(server: &PinnedApiServer, canary: &CanaryRequest) -> Result<Outcome, Error> {
    let (method, content) = match canary.verb {
        Verb::Create => (Method::POST, "application/json"),
        Verb::MergePatch => (Method::PATCH, "application/merge-patch+json"),
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("{}?dryRun=All", canary.path))
        .header(CONTENT_TYPE, content)
        .body(canary.body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    match server
        .ask("canary", async |client| client.request_text(request).await)
        .await
    {
        Ok(_) => Ok(Outcome::Passed),
        Err(Error::Api(kube::Error::Api(status))) => Ok(Outcome::from_status(status.code, status.message)),
        Err(error) => Err(error),
    }
}
