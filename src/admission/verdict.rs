//! The generated expressions without an API server: what `plan`, `check` and `why` say is what the door says, because
//! it is the same text. `docs/decisions/005-offline-cel.md` says what kube-cel can and cannot do.

mod program;
mod selector;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::program::Compiled;
use super::clause::ending;
use super::policies::{crd, net, pod};
use super::set::PolicySet;
use crate::compliance::{Finding, RuleId, Subject};

/// Why an offline verdict cannot be given. Never taken for a pass.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// An expression does not parse.
    #[error("{policy}: variable {variable} does not compile: {source}")]
    Compile {
        /// The policy.
        policy: String,
        /// The variable.
        variable: String,
        /// The parser's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An expression failed; the API server would refuse the request (failurePolicy Fail).
    #[error("{policy}: variable {variable} cannot be evaluated: {reason}")]
    Evaluate {
        /// The policy.
        policy: String,
        /// The variable.
        variable: String,
        /// The evaluator's words.
        reason: String,
    },
    /// The set has no such policy, or one that only an API server can judge.
    #[error("{0} cannot be judged offline")]
    NotJudged(String),
}

/// What is done to the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    #[default]
    Create,
    /// It is changed.
    Update,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
        }
    }
}

/// A request, as far as the policies that can be judged offline look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// `status` or `ephemeralcontainers`, where it goes to one of them.
    pub sub_resource: Option<String>,
    /// What is there now; needed for an update.
    pub old_object: Option<Value>,
    /// The caller's groups, where they are known.
    pub groups: Vec<String>,
}

/// What a policy says about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong and refused where the namespace is in mode Enforce.
    pub problems: Vec<Finding>,
    /// What is wrong and only reported, because the control is in mode Audit there.
    pub observed: Vec<Finding>,
    /// Whether the request would be refused: there are problems, and the namespace selects the Deny binding.
    pub refused: bool,
    /// Whether the person would be warned.
    pub warned: bool,
}

/// A clause that no offline verdict covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEvaluated {
    /// The policy.
    pub policy: String,
    /// Why.
    pub why: &'static str,
}

/// The policies of a set that need an API server: they ask the `authorizer` who may do what.
pub fn not_evaluated(set: &PolicySet) -> Vec<NotEvaluated> {
    let asks = |policy: &&ValidatingAdmissionPolicy| {
        let spec = policy.spec.as_ref();
        let validations = spec.into_iter().flat_map(|spec| spec.validations.iter().flatten());
        validations
            .into_iter()
            .any(|validation| validation.expression.contains("authorizer"))
    };
    let asking = set.policies.iter().filter(asks);
    asking
        .map(|policy| NotEvaluated {
            policy: policy.metadata.name.clone().unwrap_or_default(),
            why: "depends on the caller's rights, which only the API server knows",
        })
        .collect()
}

/// A set that is ready to be evaluated many times.
#[derive(Debug)]
pub struct Offline {
    pod: Compiled,
    workload: Compiled,
    network_policy: Compiled,
    bindings: Vec<ValidatingAdmissionPolicyBinding>,
    now: Timestamp,
}

impl Offline {
    /// Compiles the policies that can be judged offline: `cloison-pod`, `cloison-crd` and `cloison-net`. What is
    /// created is created at the moment for which the set was generated, as far as Waivers ask.
    pub fn new(set: &PolicySet) -> Result<Self, OfflineError> {
        let compile = |name: &str| {
            let policy = set
                .policy(name)
                .ok_or_else(|| OfflineError::NotJudged(name.to_owned()))?;
            let named = set.named.get(name).map_or(&[][..], Vec::as_slice);
            Compiled::new(name, policy, named)
        };
        Ok(Self {
            pod: compile(pod::NAME)?,
            workload: compile(crd::NAME)?,
            network_policy: compile(net::NAME)?,
            bindings: set.bindings.clone(),
            now: set.now,
        })
    }

    /// Judges a pod in a namespace (the whole object, as `kubectl get -o json` prints it).
    pub fn judge_pod(&self, pod: &Value, namespace: &Value, request: &Request) -> Result<Verdict, OfflineError> {
        self.judge(&self.pod, "pods", "Pod", &defaulted(pod), namespace, request)
    }

    /// Judges an `AiWorkload`.
    pub fn judge_workload(
        &self,
        workload: &Value,
        namespace: &Value,
        request: &Request,
    ) -> Result<Verdict, OfflineError> {
        self.judge(
            &self.workload,
            "aiworkloads",
            "AiWorkload",
            workload,
            namespace,
            request,
        )
    }

    /// Judges a NetworkPolicy that somebody else than the operator writes.
    pub fn judge_network_policy(
        &self,
        policy: &Value,
        namespace: &Value,
        request: &Request,
    ) -> Result<Verdict, OfflineError> {
        let door = &self.network_policy;
        self.judge(door, "networkpolicies", "NetworkPolicy", policy, namespace, request)
    }

