//! The scenes, in order.

use std::path::PathBuf;
use std::process::Command;

use cloison_testbed::Program;

use super::stage::{Output, Stage, say, scene};

pub const NAMESPACE: &str = "cloison-system";
const PRIVILEGED: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"miner","namespace":"vision-train","labels":{"cloison.dev/workload":"road-train"}},"spec":{"containers":[{"name":"main","image":"registry.example.com/vision/trainer@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121","securityContext":{"privileged":true}}]}}"#;
/// How many the quickstart has.
const WORKLOADS: usize = 3;
const UNKNOWN: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"stray","namespace":"vision-train","labels":{"cloison.dev/workload":"raod-train"}},"spec":{"containers":[{"name":"main","image":"registry.example.com/vision/trainer@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121"}]}}"#;

/// Installs the chart and starts the controller under its ServiceAccount.
pub async fn install(stage: &mut Stage) -> Result<(), String> {
    scene("An admin installs the chart");
    let chart = [
        "install",
        "cloison",
        "charts/cloison",
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    let installed = stage.helm(&chart)?;
    stage.expect("Helm installed the chart", installed.ok);
    let identity = stage
        .plane
        .service_account_kubeconfig(NAMESPACE, "cloison-controller")
        .await;
    let kubeconfig = identity.map_err(|error| error.to_string())?;
    say(
        "\n(there is no node to run the Deployment's pod: the same program runs here as a process, under the chart's own",
    );
    say(" ServiceAccount and with no other right)");
    let arguments = [
        "controller",
        "--identity",
        "demo",
        "--health-address",
        "127.0.0.1:0",
        "--kubeconfig",
    ];
    let arguments = arguments.into_iter().map(PathBuf::from).chain([kubeconfig]);
    let log = stage.plane.logs_dir().join("controller.log");
    let controller = Program::new("controller", program()?, arguments, log);
    controller.start().map_err(|error| error.to_string())?;
    stage.controller = Some(controller);
    let created = stage.wait(&["get", "aisp"], |output| output.ok && output.text.contains("default"))?;
    stage.expect(
        "the first start makes the organisation's policy, in mode Audit",
        created.ok && created.text.contains("Audit"),
    );
    Ok(())
}

/// In audit nothing is refused, and the same rules warn once the admin asks for it.
pub fn audit(stage: &mut Stage) -> Result<(), String> {
    scene("In mode audit, where every namespace begins, a privileged pod of a tenant is created as before");
    stage.admin(&["create", "namespace", "sandbox"])?;
    stage.admin(&["label", "namespace", "sandbox", "cloison.dev/stage=training"])?;
    let kubeconfig = alice(stage, "sandbox")?;
    let pod = PRIVILEGED.replace("vision-train", "sandbox");
    let file = stage.plane.folder().join("pod.json");
    std::fs::write(&file, &pod).map_err(|error| error.to_string())?;
    say(&format!("alice$ cat pod.json\n{pod}"));
    let in_force = [
        "get",
        "validatingadmissionpolicybinding",
        "cloison-pod-audit",
        "-o",
        "name",
    ];
    let in_force = stage.wait(&in_force, |output| output.ok)?;
    // The namespace's ServiceAccount comes a moment after it.
    let create = ["create", "-f", "pod.json"];
    let created = stage.wait_as("alice", &kubeconfig, &create, |output| output.ok)?;
    stage.expect(
        "audit refuses nothing: the pod is there",
        in_force.ok && created.ok && !created.text.contains("[cloison "),
    );
    stage.admin(&["label", "namespace", "sandbox", "cloison.dev/mode=warn"])?;
    let again = ["create", "--dry-run=server", "-f", "again.json"];
    let file = stage.plane.folder().join("again.json");
    std::fs::write(&file, pod.replace("\"miner\"", "\"miner-2\"")).map_err(|error| error.to_string())?;
    let warns = |output: &Output| output.ok && output.text.contains("WKL-01/privileged");
    let warned = stage.wait_as("alice", &kubeconfig, &again, warns)?;
    stage.expect("warn says what enforce would refuse, and admits it", warns(&warned));
    stage.admin(&["delete", "namespace", "sandbox", "--wait=false"])?;
    Ok(())
}

/// The `cloison` program, built by the same cargo that built this one.
pub fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let release = own.components().any(|part| part.as_os_str() == "release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(Stage::repository())
        .args(["build", "--quiet", "--locked", "--bin", "cloison"]);
    if release {
        cargo.arg("--release");
    }
    let built = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    let program = own.with_file_name("cloison");
    if built.success() && program.exists() {
        Ok(program)
    } else {
        Err(format!("{} was not built", program.display()))
    }
}

/// Applies the quickstart and waits until it is Ready and admission is proven.
pub fn workloads(stage: &mut Stage) -> Result<(), String> {
    scene(
        "GitOps applies examples/quickstart: a training and an inference namespace, a shared registry, in mode enforce",
    );
    let applied = stage.admin(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "examples/quickstart/",
    ])?;
    stage.expect("the quickstart was accepted", applied.ok);
    let ready = [
        "wait",
        "aiworkload",
        "--all",
        "--all-namespaces",
        "--for=condition=Ready",
        "--timeout=60s",
    ];
    let ready = stage.admin(&ready)?;
    stage.expect("every workload is Ready", ready.ok);
    let table = ["get", "aiworkloads", "--all-namespaces"];
    // Isolated stays Unknown; Admitted becomes True once the canaries were refused on both API servers.
    let admitted = |output: &Output| {
        let mut rows = output.text.lines().skip(1).map(|line| line.split_whitespace().nth(7));
        output.ok && rows.clone().count() == WORKLOADS && rows.all(|admitted| admitted == Some("True"))
    };
    let shown = stage.wait(&table, admitted)?;
    stage.expect(
        "admission was proven on both API servers by canaries that were refused",
        admitted(&shown),
    );
    let isolated = ["get", "aiworkload", "road-train", "-n", "vision-train", "-o"];
    let condition = r#"jsonpath={range .status.conditions[*]}{.type}{"\t"}{.status}{"\t"}{.message}{"\n"}{end}"#;
    let shown = stage.admin(&[&isolated[..], &[condition]].concat())?;
    let line = |kind: &str, status: &str| shown.text.lines().any(|l| l.starts_with(&format!("{kind}\t{status}")));
    stage.expect(
        "no policy opens a path to the other stage, for any pod that could exist",
        line("PoliciesIsolate", "True"),
    );
    stage.expect(
        "and without a packet NetworkIsolated claims nothing",
        line("NetworkIsolated", "Unknown"),
    );
    let policies = stage.admin(&[
        "get",
        "networkpolicies",
        "--all-namespaces",
        "-l",
        "app.kubernetes.io/managed-by=cloison",
    ])?;
    stage.expect(
        "the denies and the allows are in place",
        policies.text.contains("cloison-wl-road-train"),
    );
    Ok(())
}

