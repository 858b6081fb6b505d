//! `cloison doctor`: what is enforced where, what stands in the way, and who could switch it off.

use cloison::admission::webhook::configuration;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::common::{apply, create, delete, pod, spec, typed, with};
use crate::{BINDING, cloison, cluster, contains, operator};

/// The line about something.
fn line<'t>(text: &'t str, about: &str) -> &'t str {
    text.lines()
        .find(|line| line.split_whitespace().any(|word| word == about))
        .unwrap_or_else(|| panic!("nothing about {about}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_in_the_way_and_who_could_switch_it_off() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    apply(
        &client,
        json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {}}),
    )
    .await;
    cluster
        .stage_namespace("old-train", "training", Some("audit"), "default")
        .await;
    create(
        &client,
        with(pod("old-train", "bad"), json!({"spec": {"hostIPC": true}})),
    )
    .await
    .unwrap();
    cluster
        .stage_namespace("new-train", "training", Some("audit"), "default")
        .await;
    apply(
        &client,
        operator::workload("new-train", "default", "Training", Value::Null),
    )
    .await;

    let said = cloison(&admin, &["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "STALE: there is no Lease cloison-system/cloison-controller",
            "what is stored refuses without us",
            "nobody but system:masters may change the admission policies",
            "no account of a stage namespace holds a role elsewhere",
        ],
    );
    assert!(line(&said.out, "policies").starts_with("ok"), "{}", said.out);
    let old = line(&said.out, "old-train");
    assert!(
        old.contains("of 1 pod would be refused 1 (WKL-01/host-ipc 1") && old.contains("audits"),
        "{old}"
    );
    assert!(old.contains("there is no AiWorkload"), "{old}");
    let new = line(&said.out, "new-train");
    assert!(
        new.contains("nothing is in the way: kubectl label ns new-train cloison.dev/mode=enforce --overwrite"),
        "{new}"
    );
    let sealed = line(&said.out, "vision-train");
    assert!(
        sealed.contains("Enforce") && sealed.contains("not seen refusing"),
        "{sealed}"
    );

    // Who could switch it off.
    let bind = |name: &str, namespace: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}]})
    };
    apply(&client, bind("gitops", "argocd")).await;
    apply(&client, bind("runner", "vision-train")).await;
    delete(&client, BINDING.0, BINDING.1, None, "cloison-pod-deny")
        .await
        .unwrap();
    let said = cloison(&admin, &["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "ServiceAccount argocd/robot through ClusterRoleBinding gitops (cluster-admin)",
            "accounts of stage namespaces hold roles beyond them",
            "ServiceAccount vision-train/robot through ClusterRoleBinding runner (cluster-admin)",
            "cloison-pod-deny is missing",
        ],
    );
    assert!(line(&said.out, "policies").starts_with("ATTENTION"), "{}", said.out);
    // A plan tells what is only reported as well.
    let plan = cloison(&admin, &["plan", "-n", "old-train"]);
    contains(
        &plan,
        &["Would be refused, if they were created now", "WKL-01/host-ipc"],
    );
}

/// A self-signed authority that lasts until 2199.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2199, 1, 1);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    certificate.pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_of_the_webhook_and_of_what_is_weaker() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    let policy = |controls: Value| {
        json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
            "spec": {"controls": controls}})
    };
    apply(&client, policy(json!([]))).await;
    let said = cloison(&admin, &["doctor"]);
    let webhook = line(&said.out, "webhook");
    assert!(
        webhook.starts_with("ATTENTION") && webhook.contains("there is no ValidatingWebhookConfiguration"),
        "{webhook}"
    );
    assert!(line(&said.out, "controls").starts_with("ok"), "{}", said.out);

    // Nobody answers, and no API server would know whom to trust.
    let mut configuration = configuration(&spec(json!({})), &cluster.operator, true);
    let kind = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
    // What nobody answers is asked about what nobody writes.
    for entry in configuration.webhooks.iter_mut().flatten() {
        entry.rules.as_mut().unwrap()[0].resources = Some(vec!["nothing".to_owned()]);
    }
    let operator = cluster.operator().await;
    apply(&operator, typed(kind.0, kind.1, &configuration)).await;
    apply(
        &client,
        policy(json!([{"id": "NET-04", "mode": "Audit", "reason": "a trial"}])),
    )
    .await;
    let said = cloison(&admin, &["doctor"]);
    let webhook = line(&said.out, "webhook");
    assert!(
        webhook.starts_with("ATTENTION")
            && webhook.contains("no ready endpoint: refused is what workloads, claims ask about"),
        "{webhook}"
    );
    let authority_line = line(&said.out, "authority");
    assert!(
        authority_line.starts_with("ATTENTION") && authority_line.contains("no CA bundle in settings"),
        "{authority_line}"
    );
    let weaker = line(&said.out, "controls");
    assert!(
        weaker.starts_with("ATTENTION") && weaker.contains("NET-04 Audit (a trial)"),
        "{weaker}"
    );

    // The control: somebody answers, and is trusted.
    for entry in configuration.webhooks.iter_mut().flatten() {
        entry.client_config.ca_bundle = Some(ByteString(authority().into_bytes()));
    }
    apply(&operator, typed(kind.0, kind.1, &configuration)).await;
    apply(
        &client,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "cloison-webhook-a", "namespace": "cloison-system",
                "labels": {"kubernetes.io/service-name": "cloison-webhook"}},
            "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": true}}],
        }),
    )
    .await;
    let said = cloison(&admin, &["doctor"]);
    let webhook = line(&said.out, "webhook");
    assert!(
        webhook.starts_with("ok") && webhook.contains("1 ready endpoint;"),
        "{webhook}"
    );
    let authority_line = line(&said.out, "authority");
    assert!(
        authority_line.starts_with("ok") && authority_line.contains("until 2199-01-01T00:00:00Z"),
        "{authority_line}"
    );
}
