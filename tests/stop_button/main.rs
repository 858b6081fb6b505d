//! The stop button: Cloison stops when it is told to, also by kubectl alone, stays off, and seals again deny first.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/operator.rs"]
mod operator;
mod pressed;
mod released;

use std::time::Duration;

use cloison::api::AiWorkload;
use cloison_testbed::{ControlPlane, Options, Program};
use kube::{Api, Client};

const OURS: &str = "app.kubernetes.io/managed-by=cloison";
/// Much longer than a repair takes, which is tens of milliseconds.
const A_WHILE: Duration = Duration::from_secs(4);

async fn installed() -> (ControlPlane, Program, Client) {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    (plane, controller, admin)
}

/// Every condition of a workload is Unknown/Off and gives the reason.
async fn says_off(admin: &Client, namespace: &str, name: &str, why: &str) {
    let (reason, message) = operator::condition(admin, namespace, name, "Ready", "Unknown").await;
    assert_eq!(reason, "Off");
    assert!(message.contains(why), "{message}");
    let api: Api<AiWorkload> = Api::namespaced(admin.clone(), namespace);
    let status = api.get(name).await.unwrap().status.unwrap();
    for condition in &status.conditions {
        assert_eq!(
            (&*condition.status, &*condition.reason),
            ("Unknown", "Off"),
            "{}",
            condition.type_
        );
    }
    assert!(status.conditions.len() >= 9, "{:?}", status.conditions);
}
