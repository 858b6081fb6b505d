//! Builders of the two kinds of objects. Every field that the API server would default is set, so that applying what is
//! there already changes nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use super::cel::{bound, bound_briefly, bound_condition, text};
use super::clause::{denied, message, passes, prefix};
use super::policies::Written;
use super::set::BindingKind;
use crate::api::names;
use crate::api::stage::Mode;

/// The longest expression of an audit annotation, in bytes (`maxAuditAnnotationValueExpressionLength`).
const ANNOTATION_LIMIT: usize = 5 * 1024;

/// One ValidatingAdmissionPolicy, before it is written down.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: &'static str,
    /// Which namespaces; empty for all.
    pub(super) namespaces: Vec<LabelSelectorRequirement>,
    /// Which objects, old or new; empty for all.
    pub(super) objects: Vec<LabelSelectorRequirement>,
    pub(super) resources: Vec<NamedRuleWithOperations>,
    /// Requests that are judged at all: name and expression.
    pub(super) conditions: Vec<(&'static str, String)>,
    /// Expressions by name, each in terms of those before it. All of them hold for every object that is matched.
    pub(super) named: Vec<(&'static str, String)>,
    /// True when the request may pass.
    pub(super) passes: String,
    /// A CEL list of texts for the message. It must not ask the `authorizer`: messages have none.
    pub(super) problems: String,
    /// A CEL list of texts that are only written to the audit log.
    pub(super) observed: Option<String>,
    /// More of them, by the key of the annotation: one annotation has little room.
    pub(super) observed_by_key: Vec<(&'static str, String)>,
    /// In place of `passes` and `problems`, for a policy that no binding denies by: an error of its own must cost nobody a
    /// request. Of refusals the API server tells one, of warnings all; so each is a validation by itself, which costs the API
    /// server less to check than one long expression.
    pub(super) warnings: Vec<Warning>,
}

/// One thing to warn of.
#[derive(Debug)]
pub(super) struct Warning {
    /// Further names, each in terms of those before it and of the draft's.
    pub(super) named: Vec<(&'static str, String)>,
    /// True when there is nothing to say.
    pub(super) passes: String,
    /// A CEL list of texts.
    pub(super) problems: String,
}

impl Warning {
    pub(super) fn of_nothing() -> Self {
        Self {
            named: Vec::new(),
            passes: passes(&[]),
            problems: denied(&[]),
        }
    }
}

impl Draft {
    /// The gate, or one for each warning.
    fn validations(&self, hash: &str) -> Vec<Validation> {
        let validation = |named: &[(&str, String)], passes: &str, problems: &str, unsaid: &str| Validation {
            expression: bound_condition(named, passes),
            reason: Some("Forbidden".to_owned()),
            // Where the message itself cannot be evaluated.
            message: Some(format!(
                "{}{} {unsaid}; run kubectl cloison why",
                prefix(hash),
                self.name
            )),
            message_expression: Some(bound(named, &message(hash, problems))),
        };
        if self.warnings.is_empty() {
            return vec![validation(
                &self.named,
                &self.passes,
                &self.problems,
                "refused this request",
            )];
        }
        self.warnings
            .iter()
            .map(|warning| {
                let named: Vec<_> = self.named.iter().chain(&warning.named).cloned().collect();
                validation(&named, &warning.passes, &warning.problems, "found something")
            })
            .collect()
    }

    pub(super) fn written(self, hash: &str, bindings: Vec<ValidatingAdmissionPolicyBinding>) -> Written {
        let validations = self.validations(hash);
        let failure_policy = if self.warnings.is_empty() { "Fail" } else { "Ignore" };
        let observed = self.observed.iter().map(|observed| ("observed", observed));
        let by_key = self.observed_by_key.iter().map(|(key, observed)| (*key, observed));
        let audit: Vec<AuditAnnotation> = observed
            .chain(by_key)
            .map(|(key, observed)| AuditAnnotation {
                key: key.to_owned(),
                value_expression: annotation(&self.named, &message(hash, observed), hash),
            })
            .collect();
        let policy = ValidatingAdmissionPolicy {
            metadata: metadata(self.name, hash),
            spec: Some(ValidatingAdmissionPolicySpec {
                // No paramKind: a kind that goes missing would refuse every request that matches, everywhere.
                param_kind: None,
                failure_policy: Some(failure_policy.to_owned()),
                match_constraints: Some(MatchResources {
                    namespace_selector: Some(selector(self.namespaces)),
                    object_selector: Some(selector(self.objects)),
                    resource_rules: Some(self.resources),
                    exclude_resource_rules: None,
                    match_policy: Some("Equivalent".to_owned()),
                }),
                match_conditions: (!self.conditions.is_empty()).then(|| {
                    let condition = |(name, expression): (&str, String)| MatchCondition {
                        name: name.to_owned(),
                        expression,
                    };
                    self.conditions.into_iter().map(condition).collect()
                }),
                // An API server from before 1.36 may crash when a policy with variables is written while another is
                // evaluated (docs/decisions/019-no-variables.md).
                variables: None,
                validations: Some(validations),
                audit_annotations: (!audit.is_empty()).then_some(audit),
            }),
            status: None,
        };
        Written {
            policy,
            bindings,
            named: self.named,
        }
    }
}

/// An audit annotation that the API server takes. Where there is no room to judge, the audit log says that nobody did.
fn annotation(named: &[(&str, String)], message: &str, hash: &str) -> String {
    let judging = [bound(named, message), bound_briefly(named, message)];
    let fits = judging
        .into_iter()
        .find(|expression| expression.len() <= ANNOTATION_LIMIT);
    fits.unwrap_or_else(|| {
        text(&format!(
            "{}controls in mode Audit are not judged: their lists are too long for an audit annotation",
            prefix(hash)
        ))
    })
}

/// The three bindings of a policy that has modes: a namespace selects one of them by its label, or by having none.
pub(super) fn moded(policy: &str, default: Mode, hash: &str) -> Vec<ValidatingAdmissionPolicyBinding> {
    let one = |mode: Mode| {
        let others: Vec<&str> = Mode::ALL.into_iter().filter(|m| *m != mode).map(Mode::label).collect();
        let chosen = if mode == default {
            // A value that means nothing is as good as none.
            requirement(names::MODE_LABEL, "NotIn", &others)
        } else {
            requirement(names::MODE_LABEL, "In", &[mode.label()])
        };
        let kind = match mode {
            Mode::Audit => BindingKind::Audit,
            Mode::Warn => BindingKind::Warn,
            Mode::Enforce => BindingKind::Deny,
        };
        binding(policy, kind, vec![chosen], hash)
    };
    Mode::ALL.into_iter().map(one).collect()
}

/// The bindings of a policy that only tells: whoever is in a namespace that refuses or warns, and of the others the audit
/// log.
pub(super) fn told(policy: &str, default: Mode, hash: &str) -> Vec<ValidatingAdmissionPolicyBinding> {
    let audit = [Mode::Audit.label()];
    let others = [Mode::Warn.label(), Mode::Enforce.label()];
    let (in_audit, otherwise) = if default == Mode::Audit {
        (("NotIn", &others[..]), ("In", &others[..]))
    } else {
        (("In", &audit[..]), ("NotIn", &audit[..]))
    };
    let one = |kind: BindingKind, (operator, values): (&str, &[&str])| {
        binding(
            policy,
            kind,
            vec![requirement(names::MODE_LABEL, operator, values)],
            hash,
        )
    };
    vec![one(BindingKind::Audit, in_audit), one(BindingKind::Warn, otherwise)]
}

/// The binding of a policy that protects ourselves: always, everywhere.
pub(super) fn always(policy: &str, hash: &str) -> Vec<ValidatingAdmissionPolicyBinding> {
    vec![binding(policy, BindingKind::Deny, Vec::new(), hash)]
}

fn binding(
    policy: &str,
    kind: BindingKind,
    namespaces: Vec<LabelSelectorRequirement>,
    hash: &str,
) -> ValidatingAdmissionPolicyBinding {
    ValidatingAdmissionPolicyBinding {
        metadata: metadata(&kind.name(policy), hash),
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(policy.to_owned()),
            param_ref: None,
            match_resources: Some(MatchResources {
                namespace_selector: Some(selector(namespaces)),
                object_selector: Some(LabelSelector::default()),
                match_policy: Some("Equivalent".to_owned()),
                ..MatchResources::default()
            }),
            validation_actions: Some(kind.actions().iter().map(|&action| action.to_owned()).collect()),
        }),
    }
}

fn metadata(name: &str, hash: &str) -> ObjectMeta {
    let labels = [
        (names::PART_OF_LABEL, names::CLOISON),
        (names::MANAGED_BY_LABEL, names::CLOISON),
        (names::POLICY_HASH_LABEL, hash),
    ];
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from(
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())),
        )),
        ..ObjectMeta::default()
    }
}

fn selector(requirements: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector {
        match_labels: None,
        match_expressions: (!requirements.is_empty()).then_some(requirements),
    }
}

/// One line of a selector.
pub(super) fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then(|| values.iter().map(|&value| value.to_owned()).collect()),
    }
}

/// Resources of one group and version, by name: never a wildcard.
pub(super) fn resources(
    group: &str,
    version: &str,
    resources: &[&str],
    operations: &[&str],
) -> NamedRuleWithOperations {
    let owned = |list: &[&str]| Some(list.iter().map(|&item| item.to_owned()).collect());
    NamedRuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        resource_names: None,
        scope: Some("*".to_owned()),
    }
}
