//! The roles that an admin gives to people.

use super::{PeopleRole, Rule, binding_names};
use crate::api::names::{
    ADMISSION_POLICIES, CONTROLLER_LEASE, GROUP, OFF_CONFIGMAP, STAGE_POLICIES, VIRTUAL_GROUP, WEBHOOK_CONFIGURATION,
};
use crate::network::cluster_policy;

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 4] = ["create", "update", "patch", "delete"];

/// Every role, sorted by name.
pub fn people() -> Vec<PeopleRole> {
    vec![
        admin(),
        approver(),
        auditor(),
        PeopleRole {
            name: "cloison-catalogue-reader",
            purpose: "Reads the policy: the catalogue of shared services, and what is refused",
            aggregate_to: vec![],
            rules: vec![Rule::new(
                GROUP,
                &["aisecuritypolicies"],
                &READ,
                "`cloison catalogue`, and checks before a merge, need the policy they are judged by",
            )],
        },
        PeopleRole {
            name: "cloison-editor",
            purpose: "Writes AiWorkloads",
            aggregate_to: vec!["edit", "admin"],
            rules: vec![Rule::new(
                GROUP,
                &["aiworkloads"],
                &WRITE,
                "who may write a Deployment declares its flows",
            )],
        },
        onboarder(),
        PeopleRole {
            name: "cloison-viewer",
            purpose: "Reads AiWorkloads",
            aggregate_to: vec!["view", "edit", "admin"],
            rules: vec![Rule::new(
                GROUP,
                &["aiworkloads"],
                &READ,
                "a workload and what was found are no secret to those who may look",
            )],
        },
    ]
}

fn admin() -> PeopleRole {
    let mut rules = admin_rules();
    rules.extend(stop_button());
    PeopleRole {
        name: "cloison-admin",
        purpose: "Runs Cloison: writes the policy, the encryption and waivers; releases; repairs; stops. Approves nothing",
        aggregate_to: vec![],
        rules,
    }
}

/// What `off`, `on` and `offboard` do: nothing of it writes, and all but NetworkPolicies is named.
fn stop_button() -> Vec<Rule> {
    const ADMISSION: &str = "admissionregistration.k8s.io";
    vec![
        Rule::new(
            "",
            &["configmaps"],
            &["get", "create", "patch", "delete"],
            "the stop button: cloison off, on; by hand it takes kubectl apply --server-side",
        )
        .named([OFF_CONFIGMAP]),
        Rule::new(
            ADMISSION,
            &[
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "validatingwebhookconfigurations",
            ],
            &["list"],
            "the stop button sees what is still there",
        ),
        Rule::new(
            ADMISSION,
            &["validatingadmissionpolicies"],
            &["delete"],
            "cloison offboard takes our own policies and no other",
        )
        .named(ADMISSION_POLICIES),
        Rule::new(
            ADMISSION,
            &["validatingadmissionpolicybindings"],
            &["delete"],
            "the stop button takes our own bindings and no other",
        )
        .named(binding_names()),
        Rule::new(
            ADMISSION,
            &["validatingwebhookconfigurations"],
            &["delete"],
            "the stop button takes the configuration of our own webhook and no other",
        )
        .named([WEBHOOK_CONFIGURATION]),
        Rule::new(
            "networking.k8s.io",
            &["networkpolicies"],
            &["list", "delete"],
            "the stop button opens the network; the names of ours are not known beforehand",
        ),
        Rule::new(
            cluster_policy::GROUP,
            &[cluster_policy::PLURAL],
            &["list"],
            "the stop button sees what is still there",
        ),
        Rule::new(
            cluster_policy::GROUP,
            &[cluster_policy::PLURAL],
            &["delete"],
            "the stop button takes the denies between stages and no other",
        )
        .named(STAGE_POLICIES),
    ]
}

