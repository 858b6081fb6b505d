//! Canaries: for each policy one request that it must refuse, and one beside it that must pass. They prove on every API
//! server that the policies of this generation are in force there.
//!
//! They are sent as the ServiceAccount `cloison-canary`, which no policy exempts, always with `dryRun=All`, in the
//! namespace `cloison-canary`. That namespace must have [`canary_labels`] and [`canary_annotations`]: stage `training`,
//! mode `enforce`, the seal of its own uid, and the open list `default`. It holds no AiWorkload; the controller writes
//! both annotations itself, after the deny like in any stage namespace. It must not enforce a Pod Security level, or
//! that plugin answers first.

mod accounts;

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::modes::{Modes, overrides};
use super::policies::pod::images::full_prefix;
use super::policies::{connect, crd, guard, managed, namespace, net, pod, rbac, store};
use super::set::{BindingKind, PolicySet};
use super::uses::PROHIBITED_USES;
use crate::api::names;
use crate::api::policy::{AiSecurityPolicySpec, TenantPolicies};
use crate::api::stage::{ControlMode, Mode, NamespaceStage};
use crate::compliance::RuleId;
use crate::compliance::id::{CLU_04, DAT_01, DAT_07, ENC_02, NET_02, NET_05, NET_10, WKL_01, WKL_02};

/// The stage of the canaries' namespace.
pub const CANARY_STAGE: NamespaceStage = NamespaceStage::Training;

/// What a canary request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verb {
    /// `POST` of the object to the collection.
    Create,
    /// `PATCH` of the object, as a JSON merge patch.
    MergePatch,
}

/// One request. The sender adds `?dryRun=All` and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CanaryRequest {
    /// What it does.
    pub verb: Verb,
    /// The path on the API server.
    pub path: String,
    /// The body.
    pub body: Value,
}

/// One canary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Canary {
    /// Unique in a set: the policy's name.
    pub id: &'static str,
    /// The policy that must refuse.
    pub policy: String,
    /// The binding through which it must refuse.
    pub binding: String,
    /// The rule that the refusal names.
    pub rule: RuleId,
    /// Must be refused.
    pub negative: CanaryRequest,
    /// Must pass. It differs from the negative by what the rule is about and by nothing else.
    pub positive: CanaryRequest,
}

/// A right, for the role generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Names; empty for all.
    pub names: &'static [&'static str],
}

/// Everything that the account `cloison-canary` needs: a Role in the namespace `cloison-canary`. It holds none of the
/// virtual verbs.
pub const CANARY_RIGHTS: &[Right] = &[
    right("", "pods", &["create"], &[]),
    right("cloison.dev", "aiworkloads", &["create"], &[]),
    right("networking.k8s.io", "networkpolicies", &["create"], &[]),
    right("", "secrets", &["create"], &[]),
    // Of its own Role alone: the API server lets nobody give rights that they do not hold.
    right("rbac.authorization.k8s.io", "rolebindings", &["create"], &[]),
    right("", "persistentvolumeclaims", &["create"], &[]),
    // A request for a Namespace object is authorized inside that namespace, so a Role is enough.
    right("", "namespaces", &["patch"], &[names::CANARY_NAMESPACE]),
];

const fn right(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    names: &'static [&'static str],
) -> Right {
    Right {
        group,
        resource,
        verbs,
        names,
    }
}

