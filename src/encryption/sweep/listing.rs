//! The list of what is to be swept, and its place while it is read. It is read as a whole before the first patch: a
//! continue token lives as long as etcd keeps the history (five minutes by default), and a slow sweep takes longer.
//!
//! One stored value that cannot be read breaks the part of the list it is in. So parts become smaller until it is alone
//! in one, and the list goes on behind it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::answer::{Answer, Entry, Page};
use super::outcome::Obstacle;
use super::tally::Blocked;

/// A list that expired so often is given up.
const RESTARTS: u32 = 3;
/// The most Secrets in a part of the list.
const PART: u32 = 250;

/// Why a pass did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The place in the list was lost again and again.
    PlaceLost,
    /// A stored value breaks the list and cannot be stepped over.
    ListBroken,
    /// The account was not let in.
    Denied(String),
    /// No answer of any use for long; the status code of the last, 0 for none.
    Unavailable(u16),
    /// The API server sent something else than metadata.
    NotMetadata(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PlaceLost => f.write_str("the list of Secrets expired while it was read, several times in a row"),
            Self::ListBroken => f.write_str(
                "a stored value that cannot be read breaks the list, and the API server does not go on behind it",
            ),
            Self::Denied(what) => write!(f, "the account of the sweep was not let in: {what}"),
            Self::Unavailable(0) => f.write_str("the API server did not answer for about a minute"),
            Self::Unavailable(code) => write!(f, "the API server answered {code} for about a minute"),
            Self::NotMetadata(why) => f.write_str(why),
        }
    }
}

/// A list that is being read.
#[derive(Clone, Debug)]
pub struct Listing {
    entries: Vec<Entry>,
    broken: Vec<Blocked>,
    place: Option<String>,
    part: u32,
    restarts: u32,
    ended: bool,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            broken: Vec::new(),
            place: None,
            part: PART,
            restarts: 0,
            ended: false,
        }
    }
}

impl Listing {
    /// The continue token of the next part; empty for the first.
    pub fn place(&self) -> &str {
        self.place.as_deref().unwrap_or_default()
    }

    /// How many Secrets the next part is to hold.
    pub fn part(&self) -> u32 {
        self.part
    }

    /// Whether everything was listed.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What was listed, and what could not be.
    pub fn found(self) -> (Vec<Entry>, Vec<Blocked>) {
        (self.entries, self.broken)
    }

    /// Takes in a part.
    pub fn page(&mut self, page: Page) {
        self.entries.extend(page.entries);
        self.ended = page.next.is_none();
        self.place = page.next;
        self.part = self.part.saturating_mul(2).min(PART);
    }

    /// Takes in a refusal, and says whether it is one of the list, so that another part is asked for.
    pub fn refused(&mut self, answer: &Answer) -> Result<bool, Stop> {
        match (answer.code, breaker(answer)) {
            (410, _) => self.expired()?,
            (_, Some(_)) if self.part > 1 => self.part /= 2,
            (_, Some(found)) if self.broken.last() != Some(&found) => {
                self.place = Some(behind(&found));
                self.broken.push(found);
            }
            (_, Some(_)) => return Err(Stop::ListBroken),
            (400, None) if !self.broken.is_empty() => return Err(Stop::ListBroken),
            (_, None) => return Ok(false),
        }
        Ok(true)
    }

    /// The token is too old. What was listed belongs to a list that has no end: it is begun anew.
    fn expired(&mut self) -> Result<(), Stop> {
        self.restarts += 1;
        if self.restarts > RESTARTS {
            return Err(Stop::PlaceLost);
        }
        self.entries.clear();
        self.broken.clear();
        self.place = None;
        Ok(())
    }
}

/// The Secret whose value breaks the list, if the answer names it: `unable to transform key "/registry/secrets/a/s"`.
/// The first part of the path is the API server's `--etcd-prefix`.
fn breaker(answer: &Answer) -> Option<Blocked> {
    let (_, rest) = answer.message.split_once("unable to transform key \"")?;
    let (path, _) = rest.split_once('"')?;
    let mut parts = path.rsplit('/');
    let (name, namespace) = (parts.next()?, parts.next()?);
    (parts.next()? == "secrets").then(|| Blocked {
        namespace: namespace.into(),
        name: name.into(),
        obstacle: Obstacle::Undecryptable,
    })
}

