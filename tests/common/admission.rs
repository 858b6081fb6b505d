//! A control plane with the admission policies in force, as an installation has them: the operator and the canary are
//! real ServiceAccounts under their generated roles, tenants hold the stock roles, people hold what they are given.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::needless_pass_by_value, reason = "tests read better so")]

#[path = "admission/parts.rs"]
mod parts;
#[path = "admission/requests.rs"]
mod requests;

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use cloison::admission::{
    AdmissionProof, Answer, Canary, Operator, PolicySet, ReplicaAnswers, Waived, canaries, canary_labels, generate,
    judge,
};
use cloison::api::definitions::definitions;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::{Waiver, names};
use cloison::cluster::roles::components;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, Error};
use serde_json::{Value, json};

pub use parts::*;
pub use requests::*;

/// Policies take up to a second to bite; a loaded machine takes longer.
pub const SOON: Duration = Duration::from_secs(60);

/// A control plane with policies in force.
pub struct Cluster {
    pub plane: ControlPlane,
    pub operator: Operator,
    in_force: Mutex<(AiSecurityPolicySpec, PolicySet)>,
}

pub type Answered = Result<DynamicObject, Error>;

/// A spec from what a person would write.
pub fn spec(yaml: Value) -> AiSecurityPolicySpec {
    serde_json::from_value(yaml).unwrap()
}

impl Cluster {
    /// Starts everything and returns when the canaries prove the policies on every API server.
    pub async fn start(api_servers: Vec<ApiServerOptions>, spec: AiSecurityPolicySpec) -> Self {
        let cluster = Self::start_unproven(api_servers, spec).await;
        cluster.wait_until_proven().await;
        cluster
    }

    /// The same with a controller manager that type-checks the policies.
    pub async fn start_type_checked(api_servers: Vec<ApiServerOptions>, spec: AiSecurityPolicySpec) -> Self {
        let options = Options {
            api_servers,
            type_checking: true,
            ..Options::default()
        };
        let cluster = Self::start_as(options, spec).await;
        cluster.wait_until_proven().await;
        cluster
    }

    /// Starts everything, and does not wait for any proof.
    pub async fn start_unproven(api_servers: Vec<ApiServerOptions>, spec: AiSecurityPolicySpec) -> Self {
        let options = Options {
            api_servers,
            ..Options::default()
        };
        Self::start_as(options, spec).await
    }

    async fn start_as(options: Options, spec: AiSecurityPolicySpec) -> Self {
        let plane = ControlPlane::start(Options {
            controller_manager: true,
            ..options
        })
        .await
        .unwrap();
        let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
        let set = generate(&spec, &operator, &Waived::default(), Timestamp::UNIX_EPOCH);
        let cluster = Self {
            plane,
            operator,
            in_force: Mutex::new((spec, set)),
        };
        cluster.install().await;
        cluster.put_in_force().await;
        cluster
    }

    /// The set in force.
    pub fn set(&self) -> PolicySet {
        self.in_force.lock().unwrap().1.clone()
    }

    pub fn canaries(&self) -> Vec<Canary> {
        let (spec, set) = self.in_force.lock().unwrap().clone();
        canaries(&set, &spec, Timestamp::UNIX_EPOCH)
    }

    /// Replaces the policies by those of another spec and waits until they are proven.
    pub async fn replace_policy(&self, spec: AiSecurityPolicySpec) {
        self.put_other_in_force(spec).await;
        self.wait_until_proven().await;
    }

    /// The same without the wait.
    pub async fn put_other_in_force(&self, spec: AiSecurityPolicySpec) {
        let set = generate(&spec, &self.operator, &Waived::default(), Timestamp::UNIX_EPOCH);
        *self.in_force.lock().unwrap() = (spec, set);
        self.put_in_force().await;
    }

    /// Puts Waivers into the policies and waits until they are proven.
    pub async fn waive(&self, waivers: &[Waiver]) {
        let now = Timestamp::now();
        {
            let mut in_force = self.in_force.lock().unwrap();
            let waived = Waived::new(waivers, &in_force.0, now);
            in_force.1 = generate(&in_force.0, &self.operator, &waived, now);
        }
        self.put_in_force().await;
        self.wait_until_proven().await;
    }

