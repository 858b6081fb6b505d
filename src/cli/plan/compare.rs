//! `cloison plan BEFORE AFTER`: what opens and what closes between two sets of manifests. Connections of the pods that
//! they hold, and forbidden paths of all pods that could exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::input::{Input, Sources};
use super::offline::{Scene, in_force, tell, without_policy};
use super::{Arguments, print, ranges};
use crate::cli::findings::Case;
use crate::cli::{CliError, FINDINGS, UNREADABLE, out};
use crate::compliance::Finding;
use crate::network::ports::PortSet;
use crate::network::reach::Witness;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Snapshot};
use crate::network::reach::guard::{Opened, Set, opened};
use crate::network::verdict::each_rule_once;

/// Connections by their two ends.
type Connections = BTreeMap<(Endpoint, Endpoint), PortSet>;

/// Compares and prints.
pub(super) fn run(arguments: &Arguments, paths: [&PathBuf; 2]) -> Result<ExitCode, CliError> {
    let [before, after] = paths.map(|path| Sided::read(arguments, path));
    let (before, after) = (before?, after?);
    let problems = [&before, &after]
        .map(|side| side.input.objects.problems.as_slice())
        .concat();
    if !problems.is_empty() {
        // A policy or a pod that is left out would make the whole comparison a false one.
        tell(&problems);
        return Ok(ExitCode::from(UNREADABLE));
    }
    let [was, is] = [&before, &after].map(Sided::connections);
    let mut notes = Vec::new();
    let connections = changes(was?, is?, &mut notes);
    let (opens, perhaps) = split(opened(before.set(), after.set()));
    let (closes, _) = split(opened(after.set(), before.set()));
    notes.extend(assumptions(&before, &after, paths));
    let rows = connections.iter().map(|(change, (from, to), ports)| {
        vec![
            (*change).to_owned(),
            from.to_string(),
            to.to_string(),
            ports.to_string(),
        ]
    });
    let mut text = out::table(&["CONNECTION", "FROM", "TO", "PORTS"], rows.collect());
    if text.is_empty() {
        text.push_str("no connection opens or closes\n");
    }
    text.push('\n');
    for (word, side, witnesses) in [("opens", &after, &opens), ("closes", &before, &closes)] {
        let mut lines: Vec<Finding> = witnesses.iter().map(|witness| side.path(witness)).collect();
        lines.sort();
        // There is nothing to do about one that closes.
        if word == "closes" {
            lines.iter_mut().for_each(|finding| finding.fix = None);
        }
        let line = |finding: &Finding| format!("{word} {}", print::finding(finding));
        text.extend(lines.iter().map(line));
    }
    text.extend(
        perhaps
            .iter()
            .map(|message| format!("may open: {}\n", out::clean(message))),
    );
    if opens.is_empty() && closes.is_empty() && perhaps.is_empty() {
        text.push_str("no forbidden path opens or closes\n");
    }
    text.extend(notes.iter().map(|note| format!("note: {}\n", out::clean(note))));
    out::print(&text)?;
    Ok(if opens.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// One of the two sets.
struct Sided {
    input: Input,
    scene: Scene,
    /// What is in force once everything is applied.
    stored: Vec<NetworkPolicy>,
    /// The same if every namespace with a stage were enforced: what is not written yet is no hole.
    enforced: Vec<NetworkPolicy>,
}

impl Sided {
    fn read(arguments: &Arguments, path: &Path) -> Result<Self, CliError> {
        let sources = Sources {
            files: &[path.to_owned()],
            home: arguments.namespace.as_deref(),
            policy: arguments.policy.as_deref(),
            beside: &[],
        };
        let input = sources.read()?;
        let scene = Scene::of(&input.objects, false)?;
        let written = scene.rendered.iter().filter(|policy| scene.is_enforced(policy));
        Ok(Self {
            stored: in_force(&input.objects, written),
            enforced: in_force(&input.objects, scene.rendered.iter()),
            input,
            scene,
        })
    }

    fn set(&self) -> Set<'_> {
        Set {
            world: &self.scene.world,
            policies: &self.enforced,
            unmodelled: &self.scene.unmodelled,
        }
    }

    /// What the pods can do. Blocks mean addresses outside the cluster, as in `connectivity`.
    fn connections(&self) -> Result<Connections, CliError> {
        let namespaces = self.scene.world.namespaces.iter();
        let snapshot = Snapshot {
            namespaces: namespaces
                .map(|(name, found)| (name.clone(), found.labels.clone()))
                .collect(),
            pods: self.input.pods.iter().map(|seen| seen.pod.clone()).collect(),
            policies: self.stored.clone(),
            cluster_policies: self.scene.world.cluster_policies.clone(),
        };
        match Connectivity::read(&snapshot, Blocks::External) {
            Ok(read) => Ok(read.connections()),
            Err(unreadable) => {
                let lines: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
                Err(CliError::Usage(lines.join("\n")))
            }
        }
    }

    fn path(&self, witness: &Witness) -> Finding {
        let case = Case {
            world: &self.scene.world,
            stored: &self.enforced,
            unmodelled: &self.scene.unmodelled,
            pods: &self.input.pods,
            objects: Some(&self.input.objects),
        };
        case.path(witness)
    }
}

/// Certain paths, and what is said of possible ones.
fn split(opened: Vec<Opened>) -> (Vec<Witness>, BTreeSet<String>) {
    let (mut paths, mut perhaps) = (Vec::new(), BTreeSet::new());
    for opened in opened {
        match opened {
            Opened::Path(witness) => paths.push(witness),
            Opened::Perhaps { message, .. } => {
                perhaps.insert(message);
            }
        }
    }
    (each_rule_once(paths), perhaps)
}

/// A connection that opens or closes: the word for it, its ends and ports.
type Changed = (&'static str, ranges::Pair, PortSet);

/// What opens and closes, in the order of the ends.
fn changes(was: Connections, is: Connections, notes: &mut Vec<String>) -> Vec<Changed> {
    let [was, is] = ranges::aligned([was, is], notes);
    let nothing = PortSet::none();
    let pairs: BTreeSet<&ranges::Pair> = was.keys().chain(is.keys()).collect();
    let mut all = Vec::new();
    for (word, from, to) in [("opens", &was, &is), ("closes", &is, &was)] {
        let changed = pairs.iter().filter_map(|pair| {
            let [from, to] = [from, to].map(|set| set.get(*pair).unwrap_or(&nothing));
            let ports = to.difference(from);
            (!ports.is_empty()).then(|| ((*pair).clone(), ports))
        });
        let joined = ranges::joined(changed.collect()).into_iter();
        all.extend(joined.map(|(pair, ports)| (word, pair, ports)));
    }
    all
}

/// What was assumed, once where it is the same for both.
fn assumptions(before: &Sided, after: &Sided, paths: [&PathBuf; 2]) -> Vec<String> {
    let of = |side: &Sided| -> BTreeSet<String> {
        let all = side.input.notes.iter().chain(&side.scene.assumed).cloned();
        all.chain(without_policy(&side.input.objects)).collect()
    };
    let (was, is) = (of(before), of(after));
    let mut notes: Vec<String> = was.intersection(&is).cloned().collect();
    for (path, own, other) in [(paths[0], &was, &is), (paths[1], &is, &was)] {
        notes.extend(own.difference(other).map(|note| format!("{}: {note}", path.display())));
    }
    notes
}
