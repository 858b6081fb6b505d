//! The webhook beside a real API server: what it refuses and in which words, what its absence blocks, and that neither a
//! stop, a rotation nor a broken Secret makes a request fail.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod aged;
#[path = "../common/audit.rs"]
mod audit;
mod cert_manager;
#[path = "../common/operator.rs"]
mod operator;
mod raw;
mod scene;
mod tenants;

use std::collections::BTreeSet;
use std::process::Command;

use cloison::api::names;
use cloison::cluster::roles::components;
use cloison_testbed::eventually;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use operator::{PATIENCE, workload};
use scene::{Scene, create, refusal, waiver};
use serde_json::{Value, json};

fn wide() -> Value {
    json!({"connectTo": [{"cidr": "8.0.0.0/6", "ports": [{"port": 443}]}]})
}

fn workloads(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<cloison::api::AiWorkload>(&());
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Namespaces `train` and `infer` in mode enforce, `trial` in mode audit.
async fn namespaces(admin: &Client) {
    operator::namespace(admin, "train", "training", Some("enforce")).await;
    operator::namespace(admin, "infer", "inference", Some("enforce")).await;
    operator::namespace(admin, "trial", "training", Some("audit")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_refused_with_the_path_and_the_fix() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    let alice = scene.plane.tenant("alice", "train", "edit").await.unwrap();

    let status = refusal(create(&alice, workload("train", "road", "Training", wide()), false).await);
    assert_eq!(status.code, 403, "{status:?}");
    let start = "admission webhook \"workloads.webhook.cloison.dev\" denied the request: [cloison ";
    assert!(status.message.starts_with(start), "{}", status.message);
    assert!(
        status
            .message
            .contains("] NET-04/cidr-width egress \"8.0.0.0/6\" is wider than"),
        "{}",
        status.message
    );
    assert!(
        !status.message.contains('\n') && status.message.len() < 1000,
        "{}",
        status.message
    );
    let causes = status.details.unwrap().causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].field, "spec.network.connectTo[0]");

    // In mode audit nothing is refused; and what is allowed passes.
    create(&scene.admin, workload("trial", "road", "Training", wide()), false)
        .await
        .unwrap();
    create(&alice, workload("train", "steady", "Training", Value::Null), false)
        .await
        .unwrap();

    // An update that leaves what is wrong as it was passes: here it was let in before the namespace was enforced.
    operator::namespace(&scene.admin, "trial", "training", Some("enforce")).await;
    let bob = scene.plane.tenant("bob", "trial", "edit").await.unwrap();
    let patch = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let trial = workloads(&bob, "trial");
    eventually(PATIENCE, "the webhook sees the mode", || async {
        match create(&bob, workload("trial", "other", "Training", wide()), true).await {
            Err(kube::Error::Api(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    trial
        .patch(
            "road",
            &PatchParams::default(),
            &patch(json!({"purpose": "Another purpose of it"})),
        )
        .await
        .unwrap();
    let wider = json!({"network": {"connectTo": [{"cidr": "8.0.0.0/5", "ports": [{"port": 443}]}]}});
    let status = refusal(trial.patch("road", &PatchParams::default(), &patch(wider)).await);
    assert!(status.message.contains("NET-04/cidr-width"), "{}", status.message);

    // The settings that nobody would hear.
    let weak = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"controls": [{"id": "NET-04", "mode": "Audit"}]}});
    let status = refusal(operator::apply(&scene.admin, weak).await);
    assert!(status.message.contains("CLU-02/reason"), "{}", status.message);

    tenants::policies(&scene, &alice).await;
    tenants::volumes(&scene, &alice).await;
    let unused = BTreeSet::from([
        // Asked only where a namespace is younger than what the webhook has seen.
        (String::new(), "namespaces".to_owned(), "get".to_owned()),
    ]);
    let component = components()
        .into_iter()
        .find(|component| component.name == "webhook")
        .unwrap();
    let delete = workloads(&scene.admin, "train")
        .delete("steady", &DeleteParams::default())
        .await;
    delete.unwrap();
    let wrong = audit::problems(&scene.plane, &component, &unused);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_absence_blocks_writes_of_our_own_kinds_and_nothing_else() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    // Before there is a webhook nothing is refused for want of one.
    create(&scene.admin, workload("train", "early", "Training", Value::Null), false)
        .await
        .unwrap();
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    create(
        &scene.admin,
        workload("train", "steady", "Training", Value::Null),
        false,
    )
    .await
    .unwrap();
    webhook.program.kill();

    let status = refusal(create(&scene.admin, workload("train", "late", "Training", Value::Null), false).await);
    assert!(
        status
            .message
            .contains("failed calling webhook \"workloads.webhook.cloison.dev\""),
        "{}",
        status.message
    );
    // The kinds of the cluster are judged again where they are used.
    create(&scene.admin, waiver("w"), false).await.unwrap();

    // What changes no content: labels, a quarantine, owners.
    let train = workloads(&scene.admin, "train");
    let quarantine =
        json!({"metadata": {"annotations": {names::QUARANTINE_ANNOTATION: "an incident"}, "labels": {"a": "b"}}});
    train
        .patch("steady", &PatchParams::default(), &Patch::Merge(quarantine))
        .await
        .unwrap();
    // Deletions; and everything where nothing would be refused.
    train.delete("early", &DeleteParams::default()).await.unwrap();
    create(&scene.admin, workload("trial", "late", "Training", wide()), false)
        .await
        .unwrap();
    let others = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "train"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "train"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "train"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "kube-system"},
            "spec": {"containers": [{"name": "a", "image": "registry.example.com/a"}]}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a", "namespace": "train"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "own", "namespace": "train"},
            "spec": {"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "train"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "a", "image": "registry.example.com/a"}]}}}}),
    ];
    for object in others {
        let kind = object["kind"].clone();
        let created = create(&scene.admin, object, false).await;
        // A claim without a default account may be refused by others, never by us.
        if let Err(error) = created {
            assert!(!error.to_string().contains("cloison"), "{kind}: {error}");
        }
    }
    // A namespace ends with all that is in it.
    let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(scene.admin.clone());
    all.delete("train", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "train ends", || async {
        match all.get_opt("train").await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|ns| ns.map(|ns| ns.status)))),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_fails_no_request() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    let (first, second) = (scene.webhook("first").await, scene.webhook("second").await);
    scene.lead_to(&first).await;
    let load = scene.load("train");
    load.goes_on(20).await;
    let mut kept = raw::Kept::open(&first, &scene.material().await["ca.crt"]).await;
    let head = kept.post().await.unwrap();
    assert!(!head.contains("connection: close"), "{head}");
    // As in a cluster: it is told to stop, and a moment later nobody is led to it any more.
    tokio::join!(first.program.stop(), async {
        operator::logs(&first.program, 0, "stopping").await;
        eventually(PATIENCE, "it is not ready any more", || async {
            let answer = operator::ask(&first.program, "/readyz");
            if answer.as_ref().is_some_and(|(status, _)| *status == 503) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await
        .unwrap();
        // It says that this connection ends here, so that the next request does not meet its end.
        let head = kept.post().await.unwrap();
        assert!(head.contains("connection: close"), "{head}");
        assert!(kept.post().await.is_err(), "it goes on");
        scene.route(&second).await;
    });
    load.none_failed().await;
    assert!(
        operator::metric(
            &second.program,
            "cloison_webhook_reviews_total",
            &["result=\"allowed\""]
        ) > 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_load() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    // Two at once on an empty Secret: one of them wins.
    let (first, second) = tokio::join!(scene.webhook("first"), scene.webhook("second"));
    scene.lead_to(&first).await;
    let begun = scene.material().await;
    for (name, webhook) in [("a", &first), ("b", &second)] {
        let answer = raw::post(webhook, &begun["ca.crt"], name.as_bytes()).await;
        assert_eq!(answer.0, 400, "both serve what is trusted: {answer:?}");
    }
    let load = scene.load("train");
    let handshakes = scene::handshakes(&scene.admin, [&first, &second]);

    // The certificate is over: it is replaced before anybody serves it.
    scene.put(&aged::expired(&begun)).await;
    let renewed = scene
        .material_where("a new certificate", |material| {
            aged::days_left(material, "tls.crt") > 80
        })
        .await;
    assert_eq!(renewed["ca.crt"], begun["ca.crt"], "by the same authority");
    load.goes_on(20).await;

    // The authority is old: the new one is added, trusted, and only then used.
    scene.put(&aged::authority(&renewed)).await;
    let added = scene
        .material_where("two authorities", |material| aged::number(&material["ca.crt"]) == 2)
        .await;
    assert_eq!(added["tls.crt"], renewed["tls.crt"], "not used before it is trusted");
    let replaced = scene
        .material_where("its certificate", |material| material["tls.crt"] != renewed["tls.crt"])
        .await;
    assert_eq!(replaced["ca.crt"], added["ca.crt"], "the old one stays for a while");
    load.goes_on(20).await;
    scene.route(&second).await;
    load.goes_on(20).await;

    // Somebody empties the Secret: it is put back.
    scene.put(&std::collections::BTreeMap::new()).await;
    let back = scene
        .material_where("the Secret is whole", |material| material.contains_key("tls.crt"))
        .await;
    assert_eq!(back["ca.crt"], replaced["ca.crt"]);
    // Or breaks a part of it.
    let mut broken = back.clone();
    broken.insert("tls.key".to_owned(), "no key".to_owned());
    scene.put(&broken).await;
    scene
        .material_where("another key", |material| material["tls.key"].contains("PRIVATE KEY"))
        .await;
    load.none_failed().await;
    handshakes.none_failed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_policy_is_made_smaller() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    let alice = scene.plane.tenant("alice", "train", "edit").await.unwrap();
    let before = operator::metric(
        &webhook.program,
        "cloison_webhook_reviews_total",
        &["result=\"allowed\""],
    );
    tenants::large(&scene, &alice).await;
    let after = operator::metric(
        &webhook.program,
        "cloison_webhook_reviews_total",
        &["result=\"allowed\""],
    );
    assert!(after >= before + 2, "both were judged: {before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_clients_that_are_too_much_are_let_go() {
    let scene = Scene::start().await;
    let webhook = scene.webhook("webhook").await;
    let authority = scene.material().await["ca.crt"].clone();
    for garbage in [
        &b""[..],
        b"{}",
        b"null",
        b"\xff\xfe",
        b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1beta1\"}",
    ] {
        let (status, text) = raw::post(&webhook, &authority, garbage).await;
        assert_eq!(status, 400, "{text}");
        assert!(
            text.starts_with("cloison webhook: this is no request for admission"),
            "{text}"
        );
    }
    // On a busy machine so large a body may take longer than the webhook waits for any: then it is sent again.
    let large = vec![b' '; 2 * 3 * 1024 * 1024 + 64 * 1024 + 1];
    eventually(PATIENCE, "a body that is too large is refused for that", || async {
        match raw::post(&webhook, &authority, &large).await.0 {
            413 => Ok(()),
            504 => Err("it took too long"),
            other => panic!("{other}"),
        }
    })
    .await
    .unwrap();
    let timeouts = || {
        let label = ["result=\"timeout\""];
        operator::metric(&webhook.program, "cloison_webhook_reviews_total", &label)
    };
    let before = timeouts();
    let mut kept = raw::Kept::open(&webhook, &authority).await;
    kept.post().await.unwrap();
    // Clients that send half a body hold nobody up, and are told.
    let slow: Vec<_> = (0..8)
        .map(|_| tokio::spawn(raw::half(webhook.address, authority.clone())))
        .collect();
    let (status, _) = raw::post(&webhook, &authority, b"{}").await;
    assert_eq!(status, 400);
    for slow in slow {
        assert_eq!(slow.await.unwrap().0, 504);
    }
    // A connection that was idle meanwhile is the API server's to close.
    kept.post().await.unwrap();
    assert_eq!(timeouts(), before + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_button_takes_it_away_and_it_stays_away() {
    let scene = Scene::start().await;
    namespaces(&scene.admin).await;
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    // Nobody but the operator changes it, the webhook itself included.
    let owner = scene.configuration().await.unwrap().metadata.owner_references.unwrap();
    assert_eq!(
        (&*owner[0].kind, &*owner[0].name),
        ("ClusterRole", names::CONTROLLER_ROLE)
    );
    let account = scene
        .plane
        .service_account(names::DEFAULT_NAMESPACE, names::WEBHOOK_ACCOUNT)
        .await
        .unwrap();
    let mut open = serde_json::to_value(scene.configuration().await.unwrap()).unwrap();
    open["webhooks"][1]["failurePolicy"] = json!("Ignore");
    open["webhooks"][0]["timeoutSeconds"] = json!(30);
    open["metadata"]["managedFields"] = Value::Null;
    let kind = ApiResource::erase::<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration>(&());
    let api: Api<DynamicObject> = Api::all_with(account, &kind);
    let patch = Patch::Merge(json!({"webhooks": open["webhooks"]}));
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually(PATIENCE, "the webhook may not change its configuration", || async {
        match api.patch(names::WEBHOOK_CONFIGURATION, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.message.contains("CLU-04/webhook") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "passed"))),
        }
    })
    .await
    .unwrap();
    // What somebody with every right does to it is put back.
    let admin: Api<DynamicObject> = Api::all_with(scene.admin.clone(), &kind);
    admin
        .delete(names::WEBHOOK_CONFIGURATION, &DeleteParams::default())
        .await
        .unwrap();
    scene.lead_to(&webhook).await;

    let cloison = |arguments: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_cloison"))
            .env("KUBECONFIG", scene.plane.admin_kubeconfig().unwrap())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = cloison("off --scope admission --reason an-incident");
    assert!(told.contains("webhooks 0/1 left"), "{told}");
    operator::stays(scene::MOMENT, || async {
        assert!(scene.configuration().await.is_none(), "it came back");
    })
    .await;
    create(&scene.admin, workload("train", "free", "Training", wide()), false)
        .await
        .unwrap();
    cloison("on");
    scene.lead_to(&webhook).await;
}
