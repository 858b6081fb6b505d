//! The pod that an object would make.

use serde_json::Value;

use crate::cli::dry_run;

/// The first pod template in an object: `spec.template` of a Job, `spec.jobTemplate.spec.template` of a CronJob,
/// `spec.replicatedJobs[0].template.spec.template` of a JobSet, and so for kinds that nobody knows here.
pub(super) fn find(object: &Value) -> Option<&Value> {
    match object {
        Value::Object(map) => {
            let own = map.get("template").filter(|template| {
                let containers = template.pointer("/spec/containers");
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
        object
    } else {
        find(object.get("spec")?)?
    };
    dry_run::pod::of(kind, namespace, template, object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

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
            assert_eq!(dry_run::pod::containers(&pod), ["c"]);
        }
        assert_eq!(pod("X", "ns", &json!({"spec": {"template": {"spec": {}}}})), None);
    }
}
