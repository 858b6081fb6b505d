//! The AdmissionReview as it travels: read without a panic whatever arrives, answered in one line and by field.

use kube::core::admission::{AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND};
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};
use kube::core::{DynamicObject, Status};

use super::{Answer, Request, TOLD, prefix, shorten};
use crate::compliance::Finding;

/// Why a body is no request for admission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no request for admission: {0}")]
pub struct Malformed(String);

/// Reads the body of an API server's request.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| Malformed(format!("not an AdmissionReview: {error}")))?;
    let types = &review.types;
    if types.kind != META_KIND || types.api_version != META_API_VERSION_V1 {
        return Err(Malformed(format!(
            "{:?} of {:?}; {META_KIND} of {META_API_VERSION_V1} is expected",
            types.kind, types.api_version
        )));
    }
    let request: Request = review
        .try_into()
        .map_err(|_| Malformed("it has no `request`".to_owned()))?;
    if request.uid.is_empty() {
        return Err(Malformed("`request.uid` is empty".to_owned()));
    }
    Ok(request)
}

impl Answer {
    /// The answer as the API server reads it; or why there is none, which is no verdict: what becomes of the request is then
    /// for the entry's failurePolicy to say.
    pub fn review(self, request: &Request, hash: &str) -> Result<AdmissionReview<DynamicObject>, String> {
        if let Some(why) = self.undecided {
            return Err(why);
        }
        let mut response = AdmissionResponse::from(request);
        response.allowed = self.refused.is_empty();
        if !response.allowed {
            response.result = self.status(request, hash);
        }
        if !self.observed.is_empty() {
            let text = message(hash, &self.observed);
            response.audit_annotations.insert("observed".to_owned(), text);
        }
        response.warnings = (!self.warnings.is_empty()).then_some(self.warnings);
        Ok(response.into_review())
    }

    fn status(&self, request: &Request, hash: &str) -> Status {
        let causes = self.refused.iter().map(|finding| StatusCause {
            reason: "FieldValueForbidden".to_owned(),
            message: shorten(finding.line()),
            field: finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default(),
        });
        Status {
            status: Some(StatusSummary::Failure),
            code: 403,
            reason: "Forbidden".to_owned(),
            message: message(hash, &self.refused),
            details: Some(StatusDetails {
                name: request.name.clone(),
                group: request.kind.group.clone(),
                kind: request.resource.resource.clone(),
                uid: String::new(),
                causes: causes.collect(),
                retry_after_seconds: 0,
            }),
            metadata: None,
        }
    }
}

/// One line: at most three problems, as the admission policies tell them.
fn message(hash: &str, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().take(TOLD).map(|f| shorten(f.line())).collect();
    if findings.len() > TOLD {
        lines.push(format!("+{} more: kubectl cloison why", findings.len() - TOLD));
    }
    format!("{}{}", prefix(hash), lines.join("; "))
}
