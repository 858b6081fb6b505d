//! Credentials that are written out in a text: shapes that nothing else has. What is found is named by what it is and by
//! its line; the text itself goes no further. A shape that other things have too (hashes, ids, base64) is not in the list:
//! a warning that is wrong once is read by nobody twice.

pub mod tokens;

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use regex::Regex;

use tokens::{EXAMPLE, FEW_LETTERS, TOKENS};

/// Most that is told of one text.
const MOST: usize = 16;

/// Something that looks like a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What it looks like, with its article.
    pub what: &'static str,
    /// The line it begins on, from 1.
    pub line: u32,
}

/// A shape, and what a match must be besides.
struct Shape {
    what: &'static str,
    pattern: &'static str,
    really: fn(&str) -> bool,
}

const fn shape(what: &'static str, pattern: &'static str) -> Shape {
    Shape {
        what,
        pattern,
        really: is_no_example,
    }
}

/// Those that are no tokens. Every pattern has one group, which is the credential.
const SHAPES: [Shape; 10] = [
    // A line of key material must follow: the header alone stands in many a manual.
    shape(
        "a private key (PEM)",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|\s|[A-Za-z-]+: [^\n]*\n)*([A-Za-z0-9+/]{32})",
    ),
    shape(
        "an AWS secret access key",
        r#"(?i)aws_?secret_?access_?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
    ),
    shape("an Azure storage key", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    shape("an Azure shared access key", r"SharedAccessKey=([A-Za-z0-9+/]{43}=)"),
    shape(
        "an Azure client secret",
        r"(?:^|[^A-Za-z0-9_~.-])([A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{34})(?:[^A-Za-z0-9_~.-]|$)",
    ),
    Shape {
        what: "a JSON web token",
        pattern: r"(?-u:\b)(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,})",
        really: is_signed_token,
    },
    shape(
        "the private key of a kubeconfig",
        r#"client-key-data"?:\s*["']?([A-Za-z0-9+/]{64})"#,
    ),
    Shape {
        what: "the login of a registry",
        pattern: r#""auth"\s*:\s*"([A-Za-z0-9+/]{12,}={0,2})""#,
        really: is_login,
    },
    Shape {
        what: "a password in an address",
        pattern: r"(?-u:\b)(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|rediss?|amqps?|https?|s3)(?:\+[a-z0-9]+)?://[^\s/:@'\x22]*:([^\s/@'\x22]+)@[A-Za-z0-9.-]",
        really: is_password,
    },
    Shape {
        what: "the token of a kubeconfig",
        pattern: r#"(?m)^[ \t]*(?:- )?"?token"?:[ \t]*["']?([A-Za-z0-9._~-]{20,})"#,
        really: is_no_example,
    },
];

/// The last shape stands in many texts; it counts in a kubeconfig alone.
const IN_KUBECONFIG: &str = "the token of a kubeconfig";

/// Variables of products whose value is the credential itself.
const VARIABLES: [&str; 30] = [
    "ANTHROPIC_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_OPENAI_API_KEY",
    "AZURE_STORAGE_KEY",
    "COHERE_API_KEY",
    "COMET_API_KEY",
    "DATABASE_PASSWORD",
    "DB_PASSWORD",
    "GEMINI_API_KEY",
    "GITHUB_TOKEN",
    "GOOGLE_API_KEY",
    "HF_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MINIO_ROOT_PASSWORD",
    "MINIO_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MONGO_INITDB_ROOT_PASSWORD",
    "MYSQL_PASSWORD",
    "MYSQL_ROOT_PASSWORD",
    "NGC_API_KEY",
    "OPENAI_API_KEY",
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "VAULT_TOKEN",
    "WANDB_API_KEY",
];

/// What stands where a credential would be.
const PLACEHOLDERS: [&str; 24] = [
    "",
    "-",
    "abc123",
    "api-key",
    "api_key",
    "changeme",
    "dummy",
    "empty",
    "example",
    "false",
    "key",
    "no-key-required",
    "none",
    "not-needed",
    "not-used",
    "null",
    "pass",
    "passwd",
    "password",
    "placeholder",
    "redacted",
    "secret",
    "test",
    "token",
];

/// Keys that a vendor published for everybody: the emulator of Azure's storage.
const PUBLISHED: [&str; 1] =
    ["Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="];

