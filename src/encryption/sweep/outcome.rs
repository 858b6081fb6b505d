//! What one answer means for one Secret. Only two of the meanings are *done*; everything that is not understood is in the
//! way.

use std::fmt;
use std::time::Duration;

use super::answer::{Answer, Entry};

/// `details.kind` of a 404: what there is not.
const SECRETS: &str = "secrets";
const NAMESPACES: &str = "namespaces";

/// Why a Secret was not rewritten. The words are the program's own: a refusal of a third party's webhook may quote what it
/// refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Its namespace is deleted. It can only be deleted too, and no key may be retired while it is there (OCPBUGS-85280).
    Orphan,
    /// Admission refuses even a patch that changes nothing; by whom.
    AdmissionRefused(String),
    /// The API server no longer finds the stored object valid.
    Invalid,
    /// The API server cannot read the stored value.
    Undecryptable,
    /// Others changed it each time that it was tried.
    Contended,
    /// Anything else: status code and reason.
    Other(u16, String),
}

impl Obstacle {
    /// A CamelCase word, for counts.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Orphan => "OrphanObject",
            Self::AdmissionRefused(_) => "AdmissionBlocked",
            Self::Invalid => "ValidationBlocked",
            Self::Undecryptable => "DecryptFailed",
            Self::Contended => "Contended",
            Self::Other(..) => "Unexpected",
        }
    }

    /// What a person does about it.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Orphan => "delete it: `kubectl delete secret -n NAMESPACE NAME` works without the namespace",
            Self::AdmissionRefused(_) => {
                "let updates pass that change nothing (in a policy: `object.data == oldObject.data`)"
            }
            Self::Invalid => "correct the object with `kubectl edit`",
            Self::Undecryptable => "give the API servers its key back, or delete it in etcd",
            Self::Contended => "see what keeps writing it",
            Self::Other(..) => "look at the API server's log",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphan => f.write_str("its namespace no longer exists"),
            Self::AdmissionRefused(by) => write!(f, "refused at admission by {by}"),
            Self::Invalid => f.write_str("the stored object is no longer valid"),
            Self::Undecryptable => {
                f.write_str("the stored value cannot be read: no configured key decrypts it, or it is damaged")
            }
            Self::Contended => f.write_str("others changed it each time it was tried"),
            Self::Other(code, reason) if reason.is_empty() => write!(f, "the API server answered {code}"),
            Self::Other(code, reason) => write!(f, "the API server answered {code} {reason}"),
        }
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value was stored under another key and is rewritten.
    Rewritten,
    /// The value was read, and it was stored as it should be.
    Current,
    /// There is no such Secret any more.
    Gone,
    /// It was changed meanwhile: read it again and repeat.
    Conflict,
    /// Only a read can tell: pass its answer to [`settle`].
    Ask,
    /// The API server asks for patience, or cannot be reached; repeat after this, if it says.
    Later(Option<Duration>),
    /// The account is not, or no longer, let in: nothing more can be done in this pass.
    Denied,
    /// It was not rewritten.
    Blocked(Obstacle),
}

/// What the answer to a patch means that changes nothing.
pub fn rewritten(sent: &Entry, answer: &Answer) -> Outcome {
    // First of all: who refuses at admission chooses the status code, also one that means something else here.
    if let Some(name) = refuser(&answer.message) {
        return Outcome::Blocked(Obstacle::AdmissionRefused(name));
    }
    match (answer.code, &answer.entry) {
        (200..300, Some(now)) if now.version == sent.version => Outcome::Current,
        (200..300, Some(_)) => Outcome::Rewritten,
        (409, _) => Outcome::Conflict,
        (422, _) => Outcome::Blocked(Obstacle::Invalid),
        (404, _) if answer.kind != SECRETS => Outcome::Ask,
        (500, _) if !passing(answer) => Outcome::Ask,
        _ => common(answer),
    }
}

