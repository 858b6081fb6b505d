//! What is said of the cluster as a whole: conditions on the policy and on `SecretEncryption`, and as metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::context::Context;
use super::encryption_status;
use super::error::{Class, Error};
use super::evidence::Snapshot;
use super::judge::{Hold, Proof};
use super::proofs::{self, Asked};
use crate::admission::PolicySet;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::encryption_status::SecretEncryptionStatus;
use crate::api::policy::{AiSecurityPolicyStatus, StageCount};
use crate::api::stage::NamespaceStage;
use crate::api::{AiSecurityPolicy, SecretEncryption, names};
use crate::cluster::telemetry::ConditionLabels;

/// What a pass found.
pub enum Found<'a> {
    /// Nothing is decided at present.
    Held(&'a Hold),
    /// The policies were generated; what of them could not be put in place.
    Placed {
        /// The generated policies.
        set: &'a PolicySet,
        /// What failed.
        failures: &'a [Error],
        /// The word on the cluster-wide denies, where somebody asked for them.
        denies: Option<&'a Verdict>,
    },
}

/// The cluster's conditions, on the policy if it is there and, for encryption, on `SecretEncryption` where there is one. A
/// status that cannot be written does not keep the other from being written.
pub async fn report(ctx: &Context, policy: Option<&AiSecurityPolicy>, found: &Found<'_>) -> Result<(), Error> {
    let evidence = ctx.evidence.snapshot();
    let encryption = ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON));
    let asked = Asked::of(
        policy.map(|policy| &policy.spec),
        encryption.as_ref().map(|found| &found.spec),
    );
    let verdicts = match found {
        Found::Held(hold) => held(hold),
        Found::Placed { set, failures, denies } => {
            let moment = Time(Context::moment());
            let admission = proofs::admission(&evidence, &set.hash, &moment, asked.max_age);
            let encryption = proofs::encryption(&evidence, &moment, &asked);
            let wanted = policy.map(|policy| policy.spec.network.enforcement_proof);
            let packets = proofs::packets(&evidence, wanted.unwrap_or_default(), &moment, asked.max_age);
            let mut verdicts = judge(admission.as_ref(), packets, encryption.as_ref(), failures);
            verdicts.extend(denies.cloned());
            verdicts
        }
    };
    show(ctx, &verdicts);
    let on_policy = match policy {
        Some(policy) => on_policy(ctx, policy, found, &verdicts).await,
        // There is no object to write conditions on.
        None => Ok(()),
    };
    let mut on_encryption = Ok(());
    for encryption in ctx.caches.encryptions.state() {
        let hold = match found {
            Found::Held(hold) => Some(word(hold)),
            Found::Placed { .. } => None,
        };
        on_encryption = on_encryption.and(write_encryption(ctx, &encryption, &evidence, &asked, hold).await);
    }
    on_policy.and(on_encryption)
}

