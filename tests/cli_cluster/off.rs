//! `cloison off` and `cloison on`, with the controller dead and alive.

use std::path::Path;

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Tool, eventually, find};
use serde_json::{Value, json};

use crate::common::{SOON, pod, try_create, with};
use crate::{BINDING, cloison, cluster, common, contains, operator, ours, run};

#[tokio::test(flavor = "multi_thread")]
async fn off_ends_refusals_with_the_controller_dead_and_so_do_three_kubectl_lines() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    let unsafe_pod = with(pod("vision-train", "x"), json!({"spec": {"hostIPC": true}}));
    let refused = async || match try_create(&client, unsafe_pod.clone()).await {
        Err(kube::Error::Api(status)) if status.message.contains("[cloison ") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    let admitted = async || try_create(&client, unsafe_pod.clone()).await.map(drop);
    eventually(SOON, "a refusal", refused).await.unwrap();
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    let said = cloison(&admin, &["off", "--scope", "admission", "--reason", "INC-4711"]);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            &format!("bindings 0/{bindings} left   webhooks 0/0 left"),
            "cloison-system/cloison-off",
        ],
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    eventually(SOON, "nothing is refused", admitted).await.unwrap();
    let maps = common::objects(&client, "v1", "ConfigMap", Some(names::DEFAULT_NAMESPACE));
    let map = maps.get(names::OFF_CONFIGMAP).await.unwrap();
    assert_eq!(
        (&map.data["data"]["scope"], &map.data["data"]["reason"]),
        (&json!("admission"), &json!("INC-4711"))
    );
    contains(
        &cloison(&admin, &["status", "-A"]),
        &["OFF everywhere: scope admission, reason INC-4711"],
    );
    // Narrowing it would switch the rest on.
    let narrower = cloison(
        &admin,
        &["off", "--scope", "admission", "--reason", "x", "-n", "vision-train"],
    );
    assert_eq!(narrower.code, 2, "{narrower:?}");
    let said = cloison(&admin, &["on"]);
    contains(
        &said,
        &[
            "ConfigMap cloison-system/cloison-off deleted",
            "no controller is running",
        ],
    );
    assert_eq!(said.code, 0);
    assert!(maps.get_opt(names::OFF_CONFIGMAP).await.unwrap().is_none());
    contains(&cloison(&admin, &["on"]), &["nothing is off"]);

    // Put back by hand, from what the command line prints; then the three lines of the chart's notes.
    let kubectl = find(Tool::Kubectl).unwrap();
    let policy = cluster.plane.folder().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {name: default}\n",
    )
    .unwrap();
    let plan = cloison(
        &admin,
        &["plan", "-f", policy.to_str().unwrap(), "--admission", "-o", "yaml"],
    );
    let file = cluster.plane.folder().join("admission.yaml");
    std::fs::write(&file, &plan.out).unwrap();
    let kubectl = |arguments: &[&str]| {
        let said = run(&kubectl, &admin, arguments);
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    kubectl(&["apply", "-f", file.to_str().unwrap()]);
    eventually(SOON, "a refusal again", refused).await.unwrap();
    let denied = common::objects(&client, "networking.k8s.io/v1", "NetworkPolicy", Some("vision-train"));
    let deny = cloison::network::policies::deny("vision-train", cloison::api::stage::NamespaceStage::Training);
    common::apply(&client, common::typed("networking.k8s.io/v1", "NetworkPolicy", &deny)).await;
    for line in emergency_lines(&admin) {
        let words: Vec<&str> = line.split_whitespace().collect();
        kubectl(&words);
    }
    assert!(denied.get_opt(names::DENY_POLICY).await.unwrap().is_none());
    let map = maps.get(names::OFF_CONFIGMAP).await.unwrap();
    assert_eq!(map.data["data"]["scope"], json!("all"));
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    eventually(SOON, "nothing is refused again", admitted).await.unwrap();
}

