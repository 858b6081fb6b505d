//! What Helm makes of the chart without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cloison::api::names;
use cloison::cluster::roles::{PeopleRole, components, people};
use cloison_testbed::Tool;
use serde_json::Value;

use crate::{NAMESPACE, documents, root, run, template};

/// Sets of values that differ in what is rendered.
const VARIANTS: [&[&str]; 5] = [
    &["--set", "agent.enabled=true"],
    &[],
    &["--set", "crds.install=false,rbac.people=false"],
    &["--set", "controller.replicas=2,rbac.aggregate=false,crds.keep=false"],
    &[
        "--set-json",
        r#"controller.tolerations=[{"operator":"Exists"}],commonLabels={"team":"security"},rbac.catalogueReaders=[]"#,
    ],
];

#[test]
fn lint_has_nothing_to_say() {
    for variant in VARIANTS {
        let mut args = vec!["lint", "--strict", "charts/cloison"];
        args.extend(variant);
        run(Tool::Helm, None, &args).fine();
    }
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for variant in VARIANTS {
        assert_eq!(template(variant).fine(), template(variant).fine(), "{variant:?}");
    }
}

#[test]
fn templates_call_nothing_that_answers_differently_tomorrow() {
    for entry in fs::read_dir(root().join("charts/cloison/templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let mut rest = text.as_str();
        while let Some((_, tail)) = rest.split_once("{{") {
            let (action, after) = tail.split_once("}}").unwrap();
            rest = after;
            if action.trim_start_matches('-').trim_start().starts_with("/*") {
                continue;
            }
            let words: BTreeSet<&str> = action.split(|c: char| !c.is_alphanumeric()).collect();
            for word in [
                "lookup",
                "now",
                "uuidv4",
                "getHostByName",
                "env",
                "expandenv",
                "Capabilities",
            ] {
                assert!(!words.contains(word), "{}: {word}", path.display());
            }
            let generator = words
                .iter()
                .find(|word| word.starts_with("gen") || word.starts_with("rand"));
            assert_eq!(generator, None, "{}", path.display());
        }
    }
}

#[test]
fn no_field_is_rendered_that_a_component_writes() {
    for variant in VARIANTS {
        for object in documents(&template(variant).fine()) {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            for key in ["data", "stringData", "webhooks", "status"] {
                assert!(object.get(key).is_none(), "{name}: {key}");
            }
            let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
            for key in annotations.into_iter().flatten().map(|(key, _)| key) {
                assert!(!key.starts_with("cloison.dev/"), "{name}: {key}");
            }
            // Admission policies are the controller's, and what it guards carries this label.
            assert!(!object["kind"].as_str().unwrap().contains("Admission"), "{name}");
            assert_eq!(
                object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm",
                "{name}"
            );
        }
    }
}

#[test]
fn roles_are_those_of_the_code_in_the_namespace_of_the_release() {
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    let objects = components()
        .iter()
        .flat_map(|component| component.objects(NAMESPACE))
        .collect::<Vec<_>>();
    for object in objects.into_iter().chain(people().iter().map(PeopleRole::object)) {
        wanted.insert(identity(&object), without_labels(object));
    }
    let roles = |arguments: &[&str]| -> BTreeMap<String, Value> {
        documents(&template(arguments).fine())
            .into_iter()
            .filter(|object| object["apiVersion"] == "rbac.authorization.k8s.io/v1")
            .map(|object| (identity(&object), without_labels(object)))
            .filter(|(identity, _)| identity != "ClusterRoleBinding//cloison-catalogue-reader")
            .collect()
    };
    let (reads, agents) = (["--set", "encryption.readStored=true"], ["--set", "agent.enabled=true"]);
    let rendered = roles(&[reads, agents].concat());
    // Without these values nothing lends the right to read or to rewrite Secrets.
    for (arguments, left_out) in [(&reads, ["/cloison-rotator"]), (&agents, ["/cloison-lender"])] {
        let mut asked: Vec<String> = rendered.keys().cloned().collect();
        asked.retain(|identity| !left_out.iter().any(|role| identity.ends_with(role)));
        assert_eq!(roles(arguments).into_keys().collect::<Vec<_>>(), asked);
        assert_eq!(asked.len() + 4, rendered.len());
    }
    assert_eq!(roles(&[]).len() + 8, rendered.len());
    assert_eq!(rendered.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (identity, object) in rendered {
        assert_eq!(object, wanted[&identity], "{identity}");
    }
}

fn identity(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "{}/{}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

/// Labels but the aggregating ones, which change rights.
fn without_labels(mut object: Value) -> Value {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| key.starts_with("rbac.authorization.k8s.io/"));
    }
    object
}

#[test]
fn every_account_is_bound_and_every_binding_has_an_account() {
    let objects = documents(&template(&[]).fine());
    let accounts: BTreeSet<&str> = objects
        .iter()
        .filter(|object| object["kind"] == "ServiceAccount")
        .inspect(|account| assert_eq!(account["automountServiceAccountToken"], false))
        .map(|account| account["metadata"]["name"].as_str().unwrap())
        // The packet canary's pods need no right at all; the sweeper has one only while it runs.
        .filter(|name| ![names::PACKETS_ACCOUNT, names::SWEEPER_ACCOUNT].contains(name))
        .collect();
    let bound: BTreeSet<&str> = objects
        .iter()
        .filter_map(|object| object["subjects"].as_array())
        .flatten()
        .filter(|subject| subject["kind"] == "ServiceAccount")
        .inspect(|subject| assert_eq!(subject["namespace"], NAMESPACE))
        .map(|subject| subject["name"].as_str().unwrap())
        .collect();
    assert_eq!(accounts, bound);
    assert_eq!(
        accounts,
        BTreeSet::from([
            "cloison-agent",
            "cloison-canary",
            "cloison-controller",
            "cloison-webhook"
        ])
    );
}

#[test]
fn only_the_catalogue_is_open_to_everybody() {
    let groups = |args: &[&str]| -> Vec<(String, String)> {
        documents(&template(args).fine())
            .iter()
            .filter_map(|object| Some((object["roleRef"]["name"].as_str()?, object["subjects"].as_array()?)))
            .flat_map(|(role, subjects)| subjects.iter().map(move |subject| (role, subject)))
            .filter(|(_, subject)| subject["kind"] != "ServiceAccount")
            .map(|(role, subject)| (role.to_owned(), subject["name"].as_str().unwrap().to_owned()))
            .collect()
    };
    let reader = |group: &str| ("cloison-catalogue-reader".to_owned(), group.to_owned());
    assert_eq!(groups(&[]), [reader("system:authenticated")]);
    assert_eq!(
        groups(&["--set-json", r#"rbac.catalogueReaders=["a","b"]"#]),
        [reader("a"), reader("b")]
    );
    assert_eq!(groups(&["--set-json", "rbac.catalogueReaders=[]"]), []);
}

#[test]
fn aggregation_and_the_keeping_of_definitions_follow_the_values() {
    let count = |args: &[&str], text: &str| template(args).fine().matches(text).count();
    assert_eq!(count(&[], "aggregate-to-"), 5);
    assert_eq!(count(&["--set", "rbac.aggregate=false"], "aggregate-to-"), 0);
    assert_eq!(count(&[], "kind: CustomResourceDefinition"), 6);
    assert_eq!(count(&[], "helm.sh/resource-policy: keep"), 6);
    assert_eq!(count(&["--set", "crds.keep=false"], "helm.sh/resource-policy"), 0);
    assert_eq!(
        count(&["--set", "crds.install=false"], "kind: CustomResourceDefinition"),
        0
    );
}

#[test]
fn the_pods_are_restricted_ones() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let objects = documents(&template(&["--set", &format!("image.digest={digest},image.tag=ignored")]).fine());
    let deployments = objects.iter().filter(|object| object["kind"] == "Deployment");
    let mut verbs = BTreeSet::new();
    for deployment in deployments {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["image"], format!("ghcr.io/cloison/cloison@{digest}"));
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
        verbs.insert(container["args"][0].as_str().unwrap().to_owned());
    }
    assert_eq!(verbs, ["controller", "webhook"].map(str::to_owned).into());
}

#[test]
fn without_the_webhook_nothing_of_it_is_there() {
    let text = template(&["--set", "webhook.enabled=false"]).fine();
    let names: Vec<String> = documents(&text).iter().map(identity).collect();
    assert!(names.iter().all(|name| !name.contains("cloison-webhook")), "{names:?}");
    assert!(text.contains("name: CLOISON_WEBHOOK\n              value: \"false\""));
    // A Secret of cert-manager is not ours to render.
    let names = |values: &str| -> Vec<String> {
        documents(&template(&["--set", values]).fine())
            .iter()
            .map(identity)
            .collect()
    };
    let secret = format!("Secret/{NAMESPACE}/cloison-webhook-certificates");
    assert!(names("webhook.replicas=2").contains(&secret));
    assert!(!names("webhook.externalCertificates=true").contains(&secret));
}

#[test]
fn the_agent_runs_only_when_asked_and_mounts_its_directory_under_one_path() {
    let daemon = |args: &[&str]| {
        documents(&template(args).fine())
            .into_iter()
            .find(|object| object["kind"] == "DaemonSet")
    };
    assert!(daemon(&[]).is_none());
    let daemon = daemon(&["--set", "agent.enabled=true,agent.directory=/srv/keys"]).unwrap();
    let pod = &daemon["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["nodeSelector"]["node-role.kubernetes.io/control-plane"], "");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    // The folder and not the file, and the same path on the host: the flags of the API server name it.
    assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/srv/keys");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/srv/keys");
    let writable = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["readOnly"] != true);
    assert_eq!(writable.count(), 1, "it changes nothing else of the node");
}

