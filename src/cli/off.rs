//! `cloison off`: the stop button, for the night in which we are the problem. It needs no controller, and it holds
//! against one: the ConfigMap is honoured by every version, at its start and on watch.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CliError, Connection, FINDINGS, UNREADABLE, out};
use crate::api::names;
use crate::api::stage::Mode;

mod network;

/// The field manager of what people do here.
pub(super) const MANAGER: &str = "cloison-cli";
/// In the ConfigMap: the modes that namespaces had, `vision-infer=enforce vision-train=`, for `on` to put back.
pub(super) const MODES: &str = "modes";
/// How long to wait for deletions to be seen.
const PATIENCE: Duration = Duration::from_secs(20);
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

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::All => "all",
        }
    }
}

/// Presses the button. A step that fails does not keep the others from being tried: this is an emergency.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let start = Instant::now();
    let (client, _) = arguments.connection.client().await?;
    let place = format!("{}/{}", arguments.operator_namespace, names::OFF_CONFIGMAP);
    let modes = press(&client, &arguments).await?;
    let mut done = vec![format!("ConfigMap {place}: scope {}", arguments.scope.as_str())];
    let (mut failures, mut left) = (Vec::new(), 0);
    if arguments.namespaces.is_empty() {
        match bindings(&client).await {
            Ok((text, remaining)) => {
                done.push(text);
                left += remaining;
            }
            Err(error) => failures.push(error),
        }
    } else {
        done.push("bindings and webhooks stay, because they serve other namespaces too".to_owned());
        for namespace in &arguments.namespaces {
            match set_mode(&client, namespace, Some(Mode::Audit.label())).await {
                Ok(()) => {
                    let was = modes.get(namespace).map_or("", String::as_str);
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

/// Writes the ConfigMap: first of all, or a living controller would put back what goes next. Returns the modes that the
/// namespaces had.
async fn press(client: &Client, arguments: &Arguments) -> Result<BTreeMap<String, String>, CliError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &arguments.operator_namespace);
    let what = format!("ConfigMap {}/{}", arguments.operator_namespace, names::OFF_CONFIGMAP);
    let before = maps
        .get_opt(names::OFF_CONFIGMAP)
        .await
        .map_err(CliError::api(format!("get {what}")))?
        .map(|map| map.data.unwrap_or_default());
    let known = before.clone().unwrap_or_default();
    if before.is_some() {
        same_scope(&known, arguments.scope)?;
    }
    let mut namespaces: Vec<String> = arguments.namespaces.clone();
    if !namespaces.is_empty() {
        let earlier = known.get("namespaces").map(String::as_str).unwrap_or_default();
        if before.is_some() && earlier.trim().is_empty() {
            let message = "it is off everywhere already; -n would switch the rest on. Run `cloison on` first";
            return Err(CliError::Usage(message.to_owned()));
        }
        namespaces.extend(earlier.split_whitespace().map(str::to_owned));
    }
    namespaces.sort();
    namespaces.dedup();
    let mut modes = read_modes(&known);
    for namespace in &arguments.namespaces {
        if !modes.contains_key(namespace) {
            modes.insert(namespace.clone(), mode(client, namespace).await?);
        }
    }
    let saved: Vec<String> = modes.iter().map(|(name, mode)| format!("{name}={mode}")).collect();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": names::OFF_CONFIGMAP},
        "data": {
            "scope": arguments.scope.as_str(), "reason": reason(&known, &arguments.reason), "namespaces": namespaces.join(" "),
            MODES: saved.join(" "),
        },
    });
    let params = PatchParams::apply(MANAGER).force();
    maps.patch(names::OFF_CONFIGMAP, &params, &Patch::Apply(&map))
        .await
        .map_err(CliError::api(format!("apply {what}")))?;
    Ok(modes)
}

/// There is one scope: another would change what is off where it was pressed before.
fn same_scope(known: &BTreeMap<String, String>, wanted: Scope) -> Result<(), CliError> {
    // Whoever wrote no scope, or a word that nobody knows, stopped everything.
    let earlier = match known.get("scope").map(|scope| scope.trim()) {
        Some("admission") => Scope::Admission,
        _ => Scope::All,
    };
    if earlier == wanted {
        return Ok(());
    }
    let place = known.get("namespaces").map(String::as_str).unwrap_or_default().trim();
    let place = if place.is_empty() { "everywhere" } else { place };
    let message = format!(
        "it is off with scope {} already ({place}); scope {} would change that. Run `cloison on` first",
        earlier.as_str(),
        wanted.as_str()
    );
    Err(CliError::Usage(message))
}

/// Why it is off: what was said first stays true of what was switched off first.
fn reason(known: &BTreeMap<String, String>, new: &str) -> String {
    match known
        .get("reason")
        .map(String::as_str)
        .filter(|earlier| !earlier.is_empty())
    {
        Some(earlier) if earlier.split("; ").any(|said| said == new) => earlier.to_owned(),
        Some(earlier) => format!("{earlier}; {new}"),
        None => new.to_owned(),
    }
}

/// The modes that a ConfigMap remembers.
pub(super) fn read_modes(data: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let saved = data.get(MODES).map(String::as_str).unwrap_or_default();
    let pairs = saved.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, mode)| (name.to_owned(), mode.to_owned())).collect()
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

/// Deletes webhook configurations and bindings, and waits until they are seen to be gone.
async fn bindings(client: &Client) -> Result<(String, usize), CliError> {
    let (bindings, webhooks) = tokio::try_join!(
        delete_all::<ValidatingAdmissionPolicyBinding>(client, "ValidatingAdmissionPolicyBindings"),
        delete_all::<ValidatingWebhookConfiguration>(client, "ValidatingWebhookConfigurations"),
    )?;
    let text = format!(
        "bindings {}/{} left   webhooks {}/{} left",
        bindings.left, bindings.found, webhooks.left, webhooks.found
    );
    Ok((text, bindings.left + webhooks.left))
}

/// What became of the objects of one kind.
struct Deleted {
    found: usize,
    left: usize,
}

/// Deletes them until nobody puts them back.
async fn delete_all<K>(client: &Client, what: &str) -> Result<Deleted, CliError>
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
        let listed = api
            .list_metadata(&ours)
            .await
            .map_err(CliError::api(format!("list {what}")))?
            .items
            .len();
        found = found.max(listed);
        gone = if listed == 0 { gone + 1 } else { 0 };
        if gone == LOOKS || (listed > 0 && Instant::now() > end) {
            return Ok(Deleted { found, left: listed });
        }
        if listed > 0 {
            api.delete_collection(&DeleteParams::default(), &ours)
                .await
                .map_err(CliError::api(format!("delete {what}")))?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressed_again_it_keeps_its_scope_and_what_was_said_first() {
        let pairs = [("scope", "all"), ("reason", "INC-1"), ("namespaces", "a b")];
        let known: BTreeMap<String, String> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert!(same_scope(&known, Scope::All).is_ok());
        let refused = same_scope(&known, Scope::Admission).map_err(|error| error.to_string());
        let refused = refused.err().unwrap_or_default();
        assert!(
            refused.contains("scope all already (a b)") && refused.contains("cloison on"),
            "{refused}"
        );
        assert!(
            same_scope(&BTreeMap::new(), Scope::Admission).is_err(),
            "no scope is all"
        );
        assert_eq!(reason(&known, "INC-2"), "INC-1; INC-2");
        assert_eq!(reason(&known, "INC-1"), "INC-1");
        assert_eq!(reason(&BTreeMap::new(), "INC-1"), "INC-1");
    }
}
