//! Rule 10: every component holds exactly the rights it uses. The API server's audit log of a whole story is compared with
//! the roles, objects' names included: nothing was forbidden, and nothing is granted that nobody asked for.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeSet;

use cloison::admission::{Operator, generate};
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use cloison::cluster::cluster_policies;
use cloison::cluster::roles::{Rule, Scope, components};
use cloison::network::foreign::FOREIGN_KINDS;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use operator::PATIENCE;
use serde_json::{Value, json};

/// Group, resource with its subresource, verb.
type Right = (String, String, String);

/// Rights that this story does not use, each with the reason why they are needed all the same.
fn unused() -> BTreeSet<Right> {
    let mut unused = BTreeSet::new();
    for kind in FOREIGN_KINDS.iter().filter(|kind| !kind.is_modelled()) {
        // Asked only where the kind is served; nothing serves it here.
        unused.insert((kind.group.to_owned(), kind.plural.to_owned(), "list".to_owned()));
    }
    unused.extend(
        [
            // A version that no longer generates one of its policies removes it; this one generates all it knows.
            ("admissionregistration.k8s.io", "validatingadmissionpolicies", "delete"),
            (
                "admissionregistration.k8s.io",
                "validatingadmissionpolicybindings",
                "delete",
            ),
            // Asked by the API server itself while it judges a binding, so no request shows it.
            ("rbac.authorization.k8s.io", "clusterroles", "bind"),
            // An event that is told again word for word within six minutes is counted up; nothing here is.
            ("events.k8s.io", "events", "patch"),
        ]
        .map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned())),
    );
    unused
}

fn user(account: &str) -> String {
    format!("system:serviceaccount:{}:{account}", names::DEFAULT_NAMESPACE)
}

/// What an account asked for, by the audit logs of all API servers.
fn asked(plane: &ControlPlane, account: &str) -> Vec<Value> {
    let logs = plane
        .api_servers()
        .iter()
        .map(|server| std::fs::read_to_string(server.audit_log()).unwrap());
    let text: String = logs.collect();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // A watch that is still open has only started.
    let told = |event: &Value| event["stage"] == "ResponseComplete" || event["stage"] == "ResponseStarted";
    let theirs = |event: &Value| event["user"]["username"] == user(account) && told(event);
    events.filter(theirs).collect()
}

