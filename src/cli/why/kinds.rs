//! Kinds by the names that people type, and the kinds that pods can come from.

use kube::Client;
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};

use crate::cli::CliError;

/// kubectl's short names of kinds that make pods; discovery does not tell them to this client.
const SHORT: [(&str, &str, &str); 10] = [
    ("po", "", "Pod"),
    ("deploy", "apps", "Deployment"),
    ("rs", "apps", "ReplicaSet"),
    ("sts", "apps", "StatefulSet"),
    ("ds", "apps", "DaemonSet"),
    ("cj", "batch", "CronJob"),
    ("rc", "", "ReplicationController"),
    ("isvc", "serving.kserve.io", "InferenceService"),
    ("lws", "leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
    ("aiw", "cloison.dev", "AiWorkload"),
];
/// Of the core group, only these make pods.
const CORE: [&str; 2] = ["Pod", "ReplicationController"];
/// Groups whose kinds make pods, or make what makes pods.
pub(in crate::cli) const GROUPS: [&str; 13] = [
    "apps",
    "batch",
    "jobset.x-k8s.io",
    "leaderworkerset.x-k8s.io",
    "trainer.kubeflow.org",
    "kubeflow.org",
    "ray.io",
    "serving.kserve.io",
    "serving.knative.dev",
    "batch.volcano.sh",
    "argoproj.io",
    "tekton.dev",
    "sparkoperator.k8s.io",
];

/// What the cluster serves.
pub(super) struct Kinds(Discovery);

impl Kinds {
    /// Asks the API server.
    pub async fn discover(client: &Client) -> Result<Self, CliError> {
        let found = match Discovery::new(client.clone()).run_aggregated().await {
            Ok(found) => found,
            Err(_) => Discovery::new(client.clone())
                .run()
                .await
                .map_err(CliError::api("discover the kinds that are served"))?,
        };
        Ok(Self(found))
    }

    /// A kind as it is typed: `job`, `jobs`, `Job`, `jobs.batch`, `deploy`. The built-in groups come first.
    pub fn named(&self, typed: &str) -> Result<ApiResource, CliError> {
        let typed = typed.to_lowercase();
        let (name, group) = typed
            .split_once('.')
            .map_or((typed.as_str(), None), |(name, group)| (name, Some(group)));
        let short = SHORT.iter().find(|(short, ..)| *short == name);
        let fits = |resource: &ApiResource| {
            let known = short.is_some_and(|(_, group, kind)| resource.group == *group && resource.kind == *kind);
            let called = resource.plural == name || resource.kind.to_lowercase() == name;
            (known || called) && group.is_none_or(|group| resource.group == group)
        };
        let mut found: Vec<ApiResource> = self.all().map(|(resource, _)| resource).filter(fits).collect();
        let rank = |resource: &ApiResource| match resource.group.as_str() {
            "" => 0,
            group => 1 + GROUPS.iter().position(|known| *known == group).unwrap_or(GROUPS.len()),
        };
        found.sort_by_key(|resource| (rank(resource), resource.group.clone()));
        found
            .into_iter()
            .next()
            .ok_or_else(|| CliError::Usage(format!("this cluster serves no kind {typed:?}")))
    }

    /// The kind that an ownerReference names.
    pub fn owner(&self, api_version: &str, kind: &str) -> Option<ApiResource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        self.0.resolve_gvk(&wanted).map(|(resource, _)| resource)
    }

    /// Every kind that pods can come from, and those of a few more groups.
    pub fn makers(&self, more: &[String]) -> Vec<ApiResource> {
        let listed = |resource: &ApiResource| {
            let group = resource.group.as_str();
            (group.is_empty() && CORE.contains(&resource.kind.as_str()))
                || GROUPS.contains(&group)
                || (!group.is_empty() && more.iter().any(|other| other == group))
        };
        self.all()
            .filter(|(resource, listable)| *listable && listed(resource))
            .map(|(resource, _)| resource)
            .collect()
    }

    /// Namespaced kinds in the version that is recommended, and whether they can be listed.
    fn all(&self) -> impl Iterator<Item = (ApiResource, bool)> + '_ {
        let resources = self
            .0
            .groups()
            .flat_map(kube::discovery::ApiGroup::recommended_resources);
        resources
            .filter(|(_, capabilities)| capabilities.scope == Scope::Namespaced)
            .map(|(resource, capabilities)| (resource, capabilities.supports_operation(verbs::LIST)))
    }
}
