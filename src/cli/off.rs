//! `cloison off`: the stop button, for the night in which we are the problem. It needs no controller, and it holds
//! against one: the ConfigMap is honoured by every version, at its start and on watch.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CliError, Connection, FINDINGS, UNREADABLE, absent, out};
use crate::api::names;
use crate::api::off::{self, Off};
use crate::api::stage::Mode;

pub(super) mod network;

/// The field manager of what people do here.
pub(super) const MANAGER: &str = "cloison-cli";
/// How long to wait for deletions to be seen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Looks in a row that find nothing before it counts as gone: a controller in the middle of a pass may put one more back.
const LOOKS: usize = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Flags of `off`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to stop.
    #[arg(long)]
    scope: Scope,
    /// Only in this namespace; may be repeated.
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Why; shown by every condition until `cloison on`.
    #[arg(long)]
    reason: String,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// What to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Nothing is refused any more. The network stays isolated and is kept so: denies are repaired, new workloads get
    /// their flows. AdmissionEnforced is Unknown until `cloison on`, and so is Ready where it needs that.
    Admission,
    /// And nothing is isolated any more: the denies go first, then the allows. Every condition is Unknown.
    All,
}

impl From<Scope> for off::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Admission => Self::Admission,
            Scope::All => Self::All,
        }
    }
}

/// Presses the button. A step that fails does not keep the others from being tried: this is an emergency.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let start = Instant::now();
    let (client, _) = arguments.connection.client().await?;
    let place = format!("{}/{}", arguments.operator_namespace, names::OFF_CONFIGMAP);
    let off = press(&client, &arguments).await?;
    let mut done = vec![format!("ConfigMap {place}: scope {}", off.scope.as_str())];
    let (mut failures, mut left) = (Vec::new(), 0);
    if arguments.namespaces.is_empty() {
        let refusals = bindings(&client).await;
        done.push(refusals.text);
        left += refusals.left;
        failures.extend(refusals.failures);
    } else {
        done.push("bindings and webhooks stay, because they serve other namespaces too".to_owned());
        for namespace in &arguments.namespaces {
            match set_mode(&client, namespace, Some(Mode::Audit.label())).await {
                Ok(()) => {
                    let was = off.modes.get(namespace).map_or("", String::as_str);
                    let was = if was.is_empty() { "not set" } else { was };
                    done.push(format!(
                        "namespace {namespace}: {}=audit (was {was})",
                        names::MODE_LABEL
                    ));
                }
                Err(error) => failures.push(error),
            }
        }
    }
    if arguments.scope == Scope::All {
        match network::open(&client, &arguments.namespaces, PATIENCE).await {
            Ok((text, remaining)) => {
                done.push(text);
                left += remaining;
            }
            Err(error) => failures.push(error),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    out::print(&format!(
        "off: {}\n{seconds:.1} s; `cloison on` resumes\n",
        done.join("\n     ")
    ))?;
    for failure in &failures {
        eprintln!("cloison: {failure}");
    }
    Ok(match (failures.is_empty(), left) {
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(FINDINGS),
        (false, _) => ExitCode::from(UNREADABLE),
    })
}

/// Presses the button for all of it, whatever was off before. What was off for less must not keep a cluster from being left.
pub(super) async fn stop_everything(client: &Client, operator: &str, reason: &str) -> Result<(), CliError> {
    let off = Off {
        scope: off::Scope::All,
        namespaces: std::collections::BTreeSet::new(),
        reason: reason.to_owned(),
        modes: BTreeMap::new(),
    };
    write(client, operator, &off).await
}

async fn write(client: &Client, operator: &str, off: &Off) -> Result<(), CliError> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": names::OFF_CONFIGMAP}, "data": off.data(),
    });
    let params = PatchParams::apply(MANAGER).force();
    Api::<ConfigMap>::namespaced(client.clone(), operator)
        .patch(names::OFF_CONFIGMAP, &params, &Patch::Apply(&map))
        .await
        .map_err(CliError::api(format!(
            "apply ConfigMap {operator}/{}",
            names::OFF_CONFIGMAP
        )))?;
    Ok(())
}

/// Writes the ConfigMap: first of all, or a living controller would put back what goes next. Returns what it says now.
async fn press(client: &Client, arguments: &Arguments) -> Result<Off, CliError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &arguments.operator_namespace);
    let what = format!("ConfigMap {}/{}", arguments.operator_namespace, names::OFF_CONFIGMAP);
    let before = maps
        .get_opt(names::OFF_CONFIGMAP)
        .await
        .map_err(CliError::api(format!("get {what}")))?
        .map(|map| Off::read(&map.data.unwrap_or_default()));
    let mut off = again(before, arguments)?;
    for namespace in &arguments.namespaces {
        if !off.modes.contains_key(namespace) {
            off.modes.insert(namespace.clone(), mode(client, namespace).await?);
        }
    }
    write(client, &arguments.operator_namespace, &off).await?;
    Ok(off)
}

