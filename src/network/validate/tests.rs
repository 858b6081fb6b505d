//! Which workloads are accepted as a whole.

use super::*;
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::api::workload::Runtime::Generic;
use crate::network::testkit::world;
use crate::network::world::WorkloadKey;

fn cluster() -> World {
    let mut world = world();
    world
        .stage("vision-train", Training)
        .stage("vision-infer", Inference)
        .stage("mlops", Shared)
        .plain("minio", "");
    world
}

#[test]
fn a_workload_belongs_into_a_namespace_of_its_stage() {
    let mut world = cluster();
    for (namespace, rule) in [
        ("mlops", "NET-02/stage-mismatch"),
        ("minio", "NET-02/no-stage"),
        ("nowhere", "NET-02/no-stage"),
        ("vision-infer", "NET-02/stage-mismatch"),
    ] {
        world.workload(namespace, "w", Generic, "");
        let key = WorkloadKey::new(namespace, "w");
        world.workloads.get_mut(&key).unwrap().stage = Stage::Training;
        let verdict = workload(&world, world.get(namespace, "w"));
        let Verdict::Refused(findings) = verdict else {
            panic!("{namespace}")
        };
        assert_eq!(findings[0].rule.to_string(), rule);
        assert!(!accepts(&world, world.get(namespace, "w")));
    }
}

#[test]
fn names_that_are_no_label_value_are_refused_and_odd_ones_are_not() {
    let mut world = cluster();
    for name in ["", "a.b", "A", "-a", "a-", "a/b", &"a".repeat(64)] {
        world.workload("vision-train", name, Generic, "");
        assert!(!accepts(&world, world.get("vision-train", name)), "{name:?}");
    }
    for name in [
        "deny",
        "ns-deny",
        "default-deny",
        "dns",
        "default",
        "0",
        &"a".repeat(63),
    ] {
        world.workload("vision-train", name, Generic, "");
        assert!(accepts(&world, world.get("vision-train", name)), "{name:?}");
    }
}
