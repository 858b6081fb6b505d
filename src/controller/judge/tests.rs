//! The verdicts on one workload, row by row: one change to evidence that is all well, and what must follow.

use super::*;

const FLOWS: [FlowStatus; 0] = [];
const WELL: Truth = Truth::True;

fn proof(truth: Truth, reason: &'static str) -> Proof {
    Proof {
        truth,
        reason,
        message: format!("because {reason}"),
    }
}

fn ends() -> &'static Ends {
    static ENDS: std::sync::OnceLock<Ends> = std::sync::OnceLock::new();
    ENDS.get_or_init(Ends::default)
}

fn well() -> WorkloadEvidence<'static> {
    WorkloadEvidence {
        hold: None,
        mode: Mode::Enforce,
        refusals: &[],
        placement: Placement::Placed,
        analysis: Some(proof(WELL, "Isolated")),
        flows: &FLOWS,
        ends: ends(),
        admission_off: None,
        admission: Some(proof(WELL, "CanariesRefused")),
        encryption: Some(proof(WELL, "NewWritesEncrypted")),
        secret_settings: None,
        packets: proof(Truth::Unknown, "NotProbed"),
        interfaces: Verdict::new(types::INTERFACES_COVERED, WELL, "PodNetworkOnly", ""),
        quarantine: None,
        required: &[],
    }
}

