use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};

use crate::addresses::{free_port, next_address};
use crate::api_server::IDENTITY_LABEL;
use crate::binaries::{Tool, find_in_background};
use crate::certificates::Authority;
use crate::endpoints::{self, Endpoints};
use crate::shared::Shared;
use crate::{
    ApiServer, ApiServerOptions, ControllerManager, Error, Etcd, Identity, Options, WorkDir, eventually, tenants,
};

/// Between SIGTERM and SIGKILL when a control plane is dropped: nothing that it holds has to survive.
const DROP_GRACE: Duration = Duration::from_millis(250);

/// A running control plane: etcd, one or more API servers and, if asked for, a controller manager.
///
/// Methods without an argument for it talk to the first replica. All its processes end when it is dropped,
/// and also when this process dies in whatever way.
#[derive(Debug)]
pub struct ControlPlane {
    api_servers: Vec<ApiServer>,
    controller_manager: Option<ControllerManager>,
    shared: Arc<Shared>,
}

impl ControlPlane {
    /// Starts everything, and returns when all API servers are ready and known by their identities, the
    /// default namespaces exist, and, with a controller manager, so does the `default` ServiceAccount.
    ///
    /// The first start on a machine builds the programs, which takes minutes.
    pub async fn start(options: Options) -> Result<Self, Error> {
        // An error says that somebody else installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        find_all(&options).await?;
        let work_dir = Arc::new(WorkDir::create()?);
        let plane = Self::start_in(work_dir.clone(), options).await;
        if plane.is_err() {
            work_dir.keep();
        }
        plane
    }

    async fn start_in(work_dir: Arc<WorkDir>, options: Options) -> Result<Self, Error> {
        if options.api_servers.is_empty() {
            return Err(Error::Usage("Options::api_servers is empty".into()));
        }
        let authority = Arc::new(Authority::create(work_dir.certificates())?);
        let etcd = Etcd::create(&work_dir, authority.clone())?;
        let addresses: Vec<_> = options.api_servers.iter().map(|_| next_address()).collect();
        let port = free_port(&addresses)?;
        let shared = Arc::new(Shared {
            authority,
            etcd,
            endpoints: Endpoints::new(port),
            etcd_compaction_interval: options.etcd_compaction_interval,
            start_deadline: options.start_deadline,
            work_dir,
        });
        let replicas = options.api_servers.len();
        let mut api_servers = Vec::with_capacity(replicas);
        for (index, server) in options.api_servers.into_iter().enumerate() {
            let place = (addresses[index], port);
            api_servers.push(ApiServer::create(index, place, replicas > 1, server, shared.clone())?);
        }
        let controller_manager = if options.controller_manager {
            Some(ControllerManager::create(
                &api_servers[0],
                &shared,
                options.type_checking,
            )?)
        } else {
            None
        };
        let plane = Self {
            api_servers,
            controller_manager,
            shared,
        };
        plane.start_processes().await?;
        Ok(plane)
    }

    async fn start_processes(&self) -> Result<(), Error> {
        self.shared.etcd.start().await?;
        try_join_all(self.api_servers.iter().map(ApiServer::start_unlisted)).await?;
        for server in &self.api_servers {
            self.shared.endpoints.add(server.address());
        }
        self.shared.endpoints.publish(&self.shared.etcd).await?;
        if let Some(controller_manager) = &self.controller_manager {
            controller_manager.start()?;
        }
        self.namespaces_exist().await?;
        self.identities_are_known().await?;
        if let Some(controller_manager) = &self.controller_manager {
            let accounts: Api<ServiceAccount> = Api::namespaced(self.admin()?, "default");
            controller_manager
                .process()
                .ready(self.shared.start_deadline, async || {
                    accounts
                        .get("default")
                        .await
                        .map(drop)
                        .map_err(|error| error.to_string())
                })
                .await?;
        }
        Ok(())
    }

