#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::agent::sealing::{new_identity, seal};
use crate::api::encryption::{Escrow, EscrowRequirement, Plaintext, Provider, ResourceName, Retention, WantedProvider};
use crate::api::encryption_status::{ConfigurationOrder, MintOrder};
use crate::api::text::{Contact, KeyName};
use crate::encryption::config::{adopt_command, hash, render};
use crate::encryption::ring::{Identity, Opened, open};
use crate::encryption::stored::Stored;

const NODE: &str = "cp-1";

struct World {
    identity: Identity,
    spec: SecretEncryptionSpec,
    ring: EncryptionKeyRingSpec,
    order: Order,
    in_file: Option<BTreeSet<String>>,
    now: Time,
    stored: Option<BTreeMap<(String, Stored), u64>>,
    approvals: Vec<Approval>,
}

fn now() -> Time {
    Time("2026-11-26T04:00:00Z".parse().unwrap())
}

/// Twenty Secrets under a key.
fn stored(name: &str) -> BTreeMap<(String, Stored), u64> {
    let under = Stored::Key {
        provider: "aesgcm".to_owned(),
        name: name.to_owned(),
    };
    BTreeMap::from([(("secrets".to_owned(), under), 20)])
}

impl World {
    fn new() -> Self {
        let mut spec = SecretEncryptionSpec {
            mode: EncryptionMode::Manage,
            ..SecretEncryptionSpec::default()
        };
        spec.escrow.requirement = EscrowRequirement::Waived;
        Self {
            identity: new_identity().unwrap(),
            spec,
            ring: EncryptionKeyRingSpec::default(),
            order: Order::default(),
            in_file: Some(BTreeSet::new()),
            now: now(),
            stored: Some(stored("k2")),
            approvals: Vec::new(),
        }
    }

    /// One pass over the ring.
    fn pass(&mut self, byte: u8) -> Option<Refusal> {
        let node = ObjectName(NODE.to_owned());
        let asked = Asked {
            node: &node,
            recipient: self.identity.recipient(),
            spec: &self.spec,
            order: &self.order,
            approvals: &self.approvals,
            witness: Witness {
                now: self.now.clone(),
                in_file: self.in_file.as_ref(),
                stored: self.stored.as_ref(),
            },
        };
        let left = approvals_left(&asked);
        let opened = open(&self.ring, &self.identity).unwrap_or_default();
        let act = Act {
            now: now(),
            keys: &opened,
            seal: &seal,
        };
        let (next, refused) = changed(
            &self.ring,
            &due(&self.ring, &asked, &KeyMaterial::new([byte; 32])),
            &act,
        );
        let refused = refused.or_else(|| spared(&self.ring, &asked));
        self.ring = next;
        self.approvals = left.unwrap_or_else(|| self.approvals.clone());
        refused
    }

    /// With keys `k1` … `k<n>`.
    fn with_keys(n: u8) -> Self {
        let mut world = Self::new();
        assert_eq!(world.pass(0), None);
        for byte in 1..=n {
            world.order.mint = Some(MintOrder {
                after_id: i64::from(byte) - 1,
                provider: Provider::AESGCM,
                request: None,
            });
            assert_eq!(world.pass(byte), None);
        }
        world
    }

    fn opened(&self) -> Opened {
        open(&self.ring, &self.identity).unwrap()
    }

    /// Decides over a file that was written before, if any.
    fn decide(&self, change: impl FnOnce(&mut Trial)) -> Result<Desired, Hold> {
        let mut trial = Trial {
            current: None,
            copy: Some(self.ring.clone()),
            opened: self.opened(),
            loaded: None,
            order: order("identity", &[]),
            adopt: None,
            abandoned: None,
            stored: None,
        };
        change(&mut trial);
        let current = Current::of(trial.current.as_deref().map(str::as_bytes), trial.adopt.as_deref());
        let current_hash = trial.current.as_deref().map(|text| hash(text.as_bytes()));
        let local = Local {
            current: &current,
            current_hash: current_hash.as_deref(),
            loaded: trial.loaded.as_deref().or(current_hash.as_deref()),
            opened: &trial.opened,
            copy: trial.copy.as_ref(),
            plaintext_let: plaintext_let(&self.spec, trial.abandoned.as_deref(), &current),
            stored: trial.stored.as_ref(),
        };
        file(&trial.order, &self.spec.resources, &self.ring, &local)
    }

