use serde_json::{Value, json};

use super::account::{self, Account};
use super::lifetime::{self, SecretFacts};
use super::pod::{PodFacts, VolumeUse};
use super::volumes::Storage;
use super::{Settings, config_map, is_only_reported, pod, workload};
use crate::admission::overrides;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::NamespaceStage::{Inference, Training};
use crate::api::workload::AiWorkloadSpec;
use crate::compliance::finding::{Assurance, Subject};
use crate::compliance::{Finding, mode::ControlOverride};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn facts(spec: Value) -> PodFacts {
    read(spec)
}

/// A workload of a stage with more in its spec.
fn asking(stage: &str, more: Value) -> AiWorkloadSpec {
    let mut spec = json!({"stage": stage, "owner": "team@ville.example", "purpose": "For a test of settings"});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    read(spec)
}

fn subject() -> Subject {
    Subject::namespaced("Pod", "ns", "p")
}

fn judged(spec: Value, workload: &AiWorkloadSpec, policy: &AiSecurityPolicySpec) -> Vec<Finding> {
    let overrides: Vec<ControlOverride> = overrides(policy, "2026-11-26T00:00:00Z".parse().unwrap());
    let settings = Settings::of(workload, policy, &overrides);
    pod(&facts(spec), "ns", &Storage::default(), &subject(), &settings)
}

/// Rule and field of each finding.
fn told(findings: &[Finding]) -> Vec<String> {
    let field = |finding: &Finding| finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default();
    let mut told: Vec<String> = findings
        .iter()
        .map(|finding| format!("{} {}", finding.rule, field(finding)))
        .collect();
    told.sort();
    told
}

fn training(spec: Value) -> Vec<String> {
    told(&judged(spec, &asking("Training", json!({})), &read(json!({}))))
}

#[test]
fn credentials_in_the_environment_are_told_of_every_kind_of_container() {
    let by_key = json!({"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let whole = json!({"secretRef": {"name": "s"}});
    let found = training(json!({
        "serviceAccountName": "own",
        "containers": [
            {"name": "a", "env": [{"name": "PLAIN", "value": "x"}, by_key], "envFrom": [{"configMapRef": {"name": "c"}}, whole]},
        ],
        "initContainers": [{"name": "b", "env": [by_key]}],
        "ephemeralContainers": [{"name": "c", "envFrom": [whole]}],
    }));
    assert_eq!(
        found,
        [
            "ENC-04/env-from containers[0].envFrom[1]",
            "ENC-04/env-from ephemeralContainers[0].envFrom[0]",
            "ENC-04/reference containers[0].env[1]",
            "ENC-04/reference initContainers[0].env[0]",
        ]
    );
}

#[test]
fn files_are_the_way_to_go_and_pull_secrets_enter_no_container() {
    let spec = json!({
        "serviceAccountName": "own",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "a", "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
        "volumes": [
            {"name": "v", "secret": {"secretName": "file"}},
            {"name": "w", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "c"}}]}},
        ],
    });
    assert_eq!(training(spec), [""; 0]);
}

#[test]
fn what_is_written_out_is_told_without_its_value() {
    let token = format!("hf_{}", "abcdefghijklmnopqrstuvwxyzABCDEFGH");
    let spec = json!({
        "serviceAccountName": "own",
        "containers": [{"name": "a", "env": [{"name": "X", "value": token}], "args": ["--a", format!("--token={token}")],
                        "command": ["sh", "-c", format!("login {token}")]}],
    });
    let findings = judged(spec.clone(), &asking("Training", json!({})), &read(json!({})));
    assert_eq!(
        told(&findings),
        [
            "ENC-04/literal containers[0].args[1]",
            "ENC-04/literal containers[0].command[2]",
            "ENC-04/literal containers[0].env[0].value",
        ]
    );
    assert_eq!(
        findings[0].line(),
        "ENC-04/literal container \"a\" is given a Hugging Face token in plain sight; put it into a Secret and mount the \
         Secret as a file (ANSSI R10)"
    );
    let kept = format!(
        "{:?}{findings:?}{}",
        facts(spec),
        serde_json::to_string(&findings).unwrap()
    );
    assert!(!kept.contains(&token[5..]), "{kept}");
}