/// What a rule grants. No rule says `*`.
fn granted(rule: &Rule) -> Vec<Right> {
    let groups = if rule.urls.is_empty() {
        rule.groups.clone()
    } else {
        vec![""]
    };
    let mut granted = Vec::new();
    for group in &groups {
        for resource in rule.resources.iter().chain(&rule.urls) {
            for verb in &rule.verbs {
                assert!(
                    ![group, resource, verb].iter().any(|word| word.contains('*')),
                    "{rule:?} uses *"
                );
                granted.push(((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()));
            }
        }
    }
    granted
}

/// Rights on objects of which there is one by their definition, so that a name in the rule would limit nothing.
fn is_singleton(right: &Right) -> bool {
    let (group, resource, _) = right;
    group == names::GROUP && ["aisecuritypolicies/status", "secretencryptions/status"].contains(&resource.as_str())
}

/// Names of policies and bindings of ours that this version does not generate: kept for those that are to come, and to
/// remove what another version left. Nobody else's object has such a name.
fn is_reserved(rule: &Rule, name: &str) -> bool {
    let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
    let set = generate(&AiSecurityPolicySpec::default(), &operator, Timestamp::UNIX_EPOCH);
    let policies = set.policies.iter().map(ResourceExt::name_any);
    let bindings = set.bindings.iter().map(ResourceExt::name_any);
    let ours = rule.groups == ["admissionregistration.k8s.io"] && !policies.chain(bindings).any(|known| known == name);
    ours && names::ADMISSION_POLICIES.iter().any(|policy| name.starts_with(policy))
}

/// What is wrong with a rule, by the rights that were used where it holds, each with the object's name.
fn too_wide(rule: &Rule, used: &[(Right, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let named = |name: &String| rule.names.is_empty() || rule.names.contains(name);
    for right in granted(rule).into_iter().filter(|right| !unused().contains(right)) {
        let uses = used.iter().filter(|(known, name)| *known == right && named(name));
        let objects: BTreeSet<&String> = uses.map(|(_, name)| name).collect();
        // A list has no name, and a post's cannot be in a rule.
        let can_name = ["get", "patch", "update", "delete"].contains(&right.2.as_str()) && rule.urls.is_empty();
        if objects.is_empty() {
            wrong.push(format!("{right:?} was never used"));
        } else if rule.names.is_empty() && can_name && objects.len() == 1 && !is_singleton(&right) {
            wrong.push(format!(
                "{right:?} is for every object, and was used on {objects:?} alone"
            ));
        }
    }
    let rights = granted(rule);
    if rights.iter().all(|right| unused().contains(right)) {
        return wrong;
    }
    let touched = |name: &&String| {
        used.iter()
            .any(|(right, object)| rights.contains(right) && object == *name)
    };
    let idle = rule
        .names
        .iter()
        .filter(|name| !touched(name) && !is_reserved(rule, name));
    wrong.extend(idle.map(|name| format!("{:?} named {name:?} were never used", rule.resources)));
    wrong
}

/// As roles name it: group, resource with subresource, verb; with the object's name. An apply that made the object used
/// `create` too.
fn rights(event: &Value) -> Vec<(Right, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    if object.is_null() {
        let path = text(&event["requestURI"]);
        let path = path.split('?').next().unwrap_or_default().to_owned();
        return vec![((String::new(), path, text(&event["verb"])), String::new())];
    }
    let mut resource = text(&object["resource"]);
    if let Some(subresource) = object["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    let verb = text(&event["verb"]);
    let (group, name) = (text(&object["apiGroup"]), text(&object["name"]));
    let mut rights = vec![((group.clone(), resource.clone(), verb.clone()), name.clone())];
    if verb == "patch" && event["responseStatus"]["code"] == 201 {
        rights.push(((group, resource, "create".to_owned()), name));
    }
    rights
}

async fn planes() -> ControlPlane {
    let rules = json!([{"level": "Metadata", "omitStages": ["RequestReceived"]}]);
    let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}).to_string();
    let server = ApiServerOptions {
        audit_policy: Some(policy),
        ..ApiServerOptions::default()
    };
    let options = Options {
        api_servers: vec![server; 2],
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// Presses the stop button, waits until it shows, and releases it.
async fn off_and_on(admin: &Client) {
    let off = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"reason": "a story"},
        "metadata": {"name": names::OFF_CONFIGMAP, "namespace": names::DEFAULT_NAMESPACE},
    });
    operator::apply(admin, off).await.unwrap();
    operator::condition(admin, "train", "steady", "Ready", "Unknown").await;
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
    maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default())
        .await
        .unwrap();
    operator::condition(admin, "train", "steady", "Ready", "True").await;
}

