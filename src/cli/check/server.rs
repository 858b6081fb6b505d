//! `check -f --server`: the pods that the manifests make, as the API server would admit them. It is asked by a dry run, with the
//! caller's own rights; nothing is created.

mod answers;

use futures::StreamExt as _;
use kube::Client;

use self::answers::{Told, told};
use crate::admission::PolicySet;
use crate::cli::dry_run::{self, Answer};
use crate::cli::{CliError, Connection, plan};
use crate::compliance::Finding;
use crate::network::world::World;

/// Requests at once.
const AT_ONCE: usize = 4;

/// Asks about every pod of the input, and tells what the input alone does not. `known` are those findings of the input that
/// something is refused for; it was judged by `set`.
pub(super) async fn ask(
    connection: &Connection,
    input: &plan::Input,
    world: &World,
    set: &PolicySet,
    known: &[Finding],
) -> Result<Told, CliError> {
    let (client, _) = connection.client().await?;
    reach(&client).await?;
    let trials = plan::trials(&input.makers);
    let asked = futures::stream::iter(&trials).map(|trial| answer(&client, trial));
    let answers: Vec<Option<Answer>> = asked.buffered(AT_ONCE).collect().await;
    let returned = plan::Returned::new(input, world, set)?;
    Ok(told(trials.iter().zip(&answers), &returned, known))
}

/// Whether there is an API server that knows the caller: else there would be no answer for want of a connection, and not of
/// anything in the manifests.
async fn reach(client: &Client) -> Result<(), CliError> {
    match client.apiserver_version().await {
        // It may keep its version to itself.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        version => version
            .map(drop)
            .map_err(CliError::api("ask the API server for its version")),
    }
}

async fn answer(client: &Client, trial: &plan::Trial<'_>) -> Option<Answer> {
    let pod = trial.pod.as_ref()?;
    Some(dry_run::ask(client, trial.namespace(), pod).await)
}
