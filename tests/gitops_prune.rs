//! A pruned repository and a deleted definition look like people who delete workloads. They take no flow down faster than
//! a person can notice, and never the deny.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::time::Duration;

use cloison::api::{AiSecurityPolicy, AiWorkload, names};
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use operator::PATIENCE;

const DEFINITION: &str = "aiworkloads.cloison.dev";
const SERVICE: &str = "cloison-svc-registry";

async fn plane() -> ControlPlane {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// How many allows of workloads a namespace has.
async fn allows(admin: &Client, namespace: &str) -> usize {
    let policies = operator::in_place(admin, namespace).await;
    policies
        .keys()
        .filter(|name| name.starts_with(names::WORKLOAD_POLICY_PREFIX))
        .count()
}

/// The workloads that the catalogue service still lets in.
async fn let_in(admin: &Client) -> usize {
    let service = operator::policy(admin, "common", SERVICE).await;
    let rules = service.spec.unwrap().ingress.unwrap_or_default();
    rules.into_iter().flat_map(|rule| rule.from.unwrap_or_default()).count()
}

async fn all_ready(admin: &Client, namespace: &str, workloads: &[String]) {
    for name in workloads {
        operator::condition(admin, namespace, name, "Ready", "True").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_repository_takes_few_flows_down_and_applying_it_again_keeps_the_rest() {
    let plane = plane().await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::catalogue(&admin).await;
    operator::namespace(&admin, "fleet", "training", Some("enforce")).await;
    let fleet: Vec<String> = (0..30).map(|number| format!("w{number:02}")).collect();
    for name in &fleet {
        operator::apply(&admin, operator::user("fleet", name, "Training"))
            .await
            .unwrap();
    }
    all_ready(&admin, "fleet", &fleet).await;
    eventually(PATIENCE, "the service lets all in", || async {
        match let_in(&admin).await {
            30 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await
    .unwrap();

    let from = controller.output().len();
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "fleet");
    workloads
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    // A tenth of thirty, and three in any case.
    operator::logs(&controller, from, "many workloads were deleted at once").await;
    operator::metric_is(&controller, "cloison_withdrawals_waiting", &[], |waiting| waiting == 27).await;
    // Longer than the loop that withdraws takes for two rounds.
    operator::stays(Duration::from_secs(12), || async {
        assert_eq!(allows(&admin, "fleet").await, 27);
        assert!(
            let_in(&admin).await >= 27,
            "the service dropped workloads that were not withdrawn"
        );
    })
    .await;
    assert_eq!(let_in(&admin).await, 27);
    assert!(
        operator::in_place(&admin, "fleet")
            .await
            .contains_key(names::DENY_POLICY)
    );

    // Who takes over never saw them: what only policies tell of is held, in the services of others too.
    controller.stop().await;
    controller.start().unwrap();
    operator::metric_is(&controller, "cloison_vanished_workloads", &[], |vanished| {
        vanished == 27
    })
    .await;
    let note = operator::event(&admin, "fleet", "VanishedWorkload").await;
    assert!(
        note.contains("kubectl -n fleet delete networkpolicy cloison-wl-NAME"),
        "{note}"
    );
    operator::healthy(&admin, "meanwhile", "Training").await;
    operator::stays(Duration::from_secs(6), || async {
        assert_eq!((allows(&admin, "fleet").await, let_in(&admin).await), (27, 27));
    })
    .await;
    // The admin's word ends the flows of one.
    let last = format!("{}w29", names::WORKLOAD_POLICY_PREFIX);
    let policies = operator::network_policies(&admin, "fleet");
    policies.delete(&last, &DeleteParams::default()).await.unwrap();
    operator::metric_is(&controller, "cloison_vanished_workloads", &[], |vanished| {
        vanished == 26
    })
    .await;
    eventually(PATIENCE, "the service drops it", || async {
        match (allows(&admin, "fleet").await, let_in(&admin).await) {
            (26, 26) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    for name in &fleet {
        operator::apply(&admin, operator::user("fleet", name, "Training"))
            .await
            .unwrap();
    }
    operator::metric_is(&controller, "cloison_vanished_workloads", &[], |vanished| vanished == 0).await;
    all_ready(&admin, "fleet", &fleet).await;
    assert_eq!((allows(&admin, "fleet").await, let_in(&admin).await), (30, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_definition_withdraws_nothing() {
    let plane = plane().await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::catalogue(&admin).await;
    let namespaces = [("train", "training", "Training"), ("infer", "inference", "Inference")];
    let workloads = ["one".to_owned(), "two".to_owned()];
    for (namespace, stage, kind) in namespaces {
        operator::namespace(&admin, namespace, stage, Some("enforce")).await;
        for name in &workloads {
            operator::apply(&admin, operator::user(namespace, name, kind))
                .await
                .unwrap();
        }
        all_ready(&admin, namespace, &workloads).await;
    }
    let everything = || async {
        let mut policies = Vec::new();
        for namespace in ["train", "infer", "common"] {
            policies.push(operator::in_place(&admin, namespace).await);
        }
        policies
    };
    eventually(PATIENCE, "the service lets all in", || async {
        match let_in(&admin).await {
            4 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await
    .unwrap();
    let before = everything().await;

    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    definitions.delete(DEFINITION, &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the definition is gone", || async {
        match definitions.get_opt(DEFINITION).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await
    .unwrap();
    // The API server may end the watch before it tells of the last deletions: both are a way to lose sight of all workloads.
    operator::metric_is(
        &controller,
        "cloison_watch_errors_total",
        &["kind=\"AiWorkload\""],
        |errors| errors >= 1,
    )
    .await;
    // The rest of the controller goes on meanwhile, the shared namespace included.
    operator::namespace(&admin, "meanwhile", "training", Some("enforce")).await;
    operator::sealed(&admin, "meanwhile", "training").await;
    operator::stays(Duration::from_secs(6), || async {
        assert_eq!(everything().await, before)
    })
    .await;

    operator::install(&plane, &[]);
    for (namespace, _, kind) in namespaces {
        for name in &workloads {
            eventually(PATIENCE, "the definition is served", || async {
                operator::apply(&admin, operator::user(namespace, name, kind))
                    .await
                    .map(drop)
            })
            .await
            .unwrap();
        }
        all_ready(&admin, namespace, &workloads).await;
    }
    assert_eq!(everything().await, before);
    operator::metric_is(&controller, "cloison_vanished_workloads", &[], |vanished| vanished == 0).await;
    // From now on a DELETE is one again.
    let infer: Api<AiWorkload> = Api::namespaced(admin.clone(), "infer");
    infer.delete("two", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the withdrawal", || async {
        match (allows(&admin, "infer").await, let_in(&admin).await) {
            (1, 3) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_missing_at_the_start_is_waited_for() {
    let plane = plane().await;
    operator::install(&plane, &[]);
    let admin = plane.admin().unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    definitions.delete(DEFINITION, &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the definition is gone", || async {
        match definitions.get_opt(DEFINITION).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await
    .unwrap();
    let controller = operator::controller(&plane, "controller").await;
    controller.start().unwrap();
    operator::metric_is(
        &controller,
        "cloison_watch_errors_total",
        &["kind=\"AiWorkload\""],
        |errors| errors >= 1,
    )
    .await;
    let process = controller.process_id();
    assert!(process.is_some());
    assert_eq!(operator::ask(&controller, "/livez").unwrap().0, 200);
    assert_eq!(operator::ask(&controller, "/readyz").unwrap().0, 503);
    let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
    assert!(
        policies.get_opt(names::SINGLETON).await.unwrap().is_none(),
        "half a cache decides nothing"
    );

    operator::install(&plane, &[]);
    eventually(PATIENCE, "ready", || async {
        match operator::ask(&controller, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    operator::healthy(&admin, "train", "Training").await;
    assert_eq!(controller.process_id(), process, "it was not restarted");
}
