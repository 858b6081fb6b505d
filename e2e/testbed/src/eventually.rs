use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::Error;

/// Short enough to be unnoticed by a person, long enough to leave a two-core machine to the servers.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `attempt` every 50 ms until it returns `Ok`, at most for `deadline`.
///
/// An attempt says with `Err` why the condition is not true yet; after the deadline the last of these
/// reasons is part of the error. An attempt that hangs is cut off at the deadline.
///
/// `attempt` is no `AsyncFnMut`, because a future that holds one cannot be spawned on the runtime.
///
/// ```no_run
/// # async fn example(secrets: kube::Api<k8s_openapi::api::core::v1::Secret>) -> Result<(), cloison_testbed::Error> {
/// use std::time::Duration;
/// cloison_testbed::eventually(Duration::from_secs(10), "the key is mirrored", async || {
///     match secrets.get_opt("key").await {
///         Ok(Some(secret)) => Ok(secret),
///         Ok(None) => Err("no Secret key".to_string()),
///         Err(error) => Err(error.to_string()),
///     }
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
pub async fn eventually<T, E, F>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + deadline;
    let mut last = "no attempt finished".to_string();
    loop {
        match timeout_at(end, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason.to_string(),
            Err(_) => {}
        }
        if Instant::now() + PAUSE > end {
            return Err(Error::Deadline {
                what: what.to_string(),
                waited: deadline,
                last,
            });
        }
        sleep(PAUSE).await;
    }
}