/// What the answer to a read of the metadata means.
pub fn read(answer: &Answer) -> Outcome {
    match (answer.code, &answer.entry) {
        (200..300, Some(_)) => Outcome::Current,
        // A read runs no admission: what fails is the value.
        (500, _) if !passing(answer) => Outcome::Blocked(Obstacle::Undecryptable),
        _ => common(answer),
    }
}

/// What the answer to the read says that was asked for in doubt about a patch.
pub fn settle(patch: &Answer, seen: &Answer) -> Outcome {
    match read(seen) {
        Outcome::Current if patch.code == 404 && patch.kind == NAMESPACES => Outcome::Blocked(Obstacle::Orphan),
        Outcome::Current => Outcome::Blocked(other(patch)),
        outcome => outcome,
    }
}

fn common(answer: &Answer) -> Outcome {
    match answer.code {
        // Of anything else that there is not, it is not known whether the Secret is there.
        404 if answer.kind == SECRETS => Outcome::Gone,
        // 0: no answer at all.
        0 | 429 | 500 | 502..=504 => Outcome::Later(answer.retry_after),
        401 => Outcome::Denied,
        403 if answer.message.contains("\" cannot ") => Outcome::Denied,
        403 => Outcome::Blocked(Obstacle::AdmissionRefused(
            "an admission plugin of the API server".to_owned(),
        )),
        _ => Outcome::Blocked(other(answer)),
    }
}

/// Whether what failed is etcd, or a plugin that holds keys, and not the value.
fn passing(answer: &Answer) -> bool {
    [
        "etcdserver: ",
        "rpc error: code = Unavailable",
        "rpc error: code = DeadlineExceeded",
        "context deadline exceeded",
    ]
    .iter()
    .any(|words| answer.message.contains(words))
}

fn other(answer: &Answer) -> Obstacle {
    Obstacle::Other(answer.code, answer.reason.clone())
}