/// The tenant: an ML engineer with the stock role `edit` in a namespace.
pub fn alice(stage: &Stage, namespace: &str) -> Result<PathBuf, String> {
    let binding = [
        "create",
        "rolebinding",
        "alice",
        "-n",
        namespace,
        "--clusterrole=edit",
        "--user=alice",
    ];
    stage.quietly(&binding)?;
    // The binding reaches the authorizer through a watch.
    let may = ["auth", "can-i", "create", "pods", "-n", namespace, "--as=alice"];
    stage.until(&may, |output| output.ok)?;
    let kubeconfig = stage.plane.kubeconfig_as("alice", &[]);
    kubeconfig.map_err(|error| error.to_string())
}

fn apply_as_alice(stage: &Stage, manifest: &str) -> Result<Output, String> {
    let kubeconfig = alice(stage, "vision-train")?;
    let file = stage.plane.folder().join("pod.json");
    std::fs::write(&file, manifest).map_err(|error| error.to_string())?;
    say(&format!("alice$ cat pod.json\n{manifest}"));
    stage.kubectl_as("alice", &kubeconfig, &["create", "-f", "pod.json"], true)
}

pub fn refused_by(output: &Output, policy: &str, rule: &str) -> bool {
    !output.ok
        && output.text.contains(&format!("'{policy}'"))
        && output.text.contains(rule)
        && output.text.contains("[cloison ")
}

