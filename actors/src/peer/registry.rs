//! Finds or starts the actor of a peer node, and lets those go that have been silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::AbortRegistration;
use tokio::sync::{Semaphore, SemaphorePermit};
use vellum_protocol::{Domain, Envelope, Handle, Manifest, UnixMillis};
use vellum_store::friendships::Peer;

use super::{Deliver, ForgetManifest, Introduce, PeerActor, PeerError, ResolveUser, TransportError, Verdict};
use crate::node::Node;
use crate::trace::TraceParent;

/// How long the actor of a silent peer is kept.
const IDLE: Duration = Duration::from_secs(600);

/// Nodes that nobody here has met and that are asked for their manifests at the same time, because somebody unproven says
/// that they come from there.
const STRANGERS: usize = 64;
/// From so many actors on, silent ones go earlier: anybody can name a node that there is not.
const MANY: usize = 10_000;
/// How long an actor is kept then. Longer than any attempt to deliver takes.
const IDLE_AMONG_MANY: Duration = Duration::from_secs(60);

/// The table of the peers' actors.
pub struct Peers {
    table: Mutex<HashMap<String, Entry>>,
    strangers: Semaphore,
    arbiters: Vec<ArbiterHandle>,
    in_flight: u32,
}

struct Entry {
    addr: Addr<PeerActor>,
    last_used: UnixMillis,
}

impl Peers {
    /// A table that starts its actors on `arbiters` in turn, each with at most `in_flight` requests at
    /// once.
    #[must_use]
    pub fn new(arbiters: Vec<ArbiterHandle>, in_flight: u32) -> Self {
        assert!(!arbiters.is_empty(), "peers need an arbiter to run on");
        Self { table: Mutex::default(), strangers: Semaphore::new(STRANGERS), arbiters, in_flight }
    }

    /// The peer's manifest, with its key compared to the pinned one.
    pub(crate) async fn introduce(
        &self,
        node: &Arc<Node>,
        domain: &Domain,
    ) -> Result<Arc<Manifest>, PeerError> {
        admitted(node, domain)?;
        let asked = self.actor(node, domain).send(Introduce(Arc::clone(node))).await;
        asked.unwrap_or_else(|_| Err(stopping()))
    }

    /// A place among the strangers that are asked for their manifests.
    pub(super) fn place_for_stranger(&self) -> Result<SemaphorePermit<'_>, PeerError> {
        self.strangers.try_acquire().map_err(|_| PeerError::TooManyStrangers)
    }

    /// Somebody on another node, as their user document shows them. Kept for a minute unless `anew`.
    pub(crate) async fn resolve_user(
        &self,
        node: &Arc<Node>,
        handle: &Handle,
        anew: bool,
    ) -> Result<Peer, PeerError> {
        admitted(node, handle.domain())?;
        let ask = ResolveUser { node: Arc::clone(node), alias: handle.alias().clone(), anew };
        self.actor(node, handle.domain()).send(ask).await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Makes one attempt to deliver an envelope to its recipient's node; `None` when it was stopped.
    pub(crate) async fn deliver(
        &self,
        node: &Arc<Node>,
        envelope: Envelope,
        repeated: bool,
        trace: TraceParent,
        stop: AbortRegistration,
    ) -> Option<Verdict> {
        let domain = envelope.content.to.domain();
        if let Err(error) = admitted(node, domain) {
            let reason = error.to_string();
            return Some(Verdict::Later { reason, pause: None, reached: true, maybe_arrived: false });
        }
        let addr = self.actor(node, domain);
        let deliver = Deliver { node: Arc::clone(node), envelope, repeated, trace, stop };
        // Without an answer the actor ended in the middle, which only a stopping node makes it do.
        addr.send(deliver).await.unwrap_or(None)
    }

    fn actor(&self, node: &Node, domain: &Domain) -> Addr<PeerActor> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let place = table.len() % self.arbiters.len();
        let now = node.clock.now();
        if table.len() >= MANY {
            forget_idle(&mut table, IDLE_AMONG_MANY, now);
        }
        let entry = table.entry(domain.folded()).or_insert_with(|| self.start(domain, place, now));
        if !entry.addr.connected() {
            *entry = self.start(domain, place, now);
        }
        entry.last_used = now;
        entry.addr.clone()
    }

    fn start(&self, domain: &Domain, place: usize, now: UnixMillis) -> Entry {
        let (domain, in_flight) = (domain.clone(), self.in_flight);
        let addr =
            Supervisor::start_in_arbiter(&self.arbiters[place], move |_| PeerActor::new(domain, in_flight));
        Entry { addr, last_used: now }
    }

    /// How many peers have an actor.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no peer has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has every peer's manifest fetched anew when it is needed next.
    pub(crate) fn forget_manifests(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in table.values() {
            entry.addr.do_send(ForgetManifest);
        }
    }

    /// Lets the actors of silent peers go; requests under way end first. Returns how many went.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let before = table.len();
        forget_idle(&mut table, IDLE, now);
        before - table.len()
    }
}

fn forget_idle(table: &mut HashMap<String, Entry>, idle: Duration, now: UnixMillis) {
    let idle = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
    table.retain(|_, entry| now.since(entry.last_used) < idle);
}

fn admitted(node: &Node, domain: &Domain) -> Result<(), PeerError> {
    if node.policy.admits(domain) { Ok(()) } else { Err(PeerError::NotAdmitted(domain.clone())) }
}

fn stopping() -> PeerError {
    PeerError::Transport(TransportError::Unreachable("the node is stopping".into()))
}
