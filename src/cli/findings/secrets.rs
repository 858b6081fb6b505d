//! What manifests do with Secrets: templates of pods, ServiceAccounts, ConfigMaps, roles and bindings, by the checks that
//! the controller and the door use.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rights::{RightsRead, Stages};
use crate::admission::{ConfigMaps, Waived, overrides, workload_of};
use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::cli::manifests::{Document, Node, Objects};
use crate::cli::snapshot::{makes_pods, templates};
use crate::compliance::checks::account::{self, Account};
use crate::compliance::checks::lifetime::{self, SecretFacts};
use crate::compliance::checks::pod::{DEFAULT_ACCOUNT, PodFacts};
use crate::compliance::checks::sharing::{self, Holder};
use crate::compliance::checks::volumes::{Claim, Class, Storage, Volume};
use crate::compliance::checks::{self, Settings, config_map};
use crate::compliance::{Assurance, ControlOverride, Finding, Subject};
use crate::network::world::World;

/// Whether a finding is one of these checks' that the policy only reports where it was found.
pub(super) fn is_report(finding: &Finding, world: &World) -> bool {
    let overrides = overrides(&world.policy, Timestamp::now());
    let namespace = finding.subject.namespace.as_deref().unwrap_or_default();
    let stage = world.namespaces.get(namespace).and_then(|facts| facts.stage);
    checks::is_only_reported(finding, stage, &overrides)
}

/// A template of pods, or a pod.
#[derive(Debug)]
struct Template {
    subject: Subject,
    namespace: String,
    workload: String,
    facts: PodFacts,
    /// The document, and where in it the `spec` of the pod is.
    document: Document,
    path: String,
    own: bool,
}

impl Template {
    /// Its claims, where its namespace has a stage.
    fn holders<'t>(&'t self, objects: &Objects, world: &World) -> impl Iterator<Item = Holder> + use<'t> {
        let Self {
            namespace, workload, ..
        } = self;
        let declared = objects.workloads.get(&(namespace.clone(), workload.clone()));
        let classification = declared.map(|found| found.object.spec.data.classification);
        let stage = world.stage_of(namespace);
        self.facts.claims().filter_map(move |claim| {
            Some(Holder {
                namespace: namespace.clone(),
                workload: workload.clone(),
                stage: stage?,
                classification,
                claim: claim.to_owned(),
            })
        })
    }
}

/// What was read of manifests that has to do with Secrets.
#[derive(Debug, Default)]
pub(in crate::cli) struct SecretUses {
    templates: Vec<Template>,
    /// Whether an account adds a token to pods that say nothing.
    accounts: BTreeMap<(String, String), Account>,
    /// Of ConfigMaps that are judged.
    config_maps: Vec<Finding>,
    /// Of all of them what may take accelerators.
    pub(in crate::cli) environment: ConfigMaps,
    classes: Vec<Class>,
    claims: Vec<Claim>,
    volumes: Vec<Volume>,
    /// Of Secrets what is beside their data, and where they are written.
    secrets: BTreeMap<(String, String), (SecretFacts, Document)>,
    rights: RightsRead,
}

