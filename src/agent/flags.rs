//! The flags that an API server runs with, as far as encryption goes: read from its command line or from its static pod,
//! never written. Pure; the files are read elsewhere.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

/// Names the configuration file.
pub(super) const CONFIG: &str = "--encryption-provider-config";
/// Makes the API server read it again.
pub(super) const RELOAD: &str = "--encryption-provider-config-automatic-reload";
/// How long a request may take.
const REQUEST_TIMEOUT: &str = "--request-timeout";
/// No API server is given longer; the schema of the report bounds it.
const LONGEST_REQUEST: Duration = Duration::from_hours(24);
/// Without that flag.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// What is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The configuration file.
    pub config: Option<String>,
    /// Whether it is read again when it changes.
    pub reload: bool,
    /// How long a request may take, as the flag says it.
    pub request_timeout: Option<String>,
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
            if matches!(name, CONFIG | REQUEST_TIMEOUT) && value.is_none() {
                value = arguments.next_if(|next| !next.starts_with("--"));
            }
            match name {
                CONFIG => flags.config = value.filter(|value| !value.is_empty()).map(str::to_owned),
                REQUEST_TIMEOUT => flags.request_timeout = value.map(str::to_owned),
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

    /// How long a request to this API server may take: what the flag says, and a day where it says more, or nothing that we
    /// understand, or zero, which is no end.
    pub fn longest_request(&self) -> Duration {
        match &self.request_timeout {
            None => REQUEST_TIMEOUT_DEFAULT,
            Some(text) => go_duration(text)
                .filter(|timeout| !timeout.is_zero())
                .map_or(LONGEST_REQUEST, |timeout| timeout.min(LONGEST_REQUEST)),
        }
    }

    /// What has to be added so that this API server reads `file` of the host and reads it again, ready to copy; nothing
    /// when it does.
    pub fn missing(&self, file: &Path) -> Vec<String> {
        let folder = folder(file);
        let mut missing = Vec::new();
        match &self.config {
            _ if self.reads(file) => {}
            None => missing.push(format!("{CONFIG}={}", file.display())),
            Some(config) => missing.push(format!("{CONFIG}={} in the place of {config}", file.display())),
        }
        if !self.reload {
            missing.push(format!("{RELOAD}=true"));
        }
        if !self.sees(file) {
            let mut mounts = self.mounts.iter().flatten();
            let single = mounts.any(|mount| mount.file && file.starts_with(&mount.host));
            let why = if single {
                ", the folder and not the file: a mounted file keeps its inode and never changes"
            } else {
                ""
            };
            missing.push(format!(
                "a hostPath volume of {folder} (type Directory), mounted at {folder}{why}"
            ));
        }
        missing
    }

    /// Whether the flag names this file of the host.
    pub(super) fn reads(&self, file: &Path) -> bool {
        let named = self.config.as_ref().map(|config| self.on_host(config));
        named.is_some_and(|named| named == file.display().to_string())
    }

    /// Whether the folder of this file is there for it, and not the file alone.
    pub(super) fn sees(&self, file: &Path) -> bool {
        let folder = folder(file);
        self.mounts.as_ref().is_none_or(|mounts| {
            let covering = mounts.iter().find(|mount| Path::new(&folder).starts_with(&mount.host));
            covering.is_some_and(|mount| !mount.file)
        })
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

/// The folder of a file, as it is named in a volume.
pub(super) fn folder(file: &Path) -> String {
    file.parent().unwrap_or(file).display().to_string()
}

/// As Go writes it: `1m30s`.
fn go_duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

/// As Go reads it.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
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

    #[test]
    fn how_long_a_request_may_take_is_read_as_go_reads_it() {
        let longest = |arguments: &[&str]| Flags::of_command(arguments.iter().copied()).longest_request();
        let given = |value: &str| longest(&[&format!("{REQUEST_TIMEOUT}={value}")]);
        assert_eq!(longest(&[]), Duration::from_mins(1), "the default");
        assert_eq!(given("1m30s"), Duration::from_secs(90));
        assert_eq!(given("1.5h"), Duration::from_mins(90));
        assert_eq!(given("+300ms"), Duration::from_millis(300));
        assert_eq!(
            longest(&[REQUEST_TIMEOUT, "5m", RELOAD]),
            Duration::from_mins(5),
            "a value may be a word of its own"
        );
        for unclear in ["0", "0s", "", "90", "-5s", "5d", ".s", "s", "1e999h", "25h"] {
            assert_eq!(given(unclear), Duration::from_hours(24), "{unclear:?}");
        }
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
}
