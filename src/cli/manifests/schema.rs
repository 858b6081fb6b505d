//! Our own kinds as the API server checks them, so that the same bytes get the same verdict: the schema of the installed
//! definitions with its bounds, its lists and its CEL rules.
//!
//! kube-cel evaluates the rules and fills in the defaults. The bounds are ours: a structural schema knows a dozen
//! keywords, what lists must not repeat is no JSON Schema, and patterns are those of Go, which the crate `regex` shares.
//! Rules that compare with `oldSelf` need what is in the cluster: kube-cel skips them where there is none.

use std::collections::BTreeMap;

use kube::core::cel::{CompiledSchema, ErrorKind, ValidationError, apply_defaults, compile_schema, validate_compiled};
use regex::Regex;
use serde_json::{Value, json};

use super::bounds::Walk;
use crate::api::definitions::definitions;
use crate::compliance::{Catalogue, Finding, RuleId, Subject};

/// Something the API server would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `spec.network.connectTo[0]`; empty for the object.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// One kind, ready to check many objects.
#[derive(Debug)]
pub struct Schema {
    kind: String,
    structure: Value,
    rules: CompiledSchema,
    patterns: BTreeMap<String, Regex>,
}

/// The kinds by name.
#[derive(Debug, Default)]
pub struct Schemas(BTreeMap<String, Schema>);

impl Schemas {
    /// Reads the embedded definitions.
    pub fn builtin() -> Self {
        let all = definitions().into_iter().filter_map(|definition| {
            let kind = definition.pointer("/spec/names/kind")?.as_str()?.to_owned();
            let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema")?;
            Some((kind.clone(), Schema::new(kind, schema.clone())))
        });
        Self(all.collect())
    }

    /// The schema of a kind of ours.
    pub fn get(&self, kind: &str) -> Option<&Schema> {
        self.0.get(kind)
    }

    /// The names of our kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Schema {
    fn new(kind: String, mut schema: Value) -> Self {
        // What every object has, and the definitions leave to the API server.
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        schema["properties"]["metadata"] = json!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"name": {
                "type": "string", "maxLength": 253,
                "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            }},
        });
        escape(&mut schema);
        let mut patterns = BTreeMap::new();
        compile(&schema, &mut patterns);
        Self {
            kind,
            rules: compile_schema(&schema),
            structure: schema,
            patterns,
        }
    }

    /// Everything the API server would refuse when this object, without nulls, is created.
    pub fn check(&self, object: &Value) -> Vec<Fault> {
        let mut object = self.with_defaults(object.clone());
        // Creating an object drops its status.
        if let Value::Object(map) = &mut object {
            map.remove("status");
        }
        let mut walk = Walk::new(&self.patterns);
        walk.check(&self.structure, &object, "");
        if !walk.faults.is_empty() {
            // The API server leaves the rules out, too: they may rely on what is wrong.
            return walk.faults;
        }
        let failed = validate_compiled(&self.rules, &object, None).err();
        failed.into_iter().flatten().map(|error| self.fault(error)).collect()
    }

    /// With the defaults, also inside what a default put there.
    fn with_defaults(&self, mut object: Value) -> Value {
        loop {
            let defaulted = apply_defaults(&self.structure, &object);
            if defaulted == object {
                return object;
            }
            object = defaulted;
        }
    }

    /// Our rules begin with their id, and say what to do; the catalogue adds the fix of the very rule and the reference.
    fn fault(&self, error: ValidationError) -> Fault {
        let known = error.message.split_once(' ');
        let known = known.and_then(|(id, rest)| Some((id.parse::<RuleId>().ok()?, rest)));
        let message = match (error.kind, known) {
            (ErrorKind::ValidationFailure, Some((rule, rest))) => {
                let control = Catalogue::builtin().control(rule.control());
                let fix = control.and_then(|control| control.rule(&rule)?.fix.clone());
                let mut finding = Finding::new(rule, Subject::cluster(&*self.kind, ""), rest);
                finding.fix = fix;
                finding.line()
            }
            (ErrorKind::ValidationFailure, None) => error.message,
            // Never taken for a pass.
            _ => format!(
                "a rule of the schema cannot be judged without a cluster: {}",
                error.message
            ),
        };
        // A rule of the whole object can only be about its name.
        let field = match error.field_path {
            root if root.is_empty() => "metadata.name".to_owned(),
            field => field,
        };
        Fault { field, message }
    }
}

