//! Whether an upgrade by kubeadm keeps the flags of the API server: it writes the static pod anew from its
//! ClusterConfiguration, and drops what only somebody's editor added. Pure.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::flags::{CONFIG, Flags, Mount, RELOAD, folder, is_true};

/// The namespace of [`CONFIG_MAP`].
pub const NAMESPACE: &str = "kube-system";
/// Where kubeadm keeps its configuration.
pub const CONFIG_MAP: &str = "kubeadm-config";
/// The entry of [`CONFIG_MAP`] that is meant here.
pub const ENTRY: &str = "ClusterConfiguration";

/// Mounted by kubeadm whatever is configured, unless `certificatesDir` names another.
const CERTIFICATES: &str = "/etc/kubernetes/pki";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterConfiguration {
    api_version: String,
    certificates_dir: Option<String>,
    #[serde(default)]
    api_server: Component,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(default)]
    extra_args: Value,
    #[serde(default)]
    extra_volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    host_path: String,
    mount_path: String,
    #[serde(default)]
    path_type: String,
}

/// What the ClusterConfiguration lacks so that an API server that is made of it reads `file` of the host, and reads it
/// again when it changes: entries of `apiServer`, ready to copy. Nothing when an upgrade keeps all that; `None` when the
/// text is not one that we know.
pub fn to_persist(cluster_configuration: &str, file: &Path) -> Option<Vec<String>> {
    let read: ClusterConfiguration = serde_saphyr::from_str(cluster_configuration).ok()?;
    let version = read.api_version.strip_prefix("kubeadm.k8s.io/")?;
    let arguments = &read.api_server.extra_args;
    // A map until v1beta3, a list of name and value since v1beta4. Of two entries the last counts.
    let listed = arguments.is_array() || !arguments.is_object() && version != "v1beta3";
    let value = |flag: &str| {
        let name = flag.trim_start_matches('-');
        match arguments {
            Value::Object(map) => map.get(name).and_then(text),
            Value::Array(list) => list
                .iter()
                .rev()
                .find(|entry| entry["name"] == name)
                .and_then(|entry| text(&entry["value"])),
            _ => None,
        }
    };
    let certificates = read.certificates_dir.as_deref().unwrap_or(CERTIFICATES);
    let mut mounts = vec![Mount {
        host: certificates.to_owned(),
        container: certificates.to_owned(),
        file: false,
    }];
    mounts.extend(read.api_server.extra_volumes.into_iter().map(|volume| Mount {
        host: volume.host_path,
        container: volume.mount_path,
        file: volume.path_type.starts_with("File"),
    }));
    let flags = Flags {
        request_timeout: None,
        config: value(CONFIG),
        reload: value(RELOAD).is_some_and(|value| is_true(&value)),
        mounts: Some(mounts),
    };
    let argument = |flag: &str, value: &str| {
        let name = flag.trim_start_matches('-');
        if listed {
            format!("extraArgs: - {{name: {name}, value: \"{value}\"}}")
        } else {
            format!("extraArgs: {name}: \"{value}\"")
        }
    };
    let mut lacking = Vec::new();
    if !flags.reads(file) {
        lacking.push(argument(CONFIG, &file.display().to_string()));
    }
    if !flags.reload {
        lacking.push(argument(RELOAD, "true"));
    }
    if !flags.sees(file) {
        let folder = folder(file);
        lacking.push(format!(
            "extraVolumes: - {{name: cloison-encryption, hostPath: {folder}, mountPath: {folder}, pathType: \
             DirectoryOrCreate, readOnly: true}}"
        ));
    }
    Some(lacking)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    const FILE: &str = "/etc/kubernetes/cloison/encryption.json";

    fn lacking(version: &str, api_server: &str) -> Option<Vec<String>> {
        let text =
            format!("apiVersion: kubeadm.k8s.io/{version}\nkind: ClusterConfiguration\napiServer: {{{api_server}}}\n");
        to_persist(&text, Path::new(FILE))
    }

    const VOLUME: &str = "extraVolumes: [{name: keys, hostPath: /etc/kubernetes/cloison, mountPath: \
                          /etc/kubernetes/cloison, pathType: Directory}]";

    fn arguments() -> String {
        format!(
            "extraArgs: [{{name: encryption-provider-config, value: {FILE}}}, {{name: \
             encryption-provider-config-automatic-reload, value: 'true'}}]"
        )
    }

    #[test]
    fn what_the_configuration_has_an_upgrade_keeps() {
        let list = format!("{}, {VOLUME}", arguments());
        assert_eq!(lacking("v1beta4", &list), Some(Vec::new()));
        let map = format!(
            "extraArgs: {{encryption-provider-config: {FILE}, encryption-provider-config-automatic-reload: true}}, \
             {VOLUME}"
        );
        assert_eq!(lacking("v1beta3", &map), Some(Vec::new()));
    }

    #[test]
    fn what_it_lacks_is_said_in_lines_to_copy() {
        let all = lacking("v1beta4", "").unwrap();
        let wanted = [
            format!("extraArgs: - {{name: encryption-provider-config, value: \"{FILE}\"}}"),
            "extraArgs: - {name: encryption-provider-config-automatic-reload, value: \"true\"}".to_owned(),
            "extraVolumes: - {name: cloison-encryption, hostPath: /etc/kubernetes/cloison, mountPath: \
             /etc/kubernetes/cloison, pathType: DirectoryOrCreate, readOnly: true}"
                .to_owned(),
        ];
        assert_eq!(all, wanted);
        let map = lacking("v1beta3", "").unwrap();
        assert_eq!(map[0], format!("extraArgs: encryption-provider-config: \"{FILE}\""));
        let no_reload = lacking(
            "v1beta3",
            &format!("extraArgs: {{encryption-provider-config: {FILE}}}, {VOLUME}"),
        );
        assert_eq!(
            no_reload.unwrap().len(),
            1,
            "without the reload a rotation stands still"
        );
    }

    #[test]
    fn without_its_folder_an_api_server_of_the_next_version_would_not_start() {
        let no_volume = lacking("v1beta4", &arguments()).unwrap();
        assert!(
            matches!(&no_volume[..], [line] if line.starts_with("extraVolumes")),
            "{no_volume:?}"
        );
        let file = VOLUME.replace("pathType: Directory", "pathType: FileOrCreate");
        assert_eq!(
            lacking("v1beta4", &format!("{}, {file}", arguments())).unwrap().len(),
            1
        );
    }

    #[test]
    fn of_the_configuration_of_others_nothing_is_said() {
        let file = Path::new(FILE);
        assert_eq!(to_persist("apiVersion: k0s.k0sproject.io/v1beta1\n", file), None);
        assert_eq!(to_persist("- no: map", file), None);
    }
}
