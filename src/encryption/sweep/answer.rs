//! What the API server answers, reduced to what the sweep needs. Annotations may hold a copy of a Secret's data
//! (`kubectl apply` leaves one): they are walked over, and never kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The annotation in which `kubectl apply` keeps the whole object, data included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One Secret, as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Which object of that name.
    pub uid: Box<str>,
    /// Which version of it.
    pub version: Box<str>,
    /// Whether an annotation holds a copy of its data, in plain sight of whoever reads metadata.
    pub copied: bool,
}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// The answer about one Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The object as it is now; only on success.
    pub entry: Option<Entry>,
    /// `metav1.Status.reason`.
    pub reason: String,
    /// `metav1.Status.message`.
    pub message: String,
    /// `metav1.Status.details.kind`: of a 404, what there is not.
    pub kind: String,
    /// How long the API server asks to wait.
    pub retry_after: Option<Duration>,
}

/// The API server sent something else than metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server answered with {0}; a proxy that drops the header Accept?")]
pub struct NotMetadata(&'static str);

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    kind: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    kind: String,
    metadata: Option<ListMetadata>,
    /// An empty part may say `null`.
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue", default)]
    next: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    uid: Option<Box<str>>,
    resource_version: Option<Box<str>>,
    #[allow(
        clippy::zero_sized_map_values,
        reason = "a set cannot be read from a map, and the values are not to be kept"
    )]
    annotations: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    reason: String,
    message: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    kind: String,
    retry_after_seconds: u64,
}

impl Metadata {
    fn entry(self) -> Option<Entry> {
        Some(Entry {
            namespace: self.namespace?,
            name: self.name?,
            uid: self.uid?,
            version: self.resource_version?,
            copied: self.annotations.is_some_and(|all| all.contains_key(LAST_APPLIED)),
        })
    }
}

impl Answer {
    /// Reads the answer about one Secret. `retry_after` is the header of that name, in seconds.
    pub fn of(code: u16, retry_after: Option<u64>, body: &[u8]) -> Result<Self, NotMetadata> {
        if !(200..300).contains(&code) {
            return Ok(Self::refusal(code, retry_after, body));
        }
        let object: Object = serde_json::from_slice(body).map_err(|_| NotMetadata("no JSON"))?;
        if object.kind != "PartialObjectMetadata" {
            return Err(NotMetadata("a whole object"));
        }
        let entry = object.metadata.and_then(Metadata::entry);
        Ok(Self {
            code,
            entry: Some(entry.ok_or(NotMetadata("incomplete metadata"))?),
            ..Self::default()
        })
    }

    /// The API server could not be reached, or broke off.
    pub fn none() -> Self {
        Self::default()
    }

    fn refusal(code: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        // Not every refusal is a Status: that of priority and fairness is plain text.
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let details = status.details.unwrap_or_default();
        let asked = retry_after.or(Some(details.retry_after_seconds).filter(|seconds| *seconds > 0));
        Self {
            code,
            entry: None,
            reason: status.reason,
            message: status.message,
            kind: details.kind,
            retry_after: asked.map(Duration::from_secs),
        }
    }
}

impl Page {
    /// Reads a part of the list; the inner error is the API server's refusal.
    pub fn of(code: u16, retry_after: Option<u64>, body: &[u8]) -> Result<Result<Self, Answer>, NotMetadata> {
        if !(200..300).contains(&code) {
            return Ok(Err(Answer::refusal(code, retry_after, body)));
        }
        let list: List = serde_json::from_slice(body).map_err(|_| NotMetadata("no JSON"))?;
        if list.kind != "PartialObjectMetadataList" {
            return Err(NotMetadata("whole objects"));
        }
        let entry = |item: Item| item.metadata.and_then(Metadata::entry);
        let entries: Option<Vec<Entry>> = list.items.into_iter().flatten().map(entry).collect();
        Ok(Ok(Self {
            // One that is left out would be one that is never rewritten.
            entries: entries.ok_or(NotMetadata("incomplete metadata"))?,
            next: list
                .metadata
                .map(|metadata| metadata.next)
                .filter(|next| !next.is_empty()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str) -> serde_json::Value {
        json!({
            "kind": kind, "apiVersion": "meta.k8s.io/v1",
            "metadata": {
                "name": "s", "namespace": "a", "uid": "u", "resourceVersion": "7",
                "annotations": { LAST_APPLIED: "{\"data\":{\"password\":\"aHVudGVyMg==\"}}" },
            },
        })
    }

    #[test]
    fn metadata_is_read_and_a_copy_of_the_data_is_noticed_and_not_kept() {
        let body = object("PartialObjectMetadata").to_string();
        let answer = Answer::of(200, None, body.as_bytes()).unwrap();
        let entry = answer.entry.clone().unwrap();
        assert_eq!((&*entry.namespace, &*entry.name, &*entry.version), ("a", "s", "7"));
        assert!(entry.copied);
        assert!(!format!("{answer:?}").contains("aHVudGVyMg"), "{answer:?}");
    }

    #[test]
    fn a_whole_object_is_refused_and_so_is_a_list_of_them() {
        assert!(Answer::of(200, None, object("Secret").to_string().as_bytes()).is_err());
        let list = |kind: &str, items: serde_json::Value| {
            json!({"kind": kind, "metadata": {"continue": ""}, "items": items}).to_string()
        };
        assert!(Page::of(200, None, list("SecretList", json!([])).as_bytes()).is_err());
        let metadata = object("PartialObjectMetadata")["metadata"].clone();
        let good = list("PartialObjectMetadataList", json!([{ "metadata": metadata }]));
        let page = Page::of(200, None, good.as_bytes()).unwrap().unwrap();
        assert_eq!((page.entries.len(), page.next), (1, None));
        let empty = list("PartialObjectMetadataList", serde_json::Value::Null);
        let page = Page::of(200, None, empty.as_bytes()).unwrap().unwrap();
        assert_eq!((page.entries.len(), page.next), (0, None));
        let nameless = list("PartialObjectMetadataList", json!([{"metadata": {"name": "s"}}]));
        assert!(Page::of(200, None, nameless.as_bytes()).is_err());
    }

    #[test]
    fn a_refusal_that_is_no_status_is_one_all_the_same() {
        let answer = Answer::of(429, Some(3), b"Too many requests, please try again later.").unwrap();
        assert_eq!((answer.code, answer.retry_after), (429, Some(Duration::from_secs(3))));
        let status = json!({"kind": "Status", "reason": "Timeout", "details": {"retryAfterSeconds": 2}}).to_string();
        let answer = Answer::of(504, None, status.as_bytes()).unwrap();
        assert_eq!(
            (&*answer.reason, answer.retry_after),
            ("Timeout", Some(Duration::from_secs(2)))
        );
    }
}
