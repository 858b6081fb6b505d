//! The owners of an object and what it owns, by ownerReferences alone: a kind needs no line of code here.

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::kinds::Kinds;
use crate::cli::{CliError, absent, forbidden};

/// Longest chain that is followed; a loop of references must end.
const DEPTH: usize = 16;
/// Lists under way at once.
const AT_ONCE: usize = 8;

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub kind: String,
    pub name: String,
    pub uid: String,
    owners: Vec<OwnerReference>,
    pub object: Value,
}

impl Member {
    fn of(kind: &str, object: &DynamicObject) -> Self {
        Self {
            kind: kind.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            owners: object.owner_references().to_vec(),
            object: serde_json::to_value(object).unwrap_or_default(),
        }
    }

    /// `Job road-ft-node-0`.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// The object that was asked for, its owners, and all that it owns.
pub(super) struct Family {
    /// The topmost owner first; the object itself is the last.
    pub line: Vec<Member>,
    /// What the object owns, and what that owns.
    below: Vec<Member>,
    /// What could not be read.
    pub notes: Vec<String>,
}

impl Family {
    /// Walks up, then down.
    pub async fn gather(
        client: &Client,
        kinds: &Kinds,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Self, CliError> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let object = api
            .get(name)
            .await
            .map_err(CliError::api(format!("get {} {namespace}/{name}", resource.kind)))?;
        let mut family = Self {
            line: vec![Member::of(&resource.kind, &object)],
            below: Vec::new(),
            notes: Vec::new(),
        };
        let mut groups = vec![resource.group.clone()];
        family.up(client, kinds, namespace, &mut groups).await?;
        family.down(client, kinds, namespace, &groups).await?;
        Ok(family)
    }

    async fn up(
        &mut self,
        client: &Client,
        kinds: &Kinds,
        namespace: &str,
        groups: &mut Vec<String>,
    ) -> Result<(), CliError> {
        while self.line.len() < DEPTH {
            let owners = &self.line[0].owners;
            let controller = owners.iter().find(|owner| owner.controller == Some(true));
            let Some(owner) = controller.or_else(|| owners.first()).cloned() else {
                break;
            };
            let title = format!("{} {}", owner.kind, owner.name);
            let Some(resource) = kinds.owner(&owner.api_version, &owner.kind) else {
                self.notes
                    .push(format!("its owner {title} is of a kind that is not served"));
                break;
            };
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            match api.get(&owner.name).await {
                Ok(object) => self.line.insert(0, Member::of(&owner.kind, &object)),
                Err(error) if absent(&error) || forbidden(&error) => {
                    self.notes.push(format!("its owner {title} cannot be read: {error}"));
                    break;
                }
                Err(error) => return Err(CliError::api(format!("get {title}"))(error)),
            }
            groups.push(resource.group);
        }
        Ok(())
    }

    async fn down(
        &mut self,
        client: &Client,
        kinds: &Kinds,
        namespace: &str,
        groups: &[String],
    ) -> Result<(), CliError> {
        let lists = kinds.makers(groups).into_iter().map(|resource| async move {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let listed = api.list(&ListParams::default()).await;
            (resource.kind, listed)
        });
        let lists: Vec<_> = futures::stream::iter(lists).buffered(AT_ONCE).collect().await;
        let mut all = Vec::new();
        for (kind, listed) in lists {
            match listed {
                Ok(list) => all.extend(list.iter().map(|object| Member::of(&kind, object))),
                Err(error) if forbidden(&error) => self.notes.push(format!("{kind} objects cannot be listed by you")),
                Err(error) if absent(&error) => {}
                Err(error) => return Err(CliError::api(format!("list {kind} objects"))(error)),
            }
        }
        all.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        let mut owners: Vec<String> = self.line.last().map(|member| member.uid.clone()).into_iter().collect();
        for _ in 0..DEPTH {
            let (children, others) = all.into_iter().partition(|member: &Member| {
                let mut named = member.owners.iter();
                named.any(|owner| owners.contains(&owner.uid))
            });
            all = others;
            owners = children.iter().map(|member: &Member| member.uid.clone()).collect();
            if owners.is_empty() {
                break;
            }
            self.below.extend(children);
        }
        Ok(())
    }

    /// The object itself and everything it owns.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.line.last().into_iter().chain(&self.below)
    }

    /// What makes pods: whatever has nothing below it but pods, and is no pod; or the pod that was asked for.
    pub fn makers(&self) -> Vec<&Member> {
        let owns = |uid: &str| {
            let mut below = self.below.iter().filter(|member| member.kind != "Pod");
            below.any(|member| member.owners.iter().any(|owner| owner.uid == uid))
        };
        let asked = self.line.last().map(|member| &member.uid);
        self.members()
            .filter(|member| !owns(&member.uid))
            .filter(|member| member.kind != "Pod" || Some(&member.uid) == asked)
            .collect()
    }

    /// From the topmost owner to a member.
    pub fn chain(&self, member: &Member) -> String {
        let mut chain = vec![member];
        while let Some(first) = chain.first().filter(|_| chain.len() < DEPTH) {
            let mut everybody = self.line.iter().chain(&self.below);
            let owner = everybody.find(|other| first.owners.iter().any(|owner| owner.uid == other.uid));
            let Some(owner) = owner else { break };
            chain.insert(0, owner);
        }
        chain
            .iter()
            .map(|member| member.title())
            .collect::<Vec<_>>()
            .join(" > ")
    }

    /// Pods that exist below a member.
    pub fn pods(&self, member: &Member) -> usize {
        let pods = self.below.iter().filter(|other| other.kind == "Pod");
        pods.filter(|pod| pod.owners.iter().any(|owner| owner.uid == member.uid))
            .count()
    }
}
