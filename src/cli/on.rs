//! `cloison on`: ends what `off` began. The controller puts everything back, in every namespace the deny first.

use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::DeleteParams;

use super::off::{mode, set_mode};
use super::{CliError, Connection, absent, lease, out};
use crate::api::names;
use crate::api::off::Off;
use crate::api::stage::Mode;

/// Flags of `on`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Puts the modes of namespaces back, then deletes the ConfigMap: what remembers the modes goes last.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let operator = &arguments.operator_namespace;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), operator);
    let what = format!("ConfigMap {operator}/{}", names::OFF_CONFIGMAP);
    let found = maps.get_opt(names::OFF_CONFIGMAP).await;
    let Some(map) = found.map_err(CliError::api(format!("get {what}")))? else {
        out::print(&format!("nothing is off: there is no {what}\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut done = Vec::new();
    for (namespace, before) in Off::read(&map.data.unwrap_or_default()).modes {
        match mode(&client, &namespace).await {
            // Somebody chose another mode meanwhile: that stands.
            Ok(now) if now != Mode::Audit.label() => {}
            Ok(_) => {
                let before = Some(before.as_str()).filter(|mode| !mode.is_empty());
                set_mode(&client, &namespace, before).await?;
                let text = before.map_or_else(|| "taken off".to_owned(), |mode| format!("is {mode} again"));
                done.push(format!("namespace {namespace}: {} {text}", names::MODE_LABEL));
            }
            Err(CliError::Api { source, .. }) if absent(&source) => {}
            Err(error) => return Err(error),
        }
    }
    match maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if absent(&error) => {}
        Err(error) => return Err(CliError::api(format!("delete {what}"))(error)),
    }
    done.push(format!("{what} deleted"));
    let pulse = lease::pulse(&client, operator, Timestamp::now()).await?;
    done.push(if pulse.stale == Some(true) {
        "no controller is running: nothing is put back until one does".to_owned()
    } else {
        "the controller puts the denies back first, then the allows, and the bindings".to_owned()
    });
    out::print(&format!("on: {}\n", done.join("\n    ")))?;
    Ok(ExitCode::SUCCESS)
}
