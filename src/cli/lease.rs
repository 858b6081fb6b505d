//! How old the last proofs are: with the controller dead nobody writes `Unknown`, so conditions are as old as its Lease.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client};
use serde::Serialize;

use super::{CliError, absent, forbidden, out};
use crate::api::names;

/// What the Lease of the controller says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pulse {
    /// Nobody renews it any more, or nobody ever did; `None` where the Lease may not be read.
    pub stale: Option<bool>,
    /// Who holds it.
    pub holder: Option<String>,
    /// When it was last renewed.
    pub renewed: Option<Timestamp>,
    /// For people: one line.
    pub message: String,
}

/// Reads the Lease.
pub(super) async fn pulse(client: &Client, namespace: &str, now: Timestamp) -> Result<Pulse, CliError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match leases.get(names::CONTROLLER_LEASE).await {
        Ok(lease) => Ok(judge(&lease, now)),
        Err(error) if absent(&error) => Ok(silent(
            Some(true),
            format!(
                "STALE: there is no Lease {namespace}/{}: no controller ever ran there; nothing below is proven",
                names::CONTROLLER_LEASE
            ),
        )),
        Err(error) if forbidden(&error) => Ok(silent(
            None,
            format!("how old this is cannot be told: you may not read Leases in namespace {namespace}"),
        )),
        Err(error) => Err(CliError::api(format!(
            "get Lease {namespace}/{}",
            names::CONTROLLER_LEASE
        ))(error)),
    }
}

fn silent(stale: Option<bool>, message: String) -> Pulse {
    Pulse {
        stale,
        holder: None,
        renewed: None,
        message,
    }
}

fn judge(lease: &Lease, now: Timestamp) -> Pulse {
    let spec = lease.spec.clone().unwrap_or_default();
    let Some(renewed) = spec.renew_time.map(|time| time.0) else {
        let message = "STALE: the controller never renewed its lease; nothing below is proven".to_owned();
        return silent(Some(true), message);
    };
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let life = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
    let stale = holder.is_none() || now.duration_since(renewed) > life;
    let age = out::age(now, renewed);
    let message = match (&holder, stale) {
        (Some(holder), false) => format!("controller {holder} renewed its lease {age} ago"),
        (_, true) | (None, _) => {
            format!("STALE: the controller last renewed its lease {age} ago; every condition below is as old")
        }
    };
    Pulse {
        stale: Some(stale),
        holder,
        renewed: Some(renewed),
        message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(spec: &serde_json::Value) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_lease_is_stale_when_its_time_has_passed_or_nobody_holds_it() {
        let now: Timestamp = "2026-11-22T12:00:30Z".parse().unwrap();
        let spec = |holder: &str, renewed: &str| {
            lease(&json!({"holderIdentity": holder, "leaseDurationSeconds": 30, "renewTime": renewed}))
        };
        let of = |lease: Lease| judge(&lease, now).stale;
        assert_eq!(of(spec("a", "2026-11-22T12:00:00.000000Z")), Some(false));
        assert_eq!(of(spec("a", "2026-11-22T11:59:59.000000Z")), Some(true));
        assert_eq!(of(spec("", "2026-11-22T12:00:29.000000Z")), Some(true));
        assert_eq!(of(lease(&json!({"holderIdentity": "a"}))), Some(true));
        assert_eq!(
            judge(&spec("a", "2026-11-22T09:00:00.000000Z"), now).message,
            "STALE: the controller last renewed its lease 3 h ago; every condition below is as old"
        );
    }
}
