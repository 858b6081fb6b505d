//! What `/metrics` of one API server says about encryption.
//!
//! All families here are ALPHA and were renamed before (k3s #9080), so absence is never taken for good news: see
//! [`Scrape::complete`]. Measured on 1.33.13 and 1.36.3:
//!
//! - `apiserver_encryption_config_controller_last_config_info{apiserver_id_hash,hash}` exists from 1.34 on, with or
//!   without automatic reload, and only when an EncryptionConfiguration is in use;
//! - `apiserver_storage_transformation_operations_total` counts each write twice under a local key, once for the
//!   provider (`k8s:enc:aesgcm:v1:`) and once for the key inside it (`k1:`); a write by `identity` counts under the
//!   empty prefix; a resource that no entry of the configuration names is not counted at all.

mod kms;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub use kms::KmsKeys;

/// The family that shows which file an API server runs with.
const LAST_CONFIG_INFO: &str = "apiserver_encryption_config_controller_last_config_info";
const RELOADS: &str = "apiserver_encryption_config_controller_automatic_reloads_total";
const OPERATIONS: &str = "apiserver_storage_transformation_operations_total";
const STARTED: &str = "process_start_time_seconds";
const BUILD: &str = "kubernetes_build_info";
const DISABLED: &str = "disabled_metrics_total";
/// Counters without labels that the same registration makes as [`OPERATIONS`], so they are there from the start.
const COMPANIONS: [&str; 2] = [
    "apiserver_storage_data_key_generation_failures_total",
    "apiserver_storage_envelope_transformation_cache_misses_total",
];

/// One reading of `/metrics`, reduced to what the proof needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Every `apiserver_id_hash` in it: `sha256:` and the hash of the name of the replica's identity Lease. Several
    /// families carry it; without an EncryptionConfiguration none may.
    pub identities: BTreeSet<String>,
    /// `sha256:` and the hash of the bytes of the EncryptionConfiguration file in use.
    pub configuration_hash: Option<String>,
    /// When the process started, as it says it.
    pub started: Option<String>,
    /// Its version of Kubernetes, major and minor, where it says it.
    pub version: Option<(u32, u32)>,
    /// Successful reloads of the configuration since then. Before 1.34 the only sign of one.
    pub reloads: u64,
    /// Successful writes of Secrets by prefix, provider and key alike.
    pub writes: BTreeMap<String, u64>,
    /// Successful reads of Secrets from etcd by prefix, likewise; those by `identity` count under `identity`.
    pub reads: BTreeMap<String, u64>,
    /// Reads of values that no configured key fits, of any resource.
    pub undecryptable: u64,
    /// Successful reads and writes, by resource and prefix, provider and key alike.
    pub operations: BTreeMap<(String, String), Operations>,
    /// What KMS v2 plugins encrypt with.
    pub kms: KmsKeys,
    companions: bool,
    disabled: bool,
}

/// What was done under one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Values read.
    pub reads: u64,
    /// Values written.
    pub writes: u64,
}

/// One process under one configuration. While it stays the same, so does the provider that writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunState {
    identities: BTreeSet<String>,
    configuration_hash: Option<String>,
    started: String,
    reloads: u64,
}

impl RunState {
    /// The hash of the file it runs with; Kubernetes before 1.34 does not show it.
    pub fn configuration_hash(&self) -> Option<&str> {
        self.configuration_hash.as_deref()
    }
}

impl Scrape {
    /// Reads a whole text.
    pub fn of(text: &str) -> Self {
        let mut scrape = Self::default();
        text.lines().for_each(|line| scrape.read(line));
        scrape
    }

    /// Reads one line; lines of other families cost a comparison. A text may have hundreds of thousands.
    pub fn read(&mut self, line: &str) {
        if line.contains("apiserver_id_hash=\"")
            && let Some(sample) = Sample::parse(line)
            && let Some(hash) = sample.label("apiserver_id_hash")
            && hash.starts_with("sha256:")
        {
            self.identities.insert(hash.into_owned());
        }
        if line.starts_with(OPERATIONS) {
            self.read_operation(line);
        } else if line.starts_with(kms::FAMILY) {
            self.kms.read(line);
        } else if line.starts_with(LAST_CONFIG_INFO) {
            self.configuration_hash = named(line, LAST_CONFIG_INFO)
                .and_then(|sample| sample.label("hash").map(Cow::into_owned))
                .or_else(|| self.configuration_hash.take());
        } else if line.starts_with(RELOADS) {
            if let Some(sample) = named(line, RELOADS)
                && sample.is("status", "success")
            {
                self.reloads += sample.count().unwrap_or_default();
            }
        } else if line.starts_with(STARTED) {
            self.started = named(line, STARTED)
                .map(|sample| sample.value.to_owned())
                .or_else(|| self.started.take());
        } else if line.starts_with(BUILD) {
            self.version = named(line, BUILD).and_then(|sample| sample.version()).or(self.version);
        } else if line.starts_with(DISABLED) {
            self.disabled |= named(line, DISABLED).and_then(|sample| sample.count()) > Some(0);
        } else if COMPANIONS.iter().any(|name| named(line, name).is_some()) {
            self.companions = true;
        }
    }

