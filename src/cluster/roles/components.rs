//! The rights of the components.

mod encryption;

use super::{Component, Grant, Rule, Scope, binding_names};
use crate::admission::CANARY_RIGHTS;
use crate::api::names::{
    ADMISSION_POLICIES, CANARY_ACCOUNT, CANARY_NAMESPACE, CANARY_ROLE, CANARY_SECRET, CONTROLLER_ACCOUNT,
    CONTROLLER_LEASE, CONTROLLER_ROLE, GROUP, OFF_CONFIGMAP, PACKETS_CLIENT, PACKETS_CLIENT_NAMESPACE, PACKETS_SERVER,
    PACKETS_SERVER_NAMESPACE, STAGE_POLICIES, SWEEPER_ROLES, WEBHOOK_ACCOUNT, WEBHOOK_CONFIGURATION, WEBHOOK_SECRET,
};
use crate::network::cluster_policy;
use crate::network::foreign::FOREIGN_KINDS;
use encryption::{agent, lender, rotator, sweeper};

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const LEASES: &str = "coordination.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
/// What a cache needs; nothing is read one by one.
const FOLLOW: [&str; 2] = ["list", "watch"];

/// Every component, in the order of the files made of them.
pub fn components() -> Vec<Component> {
    vec![
        agent(),
        canary(),
        controller(),
        lender(),
        rotator(),
        sweeper(),
        webhook(),
    ]
}

/// Writes NetworkPolicies, admission policies, seals and statuses.
fn controller() -> Component {
    let mut cluster = controller_reads();
    cluster.extend(controller_writes());
    Component {
        name: "controller",
        account: CONTROLLER_ACCOUNT,
        lent: false,
        grants: vec![
            Grant {
                name: CONTROLLER_ROLE,
                scope: Scope::Cluster,
                rules: cluster,
            },
            Grant {
                name: "cloison-controller",
                scope: Scope::Operator,
                rules: controller_own_namespace(),
            },
            Grant {
                name: "cloison-controller-discovery",
                scope: Scope::Namespace("kube-system"),
                rules: vec![
                    Rule::new("apps", &["daemonsets"], &["get"], "whether nodes have a DNS cache")
                        .named(["node-local-dns"]),
                    Rule::new(
                        LEASES,
                        &["leases"],
                        &["list"],
                        "one identity lease per API server: how many must have answered before anything is proven",
                    ),
                ],
            },
            Grant {
                name: "cloison-controller-endpoints",
                scope: Scope::Namespace("default"),
                rules: vec![Rule::new(
                    "discovery.k8s.io",
                    &["endpointslices"],
                    &FOLLOW,
                    "the address of every API server, for the built-in service kubernetes-api and for the proofs",
                )],
            },
            packets(
                "cloison-controller-packets-client",
                PACKETS_CLIENT_NAMESPACE,
                PACKETS_CLIENT,
            ),
            packets(
                "cloison-controller-packets-server",
                PACKETS_SERVER_NAMESPACE,
                PACKETS_SERVER,
            ),
        ],
    }
}

/// One pod of the packet canary, in a namespace where there is nothing else.
fn packets(role: &'static str, namespace: &'static str, pod: &'static str) -> Grant {
    Grant {
        name: role,
        scope: Scope::Namespace(namespace),
        rules: vec![
            Rule::new(
                "",
                &["pods"],
                &["create", "patch", "delete"],
                "makes and removes one pod of the packet canary, when the policy asks for it (network.enforcementProof)",
            )
            .named([pod]),
        ],
    }
}