/// A privileged pod is refused.
pub fn privileged_pod(stage: &mut Stage) -> Result<(), String> {
    scene("alice, an ML engineer with the stock role `edit`, creates a privileged pod");
    let output = apply_as_alice(stage, PRIVILEGED)?;
    stage.expect(
        "refused: WKL-01/privileged",
        refused_by(&output, "cloison-pod", "WKL-01/privileged"),
    );
    Ok(())
}

/// A pod that escapes the network is refused.
pub fn hostile_pod(stage: &mut Stage) -> Result<(), String> {
    scene("She tries a pod on its node's network, with the node's disk (examples/hostile)");
    let kubeconfig = alice(stage, "vision-train")?;
    let apply = ["apply", "-f", "examples/hostile/host-network-pod.yaml"];
    let output = stage.kubectl_as("alice", &kubeconfig, &apply, true)?;
    let refused = |rule| refused_by(&output, "cloison-pod", rule);
    stage.expect(
        "refused: WKL-01/host-network and WKL-01/host-path",
        refused("WKL-01/host-network") && refused("WKL-01/host-path"),
    );
    Ok(())
}

/// Who may edit namespaces does not thereby move them between stages.
pub fn moved_stage(stage: &mut Stage) -> Result<(), String> {
    scene("bob, who may edit namespaces and no more, makes the training namespace one of inference (examples/hostile)");
    let role = [
        "create",
        "clusterrole",
        "namespace-editor",
        "--verb=get,patch",
        "--resource=namespaces",
    ];
    stage.quietly(&role)?;
    let binding = [
        "create",
        "clusterrolebinding",
        "bob",
        "--clusterrole=namespace-editor",
        "--user=bob",
    ];
    stage.quietly(&binding)?;
    stage.until(&["auth", "can-i", "patch", "namespaces", "--as=bob"], |output| {
        output.ok
    })?;
    let kubeconfig = stage
        .plane
        .kubeconfig_as("bob", &[])
        .map_err(|error| error.to_string())?;
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "examples/hostile/move-stage.yaml",
    ];
    let output = stage.kubectl_as("bob", &kubeconfig, &apply, true)?;
    stage.expect(
        "refused: NET-02/stage-label",
        refused_by(&output, "cloison-namespace", "NET-02/stage-label"),
    );
    Ok(())
}

/// A pod of a workload that does not exist is refused.
pub fn unknown_workload(stage: &mut Stage) -> Result<(), String> {
    scene("She mistypes the workload's name");
    let output = apply_as_alice(stage, UNKNOWN)?;
    stage.expect(
        "refused: WKL-02/unknown, with the name that does not exist",
        refused_by(&output, "cloison-pod", "WKL-02/unknown no AiWorkload \"raod-train\""),
    );
    Ok(())
}

/// A tenant cannot touch the deny.
pub fn tenant_edits_our_policy(stage: &mut Stage) -> Result<(), String> {
    scene("She tries to take the wall down");
    let kubeconfig = alice(stage, "vision-train")?;
    let delete = ["delete", "networkpolicy", "cloison-ns-deny", "-n", "vision-train"];
    let deleted = stage.kubectl_as("alice", &kubeconfig, &delete, true)?;
    // Without a rule, so that no other policy of ours refuses it first.
    let opened = r#"{"spec":{"policyTypes":["Ingress"]}}"#;
    let patch = [
        "patch",
        "networkpolicy",
        "cloison-ns-deny",
        "-n",
        "vision-train",
        "--type=merge",
        "-p",
        opened,
    ];
    let patched = stage.kubectl_as("alice", &kubeconfig, &patch, true)?;
    let refused = |output| refused_by(output, "cloison-managed", "CLU-04/managed-object");
    stage.expect(
        "refused twice: CLU-04/managed-object",
        refused(&deleted) && refused(&patched),
    );
    Ok(())
}

