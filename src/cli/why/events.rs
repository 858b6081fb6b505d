//! What happened to an object, as its controllers tell it.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cli::dry_run::refusal::{self, Refusal};
use crate::cli::{CliError, forbidden};

/// Something that went wrong.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Of the object.
    pub uid: String,
    /// `FailedCreate`.
    pub reason: String,
    /// The controller's words.
    pub message: String,
    /// The refusal in it, where it is ours.
    pub refusal: Option<Refusal>,
    /// How often.
    pub count: i32,
    /// The last time.
    pub last: Option<Timestamp>,
}

/// The warnings of a namespace, the newest first; `None` where the caller may not read them.
pub(super) async fn gather(client: &Client, namespace: &str) -> Result<Option<Vec<Trouble>>, CliError> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let listed = match events.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) if forbidden(&error) => return Ok(None),
        Err(error) => return Err(CliError::api("list Events")(error)),
    };
    let warnings = listed
        .items
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"));
    let mut troubles: Vec<Trouble> = warnings.map(trouble).collect();
    troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.last));
    Ok(Some(troubles))
}

fn trouble(event: Event) -> Trouble {
    let series = event.series;
    let in_series = series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref())
        .map(|time| time.0);
    let last = [
        in_series,
        event.last_timestamp.map(|time| time.0),
        event.event_time.map(|time| time.0),
        event.first_timestamp.map(|time| time.0),
    ];
    let message = event.message.unwrap_or_default();
    Trouble {
        uid: event.involved_object.uid.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        refusal: refusal::parse(&message),
        message,
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        last: last.into_iter().flatten().next(),
    }
}
