//! A ResourceQuota is kept in a dry run as in any other request: what it refuses is told, of each pod alone.

use std::path::Path;

use cloison_testbed::{ControlPlane, Options, eventually};
use serde_json::json;

use crate::check::folder;
use crate::command::Said;
use crate::common::{SOON, apply, pod, try_create};
use crate::{account, base, job, lines, no_pods, note, server, tenant};

/// Asks about Jobs of `train`, in one file, with these requests of memory; none where it is empty.
fn asked(kubeconfig: &Path, requests: &[&str]) -> Said {
    let jobs = requests.iter().enumerate().map(|(number, memory)| {
        let resources = match *memory {
            "" => String::new(),
            memory => format!(", resources: {{requests: {{memory: {memory}}}}}"),
        };
        let whole = job("train", "own").replace("name: main", &format!("name: main{resources}"));
        whole.replace("name: road", &format!("name: road-{number}"))
    });
    let jobs: Vec<String> = jobs.collect();
    let folder = folder(&[("base.yaml", &base("train")), ("job.yaml", &jobs.join("---\n"))]);
    server(folder.path(), kubeconfig, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_refuses_is_told_of_each_pod_alone() {
    let plane = ControlPlane::start(Options {
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let admin = plane.admin().unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "train"}});
    apply(&admin, namespace).await;
    account(&admin, "train").await;
    let editor = tenant(&plane, "edit", &["train"]).await;

    // The control: without a quota.
    let said = asked(&editor, &["4Gi", ""]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");

    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "memory", "namespace": "train"},
        "spec": {"hard": {"requests.memory": "3Gi"}}});
    apply(&admin, quota).await;
    let mut probe = pod("train", "probe");
    probe["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "4Gi"}});
    // It counts as soon as the controller manager has counted, and the API server has heard of it.
    eventually(SOON, "the quota is kept", async || {
        match try_create(&admin, probe.clone()).await {
            Err(error) if error.to_string().contains("exceeded quota") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    // What fits passes; and two that fit one by one, because nothing is kept of the first.
    let said = asked(&editor, &["2Gi", "2Gi"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    note(&said, "2 pods came back from the API server");
    for (memory, words) in [
        (
            "4Gi",
            "exceeded quota: memory, requested: requests.memory=4Gi, used: requests.memory=0, limited: requests.memory=3Gi\n",
        ),
        ("", "failed quota: memory: must specify requests.memory for: main\n"),
    ] {
        let said = asked(&editor, &["2Gi", memory]);
        assert_eq!((said.code, lines(&said).len()), (2, 0), "{said:?}");
        let refused = "job.yaml:18:5 spec.template: the API server would refuse its pods, and not by Cloison: pods \
                       \"cloison-dry-run-*\" is forbidden: ";
        assert_eq!(said.err, format!("{refused}{words}"), "{said:?}");
        // The other came back all the same.
        note(&said, "1 pod came back from the API server");
    }
    no_pods(&admin).await;
}
