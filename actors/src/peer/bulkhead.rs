//! Bulkheads: how many requests to other nodes are in flight at once, by what they are for.
//!
//! Deliveries, look-ups for messages and look-ups for users each have places of their own, and
//! within them one peer has a few. So a peer that answers byte by byte holds only its own few
//! places, and a user who looks up many such peers holds only that user's.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use vellum_protocol::{Domain, Handle};
use vellum_store::UserId;

use super::{PeerError, TransportError};

/// Requests in flight for deliveries. Their bound per peer is a setting.
const DELIVERIES: usize = 1024;
/// Deliveries in flight of one sender.
const PER_SENDER: usize = 128;
/// Requests in flight for messages that came in, in all and to one peer.
const FOR_MESSAGES: (usize, usize) = (256, 16);
/// Requests in flight for users of this node, in all and to one peer.
const FOR_USERS: (usize, usize) = (128, 8);
/// Look-ups of one user at once.
const PER_USER: usize = 8;
/// Unknown peers whose manifests are fetched at once because somebody unproven says that they come
/// from there.
const UNKNOWN: usize = 64;
/// How long a request waits for its place.
const WAIT: Duration = Duration::from_secs(5);
/// From so many keys on, those without a request are dropped before another is added.
const KEYS_KEPT: usize = 1024;

/// What a request to another node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An envelope, and the manifest that sending it needs.
    Delivery,
    /// The documents that a message from another node is verified with.
    InboundLookup,
    /// The documents of somebody whom a user of this node looks up.
    UserLookup,
}

/// The places of every purpose.
pub(crate) struct Bulkheads {
    purposes: [Bulkhead; Purpose::COUNT],
    unknown: Semaphore,
    users: PlacesByKey<UserId>,
    senders: PlacesByKey<String>,
}

struct Bulkhead {
    all: Semaphore,
    peers: PlacesByKey<String>,
}

/// A place for one request, until it is dropped.
pub(crate) struct Place<'a> {
    _of_peer: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Purpose {
    pub(super) const COUNT: usize = 3;
}

impl Bulkheads {
    pub fn new(in_flight_per_peer: u32) -> Self {
        let deliveries = (DELIVERIES, usize::try_from(in_flight_per_peer.max(1)).unwrap_or(1));
        Self {
            purposes: [deliveries, FOR_MESSAGES, FOR_USERS]
                .map(|(all, each)| Bulkhead { all: Semaphore::new(all), peers: PlacesByKey::new(each) }),
            unknown: Semaphore::new(UNKNOWN),
            users: PlacesByKey::new(PER_USER),
            senders: PlacesByKey::new(PER_SENDER),
        }
    }

    /// Waits for a place for a request to this peer.
    pub async fn place(&self, purpose: Purpose, peer: &Domain) -> Result<Place<'_>, TransportError> {
        let bulkhead = &self.purposes[purpose as usize];
        let waiting = async {
            // The peer's own place first: waiting for a slow peer must not hold a place that others
            // need.
            let of_peer = bulkhead.peers.take(peer.folded()).await?;
            let of_all = bulkhead.all.acquire().await.ok()?;
            Some(Place { _of_peer: of_peer, _of_all: of_all })
        };
        timeout(WAIT, waiting).await.ok().flatten().ok_or(TransportError::Busy)
    }

    /// A place among the unknown peers whose manifests are fetched.
    pub fn place_of_unknown(&self) -> Result<SemaphorePermit<'_>, PeerError> {
        self.unknown.try_acquire().map_err(|_| PeerError::TooManyUnknownPeers)
    }

    /// Waits for a place for a delivery of what this user of the node has signed.
    pub async fn place_of_sender(&self, sender: &Handle) -> Result<OwnedSemaphorePermit, TransportError> {
        let waiting = self.senders.take(sender.to_string());
        timeout(WAIT, waiting).await.ok().flatten().ok_or(TransportError::Busy)
    }

    pub fn deliveries_in_flight(&self) -> usize {
        DELIVERIES - self.purposes[Purpose::Delivery as usize].all.available_permits()
    }

    /// Waits for a place for a look-up that this user has started.
    pub async fn place_of_user(&self, user: &UserId) -> Result<OwnedSemaphorePermit, TransportError> {
        timeout(WAIT, self.users.take(user.clone())).await.ok().flatten().ok_or(TransportError::Busy)
    }
}

/// So many places for each key.
struct PlacesByKey<K> {
    each: usize,
    table: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> PlacesByKey<K> {
    fn new(each: usize) -> Self {
        Self { each, table: Mutex::default() }
    }

    async fn take(&self, key: K) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= KEYS_KEPT {
                // Requests and those who wait hold a reference each.
                table.retain(|_, places| Arc::strong_count(places) > 1);
            }
            Arc::clone(table.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
        };
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_peer_takes_its_own_places_and_a_purpose_its_own() {
        let bulkheads = Bulkheads::new(4);
        let (slow, other) = (domain("slow.example"), domain("other.example"));
        let shouted = domain("SLOW.example");
        let mut held = Vec::new();
        for _ in 0..FOR_MESSAGES.1 {
            held.push(bulkheads.place(Purpose::InboundLookup, &slow).await.unwrap());
        }
        let has_place = |purpose, peer| bulkheads.place(purpose, peer).now_or_never().is_some();
        assert!(!has_place(Purpose::InboundLookup, &shouted), "in any spelling");
        assert!(has_place(Purpose::InboundLookup, &other), "another peer has its own");
        assert!(has_place(Purpose::Delivery, &slow) && has_place(Purpose::UserLookup, &slow));
        held.pop();
        assert!(has_place(Purpose::InboundLookup, &slow), "a place is given back");

        let mut all = Vec::new();
        for n in 0..FOR_USERS.0 {
            let peer = domain(&format!("n{n}.example"));
            all.push(bulkheads.place(Purpose::UserLookup, &peer).await.unwrap());
        }
        assert!(!has_place(Purpose::UserLookup, &other), "all are taken");
        assert!(has_place(Purpose::InboundLookup, &other) && has_place(Purpose::Delivery, &other));
    }

    #[tokio::test]
    async fn a_sender_takes_a_part_of_the_places_for_deliveries() {
        let bulkheads = Bulkheads::new(4);
        let (ann, ben) = (Handle::parse("ann@a.example").unwrap(), Handle::parse("ben@a.example").unwrap());
        let mut held = Vec::new();
        for _ in 0..PER_SENDER {
            held.push(bulkheads.place_of_sender(&ann).await.unwrap());
        }
        // So many at once use up what the runtime lets a task do without a pause.
        tokio::task::yield_now().await;
        assert!(bulkheads.place_of_sender(&ann).now_or_never().is_none());
        assert!(bulkheads.place_of_sender(&ben).now_or_never().is_some(), "others have their own");
        held.pop();
        assert!(bulkheads.place_of_sender(&ann).now_or_never().is_some());
    }

    #[tokio::test]
    async fn keys_without_a_request_are_forgotten() {
        let places = PlacesByKey::new(1);
        let held = places.take(0).await.unwrap();
        for key in 1..=2 * KEYS_KEPT {
            drop(places.take(key).await.unwrap());
        }
        assert!(places.table.lock().unwrap().len() <= KEYS_KEPT);
        assert!(places.take(0).now_or_never().is_none(), "what is in use is kept");
        drop(held);
    }
}
