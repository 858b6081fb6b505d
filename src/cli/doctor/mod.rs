//! `cloison doctor`: what is enforced where, what stands in the way of the next step, and who could switch it off. Reads
//! with the caller's own rights; what may not be read is said to be unknown.

mod ends;
mod powers;
mod verdict;
mod weak;
mod webhook;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use self::ends::Ends;
use self::verdict::{Seen, Word};
use self::webhook::Webhook;
use super::lease::pulse;
use super::plan::{self, Surveyed};
use super::{CliError, Connection, FINDINGS, absent, forbidden, out, status};
use crate::api::{AiSecurityPolicy, Waiver, names};

/// Flags of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing needs attention, 1 something does or is unknown, 2 the cluster could not be read."
)]
pub struct Arguments {
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Reads and prints.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let operator = &arguments.operator_namespace;
    let now = Timestamp::now();
    let mut notes = Vec::new();
    let Surveyed { surveys, set, world } = plan::survey_all(&client, None, operator, &mut notes).await?;
    let version = client
        .apiserver_version()
        .await
        .map_err(CliError::api("get the version of the API server"))?;
    let seen = Seen {
        controller: pulse(&client, operator, now).await?,
        off: status::off(&client, operator).await?,
        policy: optional(Api::<AiSecurityPolicy>::all(client.clone()).get(names::SINGLETON).await)?,
        version: version.git_version,
        policies: hashes::<ValidatingAdmissionPolicy>(&client, "ValidatingAdmissionPolicies").await?,
        bindings: hashes::<ValidatingAdmissionPolicyBinding>(&client, "ValidatingAdmissionPolicyBindings").await?,
        webhook: Webhook {
            configuration: configuration(&client).await?,
            ready: endpoints(&client, operator).await?,
            now,
        },
        ends: ends(&client, world.policy.waivers.max_days, now).await?,
        powers: powers(&client, operator, &surveys).await?,
        surveys,
        set,
    };
    let verdicts = seen.verdicts();
    out::print(&seen.text(&verdicts, &notes))?;
    let attention = verdicts.iter().any(|verdict| verdict.word != Word::Fine);
    Ok(if attention {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is there, `Some(None)` where there is nothing, `None` where it may not be read.
type Maybe<T> = Option<Option<T>>;

fn optional<T>(found: Result<T, kube::Error>) -> Result<Maybe<T>, CliError> {
    match found {
        Ok(found) => Ok(Some(Some(found))),
        Err(error) if absent(&error) => Ok(Some(None)),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api("get AiSecurityPolicy default")(error)),
    }
}

/// The webhook's configuration. Listed, because that is what the role of the admin on call may do.
async fn configuration(client: &Client) -> Result<Maybe<ValidatingWebhookConfiguration>, CliError> {
    let ours = ListParams::default().fields(&format!("metadata.name={}", names::WEBHOOK_CONFIGURATION));
    match Api::<ValidatingWebhookConfiguration>::all(client.clone())
        .list(&ours)
        .await
    {
        Ok(list) => Ok(Some(list.items.into_iter().next())),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api("list ValidatingWebhookConfigurations")(error)),
    }
}

/// How many ready endpoints the webhook's Service has; `None` where they may not be listed.
async fn endpoints(client: &Client, operator: &str) -> Result<Option<usize>, CliError> {
    let its = ListParams::default().labels(&format!("kubernetes.io/service-name={}", names::WEBHOOK_ACCOUNT));
    match Api::<EndpointSlice>::namespaced(client.clone(), operator)
        .list(&its)
        .await
    {
        Ok(list) => Ok(Some(webhook::ready(&list.items))),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api("list EndpointSlices")(error)),
    }
}

/// Our objects of a kind by name, each with the generation of the policies it is of; `None` where they may not be listed.
async fn hashes<K>(client: &Client, what: &str) -> Result<Option<BTreeMap<String, String>>, CliError>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let ours = ListParams::default().labels(&format!("{}={}", names::PART_OF_LABEL, names::CLOISON));
    match Api::<K>::all(client.clone()).list_metadata(&ours).await {
        Ok(list) => {
            let hash = |object: &kube::core::PartialObjectMeta<K>| {
                object
                    .labels()
                    .get(names::POLICY_HASH_LABEL)
                    .cloned()
                    .unwrap_or_default()
            };
            Ok(Some(
                list.iter().map(|object| (object.name_any(), hash(object))).collect(),
            ))
        }
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api(format!("list {what}"))(error)),
    }
}

async fn ends(client: &Client, max_days: i32, now: Timestamp) -> Result<Option<Ends>, CliError> {
    match Api::<Waiver>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(Some(Ends::of(&list.items, max_days, now))),
        Err(error) if absent(&error) => Ok(Some(Ends::default())),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api("list Waivers")(error)),
    }
}

/// Who could switch it off, or act from a stage with power beyond it.
async fn powers(client: &Client, operator: &str, surveys: &[plan::Survey]) -> Result<Option<powers::Powers>, CliError> {
    let all = ListParams::default();
    let roles = Api::<ClusterRole>::all(client.clone()).list(&all).await;
    let cluster_bindings = Api::<ClusterRoleBinding>::all(client.clone()).list(&all).await;
    let bindings = Api::<RoleBinding>::all(client.clone()).list(&all).await;
    match (roles, cluster_bindings, bindings) {
        (Ok(roles), Ok(cluster), Ok(bindings)) => {
            let staged = surveys.iter().filter(|survey| survey.stage.is_some());
            let staged = staged.map(|survey| survey.name.as_str()).collect();
            Ok(Some(powers::find(
                &roles.items,
                &cluster.items,
                &bindings.items,
                operator,
                &staged,
            )))
        }
        (roles, cluster, bindings) => {
            let error = roles.err().or(cluster.err()).or(bindings.err());
            match error {
                Some(error) if !forbidden(&error) => Err(CliError::api("list roles and bindings")(error)),
                _ => Ok(None),
            }
        }
    }
}