fn controller_reads() -> Vec<Rule> {
    let foreign = "a kind of policy that the analysis does not model: where there is one, nothing is claimed";
    let mut rules = vec![
        Rule::new("", &["pods"], &FOLLOW, "who runs where: the analysis of real pods"),
        Rule::new(
            "",
            &["nodes"],
            &["list"],
            "addresses and pod ranges: which networks are the cluster's own",
        ),
        Rule::new(
            NETWORKING,
            &["servicecidrs"],
            &["list"],
            "service ranges: which networks are the cluster's own",
        ),
        // In the whole cluster, because a role in a namespace that not every cluster has could not be installed.
        Rule::new(
            "",
            &["services"],
            &["get"],
            "the addresses of DNS (kube-dns; dns-default on OpenShift) and of the API server (kubernetes)",
        )
        .named(["dns-default", "kube-dns", "kubernetes"]),
        Rule::new(
            GROUP,
            &["aisecuritypolicies", "aiworkloads", "secretencryptions", "waivers"],
            &FOLLOW,
            "what people ask for",
        ),
        Rule::new(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &["get"],
            "a deleted definition must not look like deleted workloads",
        )
        .named([format!("aiworkloads.{GROUP}")]),
        Rule::new(
            "",
            &["persistentvolumeclaims", "persistentvolumes"],
            &FOLLOW,
            "whether the volumes of a workload are encrypted",
        ),
        Rule::new(
            "resource.k8s.io",
            &["resourceclaims"],
            &["list"],
            "whether two stages have one device; asked only where a pod has such a claim",
        ),
        Rule::new(
            "storage.k8s.io",
            &["storageclasses"],
            &FOLLOW,
            "whether the volumes of a workload are encrypted",
        ),
        Rule::new(
            RBAC,
            &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
            &FOLLOW,
            "whether rights lead from an account of training to the Secrets of inference",
        ),
        Rule::new(
            RBAC,
            &["clusterroles"],
            &["get"],
            "the uid of its own role, which owns the admission policies and takes them along at an uninstall",
        )
        .named([CONTROLLER_ROLE]),
    ];
    let modelled = "cluster-wide policies are part of the analysis, which has to know of every change";
    rules.extend(FOREIGN_KINDS.map(|kind| {
        let (verbs, why): (&[&str], _) = if kind.is_modelled() {
            (&FOLLOW, modelled)
        } else {
            (&["list"], foreign)
        };
        Rule::new(kind.group, &[kind.plural], verbs, why)
    }));
    rules
}

fn controller_writes() -> Vec<Rule> {
    vec![
        Rule::new(
            "",
            &["namespaces"],
            &["list", "watch", "patch"],
            "reads stage and mode; writes the two annotations of the seal and the open list, never a label",
        ),
        Rule::new(
            NETWORKING,
            &["networkpolicies"],
            &["list", "watch", "create", "patch", "delete"],
            "reads all, for the analysis; writes its own, whose names are not known beforehand",
        ),
        Rule::new(
            ADMISSION,
            &[
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "validatingwebhookconfigurations",
            ],
            &FOLLOW,
            "sees drift and repairs it",
        ),
        Rule::new(
            ADMISSION,
            &["validatingadmissionpolicies"],
            &["create", "patch", "update", "delete"],
            "writes its own policies and no other; `update` takes off what an apply cannot",
        )
        .named(ADMISSION_POLICIES),
        Rule::new(
            ADMISSION,
            &["validatingadmissionpolicybindings"],
            &["create", "patch", "update", "delete"],
            "writes its own bindings and no other; `update` takes off what an apply cannot",
        )
        .named(binding_names()),
        Rule::new(
            ADMISSION,
            &["validatingwebhookconfigurations"],
            &["create", "patch", "update", "delete"],
            "writes the configuration of its own webhook and no other; `update` takes off what an apply cannot",
        )
        .named([WEBHOOK_CONFIGURATION]),
        Rule::new(
            cluster_policy::GROUP,
            &[cluster_policy::PLURAL],
            &["create", "patch", "update", "delete"],
            "writes the denies between stages and no other; `update` takes off what an apply cannot",
        )
        .named(STAGE_POLICIES),
        Rule::new(
            GROUP,
            &["aisecuritypolicies"],
            &["create"],
            "the empty policy of the first start; afterwards only people write it",
        ),
        Rule::new(
            GROUP,
            &[
                "aisecuritypolicies/status",
                "aiworkloads/status",
                "secretencryptions/status",
                "waivers/status",
            ],
            &["patch"],
            "what was found",
        ),
        Rule::new(
            RBAC,
            &["clusterrolebindings"],
            &["get", "delete"],
            "takes back the sweeper's roles that a killed run left lent",
        )
        .named(SWEEPER_ROLES),
        Rule::new(
            "events.k8s.io",
            &["events"],
            &["create", "patch"],
            "tells the author what happened",
        ),
    ]
}