async fn on_policy(
    ctx: &Context,
    policy: &AiSecurityPolicy,
    found: &Found<'_>,
    verdicts: &[Verdict],
) -> Result<(), Error> {
    let now = Time(Context::now());
    let number = |policy: &AiSecurityPolicy| {
        policy
            .resource_version()
            .and_then(|v| v.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let known = ctx
        .written_policy
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let present = match known {
        Some((written, status)) if written > number(policy) => status,
        _ => policy.status.clone().unwrap_or_default(),
    };
    let hash = match found {
        Found::Held(_) => present.policy_hash.clone(),
        Found::Placed { set, .. } => Some(set.hash.clone()),
    };
    let status = AiSecurityPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: conditions::conditions(&present.conditions, verdicts, policy.metadata.generation, &now),
        policy_hash: hash,
        counts: counts(ctx),
        unmodelled_policy_kinds: kinds(ctx),
    };
    if status == present {
        return Ok(());
    }
    let api = Api::<AiSecurityPolicy>::all(ctx.client.clone());
    let written = ctx
        .writer
        .apply_status(&api, "AiSecurityPolicy", names::SINGLETON, &status)
        .await?;
    *ctx.written_policy.lock().unwrap_or_else(PoisonError::into_inner) = Some((number(&written), status));
    Ok(())
}

async fn write_encryption(
    ctx: &Context,
    encryption: &SecretEncryption,
    evidence: &Snapshot,
    asked: &Asked,
    hold: Option<(&'static str, String)>,
) -> Result<(), Error> {
    // The order in it is the rotation's to write: an apply that leaves it out leaves it where it is.
    let present = SecretEncryptionStatus {
        order: None,
        ..encryption.status.clone().unwrap_or_default()
    };
    let generation = encryption.metadata.generation;
    let (now, moment) = (Time(Context::now()), Time(Context::moment()));
    let status = match hold {
        Some(hold) => encryption_status::held(&present, generation, hold, &now),
        None => encryption_status::judged(evidence, &present, generation, asked, &now, &moment),
    };
    if status == present {
        return Ok(());
    }
    let api = Api::<SecretEncryption>::all(ctx.client.clone());
    ctx.writer
        .apply_status(&api, "SecretEncryption", &encryption.name_any(), &status)
        .await
        .map(drop)
}

/// The cluster's conditions as metrics.
fn show(ctx: &Context, verdicts: &[Verdict]) {
    for verdict in verdicts {
        for truth in [Truth::True, Truth::False, Truth::Unknown] {
            let labels = ConditionLabels {
                condition: verdict.kind,
                status: truth.as_str(),
            };
            let gauge = ctx.metrics.conditions.get_or_create(&labels);
            gauge.set(i64::from(verdict.truth == truth));
        }
    }
}

/// Reason and message of everything while nothing is decided.
fn word(hold: &Hold) -> (&'static str, String) {
    match hold {
        Hold::Off { reason } => ("Off", format!("switched off: {reason}; `cloison on` resumes")),
        Hold::PolicyMissing => ("PolicyMissing", "nothing is written and nothing is loosened".to_owned()),
    }
}

fn held(hold: &Hold) -> Vec<Verdict> {
    let (reason, message) = word(hold);
    [
        types::ADMISSION_ENFORCED,
        types::ENFORCEMENT_VERIFIED,
        types::SECRETS_ENCRYPTED,
        types::POLICY_CURRENT,
        types::READY,
    ]
    .into_iter()
    .map(|kind| Verdict::new(kind, Truth::Unknown, reason, message.clone()))
    .collect()
}

/// The cluster's verdicts. Ready says that the generated policies are stored; that they refuse is `AdmissionEnforced`.
fn judge(admission: Option<&Proof>, packets: Proof, encryption: Option<&Proof>, failures: &[Error]) -> Vec<Verdict> {
    let from = |kind, proof: Option<&Proof>| match proof {
        Some(proof) => Verdict::new(kind, proof.truth, proof.reason, proof.message.clone()),
        None => Verdict::new(kind, Truth::Unknown, "NotProbed", "no proof was gathered yet"),
    };
    vec![
        from(types::ADMISSION_ENFORCED, admission),
        Verdict::new(
            types::ENFORCEMENT_VERIFIED,
            packets.truth,
            packets.reason,
            packets.message,
        ),
        from(types::SECRETS_ENCRYPTED, encryption),
        Verdict::new(
            types::POLICY_CURRENT,
            Truth::True,
            "Current",
            "the controller works by this generation of the policy",
        ),
        ready(failures),
    ]
}

fn ready(failures: &[Error]) -> Verdict {
    let kind = types::READY;
    let Some(first) = failures.first() else {
        return Verdict::new(
            kind,
            Truth::True,
            "Reconciled",
            "the generated admission policies are stored",
        );
    };
    let fix = match first.class() {
        Class::Permanent => {
            "give the controller the rights of the chart's ClusterRole back, or correct what refuses; it is tried again \
             every minute"
        }
        Class::Transient | Class::Conflict => "it is tried again",
    };
    let more = match failures.len() - 1 {
        0 => String::new(),
        more => format!(" (+{more} more)"),
    };
    let message = format!(
        "an admission object could not be put in place: {}{more}; {fix}",
        first.line()
    );
    Verdict::new(kind, Truth::False, first.reason(), message)
}

fn counts(ctx: &Context) -> Vec<StageCount> {
    let world = ctx.world();
    let mut counts: BTreeMap<_, (i32, i32)> = BTreeMap::new();
    for namespace in world.namespaces.values() {
        let Some(stage) = namespace.stage else { continue };
        let count = counts.entry((stage, namespace.mode)).or_default();
        count.0 += 1;
        count.1 += i32::try_from(world.workloads_in(&namespace.name).count()).unwrap_or(i32::MAX);
    }
    let count = |((stage, mode), (namespaces, workloads)): ((NamespaceStage, _), _)| StageCount {
        stage,
        mode,
        namespaces,
        workloads,
    };
    counts.into_iter().map(count).collect()
}

fn kinds(ctx: &Context) -> Vec<crate::api::text::Line> {
    let kinds: BTreeSet<String> = ctx
        .other_policies
        .borrow()
        .unmodelled
        .iter()
        .map(|policy| policy.kind.clone())
        .collect();
    kinds.iter().map(|kind| kind.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> Error {
        let status = Status {
            code,
            message: "no".to_owned(),
            ..Status::default()
        };
        Error::api("apply ValidatingAdmissionPolicy cloison-pod")(kube::Error::Api(Box::new(status)))
    }

    fn said(failures: &[Error]) -> (Truth, &'static str, String) {
        let packets = Proof {
            truth: Truth::Unknown,
            reason: "NotProbed",
            message: String::new(),
        };
        let verdicts = judge(None, packets, None, failures);
        let ready = verdicts
            .into_iter()
            .find(|verdict| verdict.kind == types::READY)
            .unwrap();
        (ready.truth, ready.reason, ready.message)
    }

    #[test]
    fn what_could_not_be_written_makes_ready_false_and_names_the_fix() {
        assert_eq!(said(&[]).0, Truth::True);
        let (truth, reason, message) = said(&[refused(403), refused(403)]);
        assert_eq!((truth, reason), (Truth::False, "Forbidden"));
        assert!(
            message.contains("apply ValidatingAdmissionPolicy cloison-pod: no (+1 more); give the controller"),
            "{message}"
        );
        let (truth, reason, message) = said(&[refused(503)]);
        assert_eq!((truth, reason), (Truth::False, "ApiServerError"));
        assert!(message.ends_with("it is tried again"), "{message}");
    }
}
