//! Pieces of CEL text, in the subset that the API server (1.33 and newer) and kube-cel evaluate alike: no optional
//! types, no list extensions, no `cel.bind`. `docs/decisions/005-offline-cel.md` has the list and the reasons.

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
    bound_as(named, expression, |name, value, inner| {
        format!("[{value}].map({name}, {inner})[0]")
    })
}

/// The same of a condition: that something holds for all values of a list of one is checked in less time than a list of
/// what was found there.
pub(super) fn bound_condition(named: &[(&str, String)], condition: &str) -> String {
    bound_as(named, condition, |name, value, inner| {
        format!("[{value}].all({name}, {inner})")
    })
}

fn bound_as(named: &[(&str, String)], expression: &str, bind: impl Fn(&str, &str, &str) -> String) -> String {
    named.iter().rev().fold(expression.to_owned(), |inner, (name, value)| {
        if mentions(&inner, name) {
            bind(name, value, &inner)
        } else {
            inner
        }
    })
}

/// Whether a name stands anywhere in it. One in the text of a message counts too, which costs time and nothing else.
fn mentions(expression: &str, name: &str) -> bool {
    let part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    expression.match_indices(name).any(|(at, _)| {
        let (before, after) = (&expression[..at], &expression[at + name.len()..]);
        !before.ends_with(|it| part(it) || it == '.') && !after.starts_with(part)
    })
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
        ];
        assert_eq!(bound(&named, "b > 1"), "[1].map(a, [a + 1].map(b, b > 1)[0])[0]");
        assert_eq!(bound(&named, "x.b > bb + b_ + 1"), "x.b > bb + b_ + 1");
        assert_eq!(bound(&[], "true"), "true");
        assert_eq!(bound_condition(&named, "b > 1"), "[1].all(a, [a + 1].all(b, b > 1))");
    }

    #[test]
    fn every_step_to_a_field_is_asked_for() {
        assert_eq!(field("c", "a.b", "false"), "(has(c.a) && has(c.a.b) ? c.a.b : false)");
    }
}
