//! The reference pages: every field of every kind, and every right of every role.

use std::fmt::Write as _;

use serde_json::Value;

use super::header;
use crate::cluster::roles::{Component, PeopleRole, Rule, Scope};

/// `docs/reference/api.md`.
pub fn api(definitions: &[Value]) -> String {
    let mut page = format!(
        "<!-- {} -->\n# The objects, field by field\n\nGroup and version: `cloison.dev/v1alpha1`. \
         A field without \"required\" may be left out. Editors can read the same from `crds/schema/`.\n",
        header("src/api")
    );
    for crd in definitions {
        kind(&mut page, crd);
    }
    page
}

fn kind(page: &mut String, crd: &Value) {
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let Some(schema) = crd.pointer("/spec/versions/0/schema/openAPIV3Schema") else {
        return;
    };
    let short: Vec<&str> = strings(crd.pointer("/spec/names/shortNames"));
    let names = [text("/spec/names/plural")].into_iter().chain(short);
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let _ = write!(
        page,
        "\n## {}\n\n{}, {}",
        text("/spec/names/kind"),
        text("/spec/scope"),
        names.join(", ")
    );
    // The derive describes the root with a sentence about itself; what people want to read is on `spec`.
    let about = schema.pointer("/properties/spec").map(description).unwrap_or_default();
    let _ = writeln!(page, ".\n\n{about}");
    let mut found = String::new();
    rules(&mut found, schema, "");
    if !found.is_empty() {
        let _ = write!(page, "\n{found}");
    }
    for part in ["spec", "status"] {
        let Some(part_schema) = schema.pointer(&format!("/properties/{part}")) else {
            continue;
        };
        let _ = writeln!(page, "\n### `{part}` of {}\n", text("/spec/names/kind"));
        page.push_str("| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n");
        fields(page, part_schema, "");
        let mut found = String::new();
        collect_rules(&mut found, part_schema, "");
        if !found.is_empty() {
            let _ = write!(page, "\nRules:\n\n{found}");
        }
    }
}

/// One row per field, parents first, in the schema's order.
fn fields(page: &mut String, schema: &Value, path: &str) {
    let required = strings(schema.get("required"));
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, field) in properties {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let mut bounds = bounds(field);
        if required.contains(&name.as_str()) {
            bounds.insert(0, "required".to_owned());
        }
        let default = match field.get("default") {
            // An object's default is the defaults of its fields, which have rows of their own.
            Some(value) if !value.is_object() => format!("`{value}`"),
            _ => String::new(),
        };
        let _ = writeln!(
            page,
            "| `{path}` | {} | {} | {} | {} |",
            type_of(field),
            cell(&default),
            cell(&bounds.join(", ")),
            cell(&description(field)),
        );
        fields(page, field, &path);
        if let Some(items) = field.get("items") {
            fields(page, items, &format!("{path}[]"));
        }
    }
}

fn type_of(field: &Value) -> String {
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|v| format!("`{v}`"))
            .collect();
        return values.join(", ");
    }
    match field.get("type").and_then(Value::as_str) {
        Some("array") => format!("list of {}", field.get("items").map_or_else(String::new, type_of)),
        Some("object") => match field.get("additionalProperties") {
            Some(value) => format!("map of {}", type_of(value)),
            None => "object".to_owned(),
        },
        Some("string") if field.get("format").and_then(Value::as_str) == Some("date-time") => "time".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

fn bounds(field: &Value) -> Vec<String> {
    let mut bounds = Vec::new();
    for (low, high, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " keys"),
    ] {
        let number = |key: &str| field.get(key).and_then(Value::as_f64);
        match (number(low), number(high)) {
            (Some(low), Some(high)) if (low - high).abs() < f64::EPSILON => bounds.push(format!("{low}{unit}")),
            (Some(low), Some(high)) => bounds.push(format!("{low} to {high}{unit}")),
            (Some(low), None) => bounds.push(format!("at least {low}{unit}")),
            (None, Some(high)) => bounds.push(format!("at most {high}{unit}")),
            (None, None) => {}
        }
    }
    if let Some(pattern) = field.get("pattern").and_then(Value::as_str) {
        bounds.push(format!("`{pattern}`"));
    }
    match field.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => bounds.push("no duplicates".to_owned()),
        Some("map") => {
            bounds.push(format!(
                "one per {}",
                strings(field.get("x-kubernetes-list-map-keys")).join(" and ")
            ));
        }
        _ => {}
    }
    if let Some(items) = field.get("items") {
        bounds.extend(self::bounds(items).into_iter().map(|bound| format!("each {bound}")));
    }
    bounds
}

fn collect_rules(out: &mut String, schema: &Value, path: &str) {
    rules(out, schema, path);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, field) in properties {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            collect_rules(out, field, &path);
        }
    }
    if let Some(items) = schema.get("items") {
        collect_rules(out, items, &format!("{path}[]"));
    }
}

fn rules(out: &mut String, schema: &Value, path: &str) {
    let Some(list) = schema.get("x-kubernetes-validations").and_then(Value::as_array) else {
        return;
    };
    for message in list.iter().filter_map(|rule| rule.get("message")?.as_str()) {
        let place = if path.is_empty() {
            String::new()
        } else {
            format!("`{path}`: ")
        };
        let _ = writeln!(out, "- {place}{message}");
    }
}

/// `docs/reference/roles.md`.
pub fn roles(components: &[Component], people: &[PeopleRole]) -> String {
    let mut page = format!(
        "<!-- {} -->\n# Roles\n\nEvery component runs under its own ServiceAccount with the rights below and no other; \
         no rule has a wildcard. The namespace of the release is called *operator* here.\n",
        header("src/cluster/roles")
    );
    for component in components {
        let _ = writeln!(
            page,
            "\n## Component `{}`\n\nServiceAccount `{}`.",
            component.name, component.account
        );
        if component.lent {
            page.push_str("It has none of these rights but while it runs: the release binds none of its roles.\n");
        }
        for grant in &component.grants {
            let place = match grant.scope {
                Scope::Cluster => "in the whole cluster".to_owned(),
                Scope::Operator => "in the namespace *operator*".to_owned(),
                Scope::Namespace(name) => format!("in the namespace `{name}`"),
            };
            let _ = writeln!(page, "\n`{}`, {place}:\n", grant.name);
            table(&mut page, &grant.rules);
        }
    }
    page.push_str(
        "\n## People\n\nClusterRoles that an admin binds; the chart binds none but the catalogue's readers.\n",
    );
    for role in people {
        let _ = write!(page, "\n### `{}`\n\n{}.", role.name, role.purpose);
        if !role.aggregate_to.is_empty() {
            let _ = write!(page, " Part of the stock roles `{}`.", role.aggregate_to.join("`, `"));
        }
        page.push_str("\n\n");
        table(&mut page, &role.rules);
    }
    page
}

fn table(page: &mut String, rules: &[Rule]) {
    page.push_str("| what | names | verbs | why |\n|---|---|---|---|\n");
    for rule in rules {
        let what = if rule.urls.is_empty() {
            let group = rule.groups.iter().find(|group| !group.is_empty());
            let suffix = group.map_or_else(String::new, |group| format!(" ({group})"));
            format!("{}{suffix}", rule.resources.join(", "))
        } else {
            rule.urls.join(", ")
        };
        let names = if rule.names.is_empty() {
            "any".to_owned()
        } else {
            rule.names.join(", ")
        };
        let _ = writeln!(
            page,
            "| {what} | {names} | {} | {} |",
            rule.verbs.join(", "),
            cell(rule.why)
        );
    }
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}
