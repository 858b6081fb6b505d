//! When a tenant really has the rights of their role.
//!
//! Two things come later than the RoleBinding: the controller manager gathers `edit`, `admin` and `view` from every
//! ClusterRole that is to be a part of them, and the authorizer of the API server hears of both by a watch.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use kube::core::Selector;

use crate::{Error, eventually};

/// Waits until the tenant has every right that the role has, and those of the roles that it is gathered from.
pub(crate) async fn rights_arrive(
    admin: &Client,
    tenant: &Client,
    namespace: &str,
    role: &str,
    deadline: Duration,
) -> Result<(), Error> {
    let what = format!("the rights of {role} in {namespace} arrive");
    eventually(deadline, &what, || async {
        let wanted = rules(admin, role).await?;
        let review = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec {
                namespace: Some(namespace.to_owned()),
            },
            ..SelfSubjectRulesReview::default()
        };
        let reviews: Api<SelfSubjectRulesReview> = Api::all(tenant.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let known = answer.map_err(|error| error.to_string())?.status.unwrap_or_default();
        match wanted.iter().find(|rule| !holds(&known, rule)) {
            None => Ok(()),
            Some(rule) => Err(format!("not known yet: {rule:?}")),
        }
    })
    .await
}

/// The rules of a role, and those that an aggregated role is going to have.
async fn rules(admin: &Client, role: &str) -> Result<Vec<PolicyRule>, String> {
    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let found = roles.get(role).await.map_err(|error| error.to_string())?;
    let mut rules = found.rules.unwrap_or_default();
    let parts = found.aggregation_rule.and_then(|rule| rule.cluster_role_selectors);
    for part in parts.into_iter().flatten() {
        let selector = Selector::try_from(part).map_err(|error| error.to_string())?;
        let listed = roles.list(&ListParams::default().labels_from(&selector)).await;
        let listed = listed.map_err(|error| error.to_string())?;
        rules.extend(listed.items.into_iter().flat_map(|part| part.rules.unwrap_or_default()));
    }
    Ok(rules)
}

/// The API server gives every rule as it stands, so that equal is enough.
fn holds(known: &SubjectRulesReviewStatus, rule: &PolicyRule) -> bool {
    let of_resources = rule.resources.as_ref().is_some_and(|resources| !resources.is_empty());
    !of_resources || known.resource_rules.iter().any(|known| same(known, rule))
}

fn same(known: &ResourceRule, rule: &PolicyRule) -> bool {
    known.verbs == rule.verbs
        && known.api_groups == rule.api_groups
        && known.resources == rule.resources
        && known.resource_names == rule.resource_names
}