    /// The bytes of `C(w;R)`.
    fn text(&self, write: &str, read: &[&str]) -> String {
        let transformer = |name: &str| match name {
            "identity" => Transformer::Identity,
            name => {
                let key = self.ring.keys.iter().find(|key| *key.name == *name).unwrap();
                Transformer::Key(Key {
                    name: config::KeyName::parse(name).unwrap(),
                    provider: key.provider,
                    material: self.opened()[&key.id].clone(),
                })
            }
        };
        let read = read.iter().map(|name| transformer(name));
        let desired = Desired::new(self.spec.resources.clone(), transformer(write), read).unwrap();
        render(&desired).to_string()
    }
}

use crate::encryption::config::{self, Desired, Key, Transformer};

struct Trial {
    current: Option<String>,
    copy: Option<EncryptionKeyRingSpec>,
    opened: Opened,
    loaded: Option<String>,
    order: ConfigurationOrder,
    adopt: Option<String>,
    abandoned: Option<String>,
    stored: Option<BTreeMap<(String, Stored), u64>>,
}

fn order(write: &str, read: &[&str]) -> ConfigurationOrder {
    ConfigurationOrder {
        write: KeyName(write.to_owned()),
        read: read.iter().map(|name| KeyName((*name).to_owned())).collect(),
    }
}

#[test]
fn an_agent_founds_the_ring_and_mints_once() {
    let mut world = World::with_keys(1);
    assert_eq!(world.ring.members.len(), 1);
    let before = world.ring.clone();
    assert_eq!(world.pass(9), None, "the same order read again");
    assert_eq!(world.ring, before);
}

#[test]
fn an_agent_that_may_not_act_changes_nothing() {
    let mut world = World::new();
    world.spec.mode = EncryptionMode::Observe;
    world.pass(0);
    world.spec.mode = EncryptionMode::Manage;
    world.spec.suspend = true;
    world.pass(0);
    assert_eq!(world.ring, EncryptionKeyRingSpec::default());
}

#[test]
fn without_escrow_there_is_no_key() {
    let mut world = World::new();
    world.spec.escrow = Escrow::default();
    world.pass(0);
    world.order.mint = Some(MintOrder {
        after_id: 0,
        provider: Provider::AESGCM,
        request: None,
    });
    assert_eq!(world.pass(1), Some(Refusal::EscrowMissing));
    assert_eq!(world.ring.last_id, 0);
}

#[test]
fn a_node_is_let_in_by_a_person_and_not_once_it_is_to_go() {
    let mut world = World::with_keys(1);
    let newcomer = new_identity().unwrap();
    world.approvals.push(Approval {
        node: ObjectName("cp-2".to_owned()),
        recipient: newcomer.recipient().clone(),
        by: Contact("ana@example.com".to_owned()),
        time: now(),
    });
    assert_eq!(world.pass(0), None);
    assert_eq!(open(&world.ring, &newcomer).unwrap().len(), 1);
    world.order.remove = vec![ObjectName("cp-2".to_owned())];
    world.pass(0);
    world.pass(0);
    assert_eq!(world.ring.members.len(), 1);
    // Orders to remove the node that reads them are somebody's mistake.
    world.order.remove = vec![ObjectName(NODE.to_owned())];
    assert_eq!(world.pass(0), None);
    assert_eq!(world.ring.members.len(), 1);
}

