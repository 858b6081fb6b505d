//! The flags that an API server runs with, as far as encryption goes: read from its command line or from its static pod,
//! never written. Pure; the files are read elsewhere.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Names the configuration file.
const CONFIG: &str = "--encryption-provider-config";
/// Makes the API server read it again.
const RELOAD: &str = "--encryption-provider-config-automatic-reload";

/// What is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The configuration file.
    pub config: Option<String>,
    /// Whether it is read again when it changes.
    pub reload: bool,
    /// Of a static pod: the folders of the host that are mounted, with their places in the container. `None` for a process
    /// of the host, which sees the host's folders.
    pub mounts: Option<Vec<Mount>>,
}

/// A folder of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub host: String,
    /// In the container.
    pub container: String,
    /// It is one file, not a folder.
    pub file: bool,
}

impl Flags {
    /// Of a command line, without the program. The last of two flags of a name counts.
    pub fn of_command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            match name {
                CONFIG => {
                    if value.is_none() {
                        value = arguments.next_if(|next| !next.starts_with("--"));
                    }
                    flags.config = value.filter(|value| !value.is_empty()).map(str::to_owned);
                }
                // A flag of yes or no takes its value after `=` only.
                RELOAD => flags.reload = value.is_none_or(is_true),
                _ => {}
            }
        }
        flags
    }

    /// Of the static pod of an API server; `None` when the text is none.
    pub fn of_manifest(text: &str) -> Option<Self> {
        let pod: Value = serde_saphyr::from_str(text).ok()?;
        let spec = &pod["spec"];
        let containers = spec["containers"].as_array()?;
        let container = containers
            .iter()
            .find(|container| container["name"] == "kube-apiserver")
            .or_else(|| containers.first())?;
        let words = [&container["command"], &container["args"]];
        let words = words
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str);
        let mut flags = Self::of_command(words);
        let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mounts = container["volumeMounts"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mount = |mount: &Value| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
            let host = &volume["hostPath"];
            Some(Mount {
                host: host["path"].as_str()?.to_owned(),
                container: mount["mountPath"].as_str()?.to_owned(),
                file: host["type"].as_str().is_some_and(|kind| kind.starts_with("File"))
                    || mount["subPath"].is_string(),
            })
        };
        flags.mounts = Some(mounts.iter().filter_map(mount).collect());
        Some(flags)
    }

    /// What has to be added so that this API server reads `file` of the host and reads it again, ready to copy; nothing
    /// when it does.
    pub fn missing(&self, file: &Path) -> Vec<String> {
        let folder = file.parent().unwrap_or(file).display().to_string();
        let mut missing = Vec::new();
        match &self.config {
            None => missing.push(format!("{CONFIG}={}", file.display())),
            Some(config) if self.on_host(config) != file.display().to_string() => {
                missing.push(format!("{CONFIG}={} in the place of {config}", file.display()))
            }
            Some(_) => {}
        }
        if !self.reload {
            missing.push(format!("{RELOAD}=true"));
        }
        if let Some(mounts) = &self.mounts {
            let covering = mounts.iter().find(|mount| Path::new(&folder).starts_with(&mount.host));
            let mounted = covering.is_some_and(|mount| !mount.file);
            if !mounted {
                let single = mounts.iter().any(|mount| mount.file && file.starts_with(&mount.host));
                let why = if single {
                    ", the folder and not the file: a mounted file keeps its inode and never changes"
                } else {
                    ""
                };
                missing.push(format!(
                    "a hostPath volume of {folder} (type Directory), mounted at {folder}{why}"
                ));
            }
        }
        missing
    }

    /// Where a path of the container is on the host.
    fn on_host(&self, path: &str) -> String {
        let mounts = self.mounts.iter().flatten();
        let inside = mounts.filter_map(|mount| {
            let rest = Path::new(path).strip_prefix(&mount.container).ok()?;
            Some((mount.container.len(), Path::new(&mount.host).join(rest)))
        });
        let found = inside.max_by_key(|(length, _)| *length);
        found.map_or_else(
            || path.to_owned(),
            |(_, found)| found.display().to_string().trim_end_matches('/').to_owned(),
        )
    }
}

