//! Tokens: credentials that say themselves what they are. Policies know them too, where one is the whole value of a variable.

/// A token, in the syntax that the regular expressions of Rust and of API servers (RE2) share.
pub struct Token {
    /// What it is, with its article.
    pub what: &'static str,
    /// One of these is what it begins with. Empty where policies leave it to the scan.
    pub starts: &'static [&'static str],
    /// The whole of it.
    pub pattern: &'static str,
    /// What follows it in a text.
    pub after: &'static str,
}

const fn token(
    what: &'static str,
    starts: &'static [&'static str],
    pattern: &'static str,
    after: &'static str,
) -> Token {
    Token {
        what,
        starts,
        pattern,
        after,
    }
}

const WORD_ENDS: &str = r"(?-u:\b)";

/// No letter in them is outside of [`LETTERS`].
pub const TOKENS: [Token; 14] = [
    // Without its key it is only a name, and stands in many a manifest.
    token("an AWS access key", &[], "(?:AKIA|ASIA)[A-Z2-7]{16}", WORD_ENDS),
    token(
        "a Google API key",
        &["AIza"],
        "AIza[0-9A-Za-z_-]{35}",
        "(?:[^0-9A-Za-z_-]|$)",
    ),
    token(
        "a Google OAuth client secret",
        &["GOCSPX-"],
        "GOCSPX-[A-Za-z0-9_-]{28}",
        "",
    ),
    token(
        "a GitHub token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        "gh[pousr]_[A-Za-z0-9]{36}",
        WORD_ENDS,
    ),
    token(
        "a GitHub token",
        &["github_pat_"],
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        "",
    ),
    token(
        "a GitLab token",
        &["glpat-"],
        "glpat-[A-Za-z0-9_-]{20,}(?:\\.[a-z0-9]+)*",
        "",
    ),
    token("a Hugging Face token", &["hf_"], "hf_[A-Za-z]{34}", WORD_ENDS),
    token(
        "a Slack token",
        &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"],
        "xox[abprs]-[0-9]{10,}-[A-Za-z0-9-]{20,}",
        "",
    ),
    token(
        "an OpenAI key",
        &["sk-proj-", "sk-svcacct-", "sk-admin-"],
        "sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}",
        "",
    ),
    token(
        "an OpenAI key",
        &["sk-"],
        "sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",
        "",
    ),
    token(
        "an Anthropic key",
        &["sk-ant-"],
        "sk-ant-[a-z]+[0-9]{2}-[A-Za-z0-9_-]{80,}",
        "",
    ),
    token("an NVIDIA key", &["nvapi-"], "nvapi-[A-Za-z0-9_-]{60,}", ""),
    token("a Vault token", &["hvs."], "hvs\\.[A-Za-z0-9_-]{24,}", ""),
    token(
        "an age identity",
        &["AGE-SECRET-KEY-1"],
        "AGE-SECRET-KEY-1[0-9A-Z]{58}",
        "",
    ),
];

/// What tokens are made of.
pub const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

/// A credential has more letters than this that differ: manuals show one letter over and over.
pub const FEW_LETTERS: usize = 6;
/// What is in no credential, in small letters: manuals show keys that end in it.
pub const EXAMPLE: &str = "example";
