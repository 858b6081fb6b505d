//! Every name the program is known by in a cluster. A name here never changes: field managers and labels that were
//! written by an older version must still be recognised as ours.

/// The API group.
pub const GROUP: &str = "cloison.dev";
/// The served version.
pub const VERSION: &str = "v1alpha1";

/// Namespace label: the stage. Written by the admin.
pub const STAGE_LABEL: &str = "cloison.dev/stage";
/// Namespace label: `audit`, `warn` or `enforce`. Written by the admin; absent means the policy's default.
pub const MODE_LABEL: &str = "cloison.dev/mode";
/// Pod label: the `AiWorkload` a pod belongs to. Absent means [`DEFAULT_WORKLOAD`].
pub const WORKLOAD_LABEL: &str = "cloison.dev/workload";
/// Namespace annotation, written by the controller: `<namespace uid>/<stage>` once the deny is in place. Sticky.
pub const SEALED_ANNOTATION: &str = "cloison.dev/sealed";
/// Namespace annotation, written by the controller: the workloads that exist, and after a colon the controls that keep
/// a gate closed, for instance `default road-train face-id:EVD-02`.
pub const OPEN_ANNOTATION: &str = "cloison.dev/open";
/// Most workload names the open list holds.
pub const OPEN_LIMIT: usize = 500;
/// `AiWorkload` annotation: the reason of a quarantine.
pub const QUARANTINE_ANNOTATION: &str = "cloison.dev/quarantine";
/// The `AiWorkload` that pods without [`WORKLOAD_LABEL`] belong to.
pub const DEFAULT_WORKLOAD: &str = "default";
/// The label the API server itself writes on every Namespace with its name, and rewrites when someone forges it.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The field manager of every object the controller applies. Renaming it would be a migration.
pub const FIELD_MANAGER: &str = "cloison";
/// The field manager of the order to the agents: the status around it is another loop's.
pub const ORDER_MANAGER: &str = "cloison-order";
/// The field manager of statuses and of the namespace annotations.
pub const STATUS_MANAGER: &str = "cloison-status";

/// Labels on every object of ours; `cloison-managed` guards whatever carries the second.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// See [`PART_OF_LABEL`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of both labels.
pub const CLOISON: &str = "cloison";
/// Label on generated admission objects: the hash of the policy they were generated from.
pub const POLICY_HASH_LABEL: &str = "cloison.dev/policy-hash";

/// The namespace-wide default deny of a stage namespace.
pub const DENY_POLICY: &str = "cloison-ns-deny";
/// Prefix of a workload's policy: `cloison-wl-<workload>`.
pub const WORKLOAD_POLICY_PREFIX: &str = "cloison-wl-";
/// Prefix of a catalogue service's policy: `cloison-svc-<entry>`.
pub const SERVICE_POLICY_PREFIX: &str = "cloison-svc-";

/// Prefix of the ClusterNetworkPolicies that keep a stage from the others: `cloison-stage-<stage>`.
pub const STAGE_POLICY_PREFIX: &str = "cloison-stage-";
/// All of them. The chart's role names each one.
pub const STAGE_POLICIES: [&str; 3] = [
    "cloison-stage-training",
    "cloison-stage-evaluation",
    "cloison-stage-inference",
];

