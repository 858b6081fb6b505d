//! What the webhook would say to the settings of an input: the AiSecurityPolicy, the SecretEncryption, Waivers. No API server
//! is asked, so nothing is said of who writes them, of what is stored already, or of what a Waiver is for.

use k8s_openapi::jiff::Timestamp;

use super::offline::policy;
use crate::admission::review::{InAFile, encryption_in_a_file, policy_in_a_file, waiver_in_a_file};
use crate::cli::CliError;
use crate::cli::manifests::{Document, Objects, Problem};
use crate::compliance::Finding;

/// What was found.
#[derive(Default)]
pub(super) struct Judged {
    /// What the API server would refuse.
    pub refused: Vec<Problem>,
    /// What it would let pass, each at its line.
    pub told: Vec<Finding>,
}

/// Judges each as one that is created now.
pub(super) fn judge(objects: &Objects, now: Timestamp) -> Result<Judged, CliError> {
    let (spec, assumed) = (policy(objects)?, objects.policy().is_none());
    let mut judged = Judged::default();
    for found in objects.policies.values().filter(|found| found.own) {
        judged.add(&found.document, policy_in_a_file(&found.object, now));
    }
    for found in objects.encryptions.values().filter(|found| found.own) {
        judged.add(&found.document, encryption_in_a_file(&found.object, &spec, now));
    }
    for found in objects.waivers.values().filter(|found| found.own) {
        judged.add(&found.document, waiver_in_a_file(&found.object, &spec, assumed, now));
    }
    Ok(judged)
}

impl Judged {
    fn add(&mut self, document: &Document, said: InAFile) {
        let place = |finding: &Finding| {
            let field = finding.at.as_ref().and_then(|at| at.field.as_deref());
            document.locate(field.unwrap_or_default())
        };
        self.refused.extend(said.refused.iter().map(|finding| Problem {
            at: place(finding),
            message: finding.line(),
        }));
        let told = said.told.into_iter().map(|finding| {
            let at = place(&finding);
            finding.at(at)
        });
        self.told.extend(told);
    }
}
