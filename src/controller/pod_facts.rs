//! What the pods of each workload do with Secrets. Pods of one template say the same: it is kept once, with their number, and
//! a workload has news only when the first comes that says something, or the last goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pods::Pod;
use crate::compliance::checks::pod::{DEFAULT_ACCOUNT, PodFacts};
use crate::network::world::WorkloadKey;

type Index = BTreeMap<WorkloadKey, HashMap<Arc<PodFacts>, usize>>;

/// The pods by workload, and the number of those that say the same.
#[derive(Debug, Default)]
pub struct PodIndex {
    index: Mutex<Index>,
    /// What any pod says, once; and after how many entries those are dropped that no pod says any more.
    said: Mutex<(HashSet<Arc<PodFacts>>, usize)>,
}

/// Fewer entries than these are not looked through.
const FEW: usize = 64;

impl PodIndex {
    /// Lets a pod share what others say as well.
    pub fn share(&self, facts: &mut Arc<PodFacts>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, limit) = &mut *said;
        if let Some(same) = known.get(facts) {
            *facts = same.clone();
            return;
        }
        if known.len() >= *limit {
            known.retain(|facts| Arc::strong_count(facts) > 1);
            *limit = FEW.max(2 * known.len());
        }
        known.insert(facts.clone());
    }

    /// A pod changed. The workloads that have something new to say.
    pub fn changed(&self, before: Option<&Pod>, after: Option<&Pod>) -> Vec<WorkloadKey> {
        let (before, after) = (before.and_then(said), after.and_then(said));
        let (was, is) = (before.clone(), after.clone());
        if before == after {
            return Vec::new();
        }
        let mut index = self.lock();
        let mut news = Vec::new();
        if let Some((key, facts)) = after {
            let same = index.entry(key.clone()).or_default().entry(facts.clone()).or_default();
            *same += 1;
            news.extend((*same == 1).then_some(key));
        }
        if let Some((key, facts)) = before
            && let Some(of_workload) = index.get_mut(&key)
            && let Some(same) = of_workload.get_mut(facts)
        {
            *same -= 1;
            if *same == 0 {
                of_workload.remove(facts);
                if of_workload.is_empty() {
                    index.remove(&key);
                }
                news.push(key);
            }
        }
        // Who shares an account with it has news as well.
        let accounts = [was, is].into_iter().flatten().map(|(_, facts)| &facts.account);
        let accounts: Vec<&String> = accounts.filter(|account| *account != DEFAULT_ACCOUNT).collect();
        if let Some(first) = news.first() {
            let others = of_namespace(&index, &first.namespace).filter(|(key, said)| {
                !news.contains(key) && said.keys().any(|facts| accounts.contains(&&facts.account))
            });
            let others: Vec<WorkloadKey> = others.map(|(key, _)| key.clone()).collect();
            news.extend(others);
        }
        news
    }

    /// What the pods of a workload say, each once.
    pub fn of(&self, workload: &WorkloadKey) -> Vec<Arc<PodFacts>> {
        let index = self.lock();
        let said = index.get(workload).into_iter().flat_map(HashMap::keys);
        said.cloned().collect()
    }

    /// The PersistentVolumeClaims that pods mount, each with a workload.
    pub fn claims(&self) -> Vec<(WorkloadKey, String)> {
        let index = self.lock();
        let said = index
            .iter()
            .flat_map(|(key, said)| said.keys().map(move |facts| (key, facts)));
        let claims = said.flat_map(|(key, facts)| facts.claims().map(move |claim| (key.clone(), claim.to_owned())));
        claims.collect()
    }

    /// Whether any pod runs in a namespace.
    pub fn any_in(&self, namespace: &str) -> bool {
        of_namespace(&self.lock(), namespace).next().is_some()
    }

    /// The accounts that pods of a namespace run under, each with the workloads.
    pub fn accounts(&self, namespace: &str) -> Vec<(String, String)> {
        let index = self.lock();
        let here = of_namespace(&index, namespace);
        here.flat_map(|(key, said)| said.keys().map(|facts| (facts.account.clone(), key.name.clone())))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_namespace<'i>(
    index: &'i Index,
    namespace: &'i str,
) -> impl Iterator<Item = (&'i WorkloadKey, &'i HashMap<Arc<PodFacts>, usize>)> {
    let from = index.range(WorkloadKey::new(namespace, "")..);
    from.take_while(move |(key, _)| key.namespace == namespace)
}

/// Whose a pod is and what it says; nothing where it has ended.
fn said(pod: &Pod) -> Option<(WorkloadKey, &Arc<PodFacts>)> {
    let namespace = kube::Resource::meta(pod).namespace.as_deref()?;
    (!pod.ended).then(|| (WorkloadKey::new(namespace, pod.workload()), &pod.facts))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, account: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "train"},
            "spec": {"serviceAccountName": account, "containers": [{"name": "c"}],
                     "volumes": [{"name": format!("kube-api-access-{name}"), "projected": {"sources": []}}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn pods_of_one_template_share_what_they_say_and_what_none_says_is_dropped() {
        let index = PodIndex::default();
        let shared = |account: &str| {
            let mut facts = pod("p", account, "Running").facts;
            index.share(&mut facts);
            facts
        };
        let (one, two, other) = (shared("x"), shared("x"), shared("y"));
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
        for number in 0..10 * FEW {
            shared(&format!("gone-{number}"));
        }
        let kept = index.said.lock().unwrap().0.len();
        assert!(kept <= FEW + 2, "{kept}");
        assert!(Arc::ptr_eq(&one, &shared("x")), "it is still said");
    }

    #[test]
    fn only_the_first_that_says_something_and_the_last_are_news() {
        let index = PodIndex::default();
        let key = WorkloadKey::new("train", "default");
        let news = [key.clone()];
        let [one, two, other] = [
            pod("a", "x", "Running"),
            pod("b", "x", "Running"),
            pod("c", "y", "Running"),
        ];
        assert_eq!(index.changed(None, Some(&one)), news);
        assert_eq!(index.changed(None, Some(&two)), [], "it says the same");
        assert_eq!(index.changed(Some(&one), Some(&one)), []);
        assert_eq!(index.changed(None, Some(&other)), news);
        assert_eq!(index.of(&key).len(), 2);
        assert_eq!(index.changed(Some(&one), None), [], "another says it still");
        assert_eq!(index.changed(Some(&two), Some(&pod("b", "x", "Succeeded"))), news);
        assert_eq!(index.accounts("train"), [("y".to_owned(), "default".to_owned())]);
        assert_eq!(index.changed(Some(&other), None), news);
        assert_eq!(index.of(&key), []);
    }
}
