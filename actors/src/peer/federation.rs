//! What a node speaks with other nodes with: plain parts that every peer's actor is given.

use std::sync::Arc;

use vellum_protocol::{Domain, Handle, SigningSecret, UnixMillis};
use vellum_store::outbox::PeerQueue;
use vellum_store::{Store, StoreError, peers};

use super::PeerError;
use super::attempts::Attempts;
use super::bulkhead::Bulkheads;
use super::policy::Policy;
use super::retry::RetryPolicy;
use super::transport::Transport;
use crate::Clock;
use crate::waiters::OutcomeWaiters;

/// How long a peer that has taken something counts as one that takes more.
const PROVEN_MILLIS: i64 = 3_600_000;

/// The parts.
pub struct Federation {
    /// What the node remembers.
    pub(crate) store: Store,
    /// What time it is.
    pub(crate) clock: Clock,
    /// The server id of this node.
    pub(crate) domain: Domain,
    /// What it signs its requests with.
    pub(crate) identity: SigningSecret,
    /// How other nodes are spoken to.
    pub(crate) transport: Box<dyn Transport>,
    /// Which peers may exchange anything with this node, as operators have decided.
    pub(crate) policy: Arc<Policy>,
    /// When failed deliveries are tried again.
    pub(crate) retry: RetryPolicy,
    /// Attempts at once to one peer.
    pub(crate) in_flight_per_peer: u32,
    /// Names this process among those on one database; the prefix of its lease tokens.
    pub(crate) instance: String,
    /// Requests that wait for the outcome of an attempt.
    pub(crate) outcomes: Arc<OutcomeWaiters>,
    /// The attempts under way.
    pub(crate) attempts: Arc<Attempts>,
    /// The bounds of requests in flight.
    pub(crate) bulkheads: Bulkheads,
}

impl Federation {
    /// A lease token that no other lease has.
    pub(super) fn lease_token(&self) -> String {
        format!("{}:{}", self.instance, uuid::Uuid::new_v4())
    }

    /// How many deliveries wait for a place among the requests in flight.
    pub(super) fn deliveries_waiting(&self) -> usize {
        self.attempts.len().saturating_sub(self.bulkheads.deliveries_in_flight())
    }

    /// Whether a handle belongs to this node.
    pub(crate) fn is_local(&self, handle: &Handle) -> bool {
        handle.domain().folded() == self.domain.folded()
    }

    /// Whether a peer is sent more than one row at a time: it has taken something within the hour,
    /// and has not failed since. Many that are away cost one attempt each. This node itself is
    /// never away.
    pub(crate) fn is_proven(&self, queue: &PeerQueue, now: UnixMillis) -> bool {
        let took_lately = queue.delivered_at >= now.plus_millis(-PROVEN_MILLIS);
        queue.domain == self.domain.folded() || (took_lately && !queue.has_failed)
    }

    /// Whether anything is exchanged with the domain, as far as that is known without asking
    /// anybody.
    pub(super) fn admit(&self, domain: &Domain) -> Result<(), PeerError> {
        self.transport.permits(domain)?;
        if self.policy.admits(domain) { Ok(()) } else { Err(PeerError::NotAdmitted(domain.clone())) }
    }

    /// Whether the key of the server is pinned.
    pub(crate) async fn is_pinned(&self, domain: &Domain) -> Result<bool, PeerError> {
        let look = async {
            let peer = peers::find(&mut *self.store.read().await?, &domain.folded()).await?;
            Ok::<_, StoreError>(peer.is_some_and(|peer| peer.public_key.is_some()))
        };
        look.await.map_err(PeerError::Store)
    }
}
