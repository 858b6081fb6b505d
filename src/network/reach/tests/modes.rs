//! The two modes of the analysis agree where they meet: what runs is one of what could, and what could may run.

use std::cell::RefCell;

use proptest::prelude::*;

use super::brute::{PLACES, Selecting, cases, cluster};
use super::concrete::bound_pods;
use super::metamorphic::{among_pods, connections, each, snapshot, verdicts};
use crate::api::names;
use crate::network::reach::concrete::{Blocks, Endpoint, Pod, Snapshot};
use crate::network::reach::{End, Isolation, Place, Witness, analyse};

/// What runs is one of what could: a connection out of a stage is a path, a possible one at least a doubt.
#[test]
fn every_pod_could_exist() {
    let seen = RefCell::new([0_u32; 3]);
    each(&(cases(Selecting::Anyhow), bound_pods()), |(policies, pods)| {
        let verdicts = verdicts(&cluster(), &policies);
        let snapshot = snapshot(pods, &policies);
        for (blocks, at_least) in [(Blocks::External, 2), (Blocks::Pods, 1)] {
            for (from, to) in among_pods(connections(&snapshot, blocks)).into_keys() {
                let place = |end: &Endpoint| match end {
                    Endpoint::Workload { namespace, .. } => namespace.clone(),
                    Endpoint::Addresses(_) => unreachable!(),
                };
                let (from, to) = (place(&from), place(&to));
                for stage in [&from, &to]
                    .into_iter()
                    .filter(|place| from != to && verdicts.contains_key(*place))
                {
                    prop_assert!(verdicts[stage] >= at_least, "{} -> {} {:?}", from, to, blocks);
                }
            }
        }
        for verdict in verdicts.values() {
            seen.borrow_mut()[usize::from(*verdict)] += 1;
        }
        Ok(())
    });
    let seen = seen.into_inner();
    assert!(seen.iter().all(|count| *count >= 10), "one-sided: {seen:?}");
}

/// A counterexample is worth what it shows: run its two pods.
#[test]
fn a_witness_that_runs_connects() {
    let paths = RefCell::new(0_u32);
    each(&cases(Selecting::Anyhow), |policies| {
        for verdict in analyse(&cluster(), &policies, &[]).namespaces.values() {
            let Isolation::PathExists(witness) = verdict else {
                continue;
            };
            let mut snapshot = snapshot(Vec::new(), &policies);
            let ends = [(&witness.from, "from"), (&witness.to, "to")]
                .map(|(end, name)| run(&mut snapshot, end, name, witness));
            let connections = connections(&snapshot, Blocks::External);
            let ports = connections.get(&ends.into()).cloned().unwrap_or_default();
            // A name that could be any port is one port of a pod that runs.
            prop_assert!(ports.contains(witness.protocol, witness.ports.0), "{}", witness);
            *paths.borrow_mut() += 1;
        }
        Ok(())
    });
    let paths = paths.into_inner();
    assert!(paths >= 20, "{paths} paths are few");
}

/// A pod of a witness that runs, and calls the port what rules may call it.
fn run(snapshot: &mut Snapshot, end: &End, name: &str, witness: &Witness) -> Endpoint {
    let namespace = match &end.namespace {
        Place::Namespace(name) => name.clone(),
        Place::Later(labels) => {
            let given = labels.get(names::NAMESPACE_NAME_LABEL);
            let name = given.map_or("created-later", String::as_str).to_owned();
            snapshot.namespaces.insert(name.clone(), labels.clone());
            name
        }
    };
    assert!(PLACES.contains(&&*namespace) || snapshot.namespaces.contains_key(&namespace));
    snapshot.pods.push(Pod {
        namespace: namespace.clone(),
        owner: ("Pod".to_owned(), name.to_owned()),
        labels: end.labels.clone(),
        ports: [("http".to_owned(), witness.protocol, witness.ports.0)].into(),
        ..Pod::default()
    });
    Endpoint::Workload {
        namespace,
        name: name.to_owned(),
        kind: "Pod".to_owned(),
    }
}
