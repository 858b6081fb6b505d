//! The ClusterNetworkPolicies of a cluster. No client crate has the kind, so the objects are read as they come and given
//! their meaning by [`crate::network::cluster_policy`].

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};

use crate::network::cluster_policy::{ClusterNetworkPolicy, GROUP, KIND, PLURAL, VERSION};

/// Objects in one answer.
const PAGE: u32 = 500;

/// The kind, by its full group and version.
pub fn resource() -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        plural: PLURAL.to_owned(),
    }
}

/// All objects, sorted by name; `None` where the cluster does not serve the kind.
///
/// # Errors
///
/// Whatever the API server answers but that it does not know the kind.
pub async fn list(client: &Client) -> Result<Option<Vec<DynamicObject>>, kube::Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = match api.list(&page).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            list => list?,
        };
        found.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    found.sort_by_key(ResourceExt::name_any);
    Ok(Some(found))
}

/// What one says.
pub fn read(object: &DynamicObject) -> ClusterNetworkPolicy {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    ClusterNetworkPolicy::read(object.name_any(), spec)
}