#[test]
fn a_workload_may_be_stricter_than_the_policy_and_not_looser() {
    let spec =
        json!({"serviceAccountName": "own", "containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]});
    let of = |stage: &str, delivery: &str| {
        let asked = asking(stage, json!({"secrets": {"delivery": delivery}}));
        let policy: AiSecurityPolicySpec = read(json!({}));
        let settings = Settings::of(&asked, &policy, &[]);
        let mut found = judged(spec.clone(), &asked, &policy);
        found.extend(workload(&subject(), &settings));
        told(&found)
    };
    let (reference, looser) = (
        "ENC-04/env-from containers[0].envFrom[0]",
        "ENC-06/looser spec.secrets.delivery",
    );
    assert_eq!(of("Training", "FilesOnly"), [reference]);
    assert_eq!(of("Training", "EnvFromSecretsAllowed"), [""; 0]);
    assert_eq!(of("Inference", "FilesOnly"), [reference]);
    assert_eq!(of("Inference", "EnvFromSecretsAllowed"), [reference, looser]);
}

#[test]
fn a_secret_is_no_older_than_the_stricter_of_workload_and_policy_says() {
    let now = "2026-11-26T00:00:00Z".parse().unwrap();
    let of = |asked: Value, most: Value, created: &str| {
        let asked = asking("Training", json!({"secrets": {"maxAgeDays": asked}}));
        let policy: AiSecurityPolicySpec = read(json!({"secrets": {"maxAgeDays": most}}));
        let settings = Settings::of(&asked, &policy, &[]);
        let facts = SecretFacts {
            created: created.parse().ok(),
            ..SecretFacts::default()
        };
        let mut found = lifetime::secret(facts, &subject(), &settings, now);
        found.extend(workload(&subject(), &settings));
        told(&found)
    };
    let age = "ENC-06/age metadata.creationTimestamp";
    let looser = "ENC-06/looser spec.secrets.maxAgeDays";
    let (month, more) = ("2026-10-27T00:00:00Z", "2026-10-26T23:59:59Z");
    let none = Value::Null;
    assert_eq!(of(none.clone(), none.clone(), more), [""; 0]);
    assert_eq!(of(json!(30), none.clone(), month), [""; 0]);
    assert_eq!(of(json!(30), none.clone(), more), [age]);
    assert_eq!(of(none, json!(30), more), [age], "the policy's word holds for all");
    assert_eq!(of(json!(30), json!(60), more), [age], "it may be stricter");
    assert_eq!(of(json!(60), json!(30), more), [age, looser], "and not looser");
    assert_eq!(of(json!(30), json!(30), ""), [""; 0], "it is still to be");
}

#[test]
fn a_secret_that_may_change_is_told_to_who_asks_that_it_cannot() {
    let now = "2026-11-26T00:00:00Z".parse().unwrap();
    let of = |asked: Value, immutable: bool| {
        let asked = asking("Training", json!({"secrets": {"immutability": asked}}));
        let policy: AiSecurityPolicySpec = read(json!({}));
        let facts = SecretFacts {
            immutable,
            ..SecretFacts::default()
        };
        told(&lifetime::secret(
            facts,
            &subject(),
            &Settings::of(&asked, &policy, &[]),
            now,
        ))
    };
    for asked in ["Required", "Preferred"] {
        assert_eq!(of(json!(asked), false), ["ENC-06/immutable immutable"]);
        assert_eq!(of(json!(asked), true), [""; 0]);
    }
    assert_eq!(of(Value::Null, false), [""; 0]);
}

#[test]
fn every_way_in_which_a_secret_enters_a_container_is_seen() {
    let found = facts(json!({
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "a", "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "by-key", "key": "k"}}}]}],
        "initContainers": [{"name": "b", "envFrom": [{"secretRef": {"name": "whole"}}]}],
        "volumes": [{"name": "v", "secret": {"secretName": "file"}},
                    {"name": "w", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "projected"}}]}}],
    }));
    let wanted = ["by-key", "file", "projected", "whole"];
    assert_eq!(found.secrets, wanted.map(str::to_owned).into());
}

