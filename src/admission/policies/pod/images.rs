//! Where images come from and whether they are pinned: containers of all three kinds, and image volumes.

use std::cmp::Reverse;

use crate::admission::cel::text;
use crate::admission::clause::{Clause, Found};
use crate::admission::modes::{Modes, STAGES};
use crate::api::policy::{DigestRule, ImageRule, PolicyPods};
use crate::api::stage::NamespaceStage;
use crate::compliance::id::SUP_01;

/// Images with the place they stand in: of a list of containers, and of the volumes of a pod spec, or of an empty map.
fn images(containers: &str, root: &str) -> String {
    format!(
        "{containers}.filter(c, has(c.image)).map(c, {{'at': 'container \"' + c.name + '\"', 'ref': string(c.image)}}) + \
         (has({root}.volumes) ? {root}.volumes.filter(v, has(v.image) && has(v.image.reference)).map(v, \
         {{'at': 'volume \"' + v.name + '\"', 'ref': string(v.image.reference)}}) : [])"
    )
}

/// The full name, as container runtimes complete it: `nginx` is `docker.io/library/nginx`. What stands before the first
/// slash is a host only with a dot, a colon, or as `localhost`.
fn full_name() -> &'static str {
    "!i.ref.contains('/') ? 'docker.io/library/' + i.ref : \
     i.ref.split('/')[0] in ['docker.io', 'index.docker.io'] ? \
     (i.ref.split('/', 2)[1].contains('/') ? 'docker.io/' : 'docker.io/library/') + i.ref.split('/', 2)[1] : \
     i.ref.split('/')[0].contains('.') || i.ref.split('/')[0].contains(':') || i.ref.split('/')[0] == 'localhost' ? \
     i.ref : 'docker.io/' + i.ref"
}

/// The same for a prefix that an admin wrote. A word alone is an image of Docker Hub, as it would be in a pod; a host
/// alone stays a host.
pub(in crate::admission) fn full_prefix(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    let is_host = |word: &str| word.contains(['.', ':']) || word == "localhost";
    match prefix.split_once('/') {
        None if prefix == "index.docker.io" => "docker.io".to_owned(),
        // `nginx:1.27` has a colon and is no host.
        None if is_host(prefix) && !is_tagged(prefix) => prefix.to_owned(),
        None => format!("docker.io/library/{prefix}"),
        Some(("docker.io" | "index.docker.io", rest)) => format!("docker.io/{rest}"),
        Some((host, _)) if is_host(host) => prefix.to_owned(),
        Some(_) => format!("docker.io/{prefix}"),
    }
}

/// Whether what follows the colon is a tag rather than a port.
fn is_tagged(word: &str) -> bool {
    word.split_once(':')
        .is_some_and(|(name, after)| !name.contains('.') && name != "localhost" && after.parse::<u16>().is_err())
}

/// Whether `i.name` begins with the prefix: up to a `/`, `:` or `@`, so that `…/train` is not `…/trainer`. After a host
/// alone only `/` will do: `registry.example.com:5000` is another registry.
fn matches(prefix: &str) -> String {
    let prefix = full_prefix(prefix);
    let starts = |end: &str| format!("i.name.startsWith({})", text(&format!("{prefix}{end}")));
    if prefix.contains('/') {
        // The first half alone keeps the cost of a long list of prefixes within the API server's budget, and the prefix
        // stands there once, because an expression has room for 100,000 characters.
        let length = prefix.chars().count();
        format!(
            "{} && (i.name.size() == {length} || i.name.substring({length}, {}) in ['/', ':', '@'])",
            starts(""),
            length + 1
        )
    } else {
        starts("/")
    }
}

