//! What of a rule leads towards Secrets.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// What one right lets somebody do, on the way to a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    ReadSecrets,
    CreateSecrets,
    RunPods,
    Exec,
    Kubelet,
    RequestToken,
    ImpersonateAccount,
    ImpersonateUser,
    ImpersonateGroup,
    WriteBinding,
    WriteClusterBinding,
    BindRole,
    BindClusterRole,
    WriteRole,
    WriteClusterRole,
    EscalateRole,
    EscalateClusterRole,
}

/// The objects that a right is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Names {
    Any,
    These(Vec<String>),
}

impl Names {
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|known| known == name),
        }
    }
}

/// An act, the right that lets it happen, and on what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Power {
    pub act: Act,
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub names: Names,
}

pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
/// The verbs whose answer holds the data: a patch answers with the whole object, a deletion of many with the list, and one
/// that leaves a finalizer (`propagationPolicy=Orphan`) with the object; all three as a dry run too. `tests/secret_verbs.rs`
/// asks a real API server.
const READ: &[&str] = &["get", "list", "watch", "patch", "deletecollection", "delete"];
const WRITE: &[&str] = &["create", "update", "patch"];
const MAKE: &[&str] = &["create"];
/// `get` was enough for a websocket until 1.35, and is where that gate is off.
const CONNECT: &[&str] = &["create", "get"];

/// Rights that lead on: act, API group, resource with subresource, verbs of which one is enough. Of kinds that are not
/// Kubernetes' own, those whose controllers make pods of any template they are given.
const TABLE: &[(Act, &str, &str, &[&str])] = &[
    (Act::ReadSecrets, "", "secrets", READ),
    (Act::CreateSecrets, "", "secrets", MAKE),
    (Act::RunPods, "", "pods", MAKE),
    (Act::RunPods, "", "pods/ephemeralcontainers", &["update", "patch"]),
    (Act::RunPods, "", "replicationcontrollers", WRITE),
    (Act::RunPods, "apps", "deployments", WRITE),
    (Act::RunPods, "apps", "statefulsets", WRITE),
    (Act::RunPods, "apps", "daemonsets", WRITE),
    (Act::RunPods, "apps", "replicasets", WRITE),
    (Act::RunPods, "batch", "jobs", MAKE),
    (Act::RunPods, "batch", "cronjobs", WRITE),
    (Act::RunPods, "jobset.x-k8s.io", "jobsets", WRITE),
    (Act::RunPods, "leaderworkerset.x-k8s.io", "leaderworkersets", WRITE),
    (Act::RunPods, "trainer.kubeflow.org", "trainjobs", WRITE),
    (Act::RunPods, "kubeflow.org", "pytorchjobs", WRITE),
    (Act::RunPods, "kubeflow.org", "tfjobs", WRITE),
    (Act::RunPods, "kubeflow.org", "jaxjobs", WRITE),
    (Act::RunPods, "kubeflow.org", "xgboostjobs", WRITE),
    (Act::RunPods, "kubeflow.org", "paddlejobs", WRITE),
    (Act::RunPods, "kubeflow.org", "mpijobs", WRITE),
    (Act::RunPods, "kubeflow.org", "notebooks", WRITE),
    (Act::RunPods, "ray.io", "rayclusters", WRITE),
    (Act::RunPods, "ray.io", "rayjobs", WRITE),
    (Act::RunPods, "ray.io", "rayservices", WRITE),
    (Act::RunPods, "serving.kserve.io", "inferenceservices", WRITE),
    (Act::RunPods, "serving.kserve.io", "llminferenceservices", WRITE),
    (Act::RunPods, "serving.knative.dev", "services", WRITE),
    (Act::RunPods, "batch.volcano.sh", "jobs", WRITE),
    (Act::RunPods, "argoproj.io", "workflows", WRITE),
    (Act::RunPods, "argoproj.io", "cronworkflows", WRITE),
    (Act::RunPods, "argoproj.io", "rollouts", WRITE),
    (Act::RunPods, "tekton.dev", "taskruns", WRITE),
    (Act::RunPods, "tekton.dev", "pipelineruns", WRITE),
    (Act::RunPods, "sparkoperator.k8s.io", "sparkapplications", WRITE),
    (
        Act::RunPods,
        "sparkoperator.k8s.io",
        "scheduledsparkapplications",
        WRITE,
    ),
    (Act::Exec, "", "pods/exec", CONNECT),
    (Act::Exec, "", "pods/attach", CONNECT),
    // The image of a container is one of the few fields of a pod that may change.
    (Act::Exec, "", "pods", &["patch", "update"]),
    (Act::Kubelet, "", "nodes/proxy", CONNECT),
    (Act::RequestToken, "", "serviceaccounts/token", MAKE),
    (Act::ImpersonateAccount, "", "serviceaccounts", &["impersonate"]),
    (Act::ImpersonateUser, "", "users", &["impersonate"]),
    (Act::ImpersonateGroup, "", "groups", &["impersonate"]),
    (Act::WriteBinding, RBAC, "rolebindings", WRITE),
    (Act::WriteClusterBinding, RBAC, "clusterrolebindings", WRITE),
    (Act::BindRole, RBAC, "roles", &["bind"]),
    (Act::BindClusterRole, RBAC, "clusterroles", &["bind"]),
    (Act::WriteRole, RBAC, "roles", WRITE),
    (Act::WriteClusterRole, RBAC, "clusterroles", WRITE),
    (Act::EscalateRole, RBAC, "roles", &["escalate"]),
    (Act::EscalateClusterRole, RBAC, "clusterroles", &["escalate"]),
];

