//! What a cluster lives on, as requests.

use base64::Engine as _;
use kube::Client;
use serde_json::{Value, json};

const IMAGE: &str =
    "registry.example.com/train/app@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121";

/// A pod that breaks no rule, with more in its spec.
pub fn pod(name: &str, labels: Value, more: Value) -> Value {
    let mut spec = json!({"serviceAccountName": "default", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": IMAGE}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// A request for a certificate, as a joining node makes it.
fn request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(pem)
}

/// What a cluster does to what is there: verb, path, change.
pub fn changes() -> Vec<(&'static str, &'static str, Value)> {
    let binding = json!({"metadata": {"name": "p1"}, "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"}});
    vec![
        (
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
            json!({"spec": {"holderIdentity": "n1"}}),
        ),
        ("PATCH", "/api/v1/nodes/n1", json!({"metadata": {"labels": {"a": "b"}}})),
        (
            "PATCH",
            "/api/v1/nodes/n1/status",
            json!({"status": {"capacity": {"cpu": "8"}}}),
        ),
        ("POST", "/api/v1/namespaces/train/pods/p1/binding", binding),
        (
            "PATCH",
            "/api/v1/namespaces/train/pods/p1/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/train/pods/p1",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        ("DELETE", "/api/v1/namespaces/train/pods/p1", Value::Null),
        (
            "PATCH",
            "/api/v1/namespaces/train",
            json!({"metadata": {"labels": {"team": "vision"}}}),
        ),
        ("DELETE", "/api/v1/namespaces/plain", Value::Null),
    ]
}

/// What a cluster lives on: the path, and what is posted there. Each is a dry run where the API has one.
pub fn vital() -> Vec<(&'static str, Value)> {
    let meta = |name: &str| json!({"name": name});
    let apps = json!({"selector": {"matchLabels": {"k8s-app": "dns"}}, "template": {"metadata": {"labels": {"k8s-app": "dns"}},
        "spec": {"hostNetwork": true, "containers": [{"name": "dns", "image": "registry.example.com/coredns:1"}]}}});
    let allowed = json!({"spec": {"user": "somebody", "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    vec![
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            json!({"metadata": meta("n9")}),
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
            json!({"metadata": meta("scheduler")}),
        ),
        ("/api/v1/nodes", json!({"metadata": meta("n9")})),
        ("/api/v1/namespaces", json!({"metadata": meta("anew")})),
        (
            "/api/v1/persistentvolumes",
            json!({"metadata": meta("pv"), "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}}),
        ),
        (
            "/api/v1/namespaces/train/events",
            json!({"metadata": meta("e"), "involvedObject": {"kind": "Pod", "namespace": "train",
            "name": "p1"}, "reason": "Seen", "message": "m", "type": "Normal"}),
        ),
        ("/api/v1/namespaces/train/configmaps", json!({"metadata": meta("c")})),
        (
            "/api/v1/namespaces/train/secrets",
            json!({"metadata": meta("s"), "stringData": {"a": "b"}}),
        ),
        (
            "/api/v1/namespaces/train/serviceaccounts",
            json!({"metadata": meta("a")}),
        ),
        (
            "/api/v1/namespaces/train/pods/p1/eviction",
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta("p1")}),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/train/endpointslices",
            json!({"metadata": meta("x"), "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.2.3"]}]}),
        ),
        (
            "/apis/batch/v1/namespaces/train/jobs",
            json!({"metadata": meta("j"), "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": IMAGE}]}}}}),
        ),
        (
            "/api/v1/namespaces/kube-system/configmaps",
            json!({"metadata": meta("c")}),
        ),
        (
            "/api/v1/namespaces/kube-system/services",
            json!({"metadata": meta("s"), "spec": {"ports": [{"port": 53}], "externalIPs": ["203.0.113.7"]}}),
        ),
        (
            "/api/v1/namespaces/kube-system/pods",
            pod(
                "dns",
                json!({}),
                json!({"hostNetwork": true, "hostPID": true,
            "priorityClassName": "system-node-critical", "nodeName": "n1"}),
            ),
        ),
        (
            "/apis/apps/v1/namespaces/kube-system/daemonsets",
            json!({"metadata": meta("proxy"), "spec": apps}),
        ),
        (
            "/apis/apps/v1/namespaces/cloison-system/deployments",
            json!({"metadata": meta("us"), "spec": apps}),
        ),
        (
            "/api/v1/namespaces/cloison-system/pods",
            pod("us", json!({}), json!({})),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/kube-system/networkpolicies",
            json!({"metadata": meta("open"),
            "spec": {"podSelector": {}, "ingress": [{}]}}),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings",
            json!({"metadata": meta("b"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "train"}]}),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            json!({"metadata": meta("r"), "rules": []}),
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json!({"metadata": meta("things.example.com"), "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            json!({"metadata": meta("of-others"), "webhooks": []}),
        ),
        (
            "/api/v1/namespaces/train/pods",
            pod("fine", json!({"cloison.dev/workload": "steady"}), json!({})),
        ),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests",
            json!({"metadata": meta("n9"), "spec": {
            "request": request(), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}),
        ),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", allowed),
        (
            "/apis/authentication.k8s.io/v1/tokenreviews",
            json!({"spec": {"token": "x"}}),
        ),
    ]
}

/// Asks once; what is said against it.
pub async fn ask(client: &Client, verb: &str, path: &str, body: &Value) -> Result<(), String> {
    let content = if verb == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body).unwrap()
    };
    let request = http::Request::builder()
        .method(verb)
        .uri(format!("{path}?dryRun=All"))
        .header("content-type", content)
        .body(body)
        .unwrap();
    client
        .request_text(request)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}
