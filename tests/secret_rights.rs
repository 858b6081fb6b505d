//! What the search for rights says, against the API server itself: every step of a chain it names is a right that the API
//! server grants, and where it names none, nothing that opens a Secret at once is granted.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells its mix"
)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};

use cloison::compliance::checks::rights::{Asked, Rights, builtin_roles};
use cloison_testbed::{ControlPlane, Options, eventually};
use dice::Dice;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource};
use operator::{PATIENCE, apply};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NAMESPACES: [&str; 3] = ["train", "infer", "tools"];
const ACCOUNTS: [&str; 2] = ["default", "a"];
const GROUP: &str = "rbac.authorization.k8s.io";
/// Verbs, API group, resources, names.
type Rule = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);
const RULES: [Rule; 18] = [
    (&["get"], "", &["secrets"], &[]),
    (&["list"], "", &["secrets"], &["one"]),
    (&["create"], "", &["secrets", "pods"], &[]),
    (&["get"], "", &["pods", "pods/log"], &[]),
    (&["*"], "apps", &["deployments"], &[]),
    (&["patch"], "apps", &["deployments/scale"], &[]),
    (&["create"], "", &["*/exec"], &[]),
    (&["get"], "", &["pods/attach"], &[]),
    (&["get"], "", &["nodes/proxy"], &[]),
    (&["create"], "", &["serviceaccounts/token"], &["a"]),
    (&["impersonate"], "", &["serviceaccounts"], &[]),
    (&["impersonate"], "", &["users"], &["alice"]),
    (&["impersonate"], "", &["users", "groups"], &[]),
    (&["create"], GROUP, &["rolebindings"], &[]),
    (&["bind"], GROUP, &["clusterroles"], &[]),
    (&["update", "escalate"], GROUP, &["roles"], &[]),
    (&["update"], "", &["secrets", "services"], &[]),
    (&["*"], "*", &["*"], &[]),
];

/// One random world, its objects marked with its number.
fn world(dice: &mut Dice, number: usize) -> Vec<Value> {
    let metadata = |name: String, namespace: Option<&str>| {
        let mut metadata = json!({"name": name, "labels": {"world": "random"}});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    };
    let mut objects = Vec::new();
    let mut roles = Vec::new();
    for index in 0..4 {
        let home = (!dice.once_in(2)).then(|| *dice.pick(&NAMESPACES));
        let name = format!("w{number}-r{index}");
        // All rights at once are too many worlds' end: seldom.
        let choice = if dice.once_in(12) {
            RULES.len() - 1
        } else {
            dice.roll(RULES.len() - 1)
        };
        let (verbs, group, resources, names) = RULES[choice];
        let rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names});
        let kind = if home.is_some() { "Role" } else { "ClusterRole" };
        objects.push(json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(name.clone(), home), "rules": [rule]}));
        roles.push((kind, name, home));
    }
    for index in 0..4 {
        let (kind, role, of) = dice.pick(&roles).clone();
        let home = of.unwrap_or(*dice.pick(&NAMESPACES));
        let (there, account) = (*dice.pick(&NAMESPACES), *dice.pick(&ACCOUNTS));
        let named = |kind: &str, name: String| json!({"kind": kind, "apiGroup": GROUP, "name": name});
        let subject = match dice.roll(8) {
            0 => named("Group", "system:authenticated".to_owned()),
            1 => named("Group", format!("system:serviceaccounts:{there}")),
            2 => named("User", "alice".to_owned()),
            3 => named("User", format!("system:serviceaccount:{there}:{account}")),
            4 => json!({"kind": "ServiceAccount", "namespace": there, "name": account}),
            _ => json!({"kind": "ServiceAccount", "namespace": "train", "name": account}),
        };
        let everywhere = of.is_none() && dice.once_in(3);
        let binding = if everywhere {
            "ClusterRoleBinding"
        } else {
            "RoleBinding"
        };
        let place = (!everywhere).then_some(home);
        objects.push(json!({"apiVersion": format!("{GROUP}/v1"), "kind": binding,
            "metadata": metadata(format!("w{number}-b{index}"), place),
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": [subject]}));
    }
    // The authorizer has seen a world when it grants what came last in each of its four caches.
    for (kind, home) in [("Role", Some("train")), ("ClusterRole", None)] {
        let rule = json!({"verbs": ["see"], "apiGroups": ["sentinel"], "resources": [format!("w{number}")]});
        let name = format!("w{number}-sentinel");
        let user = json!({"kind": "User", "apiGroup": GROUP, "name": format!("sentinel-{kind}")});
        objects.push(json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(name.clone(), home), "rules": [rule]}));
        objects.push(json!({"apiVersion": format!("{GROUP}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata(name.clone(), home),
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name}, "subjects": [user]}));
    }
    objects
}

