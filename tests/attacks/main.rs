//! The attacks of `rows.yaml` on a real API server, with the chart, a controller and a webhook; once more after both were
//! killed, when nothing may have become possible; and a last time without our bindings, when all of it must be.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/audit.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod audit;
mod data;
#[path = "../common/operator.rs"]
mod operator;
#[path = "../webhook/raw.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod raw;
mod rows;
#[path = "../webhook/scene.rs"]
#[allow(dead_code, reason = "it has more than is needed here")]
mod scene;

use cloison::api::names;
use cloison_testbed::eventually;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Error, ResourceExt};
use operator::{PATIENCE, apply};
use rows::{Row, Try, When, Who, book};
use scene::Scene;
use serde_json::{Value, json};

/// Each with a twin of mode audit, where nothing is refused that is not refused everywhere.
const NAMESPACES: [(&str, &str); 3] = [("train", "training"), ("infer", "inference"), ("labelled", "training")];

struct People {
    edit: Client,
    admin: Client,
    portal: Client,
    root: Client,
}

impl People {
    fn of(&self, who: Who) -> &Client {
        match who {
            Who::Edit => &self.edit,
            Who::Admin => &self.admin,
            Who::Portal => &self.portal,
            Who::Root => &self.root,
        }
    }
}

async fn namespace(scene: &Scene, name: &str, stage: &str, mode: &str) {
    operator::namespace(&scene.admin, name, stage, Some(mode)).await;
    if name.starts_with("labelled") {
        let labels =
            json!({"resource.kubernetes.io/admin-access": "true", "pod-security.kubernetes.io/enforce": "baseline"});
        let label = json!({"metadata": {"labels": labels}});
        let namespaces: Api<Namespace> = Api::all(scene.admin.clone());
        namespaces
            .patch(name, &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }
    for account in ["default", "road"] {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}});
        apply(&scene.admin, account).await.unwrap();
    }
}

/// What is there before anybody attacks it.
async fn furnish(scene: &Scene, name: &str, stage: &str) {
    let stage = if stage == "inference" { "Inference" } else { "Training" };
    apply(&scene.admin, operator::workload(name, "road", stage, Value::Null))
        .await
        .unwrap();
    if !name.ends_with("-lab") {
        operator::policy(&scene.admin, name, "cloison-wl-road").await;
    }
    let own = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "of-the-tenant", "namespace": name}, "spec": {"podSelector": {}}});
    apply(&scene.admin, own).await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "of-the-tenant", "namespace": name},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}});
    apply(&scene.admin, service).await.unwrap();
    let pod: Value = serde_json::from_value(json!({"pod": {"metadata": {"name": "p1"}}})).unwrap();
    let pod: Try = serde_json::from_value(pod).unwrap();
    let mut ask = pod.ask(false).body;
    ask["metadata"]["namespace"] = json!(name);
    eventually(PATIENCE, "a pod is let in", || async {
        apply(&scene.admin, ask.clone()).await.map(drop)
    })
    .await
    .unwrap();
}

async fn people(scene: &Scene) -> People {
    let bind = async |user: &str, role: &str| {
        for (namespace, _) in NAMESPACES.into_iter().chain([("unsealed", "")]) {
            for namespace in [namespace.to_owned(), format!("{namespace}-lab")] {
                let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                    "metadata": {"name": user, "namespace": namespace},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
                apply(&scene.admin, binding).await.unwrap();
            }
        }
    };
    bind("alice", "edit").await;
    bind("carol", "admin").await;
    let everything = ["", "networking.k8s.io", "cloison.dev", "admissionregistration.k8s.io"];
    let verbs = ["get", "list", "create", "update", "patch", "delete"];
    let namespaces = json!([{"apiGroups": [""], "resources": ["namespaces", "namespaces/status"], "verbs": verbs}]);
    operator::grant(&scene.admin, "mallory", namespaces).await;
    let everything = json!([{"apiGroups": everything, "resources": ["*"], "verbs": verbs}]);
    operator::grant(&scene.admin, "root", everything).await;
    let person = |user: &str| scene.plane.client_as(user, &[]).unwrap();
    People {
        edit: person("alice"),
        admin: person("carol"),
        portal: person("mallory"),
        root: person("root"),
    }
}

