use super::*;
use crate::compliance::Subject;
use crate::compliance::id::{SUP_01, WKL_01};

fn finding(rule: RuleId, message: &str) -> Finding {
    Finding::new(rule, Subject::namespaced("Job", "train", "a"), message)
}

#[test]
fn of_a_list_the_rest_is_left() {
    let digest = || SUP_01.rule("digest");
    let before = [
        finding(
            digest(),
            "no digest: container \"a\" uses \"x\", container \"b\" uses \"y\"",
        ),
        finding(WKL_01.rule("host-ipc"), "the pod sets hostIPC"),
    ];
    let table = [
        (
            "no digest: container \"a\" uses \"x\", container \"b\" uses \"y\"",
            None,
        ),
        ("no digest: container \"b\" uses \"y\"", None),
        (
            "no digest: container \"c\" uses \"z\", container \"a\" uses \"x\"",
            Some("no digest: container \"c\" uses \"z\""),
        ),
        (
            "something else: container \"a\" uses \"x\"",
            Some("something else: container \"a\" uses \"x\""),
        ),
        ("the pod sets hostIPC", Some("the pod sets hostIPC")),
    ];
    for (message, rest) in table {
        let found = beyond(&before, finding(digest(), message));
        assert_eq!(found.as_ref().map(|found| found.message.as_str()), rest, "{message}");
    }
    assert_eq!(
        beyond(&before, finding(WKL_01.rule("host-ipc"), "the pod sets hostIPC")),
        None
    );
}
