//! The second proof: read every Secret through one API server, and see which keys its counters say it decrypted with.
//!
//! A read without a `resourceVersion` goes to etcd (`cacher/delegator.go`), and each value that is read there is counted
//! under the prefix it is stored with. Others read too, so a counter that moved does not say how many values there are;
//! one that stood still says that there is none. For clusters where nobody may patch Secrets, and for keys that a cloud
//! provider holds.

use std::collections::BTreeMap;

use super::tally::Pass;
use crate::api::conditions::Truth;
use crate::encryption::canary::growth;
use crate::encryption::metrics::Scrape;

/// What `identity` is counted under when it reads.
const IDENTITY: &str = "identity";
const ENCRYPTED: &str = "k8s:enc:";

/// Reasons; part of the API.
pub mod reasons {
    /// True: every stored Secret was read, and none is plaintext.
    pub const VALUES_ENCRYPTED: &str = "ValuesEncrypted";
    /// False: reading met plaintext.
    pub const PLAINTEXT_VALUES: &str = "PlaintextValues";
    /// Unknown: stored Secrets were not all read.
    pub const NOT_READ: &str = "NotRead";
    /// Unknown: the counters did not follow the reads.
    pub const READS_UNSEEN: &str = "ReadsUnseen";
}

/// What reading showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Whether all stored Secrets are encrypted.
    pub truth: Truth,
    /// One of [`reasons`].
    pub reason: &'static str,
    /// For people: one line.
    pub message: String,
    /// By prefix, how often a value was decrypted with it during the pass: `k8s:enc:aesgcm:v1:` for the provider, `k2:` for
    /// the key inside it.
    pub decrypted: BTreeMap<String, u64>,
}

/// Judges a pass of reads through one API server, scraped right before and right after on the same connection.
pub fn reads(pass: &Pass, before: &Scrape, after: &Scrape) -> Reads {
    let moved = growth(&before.reads, &after.reads);
    let (truth, reason, message) = verdict(pass, before, after, moved.as_ref());
    Reads {
        truth,
        reason,
        message,
        decrypted: moved.unwrap_or_default(),
    }
}

/// Nothing was read, and why.
pub fn unread(message: &str) -> Reads {
    Reads {
        truth: Truth::Unknown,
        reason: reasons::NOT_READ,
        message: message.to_owned(),
        decrypted: BTreeMap::new(),
    }
}