fn controller_own_namespace() -> Vec<Rule> {
    vec![
        Rule::new(
            LEASES,
            &["leases"],
            &["create"],
            "its Lease, which is posted and so cannot be limited by name",
        ),
        Rule::new(LEASES, &["leases"], &["get", "patch"], "one leader at a time").named([CONTROLLER_LEASE]),
        Rule::new("", &["configmaps"], &FOLLOW, "the stop button").named([OFF_CONFIGMAP]),
        Rule::new(
            "",
            &["serviceaccounts/token"],
            &["create"],
            "short tokens of the canary, which alone tries what must be refused",
        )
        .named([CANARY_ACCOUNT]),
    ]
}

/// Tries what must be refused, as a dry-run, from a place where nothing runs. No policy exempts it.
fn canary() -> Component {
    let dry_run = CANARY_RIGHTS.iter().map(|right| {
        let why = "sends, as a dry-run, what our policies must refuse and what they must let through";
        Rule::new(right.group, &[right.resource], right.verbs, why).named(right.names.iter().copied())
    });
    Component {
        name: "canary",
        account: CANARY_ACCOUNT,
        lent: false,
        grants: vec![
            Grant {
                name: "cloison-canary",
                scope: Scope::Cluster,
                rules: vec![Rule::path(
                    "/metrics",
                    &["get"],
                    "each API server's encryption configuration hash and counters",
                )],
            },
            Grant {
                name: CANARY_ROLE,
                scope: Scope::Namespace(CANARY_NAMESPACE),
                rules: dry_run.collect(),
            },
            Grant {
                name: "cloison-canary-secret",
                scope: Scope::Operator,
                rules: vec![
                    Rule::new(
                        "",
                        &["secrets"],
                        &["create", "patch"],
                        "writes one Secret of its own, without content that matters, to see how it is stored; never reads it",
                    )
                    .named([CANARY_SECRET]),
                ],
            },
        ],
    }
}

/// Judges for the API server what takes a look at other objects. Writes its certificate, and nothing a tenant could name.
fn webhook() -> Component {
    let facts = "which networks are the cluster's own: an ipBlock that meets them may lead to pods";
    let mut cluster = vec![
        Rule::new(
            GROUP,
            &["aisecuritypolicies", "aiworkloads", "waivers"],
            &FOLLOW,
            "what a request is judged by",
        ),
        Rule::new(
            "",
            &["namespaces"],
            &["get", "list", "watch"],
            "stage and mode; one by one where a request is about a namespace that was made a moment ago",
        ),
        Rule::new("", &["nodes"], &["list"], facts),
        Rule::new(NETWORKING, &["servicecidrs"], &["list"], facts),
        Rule::new(
            "",
            &["services"],
            &["get"],
            "the addresses of DNS and of the API server",
        )
        .named(["dns-default", "kube-dns", "kubernetes"]),
        Rule::new(
            "",
            &["persistentvolumes"],
            &["get"],
            "whose volume it was that a claim names",
        ),
        Rule::new(
            "",
            &["pods"],
            &["list"],
            "whether pods of an AiWorkload that is deleted still run; asks for metadata alone",
        ),
    ];
    cluster.push(
        Rule::new(
            ADMISSION,
            &["validatingwebhookconfigurations"],
            &["get", "list", "watch", "patch"],
            "writes its authority into the configuration; admission lets it change nothing else there",
        )
        .named([WEBHOOK_CONFIGURATION]),
    );
    Component {
        name: "webhook",
        account: WEBHOOK_ACCOUNT,
        lent: false,
        grants: vec![
            Grant {
                name: "cloison-webhook",
                scope: Scope::Cluster,
                rules: cluster,
            },
            Grant {
                name: "cloison-webhook",
                scope: Scope::Operator,
                rules: vec![
                    Rule::new(
                        "",
                        &["secrets"],
                        &["get", "list", "watch", "update"],
                        "its authority and certificate, which the replicas share; `update`, because of two that write one wins",
                    )
                    .named([WEBHOOK_SECRET]),
                ],
            },
            Grant {
                name: "cloison-webhook-discovery",
                scope: Scope::Namespace("kube-system"),
                rules: vec![
                    Rule::new("apps", &["daemonsets"], &["get"], "whether nodes have a DNS cache")
                        .named(["node-local-dns"]),
                ],
            },
            Grant {
                name: "cloison-webhook-endpoints",
                scope: Scope::Namespace("default"),
                rules: vec![Rule::new(
                    "discovery.k8s.io",
                    &["endpointslices"],
                    &FOLLOW,
                    "the address of every API server, which no flow may lead to",
                )],
            },
        ],
    }
}
