//! Pieces of CEL text, in the subset that the API server (1.33 and newer) and kube-cel evaluate alike: no optional
//! types, no list extensions, no `cel.bind`. `docs/decisions/005-offline-cel.md` has the list and the reasons.

use std::collections::{BTreeMap, BTreeSet};

/// A string literal.
pub(super) fn text(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 2);
    literal.push('\'');
    for character in value.chars() {
        match character {
            '\\' | '\'' => literal.extend(['\\', character]),
            // A line break or an escape has no business in a message; CEL would not take it in a literal either.
            c if c.is_control() => literal.push(' '),
            c => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A list of string literals.
pub(super) fn list<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let literals: Vec<String> = values.into_iter().map(|value| text(value.as_ref())).collect();
    format!("[{}]", literals.join(", "))
}

/// A field that may be absent anywhere on its way: `field("c", "securityContext.privileged", "false")`.
pub(super) fn field(root: &str, path: &str, default: &str) -> String {
    let whole = format!("{root}.{path}");
    format!("({} ? {whole} : {default})", present(root, path))
}

/// Whether a field is there, and everything on the way to it.
pub(super) fn present(root: &str, path: &str) -> String {
    let mut at = root.to_owned();
    let steps: Vec<String> = path
        .split('.')
        .map(|name| {
            at = format!("{at}.{name}");
            format!("has({at})")
        })
        .collect();
    steps.join(" && ")
}

/// The value under a key of a map that may be absent; `''` without it. `map` is `object.metadata.labels`.
pub(super) fn entry(map: &str, key: &str) -> String {
    let key = text(key);
    format!("(has({map}) && {key} in {map} ? {map}[{key}] : '')")
}

/// The same as a list of one value, or of none: an absent label and an empty one are not the same.
pub(super) fn entries(root: &str, map: &str, key: &str) -> String {
    let key = text(key);
    format!("({root} != null && has({root}.{map}) && {key} in {root}.{map} ? [{root}.{map}[{key}]] : [])")
}

/// An expression in terms of others by their names, each of which is in terms of those before it: as one that stands alone.
/// CEL has no `let`; a list of one value, mapped, is one.
pub(super) fn bound(named: &[(&str, String)], expression: &str) -> String {
    nested(named, expression, true, |variable, value, inner| {
        format!("[{value}].map({variable}, {inner})[0]")
    })
}

/// The same in fewer characters, and more steps: each name in the one before it.
pub(super) fn bound_briefly(named: &[(&str, String)], expression: &str) -> String {
    nested(named, expression, false, |variable, value, inner| {
        format!("[{value}].map({variable}, {inner})[0]")
    })
}

/// The same of a condition: that something holds for all values of a list of one is checked in less time than a list of
/// what was found there.
pub(super) fn bound_condition(named: &[(&str, String)], condition: &str) -> String {
    nested(named, condition, true, |variable, value, inner| {
        format!("[{value}].all({variable}, {inner})")
    })
}

/// `in_layers`, names that need none of one another are bound together, as the entries of one map: at each step of an
/// evaluation cel-go climbs through all that is bound around it.
fn nested(
    named: &[(&str, String)],
    expression: &str,
    in_layers: bool,
    bind: impl Fn(&str, &str, &str) -> String,
) -> String {
    let mut wanted: BTreeSet<&str> = identifiers(expression).collect();
    for (name, value) in named.iter().rev() {
        if wanted.contains(name) {
            wanted.extend(identifiers(value));
        }
    }
    let mut layers: Vec<Vec<(&str, &str)>> = Vec::new();
    let mut layer_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, value) in named.iter().filter(|(name, _)| wanted.contains(name)) {
        let below = identifiers(value).filter_map(|other| layer_of.get(other)).max();
        let layer = if in_layers {
            below.map_or(0, |below| below + 1)
        } else {
            layers.len()
        };
        layers.resize_with(layers.len().max(layer + 1), Vec::new);
        layers[layer].push((*name, value.as_str()));
        layer_of.insert(*name, layer);
    }
    let spelt = |text: &str| {
        respelt(text, |name| {
            let layer = layer_of.get(name)?;
            (layers[*layer].len() > 1).then(|| format!("n{layer}.{name}"))
        })
    };
    let layered = layers.iter().enumerate().rev();
    layered.fold(spelt(expression), |inner, (number, layer)| match layer.as_slice() {
        [(name, value)] => bind(name, &spelt(value), &inner),
        several => {
            let entry = |(name, value): &(&str, &str)| format!("'{name}': dyn({})", spelt(value));
            let entries: Vec<String> = several.iter().map(entry).collect();
            bind(&format!("n{number}"), &format!("{{{}}}", entries.join(", ")), &inner)
        }
    })
}

/// The words of an expression that may be names: none of its literals, and no field of anything.
fn identifiers(expression: &str) -> impl Iterator<Item = &str> {
    words(expression).filter(|word| word.is_name).map(|word| word.text)
}

/// The expression with other words for some of its names.
fn respelt(expression: &str, other: impl Fn(&str) -> Option<String>) -> String {
    words(expression).fold(String::with_capacity(expression.len()), |mut text, word| {
        match word.is_name.then(|| other(word.text)).flatten() {
            Some(other) => text.push_str(&other),
            None => text.push_str(word.text),
        }
        text
    })
}

/// A piece of an expression.
struct Word<'e> {
    text: &'e str,
    is_name: bool,
}

/// Literals, names, and single characters between them.
fn words(expression: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = expression;
    let mut of_a_field = false;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let starts_a_name = first.is_ascii_alphabetic() || first == '_';
        let end = if first == '\'' {
            literal(rest)
        } else if starts_a_name || first.is_ascii_digit() {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            rest.find(|c| !part(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (text, after) = rest.split_at(end);
        let is_name = starts_a_name && !of_a_field;
        (rest, of_a_field) = (after, first == '.');
        Some(Word { text, is_name })
    })
}

/// Where a string literal that the text begins with ends.
fn literal(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '\'' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(text(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(text("a\nb"), "'a b'");
        assert_eq!(list(["a", "b'"]), r"['a', 'b\'']");
        assert_eq!(list::<&str>([]), "[]");
    }

    #[test]
    fn what_is_named_is_bound_where_it_is_used() {
        let named = [
            ("a", "1".to_owned()),
            ("b", "a + 1".to_owned()),
            ("c", "a + 2".to_owned()),
            ("d", "b + c".to_owned()),
        ];
        assert_eq!(bound(&named, "b > 1"), "[1].map(a, [a + 1].map(b, b > 1)[0])[0]");
        assert_eq!(bound_condition(&named, "b > 1"), "[1].all(a, [a + 1].all(b, b > 1))");
        assert_eq!(
            bound(&named, "d.c > c"),
            "[1].map(a, [{'b': dyn(a + 1), 'c': dyn(a + 2)}].map(n1, [n1.b + n1.c].map(d, d.c > n1.c)[0])[0])[0]"
        );
        assert_eq!(
            bound(&named, r"x.b > bb + b_ + 'b \' c' + 'd'"),
            r"x.b > bb + b_ + 'b \' c' + 'd'"
        );
        assert_eq!(bound(&[], "true"), "true");
    }

    #[test]
    fn every_step_to_a_field_is_asked_for() {
        assert_eq!(field("c", "a.b", "false"), "(has(c.a) && has(c.a.b) ? c.a.b : false)");
    }
}
