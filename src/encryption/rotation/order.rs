//! From a decision to the order in `SecretEncryption.status`, which the agents read.

use super::observation::{Configuration, Observation, Standing, Under};
use super::{Action, Decision};
use crate::api::encryption_status::{ConfigurationOrder, MintOrder, Order};
use crate::api::text::{KeyName, LabelValue, ObjectName};

impl Decision {
    /// Whether it asks the agents for what stands already.
    pub(super) fn repeats(&self, seen: &Observation) -> bool {
        self.order(seen).number == signed(seen.order.number)
    }

    /// The order that is to stand after this decision. While something is waited for, the one that stands goes on; where
    /// nothing is due or something is in the way, nothing is asked, and files stay as they are. Its number grows when it
    /// changes, above every number that an agent ever named.
    ///
    /// It is written over the version of `SecretEncryption` that was observed and no other (`resourceVersion`): between
    /// the look and the order there is then no order of another controller.
    pub fn order(&self, seen: &Observation) -> Order {
        let mut next = Order::default();
        match &self.action {
            Action::Mint(provider, _) => {
                next.mint = Some(MintOrder {
                    // I3: the number after it, and only while it is the newest.
                    after_id: signed(seen.ring.last_id),
                    provider: *provider,
                    request: seen.wish.requested.clone().map(LabelValue),
                });
            }
            Action::WriteConfig(configuration) | Action::Retire(configuration) => {
                next.configuration = Some(ordered(configuration, seen));
            }
            Action::Archive(ids) => next.retire = ids.iter().copied().map(signed).collect(),
            Action::Destroy(ids) => next.destroy = ids.iter().copied().map(signed).collect(),
            Action::Settle(_) | Action::StartSweep | Action::StartProof | Action::AwaitCompaction(_) => {
                next.configuration = seen.order.configuration.as_ref().map(|it| ordered(it, seen));
            }
            Action::Nothing | Action::Hold => {}
        }
        next.remove = gone(seen);
        let Standing { number, ref order, .. } = seen.order;
        next.number = signed(number);
        if order.as_ref() != Some(&next) {
            let named = seen.nodes.iter().filter_map(|node| node.report.as_ref()?.order);
            next.number = signed(named.fold(number, u64::max).saturating_add(1));
        }
        next
    }
}

/// Members of the ring whose Node is no control-plane node any more. When no Node at all is seen it is more likely that
/// somebody took the label away than that the cluster is gone.
fn gone(seen: &Observation) -> Vec<ObjectName> {
    let there = |name: &String| seen.nodes.is_empty() || seen.nodes.iter().any(|node| node.name == *name);
    let members = seen.ring.members.keys();
    members.filter(|name| !there(name)).cloned().map(ObjectName).collect()
}

/// Newest key first, `identity` last: as it is tried.
fn ordered(configuration: &Configuration, seen: &Observation) -> ConfigurationOrder {
    let id = |under: &&Under| match under {
        Under::Identity => 0,
        Under::Key(name) => {
            let key = seen.ring.keys.iter().find(|key| key.name == *name);
            key.map_or(0, |key| key.id)
        }
    };
    let mut read: Vec<&Under> = configuration
        .read
        .iter()
        .filter(|it| **it != configuration.write)
        .collect();
    read.sort_by_key(|under| std::cmp::Reverse(id(under)));
    ConfigurationOrder {
        write: KeyName(configuration.write.to_string()),
        read: read.into_iter().map(|under| KeyName(under.to_string())).collect(),
    }
}

/// Numbers of the API are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Standing {
    /// What stands in the status, if anything.
    pub fn of(order: Option<&Order>) -> Self {
        let Some(order) = order else { return Self::default() };
        Self {
            number: u64::try_from(order.number).unwrap_or_default(),
            configuration: order.configuration.as_ref().and_then(|asked| {
                let read: Option<Vec<Under>> = asked.read.iter().map(|name| Under::named(&name.0)).collect();
                Some(Configuration::new(Under::named(&asked.write.0)?, read?))
            }),
            order: Some(order.clone()),
        }
    }
}
