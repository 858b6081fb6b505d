//! A corpus of what must be seen and of what must not. No credential here was ever one: they are put together at run time,
//! so that this file holds none either.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use regex::Regex;

use super::tokens::{LETTERS, TOKENS};
use super::{SHAPES, first, in_variable, patterns, sightings};

/// Letters that vary, of any length, from a small generator.
fn letters(alphabet: &str, length: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = 0x9e37_79b9_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        alphabet[usize::try_from((state >> 33) % alphabet.len() as u64).unwrap()]
    };
    (0..length).map(|_| next()).collect()
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &str = "0123456789abcdef";

fn pem(kind: &str, gap: &str) -> String {
    let body = letters(BASE64, 64);
    format!("-----BEGIN {kind}-----{gap}{body}{gap}-----END {kind}-----")
}

fn token(header: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(header),
        part(r#"{"sub":"1234567890"}"#),
        letters(ALNUM, 43)
    )
}

#[allow(clippy::too_many_lines, reason = "a table reads best whole")]
fn positives() -> Vec<(&'static str, String)> {
    vec![
        ("a private key (PEM)", pem("RSA PRIVATE KEY", "\n")),
        ("a private key (PEM)", pem("PRIVATE KEY", "\r\n")),
        ("a private key (PEM)", pem("OPENSSH PRIVATE KEY", "\n")),
        ("a private key (PEM)", pem("EC PRIVATE KEY", "\n")),
        ("a private key (PEM)", pem("ENCRYPTED PRIVATE KEY", "\n")),
        (
            "a private key (PEM)",
            format!(
                r#"{{"type": "service_account", "private_key": "{}"}}"#,
                pem("PRIVATE KEY", "\\n")
            ),
        ),
        (
            "a private key (PEM)",
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{}\n\n{}",
                letters(HEX, 32),
                letters(BASE64, 64)
            ),
        ),
        ("an AWS access key", format!("key = AKIA{}", letters(UPPER, 16))),
        ("an AWS access key", format!("ASIA{}", letters(UPPER, 16))),
        (
            "an AWS secret access key",
            format!("aws_secret_access_key = {}", letters(BASE64, 40)),
        ),
        (
            "an AWS secret access key",
            format!(r#""AWS_SECRET_ACCESS_KEY": "{}""#, letters(BASE64, 40)),
        ),
        (
            "a Google API key",
            format!("https://x.example?key=AIza{}", letters(ALNUM, 35)),
        ),
        ("a Google OAuth client secret", format!("GOCSPX-{}", letters(ALNUM, 28))),
        (
            "an Azure storage key",
            format!(
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}==;",
                letters(ALNUM, 86)
            ),
        ),
        (
            "an Azure shared access key",
            format!("SharedAccessKeyName=x;SharedAccessKey={}=", letters(ALNUM, 43)),
        ),
        (
            "an Azure client secret",
            format!("secret: {}8Q~{}", letters(ALNUM, 3), letters(ALNUM, 34)),
        ),
        ("a JSON web token", token(r#"{"alg":"RS256","typ":"JWT"}"#)),
        (
            "a JSON web token",
            format!("Authorization: Bearer {}", token(r#"{"alg":"HS256"}"#)),
        ),
        (
            "the private key of a kubeconfig",
            format!("    client-key-data: {}", letters(ALNUM, 80)),
        ),
        (
            "the token of a kubeconfig",
            format!(
                "apiVersion: v1\nkind: Config\nclusters: []\nusers:\n- name: a\n  user:\n    token: {}\n",
                letters(ALNUM, 40)
            ),
        ),
        ("a GitHub token", format!("ghp_{}", letters(ALNUM, 36))),
        (
            "a GitHub token",
            format!("https://oauth2:ghs_{}@github.com/o/r", letters(ALNUM, 36)),
        ),
        (
            "a GitHub token",
            format!("github_pat_{}_{}", letters(ALNUM, 22), letters(ALNUM, 59)),
        ),
        ("a GitLab token", format!("glpat-{}", letters(ALNUM, 20))),
        (
            "a Hugging Face token",
            format!("--token=hf_{}", letters("abcdefghijklmnopqrstuvwxyzABCDEFG", 34)),
        ),
        (
            "a Slack token",
            format!("xoxb-{}-{}", letters("1234567890", 12), letters(ALNUM, 24)),
        ),
        ("an OpenAI key", format!("sk-proj-{}", letters(ALNUM, 48))),
        (
            "an OpenAI key",
            format!("sk-{}T3BlbkFJ{}", letters(ALNUM, 20), letters(ALNUM, 20)),
        ),
        ("an Anthropic key", format!("sk-ant-api03-{}", letters(ALNUM, 95))),
        ("an NVIDIA key", format!("nvapi-{}", letters(ALNUM, 64))),
        ("a Vault token", format!("hvs.{}", letters(ALNUM, 90))),
        ("an age identity", format!("AGE-SECRET-KEY-1{}", letters(UPPER, 58))),
        (
            "the login of a registry",
            format!(
                r#"{{"auths":{{"ghcr.io":{{"auth":"{}"}}}}}}"#,
                STANDARD.encode(format!("bot:{}", letters(ALNUM, 20)))
            ),
        ),
        (
            "a password in an address",
            format!("postgresql://mlflow:{}@db.mlops.svc:5432/mlflow", letters(ALNUM, 16)),
        ),
        (
            "a password in an address",
            format!("redis://:{}@redis:6379/0", letters(ALNUM, 16)),
        ),
    ]
}

/// What is often taken for a credential and is none.
fn negatives() -> Vec<String> {
    let hash = |length| letters(HEX, length);
    vec![
        hash(40),
        hash(64),
        format!("sha256:{}", hash(64)),
        format!("registry.example.com/models/road@sha256:{}", hash(64)),
        "550e8400-e29b-41d4-a716-446655440000".to_owned(),
        pem("CERTIFICATE", "\n"),
        pem("PUBLIC KEY", "\n"),
        pem("CERTIFICATE REQUEST", "\n"),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKD0bWq0rnXWyq0bLr0n1bS5m8mEJ1eHk7Xw6hA0c7dM a@b".to_owned(),
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".to_owned(),
        "Look for the line -----BEGIN RSA PRIVATE KEY----- in the file and never commit it.".to_owned(),
        "if [[ $line == '-----BEGIN PRIVATE KEY-----' ]]; then exit 1; fi".to_owned(),
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        "aws_secret_access_key = ${AWS_SECRET}\n".to_owned(),
        format!("AKIA{}", letters(UPPER, 22)),
        format!("xAKIA{}", letters(UPPER, 16)),
        "AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==".to_owned(),
        token(r#"{"alg":"none"}"#),
        "eyJhbGciOiJSUzI1NiJ9".to_owned(),
        format!("eyJmb28iOiJiYXIifQ.eyJmb28iOiJiYXIifQ.{}", letters(ALNUM, 43)),
        STANDARD.encode(format!(r#"{{"model_type": "llama", "hidden_size": 4096, "pad": "{}"}}"#, hash(200))),
        letters(BASE64, 400),
        format!("{{\"weight_map\": {{\"model.layers.0.mlp.weight\": \"model-00001-of-00030.safetensors\", \"sha\": \"{}\"}}}}", hash(64)),
        "kind: Config\nclusters:\n- cluster:\n    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUM=\nusers:\n- name: a\n  user:\n    exec: {command: aws}\n    tokenFile: /var/run/token\n".to_owned(),
        "tokenizer: meta-llama/Llama-3.1-8B-Instruct\ntoken: <your token here>\n".to_owned(),
        format!("token: {}", letters(ALNUM, 40)),
        "special_tokens: [<|begin_of_text|>, <|end_of_text|>]\neos_token_id: 128001".to_owned(),
        "hf_transfer_enabled_for_all_downloads_always".to_owned(),
        "HF_HUB_ENABLE_HF_TRANSFER=1 HF_HOME=/models hf_olmo hf_config_for_a_large_language_model".to_owned(),
        "ghp_short".to_owned(),
        "sk-learn sk-estimator-html-doc-link-for-the-documentation-of-scikit".to_owned(),
        "glpat-".to_owned(),
        "postgresql://user:password@localhost:5432/db".to_owned(),
        "postgres://mlflow:$(DB_PASSWORD)@db:5432/mlflow".to_owned(),
        "postgres://mlflow:${DB_PASSWORD}@db:5432/mlflow".to_owned(),
        "postgres://mlflow:<password>@db:5432/mlflow".to_owned(),
        "https://user@github.com/o/r.git".to_owned(),
        "http://proxy.example.com:3128/path@v1".to_owned(),
        "redis://redis-master.cache.svc:6379/0".to_owned(),
        "https://arxiv.org/abs/2106.09685:lora@paper".to_owned(),
        r#"{"auths":{"ghcr.io":{"auth":""}}}"#.to_owned(),
        r#"{"auth": "oauth2-proxy"}"#.to_owned(),
        format!(r#"{{"auth": "{}"}}"#, STANDARD.encode("user:password")),
        format!("integrity sha512-{}==", letters(BASE64, 86)),
        format!("checksum/config: {}", hash(64)),
        "v1.2.3-rc.1+build.20261126".to_owned(),
        "Tm9ib2R5IGV4cGVjdHMgdGhlIFNwYW5pc2ggSW5xdWlzaXRpb24h".to_owned(),
        "nvapi-".to_owned(),
        "xoxb-your-token-here".to_owned(),
        "s3://models/road-det/1/model.onnx?versionId=3HL4kqtJvjVBH40Nrjfkd".to_owned(),
        "AGE-SECRET-KEY-1EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXA".to_owned(),
        format!("ghp_{}", "x".repeat(36)),
        "public_key: MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhyQCx0E9wQWSFI9ULGwy3BuRklnt".to_owned(),
    ]
}

#[test]
fn every_shape_is_read_and_every_variable_in_order() {
    assert_eq!(
        patterns().len(),
        SHAPES.len() + TOKENS.len(),
        "a pattern does not compile"
    );
    for token in &TOKENS {
        let letter = |start: &&str| start.chars().next();
        let first = token.starts.first().and_then(letter);
        assert!(
            token.starts.iter().all(|start| letter(start) == first),
            "{}",
            token.what
        );
        let whole = Regex::new(&format!("^(?:{})$", token.pattern)).unwrap();
        let mut known = positives();
        known.retain(|(what, text)| *what == token.what && whole.is_match(text));
        for (what, text) in known {
            let begins = token.starts.is_empty() || token.starts.iter().any(|start| text.starts_with(start));
            assert!(begins, "{what} begins otherwise");
            assert!(
                text.chars().all(|letter| LETTERS.contains(letter)),
                "{what} has other letters"
            );
        }
    }
    assert!(super::VARIABLES.is_sorted() && super::PLACEHOLDERS.is_sorted());
}

#[test]
#[allow(clippy::print_stdout, reason = "a corpus tells its size")]
fn what_is_a_credential_is_seen_and_nothing_else_is() {
    let (positives, negatives) = (positives(), negatives());
    println!(
        "{} credentials, {} that look like one",
        positives.len(),
        negatives.len()
    );
    assert!(positives.len() > 30 && negatives.len() > 50);
    for (shape, ..) in patterns() {
        assert!(
            positives.iter().any(|(what, _)| what == shape),
            "{shape} is in no example"
        );
    }
    for (what, text) in &positives {
        let seen: Vec<&str> = sightings(text).iter().map(|sighting| sighting.what).collect();
        assert!(seen.contains(what), "{what} in {text}: {seen:?}");
    }
    for text in &negatives {
        assert_eq!(first(text), None, "{text}");
    }
}

#[test]
fn the_line_is_told_and_a_long_list_is_cut() {
    let text = format!(
        "a: 1\nb: 2\n{}\nc: ghp_{}",
        pem("PRIVATE KEY", "\n"),
        letters(ALNUM, 36)
    );
    let lines: Vec<u32> = sightings(&text).iter().map(|sighting| sighting.line).collect();
    assert_eq!(lines, [3, 6]);
    let many = format!("ghp_{}\n", letters(ALNUM, 36)).repeat(100);
    assert_eq!(sightings(&many).len(), super::MOST);
}

#[test]
fn a_variable_of_a_product_holds_a_credential_whatever_its_shape() {
    let secret = letters(ALNUM, 24);
    assert!(in_variable("WANDB_API_KEY", &secret).is_some());
    assert!(in_variable("HF_TOKEN", &secret).is_some());
    for (name, value) in [
        ("HF_HOME", &*secret),
        ("OPENAI_API_KEY", "EMPTY"),
        ("OPENAI_API_KEY", "not-needed"),
        ("HF_TOKEN", ""),
        ("HF_TOKEN", "$(TOKEN)"),
        ("WANDB_API_KEY", "<your-key>"),
        ("WANDB_API_KEY", "your-api-key-here"),
        ("POSTGRES_PASSWORD", "changeme"),
    ] {
        assert_eq!(in_variable(name, value), None, "{name}={value}");
    }
}
