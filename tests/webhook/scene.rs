//! A cluster with the chart, a controller that writes the webhook's configuration, and webhooks as processes under the
//! chart's own account.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cloison::api::{AiSecurityPolicy, names};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::operator::{self, PATIENCE, plain};
use crate::{audit, raw};

pub struct Scene {
    pub plane: ControlPlane,
    pub admin: Client,
    controller: Program,
}

impl Scene {
    /// Without a webhook yet, and so with a configuration that refuses nothing.
    pub async fn start() -> Self {
        let api_server = ApiServerOptions {
            audit_policy: Some(audit::policy()),
            ..ApiServerOptions::default()
        };
        Self::start_with(vec![api_server], &[]).await
    }

    /// The same with other API servers, and values of the chart as for `--set`.
    pub async fn start_with(api_servers: Vec<ApiServerOptions>, values: &[&str]) -> Self {
        let options = Options {
            api_servers,
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        operator::install(&plane, values);
        let controller = controller(&plane).await;
        controller.start().unwrap();
        let admin = plane.admin().unwrap();
        let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
        eventually(PATIENCE, "the first AiSecurityPolicy", || async {
            policies.get(names::SINGLETON).await.map(|_| ())
        })
        .await
        .unwrap();
        Self {
            plane,
            admin,
            controller,
        }
    }

    /// Ends the controller, without a word.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn kill_controller(&self) {
        self.controller.kill();
    }

    /// Starts it again.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn start_controller(&self) {
        self.controller.start().unwrap();
    }

    /// Waits until the controller leads.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn leads(&self) {
        operator::metric_is(&self.controller, "cloison_leader", &[], |leads| leads == 1).await;
    }

    /// A webhook that runs, and where it answers.
    pub async fn webhook(&self, name: &str) -> Webhook {
        let program = webhook(&self.plane, name, "").await;
        program.start().unwrap();
        listening(program).await
    }

    /// Leads the Service to a webhook, and waits until the configuration refuses without an answer.
    pub async fn lead_to(&self, webhook: &Webhook) {
        self.route(webhook).await;
        eventually(PATIENCE, "the configuration is in force", || async {
            let found = self.configuration().await.ok_or("there is none")?;
            let entries = found.webhooks.unwrap_or_default();
            let strict = entries
                .iter()
                .filter(|entry| entry.failure_policy.as_deref() == Some("Fail"))
                .count();
            if strict >= 2 {
                Ok(())
            } else {
                Err("it refuses nothing yet")
            }
        })
        .await
        .unwrap();
        // The API server follows the configuration by a watch.
        self.refuses("probe", webhook).await;
    }

    pub async fn route(&self, webhook: &Webhook) {
        let to = webhook.address;
        self.plane
            .route_service(names::DEFAULT_NAMESPACE, names::WEBHOOK_ACCOUNT, to)
            .await
            .unwrap();
    }

    /// Waits until the webhook refuses a Waiver of a control that does not exist, which no policy judges.
    async fn refuses(&self, name: &str, webhook: &Webhook) {
        eventually(PATIENCE, "the API server asks the webhook", || async {
            // The controller of Endpoints knows nothing of ours, and may have taken them away.
            self.route(webhook).await;
            let mut unknown = waiver(name);
            unknown["spec"]["controls"] = json!(["SUP-99"]);
            match create(&self.admin, unknown, true).await {
                Err(kube::Error::Api(status)) if status.message.contains("OPS-02/unknown-control") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }

    pub async fn configuration(&self) -> Option<ValidatingWebhookConfiguration> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.admin.clone());
        api.get_opt(names::WEBHOOK_CONFIGURATION).await.unwrap()
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), names::DEFAULT_NAMESPACE)
    }

    /// The Secret's content, as text.
    pub async fn material(&self) -> BTreeMap<String, String> {
        let secret = self.secrets().get(names::WEBHOOK_SECRET).await.unwrap();
        let text = |(key, value): (String, ByteString)| (key, String::from_utf8(value.0).unwrap());
        secret.data.unwrap_or_default().into_iter().map(text).collect()
    }

    /// Puts other content into the Secret.
    pub async fn put(&self, material: &BTreeMap<String, String>) {
        let mut secret = self.secrets().get(names::WEBHOOK_SECRET).await.unwrap();
        let bytes = |(key, value): (&String, &String)| (key.clone(), ByteString(value.clone().into_bytes()));
        secret.data = Some(material.iter().map(bytes).collect());
        self.secrets()
            .replace(names::WEBHOOK_SECRET, &PostParams::default(), &secret)
            .await
            .unwrap();
    }

    /// Waits until the Secret is as it should be.
    pub async fn material_where(
        &self,
        what: &str,
        fits: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        eventually(PATIENCE, what, || async {
            let material = self.material().await;
            if fits(&material) { Ok(material) } else { Err("not yet") }
        })
        .await
        .unwrap()
    }

    /// Writes of our own kinds, one after the other, until it is told to stop.
    pub fn load(&self, namespace: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let (admin, namespace, ended, counted) = (self.admin.clone(), namespace.to_owned(), stop.clone(), done.clone());
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !ended.load(Ordering::Acquire) {
                let object = operator::workload(&namespace, "load", "Training", Value::Null);
                if let Err(error) = create(&admin, object, true).await {
                    failures.push(error.to_string());
                }
                counted.fetch_add(1, Ordering::AcqRel);
            }
            failures
        });
        Load { stop, done, task }
    }
}