    fn judge(
        &self,
        policy: &Compiled,
        resource: &str,
        kind: &str,
        object: &Value,
        namespace: &Value,
        request: &Request,
    ) -> Result<Verdict, OfflineError> {
        let labels = namespace.pointer("/metadata/labels");
        if !policy.selects(labels) {
            return Ok(Verdict::default());
        }
        let name = |object: &Value| {
            object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let namespace_name = name(namespace).unwrap_or_default();
        let asked = asked(resource, &namespace_name, name(object).as_deref(), request);
        let old = request.old_object.as_ref().map_or(Value::Null, without_nulls);
        let mut object = without_nulls(object);
        if request.operation == Operation::Create && object["metadata"].is_object() {
            // As the API server does, whatever the client sent.
            object["metadata"]["creationTimestamp"] = json!(self.now.to_string());
        }
        let found = policy.evaluate(&object, &old, &without_nulls(namespace), &asked)?;
        let Some([problems, observed]) = found else {
            return Ok(Verdict::default());
        };
        let actions = self.actions(&policy.name, labels);
        let subject = Subject::namespaced(kind, namespace_name, name(&object).unwrap_or_default());
        let findings = |texts: &[String]| {
            texts
                .iter()
                .filter_map(|text| finding(text, &subject))
                .collect::<Vec<_>>()
        };
        Ok(Verdict {
            refused: !problems.is_empty() && actions.contains(&"Deny"),
            warned: !problems.is_empty() && actions.contains(&"Warn"),
            problems: findings(&problems),
            observed: findings(&observed),
        })
    }

    /// What the bindings that select this namespace do with a refusal.
    fn actions(&self, policy: &str, labels: Option<&Value>) -> Vec<&str> {
        let selected = self
            .bindings
            .iter()
            .filter_map(|binding| binding.spec.as_ref())
            .filter(|spec| {
                let selector = spec
                    .match_resources
                    .as_ref()
                    .and_then(|m| m.namespace_selector.as_ref());
                spec.policy_name.as_deref() == Some(policy) && selector.is_none_or(|s| selector::matches(s, labels))
            });
        selected
            .flat_map(|spec| spec.validation_actions.iter().flatten())
            .map(String::as_str)
            .collect()
    }
}

/// The variable `request`. Like the API server, it leaves out what is empty.
fn asked(resource: &str, namespace: &str, name: Option<&str>, request: &Request) -> Value {
    let mut asked = json!({
        "operation": request.operation.as_str(),
        "namespace": namespace,
        "resource": {"group": "", "version": "v1", "resource": resource},
        // Nobody's, and so not the operator's.
        "userInfo": {"username": ""},
    });
    if let Some(name) = name {
        asked["name"] = json!(name);
    }
    if let Some(sub_resource) = &request.sub_resource {
        asked["subResource"] = json!(sub_resource);
    }
    if !request.groups.is_empty() {
        asked["userInfo"]["groups"] = json!(request.groups);
    }
    asked
}

/// A problem's text, taken apart again: `RULE message; fix (reference)`.
fn finding(text: &str, subject: &Subject) -> Option<Finding> {
    let (rule, rest) = text.split_once(' ')?;
    let rule: RuleId = rule.parse().ok()?;
    let message = rest.strip_suffix(ending(&rule).as_str()).unwrap_or(rest);
    Some(Finding::new(rule, subject.clone(), message))
}

/// A pod as the API server would have it, in what a rule looks at: no variable has an empty value, and on the network of its node
/// every port is one of the node.
fn defaulted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        let containers = pod.pointer_mut(list).and_then(Value::as_array_mut);
        let variables = containers
            .into_iter()
            .flatten()
            .filter_map(|it| it.get_mut("env")?.as_array_mut());
        for variable in variables.flatten().filter_map(Value::as_object_mut) {
            // An empty text is no value to the API server, and what is no text is nothing that it would take: neither keeps
            // the rest of the pod from being judged.
            if variable.get("value").and_then(Value::as_str).is_none_or(str::is_empty) {
                variable.remove("value");
            }
        }
    }
    if pod.pointer("/spec/hostNetwork") != Some(&json!(true)) {
        return pod;
    }
    for list in ["/spec/containers", "/spec/initContainers"] {
        let containers = pod.pointer_mut(list).and_then(Value::as_array_mut);
        let ports = containers
            .into_iter()
            .flatten()
            .filter_map(|it| it.get_mut("ports")?.as_array_mut());
        for port in ports.flatten() {
            if port.get("hostPort").is_none_or(Value::is_null) && port.is_object() {
                port["hostPort"] = port["containerPort"].clone();
            }
        }
    }
    pod
}

/// The object as the API server would decode it: a null is an absent field.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(key, value)| (key.clone(), without_nulls(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::admission::{Operator, Waived, generate};
    use crate::api::names;
    use crate::api::policy::AiSecurityPolicySpec;

    #[test]
    fn a_value_that_the_api_server_does_not_keep_hides_nothing_else() {
        let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
        let set = generate(
            &AiSecurityPolicySpec::default(),
            &operator,
            &Waived::default(),
            Timestamp::UNIX_EPOCH,
        );
        let offline = Offline::new(&set).unwrap();
        let namespace = json!({"metadata": {"name": "train", "uid": "u", "labels": {names::STAGE_LABEL: "training",
            names::MODE_LABEL: "enforce", names::NAMESPACE_NAME_LABEL: "train"}}});
        let reference = json!({"name": "T", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "train"},
            "spec": {"hostPID": true, "containers": [{"name": "main", "image": "registry.example.com/a",
                "env": [{"name": "PORT", "value": 8080}, {"name": "FAST", "value": true}, reference]}]}});
        let judged = offline.judge_pod(&pod, &namespace, &Request::default()).unwrap();
        let rules: Vec<String> = judged.problems.iter().map(|found| found.rule.to_string()).collect();
        assert!(rules.contains(&"WKL-01/host-pid".to_owned()), "{rules:?}");
        assert!(!rules.contains(&"ENC-04/literal".to_owned()), "{rules:?}");
    }
}