fn of(verdicts: &[Verdict], kind: &str) -> (Truth, &'static str) {
    let found: Vec<_> = verdicts.iter().filter(|verdict| verdict.kind == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {verdicts:?}");
    (found[0].truth, found[0].reason)
}

#[test]
fn a_workloads_own_settings_take_the_proof_of_the_cluster_away_and_never_mend_it() {
    use Truth::{False, Unknown};
    let word = |cluster: Option<Truth>, settings: Option<Truth>| {
        let evidence = WorkloadEvidence {
            encryption: cluster.map(|truth| proof(truth, "Cluster")),
            secret_settings: settings.map(|truth| proof(truth, "Settings")),
            ..well()
        };
        of(&judge(&evidence), types::SECRETS_ENCRYPTED)
    };
    assert_eq!(word(Some(WELL), None), (WELL, "Cluster"));
    assert_eq!(word(Some(WELL), Some(Unknown)), (Unknown, "Settings"));
    assert_eq!(word(Some(WELL), Some(False)), (False, "Settings"));
    assert_eq!(word(Some(Unknown), Some(False)), (False, "Settings"));
    assert_eq!(word(Some(Unknown), Some(Unknown)), (Unknown, "Cluster"));
    assert_eq!(word(Some(False), Some(False)), (False, "Cluster"));
    assert_eq!(word(None, Some(WELL)), (Unknown, "NotProbed"));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table reads best whole")]
fn one_leg_that_fails_turns_its_condition_and_what_depends_on_it() {
    type Change = fn(&mut WorkloadEvidence<'_>);
    let rows: [(&str, Change, &str, Truth, &str, Truth); 16] = [
        ("all is well", |_| {}, types::POLICIES_ISOLATE, WELL, "Isolated", WELL),
        (
            "a path",
            |e| e.analysis = Some(proof(Truth::False, "PathExists")),
            types::NETWORK_ISOLATED,
            Truth::False,
            "PathExists",
            Truth::False,
        ),
        (
            "a policy that is not modelled blocks nobody",
            |e| e.analysis = Some(proof(Truth::Unknown, "UnmodelledPolicy")),
            types::NETWORK_ISOLATED,
            Truth::Unknown,
            "UnmodelledPolicy",
            WELL,
        ),
        (
            "no analysis yet",
            |e| e.analysis = None,
            types::POLICIES_ISOLATE,
            Truth::Unknown,
            "NotAnalysed",
            WELL,
        ),
        (
            "no packet was sent",
            |_| {},
            types::NETWORK_ISOLATED,
            Truth::Unknown,
            "EnforcementUnverified",
            WELL,
        ),
        (
            "packets obey",
            |e| e.packets = proof(WELL, "PacketsObey"),
            types::ENFORCEMENT_VERIFIED,
            WELL,
            "PacketsObey",
            WELL,
        ),
        (
            "policies isolate and packets obey",
            |e| e.packets = proof(WELL, "PacketsObey"),
            types::NETWORK_ISOLATED,
            WELL,
            "Proven",
            WELL,
        ),
        (
            "a forbidden packet got through",
            |e| e.packets = proof(Truth::False, "NotEnforced"),
            types::NETWORK_ISOLATED,
            Truth::False,
            "NotEnforced",
            WELL,
        ),
        (
            "packets are required and were not sent",
            |e| e.required = &[RequiredCondition::EnforcementVerified],
            types::ENFORCEMENT_VERIFIED,
            Truth::Unknown,
            "NotProbed",
            Truth::False,
        ),
        (
            "a missing binding",
            |e| e.admission = Some(proof(Truth::False, "NoBinding")),
            types::ADMISSION_ENFORCED,
            Truth::False,
            "NoBinding",
            Truth::False,
        ),
        (
            "no canary yet",
            |e| e.admission = None,
            types::ADMISSION_ENFORCED,
            Truth::Unknown,
            "NotProbed",
            WELL,
        ),
        (
            "plaintext blocks only where it is required",
            |e| e.encryption = Some(proof(Truth::False, "PlaintextWrites")),
            types::SECRETS_ENCRYPTED,
            Truth::False,
            "PlaintextWrites",
            WELL,
        ),
        (
            "required and unknown",
            |e| {
                e.encryption = None;
                e.required = &[RequiredCondition::SecretsEncrypted];
            },
            types::SECRETS_ENCRYPTED,
            Truth::Unknown,
            "NotProbed",
            Truth::False,
        ),
        (
            "audit claims nothing and blocks nothing",
            |e| e.mode = Mode::Audit,
            types::ADMISSION_ENFORCED,
            Truth::False,
            "AuditMode",
            WELL,
        ),
        (
            "a write that failed",
            |e| e.placement = Placement::Failed("Forbidden", "no right".to_owned()),
            types::READY,
            Truth::False,
            "Forbidden",
            Truth::False,
        ),
        (
            "switched off",
            |e| {
                e.hold = Some(Hold::Off {
                    reason: "drill".to_owned(),
                })
            },
            types::ADMISSION_ENFORCED,
            Truth::Unknown,
            "Off",
            Truth::Unknown,
        ),
    ];
    for (what, change, kind, truth, reason, ready) in rows {
        let mut evidence = well();
        change(&mut evidence);
        let verdicts = judge(&evidence);
        assert_eq!(of(&verdicts, kind), (truth, reason), "{what}");
        assert_eq!(of(&verdicts, types::READY).0, ready, "{what}");
    }
}

#[test]
fn refused_is_stalled_and_under_way_is_reconciling_and_neither_is_both() {
    let has = |verdicts: &[Verdict], kind: &str| verdicts.iter().any(|verdict| verdict.kind == kind);
    let refusals = ["NET-02 wrong".to_owned(), "NET-04 wide".to_owned()];
    let refused = judge(&WorkloadEvidence {
        refusals: &refusals,
        ..well()
    });
    assert_eq!(of(&refused, types::STALLED), (WELL, "Refused"));
    assert!(!has(&refused, types::RECONCILING));
    let ready = refused.iter().find(|verdict| verdict.kind == types::READY).unwrap();
    assert_eq!((ready.reason, &*ready.message), ("Refused", "NET-02 wrong (+1 more)"));
    let pending = judge(&WorkloadEvidence {
        placement: Placement::Pending("the deny".to_owned()),
        ..well()
    });
    assert_eq!(of(&pending, types::RECONCILING), (WELL, "Applying"));
    assert!(!has(&pending, types::STALLED));
}

#[test]
fn a_quarantine_is_claimed_only_where_its_policy_is_in_place() {
    let proven = || Verdict::new(types::QUARANTINED, WELL, "EstablishedConnectionsMayPersist", "");
    let seen = |mode, placement| WorkloadEvidence {
        mode,
        placement,
        quarantine: Some(proven()),
        ..well()
    };
    let said = |evidence: &WorkloadEvidence<'_>| of(&judge(evidence), types::QUARANTINED);
    assert!(judge(&well()).iter().all(|verdict| verdict.kind != types::QUARANTINED));
    let placed = seen(Mode::Enforce, Placement::Placed);
    assert_eq!(said(&placed), (WELL, "EstablishedConnectionsMayPersist"));
    let pending = Placement::Pending("it was written".to_owned());
    assert_eq!(said(&seen(Mode::Enforce, pending)), (Truth::Unknown, "Applying"));
    for mode in [Mode::Audit, Mode::Warn] {
        assert_eq!(
            said(&seen(mode, Placement::NothingToPlace)),
            (Truth::False, "AuditMode")
        );
    }
    let held = WorkloadEvidence {
        hold: Some(Hold::PolicyMissing),
        ..placed
    };
    assert_eq!(said(&held), (Truth::Unknown, "PolicyMissing"));
}

#[test]
fn while_nothing_is_decided_every_condition_is_unknown() {
    for hold in [
        Hold::PolicyMissing,
        Hold::Off {
            reason: "drill".to_owned(),
        },
    ] {
        let verdicts = judge(&WorkloadEvidence {
            hold: Some(hold),
            ..well()
        });
        assert!(verdicts.len() >= 9);
        assert!(
            verdicts.iter().all(|verdict| verdict.truth == Truth::Unknown),
            "{verdicts:?}"
        );
    }
}
