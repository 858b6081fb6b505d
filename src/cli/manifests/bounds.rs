//! A value beside its structural schema: types, bounds, required and unknown fields, and what a list must not repeat. In
//! the API server's words, with what would be right.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value};

use super::schema::Fault;

/// Longest value that is repeated in a message.
const SHOWN: usize = 60;

/// One pass over one object.
pub(super) struct Walk<'a> {
    patterns: &'a BTreeMap<String, Regex>,
    /// What was found, in the order of the object.
    pub faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    pub fn new(patterns: &'a BTreeMap<String, Regex>) -> Self {
        let faults = Vec::new();
        Self { patterns, faults }
    }

    fn say(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(Fault {
            field: field.to_owned(),
            message: message.into(),
        });
    }

    /// Checks a value, and everything in it, at a path.
    pub fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(message) = wrong_type(schema, value) {
            return self.say(path, message);
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
        {
            let words: Vec<String> = words
                .iter()
                .filter(|word| !word.is_null())
                .map(Value::to_string)
                .collect();
            return self.say(
                path,
                format!("Unsupported value: {}; supported: {}", shown(value), words.join(", ")),
            );
        }
        match value {
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or(f64::NAN), path),
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(map) => self.map(schema, map, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let length = text.chars().count() as u64;
        let invalid = format!("Invalid value: {}:", shown(&Value::from(text)));
        if let Some(least) = bound(schema, "minLength").filter(|least| length < *least) {
            self.say(
                path,
                format!("{invalid} should be at least {least} chars long, has {length}"),
            );
        }
        if let Some(most) = bound(schema, "maxLength").filter(|most| length > *most) {
            self.say(
                path,
                format!("{invalid} should be at most {most} chars long, has {length}"),
            );
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !self
                .patterns
                .get(pattern)
                .is_some_and(|compiled| compiled.is_match(text))
        {
            self.say(path, format!("{invalid} should match '{pattern}'"));
        }
        if schema.get("format").and_then(Value::as_str) == Some("date-time") && !is_date_time(text) {
            self.say(
                path,
                format!("{invalid} must be a date and time such as 2027-01-31T00:00:00Z"),
            );
        }
    }

    fn number(&mut self, schema: &Value, number: f64, path: &str) {
        let limit = |key| schema.get(key).and_then(Value::as_f64);
        if let Some(least) = limit("minimum").filter(|least| number < *least) {
            self.say(
                path,
                format!("Invalid value: {number}: should be greater than or equal to {least}"),
            );
        }
        if let Some(most) = limit("maximum").filter(|most| number > *most) {
            self.say(
                path,
                format!("Invalid value: {number}: should be less than or equal to {most}"),
            );
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], path: &str) {
        self.size(schema, ["minItems", "maxItems"], items.len(), "items", path);
        let unique = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Some(Vec::new()),
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                Some(keys.into_iter().flatten().filter_map(Value::as_str).collect())
            }
            _ => None,
        };
        let key = |item: &Value, keys: &[&str]| -> Value {
            let entry = |key: &&str| Some(((*key).to_owned(), item.get(key)?.clone()));
            if keys.is_empty() {
                item.clone()
            } else {
                Value::Object(keys.iter().filter_map(entry).collect())
            }
        };
        let mut seen = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(keys) = &unique {
                let key = key(item, keys);
                if seen.contains(&key) {
                    self.say(&path, format!("Duplicate value: {}", shown(&key)));
                }
                seen.push(key);
            }
            if let Some(schema) = schema.get("items") {
                self.check(schema, item, &path);
            }
        }
    }

    fn map(&mut self, schema: &Value, map: &Map<String, Value>, path: &str) {
        self.size(
            schema,
            ["minProperties", "maxProperties"],
            map.len(),
            "properties",
            path,
        );
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                let help = properties
                    .get(name)
                    .and_then(|p| p.get("description")?.as_str())
                    .unwrap_or_default();
                let help = help.split_terminator(['.', '\n']).next().unwrap_or_default();
                let colon = if help.is_empty() { "" } else { ": " };
                self.say(&join(path, name), format!("Required value{colon}{help}"));
            }
        }
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let closed = schema.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true));
        for (name, value) in map {
            let path = join(path, name);
            if let Some(schema) = properties.get(name).or(others) {
                self.check(schema, value, &path);
            } else if closed {
                // The API server drops it without a word; kubectl asks it not to.
                let known = properties.keys().map(String::as_str);
                self.say(
                    &path,
                    format!("unknown field `{name}`{}", super::did_you_mean(name, known)),
                );
            }
        }
    }

    fn size(&mut self, schema: &Value, [least, most]: [&str; 2], size: usize, what: &str, path: &str) {
        let size = size as u64;
        if let Some(least) = bound(schema, least).filter(|least| size < *least) {
            self.say(
                path,
                format!("Invalid value: {size}: should have at least {least} {what}"),
            );
        }
        if let Some(most) = bound(schema, most).filter(|most| size > *most) {
            self.say(path, format!("Too many: {size}: must have at most {most} {what}"));
        }
    }
}

fn bound(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" if schema.get("format").and_then(Value::as_str) == Some("int32") => {
            value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
        }
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if fits {
        return None;
    }
    let mut message = format!("Invalid value: {}: must be of type {wanted}", shown(value));
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        message = format!("Unsupported value: {}; supported: {}", shown(value), words.join(", "));
    }
    if wanted == "string" && value.is_boolean() {
        // kubectl reads YAML 1.1, where these are booleans too.
        message.push_str("; a bare word such as Off, On, no or yes is a boolean in YAML");
    }
    Some(message)
}

/// As the API server reads `date-time`: with seconds and a zone, and no leap second.
fn is_date_time(text: &str) -> bool {
    let seconds = text.get(17..19).and_then(|seconds| seconds.parse::<u8>().ok());
    let separator = text.get(10..11).is_some_and(|t| t.eq_ignore_ascii_case("t"));
    separator && seconds.is_some_and(|seconds| seconds < 60) && text.parse::<Timestamp>().is_ok()
}

/// A value in a message: on one line and not too long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    format!("{}…", text.chars().take(SHOWN).collect::<String>())
}
