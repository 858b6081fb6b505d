//! The short-lived token of an account of ours, the canary's or the sweeper's. It is held in memory, sent to the
//! cluster's own API servers and shown to nobody.

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::Error;

/// The API server gives no less than ten minutes.
const LIFETIME: Duration = Duration::from_mins(15);
/// Renewed well before the end, so that no request carries an expired one.
const RENEW_AFTER: Duration = Duration::from_mins(10);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A token that renews itself when asked to.
pub struct AccountToken {
    account: &'static str,
    minted: RwLock<Option<Minted>>,
}

struct Minted {
    header: HeaderValue,
    at: Instant,
}

impl AccountToken {
    /// None yet of this ServiceAccount.
    pub fn of(account: &'static str) -> Self {
        Self {
            account,
            minted: RwLock::default(),
        }
    }

    /// Mints a token unless there is one that is young enough.
    pub async fn refresh(&self, client: &Client, namespace: &str) -> Result<(), Error> {
        if self.age().is_some_and(|age| age < RENEW_AFTER) {
            return Ok(());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let wanted = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(), // the API server's own
                expiration_seconds: i64::try_from(LIFETIME.as_secs()).ok(),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let at = Instant::now();
        let parameters = PostParams::default();
        let minting = accounts.create_token_request(self.account, &parameters, &wanted);
        let answer = timeout(TIMEOUT, minting)
            .await
            .map_err(|_| Error::Timeout("token of an account"))??;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        // The error is dropped on purpose: nothing that held the token may be shown.
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::Unusable("the API server gave a token that is no header".to_owned()))?;
        header.set_sensitive(true);
        *self.minted.write().unwrap_or_else(PoisonError::into_inner) = Some(Minted { header, at });
        Ok(())
    }

    /// Forgets the token, so that the next [`AccountToken::refresh`] mints one.
    pub fn forget(&self) {
        *self.minted.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The value of `Authorization`.
    pub(in crate::cluster) fn header(&self) -> Result<HeaderValue, Error> {
        let minted = self.minted.read().unwrap_or_else(PoisonError::into_inner);
        match &*minted {
            Some(minted) if minted.at.elapsed() < LIFETIME => Ok(minted.header.clone()),
            _ => Err(Error::Unusable(format!("no valid token of {}", self.account))),
        }
    }

    fn age(&self) -> Option<Duration> {
        let minted = self.minted.read().unwrap_or_else(PoisonError::into_inner);
        minted.as_ref().map(|minted| minted.at.elapsed())
    }
}

impl fmt::Debug for AccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountToken")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}
