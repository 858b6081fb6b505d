//! An agent that dies between two calls to the system, by strace, which kills it as it enters the second of them.

use cloison::agent::node::FILE;
use cloison_testbed::eventually;

use super::agents::Node;
use super::scene::SOON;

/// The call that it does not live to make; `true` where that is on the folder and not on the new file.
const POINTS: [(&str, &str, bool); 4] = [
    ("before it writes", "unlink,unlinkat", false),
    ("between write and sync", "fsync,fdatasync", false),
    ("between sync and rename", "rename,renameat,renameat2", false),
    ("between rename and sync of the folder", "fsync,fdatasync", true),
];

/// Kills the agent of this node at each of these points on its way to the next file, and starts it again. What an API server
/// reads is whole at every moment; the caller checks that. The order for the next file must be given, or be given soon.
pub async fn between_its_file_operations(node: &Node) {
    node.agent.kill();
    let old = node.read(FILE);
    for (point, calls, of_folder) in POINTS {
        // On the way to the folder's sync another file may come first; it is in place then, and not written again.
        for attempt in 0..4 {
            let path = if of_folder {
                node.folder.clone()
            } else {
                node.folder.join(format!(".{FILE}.new"))
            };
            // The folder is synced when the agent takes it, before anything else.
            let which = if of_folder { 2 } else { 1 };
            let calls_seen = node.manifest.with_file_name("strace");
            let words = [
                "strace",
                "--follow-forks",
                &format!("--output={}", calls_seen.display()),
                &format!("--trace-path={}", path.display()),
                &format!("--inject={calls}:signal=KILL:when={which}"),
            ];
            let dying = node.agent_under(&words.map(str::to_owned));
            dying.start().unwrap();
            eventually(SOON, &format!("the agent dies {point}"), async || {
                dying.process_id().map_or(Ok(()), |_| Err("it lives"))
            })
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", super::scene::tail(&dying)));
            // By nothing else, such as a fault of its own.
            let seen = std::fs::read_to_string(calls_seen).unwrap();
            let died = seen.lines().any(|line| {
                let call = |name: &str| line.contains(&format!(" {name}("));
                calls.split(',').any(call) && (line.ends_with("= ?") || line.contains("<unfinished"))
            });
            assert!(died && seen.contains("+++ killed by SIGKILL +++"), "{point}:\n{seen}");
            let renamed = node.read(FILE) != old;
            assert!(of_folder || !renamed, "{point}: the new file is in place");
            if renamed == of_folder {
                break;
            }
            assert!(attempt < 3, "{point}: never reached");
        }
    }
    node.agent.start().unwrap();
}