/// Which rule of the policy an image falls under: its word about digests, `Control` where it leaves that to SUP-01, and
/// nothing where no rule matches. The longest prefix speaks.
fn graded(rules: &[ImageRule]) -> String {
    let mut rules: Vec<&ImageRule> = rules.iter().collect();
    rules.sort_by_key(|rule| (Reverse(full_prefix(&rule.prefix).len()), rule.prefix.as_str()));
    let mut chain = String::new();
    for rule in &rules {
        let word = match rule.digest {
            Some(DigestRule::Required) => "'Required'",
            Some(DigestRule::Optional) => "'Optional'",
            None => "'Control'",
        };
        let condition = format!("{}{}", here(rule), matches(&rule.prefix));
        chain = format!("{chain}{condition} ? {word} : ");
    }
    let otherwise = if rules.is_empty() { "'Control'" } else { "''" };
    format!("{chain}{otherwise}")
}

/// Whether a rule is for this stage, in few characters: an expression has room for 100,000 of them.
fn here(rule: &ImageRule) -> String {
    let named = |stage: NamespaceStage| {
        let mut stages = rule.stages.iter().flatten();
        rule.stages.is_none() || stages.any(|it| NamespaceStage::from(*it) == stage)
    };
    let (of, not_of): (Vec<NamespaceStage>, Vec<NamespaceStage>) = STAGES.into_iter().partition(|stage| named(*stage));
    match (of.as_slice(), not_of.as_slice()) {
        (_, []) => String::new(),
        (_, [other]) => format!("stage != {} && ", text(other.as_str())),
        ([only], _) => format!("stage == {} && ", text(only.as_str())),
        _ => "false && ".to_owned(),
    }
}

fn rules(pods: &PolicyPods) -> &[ImageRule] {
    pods.images.as_deref().unwrap_or_default()
}

pub(super) fn variables(pods: &PolicyPods) -> Vec<(&'static str, String)> {
    let readable = format!("newImages.filter(i, {READABLE})");
    let (named, graded) = if rules(pods).is_empty() {
        // Nothing to compare with, so no name to complete.
        (
            readable,
            "namedImages.map(i, {'at': dyn(i.at), 'ref': dyn(i.ref), 'digest': dyn('Control')})".to_owned(),
        )
    } else {
        let name = full_name();
        (
            format!("{readable}.map(i, {{'at': dyn(i.at), 'ref': dyn(i.ref), 'name': dyn({name})}})"),
            format!(
                "namedImages.map(i, {{'at': dyn(i.at), 'ref': dyn(i.ref), 'digest': dyn({})}})",
                graded(rules(pods))
            ),
        )
    };
    vec![
        (
            "formerImages",
            format!("creates ? [] : {}", images("formerContainers", "before")),
        ),
        // An update may change the image of a container; only such a change is judged.
        (
            "newImages",
            format!("({}).filter(i, !(i in formerImages))", images("allContainers", "spec")),
        ),
        ("namedImages", named),
        ("images", graded),
    ]
}

/// What an image name is written with. Anything else is refused rather than guessed at, and kept out of messages.
const READABLE: &str = r"i.ref.matches('^[a-zA-Z0-9\\[][a-zA-Z0-9._:/@\\[\\]+-]*$')";
const PINNED: &str = "i.ref.matches('@sha(256:[a-f0-9]{64}|512:[a-f0-9]{128})$')";

pub(super) fn clauses(modes: &Modes, pods: &PolicyPods) -> Vec<Clause> {
    let uses = |test: &str, before: &str| Found::among("images", "i", test, before, "i.at + ' uses \"' + i.ref + '\"'");
    let digest = SUP_01.rule("digest");
    let unpinned = |word: &str| uses(&format!("i.digest == '{word}' && !{PINNED}"), "no digest: ");
    let unreadable = Found::among(
        "newImages",
        "i",
        &format!("!{READABLE}"),
        "the image name cannot be read: ",
        "i.at",
    );
    let mut clauses = vec![
        Clause::new(SUP_01.rule("unreadable"), modes, unreadable),
        Clause::new(digest.clone(), modes, unpinned("Control")),
    ];
    if !rules(pods).is_empty() {
        clauses.push(Clause::new(digest, modes, unpinned("Required")).asked_for());
        let foreign = uses("i.digest == ''", "not from a listed registry: ");
        clauses.push(Clause::new(SUP_01.rule("registry"), modes, foreign));
    }
    clauses
}
