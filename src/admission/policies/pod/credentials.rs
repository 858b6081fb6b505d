//! How credentials reach containers, and the account that a pod runs under: what of `compliance::checks` can be told from
//! the pod alone.
//!
//! KServe, Trainer and Ray fill variables from Secrets and run under the account `default` by themselves. So the first is
//! refused only where the policy itself sets the control (docs/decisions/020), and the second nowhere. What a workload asks
//! for beyond that (`FilesOnly`) and which token it may mount stand in the AiWorkload, which CEL cannot see.

use crate::admission::cel::field;
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::Modes;
use crate::compliance::checks::pod::DEFAULT_ACCOUNT;
use crate::compliance::id::{ENC_04, IAM_01};

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
    vec![
        Clause::new(ENC_04.rule("reference"), modes, reference).where_the_policy_says(modes),
        Clause::new(ENC_04.rule("env-from"), modes, env_from).where_the_policy_says(modes),
        Clause::new(IAM_01.rule("own-account"), modes, shared_account).reported(),
    ]
}
