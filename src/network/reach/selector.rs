//! Label selectors as one constraint for each key. That form is closed under conjunction, and the negation of one
//! constraint is at most two others, which is all that "could such a pod exist?" needs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Why a selector cannot be read. The API server refuses these; one that is met anyway must not pass for one that
/// matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectorError {
    #[error("operator {0:?} is unknown")]
    Operator(String),
    #[error("{operator} of key {key:?} must have values")]
    NoValues { key: String, operator: String },
    #[error("{operator} of key {key:?} must not have values")]
    Values { key: String, operator: String },
}

/// What a label must be. The sets are sorted; values are unbounded, so "not in" always leaves one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Constraint<'a> {
    /// Present, with one of these values; never empty.
    In(Vec<&'a str>),
    /// Absent, or present with another value. Kubernetes' `NotIn` matches objects without the key.
    NotIn(Vec<&'a str>),
    /// Present, with a value other than these.
    Present(Vec<&'a str>),
    /// Absent.
    Absent,
}

impl<'a> Constraint<'a> {
    /// Both at once; `None` when nothing can be both.
    fn and(&self, other: &Self) -> Option<Self> {
        use Constraint::{Absent, In, NotIn, Present};
        Some(match (self, other) {
            (In(a), In(b)) => In(non_empty(both(a, b))?),
            (In(a), NotIn(b) | Present(b)) | (NotIn(b) | Present(b), In(a)) => In(non_empty(without(a, b))?),
            (NotIn(a), NotIn(b)) => NotIn(either(a, b)),
            (Present(a), Present(b) | NotIn(b)) | (NotIn(a), Present(b)) => Present(either(a, b)),
            (Absent, Absent | NotIn(_)) | (NotIn(_), Absent) => Absent,
            (Absent, In(_) | Present(_)) | (In(_) | Present(_), Absent) => return None,
        })
    }

    /// Whether everything that meets this meets the other.
    fn implies(&self, other: &Self) -> bool {
        use Constraint::{Absent, In, NotIn, Present};
        match (self, other) {
            (In(a), In(b)) => without(a, b).is_empty(),
            (In(a), NotIn(b) | Present(b)) => both(a, b).is_empty(),
            (NotIn(a), NotIn(b)) | (Present(a), NotIn(b) | Present(b)) => without(b, a).is_empty(),
            (Absent, NotIn(_) | Absent) => true,
            (In(_) | Present(_) | NotIn(_), Absent)
            | (Present(_) | NotIn(_) | Absent, In(_))
            | (NotIn(_) | Absent, Present(_)) => false,
        }
    }

    /// Constraints that together hold exactly what this one does not.
    fn negated(&self) -> Vec<Self> {
        match self {
            Self::In(values) => vec![Self::NotIn(values.clone())],
            Self::NotIn(values) => non_empty(values.clone()).map(Self::In).into_iter().collect(),
            Self::Present(values) => {
                let others = non_empty(values.clone()).map(Self::In);
                std::iter::once(Self::Absent).chain(others).collect()
            }
            Self::Absent => vec![Self::Present(Vec::new())],
        }
    }

    pub(super) fn allows(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::In(values), Some(value)) => values.binary_search(&value).is_ok(),
            (Self::NotIn(values) | Self::Present(values), Some(value)) => values.binary_search(&value).is_err(),
            (Self::NotIn(_) | Self::Absent, None) => true,
            (Self::In(_) | Self::Present(_), None) | (Self::Absent, Some(_)) => false,
        }
    }

    /// The values it names: all others are one to it.
    fn values(&self) -> &[&'a str] {
        match self {
            Self::In(values) | Self::NotIn(values) | Self::Present(values) => values,
            Self::Absent => &[],
        }
    }

    /// A value that fits; `None` where absent does.
    fn example(&self) -> Option<String> {
        match self {
            Self::In(values) => values.first().map(|value| (*value).to_owned()),
            Self::Present(not) => Some(fresh(not)),
            Self::NotIn(_) | Self::Absent => None,
        }
    }
}

/// A value that is none of these.
fn fresh(not: &[&str]) -> String {
    let numbered = (1..=not.len()).map(|number| format!("x{number}"));
    std::iter::once("x".to_owned())
        .chain(numbered)
        .find(|value| not.binary_search(&value.as_str()).is_err())
        .unwrap_or_default()
}

fn non_empty(values: Vec<&str>) -> Option<Vec<&str>> {
    (!values.is_empty()).then_some(values)
}

fn both<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    a.iter()
        .copied()
        .filter(|value| b.binary_search(value).is_ok())
        .collect()
}