#[test]
fn what_the_policy_switched_off_is_not_told() {
    let spec = json!({"containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]});
    let off = json!({"controls": [{"id": "ENC-04", "mode": "Disabled", "reason": "for a test of modes"}]});
    let found = judged(spec, &asking("Training", json!({})), &read(off));
    assert_eq!(told(&found), ["IAM-01/own-account serviceAccountName"]);
}

#[test]
fn only_what_is_refused_in_the_stage_counts_against_it() {
    let finding = Finding::new(crate::compliance::id::ENC_04.rule("reference"), subject(), "m");
    assert!(is_only_reported(&finding, Some(Training), &[]));
    assert!(!is_only_reported(&finding, Some(Inference), &[]));
    let literal = Finding::new(crate::compliance::id::ENC_04.rule("literal"), subject(), "m");
    assert!(!is_only_reported(&literal, Some(Training), &[]));
    let network = Finding::new(crate::compliance::id::NET_04.rule("cut"), subject(), "m");
    assert!(
        !is_only_reported(&network, Some(Training), &[]),
        "of other legs nothing is decided here"
    );
}

#[test]
fn tokens_for_others_are_fine_for_an_hour_and_the_api_servers_must_be_declared() {
    let with = |token: Value| {
        json!({"serviceAccountName": "own", "containers": [],
               "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": token}]}}]})
    };
    let field = "volumes[0].projected.sources[0].serviceAccountToken";
    assert_eq!(
        training(with(json!({"audience": "vault", "expirationSeconds": 3600}))),
        [""; 0]
    );
    assert_eq!(training(with(json!({"audience": "vault"}))), [""; 0]);
    let long = json!({"audience": "vault", "expirationSeconds": 3601});
    assert_eq!(training(with(long)), [format!("IAM-01/token-lifetime {field}")]);
    for audience in [
        Value::Null,
        json!(""),
        json!("https://kubernetes.default.svc.cluster.local"),
    ] {
        let token = with(json!({"audience": audience}));
        assert_eq!(training(token.clone()), [format!("IAM-01/token {field}")], "{audience}");
        let declared = asking(
            "Training",
            json!({"network": {"connectTo": [{"service": "kubernetes-api"}]}}),
        );
        assert_eq!(told(&judged(token, &declared, &read(json!({})))), [""; 0]);
    }
    let added = json!({"serviceAccountName": "own", "containers": [],
        "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]}}]});
    assert_eq!(training(added), ["IAM-01/token automountServiceAccountToken"]);
    // Anybody may call a volume so.
    let called_so = json!({"serviceAccountName": "own", "containers": [], "volumes": [
        {"name": "kube-api-access-a", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 86400}}]}}]});
    assert_eq!(
        training(called_so),
        [
            format!("IAM-01/token {field}"),
            format!("IAM-01/token-lifetime {field}")
        ]
    );
}

#[test]
fn a_template_gets_a_token_unless_it_or_its_account_says_no() {
    use Account::{AddsNone, AddsToken, Unknown};
    let workload = asking("Training", json!({}));
    let policy: AiSecurityPolicySpec = read(json!({}));
    let settings = Settings::of(&workload, &policy, &[]);
    let token = |automount: Option<bool>, account: Account| {
        let facts =
            facts(json!({"serviceAccountName": "own", "automountServiceAccountToken": automount, "containers": []}));
        account::of_template(&facts, account, &subject(), &settings).map(|finding| finding.assurance)
    };
    assert_eq!(token(Some(false), AddsToken), None);
    assert_eq!(
        token(Some(true), AddsNone),
        Some(Assurance::Observed),
        "the pod's word wins"
    );
    assert_eq!(token(None, AddsNone), None);
    assert_eq!(token(None, AddsToken), Some(Assurance::Observed));
    assert_eq!(token(None, Unknown), Some(Assurance::Unknown));
}

#[test]
fn an_account_that_two_workloads_share_is_told_to_both() {
    let used = [
        ("own", "a"),
        ("both", "a"),
        ("both", "b"),
        ("both", "b"),
        ("default", "a"),
        ("default", "b"),
    ];
    let found = account::shared("ns", used);
    let users: Vec<&str> = found.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["a", "b"]);
    assert_eq!(
        found[0].1.message,
        "ServiceAccount \"both\" is that of AiWorkloads a, b"
    );
}

