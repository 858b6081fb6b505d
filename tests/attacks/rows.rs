//! The rows, as they are written in `rows.yaml`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    pub policy: Value,
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    #[serde(rename = "row")]
    pub number: u8,
    pub attack: String,
    pub who: Who,
    #[serde(default)]
    pub tries: Vec<Try>,
    #[serde(default)]
    pub control: Vec<Try>,
    /// By policy and rule, such as `cloison-net NET-10/no-peers`.
    #[serde(default)]
    pub mutant: BTreeMap<String, Vec<String>>,
    pub shown: Option<String>,
    pub open: Option<String>,
    pub needs: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Edit,
    Admin,
    Portal,
    Root,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum When {
    Dead,
    Webhook,
}

/// One request.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Try {
    create: Option<Value>,
    pod: Option<Value>,
    container: Option<Value>,
    ask: Option<String>,
    #[serde(default)]
    body: Value,
    #[serde(rename = "in")]
    namespace: Option<String>,
    pub refused: Option<(String, String)>,
    #[serde(default)]
    pub anywhere: bool,
    pub stock: Option<String>,
    pub when: Option<When>,
}

/// As it goes to the API server.
pub struct Ask {
    pub verb: String,
    pub path: String,
    pub body: Value,
}

pub fn book() -> Book {
    serde_saphyr::from_str(include_str!("rows.yaml")).unwrap()
}

/// Where things of a kind are, and whether they are in a namespace.
const KINDS: [(&str, &str, bool); 14] = [
    ("NetworkPolicy", "/apis/networking.k8s.io/v1", true),
    ("Ingress", "/apis/networking.k8s.io/v1", true),
    ("AiWorkload", "/apis/cloison.dev/v1alpha1", true),
    ("Namespace", "/api/v1", false),
    ("Pod", "/api/v1", true),
    ("PersistentVolumeClaim", "/api/v1", true),
    ("Secret", "/api/v1", true),
    ("Service", "/api/v1", true),
    ("Endpoints", "/api/v1", true),
    ("ResourceClaim", "/apis/resource.k8s.io/v1", true),
    ("ResourceClaimTemplate", "/apis/resource.k8s.io/v1", true),
    ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1", true),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", true),
    (
        "ValidatingWebhookConfiguration",
        "/apis/admissionregistration.k8s.io/v1",
        false,
    ),
];

/// The path of the resource's name in the plural.
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_str() {
        "endpoints" => lower,
        "networkpolicy" => "networkpolicies".to_owned(),
        "ingress" => "ingresses".to_owned(),
        _ => format!("{lower}s"),
    }
}

/// A pod of the one workload of each namespace, which breaks no rule.
fn plain() -> Value {
    let image =
        "registry.example.com/train/app@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121";
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "attack", "labels": {"cloison.dev/workload": "road"}},
        "spec": {"serviceAccountName": "road", "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": image}]},
    })
}

/// A change as of a JSON merge patch.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

impl Try {
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("train")
    }

    /// The object that it creates.
    fn object(&self) -> Option<Value> {
        let mut pod = plain();
        match (&self.create, &self.pod, &self.container) {
            (Some(object), None, None) => return Some(object.clone()),
            (None, Some(change), None) => merge(&mut pod, change),
            (None, None, Some(change)) => merge(&mut pod["spec"]["containers"][0], change),
            _ => return None,
        }
        Some(pod)
    }

    /// The request, in the namespace it names or in its twin of mode audit.
    pub fn ask(&self, twin: bool) -> Ask {
        let at = |namespace: &str| {
            if twin {
                format!("{namespace}-lab")
            } else {
                namespace.to_owned()
            }
        };
        if let Some(ask) = &self.ask {
            let (verb, path) = ask.split_once(' ').unwrap();
            let (before, rest) = path.split_once("/namespaces/").unwrap_or((path, ""));
            let path = match rest.split_once('/') {
                _ if rest.is_empty() => before.to_owned(),
                Some((namespace, rest)) => format!("{before}/namespaces/{}/{rest}", at(namespace)),
                None => format!("{before}/namespaces/{}", at(rest)),
            };
            return Ask {
                verb: verb.to_owned(),
                path,
                body: self.body.clone(),
            };
        }
        let body = self.object().unwrap_or_else(|| panic!("a row without a request"));
        let kind = body["kind"].as_str().unwrap();
        let (_, group, namespaced) = KINDS.into_iter().find(|(known, ..)| *known == kind).unwrap();
        let path = if namespaced {
            format!("{group}/namespaces/{}/{}", at(self.namespace()), plural(kind))
        } else {
            format!("{group}/{}", plural(kind))
        };
        Ask {
            verb: "POST".to_owned(),
            path,
            body,
        }
    }
}

/// Pods and Services stream; nothing of it can be a dry run.
pub fn streams(path: &str) -> bool {
    ["/exec?", "/attach?", "/portforward?", "/proxy/"]
        .iter()
        .any(|part| path.contains(part))
}

impl Ask {
    pub fn request(&self) -> http::Request<Vec<u8>> {
        let (verb, content) = match self.verb.as_str() {
            "PATCH" => ("PATCH", "application/merge-patch+json"),
            "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            verb => (verb, "application/json"),
        };
        let mut path = self.path.clone();
        if !streams(&path) {
            path.push_str("?dryRun=All");
        }
        if self.verb == "APPLY" {
            path.push_str("&fieldManager=mallory&force=true");
        }
        let body = if self.body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.body).unwrap()
        };
        http::Request::builder()
            .method(verb)
            .uri(path)
            .header("content-type", content)
            .body(body)
            .unwrap()
    }
}

/// The page for readers.
pub fn page(book: &Book) -> String {
    let mut page = String::from(
        "<!-- Written by `make gen` from tests/attacks/rows.yaml. -->\n\n# Attacks, and what meets them\n\n\
         What has a rule, or *Kubernetes*, behind it was tried by the person named, on a real API server, in namespaces of mode \
         enforce: while Cloison runs, and after its controller and its webhook were killed; and once more without our policies' \
         bindings, where all that a rule had refused passed (tests/attacks). *Needs* is what an admin has to set first, because \
         it is not built in. **Open** is what nothing of ours stops, or nothing shows.\n\n\
         | # | who | attack | met by |\n|---|---|---|---|\n",
    );
    for row in &book.rows {
        let who = match row.who {
            _ if row.shown.is_some() => "-",
            Who::Edit => "`edit`",
            Who::Admin => "`admin`",
            Who::Portal => "writes namespaces",
            Who::Root => "writes everything",
        };
        let met = match (&row.shown, &row.open) {
            (Some(test), _) => format!("see {}", test.replace(' ', ", `") + "`"),
            (_, Some(why)) => format!("**open**: {why}"),
            _ => {
                let mut by: Vec<String> = row.tries.iter().map(Try::met).collect();
                by.dedup();
                by.join("; ")
            }
        };
        let needs = row
            .needs
            .as_ref()
            .map(|needs| format!(" Needs {needs}."))
            .unwrap_or_default();
        let _ = writeln!(page, "| {} | {who} | {} | {met}{needs} |", row.number, row.attack);
    }
    page
}

impl Try {
    fn met(&self) -> String {
        let closed = match self.when {
            Some(When::Webhook) => " (without it nothing passes)",
            _ => "",
        };
        match &self.refused {
            Some((by, rule)) => format!("`{by}` {rule}{closed}"),
            None => "*Kubernetes*".to_owned(),
        }
    }
}