#[test]
fn a_key_in_the_file_is_not_retired_and_without_a_file_none_is() {
    let mut world = World::with_keys(2);
    world.order.retire = vec![1];
    for in_file in [Some(BTreeSet::from(["k1".to_owned()])), None] {
        world.in_file = in_file;
        assert_eq!(world.pass(0), None);
        assert!(world.ring.keys[0].retired_time.is_none());
    }
    world.in_file = Some(BTreeSet::new());
    world.pass(0);
    assert!(world.ring.keys[0].retired_time.is_some());
}

/// `k1` was retired two days ago, may be destroyed after one, and is ordered to be.
fn outlived() -> World {
    let mut world = World::with_keys(2);
    world.order.retire = vec![1];
    world.pass(0);
    (world.order.retire, world.order.destroy) = (Vec::new(), vec![1]);
    world.now = Time("2026-11-28T04:00:00Z".parse().unwrap());
    world.spec.retired_keys.retention = Retention::DeleteAfterDays;
    world.spec.retired_keys.days = Some(1);
    world
}

#[test]
fn a_key_is_destroyed_once_nothing_speaks_for_it() {
    let mut world = outlived();
    assert_eq!(world.pass(0), None);
    assert!(world.ring.keys[0].destroyed_time.is_some());
}

#[test]
fn an_order_alone_destroys_no_key() {
    type Change = fn(&mut World);
    let cases: [(Change, &str); 9] = [
        (
            |it| (it.spec.retired_keys.retention, it.spec.retired_keys.days) = (Retention::Keep, None),
            "spec.retiredKeys keeps",
        ),
        // Retired and destroyed by one order.
        (
            |it| {
                it.ring.keys[0].retired_time = None;
                it.order.retire = vec![1];
            },
            "it is not retired",
        ),
        (
            |it| it.now = Time("2026-11-27T04:00:00Z".parse().unwrap()),
            "was not retired 1 days ago",
        ),
        (
            |it| it.now = Time("2026-11-25T04:00:00Z".parse().unwrap()),
            "compare the clocks",
        ),
        (|it| it.in_file = None, "no file that the agent wrote"),
        (
            |it| it.in_file = Some(BTreeSet::from(["k1".to_owned()])),
            "this node's file has it",
        ),
        (|it| it.stored = None, "has not read etcd since it was asked"),
        (|it| it.stored = Some(BTreeMap::new()), "shows no secrets at all"),
        (|it| it.stored = Some(stored("k1")), "20 values of secrets are under it"),
    ];
    for (change, why) in cases {
        let mut world = outlived();
        change(&mut world);
        let refused = world.pass(0).unwrap().to_string();
        assert!(
            refused.contains("key k1 is not destroyed") && refused.contains(why),
            "{refused}"
        );
        assert!(world.ring.keys[0].destroyed_time.is_none(), "{why}");
        assert!(!world.ring.keys[0].wraps.is_empty(), "{why}");
    }
}

#[test]
fn a_rotation_goes_through_the_file_step_by_step() {
    let world = World::with_keys(2);
    let steps = [
        ("identity", vec!["k1"]),
        ("k1", vec!["identity"]),
        ("k1", vec![]),
        ("k1", vec!["k2"]),
        ("k2", vec!["k1"]),
        ("k1", vec!["k2"]),
        ("k2", vec!["k1"]),
        ("k2", vec![]),
    ];
    let mut current = None;
    for (write, read) in steps {
        let made = world.decide(|trial| {
            trial.current.clone_from(&current);
            trial.order = order(write, &read);
        });
        let text = render(&made.unwrap()).to_string();
        assert_eq!(text, world.text(write, &read), "every node has the same bytes");
        current = Some(text);
    }
}

