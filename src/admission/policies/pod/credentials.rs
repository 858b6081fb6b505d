//! How credentials reach containers, and the account that a pod runs under: what of `compliance::checks` can be told from
//! the pod alone, and in few steps.
//!
//! KServe, Trainer and Ray fill variables from Secrets and run under the account `default` by themselves. So the first is
//! refused only where the policy itself sets the control (docs/decisions/020), and the second nowhere. What a workload asks
//! for beyond that (`FilesOnly`) and which token it may mount stand in the AiWorkload, which CEL cannot see.

use std::collections::BTreeMap;

use super::devices::VISIBLE;
use crate::admission::cel::{field, list, text};
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::compliance::checks::credentials::tokens::{EXAMPLE, FEW_LETTERS, LETTERS, TOKENS};
use crate::compliance::checks::pod::DEFAULT_ACCOUNT;
use crate::compliance::id::{ENC_04, IAM_01};

pub(super) fn variables() -> Vec<(&'static str, String)> {
    vec![(
        // Of each container the variables that a clause may look at: a list of thousands is gone through once.
        "envLists",
        format!(
            "containers.filter(c, has(c.env)).map(c, {{'of': c, 'env': dyn(c.env.filter(e, e.name == '{VISIBLE}' || \
             has(e.valueFrom) || has(e.value) && {}))}})",
            is_token("e.value")
        ),
    )]
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    let referred = "has(e.valueFrom) && has(e.valueFrom.secretKeyRef)";
    let reference = Found::among(
        "envLists",
        "l",
        &format!("l.env.exists(e, {referred})"),
        "variables out of Secrets: ",
        &format!("'container \"' + l.of.name + '\" ' + l.env.filter(e, {referred}).map(e, string(e.name)).join(' ')"),
    );
    let env_from = Found::among(
        "containers",
        "c",
        "has(c.envFrom) && c.envFrom.exists(f, has(f.secretRef))",
        "an environment out of a Secret: ",
        "'container \"' + c.name + '\"'",
    );
    let account = field("p", "serviceAccountName", "''");
    let shared_account = Found::When(
        format!("pods.exists(p, {account} in ['', '{DEFAULT_ACCOUNT}'])"),
        "'it runs as ServiceAccount default, which every pod without a name shares'".to_owned(),
    );
    // Of the variables in these lists, whatever has a value has a token for it, but for the one that takes devices.
    let written = format!("has(e.value) && e.name != {}", text(VISIBLE));
    let literal = Found::among(
        "envLists",
        "l",
        &format!("l.env.exists(e, {written})"),
        "a credential in plain sight: ",
        &format!("'container \"' + l.of.name + '\" ' + l.env.filter(e, {written}).map(e, string(e.name)).join(' ')"),
    );
    vec![
        Clause::new(ENC_04.rule("literal"), modes, literal),
        Clause::new(ENC_04.rule("reference"), modes, reference).where_the_policy_says(modes),
        Clause::new(ENC_04.rule("env-from"), modes, env_from).where_the_policy_says(modes),
        Clause::new(IAM_01.rule("own-account"), modes, shared_account).reported(),
    ]
}

/// Whether a text as a whole is a token; what else `ENC-04/literal` finds is found by the scan. Most texts cost a step for each
/// letter that a token can begin with, and a pattern is held against what begins as its token does: a pod may have ten
/// thousand variables.
fn is_token(value: &str) -> String {
    let begins = |with: &str| format!("{value}.startsWith({})", text(with));
    let mut by_letter: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for token in &TOKENS {
        let starts: Vec<String> = token.starts.iter().map(|start| begins(start)).collect();
        let Some(letter) = token.starts.first().map(|start| &start[..1]) else {
            continue;
        };
        // A text of several lines in YAML ends with one more.
        let whole = text(&format!("^(?:{})[ \\r\\n\\t]*$", token.pattern));
        let it = format!("({}) && {value}.matches({whole})", starts.join(" || "));
        by_letter.entry(letter).or_default().push(it);
    }
    let any = |(letter, tokens): (&str, Vec<String>)| format!("{} && ({})", begins(letter), tokens.join(" || "));
    let any: Vec<String> = by_letter.into_iter().map(any).collect();
    let letters = list(LETTERS.chars().map(String::from));
    format!(
        "({}) && !{value}.lowerAscii().contains({}) && \
         {letters}.filter(x, {value}.contains(x)).size() > {FEW_LETTERS}",
        any.join(" || "),
        text(EXAMPLE),
    )
}