fn verdict(
    pass: &Pass,
    before: &Scrape,
    after: &Scrape,
    moved: Option<&BTreeMap<String, u64>>,
) -> (Truth, &'static str, String) {
    let unknown = |message: String| (Truth::Unknown, reasons::NOT_READ, message);
    let Some(moved) = moved.filter(|_| before.state().is_some() && before.state() == after.state()) else {
        return unknown("the API server restarted or took another configuration while Secrets were read".to_owned());
    };
    let of = |wanted: fn(&str) -> bool| {
        moved
            .iter()
            .filter(|(prefix, _)| wanted(prefix))
            .map(|(_, by)| by)
            .sum::<u64>()
    };
    let (plain, encrypted) = (
        of(|prefix| prefix == IDENTITY),
        of(|prefix| prefix.starts_with(ENCRYPTED)),
    );
    if plain > 0 {
        // Whoever read it: it is stored.
        let message = format!(
            "values are stored in plaintext: reading {} Secrets met {plain}; rewrite them with `cloison encryption rewrite`",
            pass.tally.listed
        );
        return (Truth::False, reasons::PLAINTEXT_VALUES, message);
    }
    let barrier = match pass.clean() {
        Ok(barrier) => barrier,
        Err(why) => {
            let first = pass
                .tally
                .named
                .first()
                .map(|found| format!("; first {found}"))
                .unwrap_or_default();
            return unknown(format!("stored Secrets were not all read: {why}{first}"));
        }
    };
    if encrypted < pass.tally.current {
        let message = format!(
            "{} Secrets were read and the API server counted {encrypted}: no encryption is configured there, or a proxy is in \
             between",
            pass.tally.current
        );
        return (Truth::Unknown, reasons::READS_UNSEEN, message);
    }
    let keys: Vec<String> = moved
        .iter()
        .map(|(prefix, by)| format!("{by} under {prefix}"))
        .collect();
    let message = format!(
        "all {} stored Secrets were read and none is plaintext: {}; new ones are written under {}",
        pass.tally.current,
        if keys.is_empty() {
            "there is none".to_owned()
        } else {
            keys.join(", ")
        },
        barrier.writes()
    );
    (Truth::True, reasons::VALUES_ENCRYPTED, message)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::encryption::sweep::barrier::NoBarrier;
    use crate::encryption::sweep::barrier::tests::barrier;
    use crate::encryption::sweep::tally::Tally;

    fn scrape(started: u32, reads: &[(&str, u64)]) -> Scrape {
        let mut text = format!("process_start_time_seconds {started}\n");
        for (prefix, count) in reads {
            let _ = writeln!(
                text,
                "apiserver_storage_transformation_operations_total{{resource=\"secrets\",status=\"OK\",\
                 transformation_type=\"from_storage\",transformer_prefix=\"{prefix}\"}} {count}"
            );
        }
        Scrape::of(&text)
    }

    fn pass(read: u64) -> Pass {
        Pass {
            tally: Tally {
                listed: read,
                current: read,
                ..Tally::default()
            },
            stop: None,
            before: Ok(barrier("x")),
            after: Ok(barrier("x")),
        }
    }

    const OLD: (&str, u64) = ("k8s:enc:aesgcm:v1:", 100);

    #[test]
    fn values_are_proven_only_when_each_read_was_counted_and_none_met_plaintext() {
        let before = scrape(1, &[OLD, ("k1:", 100)]);
        let after = |moved: &[(&str, u64)]| scrape(1, moved);
        let found = |pass: &Pass, after: &Scrape| {
            let reads = reads(pass, &before, after);
            (reads.truth, reads.reason)
        };
        let good = after(&[("k8s:enc:aesgcm:v1:", 105), ("k1:", 103), ("k2:", 2)]);
        assert_eq!(found(&pass(5), &good), (Truth::True, reasons::VALUES_ENCRYPTED));
        // The API server that counted is not the one that answered.
        assert_eq!(found(&pass(6), &good), (Truth::Unknown, reasons::READS_UNSEEN));
        let plain = after(&[("k8s:enc:aesgcm:v1:", 105), ("k1:", 105), (IDENTITY, 1)]);
        assert_eq!(found(&pass(5), &plain), (Truth::False, reasons::PLAINTEXT_VALUES));
        let restarted = scrape(2, &[("k8s:enc:aesgcm:v1:", 105), ("k1:", 105)]);
        assert_eq!(found(&pass(5), &restarted), (Truth::Unknown, reasons::NOT_READ));
        let reset = after(&[("k8s:enc:aesgcm:v1:", 5), ("k1:", 5)]);
        assert_eq!(found(&pass(5), &reset), (Truth::Unknown, reasons::NOT_READ));
        let mut stopped = pass(5);
        stopped.after = Err(NoBarrier::Unseen("a stranger".to_owned()));
        assert_eq!(found(&stopped, &good), (Truth::Unknown, reasons::NOT_READ));
    }

    #[test]
    fn plaintext_is_said_even_of_a_pass_that_proves_nothing() {
        let before = scrape(1, &[OLD]);
        let mut stopped = pass(5);
        stopped.before = Err(NoBarrier::Unseen("a stranger".to_owned()));
        let found = reads(&stopped, &before, &scrape(1, &[OLD, (IDENTITY, 3)]));
        assert_eq!(found.truth, Truth::False);
    }
}
