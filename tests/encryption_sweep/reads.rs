//! The proof by reads, and what is shown of it.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn stored_values_are_read_when_asked_for_and_again_when_the_file_changes() {
    let world = World::start(2, with(identity_first())).await;
    fill(&world.plane.admin().unwrap(), 90).await;
    world.configure(&encrypting("k1")).await;
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    assert!(world.evidence.snapshot().reads.is_none(), "read without being asked to");
    let ask = |rate: Option<u32>| {
        world.settings.send_modify(|settings| {
            settings.reads = rate.map(|rate| ReadSettings {
                rate,
                max_age: Duration::from_hours(24),
            });
        });
    };
    let found = async |truth: Truth, reason: &str| {
        let seen = world
            .wait_for(reason, |seen| {
                let reads = seen.reads.as_ref().map(|proof| &proof.reads);
                reads.is_some_and(|reads| (reads.truth, reads.reason) == (truth, reason))
            })
            .await;
        seen.reads.unwrap()
    };
    ask(Some(500));
    found(Truth::False, stored::PLAINTEXT_VALUES).await;
    let said = cloison(&world, "encryption rewrite --rate 2000").await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);

    // Another file is read again; the old key's values are told from the new key's, and both are encrypted.
    world.configure(&encrypting("k2")).await;
    let proof = found(Truth::True, stored::VALUES_ENCRYPTED).await;
    assert!(
        proof.reads.decrypted.get("k1:").is_some_and(|count| *count >= 30),
        "{:?}",
        proof.reads
    );
    assert!(
        proof
            .reads
            .message
            .contains("new ones are written under k8s:enc:aesgcm:v1:k2:"),
        "{}",
        proof.reads.message
    );
    assert_eq!(lent(&world).await, [""; 0]);
    ask(None);
    world.wait_for("no proof by reads", |seen| seen.reads.is_none()).await;

    // Reading that nobody wants any more ends at once: this would take longer than it is waited for.
    ask(Some(1));
    let role = async |wanted: &[&str]| {
        eventually(SOON, &format!("{wanted:?} is lent"), || async {
            let lent = lent(&world).await;
            if lent == wanted { Ok(()) } else { Err(lent.concat()) }
        })
        .await
        .unwrap();
    };
    role(&[names::SWEEPER_READS_ROLE]).await;
    ask(None);
    role(&[]).await;
    assert!(world.evidence.snapshot().reads.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_lend_old_values_stay_unknown_and_the_reason_is_told() {
    let world = World::start(1, with(encrypting("k1"))).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(world.plane.admin().unwrap());
    bindings
        .delete("cloison-lender", &DeleteParams::default())
        .await
        .unwrap();
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    world.settings.send_modify(|settings| {
        settings.reads = Some(ReadSettings {
            rate: 500,
            max_age: Duration::from_hours(24),
        });
    });
    let seen = world.wait_for("an answer", |seen| seen.reads.is_some()).await;
    let reads = seen.reads.unwrap().reads;
    assert_eq!(reads.truth, Truth::Unknown);
    assert!(
        reads.message.contains("could not be lent") && reads.message.contains("`encryption.readStored`"),
        "{}",
        reads.message
    );
    assert_eq!(lent(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_shown_with_the_next_command() {
    let world = World::start(1, with(encrypting("k1"))).await;
    let admin = world.plane.admin().unwrap();
    let said = cloison(&world, "encryption status").await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(
        said.out.contains("there is no SecretEncryption `default`")
            && said.out.contains("next: cloison encryption verify"),
        "{}",
        said.out
    );

    for definition in cloison::api::definitions::definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        apply(
            &admin,
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            &name,
            definition,
        )
        .await;
    }
    let settings = objects(&admin, "cloison.dev/v1alpha1", "SecretEncryption", None);
    let object = Patch::Apply(json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"mode": "Observe"},
    }));
    let force = PatchParams::apply("test").force();
    let set = || settings.patch("default", &force, &object);
    eventually(SOON, "SecretEncryption", set).await.unwrap();

    // Nobody runs here, and that is what it says.
    let status = json!({"status": {"conditions": [{
        "type": "Encrypted", "status": "False", "reason": "PlaintextValues", "message": "values are stored in plaintext",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }], "replicas": [{"identity": "apiserver-a", "writes": "k8s:enc:aesgcm:v1:k1:"}]}});
    let status = Patch::Merge(status);
    settings
        .patch_status("default", &PatchParams::default(), &status)
        .await
        .unwrap();
    let said = cloison(&world, "encryption status").await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for line in [
        "STALE",
        "mode Observe, proof Writes",
        "PlaintextValues",
        "apiserver-a",
        "next: cloison encryption rewrite",
    ] {
        assert!(said.out.contains(line), "{line:?} not in {}", said.out);
    }
}