impl SecretUses {
    /// Reads one document. What does not fit its type is told where its kind is read.
    pub(in crate::cli) fn add(&mut self, document: &Document, home: &str, own: bool) {
        let metadata = document.root.get("metadata");
        let text = |key: &str| metadata.and_then(|metadata| metadata.text(key));
        let (namespace, name) = (text("namespace").unwrap_or(home), text("name").unwrap_or_default());
        match document.kind() {
            ("v1", "ServiceAccount") => {
                #[derive(serde::Deserialize)]
                #[serde(rename_all = "camelCase")]
                struct ServiceAccount {
                    automount_service_account_token: Option<bool>,
                }
                if let Ok(found) = document.read::<ServiceAccount>() {
                    let none = found.automount_service_account_token == Some(false);
                    let word = if none { Account::AddsNone } else { Account::AddsToken };
                    self.accounts.insert((namespace.to_owned(), name.to_owned()), word);
                }
            }
            ("v1", "Secret") if own => {
                #[derive(serde::Deserialize)]
                struct Secret {
                    metadata: ObjectMeta,
                    immutable: Option<bool>,
                }
                if let Ok(Secret { metadata, immutable }) = document.read() {
                    let facts = SecretFacts {
                        created: metadata.creation_timestamp.map(|time| time.0),
                        immutable: immutable == Some(true),
                    };
                    let key = (namespace.to_owned(), name.to_owned());
                    self.secrets.insert(key, (facts, document.clone()));
                }
            }
            ("v1", "ConfigMap") => {
                let subject = Subject::namespaced("ConfigMap", namespace, name);
                let data: Vec<_> = document
                    .root
                    .get("data")
                    .map(Node::steps)
                    .into_iter()
                    .flatten()
                    .collect();
                let data = || {
                    data.iter()
                        .map(|(step, value)| (step.strip_prefix('.').unwrap_or(step), value))
                };
                let texts = data().map(|(key, value)| (key, value.as_text().unwrap_or_default()));
                if own || !self.environment.has(namespace, name) {
                    self.environment.add(namespace, name, texts);
                }
                for (key, value) in data().filter(|_| own) {
                    let found = config_map::value(&subject, key, value.as_text().unwrap_or_default());
                    self.config_maps.extend(found.into_iter().map(|finding| {
                        let place = finding.at.clone().unwrap_or_default();
                        finding.at(place.in_file(&*document.file, value.at.line, value.at.column))
                    }));
                }
            }
            ("storage.k8s.io/v1", "StorageClass") => keep_unless_known(&mut self.classes, document, None, own),
            ("v1", "PersistentVolume") => keep_unless_known(&mut self.volumes, document, None, own),
            ("v1", "PersistentVolumeClaim") => keep_unless_known(&mut self.claims, document, Some(namespace), own),
            ("rbac.authorization.k8s.io/v1", _) => self.rights.add(document, namespace, own),
            _ if makes_pods(document) => {
                for (path, node) in places(document) {
                    let Some(spec) = node.get("spec") else { continue };
                    let Ok(facts) = document.read_part::<PodFacts>(spec) else {
                        continue;
                    };
                    let labels = node.get("metadata").and_then(|metadata| metadata.get("labels"));
                    let label = labels.and_then(|labels| labels.text(names::WORKLOAD_LABEL));
                    self.templates.push(Template {
                        subject: Subject::namespaced(document.kind().1, namespace, name),
                        namespace: namespace.to_owned(),
                        workload: label.unwrap_or(names::DEFAULT_WORKLOAD).to_owned(),
                        facts,
                        document: document.clone(),
                        path: format!("{path}{}spec.", if path.is_empty() { "" } else { "." }),
                        own,
                    });
                }
            }
            _ => {}
        }
    }

    /// Everything against them that no Waiver covers, in no order.
    pub(in crate::cli) fn findings(&self, objects: &Objects, world: &World, waived: &Waived) -> Vec<Finding> {
        let overrides = overrides(&world.policy, Timestamp::now());
        let stage = |namespace: &str| world.namespaces.get(namespace).and_then(|facts| facts.stage);
        let storage = self.storage();
        let mut findings = Vec::new();
        for found in objects.workloads.values().filter(|found| found.own) {
            let settings = Settings::of(&found.object.spec, &world.policy, &overrides);
            let metadata = &found.object.metadata;
            let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
            let subject = Subject::namespaced("AiWorkload", namespace.unwrap_or_default(), name.unwrap_or_default());
            findings.extend(checks::workload(&subject, &settings));
        }
        for template in &self.templates {
            let Template {
                namespace, workload, ..
            } = template;
            let Some(settings) = settings(objects, world, &overrides, namespace, workload) else {
                continue;
            };
            findings.extend(self.of_secrets(template, &settings));
            if template.own {
                let found = self.of_template(template, &storage, &settings).into_iter();
                findings.extend(found.filter(|finding| !waived.covers(namespace, workload, &finding.rule)));
            }
        }
        let stages: Stages = world
            .namespaces
            .iter()
            .filter_map(|(name, facts)| Some((name.clone(), facts.stage?)))
            .collect();
        let mut before = stages.clone();
        before.retain(|name, _| objects.source("Namespace", "", name).is_none_or(|(_, own)| !own));
        let mounted = self
            .templates
            .iter()
            .flat_map(|template| template.holders(objects, world));
        let shared = sharing::volumes(mounted, &storage.reserved(), &overrides);
        // Of one that nobody declared nothing is told.
        findings.extend(shared.into_iter().filter(|finding| {
            let subject = &finding.subject;
            let namespace = subject.namespace.as_deref().unwrap_or_default();
            let found = objects.source("AiWorkload", namespace, &subject.name);
            found.is_some_and(|(_, own)| own)
        }));
        // Several templates may take one Secret.
        findings.sort();
        findings.dedup();
        let of_namespaces = self.config_maps.iter().cloned();
        // Of one without a stage nobody says what holds there.
        findings.extend(of_namespaces.filter(|finding| {
            let stage = finding.subject.namespace.as_deref().and_then(stage);
            stage.is_some_and(|stage| checks::is_heard(finding, stage, &overrides))
        }));
        // What is not known of a binding may concern any stage.
        findings.extend(self.rights.findings(&stages, &before).into_iter().filter(|finding| {
            let stage = finding.subject.namespace.as_deref().and_then(stage);
            checks::is_heard(finding, stage.unwrap_or(NamespaceStage::Training), &overrides)
        }));
        findings
    }

