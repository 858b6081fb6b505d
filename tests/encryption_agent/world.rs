//! Control planes with an agent on each node, and what they report.

use std::collections::BTreeSet;

use super::*;

/// See the module.
pub struct World {
    pub cluster: Cluster,
    pub nodes: Vec<Node>,
    operator: Client,
    pub escrow: Identity,
}

impl World {
    pub async fn start(replicas: usize) -> Self {
        let cluster = Cluster::start_unproven(vec![agents::quick(); replicas], spec(json!({}))).await;
        let admin = cluster.admin();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": names::AGENT_ACCOUNT, "namespace": names::DEFAULT_NAMESPACE}});
        apply(&admin, account).await;
        let mut nodes = Vec::new();
        for server in cluster.plane.api_servers() {
            nodes.push(Node::new(&cluster.plane, server).await);
        }
        let escrow = new_identity().unwrap();
        let wanted = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"},
            "spec": {"mode": "Manage", "escrow": {"recipients": [escrow.recipient().0]}}});
        apply(&admin, wanted).await;
        let operator = cluster.operator().await;
        Self {
            cluster,
            nodes,
            operator,
            escrow,
        }
    }

    /// As the controller orders.
    pub async fn order(&self, number: i64, order: Value) {
        let mut order = order;
        order["number"] = json!(number);
        let wanted = objects(&self.operator, CLOISON, "SecretEncryption", None);
        let status = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "status": {"order": order}});
        let apply = kube::api::PatchParams::apply("cloison").force();
        wanted
            .patch_status("default", &apply, &kube::api::Patch::Apply(&status))
            .await
            .unwrap();
    }

    pub async fn ring(&self) -> Option<DynamicObject> {
        let rings = objects(&self.cluster.admin(), CLOISON, "EncryptionKeyRing", None);
        rings.get_opt("default").await.unwrap()
    }

    /// Waits until the report of a node is as wanted.
    pub async fn reported(&self, node: &Node, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let reports = objects(&self.cluster.admin(), CLOISON, "ControlPlaneReport", None);
        let last = std::sync::Mutex::new(Value::Null);
        let found = eventually(within, what, async || {
            let report = reports.get_opt(&node.name).await.map_err(|error| error.to_string())?;
            let spec = report.map_or(Value::Null, |report| report.data["spec"].clone());
            *last.lock().unwrap() = spec.clone();
            if wanted(&spec) {
                Ok(spec)
            } else {
                Err(format!("not yet: {spec}"))
            }
        })
        .await;
        found.unwrap_or_else(|error| panic!("{}: {error}\n{}", node.name, node.agent.output()))
    }

    pub async fn everywhere(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(self.reported(node, what, within, &wanted).await);
        }
        all
    }

    /// The names of the keys in everybody's file.
    pub async fn files(&self, wanted: &[&str]) {
        let names = |report: &Value| -> Vec<String> {
            let keys = report["file"]["keys"].as_array().cloned().unwrap_or_default();
            keys.iter()
                .map(|key| key["name"].as_str().unwrap().to_owned())
                .collect()
        };
        // A report may still be of the order before; every node has the same bytes. One may have none yet.
        let on_disk = |node: &Node| fs::read(node.folder.join(FILE)).ok().map(|bytes| hash(&bytes));
        let on_disks = || -> BTreeSet<Option<String>> { self.nodes.iter().map(on_disk).collect() };
        let as_ordered = |report: &Value| {
            let reported = BTreeSet::from([report["file"]["hash"].as_str().map(str::to_owned)]);
            names(report) == wanted && on_disks() == reported
        };
        for report in self.everywhere("the same file everywhere", DONE, as_ordered).await {
            assert_eq!(report["file"]["own"], true);
        }
    }

    pub async fn loaded(&self) {
        let loaded = |report: &Value| report["apiServer"]["loadedHash"] == report["file"]["hash"];
        self.everywhere("the API server loaded the file", RELOADED, loaded)
            .await;
    }

    /// Writes a Secret by one API server; how etcd holds it.
    pub async fn stored(&self, replica: usize, name: &str) -> Vec<u8> {
        let admin = self.cluster.plane.api_server(replica).admin().unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
            "stringData": {"a": "canary-of-the-test"}});
        apply(&admin, secret).await;
        let key = format!("/registry/secrets/default/{name}");
        self.cluster.plane.etcd().get(&key).await.unwrap().unwrap()
    }
}
