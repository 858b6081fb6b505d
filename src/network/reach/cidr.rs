//! Sets of addresses, as sorted ranges of numbers.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::networking::v1::IPBlock;

use crate::network::world::network;

/// Why an `ipBlock` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CidrError {
    #[error("{0:?} is not a network")]
    NotANetwork(String),
    #[error("{except:?} is not inside {cidr:?}")]
    Outside { cidr: String, except: String },
}

/// Addresses of both families. Ranges are sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Addresses {
    /// All addresses of these networks.
    pub(super) fn of<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut all = Self::default();
        for network in networks {
            match normalised(*network) {
                IpNet::V4(network) => all.v4.push(range4(network)),
                IpNet::V6(network) => all.v6.push(range6(network)),
            }
        }
        all.v4 = joined(all.v4);
        all.v6 = joined(all.v6);
        all
    }

    /// The addresses of a block, its exceptions taken out. Host bits are dropped, as every CNI does.
    pub(super) fn block(block: &IPBlock) -> Result<Self, CidrError> {
        let read = |text: &str| {
            let network = network(text).map(normalised);
            network.ok_or_else(|| CidrError::NotANetwork(text.to_owned()))
        };
        let cidr = read(&block.cidr)?;
        let mut exceptions = Vec::new();
        for text in block.except.iter().flatten() {
            let except = read(text)?;
            if !cidr.contains(&except) {
                return Err(CidrError::Outside {
                    cidr: block.cidr.clone(),
                    except: text.clone(),
                });
            }
            exceptions.push(except);
        }
        Ok(Self::of([&cidr]).without(&Self::of(&exceptions)))
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            v4: difference(&self.v4, &other.v4),
            v6: difference(&self.v6, &other.v6),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.without(other) != *self
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }
}

/// Without host bits, and an IPv4 network written in IPv6 as what it is.
fn normalised(network: IpNet) -> IpNet {
    let network = network.trunc();
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.network().to_ipv4_mapped()
        && let Some(length) = mapped.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(address, length)
    {
        return IpNet::V4(v4);
    }
    network
}

fn range4(network: Ipv4Net) -> (u128, u128) {
    (
        u128::from(u32::from(network.network())),
        u128::from(u32::from(network.broadcast())),
    )
}

fn range6(network: Ipv6Net) -> (u128, u128) {
    (u128::from(network.network()), u128::from(network.broadcast()))
}

fn joined(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(known) if first <= known.1.saturating_add(1) => known.1 = known.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn difference(ranges: &[(u128, u128)], holes: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut left = Vec::new();
    for (first, last) in ranges {
        let mut start = Some(*first);
        for (from, to) in holes.iter().filter(|(from, to)| to >= first && from <= last) {
            if let Some(begin) = start
                && begin < *from
            {
                left.push((begin, from - 1));
            }
            start = to.checked_add(1).filter(|next| next <= last);
        }
        left.extend(start.map(|begin| (begin, *last)));
    }
    left
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    fn of(networks: &[&str]) -> Addresses {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::of(&networks)
    }

    fn block(cidr: &str, except: &[&str]) -> Result<Addresses, CidrError> {
        Addresses::block(&IPBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|text| (*text).to_owned()).collect()),
        })
    }

    #[test]
    fn a_block_is_its_network_without_its_exceptions() {
        let pods = of(&["10.244.0.0/16"]);
        assert!(block("10.0.0.0/8", &[]).unwrap().overlaps(&pods));
        assert!(!block("10.0.0.0/8", &["10.244.0.0/16"]).unwrap().overlaps(&pods));
        assert!(block("10.0.0.0/8", &["10.244.0.0/17"]).unwrap().overlaps(&pods));
        assert!(
            !block("10.0.0.0/8", &["10.244.0.0/17", "10.244.128.0/17"])
                .unwrap()
                .overlaps(&pods)
        );
        assert!(
            block("10.244.3.0/24", &["10.244.3.0/25", "10.244.3.128/25"])
                .unwrap()
                .is_empty()
        );
        assert!(
            block("10.244.3.9/24", &[]).unwrap().is_within(&pods),
            "host bits are dropped"
        );
    }

    #[test]
    fn families_do_not_meet_but_a_mapped_address_is_what_it_is() {
        let everything4 = of(&["0.0.0.0/0"]);
        assert!(!of(&["::/0"]).overlaps(&everything4));
        assert!(
            block("::ffff:10.244.0.0/112", &[])
                .unwrap()
                .overlaps(&of(&["10.244.0.0/16"]))
        );
        assert!(of(&["2001:db8::/32"]).is_within(&of(&["::/0"])));
        assert!(block("255.255.255.255/32", &[]).unwrap().is_within(&everything4));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "pods",
            "::/129",
        ] {
            assert_eq!(block(bad, &[]), Err(CidrError::NotANetwork(bad.to_owned())), "{bad}");
        }
        assert!(matches!(
            block("10.0.0.0/8", &["11.0.0.0/9"]),
            Err(CidrError::Outside { .. })
        ));
        assert!(matches!(block("10.0.0.0/8", &["::/9"]), Err(CidrError::Outside { .. })));
        assert!(matches!(
            block("10.0.0.0/8", &["0.0.0.0/0"]),
            Err(CidrError::Outside { .. })
        ));
    }

    #[test]
    fn nothing_overlaps_nothing() {
        let nothing = Addresses::default();
        assert!(!nothing.overlaps(&of(&["10.0.0.0/8"])) && !of(&["10.0.0.0/8"]).overlaps(&nothing));
        assert!(!nothing.overlaps(&nothing));
    }
}