fn without<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    a.iter()
        .copied()
        .filter(|value| b.binary_search(value).is_err())
        .collect()
}

fn either<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// A selector that something can match: sorted by key, each key once. No constraint at all matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Selector<'a>(Vec<(&'a str, Constraint<'a>)>);

impl<'a> Selector<'a> {
    /// Reads a selector; `None` when its own parts contradict each other, so that it matches nothing.
    pub(super) fn read(selector: &'a LabelSelector) -> Result<Option<Self>, SelectorError> {
        let labels = selector.match_labels.iter().flatten();
        let mut parts: Vec<(&str, Constraint<'_>)> = labels
            .map(|(key, value)| (key.as_str(), Constraint::In(vec![value.as_str()])))
            .collect();
        for requirement in selector.match_expressions.iter().flatten() {
            let mut values: Vec<&str> = requirement.values.iter().flatten().map(String::as_str).collect();
            values.sort_unstable();
            values.dedup();
            let named = || (requirement.key.clone(), requirement.operator.clone());
            let wants_values = matches!(requirement.operator.as_str(), "In" | "NotIn");
            if wants_values && values.is_empty() {
                let (key, operator) = named();
                return Err(SelectorError::NoValues { key, operator });
            }
            let constraint = match requirement.operator.as_str() {
                "In" => Constraint::In(values),
                "NotIn" => Constraint::NotIn(values),
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    let (key, operator) = named();
                    return Err(SelectorError::Values { key, operator });
                }
                "Exists" => Constraint::Present(Vec::new()),
                "DoesNotExist" => Constraint::Absent,
                unknown => return Err(SelectorError::Operator(unknown.to_owned())),
            };
            parts.push((requirement.key.as_str(), constraint));
        }
        Ok(Self::all_of(parts))
    }

    /// Everything with these labels.
    pub(super) fn labelled(labels: &'a BTreeMap<String, String>) -> Self {
        let one = |(key, value): (&'a String, &'a String)| (key.as_str(), Constraint::In(vec![value.as_str()]));
        Self(labels.iter().map(one).collect())
    }

    /// The conjunction of constraints; `None` when it cannot be met.
    pub(super) fn all_of(mut parts: Vec<(&'a str, Constraint<'a>)>) -> Option<Self> {
        parts.sort_by_key(|(key, _)| *key);
        let mut joined: Vec<(&str, Constraint<'_>)> = Vec::with_capacity(parts.len());
        for (key, constraint) in parts {
            match joined.last_mut() {
                Some((last, known)) if *last == key => *known = known.and(&constraint)?,
                _ => joined.push((key, constraint)),
            }
        }
        Some(Self(joined))
    }

    /// Both at once.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        if other.0.is_empty() {
            return Some(self.clone());
        }
        Self::all_of(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Whether it matches everything.
    pub(super) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys it asks for, each with the values that it names.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&'a str, &[&'a str])> {
        self.0.iter().map(|(key, constraint)| (*key, constraint.values()))
    }

    /// What it wants of one key; `None` when it does not care.
    pub(super) fn constraint(&self, key: &str) -> Option<&Constraint<'a>> {
        let index = self.0.binary_search_by_key(&key, |(known, _)| *known).ok()?;
        self.0.get(index).map(|(_, constraint)| constraint)
    }

    /// The same without one key.
    pub(super) fn forgetting(&self, key: &str) -> Self {
        Self(self.0.iter().filter(|(known, _)| *known != key).cloned().collect())
    }

    /// Whether labels match.
    pub(super) fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.0.iter().all(|(key, constraint)| constraint.allows(label(key)))
    }

    /// Whether everything that matches this matches the other.
    pub(super) fn implies(&self, other: &Self) -> bool {
        let anything = Constraint::NotIn(Vec::new());
        other
            .0
            .iter()
            .all(|(key, wanted)| self.constraint(key).unwrap_or(&anything).implies(wanted))
    }

    /// Selectors, each of one key, that together match exactly what this one does not.
    pub(super) fn negated(&self) -> Vec<Self> {
        let alternatives = |(key, constraint): &(&'a str, Constraint<'a>)| {
            let key = *key;
            let negated = constraint.negated().into_iter();
            negated
                .map(move |constraint| Self(vec![(key, constraint)]))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(alternatives).collect()
    }

    /// The fewest labels that match.
    pub(super) fn example(&self) -> BTreeMap<String, String> {
        let fitting = |(key, constraint): &(&str, Constraint<'_>)| Some(((*key).to_owned(), constraint.example()?));
        self.0.iter().filter_map(fitting).collect()
    }
}
