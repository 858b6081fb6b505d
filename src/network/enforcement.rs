//! The packet canary: what a pair of short-lived pods has shown of the network plugin. Pure: the pods and policies to make,
//! and the verdict on what came of them.
//!
//! A server and a client, each in a namespace of its own under a default deny of both directions, and three flows: one that
//! both ends allow, one that only the client's egress allows and one that only the server's ingress allows. The first must
//! pass, the two others must not: with them each direction is seen to be enforced for itself. The first is also the control
//! of the others: without it a broken network would look like a perfect wall.

mod objects;

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Truth;

pub use objects::{client, policies, server};

/// The TCP port that both ends allow.
pub const ALLOWED: u16 = 7001;
/// The TCP port that the client's egress allows and the server's ingress does not.
pub const WITHOUT_INGRESS: u16 = 7002;
/// The TCP port that the server's ingress allows and the client's egress does not.
pub const WITHOUT_EGRESS: u16 = 7003;

/// What came of the three flows to one address of the server: whether each got through, there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flows {
    /// The server's address.
    pub address: IpAddr,
    /// To [`ALLOWED`], before and after the two others.
    pub allowed: bool,
    /// To [`WITHOUT_INGRESS`].
    pub without_ingress: bool,
    /// To [`WITHOUT_EGRESS`].
    pub without_egress: bool,
}

impl Flows {
    /// Whether packets did what the policies say.
    pub fn obey(&self) -> bool {
        self.allowed && !self.without_ingress && !self.without_egress
    }
}

/// The client's answer, as its container leaves it in the termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// Milliseconds from the client's start until packets obeyed, or until it gave up.
    pub milliseconds: u64,
    /// The last try, by address.
    pub flows: Vec<Flows>,
}

/// What is said of the network plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The status of `EnforcementVerified`.
    pub truth: Truth,
    /// Its reason.
    pub reason: &'static str,
    /// Its message: one line. It names neither addresses nor nodes, which are others each time.
    pub message: String,
}

impl Verdict {
    /// Nothing was shown.
    pub fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth: Truth::Unknown,
            reason,
            message: message.into(),
        }
    }
}

/// The verdict once both pods ran: `server` as it was while it ran, `client` when it had ended.
pub fn judge(server: &Pod, client: &Pod) -> Verdict {
    let answer = match answer(client) {
        Ok(answer) => answer,
        Err(why) => return Verdict::unknown("NoAnswer", format!("the packet canary's client {why}")),
    };
    let asked: BTreeSet<IpAddr> = addresses(server).into_iter().collect();
    let told: BTreeSet<IpAddr> = answer.flows.iter().map(|flows| flows.address).collect();
    if told != asked || asked.is_empty() || answer.flows.len() != asked.len() {
        return Verdict::unknown(
            "NoAnswer",
            "the packet canary's client did not tell of every address of the server and of no other",
        );
    }
    let among = |chosen: fn(&Flows) -> bool| families(answer.flows.iter().filter(|flows| chosen(flows)));
    let (ingress, egress) = (among(|f| f.without_ingress), among(|f| f.without_egress));
    if ingress.is_some() || egress.is_some() {
        let passed = [("ingress", ingress), ("egress", egress)];
        let passed = passed
            .into_iter()
            .filter_map(|(direction, families)| Some((direction, families?)));
        let passed: Vec<String> = passed
            .map(|(direction, families)| format!("{direction} ({families})"))
            .collect();
        return Verdict {
            truth: Truth::False,
            reason: "NotEnforced",
            message: format!(
                "a packet that a NetworkPolicy forbids got through: nothing enforces {} on the canary's nodes; install or \
                 mend the network plugin that does",
                passed.join(" and ")
            ),
        };
    }
    if let Some(families) = among(|flows| !flows.allowed) {
        return Verdict::unknown(
            "AllowedFlowFailed",
            format!(
                "the packet canary's allowed flow did not get through ({families}), so that the other flows, which did not \
                 either, prove nothing; look at the network between pods, and for policies that also cut the namespaces \
                 cloison-packets-client and cloison-packets-server"
            ),
        );
    }
    let nodes = if node(server) == node(client) {
        "one node"
    } else {
        "two nodes"
    };
    let families = among(Flows::obey).unwrap_or_default();
    Verdict {
        truth: Truth::True,
        reason: "PacketsObey",
        message: format!(
            "packets were sent between two pods on {nodes} over TCP ({families}): what both policies allow got through, what \
             the egress or the ingress side alone forbids did not"
        ),
    }
}

/// The families of these, as text; `None` for none.
fn families<'f>(flows: impl Iterator<Item = &'f Flows>) -> Option<String> {
    let families: BTreeSet<&str> = flows
        .map(|flows| if flows.address.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    (!families.is_empty()).then(|| families.into_iter().collect::<Vec<_>>().join(", "))
}

/// The answer of a client that has ended, or what it did instead.
pub fn answer(client: &Pod) -> Result<Answer, String> {
    let status = client.status.as_ref();
    let containers = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let ended = containers
        .first()
        .and_then(|container| container.state.as_ref()?.terminated.as_ref());
    let Some(ended) = ended else {
        let why = status
            .and_then(|status| status.reason.as_deref())
            .unwrap_or("no reason is given");
        return Err(format!("ended without having run: {why}"));
    };
    let said = ended.message.as_deref().unwrap_or_default().trim();
    if ended.exit_code != 0 {
        let said = if said.is_empty() { "nothing" } else { said };
        return Err(format!("failed with exit code {} and said: {said}", ended.exit_code));
    }
    serde_json::from_str(said).map_err(|error| format!("gave an answer that cannot be read: {error}"))
}

/// All addresses of a pod.
pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let addresses = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref());
    let addresses = addresses.unwrap_or_default().iter();
    addresses.filter_map(|address| address.ip.parse().ok()).collect()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Why a pod of the canary does not run, by its own status. `after` says how long it was waited for.
pub fn not_running(pod: Option<&Pod>, what: &str, after: &str) -> Verdict {
    let Some(status) = pod.and_then(|pod| pod.status.as_ref()) else {
        return Verdict::unknown(
            "PodGone",
            format!("the packet canary's {what} was deleted while it was needed"),
        );
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unscheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or("no reason is given");
        let message = format!("the packet canary's {what} was not scheduled within {after}: {why}");
        return Verdict::unknown("PodUnschedulable", message);
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let state = containers.first().and_then(|container| container.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let why = match (waiting, terminated) {
        (Some(waiting), _) => waiting.reason.clone(),
        (None, Some(ended)) => Some(format!(
            "it ended with exit code {}: {}",
            ended.exit_code,
            ended.message.as_deref().unwrap_or("it said nothing").trim()
        )),
        (None, None) => status.reason.clone(),
    };
    let why = why.unwrap_or_else(|| "no node has started it".to_owned());
    let message = format!("the packet canary's {what} did not do its work within {after}: {why}");
    Verdict::unknown("PodNotRun", message)
}

#[cfg(test)]
mod tests;
