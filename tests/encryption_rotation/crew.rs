//! The controller and the agents around the pure functions, each of which may die at any time: the controller with all
//! it remembers, an agent between any two of its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cloison::api::encryption::Provider;
use cloison::api::encryption_status::{Order, Step};
use cloison::encryption::FreshLease;
use cloison::encryption::config::KeyName;
use cloison::encryption::rotation::observation::{
    ApiServer, File, Named, Node, Observation, Pass, Proof, Report, Ring, RingKey, Standing, Wish,
};
use cloison::encryption::rotation::records::Held;
use cloison::encryption::rotation::{Action, Configuration, Decision, Records, Under, plan};

use super::world::{LEASE_STALE, OnDisk, World};

pub const SECRETS: &str = "secrets";
pub const ESCROW: &str = "age1escrow";

/// A pass of the sweep under way.
#[derive(Clone, Debug)]
struct Sweeping {
    held: Held,
    todo: Vec<String>,
    pass: Pass,
}

/// What an agent has on its node, besides the file.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub up: bool,
    /// The newest key in its sealed copy.
    pub sealed_id: u64,
    /// The order it did last.
    order: Option<u64>,
    /// What it reported last, and when.
    report: Option<(u64, Report)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Crew {
    pub world: World,
    pub wish: Wish,
    pub ring: Ring,
    /// What kubeadm's configuration lacks, as every agent reports it.
    pub to_persist: Option<Vec<String>>,
    /// Control-plane Nodes, as the cluster has them.
    pub agents: BTreeMap<String, Agent>,
    /// What stands in the status of `SecretEncryption`.
    pub order: Order,
    pub records: Records,
    sweeping: Option<Sweeping>,
    pub latest_proof: Option<Proof>,
    proof_wanted: bool,
    /// The resource whose values the agents read in etcd.
    pub proves: &'static str,
    pub last: Option<Decision>,
    /// Steps in which the controller took a decision.
    pub steps: BTreeSet<Step>,
    /// `--request-timeout` of API servers, by node; who is not in it does not tell.
    pub request_timeouts: BTreeMap<String, Duration>,
}

