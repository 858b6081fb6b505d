use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::binaries::find_in_background;
use crate::certificates::{CertifiedFiles, SERVICE_ADDRESS, write};
use crate::identities::{Credentials, Identity};
use crate::processes::{Process, Recipe, lock};
use crate::replace::replace_file;
use crate::shared::Shared;
use crate::{ApiServerOptions, Error, Metrics};

/// The label of the leases by which the replicas of the API server show their identities.
pub(crate) const IDENTITY_LABEL: &str = "apiserver.kubernetes.io/identity=kube-apiserver";

/// One replica of the API server.
///
/// It has a host name of its own (a replica's identity is a hash of it) and an address of its own. Address
/// and port stay the same across restarts.
#[derive(Debug)]
pub struct ApiServer {
    index: usize,
    address: Ipv4Addr,
    port: u16,
    hostname: String,
    serving: CertifiedFiles,
    admin: Identity,
    options: Mutex<ApiServerOptions>,
    process: Process,
    shared: Arc<Shared>,
}

impl ApiServer {
    /// `own_hostname` needs a UTS namespace, which some containers forbid; a lone replica does without.
    pub(crate) fn create(
        index: usize,
        (address, port): (Ipv4Addr, u16),
        own_hostname: bool,
        options: ApiServerOptions,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let name = format!("api-server-{index}");
        let serving = shared.authority.write(&name, &shared.authority.api_server(address)?)?;
        let hostname = if own_hostname {
            format!("control-plane-{index}")
        } else {
            let path = "/proc/sys/kernel/hostname";
            let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
            text.trim().to_string()
        };
        let admin = Identity {
            endpoint: format!("https://{address}:{port}"),
            name: "admin".into(),
            namespace: "default".into(),
            credentials: Credentials::Certificate(shared.authority.client("admin", &["system:masters"])?),
            authority: shared.authority.clone(),
            work_dir: shared.work_dir.clone(),
        };
        let process = Process::new(Recipe {
            log: shared.work_dir.logs().join(format!("{name}.log")),
            name,
            program: PathBuf::new(),
            arguments: Vec::new(),
            hostname: own_hostname.then(|| hostname.clone()),
        });
        let server = Self {
            index,
            address,
            port,
            hostname,
            serving,
            admin,
            options: Mutex::new(options),
            process,
            shared,
        };
        for folder in ["encryption", "audit"] {
            let folder = server.folder().join(folder);
            std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        }
        if let Some(config) = &server.options().encryption_config {
            server.write_encryption_config(config)?;
        }
        Ok(server)
    }

    /// The position in [`Options::api_servers`](crate::Options::api_servers).
    pub fn index(&self) -> usize {
        self.index
    }

    /// `https://127.x.y.z:port`.
    pub fn url(&self) -> &str {
        &self.admin.endpoint
    }

    /// The loopback address that only this replica listens on.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port, which is the same for all replicas of a control plane.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host name, which the replica also puts on its identity lease (`kubernetes.io/hostname`).
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// A new client of the group `system:masters` that talks to this replica only.
    pub fn admin(&self) -> Result<Client, Error> {
        self.admin.client()
    }