    /// What is against a pod that a document makes and no Waiver covers, at fields below the pod's `spec`. Nothing where no workload can be in its
    /// namespace.
    pub(in crate::cli) fn of_pod(
        &self,
        pod: &Value,
        subject: &Subject,
        objects: &Objects,
        world: &World,
        waived: &Waived,
    ) -> Vec<Finding> {
        let overrides = overrides(&world.policy, Timestamp::now());
        let namespace = subject.namespace.as_deref().unwrap_or_default();
        let workload = workload_of(pod);
        let settings = settings(objects, world, &overrides, namespace, workload);
        let facts = pod.get("spec").map(PodFacts::deserialize);
        let (Some(settings), Some(Ok(mut facts))) = (settings, facts) else {
            return Vec::new();
        };
        // What the API server is known to add is there before it answers.
        let account = self.accounts.get(&(namespace.to_owned(), facts.account.clone()));
        let adds = account == Some(&Account::AddsToken);
        facts.added_token |= facts.automount.unwrap_or(adds);
        let mut findings = checks::pod(&facts, namespace, &self.storage(), subject, &settings);
        findings.retain(|finding| !waived.covers(namespace, workload, &finding.rule));
        findings
    }

    fn storage(&self) -> Storage {
        Storage::new(
            self.classes.iter().cloned().map(Arc::new),
            self.claims.iter().cloned().map(Arc::new),
            self.volumes.iter().cloned().map(Arc::new),
        )
    }

    /// What is against the Secrets that a template takes.
    fn of_secrets(&self, template: &Template, settings: &Settings<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for name in &template.facts.secrets {
            let Some((facts, document)) = self.secrets.get(&(template.namespace.clone(), name.clone())) else {
                continue;
            };
            let subject = Subject::namespaced("Secret", &*template.namespace, &**name);
            let found = lifetime::secret(*facts, &subject, settings, Timestamp::now());
            findings.extend(found.into_iter().map(|finding| {
                let field = finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default();
                finding.at(document.locate(&field))
            }));
        }
        findings
    }

    fn of_template(&self, template: &Template, storage: &Storage, settings: &Settings<'_>) -> Vec<Finding> {
        let Template { subject, facts, .. } = template;
        let mut findings = checks::pod(facts, &template.namespace, storage, subject, settings);
        let key = (template.namespace.clone(), facts.account.clone());
        let known = self.accounts.get(&key).copied();
        let token = account::of_template(facts, known.unwrap_or(Account::Unknown), subject, settings);
        // Of `default` something else is said already.
        let told = |finding: &Finding| finding.assurance != Assurance::Unknown || facts.account != DEFAULT_ACCOUNT;
        findings.extend(token.filter(told));
        let placed = findings.into_iter().map(|finding| {
            let field = finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default();
            finding.at(template.document.locate(&format!("{}{field}", template.path)))
        });
        placed.collect()
    }
}

/// What holds for pods of a workload; `None` where its namespace has no stage that workloads have.
fn settings<'s>(
    objects: &'s Objects,
    world: &'s World,
    overrides: &'s [ControlOverride],
    namespace: &str,
    workload: &str,
) -> Option<Settings<'s>> {
    let stage = world
        .namespaces
        .get(namespace)?
        .stage
        .and_then(NamespaceStage::workload_stage)?;
    let key = (namespace.to_owned(), workload.to_owned());
    let spec = objects.workloads.get(&key).map(|found| &found.object.spec);
    Some(match spec {
        Some(spec) => Settings::of(spec, &world.policy, overrides),
        None => Settings::without_workload(stage, &world.policy, overrides),
    })
}

pub(super) fn keep<T: DeserializeOwned + ResourceExt>(into: &mut Vec<T>, document: &Document, namespace: Option<&str>) {
    if let Ok(mut object) = document.read::<T>() {
        object.meta_mut().namespace = namespace.map(str::to_owned);
        into.push(object);
    }
}

/// The same, but for what is only known beside the input where the input itself has it: that was read before.
fn keep_unless_known<T: DeserializeOwned + ResourceExt>(
    into: &mut Vec<T>,
    document: &Document,
    namespace: Option<&str>,
    own: bool,
) {
    keep(into, document, namespace);
    let Some((last, others)) = into.split_last().filter(|_| !own) else {
        return;
    };
    let of = |it: &T| (it.meta().namespace.clone(), it.meta().name.clone());
    if others.iter().any(|other| of(other) == of(last)) {
        into.pop();
    }
}

/// Where in a document pods are spelled out, each by its path: in templates, or it is a pod itself.
fn places(document: &Document) -> Vec<(String, &Node)> {
    if document.kind() == ("v1", "Pod") {
        return vec![(String::new(), &document.root)];
    }
    templates(document)
}