/// What is off once the button is pressed on top of what was off `before`. There is one scope: another would change what
/// is off where it was pressed first. What was said first stays true of what was switched off first.
fn again(before: Option<Off>, arguments: &Arguments) -> Result<Off, CliError> {
    let scope = off::Scope::from(arguments.scope);
    let Some(before) = before else {
        return Ok(Off {
            scope,
            namespaces: arguments.namespaces.iter().cloned().collect(),
            reason: arguments.reason.clone(),
            modes: BTreeMap::new(),
        });
    };
    if before.scope != scope {
        return Err(CliError::Usage(format!(
            "it is off with scope {} already ({}); scope {} would change that. Run `cloison on` first",
            before.scope.as_str(),
            before.place(),
            scope.as_str()
        )));
    }
    if before.namespaces.is_empty() && !arguments.namespaces.is_empty() {
        let message = "it is off everywhere already; -n would switch the rest on. Run `cloison on` first";
        return Err(CliError::Usage(message.to_owned()));
    }
    let mut off = before;
    if arguments.namespaces.is_empty() {
        off.namespaces.clear();
    }
    off.namespaces.extend(arguments.namespaces.iter().cloned());
    if off.reason.is_empty() {
        off.reason.clone_from(&arguments.reason);
    } else if !off.reason.split("; ").any(|said| said == arguments.reason) {
        off.reason = format!("{}; {}", off.reason, arguments.reason);
    }
    Ok(off)
}

/// The mode label of a namespace; empty without one.
pub(super) async fn mode(client: &Client, namespace: &str) -> Result<String, CliError> {
    let found = Api::<Namespace>::all(client.clone())
        .get_metadata(namespace)
        .await
        .map_err(CliError::api(format!("get Namespace {namespace}")))?;
    Ok(found.labels().get(names::MODE_LABEL).cloned().unwrap_or_default())
}

/// Sets the mode label of a namespace, or takes it off.
pub(super) async fn set_mode(client: &Client, namespace: &str, mode: Option<&str>) -> Result<(), CliError> {
    let change = json!({"metadata": {"labels": {names::MODE_LABEL: mode}}});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    Api::<Namespace>::all(client.clone())
        .patch_metadata(namespace, &params, &Patch::Merge(&change))
        .await
        .map_err(CliError::api(format!("label Namespace {namespace}")))?;
    Ok(())
}

/// What is left of bindings and webhook configurations, and why.
pub(super) struct Refusals {
    /// In one line.
    pub text: String,
    pub left: usize,
    pub failures: Vec<CliError>,
}

/// Deletes webhook configurations and bindings, and waits until they are seen to be gone. One kind does not wait for the other,
/// and does not stay for it either.
pub(super) async fn bindings(client: &Client) -> Refusals {
    let (bindings, webhooks) = tokio::join!(
        delete_all::<ValidatingAdmissionPolicyBinding>(client, "ValidatingAdmissionPolicyBindings"),
        delete_all::<ValidatingWebhookConfiguration>(client, "ValidatingWebhookConfigurations"),
    );
    let (mut left, mut failures) = (0, Vec::new());
    let mut told = |what: &str, outcome| match outcome {
        Ok(Deleted { found, left: here }) => {
            left += here;
            format!("{what} {here}/{found} left")
        }
        Err(error) => {
            failures.push(error);
            format!("{what} not seen to be gone")
        }
    };
    let text = format!("{}   {}", told("bindings", bindings), told("webhooks", webhooks));
    Refusals { text, left, failures }
}

/// What became of the objects of one kind.
pub(super) struct Deleted {
    pub found: usize,
    pub left: usize,
}

/// Deletes them until nobody puts them back. Each by its name, so that a role can be for ours alone: RBAC knows no names of a
/// whole collection.
pub(super) async fn delete_all<K>(client: &Client, what: &str) -> Result<Deleted, CliError>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", names::PART_OF_LABEL, names::CLOISON));
    let end = Instant::now() + PATIENCE;
    let (mut found, mut gone) = (0, 0);
    loop {
        let names: Vec<String> = api
            .list_metadata(&ours)
            .await
            .map_err(CliError::api(format!("list {what}")))?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        let listed = names.len();
        found = found.max(listed);
        gone = if listed == 0 { gone + 1 } else { 0 };
        if gone == LOOKS || (listed > 0 && Instant::now() > end) {
            return Ok(Deleted { found, left: listed });
        }
        let params = DeleteParams::default();
        let deleted = join_all(names.iter().map(|name| api.delete(name, &params))).await;
        let failed = deleted.into_iter().filter_map(Result::err).find(|error| !absent(error));
        if let Some(error) = failed {
            return Err(CliError::api(format!("delete {what}"))(error));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    fn pressed(scope: Scope, reason: &str, namespaces: &[&str]) -> Arguments {
        Arguments {
            scope,
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            reason: reason.to_owned(),
            operator_namespace: String::new(),
            connection: Connection::default(),
        }
    }

    #[test]
    fn pressed_again_it_keeps_its_scope_and_what_was_said_first() {
        let first = again(None, &pressed(Scope::All, "INC-1", &["b", "a"])).unwrap();
        let refused = again(Some(first.clone()), &pressed(Scope::Admission, "INC-2", &["c"])).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("scope all already (in a b)") && refused.contains("cloison on"),
            "{refused}"
        );
        let second = again(Some(first.clone()), &pressed(Scope::All, "INC-2", &["c"])).unwrap();
        assert_eq!(
            (&*second.reason, second.place()),
            ("INC-1; INC-2", "in a b c".to_owned())
        );
        let same = again(Some(second.clone()), &pressed(Scope::All, "INC-1", &["a"])).unwrap();
        assert_eq!(same, second);
        let everywhere = again(Some(second), &pressed(Scope::All, "INC-3", &[])).unwrap();
        assert_eq!(everywhere.place(), "everywhere");
        assert!(
            again(Some(everywhere), &pressed(Scope::All, "INC-4", &["a"])).is_err(),
            "it would narrow"
        );
    }
}