fn admin_rules() -> Vec<Rule> {
    vec![
        Rule::new(
            GROUP,
            &["aisecuritypolicies", "aiworkloads", "secretencryptions", "waivers"],
            &["get", "list", "watch", "create", "update", "patch", "delete"],
            "every object of ours; approvals are the approver's",
        ),
        Rule::new(
            GROUP,
            &["controlplanereports", "encryptionkeyrings"],
            &READ,
            "what the agents see, and the ring, in which every key is sealed; the agents write both",
        ),
        Rule::new(
            GROUP,
            &["encryptionkeyrings/status"],
            &["patch", "update"],
            "lets a new control-plane node hold the keys: cloison ring approve",
        ),
        Rule::new(
            VIRTUAL_GROUP,
            &["stages"],
            &["assign"],
            "moves namespaces between stages and modes",
        ),
        Rule::new(VIRTUAL_GROUP, &["quarantines"], &["release"], "ends a quarantine"),
        Rule::new(
            VIRTUAL_GROUP,
            &["protections"],
            &["bypass"],
            "repairs our objects by hand; persons only",
        ),
        Rule::new(
            "",
            &["namespaces"],
            &["get", "list", "watch", "patch"],
            "stage and mode are labels of namespaces",
        ),
        Rule::new(
            "coordination.k8s.io",
            &["leases"],
            &["get"],
            "whether a controller still looks after what is shown: cloison status, cloison encryption status",
        )
        .named([CONTROLLER_LEASE]),
    ]
}

fn approver() -> PeopleRole {
    PeopleRole {
        name: "cloison-approver",
        purpose: "Approves waivers that somebody else asked for",
        aggregate_to: vec![],
        rules: vec![
            Rule::new(GROUP, &["waivers"], &READ, "reads what it approves"),
            Rule::new(
                GROUP,
                &["waivers/status"],
                &["update", "patch"],
                "the approval is in the status; who asks cannot write it",
            ),
        ],
    }
}

fn onboarder() -> PeopleRole {
    PeopleRole {
        name: "cloison-onboarder",
        purpose: "Puts namespaces into a stage and a mode: for admins, and for tools that make namespaces",
        aggregate_to: vec![],
        rules: vec![
            Rule::new(
                VIRTUAL_GROUP,
                &["stages"],
                &["assign"],
                "the guard of their labels asks for it",
            ),
            Rule::new(
                "",
                &["namespaces"],
                &["get", "list", "watch", "patch"],
                "the labels are on the namespace",
            ),
        ],
    }
}

/// No wildcard: a new kind is not readable before somebody thought about it, and Secrets never are.
fn auditor() -> PeopleRole {
    PeopleRole {
        name: "cloison-auditor",
        purpose: "Reads what a report needs, everywhere; never Secrets, never logs",
        aggregate_to: vec![],
        rules: READABLE
            .iter()
            .map(|(group, why, resources)| Rule::new(group, resources, &READ, why))
            .collect(),
    }
}

/// What an auditor reads: group, reason, resources.
const READABLE: [(&str, &str, &[&str]); 18] = [
    (
        GROUP,
        "what was asked for, found and approved",
        &[
            "aisecuritypolicies",
            "aiworkloads",
            "controlplanereports",
            "secretencryptions",
            "waivers",
        ],
    ),
    (
        "",
        "what runs, under which account; evidence is in ConfigMaps",
        &[
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "apps",
        "who made a pod",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
    ),
    ("batch", "who made a pod", &["cronjobs", "jobs"]),
    (
        "networking.k8s.io",
        "what may talk to what",
        &[
            "ingressclasses",
            "ingresses",
            "ipaddresses",
            "networkpolicies",
            "servicecidrs",
        ],
    ),
    (
        "policy.networking.k8s.io",
        "cluster-wide policies change what NetworkPolicies mean",
        &[
            "adminnetworkpolicies",
            "baselineadminnetworkpolicies",
            "clusternetworkpolicies",
        ],
    ),
    ("discovery.k8s.io", "what is behind a Service", &["endpointslices"]),
    ("policy", "what may be evicted", &["poddisruptionbudgets"]),
    (
        "rbac.authorization.k8s.io",
        "who may do what",
        &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
    ),
    (
        "admissionregistration.k8s.io",
        "what is refused, and by whom",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    (
        "apiextensions.k8s.io",
        "which policy kinds the cluster serves",
        &["customresourcedefinitions"],
    ),
    (
        "apiregistration.k8s.io",
        "which APIs somebody else answers for",
        &["apiservices"],
    ),
    ("coordination.k8s.io", "how old the last proof is", &["leases"]),
    (
        "storage.k8s.io",
        "where data is stored",
        &["csidrivers", "storageclasses", "volumeattachments"],
    ),
    ("node.k8s.io", "which pods are sandboxed", &["runtimeclasses"]),
    ("scheduling.k8s.io", "what is evicted last", &["priorityclasses"]),
    (
        "certificates.k8s.io",
        "who asks for an identity",
        &["certificatesigningrequests"],
    ),
    ("events.k8s.io", "what happened", &["events"]),
];