/// Somebody on call who may not delete webhook configurations: the rest goes all the same, and what stays is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_keeps_no_other_from_being_tried() {
    let (cluster, _, _) = cluster().await;
    let client = cluster.admin();
    let version = "admissionregistration.k8s.io/v1";
    let ours = json!({"apiVersion": version, "kind": "ValidatingWebhookConfiguration", "webhooks": [],
        "metadata": {"name": names::WEBHOOK_CONFIGURATION, "labels": {names::PART_OF_LABEL: names::CLOISON}}});
    common::apply(&client, ours).await;
    let deny = cloison::network::policies::deny("vision-train", cloison::api::stage::NamespaceStage::Training);
    common::apply(&client, common::typed("networking.k8s.io/v1", "NetworkPolicy", &deny)).await;
    let all = json!(["get", "list", "create", "patch", "delete", "deletecollection"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": all},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": all},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingadmissionpolicybindings"], "verbs": all},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"], "verbs": ["list"]},
        {"apiGroups": [names::VIRTUAL_GROUP], "resources": ["protections"], "verbs": ["bypass"]},
    ]);
    cluster.grant_user("oncall", rules).await;
    let oncall = cluster.plane.kubeconfig_as("oncall", &[]).unwrap();
    let bindings = ours_of(&client).await;
    let said = eventually(SOON, "the rights arrive", async || {
        let said = cloison(&oncall, &["off", "--scope", "all", "--reason", "INC-4711"]);
        if said.out.is_empty() { Err(said.err) } else { Ok(said) }
    })
    .await
    .unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    contains(
        &said,
        &[
            &format!("bindings 0/{bindings} left   webhooks not seen to be gone"),
            "0 of 1 NetworkPolicy object left",
        ],
    );
    assert!(
        said.err.contains("delete ValidatingWebhookConfigurations") && said.err.contains("oncall"),
        "{}",
        said.err
    );
    assert_eq!(ours_of(&client).await, 0);
}