/// The labels of the canaries' namespace.
pub fn canary_labels() -> BTreeMap<String, String> {
    [
        (names::STAGE_LABEL, CANARY_STAGE.as_str()),
        (names::MODE_LABEL, Mode::Enforce.label()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The annotations of the canaries' namespace, whose uid is given.
pub fn canary_annotations(uid: &str) -> BTreeMap<String, String> {
    [
        (names::SEALED_ANNOTATION, format!("{uid}/{CANARY_STAGE}")),
        (names::OPEN_ANNOTATION, names::DEFAULT_WORKLOAD.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The canaries of a set, which was generated from the same policy at the same time. A policy of which no rule refuses
/// anything in the canaries' stage has none: there is nothing to see.
pub fn canaries(set: &PolicySet, spec: &AiSecurityPolicySpec, now: Timestamp) -> Vec<Canary> {
    let modes = Modes::new(overrides(spec, now));
    let on = |rule: &RuleId| modes.get(rule, CANARY_STAGE) == ControlMode::Enforce;
    let all = [
        pod_canary(spec, on),
        crd_canary(spec, on),
        net_canary(spec, on),
        accounts::connect_canary(on),
        accounts::rbac_canary(on),
        store_canary(spec, on),
        Some(guard_canary()),
        Some(managed_canary()),
        Some(namespace_canary()),
    ];
    let in_set = |canary: &Canary| set.policy(&canary.policy).is_some();
    all.into_iter().flatten().filter(in_set).collect()
}

/// The policies of a set that refuse something in some stage, and of which [`canaries`] has none: whether they are in force
/// nobody sees. `cloison-templates` refuses nothing and needs no proof.
pub fn unprobed(set: &PolicySet, spec: &AiSecurityPolicySpec, now: Timestamp) -> Vec<String> {
    let modes = Modes::new(overrides(spec, now));
    let probed = canaries(set, spec, now);
    let refusing = [
        (pod::NAME, pod::refuses(spec, &modes)),
        (crd::NAME, crd::refuses(spec, &modes)),
        (net::NAME, net::refuses(spec, &modes)),
        (connect::NAME, connect::refuses(spec, &modes)),
        (rbac::NAME, rbac::refuses(&modes)),
        (store::NAME, store::refuses(spec, &modes)),
        (guard::NAME, true),
        (managed::NAME, true),
        (namespace::NAME, true),
    ];
    let unprobed = refusing.into_iter().filter(|(name, refuses)| {
        *refuses && set.policy(name).is_some() && !probed.iter().any(|canary| canary.policy == *name)
    });
    unprobed.map(|(name, _)| name.to_owned()).collect()
}

fn canary(policy: &'static str, rule: RuleId, negative: CanaryRequest, positive: CanaryRequest) -> Canary {
    Canary {
        id: policy,
        policy: policy.to_owned(),
        binding: BindingKind::Deny.name(policy),
        rule,
        negative,
        positive,
    }
}

fn create(group_version: &str, resource: &str, body: Value) -> CanaryRequest {
    let root = if group_version.contains('/') { "apis" } else { "api" };
    CanaryRequest {
        verb: Verb::Create,
        path: format!(
            "/{root}/{group_version}/namespaces/{}/{resource}",
            names::CANARY_NAMESPACE
        ),
        body,
    }
}

/// By a label that names no workload, which no other plugin has an opinion on; else by what an admin left on.
fn pod_canary(spec: &AiSecurityPolicySpec, on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let image = image(spec);
    let plain = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "canary", "image": image}]},
    });
    let changed = |pointer: &str, key: &str, value: Value| {
        let mut pod = plain.clone();
        if let Some(parent) = pod.pointer_mut(pointer) {
            parent[key] = value;
        }
        pod
    };
    let candidates = [
        (
            WKL_02.rule("unknown"),
            changed(
                "/metadata",
                "labels",
                json!({names::WORKLOAD_LABEL: "cloison-no-such-workload"}),
            ),
        ),
        (WKL_01.rule("host-pid"), changed("/spec", "hostPID", json!(true))),
    ];
    let (rule, refused) = candidates.into_iter().find(|(rule, _)| on(rule))?;
    Some(canary(
        pod::NAME,
        rule,
        create("v1", "pods", refused),
        create("v1", "pods", plain),
    ))
}

/// An image that the policy's rules on images let into the canaries' stage.
fn image(spec: &AiSecurityPolicySpec) -> String {
    let usable = spec.pods.images.iter().flatten().find(|rule| {
        rule.stages
            .as_ref()
            .is_none_or(|stages| stages.iter().any(|stage| NamespaceStage::from(*stage) == CANARY_STAGE))
    });
    let prefix = usable.map_or_else(
        || "registry.invalid/cloison".to_owned(),
        |rule| full_prefix(&rule.prefix),
    );
    if prefix.contains("@sha") {
        return prefix;
    }
    // A prefix with a tag is complete but for the digest; behind a host a colon is a port.
    let tagged = prefix.split_once('/').is_some_and(|(_, path)| path.contains(':'));
    let path = if tagged { "" } else { "/canary" };
    format!("{prefix}{path}@sha256:{:064}", 0)
}

fn workload(stage: &str) -> Value {
    json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": "AiWorkload",
        "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE},
        "spec": {"stage": stage, "owner": "cloison", "purpose": "Shows that the admission policies are in force"},
    })
}

fn workloads(body: Value) -> CanaryRequest {
    create(&format!("{}/{}", names::GROUP, names::VERSION), "aiworkloads", body)
}

