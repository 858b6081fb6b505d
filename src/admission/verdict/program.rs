//! One policy, compiled for kube-cel.
//!
//! kube-cel's own `VapEvaluator` is not used: it escapes the keys of every map, so that `labels['cloison.dev/stage']` finds
//! nothing. The functions it brings are. The named expressions are evaluated one after the other, not in one another as
//! the API server has them: its stack is deeper.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::cel::KubeCelExt;
use kube::core::cel::cel::objects::{Key, Map};
use kube::core::cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::Value;

use super::{OfflineError, selector};

/// Compiled expressions, in the order of the policy.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: String,
    namespaces: Option<LabelSelector>,
    conditions: Vec<(String, Parsed)>,
    named: Vec<(String, Parsed)>,
}

struct Parsed(Program);

impl std::fmt::Debug for Parsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Program")
    }
}

impl Compiled {
    pub(super) fn new(
        name: &str,
        policy: &ValidatingAdmissionPolicy,
        named: &[(&'static str, String)],
    ) -> Result<Self, OfflineError> {
        let compile = |variable: &str, expression: &str| match Program::compile(expression) {
            Ok(program) => Ok((variable.to_owned(), Parsed(program))),
            Err(source) => Err(OfflineError::Compile {
                policy: name.to_owned(),
                variable: variable.to_owned(),
                source: Box::new(source),
            }),
        };
        let spec = policy.spec.clone().unwrap_or_default();
        let conditions = spec.match_conditions.iter().flatten();
        Ok(Self {
            name: name.to_owned(),
            namespaces: spec
                .match_constraints
                .and_then(|constraints| constraints.namespace_selector),
            conditions: conditions
                .map(|condition| compile(&condition.name, &condition.expression))
                .collect::<Result<_, _>>()?,
            named: named
                .iter()
                .map(|(name, expression)| compile(name, expression))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether the policy looks at namespaces with these labels at all.
    pub(super) fn selects(&self, labels: Option<&Value>) -> bool {
        self.namespaces.as_ref().is_none_or(|s| selector::matches(s, labels))
    }

    /// The lists `problems` and `observed`; `None` where a match condition lets the request by.
    pub(super) fn evaluate(
        &self,
        object: &Value,
        old: &Value,
        namespace: &Value,
        request: &Value,
    ) -> Result<Option<[Vec<String>; 2]>, OfflineError> {
        let mut context = Context::default().with_all();
        // Everything is dynamic here.
        context.add_function("dyn", |value: Cel| -> Result<Cel, ExecutionError> { Ok(value) });
        for (name, value) in [
            ("object", object),
            ("oldObject", old),
            ("namespaceObject", namespace),
            ("request", request),
        ] {
            context.add_variable_from_value(name, cel(value));
        }
        for (name, condition) in &self.conditions {
            match condition.0.execute(&context) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(None),
                Ok(other) => return Err(self.failed(name, format!("{other:?} is no condition"))),
                Err(error) => return Err(self.failed(name, error.to_string())),
            }
        }
        let mut lists: HashMap<&str, Cel> = HashMap::new();
        for (name, expression) in &self.named {
            let value = expression
                .0
                .execute(&context)
                .map_err(|error| self.failed(name, error.to_string()))?;
            if ["problems", "observed"].contains(&name.as_str()) {
                lists.insert(name, value);
            } else {
                context.add_variable_from_value(name, value);
            }
        }
        let list = |name: &str| match lists.get(name) {
            Some(Cel::List(items)) => items
                .iter()
                .map(|item| match item {
                    Cel::String(text) => Ok(text.to_string()),
                    other => Err(self.failed(name, format!("{other:?} is no text"))),
                })
                .collect::<Result<Vec<String>, OfflineError>>(),
            _ => Err(self.failed(name, "is no list".to_owned())),
        };
        Ok(Some([list("problems")?, list("observed")?]))
    }

    fn failed(&self, variable: &str, reason: String) -> OfflineError {
        OfflineError::Evaluate {
            policy: self.name.clone(),
            variable: variable.to_owned(),
            reason,
        }
    }
}

/// JSON as CEL sees it on the API server: keys as they are.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cel::Float(number.as_f64().unwrap_or(f64::NAN)), Cel::Int),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(cel).collect())),
        Value::Object(map) => Cel::Map(Map {
            map: Arc::new(
                map.iter()
                    .map(|(key, value)| (Key::from(key.as_str()), cel(value)))
                    .collect(),
            ),
        }),
    }
}
