//! The pod that an object would make.

use serde_json::{Map, Value, json};

/// The first pod template in an object: `spec.template` of a Job, `spec.jobTemplate.spec.template` of a CronJob,
/// `spec.replicatedJobs[0].template.spec.template` of a JobSet, and so for kinds that nobody knows here.
pub(super) fn find(object: &Value) -> Option<&Map<String, Value>> {
    match object {
        Value::Object(map) => {
            let own = map.get("template").and_then(Value::as_object);
            let own = own.filter(|template| {
                let containers = template.get("spec").and_then(|spec| spec.get("containers"));
                containers.is_some_and(Value::is_array)
            });
            own.or_else(|| map.values().find_map(find))
        }
        Value::Array(items) => items.iter().find_map(find),
        _ => None,
    }
}

/// The pod that an object would make now: from its template, or the object itself where it is a pod.
pub(super) fn pod(kind: &str, namespace: &str, object: &Value) -> Option<Value> {
    let template = if kind == "Pod" {
        object.as_object()?
    } else {
        find(object.get("spec")?)?
    };
    let empty = json!({});
    let metadata = template.get("metadata").unwrap_or(&empty);
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
            "generateName": "cloison-why-", "namespace": namespace,
            "labels": metadata.get("labels"), "annotations": metadata.get("annotations"),
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
pub(super) fn containers(pod: &Value) -> Vec<&str> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    all.filter_map(|container| container.get("name")?.as_str()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_found_however_deep() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}});
        let job = json!({"spec": {"template": template}});
        for object in [
            job.clone(),
            json!({"spec": {"jobTemplate": job}}),
            json!({"spec": {"replicatedJobs": [{"template": {"metadata": {}, "spec": {"template": template}}}]}}),
        ] {
            let pod = pod("X", "ns", &object).unwrap();
            assert_eq!(pod["metadata"]["labels"]["a"], "b", "{object}");
            assert_eq!(containers(&pod), ["c"]);
        }
        assert_eq!(pod("X", "ns", &json!({"spec": {"template": {"spec": {}}}})), None);
    }

    #[test]
    fn a_stateful_set_brings_its_claims() {
        let set = json!({"spec": {
            "template": {"spec": {"containers": []}}, "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        }});
        assert_eq!(
            pod("StatefulSet", "ns", &set).unwrap()["spec"]["volumes"][0]["name"],
            "data"
        );
    }
}
