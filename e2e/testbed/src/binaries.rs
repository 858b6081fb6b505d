use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::processes::lock;
use crate::work_dir::repository;
use crate::{Error, Minor};

/// A program of the test control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tool {
    /// etcd, the database.
    Etcd,
    /// kube-apiserver of one minor version.
    KubeApiserver(Minor),
    /// kube-apiserver of the newest version that looks at its EncryptionConfiguration each second.
    KubeApiserverFast,
    /// kube-controller-manager.
    KubeControllerManager,
    /// kubectl.
    Kubectl,
    /// Helm 4.
    Helm,
    /// kubeconform, which validates manifests against schemas.
    Kubeconform,
    /// cyclonus, which says what NetworkPolicies allow.
    Cyclonus,
    /// A Python that has network-config-analyzer, which says what NetworkPolicies allow.
    NetworkConfigAnalyzer,
    /// Calico's Felix, which enforces NetworkPolicies on a node. Calico's CRDs are beside it, in `calico-crds`.
    CalicoFelix,
    /// age, which opens what was sealed for a recipient.
    Age,
    /// A KMS v2 plugin whose key_id is what a file says.
    KmsPlugin,
    /// cert-manager, which issues certificates. Its CRDs are beside it, in `cert-manager-crds`.
    CertManager,
}

impl Tool {
    /// The file name in the build folder, which is also the argument of `e2e/toolchain/build`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver(Minor::V1_36) => "kube-apiserver-1.36",
            Self::KubeApiserver(Minor::V1_33) => "kube-apiserver-1.33",
            Self::KubeApiserverFast => "kube-apiserver-fast",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
            Self::Cyclonus => "cyclonus",
            Self::NetworkConfigAnalyzer => "network-config-analyzer",
            Self::CalicoFelix => "calico-felix",
            Self::Age => "age",
            Self::KmsPlugin => "kms-plugin",
            Self::CertManager => "cert-manager",
        }
    }

    /// The variable and the file name of the envtest contract. The floor's API server has neither: a
    /// program given as "the" API server is the newest.
    fn envtest(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Etcd => Some(("TEST_ASSET_ETCD", "etcd")),
            Self::KubeApiserver(Minor::V1_36) => Some(("TEST_ASSET_KUBE_APISERVER", "kube-apiserver")),
            Self::KubeControllerManager => Some(("TEST_ASSET_KUBE_CONTROLLER_MANAGER", "kube-controller-manager")),
            Self::Kubectl => Some(("TEST_ASSET_KUBECTL", "kubectl")),
            Self::KubeApiserver(Minor::V1_33)
            | Self::KubeApiserverFast
            | Self::Helm
            | Self::Kubeconform
            | Self::Cyclonus
            | Self::NetworkConfigAnalyzer
            | Self::CalicoFelix
            | Self::Age
            | Self::KmsPlugin
            | Self::CertManager => None,
        }
    }
}

/// Where a program is: `TEST_ASSET_…`, else in `KUBEBUILDER_ASSETS`, else built by `e2e/toolchain/build`.
///
/// Blocks: the first build takes minutes, and says so on standard error. Later calls cost nothing.
pub fn find(tool: Tool) -> Result<PathBuf, Error> {
    static FOUND: Mutex<BTreeMap<Tool, PathBuf>> = Mutex::new(BTreeMap::new());
    if let Some(path) = lock(&FOUND).get(&tool) {
        return Ok(path.clone());
    }
    let path = match given(tool, from_environment)? {
        Some(path) => path,
        None => build(tool)?,
    };
    lock(&FOUND).insert(tool, path.clone());
    Ok(path)
}

/// [`find`] for async code, off the runtime's threads.
pub(crate) async fn find_in_background(tool: Tool) -> Result<PathBuf, Error> {
    let search = tokio::task::spawn_blocking(move || find(tool)).await;
    search.map_err(|error| failure(tool, error.to_string()))?
}

/// What the environment names, by `variable`; `None` where it names nothing.
fn given(tool: Tool, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    let Some((asset, file_name)) = tool.envtest() else {
        return Ok(None);
    };
    if let Some(path) = variable(asset) {
        return if path.is_file() {
            Ok(Some(path))
        } else {
            Err(failure(tool, format!("{asset}={} is not a file", path.display())))
        };
    }
    let asset = variable("KUBEBUILDER_ASSETS").map(|folder| folder.join(file_name));
    Ok(asset.filter(|path| path.is_file()))
}

fn from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn build(tool: Tool) -> Result<PathBuf, Error> {
    let script = repository().join("e2e/toolchain/build");
    let output = Command::new(&script)
        .arg(tool.name())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failure(tool, format!("cannot run {}: {error}", script.display())))?;
    if !output.status.success() {
        return Err(failure(tool, format!("{} failed, see above", script.display())));
    }
    // The script prints the path of each program that it was asked for, and nothing else, on standard output.
    let path = String::from_utf8_lossy(&output.stdout);
    let path = Path::new(path.trim()).to_path_buf();
    if path.is_file() {
        Ok(path)
    } else {
        Err(failure(tool, format!("{} printed no path", script.display())))
    }
}

fn failure(tool: Tool, reason: String) -> Error {
    Error::Tool {
        tool: tool.name().to_string(),
        reason,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_asked_in_the_order_of_envtest() {
        let folder = std::env::temp_dir().join(format!("cloison-binaries-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (own, asset) = (folder.join("own"), folder.join("kube-apiserver"));
        std::fs::write(&own, "").unwrap();
        std::fs::write(&asset, "").unwrap();
        let newest = Tool::KubeApiserver(Minor::V1_36);
        let says = |tool, variables: &[(&str, &Path)]| {
            given(tool, |wanted| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, path)| path.to_path_buf())
            })
        };
        let (program, assets) = ("TEST_ASSET_KUBE_APISERVER", "KUBEBUILDER_ASSETS");
        let both = [(assets, folder.as_path()), (program, own.as_path())];
        assert_eq!(says(newest, &both).unwrap(), Some(own.clone()));
        assert_eq!(says(newest, &both[..1]).unwrap(), Some(asset));
        assert_eq!(says(newest, &[]).unwrap(), None, "it is built");
        // A folder without the program, and tools that envtest does not know, are built too.
        assert_eq!(says(Tool::Etcd, &both[..1]).unwrap(), None);
        assert_eq!(says(Tool::KubeApiserver(Minor::V1_33), &both).unwrap(), None);
        assert_eq!(says(Tool::Helm, &both).unwrap(), None);
        // Who names a program means it: nothing else is taken in its place.
        let said = says(newest, &[(assets, folder.as_path()), (program, &folder.join("none"))]);
        let said = said.unwrap_err().to_string();
        assert!(
            said.contains("TEST_ASSET_KUBE_APISERVER=") && said.ends_with("is not a file"),
            "{said}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
