//! What is in the way of a sweep.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_named_and_never_counted_as_done() {
    let world = World::start(1, with(identity_first())).await;
    let admin = world.plane.admin().unwrap();
    fill(&admin, 30).await;
    apply(&admin, "v1", "Namespace", None, "ghost", json!({})).await;
    let secret = json!({"data": {"password": PASSWORD}});
    for (namespace, name) in [("ghost", "orphan"), ("a", "busy"), ("a", "frozen"), ("a", "hooked")] {
        apply(&admin, "v1", "Secret", Some(namespace), name, secret.clone()).await;
    }
    world.configure(&encrypting("k1")).await;
    let admin = world.plane.admin().unwrap();
    refuse(&admin).await;
    // The namespace goes without its content, as it did where keys were retired too early.
    world.plane.etcd().delete("/registry/namespaces/ghost").await.unwrap();
    eventually(SOON, "the namespace is gone", || async {
        let refused = objects(&admin, "v1", "Secret", Some("ghost"))
            .patch(
                "orphan",
                &PatchParams::default(),
                &Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}})),
            )
            .await;
        match refused {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    // Somebody writes all the time, and loses nothing.
    let writer = tokio::spawn(write(admin.clone()));
    let said = cloison(&world, "encryption rewrite --rate 100").await;
    writer.abort();
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for found in [
        "ghost/orphan: its namespace no longer exists; delete it",
        "a/frozen: refused at admission by ValidatingAdmissionPolicy frozen; let updates pass",
        "a/hooked: refused at admission by webhook hooked.example.com; let updates pass",
        "not proven: 3 Secrets were not rewritten",
        " 3 blocked",
    ] {
        assert!(said.out.contains(found), "{found:?} not in {}", said.out);
    }
    let (_, mut old) = raw(&world).await;
    old.sort();
    assert_eq!(old, ["a/frozen", "a/hooked", "ghost/orphan"]);

    // An orphan can be deleted; the others pass once nobody is in their way.
    let gone = objects(&admin, "v1", "Secret", Some("ghost"))
        .delete("orphan", &DeleteParams::default())
        .await;
    gone.unwrap();
    let admission = "admissionregistration.k8s.io/v1";
    for (kind, name) in [
        ("ValidatingAdmissionPolicyBinding", "frozen"),
        ("ValidatingWebhookConfiguration", "hooked"),
    ] {
        objects(&admin, admission, kind, None)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    eventually(SOON, "a clean sweep", || async {
        let said = cloison(&world, "encryption rewrite --rate 2000").await;
        if said.code == 0 { Ok(()) } else { Err(said.out) }
    })
    .await
    .unwrap();
    assert_eq!(raw(&world).await.1, [""; 0]);
}

/// Two third parties that refuse every update, also one that changes nothing.
async fn refuse(admin: &Client) {
    let admission = "admissionregistration.k8s.io/v1";
    let rule = |name: &str| json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"], "resourceNames": [name]}]);
    let policy = json!({"spec": {
        "matchConstraints": {"resourceRules": rule("frozen")}, "validations": [{"expression": "false", "message": "no"}],
    }});
    apply(admin, admission, "ValidatingAdmissionPolicy", None, "frozen", policy).await;
    let binding = json!({"spec": {"policyName": "frozen", "validationActions": ["Deny"]}});
    apply(
        admin,
        admission,
        "ValidatingAdmissionPolicyBinding",
        None,
        "frozen",
        binding,
    )
    .await;
    let hook = json!({"webhooks": [{
        "name": "hooked.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "clientConfig": {"url": "https://127.0.0.1:1/"}, "timeoutSeconds": 2,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"]}],
        "matchConditions": [{"name": "one", "expression": "object.metadata.name == 'hooked'"}],
    }]});
    apply(admin, admission, "ValidatingWebhookConfiguration", None, "hooked", hook).await;
    for name in ["frozen", "hooked"] {
        eventually(SOON, &format!("{name} is refused"), || async {
            let change = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
            let secrets = objects(admin, "v1", "Secret", Some("a"));
            let dry = PatchParams {
                dry_run: true,
                ..PatchParams::default()
            };
            match secrets.patch(name, &dry, &change).await {
                Err(kube::Error::Api(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
}

async fn write(admin: Client) {
    let secrets = objects(&admin, "v1", "Secret", Some("a"));
    // Slower than a read and a patch on a busy machine, or the sweep rightly gives the Secret up.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for number in 0_u64.. {
        pace.tick().await;
        let change = Patch::Merge(json!({"metadata": {"labels": {"number": number.to_string()}}}));
        secrets.patch("busy", &PatchParams::default(), &change).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_no_key_decrypts_are_named_and_all_others_are_swept() {
    let world = World::start(1, with(identity_first())).await;
    fill(&world.plane.admin().unwrap(), 30).await;
    world.configure(&encrypting("k1")).await;
    let etcd = world.plane.etcd();
    // The first of all, two in a row in the middle of a part of the list, and the last.
    let bad = ["a/a", "b/s004a", "b/s004b", "z/last"];
    for name in bad {
        // Of a key that is nowhere, and of one that has this name and other material.
        let key = if name == "b/s004b" { "k1" } else { "k9" };
        let value = format!("k8s:enc:aesgcm:v1:{key}:0123456789abcdef0123456789abcdef");
        etcd.put(&format!("{PREFIX}{name}"), value.as_bytes()).await.unwrap();
    }
    let (_, mut old) = raw(&world).await;
    for verb in ["rewrite --rate 500", "verify --rate 500"] {
        let said = cloison(&world, &format!("encryption {verb}")).await;
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        for name in bad {
            let found = format!("{name}: the stored value cannot be read: no configured key decrypts it");
            assert!(said.out.contains(&found), "{found:?} not in {}", said.out);
        }
        assert!(!said.out.contains("every Secret is stored"), "{}", said.out);
        let (_, left) = raw(&world).await;
        // By its prefix that one is under k1: only who decrypts it knows better.
        let shown: Vec<&str> = bad.into_iter().filter(|name| *name != "b/s004b").collect();
        assert_eq!(left, shown, "{verb}; {} before", old.len());
        old = left;
    }
    for name in bad {
        etcd.delete(&format!("{PREFIX}{name}")).await.unwrap();
    }
    eventually(SOON, "a clean sweep", || async {
        let said = cloison(&world, "encryption rewrite --rate 2000").await;
        if said.code == 0 {
            Ok(())
        } else {
            Err(format!("{}{}", said.out, said.err))
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rewritten_that_another_api_server_could_not_read() {
    let world = World::start_with(vec![with(encrypting("k1")), with(encrypting("k2"))]).await;
    fill(&world.plane.admin().unwrap(), 30).await;
    let before = raw(&world).await;
    let said = cloison(&world, "encryption rewrite --rate 2000").await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    let why = "nothing was rewritten: the API servers run with different encryption configuration files";
    assert!(said.out.contains(why), "{}", said.out);
    assert_eq!(raw(&world).await, before);
    assert_eq!(lent(&world).await, [""; 0]);
}
