//! Ten ways from one stage into the other, five of them once nobody of ours is alive. Each is refused by the API server, and
//! says by which rule.

use super::scenes::{alice, refused_by};
use super::stage::{Stage, say, scene};

/// One attack of alice, who holds `edit` in both namespaces and no more; or of carol, who holds `admin` in one.
struct Attack {
    /// What she wants.
    wish: &'static str,
    who: &'static str,
    how: How,
    policy: &'static str,
    rule: &'static str,
}

enum How {
    Kubectl(&'static str),
    Create(&'static str),
}

const IMAGE: &str =
    "registry.example.com/vision/trainer@sha256:771ed3e147668c60055b8252967579c0c7089cf88a3918b19a3e62e41b98b121";

const ALIVE: [Attack; 5] = [
    Attack {
        wish: "a shell where the model serves",
        who: "alice",
        how: How::Kubectl("exec -n vision-infer model-0 -- sh"),
        policy: "cloison-connect",
        rule: "WKL-06/exec",
    },
    Attack {
        wish: "the API server as a way round every NetworkPolicy",
        who: "alice",
        how: How::Kubectl("get --raw /api/v1/namespaces/vision-infer/pods/model-0:8080/proxy/"),
        policy: "cloison-connect",
        rule: "WKL-06/proxy",
    },
    Attack {
        wish: "a token of the other stage's account",
        who: "alice",
        how: How::Kubectl("create token default -n vision-infer"),
        policy: "cloison-connect",
        rule: "IAM-06/token-request",
    },
    Attack {
        wish: "rights in inference for an account of training",
        who: "carol",
        how: How::Kubectl(
            "create rolebinding bridge -n vision-infer --clusterrole=edit --serviceaccount=vision-train:default",
        ),
        policy: "cloison-rbac",
        rule: "IAM-07/foreign-account",
    },
    Attack {
        wish: "a port on every node",
        who: "alice",
        how: How::Kubectl("create service nodeport hole -n vision-train --tcp=80"),
        policy: "cloison-net",
        rule: "NET-06/node-port",
    },
];

const DEAD: [Attack; 5] = [
    Attack {
        wish: "an alias that leads into the other stage",
        who: "alice",
        how: How::Kubectl(
            "create service externalname hop -n vision-train --external-name=model.vision-infer.svc.cluster.local",
        ),
        policy: "cloison-net",
        rule: "NET-06/external-name",
    },
    Attack {
        wish: "the volume that inference left behind",
        who: "alice",
        how: How::Create(
            r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"loot","namespace":"vision-train"},"spec":{"volumeName":"pv-of-inference","storageClassName":"","accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}"#,
        ),
        policy: "cloison-store",
        rule: "DAT-07/volume-name",
    },
    Attack {
        wish: "the node on which the model runs",
        who: "alice",
        how: How::Create(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"near","namespace":"vision-train","labels":{"cloison.dev/workload":"road-train"}},"spec":{"nodeName":"gpu-1","containers":[{"name":"main","image":"IMAGE"}]}}"#,
        ),
        policy: "cloison-pod",
        rule: "WKL-04/node-name",
    },
    Attack {
        wish: "every accelerator of the node, unasked",
        who: "alice",
        how: How::Create(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"greedy","namespace":"vision-train","labels":{"cloison.dev/workload":"road-train"}},"spec":{"containers":[{"name":"main","image":"IMAGE","env":[{"name":"NVIDIA_VISIBLE_DEVICES","value":"all"}]}]}}"#,
        ),
        policy: "cloison-pod",
        rule: "WKL-04/visible-devices",
    },
    Attack {
        wish: "a Waiver in somebody else's name, though she administers the whole cluster",
        who: "admin",
        how: How::Create(
            r#"{"apiVersion":"cloison.dev/v1alpha1","kind":"Waiver","metadata":{"name":"way-round"},"spec":{"target":{"namespace":"vision-train"},"controls":["WKL-01/privileged"],"reason":"Nobody will look at who asked for this","requestedBy":"bob","expirationTime":"2100-01-01T00:00:00Z"}}"#,
        ),
        policy: "cloison-guard",
        rule: "OPS-02/requested-by",
    },
];

/// While everything runs.
pub fn while_we_live(stage: &mut Stage) -> Result<(), String> {
    scene("Five attacks that no NetworkPolicy sees");
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"model-0","namespace":"vision-infer","labels":{"cloison.dev/workload":"NAME"}},"spec":{"serviceAccountName":"default","containers":[{"name":"main","image":"IMAGE"}]}}"#;
    let workload = "jsonpath={.items[0].metadata.name}";
    let workload = stage.quietly(&["get", "aiworkloads", "-n", "vision-infer", "-o", workload])?;
    let pod = pod.replace("NAME", workload.text.trim());
    write(stage, &pod)?;
    let created = stage.admin(&["create", "-f", &path(stage)])?;
    stage.expect("a pod of the model is there", created.ok);
    alice(stage, "vision-infer")?;
    stage.quietly(&[
        "create",
        "rolebinding",
        "carol",
        "-n",
        "vision-infer",
        "--clusterrole=admin",
        "--user=carol",
    ])?;
    let may = [
        "auth",
        "can-i",
        "create",
        "rolebindings",
        "-n",
        "vision-infer",
        "--as=carol",
    ];
    stage.until(&may, |output| output.ok)?;
    ALIVE.iter().try_for_each(|attack| one(stage, attack))
}

/// With the controller dead.
pub fn when_we_are_dead(stage: &mut Stage) -> Result<(), String> {
    scene("Five more, with the controller dead");
    DEAD.iter().try_for_each(|attack| one(stage, attack))
}

fn one(stage: &mut Stage, attack: &Attack) -> Result<(), String> {
    say(&format!("\n{} wants {}:", attack.who, attack.wish));
    let kubeconfig = match attack.who {
        "admin" => stage.plane.admin_kubeconfig(),
        who => stage.plane.kubeconfig_as(who, &[]),
    };
    let kubeconfig = kubeconfig.map_err(|error| error.to_string())?;
    let file = path(stage);
    let words: Vec<&str> = match attack.how {
        How::Kubectl(words) => words.split(' ').collect(),
        How::Create(manifest) => {
            write(stage, manifest)?;
            vec!["create", "-f", &file]
        }
    };
    let output = stage.kubectl_as(attack.who, &kubeconfig, &words, true)?;
    stage.expect(
        &format!("refused: {}", attack.rule),
        refused_by(&output, attack.policy, attack.rule),
    );
    Ok(())
}

fn path(stage: &Stage) -> String {
    stage.plane.folder().join("attack.json").display().to_string()
}

fn write(stage: &Stage, manifest: &str) -> Result<(), String> {
    let manifest = manifest.replace("IMAGE", IMAGE);
    say(&format!("$ cat attack.json\n{manifest}"));
    std::fs::write(path(stage), manifest).map_err(|error| error.to_string())
}
