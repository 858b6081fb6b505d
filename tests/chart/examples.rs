//! Every example is accepted by a real API server and means the same to our types.

use std::fs;
use std::path::PathBuf;

use cloison::api::{AiSecurityPolicy, AiWorkload};
use cloison_testbed::Tool;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{api, documents, installed, root, run};

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("examples").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_and_round_trips() {
    let plane = installed().await;
    let kubeconfig = plane.admin_kubeconfig().unwrap();
    let client = plane.admin().unwrap();
    let mut ours = 0;
    for (folder, file) in ["quickstart", "egress-proxy"]
        .iter()
        .flat_map(|folder| files(folder).into_iter().map(move |file| (folder, file)))
    {
        let path = file.to_str().unwrap();
        let manager = format!("--field-manager={folder}");
        let apply = ["apply", "--server-side", "--validate=strict", &manager, "-f", path];
        run(Tool::Kubectl, Some(&kubeconfig), &apply).fine();
        for document in documents(&fs::read_to_string(&file).unwrap()) {
            if document["apiVersion"] != "cloison.dev/v1alpha1" {
                continue;
            }
            ours += 1;
            let kind = document["kind"].as_str().unwrap();
            let name = document["metadata"]["name"].as_str().unwrap();
            let objects = api(&client, kind, document["metadata"]["namespace"].as_str());
            let stored = serde_json::to_value(objects.get(name).await.unwrap()).unwrap();
            let encoded = match kind {
                "AiWorkload" => through::<AiWorkload>(&stored),
                "AiSecurityPolicy" => through::<AiSecurityPolicy>(&stored),
                other => panic!("an example of {other}: round-trip it here"),
            };
            assert_eq!(encoded["spec"], stored["spec"], "{path}");
            if kind == "AiSecurityPolicy" && *folder == "egress-proxy" {
                let services = stored["spec"]["network"]["services"].as_array().unwrap();
                assert_eq!(services.len(), 2, "its entry stands beside the others: {services:?}");
            }
            assert_eq!(encoded["status"], stored["status"], "{path}");
            // Applying the same file again changes nothing, so GitOps tools see no difference: the defaults are the
            // schema's. (Once, the API server stores the status that it had only defaulted until then.)
            let version_after_apply = async || {
                run(Tool::Kubectl, Some(&kubeconfig), &apply).fine();
                objects.get(name).await.unwrap().metadata.resource_version
            };
            let settled = version_after_apply().await;
            assert_eq!(version_after_apply().await, settled, "{path}");
        }
    }
    assert_eq!(ours, 6);
    // Without the controller nothing refuses these: that they are valid objects is what makes them hostile.
    for file in files("hostile") {
        let path = file.to_str().unwrap();
        let args = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            path,
        ];
        run(Tool::Kubectl, Some(&kubeconfig), &args).fine();
    }
}

fn through<K: DeserializeOwned + Serialize>(stored: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(stored.clone()).unwrap()).unwrap()
}

#[test]
fn every_file_of_our_kinds_names_its_schema() {
    let mut checked = 0;
    for file in files("quickstart").into_iter().chain(files("egress-proxy")) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.contains("apiVersion: cloison.dev/") {
            continue;
        }
        let first = text.lines().next().unwrap();
        let schema = first
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap_or_else(|| panic!("{}", file.display()));
        let schema = fs::read_to_string(file.parent().unwrap().join(schema)).unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        for document in documents(&text) {
            assert_eq!(
                schema["properties"]["kind"]["const"],
                document["kind"],
                "{}",
                file.display()
            );
        }
        checked += 1;
    }
    assert_eq!(checked, 5);
}
