//! Builders of the two kinds of objects. Every field that the API server would default is set, so that applying what is
//! there already changes nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use super::cel::{bound, text};
use super::clause::{message, prefix};
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
}

impl Draft {
    pub(super) fn written(self, hash: &str, bindings: Vec<ValidatingAdmissionPolicyBinding>) -> Written {
        // Where the message itself cannot be evaluated.
        let unsaid = format!(
            "{}{} refused this request; run kubectl cloison why",
            prefix(hash),
            self.name
        );
        let bound = |expression: &str| bound(&self.named, expression);
        let observed = self.observed.iter().map(|observed| ("observed", observed));
        let by_key = self.observed_by_key.iter().map(|(key, observed)| (*key, observed));
        let audit: Vec<AuditAnnotation> = observed
            .chain(by_key)
            .map(|(key, observed)| AuditAnnotation {
                key: key.to_owned(),
                value_expression: short_enough(bound(&message(hash, observed)), hash),
            })
            .collect();
        let policy = ValidatingAdmissionPolicy {
            metadata: metadata(self.name, hash),
            spec: Some(ValidatingAdmissionPolicySpec {
                // No paramKind: a kind that goes missing would refuse every request that matches, everywhere.
                param_kind: None,
                failure_policy: Some("Fail".to_owned()),
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
                validations: Some(vec![Validation {
                    expression: bound(&self.passes),
                    reason: Some("Forbidden".to_owned()),
                    message: Some(unsaid),
                    message_expression: Some(bound(&message(hash, &self.problems))),
                }]),
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
fn short_enough(expression: String, hash: &str) -> String {
    if expression.len() <= ANNOTATION_LIMIT {
        return expression;
    }
    text(&format!(
        "{}controls in mode Audit are not judged: their lists are too long for an audit annotation",
        prefix(hash)
    ))
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