/// Who refused at admission, by the words of 1.33 to 1.36. The API server's own words come before those that it quotes.
fn refuser(message: &str) -> Option<String> {
    let named = |(before, quote, kind): (&str, char, &str)| {
        let at = message.find(before)?;
        let name = message[at + before.len()..].split(quote).next()?;
        Some((at, format!("{kind} {name}")))
    };
    [
        ("ValidatingAdmissionPolicy '", '\'', "ValidatingAdmissionPolicy"),
        ("MutatingAdmissionPolicy '", '\'', "MutatingAdmissionPolicy"),
        ("admission webhook \"", '"', "webhook"),
        ("calling webhook \"", '"', "webhook"),
        ("call webhook \"", '"', "webhook"),
    ]
    .into_iter()
    .filter_map(named)
    .min_by_key(|(at, _)| *at)
    .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: &str) -> Entry {
        Entry {
            namespace: "a".into(),
            name: "s".into(),
            uid: "u".into(),
            version: version.into(),
            copied: false,
        }
    }

    fn found(version: &str) -> Answer {
        Answer {
            code: 200,
            entry: Some(entry(version)),
            ..Answer::default()
        }
    }

    fn refused(code: u16, kind: &str, message: &str) -> Answer {
        Answer {
            code,
            kind: kind.to_owned(),
            message: message.to_owned(),
            ..Answer::default()
        }
    }

    fn blocked_by(name: &str) -> Outcome {
        Outcome::Blocked(Obstacle::AdmissionRefused(name.to_owned()))
    }

    #[test]
    fn each_answer_to_a_patch_has_one_meaning() {
        let policy =
            "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'frozen' with binding 'b' denied request: no";
        for (answer, meaning) in [
            (found("7"), Outcome::Current),
            (found("8"), Outcome::Rewritten),
            (refused(404, "secrets", ""), Outcome::Gone),
            (refused(404, "namespaces", ""), Outcome::Ask),
            (refused(404, "", "page not found"), Outcome::Ask),
            (refused(409, "secrets", ""), Outcome::Conflict),
            (
                refused(422, "secrets", "Secret \"s\" is invalid"),
                Outcome::Blocked(Obstacle::Invalid),
            ),
            (
                refused(422, "secrets", policy),
                blocked_by("ValidatingAdmissionPolicy frozen"),
            ),
            (
                refused(403, "secrets", policy),
                blocked_by("ValidatingAdmissionPolicy frozen"),
            ),
            (
                refused(
                    403,
                    "",
                    "admission webhook \"w.example.com\" denied the request: it holds hunter2",
                ),
                blocked_by("webhook w.example.com"),
            ),
            (
                refused(
                    500,
                    "",
                    "Internal error occurred: failed calling webhook \"w.example.com\": failed to call",
                ),
                blocked_by("webhook w.example.com"),
            ),
            (
                refused(500, "", "Internal error occurred: no matching prefix found"),
                Outcome::Ask,
            ),
            (refused(500, "", "etcdserver: request timed out"), Outcome::Later(None)),
            (
                refused(
                    500,
                    "",
                    "failed to decrypt DEK, error: rpc error: code = Unavailable desc = dial unix",
                ),
                Outcome::Later(None),
            ),
            (
                refused(
                    403,
                    "secrets",
                    "secrets \"s\" is forbidden: User \"x\" cannot patch resource \"secrets\"",
                ),
                Outcome::Denied,
            ),
            (refused(401, "", ""), Outcome::Denied),
            (refused(429, "", ""), Outcome::Later(None)),
            (refused(503, "", ""), Outcome::Later(None)),
            (Answer::none(), Outcome::Later(None)),
            (
                refused(418, "", ""),
                Outcome::Blocked(Obstacle::Other(418, String::new())),
            ),
        ] {
            assert_eq!(rewritten(&entry("7"), &answer), meaning, "{answer:?}");
        }
    }

    #[test]
    fn who_refuses_chooses_the_code_and_is_in_the_way_whatever_it_is() {
        for code in [400, 401, 403, 404, 409, 422, 429, 500, 503] {
            let webhook = refused(code, "secrets", "admission webhook \"w\" denied the request: no");
            assert_eq!(rewritten(&entry("7"), &webhook), blocked_by("webhook w"), "{code}");
            let policy = refused(
                code,
                "secrets",
                "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            );
            let meaning = blocked_by("ValidatingAdmissionPolicy p");
            assert_eq!(rewritten(&entry("7"), &policy), meaning, "{code}");
        }
    }

    #[test]
    fn an_orphan_is_one_only_while_it_can_be_read() {
        let patch = refused(404, "namespaces", "");
        assert_eq!(settle(&patch, &found("7")), Outcome::Blocked(Obstacle::Orphan));
        let gone = refused(404, "secrets", "");
        assert_eq!(settle(&patch, &gone), Outcome::Gone);
        // A proxy's word is none about the Secret.
        let unknown = Outcome::Blocked(Obstacle::Other(404, String::new()));
        let proxy = refused(404, "", "page not found");
        assert_eq!(settle(&proxy, &found("7")), unknown);
        assert_eq!(settle(&proxy, &proxy), unknown);
    }

    #[test]
    fn a_value_is_undecryptable_when_it_cannot_be_read_either() {
        let patch = refused(500, "", "boom");
        assert_eq!(settle(&patch, &patch), Outcome::Blocked(Obstacle::Undecryptable));
        let other = Outcome::Blocked(Obstacle::Other(500, String::new()));
        assert_eq!(settle(&patch, &found("7")), other);
        let etcd = refused(500, "", "etcdserver: leader changed");
        assert_eq!(settle(&patch, &etcd), Outcome::Later(None));
    }

    #[test]
    fn the_words_of_a_third_party_are_not_repeated() {
        for words in ["it holds hunter2", "ValidatingAdmissionPolicy 'hunter2'"] {
            let answer = refused(403, "", &format!("admission webhook \"w\" denied the request: {words}"));
            let Outcome::Blocked(obstacle) = rewritten(&entry("7"), &answer) else {
                unreachable!("refused")
            };
            assert!(!format!("{obstacle} {obstacle:?}").contains("hunter2"));
        }
    }
}
