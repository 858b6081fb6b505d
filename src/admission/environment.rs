//! Accelerators that a pod takes by a variable out of a whole ConfigMap (`envFrom`). No request shows it: the kubelet looks the
//! ConfigMap up when the container starts. So it is judged where ConfigMaps are known, by the expressions of the door.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use super::policies::pod::VISIBLE_DEVICES;
use super::verdict::{Offline, OfflineError, Request, Verdict};
use crate::compliance::Finding;
use crate::compliance::id::WKL_04;

/// Where a pod has containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// What of ConfigMaps can become the variable, by namespace and name. Nothing else of them is kept.
#[derive(Clone, Default)]
pub struct ConfigMaps(BTreeMap<(String, String), BTreeMap<String, String>>);

/// Which there are, and none of their values.
impl fmt::Debug for ConfigMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl ConfigMaps {
    /// The names of those that a pod takes whole.
    pub fn taken(pod: &Value) -> impl Iterator<Item = &str> {
        let containers = CONTAINERS
            .iter()
            .filter_map(|list| pod.get("spec")?.get(list)?.as_array());
        let sources = containers
            .flatten()
            .filter_map(|container| container.get("envFrom")?.as_array());
        sources
            .flatten()
            .filter_map(|source| source.pointer("/configMapRef/name")?.as_str())
    }

