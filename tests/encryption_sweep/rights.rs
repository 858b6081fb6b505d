//! The account has its rights only while it runs, however the run ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_is_interrupted_gives_its_rights_back() {
    let world = World::start(1, with(identity_first())).await;
    fill(&world.plane.admin().unwrap(), 120).await;
    world.configure(&encrypting("k1")).await;
    let kubeconfig: PathBuf = world.plane.admin_kubeconfig().unwrap();
    let mut child = program(&kubeconfig, "encryption rewrite --rate 20");
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(SOON, "the role is lent", || async {
        let lent = lent(&world).await;
        if lent == [names::SWEEPER_ROLE] {
            Ok(())
        } else {
            Err(lent.concat())
        }
    })
    .await
    .unwrap();
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let code = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(code.code(), Some(2));
    assert_eq!(lent(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sweep_is_taken_up_and_its_rights_end() {
    let world = World::start(1, with(identity_first())).await;
    fill(&world.plane.admin().unwrap(), 120).await;
    world.configure(&encrypting("k1")).await;
    let (_, before) = raw(&world).await;
    let kubeconfig: PathBuf = world.plane.admin_kubeconfig().unwrap();
    let mut child = program(&kubeconfig, "encryption rewrite --rate 40");
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(SOON, "a part is rewritten", || async {
        let (_, old) = raw(&world).await;
        if old.len() + 20 < before.len() {
            Ok(())
        } else {
            Err(old.len())
        }
    })
    .await
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, half) = raw(&world).await;
    assert!(
        half.len() > 20 && half.len() < before.len(),
        "{} of {} left",
        half.len(),
        before.len()
    );
    assert_eq!(lent(&world).await, [names::SWEEPER_ROLE]);

    let said = cloison(&world, "encryption rewrite --rate 2000").await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(
        said.out.contains(&format!("pass 1: {} rewritten, ", half.len())),
        "{} left; {}",
        half.len(),
        said.out
    );
    assert_eq!(raw(&world).await.1, [""; 0]);
    assert_eq!(lent(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_lends_one_role_and_no_other_and_takes_back_what_was_left() {
    let world = World::start(1, with(encrypting("k1"))).await;
    let admin = world.plane.admin().unwrap();
    let controller = world
        .plane
        .service_account(NAMESPACE, names::CONTROLLER_ACCOUNT)
        .await
        .unwrap();
    let sweeper = world
        .plane
        .service_account(NAMESPACE, names::SWEEPER_ACCOUNT)
        .await
        .unwrap();
    let secrets = |client: &Client| objects(client, "v1", "Secret", Some(NAMESPACE));
    let refused = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(refused(&secrets(&sweeper).get(names::CANARY_SECRET).await.unwrap_err()));

    let loan = sweep::Loan::take(&controller, NAMESPACE, names::SWEEPER_READS_ROLE)
        .await
        .unwrap();
    let reads = async {
        eventually(SOON, "the sweeper may read", || async {
            secrets(&sweeper).list_metadata(&kube::api::ListParams::default()).await
        })
        .await
        .unwrap();
        let change = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let write = secrets(&sweeper)
            .patch(names::CANARY_SECRET, &PatchParams::default(), &change)
            .await;
        assert!(refused(&write.unwrap_err()), "who reads may not write");
    };
    let (done, ended) = loan.during(reads, std::future::pending()).await;
    assert_eq!(done, Some(()));
    ended.unwrap();
    eventually(SOON, "the sweeper may no longer read", || async {
        match secrets(&sweeper).get(names::CANARY_SECRET).await {
            Err(error) if refused(&error) => Ok(()),
            _ => Err("it may"),
        }
    })
    .await
    .unwrap();

    // What is lent by a run that lives stays; what nobody prolongs goes. It is a person who lends the role to rewrite.
    let lends = sweep::Loan::take(&controller, NAMESPACE, names::SWEEPER_ROLE).await;
    assert!(lends.is_err_and(|error| error.is_refusal()));
    drop(sweep::Loan::take(&admin, NAMESPACE, names::SWEEPER_ROLE).await.unwrap());
    assert_eq!(sweep::take_back(&controller).await.unwrap(), [""; 0]);
    let bindings = objects(&admin, RBAC, "ClusterRoleBinding", None);
    let past = json!({"metadata": {"annotations": {names::LENT_UNTIL_ANNOTATION: "2026-01-01T00:00:00Z"}}});
    bindings
        .patch(names::SWEEPER_ROLE, &PatchParams::default(), &Patch::Merge(past))
        .await
        .unwrap();
    assert_eq!(sweep::take_back(&controller).await.unwrap(), [names::SWEEPER_ROLE]);
    assert_eq!(lent(&world).await, [""; 0]);

    // Neither another role under these names, nor these roles under another.
    for (name, role) in [(names::SWEEPER_ROLE, "cluster-admin"), ("mine", names::SWEEPER_ROLE)] {
        let binding = json!({
            "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": names::CONTROLLER_ACCOUNT, "namespace": NAMESPACE}],
        });
        let answer = objects(&controller, RBAC, "ClusterRoleBinding", None)
            .patch(name, &PatchParams::apply("mallory"), &Patch::Apply(&binding))
            .await;
        assert!(refused(&answer.unwrap_err()), "{name} to {role}");
    }
}
