//! What the agents report: their last reading of etcd, and what is wrong on their nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::SecretEncryption;
use crate::api::conditions::{Truth, Verdict};
use crate::api::control_plane_report::{ControlPlaneReport, RawProof};
use crate::api::key_ring::EncryptionKeyRing;
use crate::api::names;
use crate::cli::{CliError, out};
use crate::encryption::rotation::at_rest::{self, reasons};
use crate::encryption::rotation::observation::Under;

/// What a reading of etcd showed, as a verdict of this type.
const ETCD: &str = "values in etcd";

/// All reports.
pub(super) async fn all(client: &Client) -> Result<Vec<ControlPlaneReport>, CliError> {
    let reports: Api<ControlPlaneReport> = Api::all(client.clone());
    let listed = reports.list(&ListParams::default()).await;
    Ok(listed.map_err(CliError::api("list ControlPlaneReports"))?.items)
}

/// The youngest reading of etcd, when it was made and by whom; and what agents say is wrong.
pub(super) fn said(reports: &[ControlPlaneReport], now: Timestamp) -> String {
    let mut text = match newest(reports) {
        Some((node, raw)) => format!("etcd: {}\n", read(&node, raw, now)),
        None => "etcd: no agent has read it\n".to_owned(),
    };
    for report in reports {
        if let Some(error) = &report.spec.error {
            let _ = writeln!(
                text,
                "Node/{}: its agent says: {}",
                report.name_any(),
                out::clean(&error.0)
            );
        }
    }
    text
}

fn newest(reports: &[ControlPlaneReport]) -> Option<(String, &RawProof)> {
    let proofs = reports
        .iter()
        .filter_map(|report| Some((report.name_any(), report.spec.proof.as_ref()?)));
    proofs.max_by_key(|(_, raw)| (raw.revision, raw.time.0))
}

fn read(node: &str, raw: &RawProof, now: Timestamp) -> String {
    format!(
        "read {} ago at revision {} by the agent on Node/{node}",
        out::age(now, raw.time.0),
        raw.revision
    )
}

/// The proof from raw etcd, with what it rests on: which node read when, and how many values are under which key.
pub(super) async fn proof(
    client: &Client,
    wanted: &SecretEncryption,
    now: Timestamp,
) -> Result<(Verdict, String), CliError> {
    // Who is no control-plane node has no say.
    let nodes: Api<Node> = Api::all(client.clone());
    let selector = ListParams::default().labels(names::CONTROL_PLANE_LABEL);
    let listed = nodes.list_metadata(&selector).await;
    let nodes = listed.map_err(CliError::api("list control-plane Nodes"))?.items;
    let nodes: BTreeSet<String> = nodes.iter().map(ResourceExt::name_any).collect();
    let mut reports = all(client).await?;
    reports.retain(|report| nodes.contains(&report.name_any()));
    let rings: Api<EncryptionKeyRing> = Api::all(client.clone());
    let ring = rings.get_opt(names::SINGLETON).await;
    let ring = ring.map_err(CliError::api("get EncryptionKeyRing default"))?;
    let keys = ring.into_iter().flat_map(|ring| ring.spec.keys);
    let held = keys
        .filter(|key| key.destroyed_time.is_none())
        .filter_map(|key| Under::named(&key.name.0));
    Ok(judged(&reports, wanted, &held.collect(), now))
}

fn judged(
    reports: &[ControlPlaneReport],
    wanted: &SecretEncryption,
    held: &BTreeSet<Under>,
    now: Timestamp,
) -> (Verdict, String) {
    let Some((node, raw)) = newest(reports) else {
        let message = "no agent has read etcd: give the agents `--etcd` and its certificates (the chart's agent.etcd)";
        return (
            Verdict::new(ETCD, Truth::Unknown, reasons::NOT_PROVEN, message),
            String::new(),
        );
    };
    let resources = wanted
        .spec
        .resources
        .iter()
        .map(|resource| resource.0.clone())
        .collect();
    let hours = u64::try_from(wanted.spec.proof_max_age_hours).unwrap_or(1);
    let at = (&Time(now), Duration::from_hours(hours));
    let mut verdict = at_rest::reading_verdict(ETCD, raw, &resources, held, at);
    verdict.message = format!("{}; {}", verdict.message, read(&node, raw, now));
    let mut rows: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for found in &raw.values {
        *rows.entry((&found.resource.0, &found.key.0)).or_default() += found.count;
    }
    let rows = rows
        .into_iter()
        .map(|((resource, key), count)| vec![resource.to_owned(), key.to_owned(), count.to_string()]);
    (verdict, out::table(&["RESOURCE", "KEY", "VALUES"], rows.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(node: &str, revision: i64, time: &str, key: &str) -> ControlPlaneReport {
        serde_json::from_value(json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "ControlPlaneReport", "metadata": {"name": node},
            "spec": {"observedTime": time, "error": "disk\u{1b} full", "proof": {
                "time": time, "revision": revision, "resources": ["secrets"],
                "values": [{"resource": "secrets", "key": key, "count": 3}],
            }},
        }))
        .unwrap()
    }

    #[test]
    fn the_youngest_reading_counts_and_its_evidence_is_shown() {
        let reports = [
            report("cp-0", 8, "2026-01-02T03:00:00Z", "k1"),
            report("cp-1", 7, "2026-01-02T03:01:00Z", "identity"),
        ];
        let now: Timestamp = "2026-01-02T03:02:00Z".parse().unwrap();
        let wanted = SecretEncryption::new("default", crate::api::encryption::SecretEncryptionSpec::default());
        let held = BTreeSet::from([Under::named("k1").unwrap()]);
        let (verdict, evidence) = judged(&reports, &wanted, &held, now);
        assert_eq!(verdict.truth, Truth::True, "{}", verdict.message);
        let where_from = "read 2 min ago at revision 8 by the agent on Node/cp-0";
        assert!(verdict.message.ends_with(where_from), "{}", verdict.message);
        assert_eq!(evidence, "RESOURCE   KEY   VALUES\nsecrets    k1    3\n");
        let (verdict, _) = judged(&reports[1..], &wanted, &held, now);
        assert_eq!(verdict.truth, Truth::False, "{}", verdict.message);
        assert_eq!(judged(&[], &wanted, &held, now).0.truth, Truth::Unknown);
        let text = said(&reports, now);
        assert!(
            text.contains(where_from) && text.contains("Node/cp-1: its agent says: disk  full"),
            "{text}"
        );
    }
}
