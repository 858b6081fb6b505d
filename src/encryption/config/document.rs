//! The tree of a file, with everything kept that the API server looks at: twice set fields, and the difference between
//! a text and a number.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::validate::Fault;
use super::yaml;

/// A value. Texts may be keys, so they are wiped; there is no `Debug`.
#[derive(Clone)]
pub enum Node {
    Null,
    Bool,
    /// With its value, if it is a whole number.
    Number(Option<i64>),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    /// In the order of the file; a field may be there twice.
    Map(Vec<(Zeroizing<String>, Node)>),
}

impl Node {
    /// For people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// In which language a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Json,
    Yaml,
}

/// Reads a file as the API server does: what begins with `{` is JSON, anything else YAML.
pub fn parse(bytes: &[u8]) -> Result<(Node, Language), Fault> {
    if bytes.is_empty() {
        return Err(Fault::whole("the file is empty"));
    }
    // Go reads JSON that is not UTF-8 with U+FFFD in the place of what is not.
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    if text.trim_start().starts_with('{') {
        let node = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Fault::whole(format!(
                "not valid JSON at line {line}, column {column}; is the file whole?"
            ))
        })?;
        return Ok((node, Language::Json));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::whole("not UTF-8"))?;
    Ok((yaml::parse(text)?, Language::Yaml))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(Some(number)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(i64::try_from(number).ok()))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        // Go takes `1.0` for no whole number.
        Ok(Node::Number(None))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = fields.next_entry::<String, Node>()? {
            map.push((Zeroizing::new(name), value));
        }
        Ok(Node::Map(map))
    }
}