/// The name of the singletons `AiSecurityPolicy`, `SecretEncryption` and `EncryptionKeyRing`.
pub const SINGLETON: &str = "default";
/// The ConfigMap, in the operator's namespace and outside the chart, that stops everything while it exists.
pub const OFF_CONFIGMAP: &str = "cloison-off";
/// The Lease of the controller.
pub const CONTROLLER_LEASE: &str = "cloison-controller";
/// The namespace the chart is installed into unless told otherwise.
pub const DEFAULT_NAMESPACE: &str = "cloison-system";
/// ServiceAccount of the controller.
pub const CONTROLLER_ACCOUNT: &str = "cloison-controller";
/// ServiceAccount of the admission and encryption canaries: no exemption anywhere.
pub const CANARY_ACCOUNT: &str = "cloison-canary";
/// ServiceAccount of the agents on control-plane nodes.
pub const AGENT_ACCOUNT: &str = "cloison-agent";
/// In a token that is bound to a pod: the node the pod runs on. The API server writes it, nobody else can.
pub const TOKEN_NODE: &str = "authentication.kubernetes.io/node-name";
/// ServiceAccount of the webhook; also the name of its Service and Deployment.
pub const WEBHOOK_ACCOUNT: &str = "cloison-webhook";
/// The ValidatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &str = "cloison-webhook";
/// The Secret with the webhook's authority and certificate, shared by its replicas.
pub const WEBHOOK_SECRET: &str = "cloison-webhook-certificates";
/// The field manager of the CA bundle in the configuration; everything else of it is the controller's.
pub const WEBHOOK_MANAGER: &str = "cloison-webhook";
/// On `SecretEncryption`: the hash of an EncryptionConfiguration that somebody else wrote and that the agents may take over.
pub const ADOPT_ANNOTATION: &str = "cloison.dev/adopt";
/// On `SecretEncryption`: asks for a rotation now, once for each value; a time, or any text of at most 63 characters.
pub const ROTATION_ANNOTATION: &str = "cloison.dev/rotation-requested-time";
/// On `SecretEncryption`: names of keys that are given up, with commas between them. A rotation to one of them is rolled
/// back.
pub const ABANDONED_ANNOTATION: &str = "cloison.dev/abandoned-keys";
/// On `SecretEncryption`: the time at which a person had made sure that no plaintext from before is left beside etcd's
/// present content: every member was defragmented, and older snapshots are gone.
pub const PURGED_ANNOTATION: &str = "cloison.dev/plaintext-purged-time";
/// Label of the Nodes that run API servers. kubeadm and its relatives write it.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// The namespace the canaries live in; labelled as a stage namespace in mode enforce, and nothing ever runs there.
pub const CANARY_NAMESPACE: &str = "cloison-canary";
/// The canary's Role in its namespace.
pub const CANARY_ROLE: &str = "cloison-canary-dry-run";
/// The Secret written to see how the API server stores new values.
pub const CANARY_SECRET: &str = "cloison-encryption-canary";

/// ServiceAccount under which stored Secrets are read and rewritten. It has no right until one of the two roles below is
/// lent to it.
pub const SWEEPER_ACCOUNT: &str = "cloison-sweeper";
/// The ClusterRole, and while it is lent also the binding, that rewrites Secrets.
pub const SWEEPER_ROLE: &str = "cloison-sweeper";
/// The ClusterRole, and while it is lent also the binding, that reads them.
pub const SWEEPER_READS_ROLE: &str = "cloison-sweeper-reads";
/// Both of them.
pub const SWEEPER_ROLES: [&str; 2] = [SWEEPER_ROLE, SWEEPER_READS_ROLE];
/// Annotation of such a binding: until when it is lent. Whoever lent it prolongs it; afterwards the controller takes it
/// away.
pub const LENT_UNTIL_ANNOTATION: &str = "cloison.dev/lent-until";
/// Annotation of such a binding: the run that lent it.
pub const LENT_BY_ANNOTATION: &str = "cloison.dev/lent-by";

/// The namespace of the packet canary that answers. Of no stage, so that nothing of it counts in an analysis.
pub const PACKETS_SERVER_NAMESPACE: &str = "cloison-packets-server";
/// The namespace of the packet canary that asks.
pub const PACKETS_CLIENT_NAMESPACE: &str = "cloison-packets-client";
/// Both of them.
pub const PACKETS_NAMESPACES: [&str; 2] = [PACKETS_CLIENT_NAMESPACE, PACKETS_SERVER_NAMESPACE];
/// The ServiceAccount of both pods, in both namespaces: without a token and without a right.
pub const PACKETS_ACCOUNT: &str = "cloison-packets";
/// The pod of the packet canary that answers.
pub const PACKETS_SERVER: &str = "server";
/// The pod of the packet canary that asks.
pub const PACKETS_CLIENT: &str = "client";
/// The NetworkPolicy of each of the two namespaces.
pub const PACKETS_POLICY: &str = "cloison-packets";

/// Group of the virtual verbs asked with CEL's `authorizer`: `assign stages`, `release quarantines`,
/// `bypass protections`.
pub const VIRTUAL_GROUP: &str = GROUP;

/// The admission policies the controller writes. The chart's role names each one.
pub const ADMISSION_POLICIES: [&str; 10] = [
    "cloison-connect",
    "cloison-crd",
    "cloison-guard",
    "cloison-managed",
    "cloison-namespace",
    "cloison-net",
    "cloison-pod",
    "cloison-rbac",
    "cloison-store",
    "cloison-templates",
];
/// A policy's bindings are called `<policy>-<suffix>`, one for each mode of a namespace.
pub const BINDING_SUFFIXES: [&str; 3] = ["audit", "deny", "warn"];
/// The ClusterRole of the controller. It owns the admission policies and bindings, so that they go when the release goes.
pub const CONTROLLER_ROLE: &str = "cloison-controller";