/// The continue token that goes on behind a Secret, as of now: `rv` below zero asks for the latest
/// (`apiserver/pkg/storage/continue.go`, whose structure "is a public API struct and cannot change").
fn behind(found: &Blocked) -> String {
    let start = format!("{}/{}\0", found.namespace, found.name);
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": -1, "start": start}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str], next: Option<&str>) -> Page {
        let entry = |name: &&str| Entry {
            namespace: "a".into(),
            name: (*name).into(),
            uid: "u".into(),
            version: "1".into(),
            copied: false,
        };
        Page {
            entries: names.iter().map(entry).collect(),
            next: next.map(str::to_owned),
        }
    }

    fn refusal(code: u16, message: &str) -> Answer {
        Answer {
            code,
            message: message.to_owned(),
            ..Answer::default()
        }
    }

    fn broken(name: &str) -> Answer {
        let key = format!("unable to transform key \"/registry/secrets/a/{name}\": no matching prefix found");
        refusal(500, &format!("Internal error occurred: {key}"))
    }

    #[test]
    fn a_list_goes_on_where_it_was_and_ends_without_a_token() {
        let mut listing = Listing::default();
        assert_eq!(listing.place(), "");
        listing.page(page(&["x", "y"], Some("t1")));
        assert_eq!((listing.place(), listing.ended()), ("t1", false));
        listing.page(page(&["z"], None));
        assert!(listing.ended());
        assert_eq!(listing.found().0.len(), 3);
    }

    #[test]
    fn a_lost_place_begins_the_list_anew_and_not_for_ever() {
        let (mut listing, expired) = (Listing::default(), refusal(410, "too old"));
        for _ in 0..RESTARTS {
            listing.page(page(&["x"], Some("t")));
            assert_eq!(listing.refused(&expired), Ok(true));
            assert_eq!(
                (listing.place(), listing.entries.len(), listing.ended()),
                ("", 0, false)
            );
        }
        assert_eq!(listing.refused(&expired), Err(Stop::PlaceLost));
    }

    #[test]
    fn each_value_that_breaks_the_list_is_named_and_stepped_over() {
        let mut listing = Listing::default();
        let mut tries = 0;
        while listing.place().is_empty() {
            assert_eq!(listing.refused(&broken("s")), Ok(true));
            tries += 1;
        }
        assert_eq!((tries, listing.part()), (8, 1));
        let token = URL_SAFE_NO_PAD.decode(listing.place()).unwrap();
        let token: serde_json::Value = serde_json::from_slice(&token).unwrap();
        assert_eq!(token, json!({"v": "meta.k8s.io/v1", "rv": -1, "start": "a/s\u{0}"}));
        // The next one, right behind it.
        assert_eq!(listing.refused(&broken("t")), Ok(true));
        listing.page(page(&["z"], None));
        let (entries, found) = listing.found();
        let found: Vec<&str> = found.iter().map(|found| &*found.name).collect();
        assert_eq!((entries.len(), found), (1, vec!["s", "t"]));
    }

    #[test]
    fn a_list_that_does_not_go_on_is_given_up() {
        let stepped = || {
            let mut listing = Listing::default();
            (0..8).for_each(|_| assert_eq!(listing.refused(&broken("s")), Ok(true)));
            listing
        };
        assert_eq!(stepped().refused(&broken("s")), Err(Stop::ListBroken));
        assert_eq!(
            stepped().refused(&refusal(400, "invalid continue token")),
            Err(Stop::ListBroken)
        );
        // Other refusals are none of the list's.
        for other in [
            refusal(500, "unable to transform key \"/registry/configmaps/a/s\": x"),
            refusal(500, "etcdserver: request timed out"),
        ] {
            assert_eq!(stepped().refused(&other), Ok(false));
        }
    }
}
