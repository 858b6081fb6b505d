//! Rights in manifests: whether they lead from training to the Secrets of inference. Told is what the manifests that are
//! judged add to what is known beside them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject as RbacSubject};
use kube::ResourceExt;

use super::secrets::keep;
use crate::api::stage::NamespaceStage;
use crate::cli::manifests::Document;
use crate::compliance::checks::rights::{Found, Rights, binding_name, builtin_roles, may_name};
use crate::compliance::id::IAM_07;
use crate::compliance::{Assurance, Finding, Subject};

/// The stages of namespaces.
pub(super) type Stages = BTreeMap<String, NamespaceStage>;

#[derive(Debug, Default)]
struct Objects {
    roles: Vec<Role>,
    cluster_roles: Vec<ClusterRole>,
    bindings: Vec<RoleBinding>,
    cluster_bindings: Vec<ClusterRoleBinding>,
}

/// Roles and bindings of manifests.
#[derive(Debug, Default)]
pub(super) struct RightsRead {
    own: Objects,
    beside: Objects,
    /// Where the bindings are written that are judged, by [`binding_name`].
    places: BTreeMap<String, Document>,
}

impl RightsRead {
    /// Reads a document of the group `rbac.authorization.k8s.io`.
    pub fn add(&mut self, document: &Document, namespace: &str, own: bool) {
        let into = if own { &mut self.own } else { &mut self.beside };
        let (_, kind) = document.kind();
        match kind {
            "Role" => keep(&mut into.roles, document, Some(namespace)),
            "RoleBinding" => keep(&mut into.bindings, document, Some(namespace)),
            "ClusterRole" => keep(&mut into.cluster_roles, document, None),
            "ClusterRoleBinding" => keep(&mut into.cluster_bindings, document, None),
            _ => {}
        }
        let metadata = document.root.get("metadata");
        let name = metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default();
        let by = match kind {
            "RoleBinding" => binding_name(Some(namespace), name),
            "ClusterRoleBinding" => binding_name(None, name),
            _ => return,
        };
        if own {
            self.places.insert(by, document.clone());
        }
    }

    /// Chains that what is judged adds, and bindings of which it is not known what they give. `stages` are those of all
    /// namespaces, `before` those that are known beside.
    pub fn findings(&self, stages: &Stages, before: &Stages) -> Vec<Finding> {
        let known: Vec<Finding> = rights(&[&self.beside])
            .found(before)
            .iter()
            .map(Found::finding)
            .collect();
        let now = rights(&[&self.own, &self.beside]).found(stages);
        let chains = now.iter().filter_map(|found| {
            let finding = found.finding();
            if known.contains(&finding) {
                return None;
            }
            let mut links = found.chain.iter().flat_map(|chain| &chain.links);
            let document = links.find_map(|link| self.places.get(&link.by));
            Some(match document {
                Some(document) => finding.at(document.locate("roleRef")),
                None => finding,
            })
        });
        chains.chain(self.not_known(stages)).collect()
    }

    /// Bindings of accounts of training and evaluation to a role that is not in the input: a cluster has more roles than
    /// manifests hold.
    fn not_known(&self, stages: &Stages) -> Vec<Finding> {
        let of = |wanted: &[NamespaceStage]| -> BTreeSet<&str> {
            let found = stages.iter().filter(|(_, stage)| wanted.contains(stage));
            found.map(|(name, _)| name.as_str()).collect()
        };
        let sources = of(&[NamespaceStage::Training, NamespaceStage::Evaluation]);
        if sources.is_empty() || of(&[NamespaceStage::Inference]).is_empty() {
            return Vec::new();
        }
        let all = [&self.own, &self.beside];
        let roles = all.iter().flat_map(|objects| &objects.roles);
        let roles: BTreeSet<(String, String)> = roles
            .map(|role| (role.namespace().unwrap_or_default(), role.name_any()))
            .collect();
        let builtin = builtin_roles();
        let cluster_roles = all.iter().flat_map(|objects| &objects.cluster_roles).chain(&builtin);
        let cluster_roles: BTreeSet<String> = cluster_roles.map(ResourceExt::name_any).collect();
        let told = |namespace: Option<String>, name: String, role: &RoleRef, subjects: Option<&Vec<RbacSubject>>| {
            let given = subjects.into_iter().flatten();
            let concerned = given.filter(|subject| sources.iter().any(|source| may_name(subject, source)));
            let there = match (&namespace, role.kind.as_str()) {
                (Some(home), "Role") => roles.contains(&(home.clone(), role.name.clone())),
                _ => cluster_roles.contains(&role.name),
            };
            if there || concerned.count() == 0 {
                return None;
            }
            let by = binding_name(namespace.as_deref(), &name);
            let message = format!(
                "{by} gives accounts of training or evaluation the {} {}, which is not in the input: whether that leads to the \
                 Secrets of inference is not known",
                role.kind, role.name
            );
            let subject = match namespace {
                Some(namespace) => Subject::namespaced("RoleBinding", namespace, name),
                None => Subject::cluster("ClusterRoleBinding", name),
            };
            let finding = Finding::new(IAM_07.rule("secret-path"), subject, message)
                .with_fix("add the role to the input, or name where it is with --with")
                .with_assurance(Assurance::Unknown);
            let document = self.places.get(&by);
            Some(match document {
                Some(document) => finding.at(document.locate("roleRef")),
                None => finding,
            })
        };
        let bindings = self.own.bindings.iter();
        let bindings =
            bindings.filter_map(|it| told(it.namespace(), it.name_any(), &it.role_ref, it.subjects.as_ref()));
        let cluster = self.own.cluster_bindings.iter();
        let cluster = cluster.filter_map(|it| told(None, it.name_any(), &it.role_ref, it.subjects.as_ref()));
        bindings.chain(cluster).collect()
    }
}

/// The rights of all of them. Roles of Kubernetes itself are those of the input where it holds them.
fn rights(all: &[&Objects]) -> Rights {
    let given = || all.iter().flat_map(|objects| &objects.cluster_roles);
    let names: BTreeSet<String> = given().map(ResourceExt::name_any).collect();
    let builtin = builtin_roles();
    let builtin = builtin.iter().filter(|role| !names.contains(&role.name_any()));
    Rights::new(
        all.iter().flat_map(|objects| &objects.roles),
        builtin.chain(given()),
        all.iter().flat_map(|objects| &objects.bindings),
        all.iter().flat_map(|objects| &objects.cluster_bindings),
    )
}