async fn ours_of(client: &kube::Client) -> usize {
    ours(client, BINDING.0, BINDING.1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn off_in_one_namespace_leaves_the_others_refused() {
    let (cluster, admin, _) = cluster().await;
    cluster
        .stage_namespace("vision-infer", "inference", Some("enforce"), "default")
        .await;
    let client = cluster.admin();
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    let off = ["off", "--scope", "all", "--reason", "INC", "-n", "vision-train"];
    let said = cloison(&admin, &off);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            "bindings and webhooks stay",
            "namespace vision-train: cloison.dev/mode=audit (was enforce)",
        ],
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, bindings);
    let unsafe_in = |namespace: &str| with(pod(namespace, "x"), json!({"spec": {"hostIPC": true}}));
    eventually(SOON, "nothing is refused there", async || {
        try_create(&client, unsafe_in("vision-train")).await.map(drop)
    })
    .await
    .unwrap();
    cluster.refused(
        try_create(&client, unsafe_in("vision-infer")).await,
        "cloison-pod",
        "WKL-01/host-ipc",
    );
    // Another scope would change what is off already; another reason stands beside the first.
    let other = ["off", "--scope", "admission", "--reason", "other", "-n", "vision-infer"];
    let said = cloison(&admin, &other);
    assert_eq!(said.code, 2, "{said:?}");
    let text = format!("{said:?}");
    assert!(
        text.contains("off with scope all already (in vision-train)") && text.contains("cloison on"),
        "{text}"
    );
    let again = ["off", "--scope", "all", "--reason", "second", "-n", "vision-train"];
    assert_eq!(cloison(&admin, &again).code, 0);
    contains(&cloison(&admin, &["status", "-A"]), &["scope all, reason INC; second"]);
    let said = cloison(&admin, &["on"]);
    contains(&said, &["namespace vision-train: cloison.dev/mode is enforce again"]);
    common::eventually_refused(&cluster, "WKL-01/host-ipc", async || {
        try_create(&client, unsafe_in("vision-train")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_holds_against_a_living_controller_and_on_brings_everything_back() {
    let audit = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  verbs: [delete]\n  \
                 resources: [{group: networking.k8s.io, resources: [networkpolicies]}]\n- level: None\n";
    let server = ApiServerOptions {
        audit_policy: Some(audit.to_owned()),
        ..ApiServerOptions::default()
    };
    let plane = ControlPlane::start(Options {
        api_servers: vec![server],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let _controller = operator::start(&plane).await;
    let client = plane.admin().unwrap();
    operator::namespace(&client, "vision-train", "training", Some("enforce")).await;
    for name in ["aaa", "road"] {
        operator::apply(
            &client,
            operator::workload("vision-train", name, "Training", Value::Null),
        )
        .await
        .unwrap();
    }
    for name in ["aaa", "road"] {
        operator::condition(&client, "vision-train", name, "Ready", "True").await;
    }
    let admin = plane.admin_kubeconfig().unwrap();
    let ready = cloison(&admin, &["status", "-A"]);
    assert_eq!(ready.code, 0, "{ready:?}");

    operator::condition(&client, "vision-train", "road", "AdmissionEnforced", "True").await;
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    assert!(bindings > 0);

    // What the plan prints for the same objects is what the controller wrote.
    let planned = planned(&plane, &admin);
    for name in ["cloison-ns-deny", "cloison-wl-aaa", "cloison-wl-road"] {
        let written = operator::policy(&client, "vision-train", name).await;
        let same = planned
            .iter()
            .filter(|policy| policy.metadata.name == written.metadata.name)
            .filter(|policy| policy.metadata.namespace == written.metadata.namespace);
        let same: Vec<bool> = same
            .map(|policy| cloison::network::drift::same_rules(policy, &written))
            .collect();
        assert_eq!(same, [true], "{name}");
    }

    let said = cloison(&admin, &["off", "--scope", "all", "--reason", "INC-4711"]);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            &format!("bindings 0/{bindings} left"),
            "0 of 4 NetworkPolicy objects left, denies deleted first",
        ],
    );
    // Of the four, one is the deny of the canaries' own namespace.
    let order = deletions(&plane);
    assert_eq!(order.first().map(String::as_str), Some("cloison-ns-deny"), "{order:?}");
    assert_eq!(order.len(), 3, "nothing came back: {order:?}");
    let (reason, message) = operator::condition(&client, "vision-train", "road", "Ready", "Unknown").await;
    assert_eq!(
        (reason.as_str(), message.contains("INC-4711")),
        ("Off", true),
        "{message}"
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    assert_eq!(ours(&client, "networking.k8s.io/v1", "NetworkPolicy").await, 0);

    let said = cloison(&admin, &["on"]);
    contains(&said, &["the controller puts the denies back first"]);
    for name in ["cloison-ns-deny", "cloison-wl-aaa", "cloison-wl-road"] {
        operator::policy(&client, "vision-train", name).await;
    }
    operator::condition(&client, "vision-train", "road", "Ready", "True").await;
    operator::condition(&client, "vision-train", "road", "AdmissionEnforced", "True").await;
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, bindings);
}

/// The three lines that the chart's notes give to who has no `cloison` at hand, without the word `kubectl`, as Helm
/// prints them after an installation.
fn emergency_lines(admin: &Path) -> Vec<String> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/cloison");
    // A dry-run of the client renders the notes and touches no cluster.
    let install = [
        "install",
        "cloison",
        chart,
        "-n",
        names::DEFAULT_NAMESPACE,
        "--dry-run=client",
    ];
    let notes = run(&find(Tool::Helm).unwrap(), admin, &install);
    assert_eq!(notes.code, 0, "{notes:?}");
    let (_, rest) = notes.out.split_once("If Cloison itself is the problem").unwrap();
    let lines = rest
        .lines()
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("kubectl "));
    let lines: Vec<String> = lines
        .map(|line| line.split(" #").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(lines.len(), 3, "{}", notes.out);
    lines
}

/// Every deletion of a NetworkPolicy of the namespace, in order, from the audit log.
fn deletions(plane: &ControlPlane) -> Vec<String> {
    let log = std::fs::read_to_string(plane.api_server(0).audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let deletions = events.filter(|event| {
        let object = &event["objectRef"];
        event["verb"] == "delete" && object["resource"] == "networkpolicies" && object["namespace"] == "vision-train"
    });
    deletions
        .map(|event| event["objectRef"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The NetworkPolicies of the namespace, planned from its objects as they are stored. The addresses of the API servers
/// are of no account here, and DNS there is none.
fn planned(plane: &ControlPlane, admin: &Path) -> Vec<k8s_openapi::api::networking::v1::NetworkPolicy> {
    let kubectl = find(Tool::Kubectl).unwrap();
    let stored = run(
        &kubectl,
        admin,
        &["get", "ns,aiw,aisp", "-n", "vision-train", "-o", "yaml"],
    );
    let file = plane.folder().join("stored.yaml");
    std::fs::write(&file, &stored.out).unwrap();
    let plan = cloison(admin, &["plan", "-f", file.to_str().unwrap(), "-o", "yaml"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    serde_saphyr::from_multiple(&plan.out).unwrap()
}
