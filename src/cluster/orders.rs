//! Writes the order to the agents into the status of `SecretEncryption`.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::api::encryption_status::Order;
use crate::api::{SecretEncryption, names};

/// Writes `order` over `seen`, the object that was looked at, and over no other version: between the look and the order
/// nobody else ordered. Answers the object as it is then; 409 when it is not the version of `seen` any more.
pub async fn write(client: &Client, seen: &SecretEncryption, order: &Order) -> Result<SecretEncryption, kube::Error> {
    let before = seen.status.as_ref().and_then(|status| status.order.as_ref());
    let patch = json!({
        "metadata": { "resourceVersion": seen.resource_version(), "uid": seen.uid() },
        "status": { "order": replaced(&json!(before), json!(order)) },
    });
    let parameters = PatchParams {
        field_manager: Some(names::ORDER_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let all: Api<SecretEncryption> = Api::all(client.clone());
    all.patch_status(names::SINGLETON, &parameters, &Patch::Merge(patch))
        .await
}

/// A merge patch that leaves `next` and nothing else where `before` was.
fn replaced(before: &Value, mut next: Value) -> Value {
    if let (Some(before), Some(next)) = (before.as_object(), next.as_object_mut()) {
        for (field, old) in before {
            let new = next.entry(field).or_insert(Value::Null);
            *new = replaced(old, new.take());
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::replaced;

    #[test]
    fn nothing_of_the_order_before_is_left() {
        let before = json!({"number": 3, "mint": {"afterID": 0, "request": "now"}, "retire": [1]});
        let next = json!({"number": 4, "mint": {"afterID": 1}, "configuration": {"write": "k1"}});
        let wanted = json!({"number": 4, "mint": {"afterID": 1, "request": null}, "retire": null, "configuration": {"write": "k1"}});
        assert_eq!(replaced(&before, next.clone()), wanted);
        assert_eq!(replaced(&serde_json::Value::Null, next.clone()), next);
    }
}