/// `namespace` is a reserved word of CEL that API servers take for a field all the same; kube-cel knows it escaped alone.
fn escape(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(rule) if key == "rule" => {
                        *rule = format!("{rule} ")
                            .replace(".namespace)", ".__namespace__)")
                            .replace(".namespace ", ".__namespace__ ");
                    }
                    _ => escape(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(escape),
        _ => {}
    }
}

fn compile(schema: &Value, patterns: &mut BTreeMap<String, Regex>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern")
                && let Ok(compiled) = Regex::new(pattern)
            {
                patterns.insert(pattern.clone(), compiled);
            }
            map.values().for_each(|value| compile(value, patterns));
        }
        Value::Array(items) => items.iter().for_each(|item| compile(item, patterns)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(spec: &Value) -> Schema {
        Schema::new(
            "Kind".to_owned(),
            json!({"type": "object", "properties": {"spec": spec}}),
        )
    }

    fn check(schema: &Schema, object: &Value) -> Vec<String> {
        let faults = schema.check(object).into_iter();
        faults
            .map(|fault| format!("{} {}", fault.field, fault.message))
            .collect()
    }

    #[test]
    fn a_default_inside_a_default_is_there_when_rules_ask() {
        let spec = json!({
            "type": "object", "default": {},
            "properties": {"mode": {"type": "string", "default": "Audit"}},
            "x-kubernetes-validations": [{"rule": "has(self.mode) && self.mode == 'Audit'", "message": "no"}],
        });
        let schema = schema(&spec);
        assert_eq!(check(&schema, &json!({})), Vec::<String>::new());
        assert_eq!(check(&schema, &json!({"spec": {"mode": "Warn"}})), ["spec no"]);
    }

    #[test]
    fn a_rule_that_cannot_be_judged_is_no_pass_and_one_about_changes_is_left_to_the_cluster() {
        let spec = |rule: &str| {
            let rules = json!([{"rule": rule, "message": "no"}]);
            json!({"type": "object", "x-kubernetes-validations": rules})
        };
        let object = json!({"spec": {}});
        let said = check(&schema(&spec("self.nothing.at.all == 1")), &object);
        assert!(said.len() == 1 && said[0].contains("cannot be judged"), "{said:?}");
        assert_eq!(check(&schema(&spec("self == oldSelf")), &object), Vec::<String>::new());
    }

    #[test]
    fn every_pattern_and_rule_of_ours_compiles_and_its_keywords_are_known() {
        fn visit(schema: &Schema, node: &Value, keywords: &mut Vec<String>) {
            let Value::Object(map) = node else { return };
            for (key, value) in map {
                match key.as_str() {
                    "properties" => {
                        let fields = value.as_object().into_iter().flatten();
                        fields.for_each(|(_, field)| visit(schema, field, keywords));
                    }
                    "items" | "additionalProperties" => visit(schema, value, keywords),
                    "pattern" => assert!(
                        value.as_str().is_some_and(|p| schema.patterns.contains_key(p)),
                        "{value}"
                    ),
                    "format" => keywords.push(value.as_str().unwrap_or_default().to_owned()),
                    _ => keywords.push(key.clone()),
                }
            }
        }
        let known = [
            "default",
            "description",
            "enum",
            "maxItems",
            "maxLength",
            "maxProperties",
            "maximum",
            "minItems",
            "minLength",
            "minProperties",
            "minimum",
            "required",
            "title",
            "type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-validations",
            // Formats.
            "date-time",
            "int32",
            "int64",
        ];
        let schemas = Schemas::builtin();
        assert_eq!(schemas.kinds().count(), 6);
        for schema in schemas.0.values() {
            let mut keywords = Vec::new();
            visit(schema, &schema.structure, &mut keywords);
            keywords.retain(|word| !known.contains(&word.as_str()));
            assert!(
                keywords.is_empty(),
                "what the API server checks and this does not: {keywords:?}"
            );
        }
    }
}
