//! What the guard says of a change from the few policies that it reads is what it says from all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

use super::again::wide;
use super::brute::Selecting;
use super::guard::{balanced, changes};
use super::tiers_random::{Style, cluster_policies, read, runner};
use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::network::policies;
use crate::network::reach::UnmodelledPolicy;
use crate::network::reach::change::{Made, Part, concerned};
use crate::network::reach::guard::{Opened, Set, opened_around, would_open};
use crate::network::testkit::policy;
use crate::network::world::World;

/// The usual places among so many others that not all of them are read.
fn crowded() -> (World, Vec<NetworkPolicy>) {
    let (mut world, mut stored) = wide(&[]);
    for number in 0..20 {
        let stage = [Training, Evaluation, Inference, Shared][number % 4];
        let name = format!("more-{number}");
        world.stage(&name, stage);
        // In some there is no deny, and some can be met by those that are named so.
        if number % 5 != 0 {
            stored.push(policies::deny(&name, stage));
        }
        if number % 3 == 0 {
            let from = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infer}}}";
            let spec = format!(
                "{{podSelector: {{}}, ingress: [{{from: [{from}], ports: [{{port: {}}}]}}]}}",
                80 + number
            );
            stored.push(policy(&name, "into", &spec));
        }
    }
    (world, stored)
}

#[test]
fn what_a_change_opens_is_seen_from_what_it_touches() {
    let (verdicts, parts): (RefCell<BTreeMap<_, _>>, RefCell<BTreeMap<_, _>>) = Default::default();
    for how in [Selecting::Anyhow, Selecting::Stages] {
        let others = proptest::option::weighted(0.1, proptest::sample::select(vec!["infer", "more-2", "more-4"]));
        let broken = proptest::option::weighted(
            0.2,
            proptest::sample::select(vec!["train", "plain", "more-3", "more-6"]),
        );
        let tiers = proptest::option::weighted(0.1, cluster_policies(Style::Clear));
        let drawn = (changes(how), others, broken, tiers);
        let outcome = runner(100).run(&drawn, |((all, made), other, broken, tiers)| {
            let (mut world, mut stored) = crowded();
            world.cluster_policies = read(tiers.as_deref().unwrap_or_default());
            stored.extend(all);
            stored.extend(
                broken.map(|namespace| policy(namespace, "broken", "{podSelector: {}, ingress: [{from: [{}]}]}")),
            );
            let unmodelled: Vec<UnmodelledPolicy> = other
                .map(|namespace| UnmodelledPolicy {
                    namespace: Some(namespace.to_owned()),
                    kind: "CiliumNetworkPolicy".to_owned(),
                })
                .into_iter()
                .collect();
            let now = Set {
                world: &world,
                policies: &stored,
                unmodelled: &unmodelled,
            };
            let done = Made::of(now, made.change());
            let after: Vec<NetworkPolicy> = done.policies(now).into_iter().cloned().collect();
            let then = Set {
                world: &done.world,
                policies: &after,
                ..now
            };
            let whole = opened_around(&Part::whole(now), &Part::whole(then), made.namespace(), None);
            prop_assert_eq!(&would_open(now, made.change()), &whole, "{:?}", made);
            let kind = match whole {
                Some(Opened::Path(_)) => "path",
                Some(Opened::Perhaps { .. }) => "perhaps",
                None => "nothing",
            };
            *verdicts.borrow_mut().entry(kind).or_default() += 1;
            let read = concerned(&done.world, &done.policies(now), &unmodelled, made.namespace());
            let kind = match read.len() {
                1 => "read alone",
                2..=13 => "read with some",
                _ => "read with many",
            };
            *parts.borrow_mut().entry(kind).or_default() += 1;
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }
    balanced(
        "in part, opened",
        &verdicts.into_inner(),
        &["path", "perhaps", "nothing"],
    );
    balanced(
        "in part",
        &parts.into_inner(),
        &["read alone", "read with some", "read with many"],
    );
}
