//! Whose account a pod runs under, and which tokens of it lie in its file system.

use std::collections::{BTreeMap, BTreeSet};

use super::Settings;
use super::pod::{DEFAULT_ACCOUNT, PodFacts, Token};
use crate::api::stage::ControlMode;
use crate::compliance::finding::{Assurance, Finding, Location, Subject};
use crate::compliance::id::IAM_01;

/// Longest life of a projected token, in seconds.
const TOKEN_SECONDS: i64 = 3_600;
/// Audiences that the API server itself takes by default begin like this.
const API_AUDIENCES: [&str; 2] = ["https://kubernetes.default", "kubernetes"];

pub(super) fn findings(facts: &PodFacts, subject: &Subject, settings: &Settings<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let find = |rule: &'static str, message: String, field: &str| {
        Finding::new(IAM_01.rule(rule), subject.clone(), message).at(Location::field(field))
    };
    if facts.account == DEFAULT_ACCOUNT {
        let message = "it runs as ServiceAccount default, which every pod without a name shares".to_owned();
        findings.push(find("own-account", message, "serviceAccountName"));
    }
    let declared = settings.declares_api_server();
    if facts.added_token && !declared {
        let message = "it mounts a token for the API server, which the AiWorkload does not declare".to_owned();
        findings.push(find("token", message, "automountServiceAccountToken"));
    }
    for token in &facts.tokens {
        if is_for_api_server(token) && !declared {
            let message = format!(
                "volume {:?} holds a token for the API server, which the AiWorkload does not declare",
                token.volume
            );
            findings.push(find("token", message, &token.field));
        }
        if token.seconds > TOKEN_SECONDS {
            let message = format!("the token in volume {:?} lives {} s", token.volume, token.seconds);
            findings.push(find("token-lifetime", message, &token.field));
        }
    }
    findings
}

fn is_for_api_server(token: &Token) -> bool {
    let named = |audience: &String| {
        let [address, short] = API_AUDIENCES;
        audience == short || audience.starts_with(address)
    };
    token.audience.as_ref().is_none_or(named)
}

/// What an account says of tokens in pods that say nothing themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// They get one.
    AddsToken,
    /// They get none.
    AddsNone,
    /// The account is not known.
    Unknown,
}

/// The same of a template, to whose pods the API server adds a token unless the template or its account say no.
pub fn of_template(facts: &PodFacts, account: Account, subject: &Subject, settings: &Settings<'_>) -> Option<Finding> {
    if settings.declares_api_server() || facts.added_token {
        return None;
    }
    let finding = |message: &str| {
        Finding::new(IAM_01.rule("token"), subject.clone(), message).at(Location::field("automountServiceAccountToken"))
    };
    let added = "the API server adds a token for itself, which the AiWorkload does not declare";
    let found = match (facts.automount, account) {
        (Some(false), _) | (None, Account::AddsNone) => None,
        (Some(true), _) | (None, Account::AddsToken) => Some(finding(added)),
        (None, Account::Unknown) => {
            let message = format!(
                "whether ServiceAccount {:?} adds a token is not known here",
                facts.account
            );
            Some(finding(&message).with_assurance(Assurance::Unknown))
        }
    };
    found.filter(|finding| settings.mode(&finding.rule) != ControlMode::Disabled)
}

/// Accounts that pods of several workloads of one namespace run under. `used` are account and workload of each pod.
pub fn shared<'p>(namespace: &str, used: impl IntoIterator<Item = (&'p str, &'p str)>) -> Vec<(String, Finding)> {
    let mut by_account: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (account, workload) in used {
        by_account.entry(account).or_default().insert(workload);
    }
    // That pods share `default` is told of each of them.
    let shared = by_account
        .into_iter()
        .filter(|(account, users)| users.len() > 1 && *account != DEFAULT_ACCOUNT);
    let told = shared.flat_map(|(account, users)| {
        let first: Vec<&str> = users.iter().copied().take(5).collect();
        let more = if users.len() > 5 { " and more" } else { "" };
        let message = format!(
            "ServiceAccount {account:?} is that of AiWorkloads {}{more}",
            first.join(", ")
        );
        let finding = Finding::new(
            IAM_01.rule("shared-account"),
            Subject::namespaced("ServiceAccount", namespace, account),
            message,
        );
        users.into_iter().map(move |user| (user.to_owned(), finding.clone()))
    });
    told.collect()
}
