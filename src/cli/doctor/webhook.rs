//! The webhook, by what anybody may read of it: its configuration, its endpoints, and how long API servers trust it.
//! Nobody asks it anything here. Pure.

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Maybe;
use super::verdict::{Verdict, Word, first, verdict};
use crate::cli::out;
use crate::webhook::authorities;

/// An authority is replaced when a third of its life is left: one that has no more than this is replaced by nobody.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
const ABOUT: &str = "webhook";

/// What was read.
pub(super) struct Webhook {
    pub configuration: Maybe<ValidatingWebhookConfiguration>,
    /// How many ready endpoints its Service has; `None` where they may not be listed.
    pub ready: Option<usize>,
    pub now: Timestamp,
}

/// The endpoints of a Service that requests are sent to. One that says nothing of itself counts, as it does for those who send.
pub(super) fn ready(slices: &[EndpointSlice]) -> usize {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter());
    let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
    endpoints
        .filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|it| it.ready)))
        .count()
}

impl Webhook {
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let configuration = match &self.configuration {
            None => {
                let message = "you may not read its ValidatingWebhookConfiguration";
                return vec![verdict(ABOUT, Word::Unknown, message)];
            }
            Some(None) => {
                let message = "there is no ValidatingWebhookConfiguration: flows, claims and settings are refused by nobody at \
                               the door; set webhook.enabled in the chart, or `cloison on` where the stop button is pressed";
                return vec![verdict(ABOUT, Word::Attention, message)];
            }
            Some(Some(configuration)) => configuration,
        };
        let entries = configuration.webhooks.as_deref().unwrap_or_default();
        vec![self.answers(entries), bundles(entries, self.now)]
    }

    /// Whether there is somebody to answer, and what becomes of requests while nobody does.
    fn answers(&self, entries: &[ValidatingWebhook]) -> Verdict {
        let failing = |entry: &&ValidatingWebhook| entry.failure_policy.as_deref() != Some("Ignore");
        let (refused, passed): (Vec<_>, Vec<_>) = entries.iter().partition(failing);
        let without = match (names(&refused), names(&passed)) {
            (refused, passed) if refused.is_empty() => format!("all passes unjudged ({passed})"),
            (refused, passed) if passed.is_empty() => format!("all is refused ({refused})"),
            (refused, passed) => format!("refused is what {refused} ask about, unjudged passes {passed}"),
        };
        match self.ready {
            None => {
                let message = format!("you may not list the endpoints of its Service; while none answers, {without}");
                verdict(ABOUT, Word::Unknown, message)
            }
            Some(0) => {
                let message = format!(
                    "its Service has no ready endpoint: {without}; look at its pods, or take it away with `cloison off --scope \
                     admission`"
                );
                verdict(ABOUT, Word::Attention, message)
            }
            Some(ready) => {
                let many = out::count(ready, "ready endpoint");
                verdict(ABOUT, Word::Fine, format!("{many}; while none answers, {without}"))
            }
        }
    }
}

/// Whether API servers trust it, and until when. The certificate that is served is in a Secret, and nobody reads it here.
fn bundles(entries: &[ValidatingWebhook], now: Timestamp) -> Verdict {
    let about = "authority";
    let of = |entry: &ValidatingWebhook| {
        let bundle = entry.client_config.ca_bundle.as_ref();
        bundle.map(|bundle| bundle.0.clone()).unwrap_or_default()
    };
    let without: Vec<_> = entries.iter().filter(|entry| of(entry).is_empty()).collect();
    if !without.is_empty() {
        let without = names(&without);
        let message =
            format!("no CA bundle in {without}: API servers cannot ask it; the webhook writes it: look at its log");
        return verdict(about, Word::Attention, message);
    }
    // The last of a bundle's certificates to end: an older one stays beside it while it is replaced.
    let end = |entry: &ValidatingWebhook| authorities(&of(entry)).into_iter().map(|validity| validity.until).max();
    let ends: Option<Vec<Timestamp>> = entries.iter().map(end).collect();
    let Some(ends) = ends else {
        let unread: Vec<_> = entries.iter().filter(|entry| end(entry).is_none()).collect();
        let message = format!("no certificate can be read in the CA bundle of {}", names(&unread));
        return verdict(about, Word::Attention, message);
    };
    let Some(end) = ends.into_iter().min() else {
        return verdict(
            about,
            Word::Attention,
            "its configuration has no entry: it is asked about nothing",
        );
    };
    let served = "the certificate that is served is in a Secret and not read here: \
                  cloison_webhook_certificate_expiry_timestamp_seconds has its end";
    let log = "look at the webhook's log, or at whoever writes its Secret";
    if end <= now {
        verdict(
            about,
            Word::Attention,
            format!("it ended at {end}: API servers cannot ask the webhook; {log}"),
        )
    } else if end.duration_since(now) <= SOON {
        verdict(
            about,
            Word::Attention,
            format!("it ends at {end} and nobody has replaced it; {log}; {served}"),
        )
    } else {
        verdict(about, Word::Fine, format!("every entry has it, until {end}; {served}"))
    }
}

