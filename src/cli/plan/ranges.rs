//! Addresses outside the cluster, told apart alike in two sets: each set cuts the address space where its own rules do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::ports::PortSet;
use crate::network::reach::concrete::Endpoint;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// `namespace/name[Kind]`.
    Workload(String),
    /// Addresses of IPv6, or of IPv4: the first and the last.
    Addresses { v6: bool, first: u128, last: u128 },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => f.write_str(name),
            Self::Addresses { v6, first, last } => write!(f, "{}-{}", address(*v6, *first), address(*v6, *last)),
        }
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !v6 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

fn end(endpoint: &Endpoint) -> End {
    match endpoint {
        Endpoint::Workload { namespace, name, kind } => End::Workload(format!("{namespace}/{name}[{kind}]")),
        Endpoint::Addresses(range) => {
            let number = |address: IpAddr| match address {
                IpAddr::V4(address) => u128::from(u32::from(address)),
                IpAddr::V6(address) => u128::from(address),
            };
            End::Addresses {
                v6: range.first.is_ipv6(),
                first: number(range.first),
                last: number(range.last),
            }
        }
    }
}

/// The end that connects, and the end that is reached.
pub(super) type Pair = (End, End);
type Pairs = BTreeMap<Pair, PortSet>;

/// Both sets, cut at the same addresses. Of IPv6 a set says nothing where none of its rules and pods has to do with it:
/// then it is not compared, and that is noted.
pub(super) fn aligned(sets: [BTreeMap<(Endpoint, Endpoint), PortSet>; 2], notes: &mut Vec<String>) -> [Pairs; 2] {
    let mut sets = sets.map(|set| -> Pairs {
        let pairs = set.into_iter();
        pairs
            .map(|((from, to), ports)| ((end(&from), end(&to)), ports))
            .collect()
    });
    let is_v6 = |(from, to): &Pair| {
        let v6 = |end: &End| matches!(end, End::Addresses { v6: true, .. });
        v6(from) || v6(to)
    };
    let [one, other] = [&sets[0], &sets[1]].map(|set| set.keys().any(is_v6));
    if one != other {
        sets.iter_mut().for_each(|set| set.retain(|pair, _| !is_v6(pair)));
        notes.push(
            "IPv6 addresses outside the cluster are not compared: one of the two sets says nothing of them".to_owned(),
        );
    }
    let mut starts: BTreeSet<(bool, u128)> = BTreeSet::new();
    for end in sets.iter().flat_map(BTreeMap::keys).flat_map(|(from, to)| [from, to]) {
        if let End::Addresses { v6, first, last } = end {
            starts.insert((*v6, *first));
            starts.extend(last.checked_add(1).map(|next| (*v6, next)));
        }
    }
    sets.map(|set| {
        let mut cut = Pairs::new();
        for ((from, to), ports) in set {
            for from in cells(&from, &starts) {
                for to in cells(&to, &starts) {
                    cut.insert((from.clone(), to), ports.clone());
                }
            }
        }
        cut
    })
}

fn cells(end: &End, starts: &BTreeSet<(bool, u128)>) -> Vec<End> {
    let End::Addresses { v6, first, last } = end else {
        return vec![end.clone()];
    };
    let inside: Vec<u128> = starts
        .range((*v6, *first)..=(*v6, *last))
        .map(|(_, start)| *start)
        .collect();
    let ends = inside.iter().skip(1).map(|next| next - 1).chain([*last]);
    let cell = |(first, last): (&u128, u128)| End::Addresses {
        v6: *v6,
        first: *first,
        last,
    };
    inside.iter().zip(ends.collect::<Vec<_>>()).map(cell).collect()
}

/// Neighbouring addresses with the same ports, put together again.
pub(super) fn joined(pairs: Vec<(Pair, PortSet)>) -> Vec<(Pair, PortSet)> {
    let mut all: Vec<(Pair, PortSet)> = Vec::with_capacity(pairs.len());
    // By the workload, the direction and the ports, and only then by the address, so that neighbours stand together.
    let mut sorted = pairs;
    let outside = |(from, to): &Pair| match (from, to) {
        (End::Addresses { .. }, own) => (own.clone(), 1, from.clone()),
        (own, End::Addresses { .. }) => (own.clone(), 0, to.clone()),
        (own, other) => (own.clone(), 2, other.clone()),
    };
    sorted.sort_by_key(|(pair, ports)| {
        let (own, direction, other) = outside(pair);
        (own, direction, ports.clone(), other)
    });
    for (pair, ports) in sorted {
        let known = all.last_mut().filter(|(_, known)| *known == ports);
        let met = known.is_some_and(|((from, to), _)| match (&pair.0, &pair.1) {
            (own, next @ End::Addresses { .. }) if own == from => extended(to, next),
            (next @ End::Addresses { .. }, own) if own == to => extended(from, next),
            _ => false,
        });
        if !met {
            all.push((pair, ports));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// Lets a range end where its neighbour does; false where they are no neighbours.
fn extended(known: &mut End, next: &End) -> bool {
    let (
        End::Addresses { v6, last, .. },
        End::Addresses {
            v6: other,
            first,
            last: end,
        },
    ) = (known, next)
    else {
        return false;
    };
    let neighbours = v6 == other && last.checked_add(1) == Some(*first);
    if neighbours {
        *last = *end;
    }
    neighbours
}