async fn put_back<K>(api: &Api<K>, name: &str, intact: impl Fn(&K) -> bool)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    eventually(PATIENCE, &format!("{name} is put back"), || async {
        match api.get(name).await {
            Ok(object) if intact(&object) => Ok(()),
            Ok(_) => Err("it is changed".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

/// Others change what is ours, in ways that an apply mends and in ways that it cannot.
async fn drift(admin: &Client) {
    let policies = operator::network_policies(admin, "train");
    policies
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
    put_back::<NetworkPolicy>(&policies, "cloison-wl-steady", |_| true).await;
    let finalizer = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/stuck"]}}));
    policies
        .patch("cloison-wl-steady", &PatchParams::default(), &finalizer)
        .await
        .unwrap();
    put_back(&policies, "cloison-wl-steady", |policy| {
        policy.metadata.finalizers.is_none()
    })
    .await;
    let guards: Api<ValidatingAdmissionPolicy> = Api::all(admin.clone());
    let switch_off = Patch::Merge(json!({"spec": {"matchConditions": [{"name": "off", "expression": "false"}]}}));
    guards
        .patch("cloison-pod", &PatchParams::default(), &switch_off)
        .await
        .unwrap();
    put_back(&guards, "cloison-pod", |policy| {
        let conditions = policy.spec.as_ref().and_then(|spec| spec.match_conditions.as_ref());
        conditions.is_none_or(|list| list.iter().all(|condition| condition.name != "off"))
    })
    .await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let narrow = json!({"spec": {"matchResources": {"excludeResourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ]}}});
    bindings
        .patch("cloison-pod-deny", &PatchParams::default(), &Patch::Merge(narrow))
        .await
        .unwrap();
    let stuck = json!({"metadata": {"finalizers": ["example.com/stuck"]}});
    bindings
        .patch("cloison-pod-audit", &PatchParams::default(), &Patch::Merge(stuck))
        .await
        .unwrap();
    put_back(&bindings, "cloison-pod-audit", |binding| {
        binding.metadata.finalizers.is_none()
    })
    .await;
    put_back(&bindings, "cloison-pod-deny", |binding| {
        !serde_json::to_string(binding).unwrap().contains("exclude")
    })
    .await;
}

/// The denies of the whole cluster come, are put back and go.
async fn wall(admin: &Client) {
    let definition = include_str!("fixtures/clusternetworkpolicies-v0.2.0.yaml");
    let definition: Value = serde_saphyr::from_str(definition).unwrap();
    operator::apply(admin, definition).await.unwrap();
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let ask = async |deny: &str| {
        let change = Patch::Merge(json!({"spec": {"network": {"clusterDeny": deny}}}));
        let params = PatchParams::default();
        settings.patch(names::SINGLETON, &params, &change).await.unwrap();
    };
    ask("ClusterNetworkPolicy").await;
    let denies: Api<DynamicObject> = Api::all_with(admin.clone(), &cluster_policies::resource());
    let name = names::STAGE_POLICIES[0];
    put_back::<DynamicObject>(&denies, name, |_| true).await;
    let stuck = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/stuck"]}}));
    denies.patch(name, &PatchParams::default(), &stuck).await.unwrap();
    put_back(&denies, name, |deny| deny.metadata.finalizers.is_none()).await;
    ask("None").await;
    eventually(PATIENCE, "the denies of the cluster are gone", || async {
        let left = cluster_policies::list(admin).await.map_err(|error| error.to_string())?;
        match left.unwrap_or_default().len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await
    .unwrap();
}

/// Somebody asks for Waivers, and reads why they do not hold yet.
async fn waivers(admin: &Client) {
    let api: Api<Waiver> = Api::all(admin.clone());
    for name in ["one", "other"] {
        let waiver = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name}, "spec": {
            "target": {"namespace": "train"}, "controls": ["NET-04"], "reason": "Nothing but a story of one",
            "requestedBy": "alice", "expirationTime": "2100-01-01T00:00:00Z",
        }});
        operator::apply(admin, waiver).await.unwrap();
        eventually(PATIENCE, "a word on it", || async {
            let found = api.get(name).await.map_err(|error| error.to_string())?;
            let told = found.status.is_some_and(|status| !status.conditions.is_empty());
            if told {
                Ok(())
            } else {
                Err("no condition yet".to_owned())
            }
        })
        .await
        .unwrap();
    }
}

/// The packet canary runs. Its nodes are played: the server is said to run, the client to have ended without an answer.
async fn packets(admin: &Client) {
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let ask = async |proof: &str| {
        let asked = Patch::Merge(json!({"spec": {"network": {"enforcementProof": proof}}}));
        settings
            .patch(names::SINGLETON, &PatchParams::default(), &asked)
            .await
            .unwrap();
    };
    ask("OnChange").await;
    let status = json!({"podIP": "10.65.0.1", "podIPs": [{"ip": "10.65.0.1"}]});
    for (namespace, pod, phase) in [
        (names::PACKETS_SERVER_NAMESPACE, names::PACKETS_SERVER, "Running"),
        (names::PACKETS_CLIENT_NAMESPACE, names::PACKETS_CLIENT, "Failed"),
    ] {
        let pods: Api<Pod> = Api::namespaced(admin.clone(), namespace);
        let mut status = status.clone();
        status["phase"] = json!(phase);
        let status = Patch::Merge(json!({"status": status}));
        eventually(PATIENCE, &format!("{namespace}/{pod}"), || async {
            pods.patch_status(pod, &PatchParams::default(), &status).await
        })
        .await
        .unwrap();
    }
    let (reason, message) = operator::condition(admin, "train", "steady", "EnforcementVerified", "Unknown").await;
    assert_ne!(reason, "NotEnforced", "{message}");
    eventually(PATIENCE, "the canary's pods are removed", || async {
        let mut left = 0;
        for namespace in names::PACKETS_NAMESPACES {
            let pods: Api<Pod> = Api::namespaced(admin.clone(), namespace);
            left += pods.list(&ListParams::default()).await.unwrap().items.len();
        }
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await
    .unwrap();
    ask("None").await;
}

/// Stored Secrets are read, as `SecretEncryption` asks for it, and rewritten by hand.
async fn swept(plane: &ControlPlane) {
    eventually(PATIENCE, "a read of a Secret", || async {
        let read = asked(plane, names::SWEEPER_ACCOUNT)
            .iter()
            .any(|event| event["verb"] == "get" && event["objectRef"]["resource"] == "secrets");
        if read { Ok(()) } else { Err("none yet") }
    })
    .await
    .unwrap();
    eventually(PATIENCE, "the role is taken back", || async {
        let lent = cloison::cluster::sweep::lent(&plane.admin().unwrap()).await.unwrap();
        if lent.is_empty() {
            Ok(())
        } else {
            Err(format!("{lent:?}"))
        }
    })
    .await
    .unwrap();
    let mut rewrite = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
    rewrite
        .args(["encryption", "rewrite"])
        .env("KUBECONFIG", plane.admin_kubeconfig().unwrap());
    let output = tokio::task::spawn_blocking(move || rewrite.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Everything that a controller and its canary do in their life.
async fn story(plane: &ControlPlane) {
    let controller = operator::start_with(plane, &["encryption.readStored=true"]).await;
    let admin = plane.admin().unwrap();
    let encryption = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"proof": "Reads"},
    });
    operator::apply(&admin, encryption).await.unwrap();
    swept(plane).await;
    operator::healthy(&admin, "train", "Training").await;
    operator::condition(&admin, "train", "steady", "AdmissionEnforced", "True").await;

    // A catalogue that comes and goes.
    operator::catalogue(&admin).await;
    operator::apply(&admin, operator::user("train", "client", "Training"))
        .await
        .unwrap();
    operator::policy(&admin, "common", "cloison-svc-registry").await;

    drift(&admin).await;
    wall(&admin).await;
    waivers(&admin).await;

    // The policy changes, a workload goes, the stop button is pressed twice with the same words.
    let longer = Patch::Merge(json!({"spec": {"minScore": 90}}));
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    settings
        .patch(names::SINGLETON, &PatchParams::default(), &longer)
        .await
        .unwrap();
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "train");
    workloads.delete("client", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the withdrawal", || async {
        let left = operator::in_place(&admin, "train").await;
        if left.contains_key("cloison-wl-client") {
            Err("its allow is there")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    off_and_on(&admin).await;
    off_and_on(&admin).await;
    packets(&admin).await;

    // Another replica stands by and takes over.
    let second = operator::controller(plane, "second").await;
    second.start().unwrap();
    eventually(PATIENCE, "a standby", || async {
        operator::ask(&second, "/readyz")
            .filter(|answer| answer.0 == 200)
            .map(drop)
            .ok_or("not ready")
    })
    .await
    .unwrap();
    controller.stop().await;
    operator::metric_is(&second, "cloison_leader", &[], |leader| leader == 1).await;

    // The admin takes the stage away.
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let labels = Patch::Merge(json!({"metadata": {"labels": {names::STAGE_LABEL: null, names::MODE_LABEL: null}}}));
    namespaces
        .patch("train", &PatchParams::default(), &labels)
        .await
        .unwrap();
    eventually(PATIENCE, "the namespace left", || async {
        if operator::in_place(&admin, "train").await.is_empty() {
            Ok(())
        } else {
            Err("policies are there")
        }
    })
    .await
    .unwrap();
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_component_holds_what_it_uses_and_nothing_else() {
    let plane = planes().await;
    story(&plane).await;
    let mut wrong = Vec::new();
    // Agents, and the rotation that follows what they say, have a story of their own: there is no control-plane node here.
    let elsewhere = ["agent", "rotator"];
    for component in components()
        .into_iter()
        .filter(|component| !elsewhere.contains(&component.name))
    {
        let events = asked(&plane, component.account);
        for event in &events {
            let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
            let code = event["responseStatus"]["code"].as_i64().unwrap_or_default();
            // What the canary tries must be refused: by our policies, not for want of a right.
            if refused || code == 401 || code == 403 && component.account == names::CONTROLLER_ACCOUNT {
                let message = &event["responseStatus"]["message"];
                wrong.push(format!(
                    "{}: {} {} was refused: {message}",
                    component.name, event["verb"], event["requestURI"]
                ));
            }
        }
        for grant in &component.grants {
            let within = match grant.scope {
                Scope::Cluster => None,
                Scope::Operator => Some(names::DEFAULT_NAMESPACE),
                Scope::Namespace(name) => Some(name),
            };
            let here = |event: &&Value| within.is_none_or(|within| event["objectRef"]["namespace"] == within);
            let used: Vec<(Right, String)> = events.iter().filter(here).flat_map(rights).collect();
            for problem in grant.rules.iter().flat_map(|rule| too_wide(rule, &used)) {
                wrong.push(format!("{}, {}: {problem}", component.name, grant.name));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // Neither is anybody's master.
    let admin = plane.admin().unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(admin);
    for component in components() {
        let review = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "user": user(component.account), "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {"group": "*", "resource": "*", "verb": "*"},
            },
        }));
        let answer = reviews.create(&PostParams::default(), &review.unwrap()).await.unwrap();
        assert!(!answer.status.unwrap().allowed, "{} may do everything", component.name);
        for event in asked(&plane, component.account) {
            let groups = event["user"]["groups"].to_string();
            assert!(!groups.contains("system:masters"), "{}: {groups}", component.name);
        }
    }
}