    pub fn admin(&self) -> Client {
        self.plane.admin().unwrap()
    }

    /// The operator: the controller's ServiceAccount.
    pub async fn operator(&self) -> Client {
        self.plane
            .service_account(&self.operator.namespace, names::CONTROLLER_ACCOUNT)
            .await
            .unwrap()
    }

    pub async fn tenant(&self, user: &str, namespace: &str, role: &str) -> Client {
        self.plane.tenant(user, namespace, role).await.unwrap()
    }

    async fn install(&self) {
        let admin = self.admin();
        for definition in definitions() {
            apply(&admin, definition).await;
        }
        let [client, server] = names::PACKETS_NAMESPACES;
        for namespace in [names::DEFAULT_NAMESPACE, names::CANARY_NAMESPACE, client, server] {
            apply(
                &admin,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            )
            .await;
        }
        let labels = canary_labels();
        let labelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names::CANARY_NAMESPACE, "labels": labels}});
        apply(&admin, labelled).await;
        for account in [names::CONTROLLER_ACCOUNT, names::CANARY_ACCOUNT, names::SWEEPER_ACCOUNT] {
            apply(
                &admin,
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": names::DEFAULT_NAMESPACE}}),
            )
            .await;
        }
        for object in components().iter().flat_map(|it| it.objects(names::DEFAULT_NAMESPACE)) {
            apply(&admin, object).await;
        }
        self.seal(names::CANARY_NAMESPACE, "training", names::DEFAULT_WORKLOAD)
            .await;
        self.default_account(names::CANARY_NAMESPACE).await;
    }

    /// A ClusterRole for a ServiceAccount of the operator's namespace, beside its generated role: to see that a policy
    /// would hold even if the role did not.
    pub async fn grant_more(&self, account: &str, rules: Value) {
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": names::DEFAULT_NAMESPACE});
        self.bind(account, subject, rules).await;
    }

    /// A ClusterRole for a user.
    pub async fn grant_user(&self, user: &str, rules: Value) {
        let subject = json!({"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"});
        self.bind(user, subject, rules).await;
    }

    async fn bind(&self, name: &str, subject: Value, rules: Value) {
        let admin = self.admin();
        let name = format!("test-{}", name.replace(':', "-"));
        apply(
            &admin,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
        )
        .await;
        apply(
            &admin,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": [subject]}),
        )
        .await;
    }

    pub async fn put_in_force(&self) {
        let admin = self.admin();
        let set = self.set();
        for policy in &set.policies {
            apply(
                &admin,
                typed("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", policy),
            )
            .await;
        }
        for binding in &set.bindings {
            apply(
                &admin,
                typed(
                    "admissionregistration.k8s.io/v1",
                    "ValidatingAdmissionPolicyBinding",
                    binding,
                ),
            )
            .await;
        }
    }

    /// Asks every API server with every canary.
    pub async fn ask_canaries(&self, canaries: &[Canary]) -> Vec<ReplicaAnswers> {
        let token = self
            .plane
            .service_account_identity(names::DEFAULT_NAMESPACE, names::CANARY_ACCOUNT)
            .await
            .unwrap();
        let config = kube_config(&token);
        let mut replicas = Vec::new();
        for server in self.plane.api_servers() {
            let identity = server.identity_of_token("canary", &config);
            let client = identity.client().unwrap();
            let mut answers = Vec::new();
            for canary in canaries {
                answers.push(Answer {
                    id: canary.id.to_owned(),
                    negative: send(&client, &canary.negative).await,
                    positive: send(&client, &canary.positive).await,
                });
            }
            replicas.push(ReplicaAnswers {
                identity: server.identity_lease().await.unwrap(),
                answers,
            });
        }
        replicas
    }

    pub async fn identities(&self) -> Vec<String> {
        let mut identities = Vec::new();
        for server in self.plane.api_servers() {
            identities.push(server.identity_lease().await.unwrap());
        }
        identities
    }

    pub async fn wait_until_proven(&self) {
        self.wait_until_judged("CanariesRefused").await;
    }

    /// Waits until the canaries are judged with this reason.
    pub async fn wait_until_judged(&self, reason: &str) -> AdmissionProof {
        let identities = self.identities().await;
        eventually(SOON, reason, async || match self.proof(&identities).await {
            proof if proof.reason == reason => Ok(proof),
            proof => Err(format!("{}: {}", proof.reason, proof.message)),
        })
        .await
        .unwrap()
    }

    /// What the canaries prove now, where these API servers are known by their leases.
    pub async fn proof(&self, identities: &[String]) -> AdmissionProof {
        let canaries = self.canaries();
        let answers = self.ask_canaries(&canaries).await;
        judge(&canaries, &answers, identities, &self.set().hash)
    }

    /// A namespace as an admin makes it and the operator seals it, ready for pods.
    pub async fn stage_namespace(&self, name: &str, stage: &str, mode: Option<&str>, open: &str) {
        let admin = self.admin();
        let mut labels = json!({names::STAGE_LABEL: stage});
        if let Some(mode) = mode {
            labels[names::MODE_LABEL] = json!(mode);
        }
        apply(
            &admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )
        .await;
        self.seal(name, stage, open).await;
        self.default_account(name).await;
    }

    /// What the controller does once the deny is in place.
    pub async fn seal(&self, namespace: &str, stage: &str, open: &str) {
        let operator = self.operator().await;
        let uid = self.uid(namespace).await;
        let annotations = json!({names::SEALED_ANNOTATION: format!("{uid}/{stage}"), names::OPEN_ANNOTATION: open});
        eventually(SOON, "the operator seals the namespace", async || {
            patch(
                &operator,
                "v1",
                "Namespace",
                None,
                namespace,
                json!({"metadata": {"annotations": annotations}}),
            )
            .await
        })
        .await
        .unwrap();
    }

    pub async fn uid(&self, namespace: &str) -> String {
        let found = objects(&self.admin(), "v1", "Namespace", None)
            .get(namespace)
            .await
            .unwrap();
        found.metadata.uid.unwrap()
    }

    async fn default_account(&self, namespace: &str) {
        let accounts = objects(&self.admin(), "v1", "ServiceAccount", Some(namespace));
        eventually(SOON, "the default ServiceAccount exists", async || {
            accounts.get("default").await.map(drop)
        })
        .await
        .unwrap();
    }

    /// Asserts that a request was refused by one of our policies, through one binding, under one rule.
    #[track_caller]
    pub fn refused<T: Debug>(&self, answer: Result<T, Error>, policy: &str, rule: &str) -> String {
        let hash = self.set().hash;
        let message = match &answer {
            Err(Error::Api(status)) if status.code == 403 => status.message.clone(),
            other => panic!("expected a refusal by {policy} for {rule}, got {other:?}"),
        };
        let door = format!(
            "ValidatingAdmissionPolicy '{policy}' with binding '{policy}-deny' denied request: [cloison {hash}] "
        );
        let said = message
            .split_once(&door)
            .unwrap_or_else(|| panic!("not refused by {policy}: {message}"))
            .1;
        assert!(
            said.split("; ").any(|part| part.starts_with(&format!("{rule} "))),
            "{rule} is not named: {said}"
        );
        assert!(
            !said.contains('\n') && said.len() <= 900,
            "{} bytes: {said}",
            said.len()
        );
        said.to_owned()
    }
}

/// The token inside an identity, to talk to another replica with it.
fn kube_config(identity: &cloison_testbed::Identity) -> String {
    let file = identity.kubeconfig().unwrap();
    let config = kube::config::Kubeconfig::read_from(file).unwrap();
    let user = config.auth_infos.into_iter().find_map(|user| user.auth_info).unwrap();
    let token = serde_json::to_value(user).unwrap();
    token["token"].as_str().unwrap().to_owned()
}
