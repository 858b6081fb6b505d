//! Parts of objects, and objects with a change.
#![allow(dead_code, reason = "each test file uses a part of it")]

use serde_json::Value;

pub fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

/// The same object with a change.
pub fn with(mut object: Value, change: Value) -> Value {
    merge(&mut object, &change);
    object
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
