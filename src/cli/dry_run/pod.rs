//! The pod that the API server is asked about.

use serde_json::{Map, Value, json};

/// What its name begins with.
pub(in crate::cli) const PREFIX: &str = "cloison-dry-run-";

/// The pod that a template (or a pod: what has `metadata` and `spec`) makes in a namespace. `object` is what the template is
/// part of, of this kind.
pub(in crate::cli) fn of(kind: &str, namespace: &str, template: &Value, object: &Value) -> Option<Value> {
    let written = |key: &str| template.pointer(&format!("/metadata/{key}"));
    let mut spec = template.get("spec")?.clone();
    if let Some(spec) = spec.as_object_mut() {
        // Where an old pod runs is not asked for again; in a template it is somebody's wish.
        if kind == "Pod" {
            spec.remove("nodeName");
        }
        claims(spec, object);
    }
    Some(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": PREFIX, "namespace": namespace,
            "labels": written("labels"), "annotations": written("annotations"),
        },
        "spec": spec,
    }))
}

/// A StatefulSet adds a volume for each claim template; without them its containers mount what is not there.
fn claims(spec: &mut Map<String, Value>, object: &Value) {
    let templates = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let names = templates
        .into_iter()
        .flatten()
        .filter_map(|template| template.pointer("/metadata/name"));
    let volumes = names.map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let volumes: Vec<Value> = volumes.collect();
    if volumes.is_empty() {
        return;
    }
    if let Some(list) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut() {
        list.extend(volumes);
    }
}

/// The names of a pod's containers.
pub(in crate::cli) fn containers(pod: &Value) -> Vec<&str> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    all.filter_map(|container| container.get("name")?.as_str()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_stateful_set_brings_its_claims() {
        let template = json!({"spec": {"containers": []}});
        let set = json!({"spec": {"template": template, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}});
        let pod = of("StatefulSet", "ns", &template, &set).unwrap();
        assert_eq!(pod["spec"]["volumes"][0]["name"], "data");
    }
}
