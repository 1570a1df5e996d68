//! From which addresses peers speak. A public document is fetched without a signature, so this is how
//! a peer is told from a stranger there: by requests that it has signed, and by where this node has
//! delivered to it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vellum_protocol::Domain;

use crate::http::limits::one_client;

/// How long an address counts as a peer's after it was last seen to be.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Addresses that are kept, in all and of one peer. For one more the one not seen for longest goes.
const MOST: usize = 10_000;
const MOST_OF_PEER: usize = 16;
/// The part of an IPv6 address that stands for all of it.
const NETWORK: u8 = 64;

/// The addresses of peers whose keys are pinned.
#[derive(Debug, Default)]
pub struct PeerAddresses(Mutex<HashMap<IpAddr, Seen>>);

#[derive(Debug)]
struct Seen {
    peer: String,
    at: Instant,
}

impl PeerAddresses {
    /// Notes that this peer has proven to be at the address.
    pub fn note(&self, address: IpAddr, peer: &Domain) {
        let (address, peer, at) = (network_of(address), peer.folded(), Instant::now());
        let mut table = self.table();
        if !table.contains_key(&address) {
            let of_peer = table.values().filter(|seen| seen.peer == peer).count();
            if of_peer >= MOST_OF_PEER {
                remove_oldest(&mut table, |seen| seen.peer == peer);
            } else if table.len() >= MOST {
                remove_oldest(&mut table, |_| true);
            }
        }
        table.insert(address, Seen { peer, at });
    }

    /// The peer that was last seen at the address.
    pub fn peer_at(&self, address: IpAddr) -> Option<String> {
        let table = self.table();
        let seen = table.get(&network_of(address)).filter(|seen| seen.at.elapsed() < KEPT);
        seen.map(|seen| seen.peer.clone())
    }

    /// Forgets addresses at which no peer was seen for a day.
    pub fn sweep(&self) {
        self.table().retain(|_, seen| seen.at.elapsed() < KEPT);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    one_client(address.to_canonical(), NETWORK)
}

fn remove_oldest(table: &mut HashMap<IpAddr, Seen>, is_one: impl Fn(&Seen) -> bool) {
    let oldest = table.iter().filter(|(_, seen)| is_one(seen)).min_by_key(|(_, seen)| seen.at);
    if let Some(oldest) = oldest.map(|(address, _)| *address) {
        table.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_peer_has_a_few_addresses_and_all_together_have_a_bounded_number() {
        let addresses = PeerAddresses::default();
        let (peer, other) = (Domain::parse("a.example").unwrap(), Domain::parse("b.example").unwrap());
        addresses.note("192.0.2.1".parse().unwrap(), &other);
        for n in 0..100 {
            addresses.note(Ipv4Addr::from_bits(n).into(), &peer);
        }
        assert_eq!(addresses.table().len(), MOST_OF_PEER + 1);
        assert_eq!(addresses.peer_at(Ipv4Addr::from_bits(0).into()), None, "its oldest have gone");
        assert_eq!(addresses.peer_at(Ipv4Addr::from_bits(99).into()), Some("a.example".into()));
        assert_eq!(addresses.peer_at("192.0.2.1".parse().unwrap()), Some("b.example".into()));
        for n in 0..2 * MOST {
            let peer = Domain::parse(&format!("n{}.example", n / MOST_OF_PEER)).unwrap();
            addresses.note(Ipv4Addr::from_bits(u32::try_from(n).unwrap() + 1000).into(), &peer);
        }
        assert_eq!(addresses.table().len(), MOST);
    }

    #[test]
    fn an_ipv6_address_stands_for_its_network_and_a_mapped_one_for_what_it_maps() {
        let addresses = PeerAddresses::default();
        addresses.note("2001:db8:1:2::7".parse().unwrap(), &Domain::parse("A.example").unwrap());
        let at = |address: &str| addresses.peer_at(address.parse().unwrap());
        assert_eq!(at("2001:db8:1:2:3::9"), Some("a.example".into()));
        assert_eq!(at("2001:db8:1:3::7"), None);
        addresses.note("::ffff:192.0.2.1".parse().unwrap(), &Domain::parse("b.example").unwrap());
        assert_eq!(at("192.0.2.1"), Some("b.example".into()));
    }
}