    async fn namespaces_exist(&self) -> Result<(), Error> {
        let namespaces: Api<Namespace> = Api::all(self.admin()?);
        eventually(self.shared.start_deadline, "the default namespaces exist", async || {
            for name in ["default", "kube-system"] {
                namespaces.get(name).await?;
            }
            Ok::<_, kube::Error>(())
        })
        .await
    }

    /// Two replicas with one identity would look like one, and tests about several would prove nothing.
    async fn identities_are_known(&self) -> Result<(), Error> {
        let leases: Api<Lease> = Api::namespaced(self.admin()?, "kube-system");
        let wanted = self.api_servers.len();
        eventually(
            self.shared.start_deadline,
            "every API server has an identity lease of its own",
            async || {
                let found = leases.list(&ListParams::default().labels(IDENTITY_LABEL)).await;
                match found.map(|list| list.items.len()) {
                    Ok(number) if number == wanted => Ok(()),
                    Ok(number) => Err(format!("{number} leases for {wanted} API servers")),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
        .await
    }

    /// A new client of the group `system:masters`.
    pub fn admin(&self) -> Result<Client, Error> {
        self.api_servers[0].admin()
    }

    /// An admin's kubeconfig file, for kubectl and helm.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf, Error> {
        self.api_servers[0].admin_kubeconfig()
    }

    /// Any user in any groups, by a client certificate. What they may do is for the caller to bind.
    pub fn identity(&self, user: &str, groups: &[&str]) -> Result<Identity, Error> {
        self.api_servers[0].identity(user, groups)
    }

    /// A new client of [`ControlPlane::identity`].
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client, Error> {
        self.identity(user, groups)?.client()
    }

    /// A kubeconfig file of [`ControlPlane::identity`].
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> Result<PathBuf, Error> {
        self.identity(user, groups)?.kubeconfig()
    }

    /// An existing ServiceAccount, with a token from the TokenRequest API that is valid for a day.
    pub async fn service_account_identity(&self, namespace: &str, name: &str) -> Result<Identity, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin()?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(), // the API server's own
                expiration_seconds: Some(24 * 60 * 60),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let identity = self.api_servers[0].identity_of_token(&user, &token);
        Ok(identity.in_namespace(namespace))
    }

    /// A new client of [`ControlPlane::service_account_identity`].
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Client, Error> {
        self.service_account_identity(namespace, name).await?.client()
    }

    /// A kubeconfig file of [`ControlPlane::service_account_identity`].
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        self.service_account_identity(namespace, name).await?.kubeconfig()
    }

