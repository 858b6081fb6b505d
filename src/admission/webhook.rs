//! The ValidatingWebhookConfiguration: what the API server asks the webhook, and what becomes of it while nobody answers.
//!
//! Writes of our own kinds, NetworkPolicies of tenants where the policy says `Analysed`, claims that name their volume.
//! Where nothing would be refused, nothing is when the webhook is away. Pods are never sent.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use super::cel::text;
use super::modes::STAGES;
use super::objects::requirement;
use super::operator::Operator;
use super::policies::{EMPTIERS, USER};
use crate::api::names;
use crate::api::policy::{AiSecurityPolicySpec, TenantPolicies};
use crate::api::stage::{Mode, NamespaceStage};

/// Where the server answers.
pub const PATH: &str = "/review";
/// The port of the Service.
pub const PORT: i32 = 443;
/// How long the API server waits.
pub const TIMEOUT_SECONDS: i32 = 5;

/// Binds claims to volumes by itself: under both names it goes by.
const BINDERS: [&str; 2] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:persistent-volume-binder",
];

/// What happens while the webhook does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    Refused,
    Passed,
}

/// The configuration. `trusted`: the API server knows the webhook's authority; until then nothing is refused for want of
/// an answer, because there can be none.
pub fn configuration(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    trusted: bool,
) -> ValidatingWebhookConfiguration {
    let kinds = |resources: &[&str], operations: &[&str]| rule(names::GROUP, names::VERSION, resources, operations);
    let writes = ["CREATE", "UPDATE"];
    // The canaries' positive controls must not hang on the webhook: they prove the policies that hold without it.
    let mut excluded = operator.reserved_namespaces();
    excluded.push(names::CANARY_NAMESPACE);
    let reserved = requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &excluded);
    let staged = requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str));
    // A write that leaves the content as it is has nothing to be judged: labels, owners, a quarantine.
    let changed = (
        "changed",
        "oldObject == null || object.spec != oldObject.spec".to_owned(),
    );
    let theirs = ("not-the-operator", format!("{USER} != {}", text(&operator.user)));
    let judged = vec![theirs, changed];
    let mut webhooks = vec![Entry {
        name: "settings",
        rule: kinds(&["aisecuritypolicies", "secretencryptions", "waivers"], &writes),
        namespaces: Vec::new(),
        conditions: judged.clone(),
        // What is wrong in them is not heard either way, and who repairs a cluster must be able to write them.
        absent: Absent::Passed,
    }];
    webhooks.extend(by_mode(spec.mode, |suffix, mode, absent| Entry {
        name: ["workloads", "workloads-reported"][suffix],
        rule: kinds(&["aiworkloads"], &writes),
        namespaces: vec![reserved.clone(), mode],
        conditions: judged.clone(),
        absent,
    }));
    webhooks.push(Entry {
        name: "deletions",
        rule: kinds(&["aiworkloads"], &["DELETE"]),
        namespaces: vec![reserved.clone()],
        conditions: vec![("by-a-person", emptied())],
        absent: Absent::Passed,
    });
    if spec.network.tenant_policies == TenantPolicies::Analysed {
        webhooks.extend(by_mode(spec.mode, |suffix, mode, absent| Entry {
            name: ["networkpolicies", "networkpolicies-reported"][suffix],
            rule: rule("networking.k8s.io", "v1", &["networkpolicies"], &writes),
            namespaces: vec![reserved.clone(), staged.clone(), mode],
            conditions: judged.clone(),
            absent,
        }));
    }
    let volume = |root: &str| format!("(has({root}.spec.volumeName) ? {root}.spec.volumeName : '')");
    let binds = format!(
        "{new} != '' && (oldObject == null || {new} != {old})",
        new = volume("object"),
        old = volume("oldObject")
    );
    let not_the_binder = format!("!({USER} in {})", super::cel::list(BINDERS));
    webhooks.extend(by_mode(spec.mode, |suffix, mode, absent| Entry {
        name: ["claims", "claims-reported"][suffix],
        rule: rule("", "v1", &["persistentvolumeclaims"], &writes),
        namespaces: vec![reserved.clone(), requirement(names::STAGE_LABEL, "Exists", &[]), mode],
        conditions: vec![
            ("names-a-volume", binds.clone()),
            ("not-the-binder", not_the_binder.clone()),
        ],
        absent,
    }));
    let labels = [
        (names::PART_OF_LABEL, names::CLOISON),
        (names::MANAGED_BY_LABEL, names::CLOISON),
    ];
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(names::WEBHOOK_CONFIGURATION.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        webhooks: Some(
            webhooks
                .into_iter()
                .map(|entry| entry.written(operator, trusted))
                .collect(),
        ),
    }
}

