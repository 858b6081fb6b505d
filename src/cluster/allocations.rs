//! What ResourceClaims were given.

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

use crate::compliance::checks::sharing::Allocation;

/// ResourceClaims in one answer.
const PAGE: u32 = 500;
/// The newest first. They say alike what was allocated.
const VERSIONS: [&str; 3] = ["v1", "v1beta2", "v1beta1"];

/// What is allocated in the whole cluster, in the newest version that is served; nothing where none is.
pub async fn list(client: &Client) -> Result<Vec<Allocation>, kube::Error> {
    for version in VERSIONS {
        let resource = ApiResource {
            group: "resource.k8s.io".to_owned(),
            version: version.to_owned(),
            api_version: format!("resource.k8s.io/{version}"),
            kind: "ResourceClaim".to_owned(),
            plural: "resourceclaims".to_owned(),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = match api.list(&page).await {
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                listed => listed?,
            };
            let claims = listed
                .items
                .into_iter()
                .map(|claim| serde_json::to_value(claim).unwrap_or(Value::Null));
            found.extend(claims.filter_map(|claim| Allocation::read(&claim)));
            page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                return Ok(found);
            }
        }
    }
    Ok(Vec::new())
}
