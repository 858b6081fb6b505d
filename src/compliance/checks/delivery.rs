//! How credentials reach the containers of a pod, those that run first and those that are added later included. Files of a
//! volume, projected or not, are the way to go. What the kubelet pulls images with never enters a container.

use super::Settings;
use super::pod::{FromSecret, PodFacts};
use crate::api::workload::Delivery;
use crate::compliance::finding::{Finding, Location, Subject};
use crate::compliance::id::ENC_04;

pub(super) fn findings(facts: &PodFacts, subject: &Subject, settings: &Settings<'_>) -> Vec<Finding> {
    let written = facts.literals.iter().map(|literal| {
        let message = format!(
            "container {:?} is given {} in plain sight",
            literal.container, literal.what
        );
        Finding::new(ENC_04.rule("literal"), subject.clone(), message).at(Location::field(&*literal.field))
    });
    let allowed = settings.delivery() == Some(Delivery::EnvFromSecretsAllowed);
    let referred = facts.from_secrets.iter().filter(|_| !allowed);
    written
        .chain(referred.map(|found| reference(found, subject, settings)))
        .collect()
}

fn reference(found: &FromSecret, subject: &Subject, settings: &Settings<'_>) -> Finding {
    let FromSecret {
        container,
        variable,
        secret,
        field,
    } = found;
    let because = match settings.delivery() {
        Some(Delivery::FilesOnly) => ", and the AiWorkload asks for files only",
        _ => "",
    };
    let named = variable
        .as_ref()
        .map(|name| ("reference", format!("variable {name:?}")));
    let (rule, taken) = named.unwrap_or_else(|| ("env-from", "its environment".to_owned()));
    let message = format!("container {container:?} takes {taken} from Secret {secret:?}{because}");
    Finding::new(ENC_04.rule(rule), subject.clone(), message).at(Location::field(&**field))
}