/// The CA bundle in an apply of its own: every entry by name, and nothing else of it.
pub fn bundle(configuration: &ValidatingWebhookConfiguration, bundle: &str) -> serde_json::Value {
    let entries = configuration.webhooks.iter().flatten();
    let with_bundle = |entry: &ValidatingWebhook| {
        let ca = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        serde_json::json!({"name": entry.name, "clientConfig": {"caBundle": ca}})
    };
    serde_json::json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        // Of the version that was read: an older bundle does not come back over a newer one.
        "metadata": {"name": names::WEBHOOK_CONFIGURATION, "uid": configuration.metadata.uid,
            "resourceVersion": configuration.metadata.resource_version},
        "webhooks": entries.map(with_bundle).collect::<Vec<_>>(),
    })
}

/// Whether tenants' NetworkPolicies are refused where the webhook refuses them or does not answer.
pub fn guards_tenant_policies(configuration: &ValidatingWebhookConfiguration) -> bool {
    let name = entry_name("networkpolicies");
    let mut entries = configuration.webhooks.iter().flatten();
    let entry = entries.find(|entry| entry.name == name);
    entry.is_some_and(|entry| entry.failure_policy.as_deref() == Some("Fail")) && is_trusted(configuration)
}

fn entry_name(name: &str) -> String {
    format!("{name}.webhook.{}", names::GROUP)
}

/// The authority that some entry has, for those that have none yet.
pub fn known_bundle(configuration: &ValidatingWebhookConfiguration) -> Option<k8s_openapi::ByteString> {
    let entries = configuration.webhooks.iter().flatten();
    let mut bundles = entries.filter_map(|entry| entry.client_config.ca_bundle.clone());
    bundles.find(|bundle| !bundle.0.is_empty())
}

/// Whether every entry has an authority to trust.
pub fn is_trusted(configuration: &ValidatingWebhookConfiguration) -> bool {
    let mut entries = configuration.webhooks.iter().flatten();
    entries.all(|entry| {
        entry
            .client_config
            .ca_bundle
            .as_ref()
            .is_some_and(|bundle| !bundle.0.is_empty())
    })
}

/// Namespaces whose mode refuses, and the others: a namespace is in exactly one of the two.
fn by_mode(default: Mode, entry: impl Fn(usize, LabelSelectorRequirement, Absent) -> Entry) -> [Entry; 2] {
    let others = [Mode::Audit, Mode::Warn].map(Mode::label);
    let enforce = [Mode::Enforce.label()];
    // A value that means nothing is as good as none.
    let (refusing, reporting) = if default == Mode::Enforce {
        (("NotIn", &others[..]), ("In", &others[..]))
    } else {
        (("In", &enforce[..]), ("NotIn", &enforce[..]))
    };
    let mode = |(operator, values): (&str, &[&str])| requirement(names::MODE_LABEL, operator, values);
    [
        entry(0, mode(refusing), Absent::Refused),
        entry(1, mode(reporting), Absent::Passed),
    ]
}

/// A deletion that somebody asked for: not one of a namespace that ends, which takes all along.
fn emptied() -> String {
    format!("!({USER} in {})", super::cel::list(EMPTIERS))
}