    fn read_operation(&mut self, line: &str) {
        let Some(sample) = named(line, OPERATIONS) else { return };
        let (Some(prefix), Some(count)) = (sample.label("transformer_prefix"), sample.count()) else {
            return;
        };
        let reads = sample.is("transformation_type", "from_storage");
        if reads && prefix == "unknown" {
            self.undecryptable += count;
            return;
        }
        if !sample.is("status", "OK") || !(reads || sample.is("transformation_type", "to_storage")) {
            return;
        }
        let Some(resource) = sample.label("resource") else {
            return;
        };
        if resource == "secrets" {
            let counts = if reads { &mut self.reads } else { &mut self.writes };
            *counts.entry(prefix.clone().into_owned()).or_default() += count;
        }
        let key = (resource.into_owned(), prefix.into_owned());
        let operations = self.operations.entry(key).or_default();
        if reads {
            operations.reads += count;
        } else {
            operations.writes += count;
        }
    }

    /// Whether the absence of a count means that nothing was counted: the families registered beside it are here under
    /// the names we know, and no metric was switched off by flag.
    pub fn complete(&self) -> bool {
        self.companions && !self.disabled
    }

    /// The state of the process, unless it does not say when it started: then a restart could not be seen.
    pub fn state(&self) -> Option<RunState> {
        Some(RunState {
            identities: self.identities.clone(),
            configuration_hash: self.configuration_hash.clone(),
            started: self.started.clone()?,
            reloads: self.reloads,
        })
    }
}

/// A line of a family with exactly this name.
fn named<'a>(line: &'a str, name: &str) -> Option<Sample<'a>> {
    line.strip_prefix(name)?.starts_with(['{', ' ']).then_some(())?;
    Sample::parse(line)
}

