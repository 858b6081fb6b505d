//! What templates take out of whole ConfigMaps, which the door does not see.

use serde_json::json;

use crate::check::{base, check, folder, lines};

fn config_map(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: env, namespace: train}}\ndata: {{NVIDIA_VISIBLE_DEVICES: {value}}}\n"
    )
}

#[test]
fn accelerators_taken_by_a_config_map_are_told_with_the_line_of_the_template() {
    let spec = json!({
        "serviceAccountName": "own", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": format!("registry.example.com/train/app@{}", crate::common::digest()),
            "envFrom": [{"configMapRef": {"name": "env"}}]}],
    });
    let template = json!({"metadata": {"labels": {"cloison.dev/workload": "road"}}, "spec": spec});
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: x, namespace: train}}\nspec:\n  template: {template}\n"
    );
    let told = "x.yaml:5:13 spec.template: High WKL-04/visible-devices NVIDIA_VISIBLE_DEVICES without a request of a \
                device: container \"main\", from ConfigMap env, which no request at the API server shows";
    let mode = |mode: &str| base().replacen("cloison.dev/mode: enforce", &format!("cloison.dev/mode: {mode}"), 1);
    for (mode, value, wanted) in [
        (mode("enforce"), "all", Some(1)),
        (mode("enforce"), "void", None),
        // Nothing is refused there, so that it counts for nothing.
        (mode("audit"), "all", Some(0)),
    ] {
        let folder = folder(&[("base.yaml", &mode), ("map.yaml", &config_map(value)), ("x.yaml", &job)]);
        let said = check(folder.path(), &["-f", "."]);
        let found: Vec<&str> = lines(&said)
            .into_iter()
            .filter(|line| line.contains("visible-devices"))
            .collect();
        assert_eq!(found.len(), usize::from(wanted.is_some()), "{said:?}");
        assert!(found.iter().all(|line| line.contains(told)), "{found:?}");
        assert_eq!(said.code, wanted.unwrap_or(0), "{said:?}");
        // One that is only known beside it is as good.
        let files = ["-f", "base.yaml", "-f", "x.yaml", "--with", "map.yaml"];
        let said = check(folder.path(), &files);
        assert_eq!(said.out.contains("visible-devices"), wanted.is_some(), "{said:?}");
    }
}