/// Two policies that together open a path are found, with the counterexample.
pub fn hostile_policy(stage: &mut Stage) -> Result<(), String> {
    scene("Two NetworkPolicies that look strict open a path from training to inference (examples/hostile)");
    let hostile = "examples/hostile/not-in-policy.yaml";
    let kubeconfig = alice(stage, "vision-train")?;
    let output = stage.kubectl_as("alice", &kubeconfig, &["apply", "-f", hostile], true)?;
    stage.expect(
        "her half is refused at the door: NET-10/namespace-selector",
        refused_by(&output, "cloison-net", "NET-10/namespace-selector"),
    );
    say("\nAn admin sets both namespaces to audit, and in they come; enforce does not throw them out again.");
    let mode = |mode: &str| format!("cloison.dev/mode={mode}");
    let label = |stage: &Stage, mode: &str| {
        stage.admin(&[
            "label",
            "--overwrite",
            "namespace",
            "vision-train",
            "vision-infer",
            mode,
        ])
    };
    label(stage, &mode("audit"))?;
    stage.until(
        &["apply", "--server-side", "--dry-run=server", "-f", hostile],
        |output| output.ok,
    )?;
    stage.admin(&["apply", "--server-side", "-f", hostile])?;
    label(stage, &mode("enforce"))?;
    let message = r#"jsonpath={.status.conditions[?(@.type=="PoliciesIsolate")].status} {.status.conditions[?(@.type=="PoliciesIsolate")].reason} {.status.conditions[?(@.type=="PoliciesIsolate")].message}{"\n"}"#;
    let ask = ["get", "aiworkload", "road-train", "-n", "vision-train", "-o", message];
    let found = stage.wait(&ask, |output| output.text.starts_with("False PathExists"))?;
    let named = found.text.contains("all-but-production") && found.text.contains("all-but-training");
    stage.expect(
        "found before any pod could use it: PoliciesIsolate is False and names both halves",
        named,
    );
    picture(stage)?;
    stage.admin(&["delete", "-f", hostile])?;
    let healed = stage.wait(&ask, |output| output.text.starts_with("True"))?;
    stage.expect("and True again once they are gone", healed.text.starts_with("True"));
    Ok(())
}

/// Draws the cluster with the hole in it.
fn picture(stage: &mut Stage) -> Result<(), String> {
    let program = program()?;
    let folder = program.ancestors().nth(2).map(|target| target.join("demo"));
    let file = folder.ok_or("no folder for the picture")?.join("hole.svg");
    let drawn = stage.draw(&program, &["graph", "-o", "svg"], &file)?;
    say(&format!(
        "{}: the training room, the inference room and the registry between them, doors where flows are declared, and",
        file.display()
    ));
    say(" HOLE 1, a dashed red line that leads out of the one wall and in at the other, with the policy at either end");
    let shown = ["HOLE 1", "all-but-production", "all-but-training", "model-registry"];
    stage.expect(
        "the picture shows the hole with both policies",
        drawn.ok && shown.iter().all(|text| drawn.text.contains(text)),
    );
    Ok(())
}

/// A policy that an admin deletes comes back.
pub fn deleted_policy(stage: &mut Stage) -> Result<(), String> {
    scene("An admin, who may, deletes a policy by mistake");
    let name = [
        "get",
        "networkpolicy",
        "cloison-wl-road-train",
        "-n",
        "vision-train",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let before = stage.quietly(&name)?.text;
    stage.admin(&["delete", "networkpolicy", "cloison-wl-road-train", "-n", "vision-train"])?;
    let back = stage.wait(&name, |output| output.ok && output.text != before)?;
    stage.expect("it is back", back.ok && back.text != before);
    Ok(())
}

/// The refusals hold without the controller.
pub fn controller_killed(stage: &mut Stage) -> Result<(), String> {
    scene("The controller is killed (SIGKILL)");
    if let Some(controller) = &stage.controller {
        controller.kill();
    }
    let privileged = apply_as_alice(stage, PRIVILEGED)?;
    let unknown = apply_as_alice(stage, UNKNOWN)?;
    let kubeconfig = alice(stage, "vision-train")?;
    let delete = ["delete", "networkpolicy", "cloison-ns-deny", "-n", "vision-train"];
    let deleted = stage.kubectl_as("alice", &kubeconfig, &delete, true)?;
    let all = refused_by(&privileged, "cloison-pod", "WKL-01/privileged")
        && refused_by(&unknown, "cloison-pod", "WKL-02/unknown")
        && refused_by(&deleted, "cloison-managed", "CLU-04/managed-object");
    stage.expect("the API servers refuse all the same", all);
    Ok(())
}