/// One entry, before it is written down.
struct Entry {
    name: &'static str,
    rule: RuleWithOperations,
    namespaces: Vec<LabelSelectorRequirement>,
    conditions: Vec<(&'static str, String)>,
    absent: Absent,
}

impl Entry {
    fn written(self, operator: &Operator, trusted: bool) -> ValidatingWebhook {
        let policy = match self.absent {
            Absent::Refused if trusted => "Fail",
            Absent::Refused | Absent::Passed => "Ignore",
        };
        let conditions = self.conditions.into_iter().map(|(name, expression)| MatchCondition {
            name: name.to_owned(),
            expression,
        });
        ValidatingWebhook {
            name: entry_name(self.name),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: WebhookClientConfig {
                service: Some(ServiceReference {
                    name: names::WEBHOOK_ACCOUNT.to_owned(),
                    namespace: operator.namespace.clone(),
                    path: Some(PATH.to_owned()),
                    port: Some(PORT),
                }),
                ..WebhookClientConfig::default()
            },
            failure_policy: Some(policy.to_owned()),
            match_conditions: Some(conditions.collect()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(LabelSelector {
                match_expressions: (!self.namespaces.is_empty()).then_some(self.namespaces),
                match_labels: None,
            }),
            object_selector: Some(LabelSelector::default()),
            rules: Some(vec![self.rule]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
        }
    }
}

fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let owned = |list: &[&str]| Some(list.iter().map(|&item| item.to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some("*".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(mode: Mode, tenant_policies: TenantPolicies, trusted: bool) -> BTreeMap<String, ValidatingWebhook> {
        let mut spec = AiSecurityPolicySpec {
            mode,
            ..AiSecurityPolicySpec::default()
        };
        spec.network.tenant_policies = tenant_policies;
        let made = configuration(&spec, &Operator::in_namespace("cloison-system"), trusted);
        let short = |name: &str| name.split('.').next().unwrap().to_owned();
        made.webhooks
            .unwrap()
            .into_iter()
            .map(|entry| (short(&entry.name), entry))
            .collect()
    }

    /// Without an answer nothing is refused but what the webhook could refuse.
    #[test]
    fn its_absence_blocks_nothing_else() {
        for mode in Mode::ALL {
            let entries = entries(mode, TenantPolicies::Analysed, true);
            let failing = entries
                .iter()
                .filter(|(_, entry)| entry.failure_policy.as_deref() == Some("Fail"));
            let failing: Vec<&str> = failing.map(|(name, _)| name.as_str()).collect();
            assert_eq!(failing, ["claims", "networkpolicies", "workloads"]);
            for (name, entry) in &entries {
                let rules = entry.rules.as_ref().unwrap();
                let resources: Vec<&String> = rules.iter().flat_map(|rule| rule.resources.iter().flatten()).collect();
                assert!(
                    resources
                        .iter()
                        .all(|resource| !resource.contains('*') && *resource != "pods"),
                    "{name}"
                );
                assert!(entry.timeout_seconds.unwrap() <= 5, "{name}");
                let selector = entry
                    .namespace_selector
                    .clone()
                    .unwrap()
                    .match_expressions
                    .unwrap_or_default();
                let excluded = selector.iter().find(|r| r.key == names::NAMESPACE_NAME_LABEL);
                let excluded = excluded.and_then(|r| r.values.clone()).unwrap_or_default();
                if name != "settings" {
                    assert!(
                        ["kube-system", "cloison-system", "cloison-canary"]
                            .iter()
                            .all(|ns| excluded.contains(&(*ns).to_owned())),
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn policies_of_tenants_are_asked_about_only_where_they_are_analysed() {
        for other in [TenantPolicies::OwnNamespace, TenantPolicies::None] {
            let entries = entries(Mode::Audit, other, true);
            assert!(
                entries.keys().all(|name| !name.starts_with("networkpolicies")),
                "{entries:?}"
            );
        }
    }

    #[test]
    fn nobody_is_refused_while_the_authority_is_not_known() {
        let entries = entries(Mode::Enforce, TenantPolicies::Analysed, false);
        assert!(
            entries
                .values()
                .all(|entry| entry.failure_policy.as_deref() == Some("Ignore")),
            "{entries:?}"
        );
    }
}
