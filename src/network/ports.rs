//! Sets of destination ports, as canonical intervals: sorted, disjoint, never touching. Equal sets are equal values.

use std::fmt;

use crate::api::network::{Port, Protocol};

/// The protocols of NetworkPolicy, in the order of [`PortSet`].
const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
/// Ports count from 1.
const FIRST: u16 = 1;
/// A range of at most this many ports is rendered as single ones: some CNIs ignore `endPort`.
const LISTED: u16 = 16;

/// Ports of one protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// A set of destination ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Vec<Interval>);

/// Why a port cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Outside 1 to 65535.
    #[error("{0} is not a port")]
    NotAPort(i32),
    /// The range ends before it starts.
    #[error("the range {0}-{1} ends before it starts")]
    Reversed(i32, i32),
}

impl PortSet {
    /// No port.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Every port of every protocol.
    pub fn all() -> Self {
        Self(PROTOCOLS.into_iter().map(whole).collect())
    }

    /// Every port of one protocol.
    pub fn every(protocol: Protocol) -> Self {
        Self(vec![whole(protocol)])
    }

    /// Single ports.
    pub fn single(ports: impl IntoIterator<Item = (Protocol, u16)>) -> Self {
        ports
            .into_iter()
            .map(|(protocol, port)| Interval {
                protocol,
                first: port,
                last: port,
            })
            .collect()
    }

    /// What a person wrote.
    pub fn written(ports: &[Port]) -> Result<Self, PortError> {
        ports.iter().map(interval).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is every port of every protocol.
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether it holds one port.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        let mut intervals = self.0.iter();
        intervals.any(|interval| interval.protocol == protocol && (interval.first..=interval.last).contains(&port))
    }

    /// The intervals, in order.
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// Ports of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            if a.protocol == b.protocol {
                let (first, last) = (a.first.max(b.first), a.last.min(b.last));
                if first <= last {
                    both.push(Interval { first, last, ..**a });
                }
            }
            // The one that ends first cannot meet anything further.
            if (a.protocol, a.last) <= (b.protocol, b.last) {
                left.next();
            } else {
                right.next();
            }
        }
        Self(both)
    }

    /// Ports of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Ports of this that are not of the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for interval in &self.0 {
            let mut rest = Some(*interval);
            for hole in other.0.iter().filter(|hole| hole.protocol == interval.protocol) {
                let Some(now) = rest.filter(|now| hole.last >= now.first && hole.first <= now.last) else {
                    continue;
                };
                if hole.first > now.first {
                    left.push(Interval {
                        last: hole.first - 1,
                        ..now
                    });
                }
                rest = (hole.last < now.last).then(|| Interval {
                    first: hole.last + 1,
                    ..now
                });
            }
            left.extend(rest);
        }
        Self(left)
    }

    /// Whether the other holds all of this.
    pub fn is_within(&self, other: &Self) -> bool {
        self.intersection(other) == *self
    }

    /// The ports as NetworkPolicy takes them, short ranges spelt out: `(protocol, port, end of a long range)`, no port
    /// for a whole protocol, and nothing at all for every port.
    pub fn rendered(&self) -> Vec<(Protocol, Option<u16>, Option<u16>)> {
        if self.is_all() {
            return Vec::new();
        }
        let one = |interval: &Interval| {
            let protocol = interval.protocol;
            if *interval == whole(protocol) {
                vec![(protocol, None, None)]
            } else if interval.last - interval.first < LISTED {
                let ports = interval.first..=interval.last;
                ports.map(|port| (protocol, Some(port), None)).collect()
            } else {
                vec![(protocol, Some(interval.first), Some(interval.last))]
            }
        };
        self.0.iter().flat_map(one).collect()
    }
}

const fn whole(protocol: Protocol) -> Interval {
    Interval {
        protocol,
        first: FIRST,
        last: u16::MAX,
    }
}

/// One port, or a range, as a person wrote it.
fn interval(written: &Port) -> Result<Interval, PortError> {
    let number = |port: i32| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port >= FIRST)
            .ok_or(PortError::NotAPort(port))
    };
    let first = number(written.port)?;
    let last = written.end_port.map_or(Ok(first), number)?;
    if last < first {
        return Err(PortError::Reversed(i32::from(first), i32::from(last)));
    }
    Ok(Interval {
        protocol: written.protocol.unwrap_or_default(),
        first,
        last,
    })
}

impl FromIterator<Interval> for PortSet {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut sorted: Vec<Interval> = intervals.into_iter().collect();
        sorted.sort_unstable();
        let mut joined: Vec<Interval> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match joined.last_mut() {
                Some(last) if last.protocol == next.protocol && next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                _ => joined.push(next),
            }
        }
        Self(joined)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.as_str(), self.first)?;
        if self.last > self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all ports");
        }
        for (index, interval) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{interval}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn port(port: i32, end_port: Option<i32>) -> Port {
        Port {
            port,
            end_port,
            protocol: None,
        }
    }

    #[test]
    fn a_port_is_a_number_from_1_to_65535_and_a_range_goes_upwards() {
        for bad in [0, -1, 65_536, i32::MIN] {
            assert_eq!(PortSet::written(&[port(bad, None)]), Err(PortError::NotAPort(bad)));
        }
        assert_eq!(PortSet::written(&[port(9, Some(8))]), Err(PortError::Reversed(9, 8)));
        assert_eq!(
            PortSet::written(&[port(1, Some(65_535))]).unwrap(),
            PortSet::every(Protocol::TCP)
        );
    }

    #[test]
    fn short_ranges_are_listed_and_long_ones_keep_their_end() {
        let ports = PortSet::written(&[port(8000, Some(8002)), port(30_000, Some(31_000)), port(8003, None)]).unwrap();
        assert_eq!(ports.to_string(), "TCP 8000-8003, TCP 30000-31000");
        assert_eq!(
            ports.rendered(),
            [8000, 8001, 8002, 8003]
                .map(|port| (Protocol::TCP, Some(port), None))
                .into_iter()
                .chain([(Protocol::TCP, Some(30_000), Some(31_000))])
                .collect::<Vec<_>>()
        );
        assert_eq!(PortSet::every(Protocol::UDP).rendered(), [(Protocol::UDP, None, None)]);
        assert_eq!(PortSet::all().rendered(), []);
    }

    fn small_sets() -> impl Strategy<Value = PortSet> {
        let one = (0..2_usize, 1..12_u16, 0..4_u16).prop_map(|(protocol, first, more)| Interval {
            protocol: PROTOCOLS[protocol],
            first,
            last: first + more,
        });
        proptest::collection::vec(one, 0..5).prop_map(|intervals| intervals.into_iter().collect())
    }

    fn members(set: &PortSet) -> BTreeSet<(Protocol, u16)> {
        let one = |interval: &Interval| {
            let protocol = interval.protocol;
            (interval.first..=interval.last).map(move |port| (protocol, port))
        };
        set.intervals().iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(a in small_sets(), b in small_sets()) {
            let (x, y) = (members(&a), members(&b));
            prop_assert_eq!(members(&a.intersection(&b)), x.intersection(&y).copied().collect());
            prop_assert_eq!(members(&a.union(&b)), x.union(&y).copied().collect());
            prop_assert_eq!(members(&a.difference(&b)), x.difference(&y).copied().collect());
            prop_assert_eq!(a.is_within(&b), x.is_subset(&y));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