#[test]
fn the_agent_is_told_where_the_node_has_things_and_is_asked_whether_it_works() {
    let container = |values: &str| {
        let objects = documents(&template(&["--set", &format!("agent.enabled=true{values}")]).fine());
        let daemon = objects
            .into_iter()
            .find(|object| object["kind"] == "DaemonSet")
            .unwrap();
        daemon["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let has =
        |container: &Value, argument: &str| container["args"].as_array().unwrap().iter().any(|one| one == argument);
    let usual = container("");
    assert!(has(&usual, "--manifest=/etc/kubernetes/manifests/kube-apiserver.yaml"));
    assert!(has(&usual, "--etcd-prefix=/registry"));
    // Nobody beside the node reaches it, unless somebody says so.
    assert!(has(&usual, "--health-address=127.0.0.1:8090"));
    let ready = &usual["readinessProbe"]["httpGet"];
    assert_eq!(
        (&ready["path"], &ready["host"]),
        (&"/readyz".into(), &"127.0.0.1".into())
    );
    let other = container(",agent.manifest=/srv/pods/api.yaml,agent.etcd.prefix=/other,agent.metricsAddress=0.0.0.0");
    assert!(has(&other, "--manifest=/srv/pods/api.yaml"));
    assert!(has(&other, "--etcd-prefix=/other"));
    assert!(has(&other, "--health-address=0.0.0.0:8090"));
    assert_eq!(
        other["volumeMounts"][1]["mountPath"], "/srv/pods",
        "what is named is mounted"
    );
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let refused = [
        ("bogus=1", "additional properties 'bogus' not allowed"),
        ("controler.replicas=2", "additional properties 'controler' not allowed"),
        ("controller.replica=2", "additional properties 'replica' not allowed"),
        ("controller.replicas=many", "got string, want integer"),
        ("controller.replicas=-1", "minimum"),
        ("controller.replicas=50", "maximum"),
        ("controller.logFormat=xml", "value must be one of"),
        ("image.digest=sha256:abc", "does not match pattern"),
        (
            "image.repository=registry.example.com/cloison:v1",
            "does not match pattern",
        ),
        ("image.pullPolicy=Sometimes", "value must be one of"),
        ("crds.keep=perhaps", "got string, want boolean"),
        ("crds.enabled=true", "additional properties 'enabled' not allowed"),
        ("agent.metricsAddress=::", "value must be one of"),
        ("rbac.catalogueReaders=everybody", "got string, want array"),
        ("imagePullSecrets=secret", "got string, want array"),
    ];
    for (value, says) in refused {
        let said = template(&["--set", value]);
        assert!(!said.ok, "{value} is accepted");
        assert!(said.err.contains(says), "{value}: {}", said.err);
    }
    template(&[
        "--set",
        "image.repository=registry.example.com:5000/cloison,image.tag=v1",
    ])
    .fine();
}

#[test]
fn editors_and_kubeconform_find_a_misspelt_field() {
    let location = "crds/schema/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json";
    let check = |file: &str| {
        run(
            Tool::Kubeconform,
            None,
            &[
                "-strict",
                "-output",
                "json",
                "-summary",
                "-ignore-missing-schemas",
                "-schema-location",
                location,
                file,
            ],
        )
    };
    let mut ours = 0;
    let mut files: Vec<_> = fs::read_dir(root().join("examples/quickstart"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    for file in &files {
        let said = check(file.to_str().unwrap());
        let summary: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(summary["summary"]["invalid"], 0, "{}: {}", file.display(), said.out);
        assert_eq!(summary["summary"]["errors"], 0, "{}: {}", file.display(), said.out);
        ours += summary["summary"]["valid"].as_u64().unwrap();
    }
    // Without schemas of built-in kinds those are skipped; the API server judges them in examples.rs.
    assert_eq!(ours, 4, "the policy and three workloads were to be checked");

    let folder = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(root().join("examples/quickstart/6-inference-workload.yaml")).unwrap();
    for (from, to) in [
        ("    connectTo:", "    connectsTo:"),
        ("  stage: Inference", "  stage: Serving"),
        ("  owner: vision-team@example.com\n", ""),
        (
            "apiVersion: cloison.dev/v1alpha1",
            "apiVersion: cloison.dev/v1alpha1\nspecs: {}",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let file = folder.path().join("bad.yaml");
        fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let said = check(file.to_str().unwrap());
        let summary: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(summary["summary"]["invalid"], 1, "{to}: {}", said.out);
    }
}
