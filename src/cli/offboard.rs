//! `cloison offboard`: leaves a cluster on purpose. What isolates goes first and what allows goes after it: in the reverse
//! order every pod would meet a deny with nothing beside it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::off::{self, MANAGER, bindings, delete_all, network};
use super::{CliError, Connection, FINDINGS, absent, out};
use crate::api::encryption::EncryptionMode;
use crate::api::{SecretEncryption, names};

/// Flags of `offboard`.
#[derive(Debug, Args)]
#[command(
    after_help = "Labels of namespaces, AiWorkloads and the definitions of our kinds stay; the last lines say how they go."
)]
pub struct Arguments {
    /// Do it. Without this flag nothing is changed, and what would go is listed.
    #[arg(long)]
    yes: bool,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Says what would go, or takes it away.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    refuse_while_keys_are_ours(&client).await?;
    let annotated = annotated(&client).await?;
    if !arguments.yes {
        let policies = ours::<ValidatingAdmissionPolicy>(&client, "ValidatingAdmissionPolicies").await?;
        let walls = network::count(&client).await?;
        out::print(&format!(
            "would go, in this order: {}, {}, the seal of {}\nNothing was changed. Training and inference are not kept apart \
             any more once it is done: cloison offboard --yes\n",
            out::count(walls, "NetworkPolicy object"),
            out::count(policies, "admission policy object"),
            out::count(annotated.len(), "namespace"),
        ))?;
        return Ok(ExitCode::from(FINDINGS));
    }
    off::stop_everything(&client, &arguments.operator_namespace, "offboarding").await?;
    let (walls, walls_left) = network::open(&client, &[], off::PATIENCE).await?;
    let doors = bindings(&client).await;
    let mut failures = doors.failures.into_iter();
    if let Some(first) = failures.next() {
        for failure in failures {
            eprintln!("cloison: {failure}");
        }
        return Err(first);
    }
    let policies = delete_all::<ValidatingAdmissionPolicy>(&client, "ValidatingAdmissionPolicies").await?;
    // Their guard is gone with the policies.
    for namespace in &annotated {
        unseal(&client, namespace).await?;
    }
    let left = walls_left + doors.left + policies.left;
    let mut text = format!(
        "offboarded: {walls}\n            {}\n            policies {}/{} left\n            {} unsealed\n",
        doors.text,
        policies.left,
        policies.found,
        out::count(annotated.len(), "namespace")
    );
    let operator = &arguments.operator_namespace;
    let _ = write!(
        text,
        "What is left, to take away by hand:\n    helm uninstall RELEASE -n {operator}\n    kubectl label ns -l {stage} {stage}- {mode}-\n    \
         kubectl delete crd -l {part}={value}    # with every AiWorkload, Waiver and policy in them\n    \
         kubectl delete configmap -n {operator} {off}    # or the next installation begins switched off\n",
        stage = names::STAGE_LABEL,
        mode = names::MODE_LABEL,
        part = names::PART_OF_LABEL,
        value = names::CLOISON,
        off = names::OFF_CONFIGMAP,
    );
    out::print(&text)?;
    Ok(if left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// Without its agents a cluster whose Secrets are under our keys cannot rotate them, and a new control-plane node could not
/// read them at all.
async fn refuse_while_keys_are_ours(client: &Client) -> Result<(), CliError> {
    let found = match Api::<SecretEncryption>::all(client.clone())
        .get_opt(names::SINGLETON)
        .await
    {
        Ok(found) => found,
        Err(error) if absent(&error) => None,
        Err(error) => return Err(CliError::api("get SecretEncryption default")(error)),
    };
    if found.is_some_and(|found| found.spec.mode == EncryptionMode::Manage) {
        return Err(CliError::Usage(
            "SecretEncryption default is in mode Manage: the Secrets are under keys of Cloison, and they must outlive it. Either \
             set provider: Identity, wait for Disabled=True and take the flags off the API servers, or set mode: Observe and \
             keep the EncryptionConfiguration and the escrow as your own; then run this again"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Namespaces that bear an annotation of ours.
async fn annotated(client: &Client) -> Result<Vec<String>, CliError> {
    let listed = Api::<Namespace>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await
        .map_err(CliError::api("list Namespaces"))?;
    let ours = |namespace: &&kube::core::PartialObjectMeta<Namespace>| {
        let annotations = namespace.annotations();
        annotations.contains_key(names::SEALED_ANNOTATION) || annotations.contains_key(names::OPEN_ANNOTATION)
    };
    Ok(listed.items.iter().filter(ours).map(ResourceExt::name_any).collect())
}

async fn unseal(client: &Client, namespace: &str) -> Result<(), CliError> {
    let gone = json!({"metadata": {"annotations": {names::SEALED_ANNOTATION: null, names::OPEN_ANNOTATION: null}}});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match Api::<Namespace>::all(client.clone())
        .patch_metadata(namespace, &params, &Patch::Merge(&gone))
        .await
    {
        Err(error) if !absent(&error) => Err(CliError::api(format!("annotate Namespace {namespace}"))(error)),
        _ => Ok(()),
    }
}

/// How many objects of a kind are ours.
async fn ours<K>(client: &Client, what: &str) -> Result<usize, CliError>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let label = ListParams::default().labels(&format!("{}={}", names::PART_OF_LABEL, names::CLOISON));
    let listed = Api::<K>::all(client.clone()).list_metadata(&label).await;
    Ok(listed.map_err(CliError::api(format!("list {what}")))?.items.len())
}
