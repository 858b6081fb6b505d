//! The three requests. kube writes them, and asks for metadata and nothing else; its own calls would take a whole object
//! for an answer where an API server knows no better, and these do not.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::client::{Body, ClientBuilder};
use kube::config::AuthInfo;
use kube::{Client, Config, Resource};
use serde_json::json;
use tokio::time::timeout;
use tower::util::MapRequestLayer;
use zeroize::Zeroizing;

use crate::cluster::api_servers::{AccountToken, Error};
use crate::encryption::sweep::{Answer, Entry, Listing, NotMetadata, Page, Stop};

/// The longest answer. One Secret's metadata holds at most 256 KiB of annotations, and a part of the list 250 of them.
const LARGEST: usize = 80 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

impl From<NotMetadata> for Stop {
    fn from(error: NotMetadata) -> Self {
        Self::NotMetadata(error.to_string())
    }
}

/// A client in the name of the token's account, to where `config` leads. None of the configuration's credentials is
/// presented, TLS is verified whatever it says, and nothing is repeated in silence.
pub fn client(config: &Config, token: Arc<AccountToken>) -> Result<Client, Error> {
    let mut config = config.clone();
    config.auth_info = AuthInfo::default();
    config.accept_invalid_certs = false;
    config.default_retry = false;
    let sign = MapRequestLayer::new(move |mut request: Request<Body>| {
        // Without a valid token the request is anonymous, and refused.
        if let Ok(header) = token.header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&sign).build())
}

/// The next part of the list; the inner error is a refusal.
pub(super) async fn list(client: &Client, listing: &Listing) -> Result<Result<Page, Answer>, Stop> {
    let mut part = ListParams::default().limit(listing.part());
    if !listing.place().is_empty() {
        part = part.continue_token(listing.place());
    }
    let secrets = kube::core::Request::new(Secret::url_path(&(), None));
    match send(client, secrets.list_metadata(&part)).await {
        Some((code, after, body)) => Ok(Page::of(code, after, &body)?),
        None => Ok(Err(Answer::none())),
    }
}

/// A patch that changes nothing, of this object in this version or of none.
pub(super) async fn patch(client: &Client, entry: &Entry) -> Result<Answer, Stop> {
    let nothing = json!({"metadata": {"uid": entry.uid, "resourceVersion": entry.version}});
    let request = secrets(entry).patch_metadata(&entry.name, &PatchParams::default(), &Patch::Merge(nothing));
    one(client, request).await
}

/// The metadata, as etcd has it now: a read without a resourceVersion goes past the cache.
pub(super) async fn get(client: &Client, entry: &Entry) -> Result<Answer, Stop> {
    one(
        client,
        secrets(entry).get_metadata(&entry.name, &kube::api::GetParams::default()),
    )
    .await
}

fn secrets(entry: &Entry) -> kube::core::Request {
    kube::core::Request::new(Secret::url_path(&(), Some(&entry.namespace)))
}

async fn one(client: &Client, request: Result<Request<Vec<u8>>, kube::core::request::Error>) -> Result<Answer, Stop> {
    match send(client, request).await {
        Some((code, after, body)) => Ok(Answer::of(code, after, &body)?),
        None => Ok(Answer::none()),
    }
}

/// Status, `Retry-After` and body; `None` without an answer. The body may hold annotations that hold more than they
/// should, so it is wiped after use.
async fn send(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Option<(u16, Option<u64>, Zeroizing<Vec<u8>>)> {
    let exchange = async {
        let answer = client.send(request.ok()?.map(Body::from)).await.ok()?;
        let code = answer.status().as_u16();
        let after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Limited::new(answer.into_body(), LARGEST);
        let mut text = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.ok()?.into_data() {
                text.extend_from_slice(&data);
            }
        }
        Some((code, after, text))
    };
    timeout(DEADLINE, exchange).await.ok().flatten()
}