#[test]
fn data_that_is_confidential_is_not_on_the_disk_of_a_node() {
    let spec = json!({"serviceAccountName": "own", "containers": [], "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory"}}, {"name": "tmp", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/"}},
        {"name": "kube-api-access-b", "emptyDir": {}}, {"name": "pages", "emptyDir": {"medium": "HugePages-2Mi"}},
    ]});
    let of = |more: Value| told(&judged(spec.clone(), &asking("Training", more), &read(json!({}))));
    let found = ["volumes[1]", "volumes[2]", "volumes[3]"].map(|field| format!("ENC-02/scratch {field}"));
    assert_eq!(of(json!({})), [""; 0]);
    assert_eq!(of(json!({"data": {"classification": "Restricted"}})), found);
    assert_eq!(of(json!({"secrets": {"volumes": "Encrypted"}})), found);
}

#[test]
fn a_volume_of_any_kind_that_is_not_known_is_not_called_encrypted() {
    let spec = json!({"serviceAccountName": "own", "containers": [], "volumes": [
        {"name": "c", "configMap": {"name": "c"}}, {"name": "d", "downwardAPI": {"items": []}}, {"name": "i", "image": {"reference": "r"}},
        {"name": "s", "secret": {"secretName": "s"}}, {"name": "p", "projected": {"sources": []}},
        {"name": "n", "nfs": {"server": "files.example.com", "path": "/"}}, {"name": "later", "ofALaterVersion": {}, "iscsi": null},
    ]});
    let asked = asking("Training", json!({"secrets": {"volumes": "Encrypted"}}));
    let found = judged(spec, &asked, &read(json!({})));
    let kinds: Vec<_> = found
        .iter()
        .map(|finding| (finding.message.as_str(), finding.assurance))
        .collect();
    let message = |kind: &str| format!("whether a volume of kind {kind} is encrypted is not known");
    let (nfs, later) = (message("nfs"), message("ofALaterVersion"));
    assert_eq!(
        kinds,
        [(nfs.as_str(), Assurance::Unknown), (later.as_str(), Assurance::Unknown)]
    );
}

#[test]
fn a_claim_made_with_a_pod_is_judged_by_its_volume_once_the_pod_is_there() {
    let found = facts(json!({"containers": [], "volumes": [
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}]}));
    let class = VolumeUse::Ephemeral("scratch".to_owned(), Some("fast".to_owned()));
    assert_eq!(found.volumes, [("volumes[0]".to_owned(), class)]);
    let claim = VolumeUse::Claim("train-0-scratch".to_owned());
    assert_eq!(found.of_running("train-0").volumes, [("volumes[0]".to_owned(), claim)]);
}

#[test]
fn what_is_not_known_of_a_volume_is_told_where_it_is_asked_for() {
    let spec = json!({"serviceAccountName": "own", "containers": [],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]});
    let of = |more: Value, policy: Value| {
        let found = judged(spec.clone(), &asking("Training", more), &read(policy));
        found.into_iter().map(|finding| finding.assurance).collect::<Vec<_>>()
    };
    assert_eq!(of(json!({}), json!({})), []);
    assert_eq!(
        of(json!({"secrets": {"volumes": "Encrypted"}}), json!({})),
        [Assurance::Unknown]
    );
    let listed = json!({"secrets": {"encryptedStorageClasses": ["fast"]}});
    assert_eq!(of(json!({}), listed), [Assurance::Unknown]);
}

#[test]
fn a_config_map_is_named_by_key_and_line() {
    let token = format!("ghp_{}", "abcdefghijklmnopqrstuvwxyz0123456789");
    let subject = Subject::namespaced("ConfigMap", "ns", "c");
    let found = config_map::value(&subject, "app.yaml", &format!("a: 1\ntoken: {token}\n"));
    assert_eq!(told(&found), ["ENC-04/config-map data.app.yaml"]);
    assert_eq!(
        found[0].message,
        "key \"app.yaml\", line 2 of its value: a GitHub token"
    );
    assert_eq!(config_map::value(&subject, "app.yaml", "a: 1\n"), []);
}
