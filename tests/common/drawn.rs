//! Values drawn from the schema of a kind, with texts that would break out of an expression.

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// What people write, and what nobody should.
const TEXTS: [&str; 45] = [
    "a",
    "road-train",
    "train",
    "default",
    "model-registry",
    "kubernetes-api",
    "team@ville.example",
    "app",
    "key",
    "Trains the detector of road users on recorded drives",
    "10.0.0.0/8",
    "192.0.2.7/32",
    "2001:db8::/32",
    "::/0",
    "https://ville.example/a?b=c",
    "registry.example.com/team/",
    "*.example.com",
    "example.com/gpu",
    "IPC_LOCK",
    "csi.example.com",
    "sha256:85aaee176b282ae1bd649d0ca2f62c41ca31bfd0566e54e241202c2411fb399d",
    "2031-01-01T00:00:00Z",
    "2001-01-01T00:00:00Z",
    "WKL-01",
    "WKL-01/host-ipc",
    "NET-03",
    "ENC-04/reference",
    "CLU-04",
    "eks:network-policy-controller",
    "secrets",
    "configmaps",
    "eu-west-3",
    "BiometricIdentification",
    "2.1",
    "2026.1",
    "'] || true || 'x' in ['x\\",
    "'",
    "\\",
    "' || true || '",
    "\\'] || true //",
    "\n\r\t\u{0}",
    "\u{202e}gpj.exe",
    "${x} {{ .Values }} %s %n",
    "\u{1F9F1}\u{FFFD}",
    "true",
];

/// One more than any bound on a text.
fn long() -> String {
    "x'\\".repeat(1_400)
}

/// A value of a schema, mostly; one in `wild` places ignores it.
pub fn draw(schema: &Value, dice: &mut Dice, wild: usize) -> Value {
    if dice.once_in(wild) {
        return [
            json!(null),
            json!(-1),
            json!([{}]),
            json!({"a": []}),
            json!("\u{0}"),
            json!(1e300),
        ][dice.roll(6)]
        .clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return dice.pick(values).clone();
    }
    match schema["type"].as_str() {
        Some("object") => draw_object(schema, dice, wild),
        Some("array") => {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
            let number = least.max(dice.roll(3));
            (0..number).map(|_| draw(&schema["items"], dice, wild)).collect()
        }
        Some("boolean") => json!(dice.once_in(2)),
        Some("integer") => {
            let (least, most) = (
                schema["minimum"].as_i64().unwrap_or(0),
                schema["maximum"].as_i64().unwrap_or(65_535),
            );
            json!([least, most, least + (most - least) / 2][dice.roll(3)])
        }
        Some("number") => json!(0.5),
        _ => draw_text(schema, dice),
    }
}

fn draw_object(schema: &Value, dice: &mut Dice, wild: usize) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        let key = dice.pick(&TEXTS).to_string();
        let value = draw(&schema["additionalProperties"], dice, wild);
        return if dice.once_in(2) {
            json!({key: value})
        } else {
            json!({})
        };
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut object = Map::new();
    for (name, property) in properties {
        if required.contains(&name.as_str()) || dice.once_in(3) {
            object.insert(name.clone(), draw(property, dice, wild));
        }
    }
    // Most lists of choices want exactly one of them.
    if required.is_empty() && properties.len() < 5 && dice.once_in(2) && object.len() > 1 {
        let kept = dice.pick(&object.keys().cloned().collect::<Vec<_>>()).clone();
        object.retain(|name, _| *name == kept);
    }
    Value::Object(object)
}

/// A text that the schema's pattern and bounds allow, where there is one among ours.
fn draw_text(schema: &Value, dice: &mut Dice) -> Value {
    if dice.once_in(200) {
        return json!(long());
    }
    let pattern = schema["pattern"]
        .as_str()
        .map(|pattern| Regex::new(pattern).expect("a pattern"));
    let bound = |key: &str, other: u64| usize::try_from(schema[key].as_u64().unwrap_or(other)).unwrap();
    let (least, most) = (bound("minLength", 0), bound("maxLength", 9_999));
    let allowed = |text: &&str| {
        let is_time = schema["format"] != "date-time" || text.starts_with("20") && text.ends_with('Z');
        let length = text.chars().count();
        is_time && length >= least && length <= most && pattern.as_ref().is_none_or(|it| it.is_match(text))
    };
    let fitting: Vec<&str> = TEXTS.into_iter().filter(allowed).collect();
    if fitting.is_empty() {
        return json!(dice.pick(&TEXTS));
    }
    json!(dice.pick(&fitting))
}
