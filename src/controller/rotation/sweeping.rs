//! Runs the sweep of the rotation beside everything else, under the sweeper's account, with its role lent for as long.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::encryption::Sweep;
use crate::api::names;
use crate::cluster::api_servers::Error;
use crate::cluster::sweep::{self, Loan, PARALLEL, Settings, Work};
use crate::controller::evidence::Gathering;
use crate::encryption::rotation::observation::Pass;
use crate::encryption::rotation::records::Held;
use crate::encryption::sweep::Tally;

/// The pause after a pass that changed nothing and is asked for again; each next one is twice as long, up to [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(30);

/// At most one pass at a time.
#[derive(Default)]
pub(super) struct Sweeping {
    task: JoinSet<Option<Pass>>,
    /// The barrier it began under, and what stops it when it is dropped.
    running: Option<(Held, oneshot::Sender<()>)>,
    last: Option<Last>,
}

/// A pass that ended.
struct Last {
    under: Held,
    ended: Instant,
    /// Passes in a row that rewrote nothing.
    idle: u32,
}

impl Sweeping {
    /// Starts a pass, unless one runs or the last was too short ago.
    pub fn start(&mut self, gathering: &Gathering, under: &Held, asked: Sweep) {
        if self.running.as_ref().is_some_and(|(known, _)| known != under) {
            self.stop();
        }
        let last = self.last.as_ref().filter(|last| last.under == *under);
        if !self.task.is_empty() || last.is_some_and(|last| last.ended.elapsed() < pause(last.idle)) {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        let rate = u32::try_from(asked.max_requests_per_second).unwrap_or(1);
        self.task.spawn(pass(gathering.clone(), rate, stopped));
        self.running = Some((under.clone(), stop));
    }

    /// Ends the pass that runs; the role is taken back.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// The pass that has ended, and the barrier that it began under.
    pub fn ended(&mut self) -> Option<(Held, Pass)> {
        let pass = match self.task.try_join_next()? {
            Ok(pass) => pass,
            Err(error) => {
                tracing::warn!(%error, "the sweep broke off");
                None
            }
        };
        let (under, _) = self.running.take()?;
        let pass = pass?;
        let idle = self
            .last
            .as_ref()
            .filter(|last| last.under == under)
            .map_or(0, |last| last.idle);
        self.last = Some(Last {
            idle: if pass.rewritten > 0 { 0 } else { idle.saturating_add(1) },
            under: under.clone(),
            ended: Instant::now(),
        });
        Some((under, pass))
    }
}

fn pause(idle: u32) -> Duration {
    match idle {
        0 => Duration::ZERO,
        more => AGAIN.saturating_mul(2_u32.saturating_pow(more - 1)).min(LONGEST),
    }
}

/// `None` when it was stopped.
async fn pass(gathering: Gathering, rate: u32, stopped: oneshot::Receiver<()>) -> Option<Pass> {
    let stopped = async {
        // Nothing is ever sent: that the sender goes is the word.
        let _ = stopped.await;
    };
    let pass = match rewrite(&gathering, rate, stopped).await {
        Ok(pass) => pass?,
        Err(error) => Pass {
            rewritten: 0,
            blocked: vec![error.to_string()],
            revision: 0,
        },
    };
    tracing::info!(
        rewritten = pass.rewritten,
        blocked = pass.blocked.len(),
        "a pass of the sweep ended"
    );
    Some(pass)
}

async fn rewrite(gathering: &Gathering, rate: u32, stopped: impl Future<Output = ()>) -> Result<Option<Pass>, Error> {
    let loan = Loan::take(&gathering.client, &gathering.namespace, names::SWEEPER_ROLE);
    let loan = loan.await.map_err(|error| {
        Error::Unusable(format!(
            "the role {} could not be lent: {error}; the chart lets the controller lend it with `agent.enabled`",
            names::SWEEPER_ROLE
        ))
    })?;
    let token = loan.token();
    let work = async {
        let settings = Settings {
            work: Work::Rewrite,
            rate,
            client: sweep::client(&gathering.config, token)?,
            parallel: PARALLEL,
        };
        sweep::admitted(&settings.client).await?;
        let (tally, stop) = sweep::pass(&settings, &watch::Sender::default()).await;
        let mut blocked: Vec<String> = tally.named.iter().map(|found| format!("Secret {found}")).collect();
        blocked.extend(stop.map(|stop| format!("the sweep ended early: {stop}")));
        blocked.extend(unsettled(&tally));
        Ok::<_, Error>(Pass {
            rewritten: tally.rewritten,
            blocked,
            revision: revision(gathering).await?,
        })
    };
    let (done, ended) = loan.during(work, stopped).await;
    if let Err(error) = ended {
        tracing::warn!(%error, "the sweeper's role was not taken back; it is when nobody prolongs it");
    }
    done.transpose()
}

/// Every Secret of the list has its turn.
fn unsettled(tally: &Tally) -> Option<String> {
    let missed = tally.listed.saturating_sub(tally.settled());
    (missed > 0).then(|| format!("{missed} Secrets were listed and not rewritten"))
}

/// A revision of etcd after the last answer: a list that is not told which version it may show shows the newest.
async fn revision(gathering: &Gathering) -> Result<u64, Error> {
    let nodes: Api<Node> = Api::all(gathering.client.clone());
    let listed = nodes.list_metadata(&ListParams::default().limit(1)).await?;
    let version = listed.metadata.resource_version.unwrap_or_default();
    version.parse().map_err(|_| {
        Error::Unusable(format!(
            "resourceVersion {version:?} is no number: it is not known when the sweep ended"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_is_asked_for_again_waits_longer_each_time() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!((pause(1), pause(3)), (AGAIN, AGAIN * 4));
        assert_eq!(pause(80), LONGEST);
    }
}