async fn allowed(client: &Client, asked: &Asked) -> bool {
    let (resource, subresource) = asked.resource.split_once('/').unwrap_or((asked.resource, ""));
    let attributes = json!({"namespace": asked.namespace, "verb": asked.verb, "group": asked.group, "resource": resource,
        "subresource": subresource, "name": asked.name});
    let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {},
        "spec": {"user": asked.user, "groups": asked.groups, "resourceAttributes": attributes}}))
    .unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    reviews
        .create(&PostParams::default(), &review)
        .await
        .unwrap()
        .status
        .unwrap()
        .allowed
}

fn account(
    name: &str,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    namespace: Option<&str>,
) -> Asked {
    Asked {
        user: format!("system:serviceaccount:train:{name}"),
        groups: [
            "system:serviceaccounts:train",
            "system:serviceaccounts",
            "system:authenticated",
        ]
        .map(str::to_owned)
        .into(),
        verb,
        group,
        resource,
        namespace: namespace.map(str::to_owned),
        name: None,
    }
}

async fn in_force(client: &Client, number: usize) {
    for (kind, place) in [("Role", Some("train")), ("ClusterRole", Some("infer"))] {
        let resource: &'static str = Box::leak(format!("w{number}").into_boxed_str());
        let asked = Asked {
            user: format!("sentinel-{kind}"),
            groups: vec!["system:authenticated".to_owned()],
            ..account("", "see", "sentinel", resource, place)
        };
        eventually(PATIENCE, &format!("world {number} is in force"), || async {
            if allowed(client, &asked).await {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await
        .unwrap();
    }
}

async fn clear(client: &Client) {
    let ours = ListParams::default().labels("world=random");
    let now = DeleteParams::default();
    let all: Api<ClusterRole> = Api::all(client.clone());
    all.delete_collection(&now, &ours).await.unwrap();
    let all: Api<ClusterRoleBinding> = Api::all(client.clone());
    all.delete_collection(&now, &ours).await.unwrap();
    for namespace in NAMESPACES {
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        roles.delete_collection(&now, &ours).await.unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        bindings.delete_collection(&now, &ours).await.unwrap();
    }
}

async fn all<K>(client: &Client) -> Vec<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    Api::<K>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_every_cluster_lead_where_we_say() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.admin().unwrap();
    let theirs = eventually(PATIENCE, "the roles of Kubernetes are there", || async {
        let roles = all::<ClusterRole>(&client).await;
        // Roles that are made up of others stay empty here: nothing fills them in without a controller manager.
        let parts = ["admin", "edit", "view"].map(|name| format!("system:aggregate-to-{name}"));
        let mut wanted = parts
            .iter()
            .map(String::as_str)
            .chain(["cluster-admin", "admin", "edit", "view"]);
        if wanted.all(|name| roles.iter().any(|role| role.metadata.name.as_deref() == Some(name))) {
            Ok(roles)
        } else {
            Err("not yet")
        }
    });
    let theirs = theirs.await.unwrap();
    let binding = |home: &str, kind: &str, role: &str, account: (&str, &str)| -> RoleBinding {
        let object = json!({"metadata": {"name": "b", "namespace": home}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}]});
        serde_json::from_value(object).unwrap()
    };
    let reader: Role = serde_json::from_value(json!({"metadata": {"name": "reader", "namespace": "infer"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}))
    .unwrap();
    for (role, opens) in [
        ("cluster-admin", true),
        ("admin", true),
        ("edit", true),
        ("view", false),
    ] {
        for home in ["infer", "tools"] {
            let first = binding(home, "ClusterRole", role, ("train", "a"));
            let bindings = [first, binding("infer", "Role", "reader", ("tools", "deployer"))];
            let links = |roles: &[ClusterRole]| {
                let rights = Rights::new([&reader], roles, &bindings, []);
                let chain = rights.chain("train", "a", &BTreeSet::from(["infer"])).unwrap();
                chain.map(|chain| chain.links.len())
            };
            let steps = if home == "infer" { 1 } else { 2 };
            assert_eq!(links(&theirs), opens.then_some(steps), "{role} in {home}");
            assert_eq!(links(&builtin_roles()), links(&theirs), "{role} in {home}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_grants_every_step_and_nothing_where_there_is_none() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.admin().unwrap();
    for namespace in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apply(&client, object).await.unwrap();
    }
    let mut dice = Dice(0x7e57_2126);
    let targets = BTreeSet::from(["infer"]);
    let mut mix: BTreeMap<usize, usize> = BTreeMap::new();
    for number in 0..60 {
        for object in world(&mut dice, number) {
            apply(&client, object).await.unwrap();
        }
        in_force(&client, number).await;
        // Those of Kubernetes itself are part of every world.
        let (roles, cluster_roles) = (all::<Role>(&client).await, all::<ClusterRole>(&client).await);
        let (bindings, cluster_bindings) = (
            all::<RoleBinding>(&client).await,
            all::<ClusterRoleBinding>(&client).await,
        );
        let rights = Rights::new(&roles, &cluster_roles, &bindings, &cluster_bindings);
        for name in ACCOUNTS {
            let chain = rights.chain("train", name, &targets).unwrap();
            let steps = chain.as_ref().map_or(0, |chain| chain.links.len());
            *mix.entry(steps).or_default() += 1;
            for asked in chain
                .iter()
                .flat_map(|chain| &chain.links)
                .filter_map(|link| link.asked.as_ref())
            {
                assert!(
                    allowed(&client, asked).await,
                    "world {number}, {name}: {asked:?} of {chain:?}"
                );
            }
            // A longer chain means that no right of its own is enough, and so does none.
            if steps != 1 {
                let at_once = [
                    account(name, "get", "", "secrets", Some("infer")),
                    account(name, "list", "", "secrets", Some("infer")),
                    account(name, "watch", "", "secrets", Some("infer")),
                    account(name, "patch", "", "secrets", Some("infer")),
                    account(name, "delete", "", "secrets", Some("infer")),
                    account(name, "deletecollection", "", "secrets", Some("infer")),
                    account(name, "patch", "", "pods", Some("infer")),
                    account(name, "create", "", "pods", Some("infer")),
                    account(name, "patch", "apps", "deployments", Some("infer")),
                    account(name, "create", "batch", "jobs", Some("infer")),
                    account(name, "create", "", "pods/exec", Some("infer")),
                    account(name, "get", "", "pods/attach", Some("infer")),
                    account(name, "create", "", "serviceaccounts/token", Some("infer")),
                    account(name, "get", "", "nodes/proxy", None),
                ];
                for asked in at_once {
                    assert!(
                        !allowed(&client, &asked).await,
                        "world {number}, {name}: {asked:?} is missing: {chain:?}"
                    );
                }
            }
        }
        clear(&client).await;
    }
    println!("chains by their steps: {mix:?}");
    let counted = |steps: usize| mix.get(&steps).copied().unwrap_or_default();
    let long: usize = (2..9).map(counted).sum();
    assert!(counted(0) >= 20 && counted(1) >= 20 && long >= 5, "one-sided: {mix:?}");
}