/// One sample: `name{label="value",…} number`.
struct Sample<'a> {
    labels: &'a str,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        // The number never holds a brace, a label's value may hold anything.
        let (labels, value) = match line.rfind('}') {
            Some(end) => (&line[line.find('{')? + 1..end], &line[end + 1..]),
            None => ("", &line[line.find(' ')?..]),
        };
        // A timestamp may follow the number.
        let value = value.split_ascii_whitespace().next()?;
        Some(Self { labels, value })
    }

    fn is(&self, label: &str, value: &str) -> bool {
        self.label(label).is_some_and(|found| found == value)
    }

    fn label(&self, wanted: &str) -> Option<Cow<'a, str>> {
        let mut rest = self.labels;
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            if name.trim_start_matches([',', ' ']) == wanted {
                return Some(unescape(&after[..end]));
            }
            rest = &after[end + 1..];
        }
    }

    /// Some builds write a minor of `33+`.
    fn version(&self) -> Option<(u32, u32)> {
        let number = |label| self.label(label)?.trim_end_matches('+').parse().ok();
        Some((number("major")?, number("minor")?))
    }

    /// A counter. Go prints large ones as `1.234567e+06`.
    fn count(&self) -> Option<u64> {
        self.value.parse().ok().or_else(|| {
            let number: f64 = self.value.parse().ok()?;
            format!("{number:.0}").parse().ok()
        })
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Out of a 1.36.3 that encrypts.
    const REAL: &str = r#"
# HELP apiserver_encryption_config_controller_last_config_info [ALPHA] Information about the last applied encryption configuration with hash as label, split by apiserver identity.
# TYPE apiserver_encryption_config_controller_last_config_info gauge
apiserver_encryption_config_controller_last_config_info{apiserver_id_hash="sha256:0fa5",hash="sha256:13e0"} 1
# TYPE apiserver_encryption_config_controller_automatic_reloads_total counter
apiserver_encryption_config_controller_automatic_reloads_total{apiserver_id_hash="sha256:0fa5",status="failure"} 7
apiserver_encryption_config_controller_automatic_reloads_total{apiserver_id_hash="sha256:0fa5",status="success"} 2
apiserver_storage_data_key_generation_failures_total 0
# TYPE apiserver_storage_transformation_operations_total counter
apiserver_storage_transformation_operations_total{resource="configmaps",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 5
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 31
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix=""} 3
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k1:"} 1.234567e+06
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 1.234567e+06
apiserver_storage_transformation_operations_total{resource="secrets",status="unknown-non-grpc",transformation_type="to_storage",transformer_prefix="k8s:enc:kms:v2:cloud:"} 9
apiserver_storage_transformation_operations_total{resource="pods",status="unknown-non-grpc",transformation_type="from_storage",transformer_prefix="unknown"} 4
disabled_metrics_total 0
kubernetes_build_info{build_date="",compiler="gc",git_commit="",git_tree_state="",git_version="v1.36.3",go_version="go1.26.8",major="1",minor="36+",platform="linux/amd64"} 1
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.79545829408e+09
"#;

    #[test]
    fn reads_what_the_proof_needs_and_nothing_else() {
        let scrape = Scrape::of(REAL);
        assert_eq!(scrape.identities, BTreeSet::from(["sha256:0fa5".to_owned()]));
        assert_eq!(scrape.configuration_hash.as_deref(), Some("sha256:13e0"));
        assert_eq!(scrape.started.as_deref(), Some("1.79545829408e+09"));
        assert_eq!(scrape.version, Some((1, 36)));
        assert_eq!(scrape.reloads, 2);
        assert_eq!(scrape.undecryptable, 4);
        let of = |resource: &str, prefix: &str| scrape.operations.get(&(resource.to_owned(), prefix.to_owned()));
        let operations = |reads, writes| Some(Operations { reads, writes });
        assert_eq!(of("secrets", "k1:").copied(), operations(0, 1_234_567));
        assert_eq!(of("secrets", "k8s:enc:aesgcm:v1:").copied(), operations(31, 1_234_567));
        assert_eq!(of("configmaps", "k8s:enc:aesgcm:v1:").copied(), operations(0, 5));
        assert_eq!(of("secrets", "k8s:enc:kms:v2:cloud:"), None, "it failed");
        let writes: Vec<(&str, u64)> = scrape.writes.iter().map(|(prefix, n)| (prefix.as_str(), *n)).collect();
        assert_eq!(writes, [("", 3), ("k1:", 1_234_567), ("k8s:enc:aesgcm:v1:", 1_234_567)]);
        assert_eq!(scrape.reads, BTreeMap::from([("k8s:enc:aesgcm:v1:".to_owned(), 31)]));
        assert!(scrape.complete());
    }

    #[test]
    fn absence_counts_only_where_the_neighbours_are_present_and_nothing_is_switched_off() {
        assert!(!Scrape::of("").complete());
        assert!(!Scrape::of("apiserver_storage_data_key_generation_failures_total_seconds 0").complete());
        let switched_off = REAL.replace("disabled_metrics_total 0", "disabled_metrics_total 1");
        assert!(!Scrape::of(&switched_off).complete());
    }

    #[test]
    fn a_family_whose_name_only_begins_the_same_is_another_one() {
        let scrape = Scrape::of(
            "apiserver_storage_transformation_operations_total_new{resource=\"secrets\",status=\"OK\",\
             transformation_type=\"to_storage\",transformer_prefix=\"\"} 3\n\
             process_start_time_seconds_total 5\n\
             apiserver_encryption_config_controller_last_config_info_v2{hash=\"sha256:1\"} 1\n",
        );
        assert_eq!(scrape, Scrape::default());
    }

    #[test]
    fn labels_may_hold_anything() {
        let line = r#"x{a="b\"} 1",transformer_prefix="k\\:",le="}"} 2 1700000000"#;
        let label = |name| Sample::parse(line).and_then(|sample| sample.label(name));
        assert_eq!(label("a").as_deref(), Some("b\"} 1"));
        assert_eq!(label("transformer_prefix").as_deref(), Some("k\\:"));
        assert_eq!(label("le").as_deref(), Some("}"));
        assert_eq!(label("b"), None);
        assert_eq!(Sample::parse(line).and_then(|sample| sample.count()), Some(2));
    }

    #[test]
    fn an_identity_is_read_from_any_family() {
        let line = "apiserver_authorization_config_controller_last_config_info{apiserver_id_hash=\"sha256:1\"} 1";
        assert_eq!(Scrape::of(line).identities, BTreeSet::from(["sha256:1".to_owned()]));
        // An API server that does not know its own name says so with an empty hash.
        assert!(Scrape::of("x{apiserver_id_hash=\"\"} 1").identities.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,200}") {
            let _ = Scrape::of(&text);
            let _ = Scrape::of(&format!("apiserver_storage_transformation_operations_total{{{text}"));
        }
    }
}
