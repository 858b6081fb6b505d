//! The sweeper's rights, which it has only while it runs: whoever runs a sweep writes the binding and deletes it at the
//! end. The binding says until when it is lent; a run prolongs it, and what a killed run left is taken back.
//!
//! Two runs share a binding. Whichever ends first may take it from the other, which writes it again when it prolongs it:
//! a pass waits for longer than that before it believes that it was not let in.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::api::names;
use crate::cluster::api_servers::{AccountToken, Error};
use crate::cluster::roles;

/// How long a binding outlives its run.
const LENT: SignedDuration = SignedDuration::from_secs(90);
/// How often it is prolonged, and the token looked after.
const PROLONGED: Duration = Duration::from_secs(10);

/// A role that is lent to the sweeper.
pub struct Loan {
    client: Client,
    namespace: String,
    role: &'static str,
    /// Tells this run from another that lends the same role.
    run: String,
    token: Arc<AccountToken>,
}

/// A binding that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The role.
    pub role: &'static str,
    /// Until when; `None` where it does not say so.
    pub until: Option<Timestamp>,
}

impl Loan {
    /// Binds one of [`names::SWEEPER_ROLES`] and mints a token, with the rights of `client`. `namespace` is the operator's.
    pub async fn take(client: &Client, namespace: &str, role: &'static str) -> Result<Self, Error> {
        let loan = Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            role,
            run: format!("{}-{}", std::process::id(), Timestamp::now().as_nanosecond()),
            token: Arc::new(AccountToken::of(names::SWEEPER_ACCOUNT)),
        };
        loan.token.refresh(client, namespace).await?;
        loan.bind().await?;
        Ok(loan)
    }

    /// The token of the account, renewed by [`Loan::keep`].
    pub fn token(&self) -> Arc<AccountToken> {
        self.token.clone()
    }

    /// Does `work` with the role until it is done or `stop` comes, and takes the role back whatever came of it.
    pub async fn during<T>(
        self,
        work: impl Future<Output = T>,
        stop: impl Future<Output = ()>,
    ) -> (Option<T>, Result<(), Error>) {
        let done = tokio::select! {
            done = work => Some(done),
            () = stop => None,
            never = self.keep() => match never {},
        };
        (done, self.end().await)
    }

    /// Prolongs the loan for ever. A renewal that fails is tried again, and the rights end when it keeps failing.
    async fn keep(&self) -> std::convert::Infallible {
        loop {
            sleep(PROLONGED).await;
            if let Err(error) = self.token.refresh(&self.client, &self.namespace).await {
                tracing::warn!(%error, "the sweeper's token was not renewed");
            }
            if let Err(error) = self.bind().await {
                tracing::warn!(%error, role = self.role, "the sweeper's role was not prolonged");
            }
        }
    }

    async fn bind(&self) -> Result<(), Error> {
        let mut binding = roles::loan(self.role, &self.namespace);
        let until = Timestamp::now() + LENT;
        binding["metadata"]["annotations"] = json!({
            names::LENT_UNTIL_ANNOTATION: until.to_string(),
            names::LENT_BY_ANNOTATION: self.run,
        });
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        bindings(&self.client)
            .patch(self.role, &parameters, &Patch::Apply(binding))
            .await?;
        Ok(())
    }

    /// Takes the role back, unless another run wrote it last: that one will.
    async fn end(self) -> Result<(), Error> {
        let Some(found) = bindings(&self.client).get_opt(self.role).await? else {
            return Ok(());
        };
        if found.annotations().get(names::LENT_BY_ANNOTATION) != Some(&self.run) {
            return Ok(());
        }
        delete(&self.client, &found).await
    }
}

/// What is lent at present.
pub async fn lent(client: &Client) -> Result<Vec<Lent>, Error> {
    let mut found = Vec::new();
    for role in names::SWEEPER_ROLES {
        if let Some(binding) = bindings(client).get_opt(role).await? {
            found.push(Lent {
                role,
                until: until(&binding),
            });
        }
    }
    Ok(found)
}

/// Takes back what nobody prolonged in time. Returns what it took.
pub async fn take_back(client: &Client) -> Result<Vec<&'static str>, Error> {
    let mut taken = Vec::new();
    for role in names::SWEEPER_ROLES {
        let Some(binding) = bindings(client).get_opt(role).await? else {
            continue;
        };
        if until(&binding).is_none_or(|until| until < Timestamp::now()) {
            delete(client, &binding).await?;
            taken.push(role);
        }
    }
    Ok(taken)
}

fn until(binding: &ClusterRoleBinding) -> Option<Timestamp> {
    binding.annotations().get(names::LENT_UNTIL_ANNOTATION)?.parse().ok()
}

/// Deletes it as it was seen, or not at all.
async fn delete(client: &Client, binding: &ClusterRoleBinding) -> Result<(), Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: binding.uid(),
            resource_version: binding.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match bindings(client).delete(&binding.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn bindings(client: &Client) -> Api<ClusterRoleBinding> {
    Api::all(client.clone())
}