    /// Whether one is known.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.0.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// One more, with the entries of its `data`.
    pub fn add<'d>(&mut self, namespace: &str, name: &str, data: impl Iterator<Item = (&'d str, &'d str)>) {
        // A prefix makes the rest of the name.
        let kept = data.filter(|(key, _)| VISIBLE_DEVICES.ends_with(key));
        let kept = kept.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.0.insert((namespace.to_owned(), name.to_owned()), kept.collect());
    }

    /// The variable as the kubelet would set it, and where it comes from: later entries of `envFrom` win, and a container's own
    /// `env` wins over all.
    fn variable<'m>(&'m self, namespace: &str, container: &'m Value) -> Option<(&'m str, &'m str)> {
        let own = container.get("env").and_then(Value::as_array).into_iter().flatten();
        if own.into_iter().any(|variable| variable["name"] == VISIBLE_DEVICES) {
            return None;
        }
        let sources = container.get("envFrom").and_then(Value::as_array).into_iter().flatten();
        let mut found = sources.filter_map(|source| {
            let name = source.pointer("/configMapRef/name")?.as_str()?;
            let prefix = source.get("prefix").and_then(Value::as_str).unwrap_or_default();
            let key = VISIBLE_DEVICES.strip_prefix(prefix)?;
            let value = self.0.get(&(namespace.to_owned(), name.to_owned()))?.get(key)?;
            Some((name, value.as_str()))
        });
        found.next_back()
    }

    /// The pod with the variable written out, and the ConfigMaps it came from; `None` where none brings it.
    fn written_out(&self, namespace: &str, pod: &Value) -> Option<(Value, BTreeSet<String>)> {
        let (mut whole, mut from) = (pod.clone(), BTreeSet::new());
        for list in CONTAINERS {
            let containers = whole
                .get_mut("spec")
                .and_then(|spec| spec.get_mut(list)?.as_array_mut());
            for container in containers.into_iter().flatten() {
                let Some((name, value)) = self.variable(namespace, container) else {
                    continue;
                };
                from.insert(name.to_owned());
                let variable = json!({"name": VISIBLE_DEVICES, "value": value});
                match container.get_mut("env").and_then(Value::as_array_mut) {
                    Some(own) => own.push(variable),
                    None => container["env"] = json!([variable]),
                }
            }
        }
        (!from.is_empty()).then_some((whole, from))
    }

    /// What is against a pod in a namespace, an object as the API server has it, for what these ConfigMaps bring: whether the rule
    /// refuses there, or only reports.
    pub fn against(
        &self,
        offline: &Offline,
        pod: &Value,
        namespace: &Value,
    ) -> Result<Vec<(Finding, bool)>, OfflineError> {
        let name = namespace
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Some((whole, from)) = self.written_out(name, pod) else {
            return Ok(Vec::new());
        };
        let Verdict {
            problems,
            observed,
            refused,
            ..
        } = offline.judge_pod(&whole, namespace, &Request::default())?;
        let from: Vec<String> = from.into_iter().collect();
        let problems = problems.into_iter().map(|finding| (finding, refused));
        let all = problems.chain(observed.into_iter().map(|finding| (finding, false)));
        let of_devices = all.filter(|(finding, _)| finding.rule == WKL_04.rule("visible-devices"));
        let told = of_devices.map(|(finding, refused)| {
            let message = format!(
                "{}, from ConfigMap {}, which no request at the API server shows",
                finding.message,
                from.join(", ")
            );
            (Finding { message, ..finding }, refused)
        });
        Ok(told.collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::admission::{Operator, Waived, as_enforced, generate};
    use crate::api::stage::NamespaceStage;

    fn maps() -> ConfigMaps {
        let mut maps = ConfigMaps::default();
        let all = [(VISIBLE_DEVICES, "all"), ("PASSWORD", "x")];
        maps.add("train", "whole", all.into_iter());
        maps.add("train", "part", [("VISIBLE_DEVICES", "all")].into_iter());
        maps.add("train", "none", [(VISIBLE_DEVICES, "none")].into_iter());
        maps.add("infer", "far", [(VISIBLE_DEVICES, "all")].into_iter());
        maps
    }

    fn told(container: &Value) -> Vec<(String, bool)> {
        let policy = serde_json::from_value(json!({})).unwrap();
        let operator = Operator::in_namespace("cloison-system");
        let offline = Offline::new(&generate(&policy, &operator, &Waived::default(), Timestamp::UNIX_EPOCH)).unwrap();
        let workloads = BTreeSet::from(["road".to_owned()]);
        let enforced = as_enforced("train", "u", NamespaceStage::Training, &workloads);
        let mut whole = json!({"name": "c", "image": "x"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(container.as_object().unwrap().clone());
        let pod = json!({"metadata": {"name": "p", "labels": {"cloison.dev/workload": "road"}}, "spec": {"containers": [whole]}});
        let against = maps().against(&offline, &pod, &enforced).unwrap().into_iter();
        against.map(|(finding, refused)| (finding.message, refused)).collect()
    }

    fn from(name: &str) -> Value {
        json!({"configMapRef": {"name": name}})
    }

    #[test]
    fn a_variable_out_of_a_config_map_is_found_as_the_kubelet_would_set_it() {
        let message = "NVIDIA_VISIBLE_DEVICES without a request of a device: container \"c\"";
        for (container, wanted) in [
            (json!({"envFrom": [from("whole")]}), Some("whole")),
            (
                json!({"envFrom": [{"prefix": "NVIDIA_", "configMapRef": {"name": "part"}}]}),
                Some("part"),
            ),
            (json!({"envFrom": [from("part")]}), None),
            (json!({"envFrom": [from("unknown"), from("far")]}), None),
            // The last wins.
            (json!({"envFrom": [from("whole"), from("none")]}), None),
            (json!({"envFrom": [from("none"), from("whole")]}), Some("whole")),
            // A container's own word wins, and the door has seen it.
            (
                json!({"envFrom": [from("whole")], "env": [{"name": VISIBLE_DEVICES, "value": "void"}]}),
                None,
            ),
            (
                json!({"envFrom": [from("whole")], "env": [{"name": "OTHER", "value": "1"}]}),
                Some("whole"),
            ),
            (
                json!({"envFrom": [from("whole")], "resources": {"limits": {"nvidia.com/gpu": "1"}}}),
                None,
            ),
            (json!({}), None),
        ] {
            let wanted: Vec<(String, bool)> = wanted
                .map(|name| format!("{message}, from ConfigMap {name}, which no request at the API server shows"))
                .map(|message| (message, true))
                .into_iter()
                .collect();
            assert_eq!(told(&container), wanted, "{container}");
        }
    }

    #[test]
    fn every_container_of_a_pod_may_take_a_config_map() {
        let taking = |name: &str| json!([{"name": "c", "envFrom": [from(name), {"secretRef": {"name": "s"}}]}]);
        let pod = json!({"spec": {
            "containers": taking("one"), "initContainers": taking("two"), "ephemeralContainers": taking("three")}});
        assert_eq!(ConfigMaps::taken(&pod).collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn nothing_else_of_a_config_map_is_kept() {
        let kept = maps();
        let keys: BTreeSet<&String> = kept.0.values().flat_map(BTreeMap::keys).collect();
        assert_eq!(
            keys,
            BTreeSet::from([&VISIBLE_DEVICES.to_owned(), &"VISIBLE_DEVICES".to_owned()])
        );
        assert!(!format!("{kept:?}").contains("all"), "{kept:?}");
    }
}