fn born(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Crew {
    /// Nodes whose API servers run without encryption.
    pub fn new(nodes: &[&str]) -> Self {
        let mut crew = Self {
            world: World::default(),
            wish: Wish {
                provider: Some(Provider::AESGCM),
                resources: BTreeSet::from([SECRETS.to_owned()]),
                period: Duration::from_hours(24 * 30),
                max_writes: 150_000,
                escrow: BTreeSet::from([ESCROW.to_owned()]),
                ..Wish::default()
            },
            ring: Ring::default(),
            to_persist: None,
            agents: BTreeMap::new(),
            order: Order::default(),
            records: Records::default(),
            sweeping: None,
            latest_proof: None,
            proof_wanted: false,
            proves: SECRETS,
            last: None,
            steps: BTreeSet::new(),
            request_timeouts: BTreeMap::new(),
        };
        for node in nodes {
            crew.join(node, &Configuration::plaintext());
            crew.world.start(node);
        }
        for object in 0..6 {
            crew.world.etcd.put(&format!("s{object}"), Some(Under::Identity));
        }
        crew
    }

    /// A Node that comes with a file.
    pub fn join(&mut self, node: &str, file: &Configuration) {
        self.world.disks.insert(node.to_owned(), OnDisk::of(file));
        self.agents.insert(
            node.to_owned(),
            Agent {
                up: true,
                ..Agent::default()
            },
        );
        self.ring.members.insert(node.to_owned(), format!("age1{node}"));
    }

    pub fn observation(&self) -> Observation {
        let now = self.world.now;
        let fresh = self
            .world
            .servers
            .values()
            .filter(|server| server.up || now < server.died + LEASE_STALE);
        let node = |(name, agent): (&String, &Agent)| Node {
            name: name.clone(),
            silent_for: agent.report.as_ref().map_or(Duration::MAX, |(at, _)| born(now - at)),
            report: agent.report.as_ref().map(|(_, report)| report.clone()),
        };
        Observation {
            wish: self.wish.clone(),
            ring: self.ring.clone(),
            nodes: self.agents.iter().map(node).collect(),
            leases: fresh
                .map(|server| FreshLease {
                    name: server.lease.clone(),
                    peer_address: None,
                })
                .collect(),
            answered: Vec::new(),
            unaccounted: None,
            order: Standing::of(Some(&self.order)),
            records: self.records.clone(),
            latest_proof: self.latest_proof.clone(),
            compacted: self.world.etcd.compacted,
            now: born(now),
        }
    }

    /// One pass of the controller.
    pub fn control(&mut self) {
        let mut seen = self.observation();
        self.records = Records::after(&seen);
        seen.records = self.records.clone();
        let decision = plan(&seen);
        self.steps.insert(decision.step);
        match &decision.action {
            Action::StartSweep if self.sweeping.is_none() => {
                let todo = self
                    .world
                    .etcd
                    .current()
                    .keys()
                    .map(|name| (*name).to_owned())
                    .collect();
                let pass = Pass {
                    rewritten: 0,
                    blocked: Vec::new(),
                    revision: 0,
                };
                self.sweeping = self.records.held().cloned().map(|held| Sweeping { held, todo, pass });
            }
            Action::StartProof => self.proof_wanted = true,
            _ => {}
        }
        self.order = decision.order(&seen);
        self.sweep();
        self.last = Some(decision);
    }

    /// A few objects.
    fn sweep(&mut self) {
        let Some(mut sweeping) = self.sweeping.take() else {
            return;
        };
        let node = self
            .world
            .servers
            .iter()
            .find(|(_, server)| server.up)
            .map(|(node, _)| node.clone());
        let Some(node) = node else { return };
        for _ in 0..3 {
            let Some(object) = sweeping.todo.pop() else {
                sweeping.pass.revision = self.world.etcd.revision;
                self.records.swept(&sweeping.held, sweeping.pass);
                return;
            };
            match self.world.touch(&node, &object) {
                None => sweeping.pass.blocked.push(object),
                Some(rewritten) => sweeping.pass.rewritten += u64::from(rewritten),
            }
        }
        self.sweeping = Some(sweeping);
    }

    /// Some agent reads etcd.
    pub fn prove(&mut self) {
        let mut values: BTreeMap<Under, u64> = BTreeMap::new();
        for under in self.world.etcd.current().into_values() {
            *values.entry(under.clone()).or_default() += 1;
        }
        self.latest_proof = Some(Proof {
            revision: self.world.etcd.revision,
            values: BTreeMap::from([(self.proves.to_owned(), values)]),
        });
    }

    /// The controller dies, and another begins with nothing.
    pub fn crash_controller(&mut self) {
        self.records = Records::default();
        self.sweeping = None;
    }

    /// One step of an agent: it does one thing, then reports. `dies` leaves it between the two.
    pub fn act(&mut self, node: &str, dies: bool) {
        if !self.agents.get(node).is_some_and(|agent| agent.up) {
            return;
        }
        let behind = self.agents[node].sealed_id < self.ring.last_id;
        if behind {
            let last = self.ring.last_id;
            self.agents.get_mut(node).unwrap().sealed_id = last;
        } else {
            self.obey(node);
        }
        if std::mem::take(&mut self.proof_wanted) {
            self.prove();
        }
        if !dies {
            self.report(node);
        }
    }

    /// Does the order that stands, or what it can of it.
    fn obey(&mut self, node: &str) {
        let order = self.order.clone();
        if let Some(mint) = &order.mint {
            // Compare-and-swap: of several agents one wins, and the order is for one key.
            if u64::try_from(mint.after_id).unwrap() == self.ring.last_id {
                self.mint(mint.provider, mint.request.clone().map(|request| request.0));
            }
        }
        if let Some(Standing {
            configuration: Some(configuration),
            ..
        }) = Some(Standing::of(Some(&order)))
        {
            // The rename is atomic: the file before, or this one.
            self.world.disks.insert(node.to_owned(), OnDisk::of(&configuration));
        }
        for key in &mut self.ring.keys {
            let named = |ids: &[i64]| ids.iter().any(|id| u64::try_from(*id) == Ok(key.id));
            if named(&order.retire) {
                key.retired.get_or_insert(Duration::ZERO);
            }
            if named(&order.destroy) {
                key.destroyed = true;
            }
        }
        if let Some(agent) = self.agents.get_mut(node) {
            agent.order = u64::try_from(order.number).ok();
        }
    }

    fn mint(&mut self, provider: Provider, request: Option<String>) {
        let id = self.ring.last_id + 1;
        self.ring.last_id = id;
        let mut sealed_for: BTreeSet<String> = self.ring.members.values().cloned().collect();
        sealed_for.extend(self.wish.escrow.iter().cloned());
        self.ring.keys.push(RingKey {
            id,
            name: KeyName::minted(id),
            provider,
            imported: false,
            request,
            age: Duration::ZERO,
            writes: 0,
            sealed_for,
            retired: None,
            destroyed: false,
        });
    }

    pub fn report(&mut self, node: &str) {
        let file = self.world.disks.get(node).map(|file| File {
            hash: file.hash.clone(),
            own: true,
            configuration: Some(file.configuration.clone()),
            kms: false,
        });
        let server = self.world.servers.get(node).filter(|server| server.up);
        let api_server = server.map(|server| ApiServer {
            identity: Some(
                FreshLease {
                    name: server.lease.clone(),
                    peer_address: None,
                }
                .id_hash(),
            ),
            started: server.started,
            loaded: Some(server.loaded.hash.clone()),
            unknown: server.unknown,
            version: Some((1, 36)),
        });
        let Some(agent) = self.agents.get_mut(node) else { return };
        let report = Report {
            api_server,
            file,
            named: Named::Ours,
            flags_missing: Vec::new(),
            read: None,
            to_persist: self.to_persist.clone(),
            request_timeout: self.request_timeouts.get(node).copied(),
            sealed_id: Some(agent.sealed_id),
            order: agent.order,
        };
        agent.report = Some((self.world.now, report));
    }

    /// What the controller said last.
    pub fn said(&self) -> Decision {
        self.last.clone().unwrap()
    }

    pub fn nodes(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }
}
