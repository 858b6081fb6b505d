//! An `AiWorkload`: its place and its flows, by the functions that render and report them.

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;

use super::{Answer, Found, LookedUp, Lookup, Place, Request, Sight, added, answer, parse};
use crate::api::AiWorkload;
use crate::compliance::{Assurance, Finding};
use crate::network::flows::Resolver;
use crate::network::rules;
use crate::network::world::{self, WorkloadKey, World};

pub(super) fn review(request: &Request, object: &DynamicObject, sight: &Sight, now: Timestamp) -> Answer {
    let workload: AiWorkload = match parse(request, object) {
        Ok(workload) => workload,
        Err(answer) => return answer,
    };
    let namespace = request.namespace.clone().unwrap_or_default();
    let old = request.old_object.as_ref();
    let old = old.and_then(|old| old.clone().try_parse::<AiWorkload>().ok());
    let before = old.map(|old| judge(&sight.world, &facts(&namespace, &old)));
    let found = judge(&sight.world, &facts(&namespace, &workload));
    let (refused, told) = match before {
        Some((refused, told)) => (added(found.0, &refused), added(found.1, &told)),
        None => found,
    };
    let place = Place::of(sight, &namespace);
    let mut answer = answer(refused, &place, sight, now);
    if place.stage.is_some() || !told.is_empty() {
        answer
            .warnings
            .extend(told.iter().map(|finding| super::told(&sight.hash, finding)));
    }
    answer
}

/// What is against a workload: what is refused, and what may still come true and is only told, such as a peer that is
/// applied a second later.
fn judge(world: &World, workload: &world::Workload) -> (Vec<Finding>, Vec<Finding>) {
    let flows = Resolver::new(world).resolve(workload);
    let unsure = |finding: &Finding| {
        finding.assurance == Assurance::Unknown || finding.rule == rules::NO_STAGE || flows.unresolved.contains(finding)
    };
    // The stage of the namespace is for `cloison-crd`, in CEL.
    let ours = flows
        .findings
        .iter()
        .filter(|finding| finding.rule != rules::STAGE_MISMATCH);
    let (told, refused) = ours.cloned().partition(unsure);
    (refused, told)
}

fn facts(namespace: &str, workload: &AiWorkload) -> world::Workload {
    world::Workload {
        key: WorkloadKey::new(namespace, workload.metadata.name.clone().unwrap_or_default()),
        stage: workload.spec.stage,
        runtime: workload.spec.runtime,
        network: workload.spec.network.clone(),
        terminating: false,
        quarantined: false,
    }
}

/// A deletion always passes: what runs keeps its deny. Whoever types it is told what loses its flows.
pub(super) fn deleted(request: &Request, found: &LookedUp) -> Answer {
    let namespace = request.namespace.clone().unwrap_or_default();
    let key = WorkloadKey::new(namespace, &request.name);
    match found.get(&Lookup::Pods(key.clone())) {
        Some(Found::Pods(0)) => Answer::default(),
        Some(Found::Pods(running)) => {
            let (pods, they) = if *running == 1 {
                ("pod", "it loses its")
            } else {
                ("pods", "they lose their")
            };
            Answer::warning(format!(
                "{}AiWorkload {key} has {running} running {pods}: {they} declared flows; delete the pods first",
                "[cloison] "
            ))
        }
        Some(Found::Failed(why)) => Answer::warning(format!(
            "{}whether pods of AiWorkload {key} run could not be seen ({why}); those that do lose their declared flows",
            "[cloison] "
        )),
        _ => Answer::default(),
    }
}