#[test]
fn what_is_not_durable_is_not_used() {
    let mut world = World::with_keys(1);
    let read = order("identity", &["k1"]);
    let not_on_disk = world.decide(|trial| (trial.order, trial.copy) = (read.clone(), None));
    assert_eq!(not_on_disk, Err(Hold::NotOnDisk("k1".to_owned())));
    let closed = world.decide(|trial| (trial.order, trial.opened) = (read.clone(), Opened::new()));
    assert_eq!(closed, Err(Hold::Closed("k1".to_owned())));
    let unknown = world.decide(|trial| trial.order = order("identity", &["k7"]));
    assert_eq!(unknown, Err(Hold::NoSuchKey("k7".to_owned())));
    world.ring.escrow = vec![new_identity().unwrap().recipient().clone()];
    let unsealed = world.decide(|trial| trial.order = read.clone());
    assert!(matches!(unsealed, Err(Hold::Unsealed { count: 1, .. })), "{unsealed:?}");
}

#[test]
fn nothing_is_written_that_is_not_read_and_nothing_lost_that_was_written() {
    let mut world = World::with_keys(2);
    let hold = |world: &World, file: Option<String>, wanted: ConfigurationOrder| {
        world.decide(|trial| (trial.current, trial.order) = (file, wanted))
    };
    let not_read = Err(Hold::NotReadYet("k2".to_owned()));
    assert_eq!(hold(&world, None, order("k2", &["k1"])), not_read);
    let file = world.text("k1", &[]);
    assert_eq!(hold(&world, Some(file), order("k2", &["k1"])), not_read);
    let file = world.text("k1", &["k2"]);
    assert_eq!(
        hold(&world, Some(file.clone()), order("k2", &[])),
        Err(Hold::DropsWriter("k1".to_owned()))
    );
    let late = world.decide(|trial| {
        trial.current = Some(file);
        trial.loaded = Some("sha256:old".to_owned());
        trial.order = order("k2", &["k1"]);
    });
    assert!(matches!(late, Err(Hold::NotLoaded { .. })), "{late:?}");
    let file = world.text("k2", &["k1"]);
    let left = world.decide(|trial| {
        trial.current = Some(file.clone());
        trial.order = order("k2", &[]);
        let under = Stored::of(b"k8s:enc:aesgcm:v1:k1:x");
        trial.stored = Some(BTreeMap::from([(("secrets".to_owned(), under), 3)]));
    });
    assert!(matches!(left, Err(Hold::StillStored { count: 3, .. })), "{left:?}");
    world.spec.resources = vec![ResourceName("configmaps".to_owned())];
    let lost = hold(&world, Some(file), order("k2", &["k1"]));
    assert_eq!(lost, Err(Hold::DropsResource("secrets".to_owned())));
    world.spec.resources = vec![ResourceName("secrets".to_owned())];
    // A node that comes late has no file, and the key is in use elsewhere.
    world.ring.keys[1].writes.push(crate::api::key_ring::KeyWrites {
        node: ObjectName("cp-9".to_owned()),
        count: 1,
    });
    hold(&world, None, order("k2", &["k1"])).unwrap();
    // Or it has one from before the rotation, and what it wrote itself stays readable.
    let file = world.text("k1", &[]);
    hold(&world, Some(file.clone()), order("k2", &["k1"])).unwrap();
    assert_eq!(
        hold(&world, Some(file.clone()), order("k2", &[])),
        Err(Hold::DropsWriter("k1".to_owned()))
    );
    world.ring.keys[1].retired_time = Some(world.ring.keys[1].creation_time.clone());
    assert_eq!(hold(&world, Some(file), order("k2", &["k1"])), not_read);
}

