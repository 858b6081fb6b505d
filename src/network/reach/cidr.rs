//! Sets of addresses, as sorted ranges of numbers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// All addresses of networks as somebody wrote them.
    pub(super) fn written(networks: &[String]) -> Result<Self, CidrError> {
        let read = |text: &String| network(text).ok_or_else(|| CidrError::NotANetwork(text.clone()));
        let networks: Vec<IpNet> = networks.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::of(&networks))
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

    /// Every address there is, of both families.
    pub(super) fn is_everything(&self) -> bool {
        self.v4 == [(0, u128::from(u32::MAX))] && self.v6 == [(0, u128::MAX)]
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.without(other) != *self
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (ranges, address) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(u32::from(address))),
            IpAddr::V6(address) => (&self.v6, u128::from(address)),
        };
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Those of the cells that lie inside, by index. The cells are sorted, and cut at its ends among others.
    pub(super) fn cells_within(&self, cells: &[AddressRange]) -> Vec<usize> {
        let v4 = self.v4.iter().map(|(first, last)| (address4(*first), address4(*last)));
        let v6 = self.v6.iter().map(|(first, last)| (address6(*first), address6(*last)));
        let inside = v4.chain(v6).flat_map(|(first, last)| {
            cells.partition_point(|cell| cell.first < first)..cells.partition_point(|cell| cell.first <= last)
        });
        inside.collect()
    }

    /// Whether it has addresses of IPv6.
    pub(super) fn is_v6(&self) -> bool {
        !self.v6.is_empty()
    }
}

/// Addresses that no block tells apart, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address, of the same family.
    pub last: IpAddr,
}

/// The whole address space, cut at the ends of every block: what is true of one address of a range is true of all. Sorted,
/// IPv4 first.
pub(super) fn cells(blocks: &[&Addresses], v6: bool) -> Vec<AddressRange> {
    let cut = |ranges: fn(&Addresses) -> &[(u128, u128)], most: u128| {
        let mut starts = BTreeSet::from([0]);
        for (first, last) in blocks.iter().flat_map(|block| ranges(block)) {
            starts.insert(*first);
            starts.extend(last.checked_add(1).filter(|next| *next <= most));
        }
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([most]);
        starts.iter().copied().zip(ends.collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let v4 = cut(|block| &block.v4, u128::from(u32::MAX))
        .into_iter()
        .map(|(first, last)| AddressRange {
            first: address4(first),
            last: address4(last),
        });
    let mut all: Vec<AddressRange> = v4.collect();
    if v6 {
        let range = |(first, last)| AddressRange {
            first: address6(first),
            last: address6(last),
        };
        all.extend(cut(|block| &block.v6, u128::MAX).into_iter().map(range));
    }
    all
}

fn address4(number: u128) -> IpAddr {
    // Ranges of IPv4 are never larger than 32 bits.
    IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
}

fn address6(number: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(number))
}

/// The cell that an address is in, of cells of both families.
pub(super) fn cell_of(address: IpAddr, cells: &[AddressRange]) -> usize {
    let address = address.to_canonical();
    cells.partition_point(|cell| cell.first <= address).saturating_sub(1)
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
    fn the_address_space_is_cut_where_a_block_begins_or_ends() {
        let text = |blocks: &[&Addresses], v6| {
            let cells = cells(blocks, v6).into_iter();
            let cells = cells.map(|cell| format!("{}-{}", cell.first, cell.last));
            cells.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(&[], false), "0.0.0.0-255.255.255.255");
        let ten = block("10.0.0.0/8", &["10.1.0.0/16"]).unwrap();
        assert_eq!(
            text(&[&ten, &of(&["255.0.0.0/8", "10.0.0.0/8"])], false),
            "0.0.0.0-9.255.255.255 10.0.0.0-10.0.255.255 10.1.0.0-10.1.255.255 10.2.0.0-10.255.255.255 \
             11.0.0.0-254.255.255.255 255.0.0.0-255.255.255.255"
        );
        assert!(ten.contains("10.0.0.1".parse().unwrap()) && !ten.contains("10.1.0.1".parse().unwrap()));
        assert!(ten.contains("::ffff:10.0.0.1".parse().unwrap()));
        let six = of(&["8000::/1"]);
        assert!(six.is_v6() && !ten.is_v6());
        assert_eq!(
            text(&[&six], true),
            "0.0.0.0-255.255.255.255 ::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
    }

    #[test]
    fn nothing_overlaps_nothing() {
        let nothing = Addresses::default();
        assert!(!nothing.overlaps(&of(&["10.0.0.0/8"])) && !of(&["10.0.0.0/8"]).overlaps(&nothing));
        assert!(!nothing.overlaps(&nothing));
    }
}
