//! A mutating webhook in this process, as a service mesh has one: it puts a sidecar in front of the containers of every pod.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloison_testbed::eventually;
use kube::Client;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::common::{SOON, apply, pod, try_create};

/// The label of namespaces whose pods get the sidecar.
pub const LABEL: &str = "mesh.example/inject";

/// An injector that answers at an address for as long as the test runs.
pub struct Injector {
    url: String,
    authority: String,
}

impl Injector {
    /// Starts one that injects this container.
    pub fn start(sidecar: Value) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}/inject", listener.local_addr().unwrap());
        let router = Router::new().route("/inject", post(async move |body: String| inject(&body, &sidecar)));
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(server))).unwrap();
        tokio::spawn(server.serve(router.into_make_service()));
        Self {
            url,
            authority: certificate.pem(),
        }
    }

    /// Registers it for pods of namespaces with the label, and waits until they get the sidecar in one of them.
    pub async fn register(&self, admin: &Client, namespace: &str) {
        register(
            admin,
            "injector",
            &self.url,
            Some(&self.authority),
            json!({LABEL: "enabled"}),
        )
        .await;
        eventually(SOON, "pods get the sidecar", async || {
            let made = try_create(admin, pod(namespace, "probe"))
                .await
                .map_err(|error| error.to_string())?;
            let containers = made.data["spec"]["containers"].as_array().unwrap().len();
            if containers == 2 {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await
        .unwrap();
    }
}

/// A configuration that asks somebody at a URL about new pods of namespaces with labels, and refuses them without an answer.
pub async fn register(admin: &Client, name: &str, url: &str, authority: Option<&str>, labels: Value) {
    let mut client = json!({"url": url});
    if let Some(authority) = authority {
        client["caBundle"] = json!(STANDARD.encode(authority));
    }
    let hook = json!({
        "name": format!("{name}.mesh.example"), "clientConfig": client,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": labels},
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
    });
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name}, "webhooks": [hook],
    });
    apply(admin, configuration).await;
}

/// The answer to one review.
fn inject(body: &str, sidecar: &Value) -> String {
    let review: Value = serde_json::from_str(body).unwrap();
    let patch = json!([{"op": "add", "path": "/spec/containers/0", "value": sidecar}]);
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {
            "uid": review["request"]["uid"], "allowed": true,
            "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
        },
    })
    .to_string()
}
