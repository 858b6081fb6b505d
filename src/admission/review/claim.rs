//! A claim that names its volume: whose it was. A PersistentVolume that served another stage carries its data along.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;

use super::{Answer, Found, LookedUp, Lookup, Place, Request, Sight, answer, parse};
use crate::compliance::id::DAT_07;
use crate::compliance::{Finding, Location, Subject};

/// The volume that a request binds a claim to: that it names, and did not before.
pub(super) fn volume(request: &Request) -> Option<String> {
    let named = |object: &DynamicObject| {
        let claim: PersistentVolumeClaim = object.clone().try_parse().ok()?;
        claim.spec?.volume_name.filter(|name| !name.is_empty())
    };
    let before = request.old_object.as_ref().and_then(named);
    let now = request.object.as_ref().and_then(named);
    now.filter(|_| before != request.object.as_ref().and_then(named))
}

pub(super) fn review(
    request: &Request,
    object: &DynamicObject,
    sight: &Sight,
    found: &LookedUp,
    now: Timestamp,
) -> Answer {
    if let Err(answer) = parse::<PersistentVolumeClaim>(request, object) {
        return answer;
    }
    let Some(name) = volume(request) else {
        return Answer::default();
    };
    let namespace = request.namespace.clone().unwrap_or_default();
    let place = Place::of(sight, &namespace);
    let volume = match found.get(&Lookup::Volume(name.clone())) {
        Some(Found::Volume(volume)) => volume,
        Some(Found::Failed(why)) => {
            return Answer::undecided(format!("PersistentVolume {name} could not be read: {why}; try again"));
        }
        _ => return Answer::undecided(format!("PersistentVolume {name} was not looked up; try again")),
    };
    // One that is not there yet is nobody's; one without a claim was nobody's so far.
    let claim = volume
        .as_ref()
        .and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
    let Some(owner) = claim.and_then(|claim| claim.namespace.clone()) else {
        return Answer::default();
    };
    let theirs = sight.world.stage_of(&owner);
    if owner == namespace || theirs == place.stage {
        return Answer::default();
    }
    let of = theirs.map_or_else(|| "of no stage".to_owned(), |stage| format!("of stage {stage}"));
    let subject = Subject::namespaced("PersistentVolumeClaim", &namespace, &request.name);
    let message = format!("PersistentVolume {name:?} belongs to a claim of namespace {owner:?}, which is {of}");
    let finding = Finding::new(DAT_07.rule("foreign-volume"), subject, message);
    answer(vec![finding.at(Location::field("spec.volumeName"))], &place, sight, now)
}
