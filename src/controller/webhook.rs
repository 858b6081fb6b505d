//! Puts the webhook's configuration in place. The controller writes it and not the chart, or a self-healing pipeline would
//! bring it back against the stop button; the chart's role owns it, so that an uninstall takes it along.

use std::borrow::Cow;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::admission_objects::holds;
use super::cluster::{Owner, own};
use super::context::Context;
use super::error::Error;
use crate::admission::Operator;
use crate::admission::webhook::{configuration, guards_tenant_policies, is_trusted, known_bundle};
use crate::api::names;
use crate::api::policy::{AiSecurityPolicySpec, TenantPolicies};

const KIND: &str = "ValidatingWebhookConfiguration";

/// What is left to CEL: all of it while no API server asks the webhook about tenants' policies, whatever the policy says.
pub fn kept_by_cel<'s>(ctx: &Context, spec: &'s AiSecurityPolicySpec) -> Cow<'s, AiSecurityPolicySpec> {
    let present = ctx.caches.webhooks.get(&ObjectRef::new(names::WEBHOOK_CONFIGURATION));
    let asked = ctx.webhook && present.is_some_and(|present| guards_tenant_policies(&present));
    if spec.network.tenant_policies != TenantPolicies::Analysed || asked {
        return Cow::Borrowed(spec);
    }
    let mut strict = spec.clone();
    strict.network.tenant_policies = TenantPolicies::OwnNamespace;
    Cow::Owned(strict)
}

/// Puts it in place, or away where there is no webhook.
pub async fn place(
    ctx: &Context,
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    owner: Option<&Owner>,
) -> Result<(), Error> {
    let present = ctx.caches.webhooks.get(&ObjectRef::new(names::WEBHOOK_CONFIGURATION));
    if !ctx.webhook {
        return match present {
            Some(_) => {
                ctx.writer
                    .delete_cluster::<ValidatingWebhookConfiguration>(KIND, names::WEBHOOK_CONFIGURATION)
                    .await
            }
            None => Ok(()),
        };
    }
    let known = present.as_ref().and_then(|present| known_bundle(present));
    let mut desired = configuration(spec, operator, known.is_some());
    own(
        &mut desired.metadata,
        owner,
        present.as_ref().map(|present| &present.metadata),
    );
    let Some(present) = present else {
        ctx.writer.apply_cluster(KIND, &desired).await?;
        return Ok(());
    };
    if holds(&desired, &present) && is_trusted(&present) == known.is_some() {
        return Ok(());
    }
    // Written as a whole: an apply takes no entry off whose bundle the webhook owns. Each keeps its bundle, and a new one
    // gets the others'.
    for entry in desired.webhooks.iter_mut().flatten() {
        let mut there = present.webhooks.iter().flatten();
        let same = there.find(|other| other.name == entry.name);
        let own = same.and_then(|same| same.client_config.ca_bundle.clone());
        entry.client_config.ca_bundle = own.filter(|bundle| !bundle.0.is_empty()).or_else(|| known.clone());
    }
    desired.metadata.resource_version = present.resource_version();
    ctx.writer.replace_cluster(KIND, &desired).await?;
    Ok(())
}