/// The entries, without what all their names have in common.
fn names(entries: &[&ValidatingWebhook]) -> String {
    let short = |entry: &&ValidatingWebhook| entry.name.split('.').next().unwrap_or_default().to_owned();
    first(&entries.iter().map(short).collect::<Vec<_>>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use serde_json::json;

    use super::*;
    use crate::admission::Operator;
    use crate::admission::webhook::configuration;

    fn authority(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.pem().into_bytes()
    }

    fn seen(bundle: Option<&[u8]>, ready: Option<usize>, now: &str) -> Webhook {
        let policy = serde_json::from_value(json!({})).unwrap();
        let mut made = configuration(&policy, &Operator::in_namespace("cloison-system"), true);
        for entry in made.webhooks.iter_mut().flatten() {
            entry.client_config.ca_bundle = bundle.map(|bundle| ByteString(bundle.to_vec()));
        }
        Webhook {
            configuration: Some(Some(made)),
            ready,
            now: now.parse().unwrap(),
        }
    }

    const EARLY: &str = "2030-01-01T00:00:00Z";

    fn told(webhook: &Webhook) -> Vec<(Word, String)> {
        let lines = webhook.verdicts().into_iter();
        lines.map(|line| (line.word, line.message)).collect()
    }

    #[test]
    fn what_its_absence_means_is_told_by_entry() {
        let bundle = authority(2031);
        let bundle = Some(bundle.as_slice());
        let absent = told(&seen(bundle, Some(0), EARLY));
        let sentence = "refused is what workloads, claims ask about, unjudged passes settings, workloads-reported, deletions, \
                        claims-reported";
        assert_eq!(absent[0].0, Word::Attention);
        assert!(
            absent[0]
                .1
                .starts_with(&format!("its Service has no ready endpoint: {sentence}; ")),
            "{absent:?}"
        );
        let there = told(&seen(bundle, Some(2), EARLY));
        assert_eq!(
            there[0],
            (Word::Fine, format!("2 ready endpoints; while none answers, {sentence}"))
        );
        assert_eq!(told(&seen(bundle, None, EARLY))[0].0, Word::Unknown);
        let mut lax = seen(bundle, Some(1), EARLY);
        let entries = lax
            .configuration
            .iter_mut()
            .flatten()
            .flat_map(|it| it.webhooks.iter_mut().flatten());
        entries.for_each(|entry| entry.failure_policy = Some("Ignore".to_owned()));
        assert!(told(&lax)[0].1.contains("all passes unjudged"), "{:?}", told(&lax));
    }

    #[test]
    fn an_authority_is_fine_while_it_lasts_and_is_read() {
        let word = |bundle: Option<Vec<u8>>, now: &str| told(&seen(bundle.as_deref(), Some(1), now)).remove(1);
        let good = word(Some(authority(2031)), EARLY);
        assert_eq!(good.0, Word::Fine);
        assert!(
            good.1.starts_with("every entry has it, until 2031-01-01T00:00:00Z; "),
            "{good:?}"
        );
        let both = [authority(2030), authority(2031)].concat();
        assert_eq!(word(Some(both), EARLY), good, "the older one is beside it");
        for (bundle, now, why) in [
            (None, EARLY, "no CA bundle in settings, workloads, "),
            (Some(Vec::new()), EARLY, "no CA bundle in settings, workloads, "),
            (Some(b"hello".to_vec()), EARLY, "no certificate can be read "),
            (
                Some(authority(2031)),
                "2030-12-20T00:00:00Z",
                "it ends at 2031-01-01T00:00:00Z ",
            ),
            (
                Some(authority(2031)),
                "2031-01-01T00:00:00Z",
                "it ended at 2031-01-01T00:00:00Z",
            ),
        ] {
            let (word, message) = word(bundle, now);
            assert!(word == Word::Attention && message.starts_with(why), "{why}: {message}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_read_is_said_to_be_so() {
        let with = |configuration| {
            let webhook = Webhook {
                configuration,
                ready: Some(1),
                now: EARLY.parse().unwrap(),
            };
            webhook.verdicts().iter().map(|line| line.word).collect::<Vec<_>>()
        };
        assert_eq!(with(None), [Word::Unknown]);
        assert_eq!(with(Some(None)), [Word::Attention]);
        let empty = ValidatingWebhookConfiguration::default();
        assert_eq!(with(Some(Some(empty)))[1], Word::Attention);
    }

    #[test]
    fn endpoints_that_are_not_ready_answer_nobody() {
        let slice = |ready: serde_json::Value| {
            serde_json::from_value::<EndpointSlice>(json!({"addressType": "IPv4", "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}, {"addresses": ["10.0.0.2"]},
            ]}))
            .unwrap()
        };
        assert_eq!(ready(&[slice(json!(false)), slice(json!(true))]), 3);
        assert_eq!(ready(&[]), 0);
    }
}
