//! Whether the API server would admit a pod now, and as which one: asked, not guessed, with the caller's own rights. Nothing
//! is created.

pub(super) mod pod;
pub(super) mod refusal;

use std::fmt;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::core::{DynamicObject, Status};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

use self::refusal::Refusal;

/// What the API server said.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It would be admitted, as this pod: with what mutating webhooks and the API server itself added.
    Admitted(Value),
    /// A policy of ours refuses it.
    Refused(Refusal),
    /// Something else refuses it.
    RefusedByOther(Other),
    /// No answer.
    Unknown(Silence),
}

/// A refusal that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// What stands in the way.
    pub cause: Cause,
    /// The API server's words, without the name that it drew for the pod.
    pub message: String,
}

/// What stands in the way of a pod, and is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A quota, Pod Security, another policy.
    Rule,
    /// It is no valid pod.
    Invalid,
    /// Its namespace is not there.
    NoNamespace,
    /// Its ServiceAccount is not there.
    NoAccount,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The caller may not create pods in the namespace.
    MayNotCreate,
    /// Another error, in these words.
    Failed(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MayNotCreate => "you may not create pods in this namespace",
            Self::Failed(words) => words,
        })
    }
}

/// Asks.
pub(super) async fn ask(client: &Client, namespace: &str, pod: &Value) -> Answer {
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let object: DynamicObject = match serde_json::from_value(pod.clone()) {
        Ok(object) => object,
        Err(error) => return Answer::Unknown(Silence::Failed(error.to_string())),
    };
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&params, &object).await {
        Ok(admitted) => match serde_json::to_value(&admitted) {
            Ok(pod) => Answer::Admitted(pod),
            Err(error) => Answer::Unknown(Silence::Failed(error.to_string())),
        },
        Err(kube::Error::Api(status)) => {
            let answer = read(&status);
            let by_a_rule = matches!(&answer, Answer::RefusedByOther(other) if other.cause == Cause::Rule);
            // Whoever lacks the right is told so in words that another refusal may have too.
            if by_a_rule && status.code == 403 && may_not_create(client, namespace).await {
                return Answer::Unknown(Silence::MayNotCreate);
            }
            answer
        }
        Err(error) => Answer::Unknown(Silence::Failed(error.to_string())),
    }
}

/// What an error of the API server says.
fn read(status: &Status) -> Answer {
    let details = status.details.as_ref();
    let kind = details.map_or("", |details| details.kind.as_str());
    let name = details.map_or("", |details| details.name.as_str());
    // The name is another one each time.
    let message = match name.strip_prefix(pod::PREFIX) {
        Some(_) => status.message.replace(name, &format!("{}*", pod::PREFIX)),
        None => status.message.clone(),
    };
    let other = |cause| {
        let message = message.clone();
        Answer::RefusedByOther(Other { cause, message })
    };
    match status.code {
        404 if kind == "namespaces" => other(Cause::NoNamespace),
        400 | 403 | 422 => match refusal::parse(&message) {
            Some(refusal) => Answer::Refused(refusal),
            // The words of the plugin ServiceAccount, which gives no other sign.
            None if message.contains("error looking up service account ") => other(Cause::NoAccount),
            // A policy's refusal is about "pods", whatever code it has.
            None if status.code == 422 && kind == "Pod" => other(Cause::Invalid),
            None => other(Cause::Rule),
        },
        _ => Answer::Unknown(Silence::Failed(message)),
    }
}

/// Whether the API server says that the caller may not create pods. Without an answer nothing is claimed.
async fn may_not_create(client: &Client, namespace: &str) -> bool {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                resource: Some("pods".to_owned()),
                verb: Some("create".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer.is_ok_and(|review| review.status.is_some_and(|status| !status.allowed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(code: u16, kind: &str, message: &str) -> Status {
        let details = json!({"kind": kind, "name": "cloison-dry-run-x7k2p"});
        serde_json::from_value(json!({"status": "Failure", "code": code, "message": message, "details": details}))
            .unwrap()
    }

    #[test]
    fn what_is_no_rule_is_not_taken_for_one() {
        let other = |code, kind, message| match read(&status(code, kind, message)) {
            Answer::RefusedByOther(other) => other.cause,
            answer => panic!("{answer:?}"),
        };
        assert_eq!(
            other(404, "namespaces", "namespaces \"a\" not found"),
            Cause::NoNamespace
        );
        assert_eq!(
            other(
                403,
                "pods",
                "pods \"a\" is forbidden: error looking up service account a/b: not found"
            ),
            Cause::NoAccount
        );
        assert_eq!(
            other(422, "Pod", "Pod \"a\" is invalid: spec.containers"),
            Cause::Invalid
        );
        assert_eq!(
            other(
                422,
                "pods",
                "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'x' denied"
            ),
            Cause::Rule
        );
        assert_eq!(
            other(403, "pods", "pods \"a\" is forbidden: exceeded quota"),
            Cause::Rule
        );
    }

    #[test]
    fn silence_is_no_refusal() {
        for (code, message) in [
            (500, "failed calling webhook \"a\": context deadline exceeded"),
            (429, "too many requests"),
        ] {
            let answer = read(&status(code, "", message));
            assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
        }
    }

    #[test]
    fn the_name_that_was_drawn_is_not_told() {
        let message = "pods \"cloison-dry-run-x7k2p\" is forbidden: exceeded quota";
        let Answer::RefusedByOther(other) = read(&status(403, "pods", message)) else {
            panic!("{message}")
        };
        assert_eq!(other.message, "pods \"cloison-dry-run-*\" is forbidden: exceeded quota");
    }
}
