//! JSON Schemas for editors and offline checkers. The definitions prune what they do not know; here it is an error,
//! because a misspelt field is the mistake people make.

use serde_json::{Map, Value, json};

use super::header;

/// The schema of one kind as a file.
pub fn for_editors(name: &str, mut schema: Value, definitions: &[Value]) -> String {
    close(&mut schema);
    let kind = definitions
        .iter()
        .filter_map(|crd| crd.pointer("/spec/names/kind")?.as_str())
        .find(|kind| name.starts_with(&format!("{}_", kind.to_lowercase())))
        .unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".into(), json!({ "const": "cloison.dev/v1alpha1" }));
        properties.insert("kind".into(), json!({ "const": kind }));
        properties.insert("metadata".into(), json!({ "type": "object", "required": ["name"] }));
    }
    let spec_required = schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|required| required.contains(&json!("spec")));
    let mut required = vec!["apiVersion", "kind", "metadata"];
    if spec_required {
        required.push("spec");
    }
    schema["required"] = json!(required);

    let mut ordered = Map::new();
    ordered.insert("$schema".into(), schema["$schema"].take());
    ordered.insert("$comment".into(), json!(header("src/api")));
    if let Value::Object(rest) = schema {
        ordered.extend(rest.into_iter().filter(|(key, _)| key != "$schema"));
    }
    format!("{:#}\n", Value::Object(ordered))
}

/// Refuses unknown fields of every object that lists its fields, and drops what only the API server understands.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-kubernetes-"));
            if map.get("properties").is_some_and(Value::is_object) && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".into(), json!(false));
            }
            for (key, value) in map.iter_mut() {
                if key == "properties" {
                    value
                        .as_object_mut()
                        .into_iter()
                        .flatten()
                        .for_each(|(_, property)| close(property));
                } else if key != "default" && key != "enum" {
                    close(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}