    /// An admin's kubeconfig file for this replica.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf, Error> {
        self.admin.kubeconfig()
    }

    /// Any user in any groups, by a client certificate, talking to this replica only.
    pub fn identity(&self, user: &str, groups: &[&str]) -> Result<Identity, Error> {
        let certified = self.shared.authority.client(user, groups)?;
        Ok(Identity {
            name: user.to_string(),
            credentials: Credentials::Certificate(certified),
            ..self.admin.clone()
        })
    }

    /// Whoever a bearer token says it is, talking to this replica only.
    pub fn identity_of_token(&self, name: &str, token: &str) -> Identity {
        Identity {
            name: name.to_string(),
            credentials: Credentials::Token(token.to_string()),
            ..self.admin.clone()
        }
    }

    /// The name of this replica's identity lease in kube-system, `apiserver-…`.
    pub async fn identity_lease(&self) -> Result<String, Error> {
        let leases: Api<Lease> = Api::namespaced(self.admin()?, "kube-system");
        let selector = format!("{IDENTITY_LABEL},kubernetes.io/hostname={}", self.hostname);
        let found = leases.list(&ListParams::default().labels(&selector)).await?;
        let name = found.items.into_iter().find_map(|lease| lease.metadata.name);
        name.ok_or_else(|| Error::Usage(format!("no identity lease of {}", self.hostname)))
    }

    /// What this replica's `/metrics` says now.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        let request = http::Request::get("/metrics")
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        Ok(Metrics::new(self.admin()?.request_text(request).await?))
    }

    /// The options that the replica runs with, or will at its next start.
    pub fn options(&self) -> ApiServerOptions {
        lock(&self.options).clone()
    }

    /// The process id while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Starts the replica unless it runs, and returns when it is ready and among the endpoints.
    pub async fn start(&self) -> Result<(), Error> {
        self.start_unlisted().await?;
        self.shared.endpoints.add(self.address);
        self.shared.endpoints.publish(&self.shared.etcd).await
    }

    /// Starts the replica without telling clients that it exists.
    pub(crate) async fn start_unlisted(&self) -> Result<(), Error> {
        let options = self.options();
        let program = find_in_background(options.tool()).await?;
        self.process.set_arguments(program, self.arguments(&options)?);
        self.process.start()?;
        let client = self.admin.client_with(|config| config.default_retry = false)?;
        self.process
            .ready(self.shared.start_deadline, async || {
                let request = http::Request::get("/readyz").body(Vec::new());
                let request = request.map_err(|error| error.to_string())?;
                let answer = client.request_text(request).await;
                answer.map(drop).map_err(|error| error.to_string())
            })
            .await
    }

    /// Stops the replica in an orderly way and takes it off the endpoints.
    pub async fn stop(&self) -> Result<(), Error> {
        self.shared.endpoints.remove(self.address);
        if self.shared.etcd.process_id().is_some() {
            self.shared.endpoints.publish(&self.shared.etcd).await?;
        }
        self.process.stop(Duration::from_secs(10)).await;
        Ok(())
    }

    /// Kills the replica (SIGKILL). It stays among the endpoints, as after a real crash.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops and starts, with the same options. The encryption configuration file stays as it is, so this
    /// makes a changed one effective at once, where the reload may take a minute.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start().await
    }

    /// Stops, and starts with changed options. The encryption configuration file is written anew only if
    /// that option changed.
    pub async fn restart_with(&self, change: impl FnOnce(&mut ApiServerOptions)) -> Result<(), Error> {
        self.stop().await?;
        let config = {
            let mut options = lock(&self.options);
            let before = options.encryption_config.clone();
            change(&mut options);
            options
                .encryption_config
                .clone()
                .filter(|now| before.as_ref() != Some(now))
        };
        if let Some(config) = config {
            self.write_encryption_config(&config)?;
        }
        self.start().await
    }

    /// The file of `--encryption-provider-config`. It is alone in its folder, as an agent expects that
    /// mounts the folder and renames a new file into place.
    pub fn encryption_config_file(&self) -> PathBuf {
        self.folder().join("encryption/config.json")
    }

    /// Replaces the encryption configuration file atomically.
    ///
    /// The replica reads it again within a minute; [`ApiServer::restart`] makes it effective at once. Needs
    /// [`ApiServerOptions::encryption_config`] to have been set when the replica was started.
    pub fn write_encryption_config(&self, config: &str) -> Result<(), Error> {
        if lock(&self.options).encryption_config.is_none() {
            return Err(Error::Usage(format!(
                "api-server-{} was started without ApiServerOptions::encryption_config, so it reads no such file",
                self.index
            )));
        }
        replace_file(&self.encryption_config_file(), config.as_bytes())
    }

    /// The audit log, one JSON object per line; see [`ApiServerOptions::audit_policy`].
    pub fn audit_log(&self) -> PathBuf {
        self.folder().join("audit/audit.log")
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    fn folder(&self) -> PathBuf {
        self.shared.work_dir.path().join(format!("api-server-{}", self.index))
    }

    fn arguments(&self, options: &ApiServerOptions) -> Result<Vec<OsString>, Error> {
        let Shared { authority, etcd, .. } = &*self.shared;
        let certificates = self.shared.work_dir.certificates();
        let mut flags = vec![
            format!("--etcd-servers={}", etcd.url()),
            format!("--etcd-cafile={}", etcd.authority_file().display()),
            format!("--etcd-certfile={}", etcd.certificate_file().display()),
            format!("--etcd-keyfile={}", etcd.key_file().display()),
            format!("--bind-address={}", self.address),
            // Left out, the server looks for a default route, which an isolated machine may not have.
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--client-ca-file={}", authority.file().display()),
            format!("--cert-dir={}", certificates.display()),
            format!("--service-cluster-ip-range={SERVICE_ADDRESS}/16"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!(
                "--service-account-key-file={}",
                authority.token_public_key_file().display()
            ),
            format!(
                "--service-account-signing-key-file={}",
                authority.token_key_file().display()
            ),
            "--authorization-mode=Node,RBAC".into(),
            "--anonymous-auth=false".into(),
            // Left out, core validation refuses privileged pods before any policy of ours sees them.
            "--allow-privileged=true".into(),
            // Webhooks and aggregated APIs are reached by endpoint address: there is no kube-proxy.
            "--enable-aggregator-routing=true".into(),
            // See endpoints.rs.
            "--endpoint-reconciler-type=none".into(),
            "--profiling=false".into(),
            // Ends open watches at a stop; without it a stop waits a minute for them.
            "--shutdown-watch-termination-grace-period=500ms".into(),
        ];
        if let Some(interval) = self.shared.etcd_compaction_interval {
            flags.push(format!("--etcd-compaction-interval={}ms", interval.as_millis()));
        }
        if !options.disable_admission_plugins.is_empty() {
            let plugins = options.disable_admission_plugins.join(",");
            flags.push(format!("--disable-admission-plugins={plugins}"));
        }
        if options.encryption_config.is_some() {
            let file = self.encryption_config_file();
            flags.push(format!("--encryption-provider-config={}", file.display()));
            flags.push("--encryption-provider-config-automatic-reload=true".into());
        }
        if let Some(policy) = &options.audit_policy {
            let file = self.folder().join("audit/policy.yaml");
            write(&file, policy.as_bytes())?;
            flags.push(format!("--audit-policy-file={}", file.display()));
            flags.push(format!("--audit-log-path={}", self.audit_log().display()));
        }
        flags.extend(options.extra_args.iter().cloned());
        Ok(flags.into_iter().map(OsString::from).collect())
    }
}