fn crd_canary(spec: &AiSecurityPolicySpec, on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let mut uses = workload("Training");
    let own = spec.prohibited_uses.as_ref();
    let prohibited = match own {
        Some(own) => own.first().map(|name| name.0.clone()),
        None => PROHIBITED_USES.first().map(|law| law.name.to_owned()),
    };
    let by_use = prohibited.map(|name| {
        uses["spec"]["uses"] = json!([name]);
        (DAT_01.rule("prohibited"), uses)
    });
    let by_stage = (NET_02.rule("stage-mismatch"), workload("Inference"));
    let (rule, refused) = [Some(by_stage), by_use]
        .into_iter()
        .flatten()
        .find(|(rule, _)| on(rule))?;
    Some(canary(
        crd::NAME,
        rule,
        workloads(refused),
        workloads(workload("Training")),
    ))
}

fn guard_canary() -> Canary {
    let mut refused = workload("Training");
    refused["metadata"]["finalizers"] = json!(["cloison.dev/canary"]);
    canary(
        guard::NAME,
        CLU_04.rule("finalizer"),
        workloads(refused),
        workloads(workload("Training")),
    )
}

/// A NetworkPolicy that isolates the pods of the canaries' namespace; there are none.
fn network_policy(metadata: Value, spec: Value) -> CanaryRequest {
    let mut body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    for (part, more) in [("metadata", metadata), ("spec", spec)] {
        if let (Some(part), Value::Object(more)) = (body[part].as_object_mut(), more) {
            part.extend(more);
        }
    }
    create("networking.k8s.io/v1", "networkpolicies", body)
}

fn net_canary(spec: &AiSecurityPolicySpec, on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let everything = json!({"ingress": [{}]});
    let elsewhere = json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]});
    let metadata = json!({"ingress": [{"from": [{"ipBlock": {"cidr": "169.254.169.254/32"}}]}]});
    let candidates = match spec.network.tenant_policies {
        TenantPolicies::None => vec![(NET_10.rule("not-allowed"), everything)],
        // A peer in another namespace is for the webhook to judge.
        TenantPolicies::Analysed => vec![
            (NET_10.rule("no-peers"), everything),
            (NET_05.rule("metadata"), metadata),
        ],
        TenantPolicies::OwnNamespace => vec![
            (NET_10.rule("no-peers"), everything),
            (NET_10.rule("namespace-selector"), elsewhere),
            (NET_05.rule("metadata"), metadata),
        ],
    };
    let (rule, refused) = candidates.into_iter().find(|(rule, _)| on(rule))?;
    Some(canary(
        net::NAME,
        rule,
        network_policy(json!({}), refused),
        network_policy(json!({}), json!({})),
    ))
}

/// By a volume that nobody made, else by a StorageClass that is not listed. The canary may create no PersistentVolumes.
fn store_canary(spec: &AiSecurityPolicySpec, on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let listed = spec
        .secrets
        .as_ref()
        .and_then(|it| it.encrypted_storage_classes.as_deref());
    let listed = listed.unwrap_or_default();
    let class = listed.first();
    let claim = |change: Value| {
        let mut body = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        });
        if let Some(class) = class {
            body["spec"]["storageClassName"] = json!(class);
        }
        if let (Some(part), Value::Object(more)) = (body["spec"].as_object_mut(), change) {
            part.extend(more);
        }
        create("v1", "persistentvolumeclaims", body)
    };
    let by_volume = Some((DAT_07.rule("volume-name"), json!({"volumeName": "cloison-canary"})));
    let other = (0..=listed.len())
        .map(|n| format!("cloison-canary-{n}"))
        .find(|name| listed.iter().all(|class| class.0 != *name));
    let by_class = class
        .and(other)
        .map(|name| (ENC_02.rule("storage-class"), json!({"storageClassName": name})));
    let (rule, refused) = [by_volume, by_class].into_iter().flatten().find(|(rule, _)| on(rule))?;
    Some(canary(store::NAME, rule, claim(refused), claim(json!({}))))
}

fn managed_canary() -> Canary {
    let policy = |labels: Value| network_policy(json!({"labels": labels}), json!({}));
    canary(
        managed::NAME,
        CLU_04.rule("managed-label"),
        policy(json!({names::MANAGED_BY_LABEL: names::CLOISON})),
        policy(json!({})),
    )
}

fn namespace_canary() -> Canary {
    let patch = |metadata: Value| CanaryRequest {
        verb: Verb::MergePatch,
        path: format!("/api/v1/namespaces/{}", names::CANARY_NAMESPACE),
        body: json!({"metadata": metadata}),
    };
    canary(
        namespace::NAME,
        NET_02.rule("mode-label"),
        patch(json!({"labels": {names::MODE_LABEL: Mode::Audit.label()}})),
        patch(json!({"annotations": {"cloison.dev/canary": "here"}})),
    )
}