#[test]
fn a_file_of_somebody_else_or_a_damaged_one_stays_and_the_line_shows_no_key() {
    let world = World::with_keys(1);
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let foreign = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox: {{keys: [{{name: old, secret: {secret}}}]}}\n  - identity: {{}}\n"
    );
    let wanted = order("k1", &["identity"]);
    let refused = world.decide(|trial| (trial.current, trial.order) = (Some(foreign.clone()), wanted.clone()));
    let line = refused.unwrap_err().to_string();
    let adopt = hash(foreign.as_bytes());
    assert!(
        line.starts_with("ForeignConfig") && line.ends_with(&adopt_command(&adopt)),
        "{line}"
    );
    assert!(!line.contains(secret) && !line.contains('\n'), "{line}");
    // With the word of a person its keys are taken in; that alone lets nobody write over it with other keys.
    assert_eq!(adopted(Some(foreign.as_bytes()), Some(&adopt)).len(), 1);
    assert_eq!(adopted(Some(foreign.as_bytes()), Some("sha256:other")).len(), 0);
    let other = world.decide(|trial| {
        (trial.current, trial.order, trial.adopt) = (Some(foreign.clone()), wanted.clone(), Some(adopt));
    });
    assert_eq!(other, Err(Hold::OnlyHere("old".to_owned())));
    let mut cut = world.text("k1", &[]);
    cut.truncate(cut.len() - 9);
    let line = world.decide(|trial| (trial.current, trial.order) = (Some(cut), wanted));
    let line = line.unwrap_err().to_string();
    assert!(line.contains("damaged") && line.contains("last-good"), "{line}");
}

#[test]
fn a_key_that_the_ring_could_not_bring_back_stays_in_the_file() {
    let world = World::with_keys(2);
    let mut other = World::new();
    other.pass(0);
    other.order.mint = Some(MintOrder {
        after_id: 0,
        provider: Provider::AESGCM,
        request: None,
    });
    other.pass(9);
    // Its name is another key's in the ring: nothing is written, be it only to add.
    let here = other.text("k1", &[]);
    let held = |current: &str| {
        world.decide(|trial| (trial.current, trial.order) = (Some(current.to_owned()), order("k1", &["k2"])))
    };
    assert_eq!(held(&here), Err(Hold::OnlyHere("k1".to_owned())));
    assert!(held(&world.text("k1", &[])).is_ok());
}

#[test]
fn an_order_alone_decrypts_nothing() {
    let mut world = World::with_keys(1);
    let enabling = world.text("k1", &["identity"]);
    let enabled = world.text("k1", &[]);
    let back = |world: &World, file: &str, abandoned: Option<&str>| {
        world.decide(|trial| {
            trial.current = Some(file.to_owned());
            trial.abandoned = abandoned.map(str::to_owned);
            trial.order = order("identity", &["k1"]);
        })
    };
    assert_eq!(back(&world, &enabling, None), Err(Hold::Plaintext));
    assert_eq!(back(&world, &enabling, Some("k2")), Err(Hold::Plaintext));
    let stored = |count| BTreeMap::from([(("secrets".to_owned(), Stored::Plain), count)]);
    for (count, held) in [(0, true), (1, false)] {
        let made = world.decide(|trial| {
            trial.current = Some(enabling.clone());
            trial.stored = Some(stored(count));
            trial.order = order("identity", &["k1"]);
        });
        assert_eq!(made.is_err(), held, "{count} values are plaintext");
    }
    // The first enable is given up on the way.
    back(&world, &enabling, Some("k2, k1")).unwrap();
    // Or encryption is taken away: both words are needed.
    world.spec.provider = WantedProvider::Identity;
    assert_eq!(back(&world, &enabling, None), Err(Hold::Plaintext));
    world.spec.plaintext = Plaintext::Accepted;
    back(&world, &enabling, None).unwrap();
    assert_eq!(
        back(&world, &enabled, None),
        Err(Hold::NotReadYet("identity".to_owned())),
        "by the same steps"
    );
}

#[test]
fn a_resource_that_nobody_rewrites_comes_into_no_file() {
    let mut world = World::with_keys(1);
    let file = world.text("k1", &[]);
    world.spec.resources.push(ResourceName("configmaps".to_owned()));
    for (current, wanted) in [(Some(file), order("k1", &[])), (None, order("identity", &["k1"]))] {
        let held = world.decide(|trial| (trial.current, trial.order) = (current, wanted));
        assert_eq!(held, Err(Hold::NotSwept("configmaps".to_owned())));
    }
}
