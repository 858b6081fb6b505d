//! A YAML document as a tree in which every value knows its line.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Where a value starts. Lines and columns count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A value and where it starts.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Position,
    pub shape: Shape,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Shape {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.shape {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list under a key.
    pub fn items(&self, key: &str) -> Option<&[Self]> {
        match &self.get(key)?.shape {
            Shape::List(items) => Some(items),
            _ => None,
        }
    }

    /// The values inside with the step that leads to each: `.key` or `[0]`.
    pub fn steps(&self) -> Box<dyn Iterator<Item = (String, &Self)> + '_> {
        match &self.shape {
            Shape::List(items) => Box::new(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, node)| (format!("[{index}]"), node)),
            ),
            Shape::Map(entries) => Box::new(entries.iter().map(|(name, node)| (format!(".{name}"), node))),
            Shape::Null | Shape::Bool(_) | Shape::Number(_) | Shape::Text(_) => Box::new(std::iter::empty()),
        }
    }

    /// The value, where it is a text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Drops every key whose value is null, as the API server does.
    pub fn drop_nulls(&mut self) {
        match &mut self.shape {
            Shape::List(items) => items.iter_mut().for_each(Self::drop_nulls),
            Shape::Map(entries) => {
                entries.retain(|(_, node)| !matches!(node.shape, Shape::Null));
                entries.iter_mut().for_each(|(_, node)| node.drop_nulls());
            }
            Shape::Null | Shape::Bool(_) | Shape::Number(_) | Shape::Text(_) => {}
        }
    }

    /// Adds an empty map under a key that is absent.
    pub fn or_empty(&mut self, key: &str) {
        let at = self.at;
        let Shape::Map(entries) = &mut self.shape else { return };
        if entries.iter().all(|(name, _)| name != key) {
            let shape = Shape::Map(Vec::new());
            entries.push((key.to_owned(), Self { at, shape }));
        }
    }

    /// Where a field is, such as `spec.network.connectTo[0].cidr`; as far on the way to it as there is something.
    pub fn locate(&self, field: &str) -> Position {
        self.walk(field).0.at
    }

    /// The deepest value on the way to a field, and the steps that are missing.
    pub fn walk<'p>(&self, field: &'p str) -> (&Self, Vec<&'p str>) {
        let mut node = self;
        let mut steps = field.split(['.', '[']).filter(|step| !step.is_empty()).peekable();
        while let Some(step) = steps.peek() {
            let next = match (&node.shape, step.strip_suffix(']')) {
                (Shape::List(items), Some(index)) => index.parse::<usize>().ok().and_then(|index| items.get(index)),
                (Shape::Map(_), None) => node.get(step),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
            steps.next();
        }
        (node, steps.collect())
    }

    /// Moves every line down: a document does not start in the first line of its file.
    pub fn shift(&mut self, lines: u32) {
        self.at.line += lines;
        match &mut self.shape {
            Shape::List(items) => items.iter_mut().for_each(|node| node.shift(lines)),
            Shape::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.shift(lines)),
            Shape::Null | Shape::Bool(_) | Shape::Number(_) | Shape::Text(_) => {}
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(*value),
            Shape::Number(number) => Value::Number(number.clone()),
            Shape::Text(text) => Value::String(text.clone()),
            Shape::List(items) => Value::Array(items.iter().map(Self::json).collect()),
            Shape::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.clone(), node.json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Shape>::deserialize(deserializer)?;
        let at = Position {
            line: u32::try_from(referenced.line()).unwrap_or(u32::MAX),
            column: u32::try_from(referenced.column()).unwrap_or(u32::MAX),
        };
        Ok(Self { at, shape: value })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shapes)
    }
}

struct Shapes;

impl<'de> Visitor<'de> for Shapes {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Shape, E> {
        Number::from_f64(value)
            .map(Shape::Number)
            .ok_or_else(|| E::custom("a number that JSON does not know"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Shape, E> {
        Ok(Shape::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}
