//! The CustomResourceDefinitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{AiSecurityPolicy, AiWorkload, ControlPlaneReport, EncryptionKeyRing, SecretEncryption, Waiver};

/// The definitions of all kinds as JSON values, sorted by name.
pub fn definitions() -> Vec<Value> {
    let mut all = vec![
        finish::<AiSecurityPolicy>(true),
        finish::<AiWorkload>(false),
        finish::<ControlPlaneReport>(false),
        finish::<EncryptionKeyRing>(false),
        finish::<SecretEncryption>(true),
        finish::<Waiver>(false),
    ];
    all.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
    all
}

/// Completes what the derive cannot say. `optional_spec`: an object without `spec` gets all defaults.
fn finish<K: CustomResourceExt>(optional_spec: bool) -> Value {
    let crd: CustomResourceDefinition = K::crd();
    let mut crd = serde_json::to_value(crd).unwrap_or(Value::Null);
    if let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else {
                continue;
            };
            tidy(schema, false);
            // The derive describes the object as generated; what a person asks for is what the spec says of itself.
            if let Some(description) = schema.pointer("/properties/spec/description").cloned() {
                schema["description"] = description;
            }
            if let Some(status) = schema.pointer_mut("/properties/status") {
                // kstatus calls an object without conditions ready; a generation that never was says otherwise.
                if status.pointer("/properties/observedGeneration").is_some() {
                    status["default"] = json!({"observedGeneration": -1});
                }
            }
            if optional_spec && let Some(spec) = schema.pointer_mut("/properties/spec") {
                spec["default"] = json!({});
            }
        }
    }
    crd
}

/// Removes what the derive writes and we do not mean: `nullable` (the API server then drops an explicit null, as it does
/// for built-in kinds), defaults that say nothing, and defaults inside list items, where they make GitOps tools drift for
/// ever.
fn tidy(schema: &mut Value, inside_items: bool) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            let says_nothing = map
                .get("default")
                .is_some_and(|d| d.is_null() || d.as_array().is_some_and(Vec::is_empty));
            if (inside_items && map.contains_key("type")) || says_nothing {
                map.remove("default");
            }
            for (key, value) in map.iter_mut() {
                if key != "default" {
                    tidy(value, inside_items || key == "items");
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| tidy(value, inside_items)),
        _ => {}
    }
}

/// The JSON Schema of each kind, for editors and offline checkers: file name and schema.
pub fn json_schemas() -> Vec<(String, Value)> {
    definitions()
        .into_iter()
        .filter_map(|crd| {
            let kind = crd.pointer("/spec/names/kind")?.as_str()?.to_lowercase();
            let mut schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone();
            schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
            Some((format!("{kind}_v1alpha1.json"), schema))
        })
        .collect()
}
