//! Connections to the API server.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// No request, a watch apart, may take longer: a hanging API server must not look like a quiet one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A request about the Lease takes a quarter of its life at most, and never longer than this. No whole number of seconds:
/// the timeout also closes an idle connection, and a renewal at that very moment would fail and cost the lease.
const LEASE_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a service account.
    #[error("no cluster: {0}; set KUBECONFIG, pass --kubeconfig, or run inside a pod with a service account")]
    NoConfiguration(String),
    /// A kubeconfig that cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client could not be built, or the API server refused.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}

/// Finds the configuration as kubectl does: `path`, else KUBECONFIG and the home directory, else the pod's own account.
pub async fn configuration(path: Option<&std::path::Path>, context: Option<&str>) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match path {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer()
            .await
            .map_err(|error| ConnectError::NoConfiguration(error.to_string()))?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(REQUEST_TIMEOUT);
    Ok(config)
}

/// A client for everything but the Lease.
pub fn client(config: &Config) -> Result<Client, ConnectError> {
    Ok(Client::try_from(config.clone())?)
}

/// A client for the Lease alone: short timeouts and no hidden retries, so that a lost lease is noticed in time.
/// `lease` is how long a crashed holder blocks the others.
pub fn lease_client(config: &Config, lease: Duration) -> Result<Client, ConnectError> {
    let mut config = config.clone();
    let timeout = (lease / 4).min(LEASE_TIMEOUT);
    config.read_timeout = Some(timeout);
    config.connect_timeout = Some(timeout);
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// The name the API server knows us by. The tamper rule names it, so it is asked and never assumed.
pub async fn whoami(client: &Client) -> Result<String, ConnectError> {
    let review: SelfSubjectReview = Api::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .ok_or_else(|| ConnectError::NoConfiguration("the API server did not say who we are".to_owned()))
}