/// Waits until a webhook that was started listens.
pub async fn listening(program: Program) -> Webhook {
    let address = eventually(PATIENCE, "the webhook listens", || async {
        let output = plain(&program.output());
        let line = output
            .lines()
            .rfind(|line| line.contains("webhook listens"))
            .ok_or("not yet")?;
        let address = line.rsplit_once("address=").ok_or("no address")?.1.trim().to_owned();
        address.parse::<SocketAddrV4>().map_err(|_| "no address")
    })
    .await
    .unwrap();
    Webhook { program, address }
}

/// New connections to each webhook, by what the configuration says at that moment, until it is told to stop. The API server
/// itself keeps the connection that it has.
pub fn handshakes(admin: &Client, webhooks: [&Webhook; 2]) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let addresses = webhooks.map(|webhook| webhook.address);
    let api: Api<ValidatingWebhookConfiguration> = Api::all(admin.clone());
    let (ended, counted) = (stop.clone(), done.clone());
    let task = tokio::spawn(async move {
        let mut failures = Vec::new();
        while !ended.load(Ordering::Acquire) {
            let configuration = api.get(names::WEBHOOK_CONFIGURATION).await.unwrap();
            let bundle = configuration.webhooks.unwrap()[0]
                .client_config
                .ca_bundle
                .clone()
                .unwrap();
            let bundle = String::from_utf8(bundle.0).unwrap();
            for address in addresses {
                if let Err(error) = raw::handshake(address, &bundle).await {
                    failures.push(format!("{address}: {error}"));
                }
            }
            counted.fetch_add(1, Ordering::AcqRel);
        }
        failures
    });
    Load { stop, done, task }
}

/// A webhook that runs.
pub struct Webhook {
    pub program: Program,
    pub address: SocketAddrV4,
}

/// Requests that go on.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub done: Arc<AtomicUsize>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    /// Waits for so many more requests.
    pub async fn goes_on(&self, more: usize) {
        let wanted = self.done.load(Ordering::Acquire) + more;
        eventually(PATIENCE, "requests go on", || async {
            if self.done.load(Ordering::Acquire) >= wanted {
                Ok(())
            } else {
                Err("waiting")
            }
        })
        .await
        .unwrap();
    }

    /// Ends it: none may have failed.
    pub async fn none_failed(self) {
        self.goes_on(20).await;
        self.stop.store(true, Ordering::Release);
        let failures = self.task.await.unwrap();
        let done = self.done.load(Ordering::Acquire);
        assert!(
            failures.is_empty(),
            "{} of {done}: {:?}",
            failures.len(),
            failures.first()
        );
    }
}

async fn controller(plane: &ControlPlane) -> Program {
    let kubeconfig = plane
        .service_account_kubeconfig(names::DEFAULT_NAMESPACE, names::CONTROLLER_ACCOUNT)
        .await
        .unwrap();
    let arguments = format!(
        "controller --webhook --kubeconfig {} --health-address 127.0.0.1:0 --lease-seconds 6 --log info,cloison=debug",
        kubeconfig.display()
    );
    program(plane, "controller", &arguments)
}

/// A webhook with more arguments, not started yet.
pub async fn webhook(plane: &ControlPlane, name: &str, more: &str) -> Program {
    let kubeconfig = plane
        .service_account_kubeconfig(names::DEFAULT_NAMESPACE, names::WEBHOOK_ACCOUNT)
        .await
        .unwrap();
    let arguments = format!(
        "webhook --kubeconfig {} --address 127.0.0.1:0 --health-address 127.0.0.1:0 --log info,cloison=debug {more}",
        kubeconfig.display()
    );
    program(plane, name, &arguments)
}

fn program(plane: &ControlPlane, name: &str, arguments: &str) -> Program {
    let log = plane.logs_dir().join(format!("{name}.log"));
    Program::new(name, env!("CARGO_BIN_EXE_cloison"), arguments.split_whitespace(), log)
}

/// Posts an object; only as a dry-run where it is not to stay.
pub async fn create(client: &Client, object: Value, dry_run: bool) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types = object.types.clone().unwrap();
    let kind = kube::core::GroupVersionKind::try_from(&types).unwrap();
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    api.create(&params, &object).await
}

/// By the admin of these tests.
pub fn waiver(name: &str) -> Value {
    json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name},
        "spec": {
            "target": {"namespace": "train"}, "controls": ["SUP-01"], "reason": "A reason of more than twenty characters",
            "requestedBy": "admin", "expirationTime": in_days(2),
        },
    })
}

fn in_days(days: i64) -> String {
    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
    Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// The Status of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("{other:?}"),
    }
}

/// A moment for what is cached.
pub const MOMENT: Duration = Duration::from_secs(4);