/// The credentials in a text, in the order of their lines; at most sixteen.
pub fn sightings(text: &str) -> Vec<Sighting> {
    let mut found = Vec::new();
    for (what, pattern, really) in patterns() {
        if *what == IN_KUBECONFIG && !is_kubeconfig(text) {
            continue;
        }
        for groups in pattern.captures_iter(text) {
            let Some(hit) = groups.get(1).filter(|hit| really(hit.as_str())) else {
                continue;
            };
            let start = groups.get(0).map_or(hit.start(), |whole| whole.start());
            found.push((start, *what));
            if found.len() > 4 * MOST {
                break;
            }
        }
    }
    found.sort_unstable();
    found.truncate(MOST);
    let line = |at: usize| u32::try_from(text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1);
    found
        .into_iter()
        .map(|(at, what)| Sighting {
            what,
            line: line(at).unwrap_or(u32::MAX),
        })
        .collect()
}

/// What the first credential in a text looks like.
pub fn first(text: &str) -> Option<&'static str> {
    sightings(text).first().map(|sighting| sighting.what)
}

/// What a variable holds: by the shape of its value, or because the product that reads it takes nothing else there.
pub fn in_variable(name: &str, value: &str) -> Option<&'static str> {
    let known = VARIABLES.binary_search(&name).is_ok();
    first(value).or_else(|| (known && is_password(value)).then_some("the credential itself"))
}

type Pattern = (&'static str, Regex, fn(&str) -> bool);

fn patterns() -> &'static [Pattern] {
    static PATTERNS: OnceLock<Vec<Pattern>> = OnceLock::new();
    let shapes = SHAPES
        .iter()
        .map(|shape| (shape.what, shape.pattern.to_owned(), shape.really));
    let tokens = TOKENS.iter().map(|token| {
        let pattern = format!(r"(?-u:\b)({}){}", token.pattern, token.after);
        (token.what, pattern, is_no_example as fn(&str) -> bool)
    });
    // A test counts them: one that did not compile would be missing.
    PATTERNS.get_or_init(|| {
        let all = shapes.chain(tokens);
        all.filter_map(|(what, pattern, really)| Some((what, Regex::new(&pattern).ok()?, really)))
            .collect()
    })
}

fn is_kubeconfig(text: &str) -> bool {
    let squeezed = |word: &str| text.contains(word);
    let kind = squeezed("kind: Config") || squeezed(r#""kind":"Config""#) || squeezed(r#""kind": "Config""#);
    kind && squeezed("clusters") && squeezed("users")
}

/// Manuals are full of keys that end in EXAMPLE, or are one letter over and over.
fn is_no_example(hit: &str) -> bool {
    let lower = hit.to_ascii_lowercase();
    let varied = |text: &str| {
        let mut letters: Vec<u8> = text.bytes().collect();
        letters.sort_unstable();
        letters.dedup();
        letters.len() > FEW_LETTERS
    };
    !lower.contains(EXAMPLE) && !PUBLISHED.contains(&hit) && varied(hit)
}

/// A signed token: what says that it has no signature proves nothing to anybody.
fn is_signed_token(hit: &str) -> bool {
    let head = hit.split('.').next().unwrap_or_default();
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(head) else {
        return false;
    };
    let head: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let algorithm = head.as_ref().and_then(|head| head.get("alg")?.as_str());
    algorithm.is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("none"))
}

/// `user:password` in base64.
fn is_login(hit: &str) -> bool {
    let text = STANDARD
        .decode(hit)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let login = text.as_deref().and_then(|text| text.split_once(':'));
    login.is_some_and(|(user, password)| !user.is_empty() && is_password(password))
}

/// Neither a placeholder nor something that is put in later.
fn is_password(value: &str) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    let later = ["$", "{", "<", "*", "xxx", "...", "example"]
        .iter()
        .any(|mark| lower.contains(mark));
    let words = [
        "your",
        "changeme",
        "change-me",
        "password",
        "replace",
        "placeholder",
        "dummy",
    ];
    let told = words.iter().any(|word| lower.starts_with(word));
    lower.len() >= 8 && !later && !told && !PLACEHOLDERS.contains(&lower.as_str())
}

#[cfg(test)]
mod tests;