/// What came of a request.
#[derive(Debug, PartialEq)]
enum Met {
    /// By our policy or webhook, with its rule.
    Refused(String),
    /// By nobody: what it wanted would have happened.
    Passed,
    /// By the API server itself, or done without what was wanted.
    Stock,
    /// The webhook did not answer, and so nothing happened.
    Unanswered,
}

/// Sends it, and says who met it. Anything that is none of this fails the test.
async fn meet(client: &Client, attempt: &Try, twin: bool) -> Result<Met, String> {
    let ask = attempt.ask(twin);
    let answer = client.request_text(ask.request()).await;
    if let Some(sign) = &attempt.stock {
        let said = match &answer {
            Ok(text) => text.clone(),
            Err(Error::Api(status)) => status.message.clone(),
            Err(error) => return Err(error.to_string()),
        };
        return if said.contains(sign) {
            Ok(Met::Stock)
        } else {
            Err(format!("{}: {said}", ask.path))
        };
    }
    let status = match answer {
        Ok(_) => return Ok(Met::Passed),
        Err(Error::Api(status)) => status,
        Err(error) => return Err(error.to_string()),
    };
    let said = &status.message;
    if said.contains("failed calling webhook") && said.contains("webhook.cloison.dev") {
        return Ok(Met::Unanswered);
    }
    if let Some((_, ours)) = said.split_once("denied request: [cloison ") {
        let name = said.split('\'').nth(1).unwrap_or_default();
        if !said.contains(&format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{name}-deny'"
        )) {
            return Err(said.clone());
        }
        return Ok(Met::Refused(format!("{name} {ours}")));
    }
    if let Some((_, ours)) = said.split_once(".webhook.cloison.dev\" denied the request: [cloison ") {
        return Ok(Met::Refused(format!("webhook {ours}")));
    }
    // A stream that was let in is no stream, or finds no node that runs the pod, or no Service.
    let nowhere = [
        "Upgrade request required",
        "does not have a host assigned",
        "unable to upgrade",
        "not found",
        "no endpoints",
        "address not allowed",
    ];
    if rows::streams(&ask.path) && nowhere.iter().any(|nowhere| said.contains(nowhere)) {
        return Ok(Met::Passed);
    }
    Err(format!("{} {}: {} {said}", ask.verb, ask.path, status.code))
}

