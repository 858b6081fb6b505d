//! What rotates keys and sweeps Secrets.

use super::super::{Component, Grant, LENDER, ROTATOR, Rule, Scope};
use super::RBAC;
use crate::api::names::{
    AGENT_ACCOUNT, CONTROLLER_ACCOUNT, GROUP, SINGLETON, SWEEPER_ACCOUNT, SWEEPER_READS_ROLE, SWEEPER_ROLE,
};

/// Holds the keys on a control-plane node. Admission lets each agent write its own node's report alone.
pub(super) fn agent() -> Component {
    Component {
        name: "agent",
        account: AGENT_ACCOUNT,
        lent: false,
        grants: vec![Grant {
            name: "cloison-agent",
            scope: Scope::Cluster,
            rules: vec![
                Rule::new(
                    GROUP,
                    &["secretencryptions"],
                    &["get"],
                    "what is asked for: resources, escrow, and the configuration that every API server is to have",
                )
                .named([SINGLETON]),
                Rule::new(
                    GROUP,
                    &["encryptionkeyrings"],
                    &["create"],
                    "the first ring, which is posted and so cannot be limited by name",
                ),
                Rule::new(
                    GROUP,
                    &["encryptionkeyrings"],
                    &["get", "update"],
                    "the sealed keys; `update`, because a change is written over the version it was made from and no other",
                )
                .named([SINGLETON]),
                Rule::new(
                    GROUP,
                    &["encryptionkeyrings/status"],
                    &["update"],
                    "takes away the approval of a node that is removed; admission lets nobody but a person add one",
                )
                .named([SINGLETON]),
                Rule::new(
                    GROUP,
                    &["controlplanereports"],
                    &["create", "patch"],
                    "its node's report, whose name is not known beforehand; admission holds each agent to its own",
                ),
                Rule::path(
                    "/metrics",
                    &["get"],
                    "its own API server's configuration hash and counters",
                ),
            ],
        },
        Grant {
            name: "cloison-agent-kubeadm",
            scope: Scope::Namespace("kube-system"),
            rules: vec![Rule::new(
                "",
                &["configmaps"],
                &["get"],
                "whether the next upgrade by kubeadm keeps the flags of the API server",
            )
            .named(["kubeadm-config"])],
        }],
    }
}

/// What the controller holds besides where an admin lets it read stored Secrets: RBAC cannot limit that to metadata, so
/// whoever holds its token could then read all of them.
pub(super) fn lender() -> Component {
    Component {
        name: LENDER,
        account: CONTROLLER_ACCOUNT,
        lent: false,
        grants: vec![
            Grant {
                name: "cloison-lender",
                scope: Scope::Cluster,
                rules: vec![
                    Rule::new(
                        RBAC,
                        &["clusterrolebindings"],
                        &["create", "patch"],
                        "lends the sweeper the role to read Secrets, for `proof: Reads`",
                    )
                    .named([SWEEPER_READS_ROLE]),
                    Rule::new(
                        RBAC,
                        &["clusterroles"],
                        &["bind"],
                        "lends that role without holding its rights itself",
                    )
                    .named([SWEEPER_READS_ROLE]),
                ],
            },
            Grant {
                name: "cloison-lender",
                scope: Scope::Operator,
                rules: vec![
                    Rule::new(
                        "",
                        &["serviceaccounts/token"],
                        &["create"],
                        "short tokens of the sweeper, while it has a role",
                    )
                    .named([SWEEPER_ACCOUNT]),
                ],
            },
        ],
    }
}

/// What the controller holds besides where there are agents: it reads what they say, and lends the sweeper the role that
/// rewrites Secrets. RBAC cannot limit that to metadata, so whoever holds its token could then read all of them.
pub(super) fn rotator() -> Component {
    Component {
        name: ROTATOR,
        account: CONTROLLER_ACCOUNT,
        lent: false,
        grants: vec![
            Grant {
                name: "cloison-rotator",
                scope: Scope::Cluster,
                rules: vec![
                    Rule::new(
                        GROUP,
                        &["controlplanereports"],
                        &["list"],
                        "what each control-plane node and its API server have, and what is in etcd",
                    ),
                    Rule::new(
                        GROUP,
                        &["encryptionkeyrings"],
                        &["get"],
                        "which keys there are, and for whom they are sealed; every key in it is sealed",
                    )
                    .named([SINGLETON]),
                    Rule::new(
                        RBAC,
                        &["clusterrolebindings"],
                        &["create", "patch"],
                        "lends the sweeper the role to rewrite Secrets, while a rotation sweeps",
                    )
                    .named([SWEEPER_ROLE]),
                    Rule::new(
                        RBAC,
                        &["clusterroles"],
                        &["bind"],
                        "lends that role without holding its rights itself",
                    )
                    .named([SWEEPER_ROLE]),
                ],
            },
            Grant {
                name: "cloison-rotator",
                scope: Scope::Operator,
                rules: vec![
                    Rule::new(
                        "",
                        &["serviceaccounts/token"],
                        &["create"],
                        "short tokens of the sweeper, while it has a role",
                    )
                    .named([SWEEPER_ACCOUNT]),
                ],
            },
        ],
    }
}

/// Reads the metadata of Secrets, or rewrites them unchanged. RBAC knows no right to metadata alone, so it has none of
/// these while it does not run; what it may write, `cloison-guard` limits to nothing.
pub(super) fn sweeper() -> Component {
    Component {
        name: "sweeper",
        account: SWEEPER_ACCOUNT,
        lent: true,
        grants: vec![
            Grant {
                name: SWEEPER_ROLE,
                scope: Scope::Cluster,
                rules: vec![Rule::new(
                    "",
                    &["secrets"],
                    &["get", "list", "patch"],
                    "sends each Secret a patch that changes nothing, so that it is stored under the present key; asks for \
                     metadata alone",
                )],
            },
            Grant {
                name: SWEEPER_READS_ROLE,
                scope: Scope::Cluster,
                rules: vec![
                    Rule::new(
                        "",
                        &["secrets"],
                        &["get", "list"],
                        "reads the metadata of each Secret, when SecretEncryption asks for `proof: Reads`",
                    ),
                    Rule::path("/metrics", &["get"], "under which keys those Secrets were stored"),
                ],
            },
        ],
    }
}
