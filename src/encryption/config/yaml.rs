//! YAML, as the API server reads it: go-yaml v2, which follows YAML 1.1 in what a plain word means (`yes` is a boolean),
//! and only the first document of a stream.
//!
//! Explicit tags other than `!!str` are refused here; the API server knows a few more.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use zeroize::Zeroizing;

use super::document::Node;
use super::validate::Fault;

/// More values than any real configuration has: aliases of aliases grow without bound.
const MOST_NODES: usize = 100_000;

/// Reads the first document of a text.
pub fn parse(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(Node::Null),
            Event::DocumentStart(_, version) => {
                if version.is_some_and(|version| (version.major, version.minor) != (1, 1)) {
                    return Err(Fault::whole(
                        "the API server reads YAML 1.1; remove the directive %YAML",
                    ));
                }
                let first = reader.next()?;
                let node = reader.node(first)?;
                // What follows the value must be the end of the document; what follows that is not read.
                return match reader.next()? {
                    Event::DocumentEnd | Event::StreamEnd => Ok(node),
                    _ => Err(Fault::whole("not valid YAML: something follows the first value")),
                };
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<Event<'a>, Fault> {
        loop {
            match self.events.next() {
                None => return Ok(Event::StreamEnd),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, _))) => return Ok(event),
                Some(Err(error)) => {
                    let line = error.marker().line();
                    return Err(Fault::whole(format!("not valid YAML at line {line}")));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>) -> Result<Node, Fault> {
        self.count(1)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = Zeroizing::new(text.into_owned());
                (scalar(text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                collection(tag.as_deref())?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event)?),
                    }
                }
                (Node::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                collection(tag.as_deref())?;
                (Node::Map(self.mapping()?), anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Fault::whole("a YAML alias stands inside its own anchor"));
                };
                self.count(size(&node))?;
                (node, 0)
            }
            _ => return Err(Fault::whole("not valid YAML: a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self) -> Result<Vec<(Zeroizing<String>, Node)>, Fault> {
        let mut fields = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(fields),
                Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<" => {
                    let event = self.next()?;
                    merge(self.node(event)?, &mut fields)?;
                    continue;
                }
                event => match self.node(event)? {
                    Node::Text(name) => name,
                    _ => return Err(Fault::whole("a field in the YAML has a name that is no text")),
                },
            };
            let event = self.next()?;
            fields.push((key, self.node(event)?));
        }
    }

    fn count(&mut self, more: usize) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            return Err(Fault::whole(
                "the YAML holds far more values than a configuration; aliases of aliases?",
            ));
        }
        Ok(())
    }
}

/// `<<: {…}`, or a list of such. A field set in two of them is set twice.
fn merge(value: Node, fields: &mut Vec<(Zeroizing<String>, Node)>) -> Result<(), Fault> {
    match value {
        Node::Map(more) => fields.extend(more),
        Node::List(items) if items.iter().all(|item| matches!(item, Node::Map(_))) => {
            for item in items.into_iter().rev() {
                merge(item, fields)?;
            }
        }
        _ => {
            return Err(Fault::whole(
                "in YAML, `<<` must be followed by a map or a list of maps",
            ));
        }
    }
    Ok(())
}

fn size(node: &Node) -> usize {
    match node {
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Map(fields) => 1 + fields.iter().map(|(_, node)| size(node)).sum::<usize>(),
        Node::Null | Node::Bool | Node::Number(_) | Node::Text(_) => 1,
    }
}

fn collection(tag: Option<&Tag>) -> Result<(), Fault> {
    match tag {
        None => Ok(()),
        Some(_) => Err(unknown_tag()),
    }
}

fn unknown_tag() -> Fault {
    Fault::whole("a YAML tag other than !!str; write the value without it")
}

fn scalar(text: Zeroizing<String>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, Fault> {
    match tag {
        Some(tag) if tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == "str" => Ok(Node::Text(text)),
        Some(_) => Err(unknown_tag()),
        None if style == ScalarStyle::Plain => Ok(resolve(text)),
        None => Ok(Node::Text(text)),
    }
}

/// What a plain word means (`resolve.go` of go-yaml v2). A timestamp becomes a text again.
fn resolve(text: Zeroizing<String>) -> Node {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" | "n" | "N" | "no" | "No"
        | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Node::Bool,
        // JSON has no such numbers, so the API server refuses them.
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => Node::Number(None),
        word => number(word).unwrap_or(Node::Text(text)),
    }
}

/// The number that a word is, if it is one.
fn number(word: &str) -> Option<Node> {
    if word.starts_with('.') {
        return word.parse::<f64>().is_ok().then_some(Node::Number(None));
    }
    if !word.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    let plain: String = word.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.strip_prefix(['-', '+']) {
        Some(digits) => (plain.starts_with('-'), digits),
        None => (false, plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.split_at_checked(2) {
        Some(("0x", body)) => (16, body),
        Some(("0o", body)) => (8, body),
        Some(("0b", body)) => (2, body),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let whole = !body.is_empty() && body.chars().all(|c| c.is_digit(radix));
    if whole && let Ok(value) = u64::from_str_radix(body, radix) {
        let value = i128::from(value) * if negative { -1 } else { 1 };
        return Some(Node::Number(i64::try_from(value).ok()));
    }
    if !decimal(digits) {
        return None;
    }
    // As JSON a float that is whole has no point.
    let value: f64 = plain.parse().ok()?;
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    Some(Node::Number(if whole {
        format!("{value:.0}").parse().ok()
    } else {
        None
    }))
}

/// `[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?` or `\.[0-9]+…`.
fn decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(word: &str) -> String {
        match resolve(Zeroizing::new(word.to_owned())) {
            Node::Null => "null".to_owned(),
            Node::Bool => "bool".to_owned(),
            Node::Number(Some(number)) => number.to_string(),
            Node::Number(None) => "number".to_owned(),
            Node::Text(_) => "text".to_owned(),
            Node::List(_) | Node::Map(_) => unreachable!(),
        }
    }

    #[test]
    fn plain_words_mean_what_they_mean_in_go_yaml() {
        for (word, expected) in [
            ("", "null"),
            ("~", "null"),
            ("nUll", "text"),
            ("y", "bool"),
            ("off", "bool"),
            ("12", "12"),
            ("+12", "12"),
            ("-0x1F", "-31"),
            ("017", "15"),
            ("08", "8"),
            ("0o17", "15"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("1e3", "1000"),
            ("1.5", "number"),
            (".5", "number"),
            (".inf", "number"),
            ("1e", "text"),
            ("0x", "text"),
            ("2026-01-02", "text"),
            ("18446744073709551615", "number"),
            ("k1", "text"),
            ("-", "text"),
            ("AAAAAAAAAAAAAAAAAAAAAA==", "text"),
            ("1234567890123456789012==", "text"),
        ] {
            assert_eq!(meaning(word), expected, "{word}");
        }
    }
}