/// As Go reads it.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Whether an upgrade by kubeadm keeps the flags: it writes the static pod anew from its ClusterConfiguration, which is
/// `data.ClusterConfiguration` of the ConfigMap `kubeadm-config`. `None` when the text is not one that we know.
pub fn survives_kubeadm(cluster_configuration: &str) -> Option<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ClusterConfiguration {
        api_version: String,
        #[serde(default)]
        api_server: Component,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Component {
        #[serde(default)]
        extra_args: Value,
    }
    let read: ClusterConfiguration = serde_saphyr::from_str(cluster_configuration).ok()?;
    if !read.api_version.starts_with("kubeadm.k8s.io/") {
        return None;
    }
    // A map until v1beta3, a list of name and value since v1beta4.
    let named = |name: &str| match &read.api_server.extra_args {
        Value::Object(map) => map.get(name).and_then(text),
        Value::Array(list) => list
            .iter()
            .rev()
            .find(|entry| entry["name"] == name)
            .and_then(|entry| text(&entry["value"])),
        _ => None,
    };
    let flag = |flag: &str| named(flag.trim_start_matches('-'));
    Some(flag(CONFIG).is_some_and(|value| !value.is_empty()) && flag(RELOAD).is_some_and(|value| is_true(&value)))
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

    fn missing(arguments: &[&str]) -> Vec<String> {
        Flags::of_command(arguments.iter().copied()).missing(Path::new(FILE))
    }

    #[test]
    fn a_command_line_is_read_as_go_reads_it() {
        let config = format!("{CONFIG}={FILE}");
        assert_eq!(missing(&[&config, &format!("{RELOAD}=true")]), [] as [&str; 0]);
        assert_eq!(
            missing(&[CONFIG, FILE, RELOAD]),
            [] as [&str; 0],
            "a value may be a word of its own"
        );
        assert_eq!(missing(&[&config]), [format!("{RELOAD}=true")]);
        assert_eq!(
            missing(&[&config, RELOAD, &format!("{RELOAD}=false")]),
            [format!("{RELOAD}=true")],
            "the last counts"
        );
        assert_eq!(missing(&[]), [config.clone(), format!("{RELOAD}=true")]);
        let other = missing(&[&format!("{CONFIG}=/etc/other.yaml"), RELOAD]);
        assert_eq!(other, [format!("{config} in the place of /etc/other.yaml")]);
    }

    fn manifest(volume: &str, config: &str) -> Flags {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: kube-apiserver\n    command: [kube-apiserver, \
             '{CONFIG}={config}', '{RELOAD}=true']\n    volumeMounts: [{{name: keys, mountPath: /keys}}]\n  \
             volumes: [{{name: keys, hostPath: {volume}}}]\n"
        );
        Flags::of_manifest(&text).unwrap()
    }

    #[test]
    fn in_a_static_pod_the_path_is_that_of_the_host() {
        let folder = "{path: /etc/kubernetes/cloison, type: Directory}";
        let flags = manifest(folder, "/keys/encryption.json");
        assert_eq!(flags.missing(Path::new(FILE)), [] as [&str; 0]);
        let other = manifest(folder, "/etc/kubernetes/pki/encryption.json").missing(Path::new(FILE));
        assert_eq!(other.len(), 1, "{other:?}");
    }

    #[test]
    fn a_mounted_file_never_changes_and_is_asked_to_be_a_folder() {
        let file = format!("{{path: {FILE}, type: File}}");
        let missing = manifest(&file, "/keys").missing(Path::new(FILE));
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].contains("the folder and not the file"), "{missing:?}");
    }

    #[test]
    fn kubeadm_keeps_what_its_configuration_says() {
        let list = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - name: \
             encryption-provider-config\n    value: {FILE}\n  - name: encryption-provider-config-automatic-reload\n    \
             value: 'true'\n"
        );
        assert_eq!(survives_kubeadm(&list), Some(true));
        let map = format!(
            "apiVersion: kubeadm.k8s.io/v1beta3\napiServer:\n  extraArgs:\n    encryption-provider-config: {FILE}\n"
        );
        assert_eq!(
            survives_kubeadm(&map),
            Some(false),
            "without the reload a rotation stands still"
        );
        assert_eq!(survives_kubeadm("apiVersion: kubeadm.k8s.io/v1beta4\n"), Some(false));
        assert_eq!(survives_kubeadm("apiVersion: k0s.k0sproject.io/v1beta1\n"), None);
        assert_eq!(survives_kubeadm("- no: map"), None);
    }
}