/// Compares what came of a row with what it says; a line for each difference.
async fn play(row: &Row, people: &People, dead: bool, wrong: &mut Vec<String>) -> Vec<String> {
    let client = people.of(row.who);
    let mut lines = Vec::new();
    let rest = |attempt: &&Try| dead || attempt.when != Some(When::Dead);
    for attempt in row.tries.iter().filter(rest) {
        let met = meet(client, attempt, false).await;
        let fits = match (&met, &attempt.refused) {
            (Ok(Met::Unanswered), _) => dead && attempt.when == Some(When::Webhook),
            (Ok(Met::Refused(said)), Some((by, rule))) => {
                let named = ["] ", "; "].map(|before| said.contains(&format!("{before}{rule} ")));
                said.starts_with(&format!("{by} ")) && named.contains(&true)
            }
            (Ok(Met::Stock), None) => true,
            _ => false,
        };
        if !fits {
            wrong.push(format!("row {}: {met:?}", row.number));
        }
        lines.push(match (met, &attempt.refused) {
            (Ok(Met::Refused(_)), Some((by, rule))) => format!("{by}: {rule}"),
            (Ok(Met::Unanswered), _) => "the API server, because the webhook does not answer".to_owned(),
            (met, _) => met.map_or_else(|error| error, |met| format!("{met:?}")),
        });
        // The attack is real: where the same rule only reports, it goes through.
        if attempt.refused.is_some() && !attempt.anywhere {
            let twin = meet(client, attempt, true).await;
            if twin != Ok(Met::Passed) {
                wrong.push(format!("row {} in mode audit: {twin:?}", row.number));
            }
        }
    }
    for attempt in row.control.iter().filter(rest) {
        let met = meet(client, attempt, false).await;
        let closed = dead && attempt.when == Some(When::Webhook);
        if met != Ok(if closed { Met::Unanswered } else { Met::Passed }) {
            wrong.push(format!("row {}, which should pass: {met:?}", row.number));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_met_and_met_again_when_nobody_of_ours_lives() {
    let book = book();
    let scene = Scene::start().await;
    let policy = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": book.policy});
    apply(&scene.admin, policy).await.unwrap();
    for (name, stage) in NAMESPACES {
        for (name, mode) in [(name.to_owned(), "enforce"), (format!("{name}-lab"), "audit")] {
            namespace(&scene, &name, stage, mode).await;
            furnish(&scene, &name, stage).await;
        }
    }
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    for (name, mode) in [("unsealed", "enforce"), ("unsealed-lab", "audit")] {
        // Without a stage: the controller has nothing to seal.
        let bare = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"cloison.dev/mode": mode}}});
        apply(&scene.admin, bare).await.unwrap();
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "road", "namespace": name}});
        apply(&scene.admin, account).await.unwrap();
    }
    let people = people(&scene).await;
    settled(&book.rows, &people).await;

    let mut wrong = Vec::new();
    for row in &book.rows {
        play(row, &people, false, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    scene.kill_controller();
    webhook.program.kill();
    for name in ["unsealed", "unsealed-lab"] {
        let mode = if name == "unsealed" { "enforce" } else { "audit" };
        operator::namespace(&scene.admin, name, "training", Some(mode)).await;
    }
    for row in &book.rows {
        let dead = play(row, &people, true, &mut wrong).await;
        eprintln!("{:2} {}: {}", row.number, row.attack, outcome(row, &dead));
    }
    assert!(wrong.is_empty(), "once we are dead:\n{}", wrong.join("\n"));

    let passed = nothing_refuses_without_us(&book.rows, &people).await;
    eprintln!("without our bindings {passed} requests pass that were refused");
}

/// Takes our bindings and the webhook's configuration away: then every request that we refused passes, those of all modes
/// included. So the attacks are real, and it is our policies that stop them. What Kubernetes refuses it still does. Says how
/// many passed.
async fn nothing_refuses_without_us(rows: &[Row], people: &People) -> usize {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(people.root.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=cloison");
    let placed = bindings.list(&ours).await.unwrap().items;
    assert!(!placed.is_empty(), "no binding is ours");
    for binding in placed {
        bindings
            .delete(&binding.name_any(), &DeleteParams::default())
            .await
            .unwrap();
    }
    // The attacks on the configuration come first, because the rest needs it gone: nobody of ours answers for it.
    let on_configuration = |attempt: &Try| attempt.ask(false).path.contains("/validatingwebhookconfigurations/");
    let first = all_pass(rows, people, on_configuration).await;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(people.root.clone());
    configurations
        .delete(names::WEBHOOK_CONFIGURATION, &DeleteParams::default())
        .await
        .unwrap();
    first + all_pass(rows, people, |attempt| !on_configuration(attempt)).await
}

/// Waits until the API server has noticed that nothing of ours is there for some of the requests; says how many there are that
/// we refused.
async fn all_pass(rows: &[Row], people: &People, which: impl Fn(&Try) -> bool) -> usize {
    let tries = || {
        rows.iter()
            .flat_map(|row| row.tries.iter().map(move |attempt| (row, attempt)))
    };
    let chosen: Vec<(&Row, &Try)> = tries().filter(|(_, attempt)| which(attempt)).collect();
    nothing_wrong("what we refused passes without us", async || {
        let mut wrong = Vec::new();
        for (row, attempt) in &chosen {
            let met = meet(people.of(row.who), attempt, false).await;
            let wanted = if attempt.refused.is_some() {
                Met::Passed
            } else {
                Met::Stock
            };
            if met != Ok(wanted) {
                wrong.push(format!("row {}: {met:?}", row.number));
            }
        }
        wrong
    })
    .await;
    let refused = |(_, attempt): &&(&Row, &Try)| attempt.refused.is_some();
    chosen.iter().filter(refused).count()
}

fn outcome(row: &Row, lines: &[String]) -> String {
    match (&row.shown, &row.open) {
        (Some(test), _) => format!("see {test}"),
        (_, Some(why)) => format!("OPEN: {why}"),
        _ => lines.join("; "),
    }
}

/// Waits until a look finds nothing wrong.
async fn nothing_wrong(what: &str, look: impl AsyncFn() -> Vec<String>) {
    eventually(PATIENCE, what, || async {
        let wrong = look().await;
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("\n{}", wrong.join("\n")))
        }
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
}

/// Waits until policies, rights and modes are known to the API server.
async fn settled(rows: &[Row], people: &People) {
    nothing_wrong("every attack is met", async || {
        let mut wrong = Vec::new();
        for row in rows {
            play(row, people, false, &mut wrong).await;
        }
        wrong
    })
    .await;
}
