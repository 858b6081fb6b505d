//! The algebra of selectors, against every label set of a small universe that has values nobody names.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::prelude::*;

use crate::network::reach::satisfy::{self, Answer};
use crate::network::reach::selector::{Selector, SelectorError};
use crate::network::testkit::Labels;
use crate::network::testkit::packets::selects;

const KEYS: [&str; 2] = ["a", "b"];
const VALUES: [&str; 3] = ["x", "y", "z"];

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    let values = proptest::sample::subsequence(VALUES[..2].to_vec(), 1..=2);
    (0..2_usize, 0..4_usize, values).prop_map(|(key, operator, values)| {
        let operator = ["In", "NotIn", "Exists", "DoesNotExist"][operator];
        LabelSelectorRequirement {
            key: KEYS[key].to_owned(),
            operator: operator.to_owned(),
            values: matches!(operator, "In" | "NotIn").then(|| values.into_iter().map(str::to_owned).collect()),
        }
    })
}

pub(super) fn selector() -> impl Strategy<Value = LabelSelector> {
    let labels = proptest::option::weighted(0.3, (0..2_usize, 0..2_usize));
    let requirements = proptest::collection::vec(requirement(), 0..3);
    (labels, requirements).prop_map(|(labels, requirements)| LabelSelector {
        match_labels: labels.map(|(key, value)| BTreeMap::from([(KEYS[key].to_owned(), VALUES[value].to_owned())])),
        match_expressions: Some(requirements),
    })
}

/// Every label set over the keys, absent and unnamed values included.
pub(super) fn universe() -> Vec<Labels> {
    let choices = || std::iter::once(None).chain(VALUES.into_iter().map(Some));
    let mut all = Vec::new();
    for a in choices() {
        for b in choices() {
            let pairs = [("a", a), ("b", b)];
            let present = pairs
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            all.push(present.collect());
        }
    }
    all
}

fn naive(selector: &LabelSelector, labels: &Labels) -> bool {
    selects(Some(selector), labels)
}

fn matches(selector: Option<&Selector<'_>>, labels: &Labels) -> bool {
    selector.is_some_and(|selector| selector.matches(|key| labels.get(key).map(String::as_str)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn reading_keeps_the_meaning(written in selector()) {
        let read = Selector::read(&written).unwrap();
        for labels in universe() {
            prop_assert_eq!(matches(read.as_ref(), &labels), naive(&written, &labels), "{:?}", labels);
        }
        if let Some(read) = read {
            prop_assert!(matches(Some(&read), &read.example()), "the example matches");
        }
    }

    #[test]
    fn conjunction_negation_and_implication_are_those_of_sets(one in selector(), two in selector()) {
        let (a, b) = (Selector::read(&one).unwrap(), Selector::read(&two).unwrap());
        let (Some(a), Some(b)) = (a, b) else { return Ok(()) };
        let (both, not_a) = (a.and(&b), a.negated());
        let mut subset = true;
        for labels in universe() {
            let (in_a, in_b) = (naive(&one, &labels), naive(&two, &labels));
            prop_assert_eq!(matches(both.as_ref(), &labels), in_a && in_b);
            prop_assert_eq!(not_a.iter().any(|part| matches(Some(part), &labels)), !in_a);
            subset &= !in_a || in_b;
        }
        prop_assert_eq!(a.implies(&b), subset);
    }

    #[test]
    fn the_search_finds_a_pod_exactly_when_there_is_one(
        wanted in selector(),
        avoid in proptest::collection::vec(selector(), 0..6),
    ) {
        let Some(goal) = Selector::read(&wanted).unwrap() else { return Ok(()) };
        let read: Vec<Selector<'_>> = avoid.iter().filter_map(|selector| Selector::read(selector).unwrap()).collect();
        let read: Vec<&Selector<'_>> = read.iter().collect();
        let fits = |labels: &Labels| naive(&wanted, labels) && !avoid.iter().any(|selector| naive(selector, labels));
        match satisfy::pod(&goal, &read) {
            Answer::Yes(labels) => prop_assert!(fits(&labels), "{:?}", labels),
            Answer::No => prop_assert!(!universe().iter().any(fits)),
            Answer::TooHard => prop_assert!(false, "six selectors are not hard"),
        }
    }
}

#[test]
fn a_selector_that_cannot_be_read_is_an_error() {
    let one = |operator: &str, values: &[&str]| LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "a".to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }]),
    };
    assert!(matches!(
        Selector::read(&one("Gt", &["1"])),
        Err(SelectorError::Operator(_))
    ));
    assert!(matches!(
        Selector::read(&one("in", &["1"])),
        Err(SelectorError::Operator(_))
    ));
    assert!(matches!(
        Selector::read(&one("In", &[])),
        Err(SelectorError::NoValues { .. })
    ));
    assert!(matches!(
        Selector::read(&one("NotIn", &[])),
        Err(SelectorError::NoValues { .. })
    ));
    assert!(matches!(
        Selector::read(&one("Exists", &["1"])),
        Err(SelectorError::Values { .. })
    ));
    assert!(matches!(
        Selector::read(&one("DoesNotExist", &["1"])),
        Err(SelectorError::Values { .. })
    ));
}

#[test]
fn many_workloads_without_a_deny_are_no_search() {
    let workloads: Vec<LabelSelector> = (0..500)
        .map(|index| LabelSelector {
            match_labels: Some(BTreeMap::from([("w".to_owned(), format!("{index}"))])),
            match_expressions: None,
        })
        .collect();
    let read: Vec<Selector<'_>> = workloads
        .iter()
        .filter_map(|one| Selector::read(one).unwrap())
        .collect();
    let read: Vec<&Selector<'_>> = read.iter().collect();
    assert_eq!(satisfy::pod(&Selector::default(), &read), Answer::Yes(BTreeMap::new()));
}

#[test]
fn a_search_that_is_too_hard_says_so() {
    // Pigeons: twelve labels, each policy catches a pod whose two labels agree, and only eleven values are allowed.
    let mut policies = Vec::new();
    let value = |index: usize| format!("v{index}");
    let within = |key: usize, values: Vec<String>| LabelSelectorRequirement {
        key: format!("k{key:02}"),
        operator: "In".to_owned(),
        values: Some(values),
    };
    for one in 0..12 {
        for two in one + 1..12 {
            for same in 0..11 {
                policies.push(vec![within(one, vec![value(same)]), within(two, vec![value(same)])]);
            }
        }
    }
    let wanted: Vec<LabelSelectorRequirement> = (0..12).map(|key| within(key, (0..11).map(value).collect())).collect();
    let selector = |requirements| LabelSelector {
        match_labels: None,
        match_expressions: Some(requirements),
    };
    let (wanted, policies) = (selector(wanted), policies.into_iter().map(selector).collect::<Vec<_>>());
    let read: Vec<Selector<'_>> = policies.iter().filter_map(|one| Selector::read(one).unwrap()).collect();
    let read: Vec<&Selector<'_>> = read.iter().collect();
    assert_eq!(
        satisfy::pod(&Selector::read(&wanted).unwrap().unwrap(), &read),
        Answer::TooHard
    );
}
