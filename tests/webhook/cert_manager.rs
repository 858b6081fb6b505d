//! The certificate is cert-manager's: taken up when it comes and when it is renewed, without a failed request, and not when no
//! API server would trust it.

use std::collections::BTreeMap;

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Program, Tool, find};
use kube::Client;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::operator::{self, kubectl};
use crate::scene::{self, Scene, listening};
use crate::{namespaces, raw};

const SECRET: &str = names::WEBHOOK_SECRET;
const SERVICE: &str = "cloison-webhook.cloison-system.svc";

/// With its kinds served, not started yet.
fn cert_manager(plane: &ControlPlane) -> Program {
    let program = find(Tool::CertManager).unwrap();
    let kinds = program.with_file_name("cert-manager-crds");
    kubectl(plane, &format!("apply --server-side -f {}", kinds.display()));
    kubectl(
        plane,
        &format!("wait --for=condition=Established --timeout=30s -f {}", kinds.display()),
    );
    let arguments = [
        "--kubeconfig".into(),
        plane.admin_kubeconfig().unwrap().into_os_string(),
    ];
    Program::new(
        "cert-manager",
        program,
        arguments,
        plane.logs_dir().join("cert-manager.log"),
    )
}

/// What docs/webhook.md tells an admin to do: an authority of their own, and a Certificate for the Service.
async fn ask_for_a_certificate(admin: &Client) {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": names::DEFAULT_NAMESPACE}})
    };
    let authority =
        json!({"isCA": true, "commonName": "authority", "secretName": "authority", "issuerRef": {"name": "self"}});
    for object in [
        object("Issuer", "self", json!({"selfSigned": {}})),
        object("Certificate", "authority", authority),
        object("Issuer", "authority", json!({"ca": {"secretName": "authority"}})),
        object(
            "Certificate",
            "webhook",
            json!({"secretName": SECRET, "dnsNames": [SERVICE], "issuerRef": {"name": "authority"}}),
        ),
    ] {
        operator::apply(admin, object).await.unwrap();
    }
}

/// One that signed itself, for a name.
fn self_signed(name: &str) -> BTreeMap<String, String> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let parts = [
        ("ca.crt", certificate.pem()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ];
    parts.map(|(part, text)| (part.to_owned(), text)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_cert_manager_is_served_while_it_is_trusted() {
    let scene = Scene::start_with(
        vec![ApiServerOptions::default()],
        &["webhook.externalCertificates=true"],
    )
    .await;
    namespaces(&scene.admin).await;
    let start = async |name: &str| {
        let program = scene::webhook(&scene.plane, name, "--external-certificates").await;
        program.start().unwrap();
        operator::logs(&program, 0, &format!("Secret {SECRET} is not there")).await;
        program
    };
    let (first, second) = tokio::join!(start("first"), start("second"));
    let manager = cert_manager(&scene.plane);
    manager.start().unwrap();
    ask_for_a_certificate(&scene.admin).await;
    let (first, second) = tokio::join!(listening(first), listening(second));
    // The API server itself is the judge: it hears a refusal of the webhook's.
    scene.lead_to(&first).await;
    let begun = scene.material().await;
    let key = &begun["tls.key"];
    assert!(
        key.starts_with("-----BEGIN RSA PRIVATE KEY-----"),
        "as cert-manager writes it"
    );
    assert!(!begun.contains_key("ca.key"));

    let load = scene.load("train");
    let handshakes = scene::handshakes(&scene.admin, [&first, &second]);
    load.goes_on(20).await;
    let lengths = || [&first, &second].map(|webhook| webhook.program.output().len());
    let both = async |from: [usize; 2], text: &str| {
        operator::logs(&first.program, from[0], text).await;
        operator::logs(&second.program, from[1], text).await;
    };

    // It is renewed, as `cmctl renew` asks for it.
    let before = lengths();
    let now = k8s_openapi::jiff::Timestamp::now();
    let issuing = json!({"status": {"conditions": [{"type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "asked", "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}]}});
    kubectl(
        &scene.plane,
        &format!(
            "-n {} patch certificates.cert-manager.io webhook --subresource=status --type=merge -p={}",
            names::DEFAULT_NAMESPACE,
            issuing
        ),
    );
    let renewed = scene
        .material_where("another certificate", |now| now.get("tls.crt") != begun.get("tls.crt"))
        .await;
    assert_eq!(renewed["ca.crt"], begun["ca.crt"], "of the same authority");
    both(before, "serving a certificate").await;
    load.goes_on(20).await;

    // Nobody mends the Secret. Without an authority in it the one in the configuration counts.
    manager.stop().await;
    let before = lengths();
    let mut without_authority = begun.clone();
    without_authority.remove("ca.crt");
    scene.put(&without_authority).await;
    both(before, "serving a certificate").await;
    load.goes_on(20).await;

    // What is put there now would be trusted by nobody.
    let mut nameless = self_signed(SERVICE);
    nameless.remove("ca.crt");
    for (wrong, why) in [
        (self_signed("else.cloison-system.svc"), "tls.crt is not for "),
        (nameless, "signed by no authority of ca.crt"),
        (
            with_key(&renewed, &self_signed(SERVICE)["tls.key"]),
            "tls.crt cannot be read",
        ),
        (with_key(&renewed, "no key"), "tls.key cannot be read"),
    ] {
        let before = lengths();
        scene.put(&wrong).await;
        both(before, why).await;
        both(before, "; the last certificate stays").await;
        load.goes_on(20).await;
        raw::handshake(second.address, &begun["ca.crt"]).await.unwrap();
    }

    // One that starts now has nothing to serve, and says why.
    let third = scene::webhook(&scene.plane, "third", "--external-certificates").await;
    third.start().unwrap();
    operator::logs(&third, 0, "tls.key cannot be read").await;
    assert!(!third.output().contains("webhook listens"));

    // cert-manager finds that it is not what it wrote.
    let before = lengths();
    manager.start().unwrap();
    both(before, "serving a certificate").await;
    listening(third).await;
    load.none_failed().await;
    handshakes.none_failed().await;
    let secret = scene.secrets().get(SECRET).await.unwrap();
    let writers = secret.metadata.managed_fields.unwrap_or_default();
    let ours = writers
        .iter()
        .find(|writer| writer.manager.as_ref().is_some_and(|name| name.contains("cloison")));
    assert!(ours.is_none(), "it is only read: {ours:?}");
    manager.stop().await;
}

/// The same with another key.
fn with_key(material: &BTreeMap<String, String>, key: &str) -> BTreeMap<String, String> {
    let mut broken = material.clone();
    broken.insert("tls.key".to_owned(), key.to_owned());
    broken
}