    /// A user who is bound to a stock ClusterRole (`edit`, `admin`, `view`) in one existing namespace, and who has its
    /// rights already: also those of kinds whose roles were installed before. It needs the controller manager.
    pub async fn tenant_identity(&self, user: &str, namespace: &str, role: &str) -> Result<Identity, Error> {
        let name = format!("testbed-{user}-{role}");
        let binding = RoleBinding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.to_string()),
                ..Default::default()
            },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".into(),
                kind: "ClusterRole".into(),
                name: role.to_string(),
            },
            subjects: Some(vec![Subject {
                api_group: Some("rbac.authorization.k8s.io".into()),
                kind: "User".into(),
                name: user.to_string(),
                namespace: None,
            }]),
        };
        let bindings: Api<RoleBinding> = Api::namespaced(self.admin()?, namespace);
        let parameters = PatchParams::apply("cloison-testbed");
        bindings.patch(&name, &parameters, &Patch::Apply(&binding)).await?;
        let identity = self.identity(user, &[])?.in_namespace(namespace);
        let (admin, tenant) = (self.admin()?, identity.client()?);
        tenants::rights_arrive(&admin, &tenant, namespace, role, self.shared.start_deadline).await?;
        Ok(identity)
    }

    /// A new client of [`ControlPlane::tenant_identity`].
    pub async fn tenant(&self, user: &str, namespace: &str, role: &str) -> Result<Client, Error> {
        self.tenant_identity(user, namespace, role).await?.client()
    }

    /// The replicas, in the order of the options.
    pub fn api_servers(&self) -> &[ApiServer] {
        &self.api_servers
    }

    /// One replica.
    ///
    /// # Panics
    ///
    /// When there is no replica with this index.
    pub fn api_server(&self, index: usize) -> &ApiServer {
        &self.api_servers[index]
    }

    /// etcd.
    pub fn etcd(&self) -> &Etcd {
        &self.shared.etcd
    }

    /// The controller manager; an error when the control plane was started without one.
    pub fn controller_manager(&self) -> Result<&ControllerManager, Error> {
        self.controller_manager
            .as_ref()
            .ok_or_else(|| Error::Usage("started without Options::controller_manager".into()))
    }

    /// [`ApiServer::write_encryption_config`] on every replica.
    pub fn write_encryption_config(&self, config: &str) -> Result<(), Error> {
        self.api_servers
            .iter()
            .try_for_each(|server| server.write_encryption_config(config))
    }

    /// [`ApiServer::restart`] on every replica, one after the other, as an admin would.
    pub async fn restart_api_servers(&self) -> Result<(), Error> {
        for server in &self.api_servers {
            server.restart().await?;
        }
        Ok(())
    }

    /// Makes an existing Service without a selector lead to a program of the test, for example a webhook.
    ///
    /// Written into etcd like the endpoints of the API servers, because validation refuses loopback
    /// addresses. Every port of the Service leads to the one address.
    pub async fn route_service(&self, namespace: &str, service: &str, to: SocketAddrV4) -> Result<(), Error> {
        let services: Api<Service> = Api::namespaced(self.admin()?, namespace);
        let spec = services.get(service).await?.spec.unwrap_or_default();
        let names = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .map(|port| port.name.unwrap_or_default());
        endpoints::route(&self.shared.etcd, namespace, service, names.collect(), to).await
    }

    /// The folder of this control plane, for files that should go when it goes.
    pub fn folder(&self) -> &Path {
        self.shared.work_dir.path()
    }

    /// Keeps the logs when the control plane goes, as after a failed test. The database goes all the same.
    pub fn keep_logs(&self) {
        self.shared.work_dir.keep();
    }

    /// The folder with one log per process.
    pub fn logs_dir(&self) -> PathBuf {
        self.shared.work_dir.logs()
    }

    /// The file of the authority that every client of this control plane trusts.
    pub fn authority_file(&self) -> PathBuf {
        self.shared.authority.file()
    }

    /// The running processes with their ids, in the order in which they were started.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.all_processes()
            .into_iter()
            .filter_map(|process| Some((process.name(), process.id()?)))
            .collect()
    }

    /// The processes that ended although nobody stopped them, each with how its log ends.
    pub fn deaths(&self) -> Vec<Error> {
        let processes = self.all_processes().into_iter();
        processes.filter_map(crate::processes::Process::death).collect()
    }

    fn all_processes(&self) -> Vec<&crate::processes::Process> {
        let servers = self.api_servers.iter().map(ApiServer::process);
        let manager = self.controller_manager.iter().map(ControllerManager::process);
        [self.shared.etcd.process()]
            .into_iter()
            .chain(servers)
            .chain(manager)
            .collect()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the test saw of it was a refused connection.
            for death in self.deaths() {
                eprintln!("testbed: {death}");
            }
        }
        let processes = self.all_processes();
        for process in &processes {
            process.terminate();
        }
        // etcd is first in the list, but it only has to be gone at the end.
        for process in processes.iter().rev() {
            process.stop_blocking(DROP_GRACE);
        }
    }
}

/// Finds or builds every program before anything is started, since a first build takes minutes.
async fn find_all(options: &Options) -> Result<(), Error> {
    let mut tools = vec![Tool::Etcd];
    tools.extend(options.api_servers.iter().map(ApiServerOptions::tool));
    if options.controller_manager {
        tools.push(Tool::KubeControllerManager);
    }
    for tool in tools {
        find_in_background(tool).await?;
    }
    Ok(())
}
