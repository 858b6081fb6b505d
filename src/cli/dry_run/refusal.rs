//! A refusal of ours, taken apart again: `[cloison 1a2b3c4d] RULE message; fix (reference); RULE message; …`.

use crate::compliance::{Catalogue, RuleId};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Problem {
    /// The rule.
    pub rule: RuleId,
    /// What was found.
    pub message: String,
}

impl Problem {
    /// What the catalogue says to do.
    pub fn fix(&self) -> &'static str {
        Catalogue::builtin().fix(&self.rule).unwrap_or_default()
    }

    /// The container it is about, if it is about one.
    pub fn container(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("container \"")?;
        rest.split_once('"').map(|(name, _)| name)
    }
}

/// What a message of the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Refusal {
    /// The problems it names.
    pub problems: Vec<Problem>,
    /// It had no room for more.
    pub cut: bool,
}

/// Finds a refusal of ours in a message, wherever it is wrapped; `None` in one that is not ours.
pub(in crate::cli) fn parse(message: &str) -> Option<Refusal> {
    let (_, rest) = message.split_once("[cloison ")?;
    let (hash, said) = rest.split_once("] ")?;
    if hash.len() != 8 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut refusal = Refusal::default();
    for part in said.split("; ") {
        if part.starts_with('+') && part.contains(" more") {
            refusal.cut = true;
            continue;
        }
        // A part that begins with no rule is the fix of the one before, which the catalogue has in full.
        let Some((first, message)) = part.split_once(' ') else {
            continue;
        };
        if let Ok(rule) = first.parse::<RuleId>() {
            refusal.problems.push(Problem {
                rule,
                message: message.to_owned(),
            });
        }
    }
    Some(refusal)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn problems_come_apart_and_fixes_come_from_the_catalogue() {
        let message = "Error creating: pods \"a-\" is forbidden: ValidatingAdmissionPolicy 'cloison-pod' with binding \
                       'cloison-pod-deny' denied request: [cloison 1a2b3c4d] WKL-01/host-ipc spec.hostIPC: not allowed; \
                       remove hostIPC; for NCCL mount emptyDir {medium: Memory} at /dev/shm (ANSSI R28); SUP-01 container \
                       \"node\": image has no digest; pin it (ANSSI R2); +2 more: kubectl cloison why";
        let refusal = parse(message).unwrap();
        assert!(refusal.cut);
        let [ipc, digest] = refusal.problems.as_slice() else {
            panic!("{refusal:?}")
        };
        assert_eq!(
            (ipc.rule.to_string().as_str(), ipc.message.as_str()),
            ("WKL-01/host-ipc", "spec.hostIPC: not allowed")
        );
        assert_eq!(
            ipc.fix(),
            "remove hostIPC; for NCCL mount emptyDir {medium: Memory} at /dev/shm"
        );
        assert_eq!(ipc.container(), None);
        assert_eq!(digest.container(), Some("node"));
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_it() {
        for message in ["exceeded quota", "[cloison x] WKL-01 y", "[cloison 1a2b3c4d]"] {
            assert_eq!(parse(message), None, "{message}");
        }
        assert_eq!(
            parse("[cloison 1a2b3c4d] cloison-pod refused this request")
                .unwrap()
                .problems,
            []
        );
    }
}
