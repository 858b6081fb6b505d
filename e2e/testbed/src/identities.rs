use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::certificates::{Authority, Certified};
use crate::replace::replace_file;
use crate::{Error, WorkDir};

/// Who somebody is to the API server, and to which replica they talk.
///
/// Clients belong to the tokio runtime that makes them, and every `#[tokio::test]` has its own: make a
/// client where it is used, and share the identity instead.
#[derive(Clone)]
pub struct Identity {
    pub(crate) endpoint: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) credentials: Credentials,
    pub(crate) authority: Arc<Authority>,
    pub(crate) work_dir: Arc<WorkDir>,
}

#[derive(Clone)]
pub(crate) enum Credentials {
    Certificate(Certified),
    Token(String),
}

impl Identity {
    /// A new client; its TLS connection is verified against the authority of the control plane.
    pub fn client(&self) -> Result<Client, Error> {
        self.client_with(|_| {})
    }

    /// A new client with a changed configuration, for example with `tls_server_name` set.
    pub fn client_with(&self, change: impl FnOnce(&mut Config)) -> Result<Client, Error> {
        let url = self
            .endpoint
            .parse()
            .map_err(|error| Error::Usage(format!("{}: {error}", self.endpoint)))?;
        let mut config = Config::new(url);
        config.default_namespace.clone_from(&self.namespace);
        config.root_cert = Some(vec![self.authority.der()]);
        config.auth_info = self.auth_info()?;
        change(&mut config);
        Ok(Client::try_from(config)?)
    }

    /// Writes a kubeconfig file for kubectl, helm and other programs. It lives as long as the plane.
    pub fn kubeconfig(&self) -> Result<PathBuf, Error> {
        let text = self.kubeconfig_text();
        // One user may have several identities: in other groups, with another token, at another replica.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let user = self.name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        let file_name = format!("{user}-{:016x}.kubeconfig", hasher.finish());
        let path = self.work_dir.kubeconfigs().join(file_name);
        replace_file(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Writes a kubeconfig file to a place of the caller's choice.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<(), Error> {
        replace_file(path, self.kubeconfig_text().as_bytes())
    }

    /// The same identity with another default namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// As JSON, which is YAML too.
    fn kubeconfig_text(&self) -> String {
        let cluster = json!({
            "server": self.endpoint,
            "certificate-authority-data": STANDARD.encode(self.authority.pem()),
        });
        let context = json!({ "cluster": "testbed", "user": self.name, "namespace": self.namespace });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": cluster }],
            "users": [{ "name": self.name, "user": self.user() }],
            "contexts": [{ "name": "testbed", "context": context }],
            "current-context": "testbed",
        });
        format!("{config:#}\n")
    }

    fn auth_info(&self) -> Result<AuthInfo, Error> {
        serde_json::from_value(self.user()).map_err(|error| Error::Usage(error.to_string()))
    }

    /// The user entry of a kubeconfig.
    fn user(&self) -> Value {
        match &self.credentials {
            Credentials::Certificate(certified) => json!({
                "client-certificate-data": STANDARD.encode(&certified.certificate),
                "client-key-data": STANDARD.encode(&certified.key),
            }),
            Credentials::Token(token) => json!({ "token": token }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