/// Every right there is, as somebody holds who can write a role of his own.
pub(super) fn all() -> Vec<Power> {
    let everything = PolicyRule {
        api_groups: Some(vec!["*".to_owned()]),
        resources: Some(vec!["*".to_owned()]),
        verbs: vec!["*".to_owned()],
        ..PolicyRule::default()
    };
    of([&everything])
}

/// What of some rules leads on: for each act and set of names one right that is enough.
pub(super) fn of<'r>(rules: impl IntoIterator<Item = &'r PolicyRule>) -> Vec<Power> {
    let mut powers: Vec<Power> = Vec::new();
    for rule in rules {
        for (act, group, resource, verbs) in TABLE {
            let Some(verb) = verbs.iter().find(|verb| allows(rule, verb, group, resource)) else {
                continue;
            };
            let names = match rule.resource_names.as_deref() {
                None | Some([]) => Names::Any,
                // What is posted has no name yet; an apply has. A list is asked for by name with a field selector.
                Some(names) => Names::These(names.to_vec()),
            };
            if !powers.iter().any(|known| known.act == *act && known.names == names) {
                powers.push(Power {
                    act: *act,
                    verb,
                    group,
                    resource,
                    names,
                });
            }
        }
    }
    powers
}

/// Whether a rule has to do with the way to a Secret at all.
pub fn leads_on(rule: &PolicyRule) -> bool {
    !of([rule]).is_empty()
}

/// As RBAC reads a rule; names aside.
fn allows(rule: &PolicyRule, verb: &str, group: &str, resource: &str) -> bool {
    let any =
        |list: Option<&Vec<String>>, wanted: &str| list.into_iter().flatten().any(|word| word == "*" || word == wanted);
    // `*/exec` is that subresource of every resource.
    let every = resource
        .split_once('/')
        .map(|(_, subresource)| format!("*/{subresource}"));
    let of_every = every.is_some_and(|every| rule.resources.iter().flatten().any(|word| *word == every));
    any(Some(&rule.verbs), verb)
        && any(rule.api_groups.as_ref(), group)
        && (of_every || any(rule.resources.as_ref(), resource))
}
