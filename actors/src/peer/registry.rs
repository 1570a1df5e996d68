//! Finds or starts the actor of a peer node, and lets those go that have been silent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::AbortRegistration;
use tokio::sync::{Semaphore, SemaphorePermit};
use vellum_protocol::{Domain, Envelope, Handle, Manifest, UnixMillis};
use vellum_store::friendships::Peer;
use vellum_store::{StoreError, peers};

use super::bulkhead::Bulkheads;
use super::lookups::{Allowance, Later, LookupFor};
use super::{Deliver, ForgetManifest, Introduce, PeerActor, PeerError, ResolveUser, Verdict, verdict};
use crate::BootTime;
use crate::clock::CLOCKS_DIFFER_MILLIS;
use crate::node::Node;
use crate::trace::TraceParent;

/// How long the actor of a silent peer is kept.
const IDLE: Duration = Duration::from_secs(600);
/// The same for a server that somebody has named and that has not been heard of.
const IDLE_UNPROVEN: Duration = Duration::from_secs(30);
/// Actors of such servers at once: a flood of invented names fills this and no more.
const MOST_UNPROVEN: usize = 4096;
/// Servers that nobody here has met and that are asked for their manifests at the same time, because somebody unproven
/// says that they come from there.
const STRANGERS_AT_ONCE: usize = 64;

/// The table of the peers' actors.
pub struct Peers {
    table: Mutex<Table>,
    arbiters: Vec<ArbiterHandle>,
    in_flight: u32,
    strangers: Semaphore,
    pub(super) bulkheads: Bulkheads,
    allowance: Allowance,
    pub(crate) later: Later,
    waiting: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
    /// How many of them are not proven.
    unproven: usize,
}

struct Entry {
    addr: Addr<PeerActor>,
    last_used: UnixMillis,
    /// Whether it is more than a name that somebody has put into a header.
    proven: bool,
}

/// A delivery that waits for its peer's actor, counted until this is dropped.
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An actor that a look-up has started: it goes with the look-up, unless somebody has proven the
/// name.
struct Started<'a> {
    peers: &'a Peers,
    domain: &'a Domain,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.peers.lock().remove_unproven(self.domain);
    }
}

impl Peers {
    /// A table that starts its actors on `arbiters` in turn, each with at most `in_flight` requests at
    /// once.
    #[must_use]
    pub fn new(arbiters: Vec<ArbiterHandle>, in_flight: u32) -> Self {
        assert!(!arbiters.is_empty(), "peers need an arbiter to run on");
        Self {
            table: Mutex::default(),
            arbiters,
            in_flight,
            strangers: Semaphore::new(STRANGERS_AT_ONCE),
            bulkheads: Bulkheads::new(in_flight),
            allowance: Allowance::default(),
            later: Later::default(),
            waiting: Arc::default(),
        }
    }

    /// The same, with each peer asked at most so often a minute because a user looks somebody up.
    #[must_use]
    pub fn with_lookups_per_minute(self, most: Option<u32>) -> Self {
        Self { allowance: Allowance::new(most), ..self }
    }

    /// The manifest of a peer that somebody says they are, with its key compared to the pinned one.
    pub(crate) async fn introduce(
        &self,
        node: &Arc<Node>,
        domain: &Domain,
    ) -> Result<Arc<Manifest>, PeerError> {
        admitted(node, domain)?;
        let actor = match self.actor_of_claimed(node, domain) {
            Some(actor) => actor,
            // Those that were met have their place whatever strangers do.
            None if is_pinned(node, domain).await? => self.actor(node, domain),
            None => return Err(PeerError::TooManyStrangers),
        };
        let manifest = actor.send(Introduce(Arc::clone(node))).await.unwrap_or(Err(PeerError::Stopping))?;
        self.prove(domain);
        Ok(manifest)
    }

    /// A place among the strangers that are asked for their manifests.
    pub(super) fn place_for_stranger(&self) -> Result<SemaphorePermit<'_>, PeerError> {
        self.strangers.try_acquire().map_err(|_| PeerError::TooManyStrangers)
    }

    /// Somebody on another node, as their user document shows them.
    pub(crate) async fn resolve_user(
        &self,
        node: &Arc<Node>,
        handle: &Handle,
        why: LookupFor,
    ) -> Result<Peer, PeerError> {
        let domain = handle.domain();
        admitted(node, domain)?;
        let place = match why.user() {
            Some(user) => Some(self.bulkheads.place_of_user(user).await?),
            None => None,
        };
        self.allowance.count(domain, &why, node.clock.now())?;
        let (actor, _started) = {
            let mut table = self.lock();
            let started = !table.entries.contains_key(&domain.folded());
            let actor = self.find_or_start(&mut table, node.clock.now(), domain);
            (actor, started.then(|| Started { peers: self, domain }))
        };
        let ask = ResolveUser { node: Arc::clone(node), alias: handle.alias().clone(), why, place };
        let found = actor.send(ask).await.unwrap_or(Err(PeerError::Stopping));
        if matches!(found, Ok(_) | Err(PeerError::NoSuchUser)) {
            self.prove(domain);
        }
        found
    }

    /// Makes one attempt to deliver an envelope to its recipient's node; `None` when it was stopped.
    pub(crate) async fn deliver(
        &self,
        node: &Arc<Node>,
        envelope: Envelope,
        repeated: bool,
        trace: TraceParent,
        stop: AbortRegistration,
        until: BootTime,
    ) -> Option<Verdict> {
        let domain = envelope.content.to.domain();
        if let Err(error) = admitted(node, domain) {
            return Some(verdict::without_manifest(&error));
        }
        let addr = self.actor(node, domain);
        let deliver = Deliver { node: Arc::clone(node), envelope, repeated, trace, stop, until };
        // Without an answer the actor ended in the middle, which only a stopping node makes it do.
        addr.send(deliver).await.unwrap_or(None)
    }

    fn actor(&self, node: &Node, domain: &Domain) -> Addr<PeerActor> {
        let mut table = self.lock();
        let actor = self.find_or_start(&mut table, node.clock.now(), domain);
        table.prove(domain);
        actor
    }

    /// The actor of a server that somebody has only named; `None` while there are too many such.
    fn actor_of_claimed(&self, node: &Node, domain: &Domain) -> Option<Addr<PeerActor>> {
        let mut table = self.lock();
        if table.unproven >= MOST_UNPROVEN && !table.entries.contains_key(&domain.folded()) {
            return None;
        }
        Some(self.find_or_start(&mut table, node.clock.now(), domain))
    }

    fn find_or_start(&self, table: &mut Table, now: UnixMillis, domain: &Domain) -> Addr<PeerActor> {
        let place = table.entries.len() % self.arbiters.len();
        let Table { entries, unproven } = table;
        let entry = entries.entry(domain.folded()).or_insert_with(|| {
            *unproven += 1;
            Entry { addr: self.start(domain, place), last_used: now, proven: false }
        });
        if !entry.addr.connected() {
            entry.addr = self.start(domain, place);
        }
        entry.last_used = now;
        entry.addr.clone()
    }

    fn start(&self, domain: &Domain, place: usize) -> Addr<PeerActor> {
        let (domain, in_flight) = (domain.clone(), self.in_flight);
        Supervisor::start_in_arbiter(&self.arbiters[place], move |_| PeerActor::new(domain, in_flight))
    }

    fn prove(&self, domain: &Domain) {
        self.lock().prove(domain);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a delivery that has come to its peer's actor, until what is returned is dropped.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(&self.waiting))
    }

    /// How many deliveries wait for their turn at a peer.
    #[must_use]
    pub fn deliveries_waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many peers have an actor.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether no peer has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has every peer's manifest fetched anew when it is needed next.
    pub(crate) fn forget_manifests(&self) {
        for entry in self.lock().entries.values() {
            entry.addr.do_send(ForgetManifest);
        }
    }

    /// Looks anew at the manifest of a peer that is known.
    pub(crate) async fn look_again(&self, node: &Arc<Node>, domain: &Domain) -> Result<(), PeerError> {
        admitted(node, domain)?;
        let actor = self.actor(node, domain);
        actor.do_send(ForgetManifest);
        actor.send(Introduce(Arc::clone(node))).await.unwrap_or(Err(PeerError::Stopping)).map(drop)
    }

    /// Lets the actors of silent peers go; requests under way end first. Returns how many went.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let mut table = self.lock();
        self.allowance.sweep(now);
        let before = table.entries.len();
        table.entries.retain(|_, entry| {
            let idle = if entry.proven { IDLE } else { IDLE_UNPROVEN };
            let idle = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
            // A use in the future was dated by a clock that was ahead.
            (-CLOCKS_DIFFER_MILLIS..idle).contains(&now.since(entry.last_used))
        });
        table.unproven = table.entries.values().filter(|entry| !entry.proven).count();
        table.entries.shrink_to_fit();
        before - table.entries.len()
    }
}

impl Table {
    fn prove(&mut self, domain: &Domain) {
        if let Some(entry) = self.entries.get_mut(&domain.folded())
            && !entry.proven
        {
            entry.proven = true;
            self.unproven -= 1;
        }
    }

    fn remove_unproven(&mut self, domain: &Domain) {
        if self.entries.get(&domain.folded()).is_some_and(|entry| !entry.proven) {
            self.entries.remove(&domain.folded());
            self.unproven -= 1;
        }
    }
}

/// Whether anything is exchanged with the domain, as far as that is known without asking anybody.
fn admitted(node: &Node, domain: &Domain) -> Result<(), PeerError> {
    node.transport.permits(domain)?;
    if node.policy.admits(domain) { Ok(()) } else { Err(PeerError::NotAdmitted(domain.clone())) }
}

/// Whether the server was met before.
pub(crate) async fn is_pinned(node: &Node, domain: &Domain) -> Result<bool, PeerError> {
    let look = async {
        let peer = peers::find(&mut *node.store.read().await?, &domain.folded()).await?;
        Ok::<_, StoreError>(peer.is_some_and(|peer| peer.public_key.is_some()))
    };
    look.await.map_err(PeerError::Store)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::{AbortHandle, BoxFuture, join_all};
    use vellum_client::Signer;
    use vellum_protocol::{Alias, JsonObject, MessageType, SigningSecret};

    use super::super::{Answer, Transport, TransportError, Trouble};
    use super::*;
    use crate::Clock;
    use crate::alone::Alone;

    /// A host that takes questions and answers none of them, until it breaks the connections.
    #[derive(Clone)]
    struct Mute {
        asked: Arc<AtomicUsize>,
        posted: Arc<AtomicUsize>,
        breaks: Arc<Semaphore>,
    }

    impl Mute {
        fn new() -> Self {
            Self { asked: Arc::default(), posted: Arc::default(), breaks: Arc::new(Semaphore::new(0)) }
        }

        async fn answer(&self) -> Result<Answer, TransportError> {
            self.breaks.acquire().await.unwrap().forget();
            Err(TransportError::Broken("by the host".into()))
        }
    }

    impl Transport for Mute {
        fn get<'a>(&'a self, _: &'a Domain, _: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answer().boxed()
        }

        fn post<'a>(
            &'a self,
            _: &'a Domain,
            _: &'a str,
            _: Vec<(&'static str, String)>,
            _: String,
        ) -> BoxFuture<'a, Result<Answer, TransportError>> {
            self.posted.fetch_add(1, Ordering::SeqCst);
            self.answer().boxed()
        }
    }

    fn for_a_user() -> LookupFor {
        LookupFor::User("u".to_owned().into())
    }

    async fn send(node: &Arc<Node>, lasts: Duration) -> Option<Verdict> {
        let from = Handle::parse("ann@node.example").unwrap();
        let signer = Signer::new(from, SigningSecret::from_seed([1; 32]));
        let to = Handle::parse("bob@mute.example").unwrap();
        let revoke = MessageType::RelationshipRevoke;
        let envelope = signer.envelope(revoke, &to, JsonObject::new(), node.clock.now(), &mut rand::rng());
        let trace = TraceParent::parse("00-00000000000000000000000000000001-0000000000000001-00").unwrap();
        let (_, stop) = AbortHandle::new_pair();
        node.peers.deliver(node, envelope, false, trace, stop, node.clock.boot() + lasts).await
    }

    #[actix::test]
    async fn nothing_is_sent_any_more_when_the_lease_is_over() {
        let mute = Mute::new();
        let alone = Alone::start_with(mute.clone()).await;
        let verdict = send(&alone.node, Duration::from_millis(50)).await;
        let Some(Verdict::Later { reason, trouble: Trouble::Ours, maybe_arrived: false, .. }) = verdict
        else {
            panic!("{verdict:?}")
        };
        assert!(reason.contains("longer than it may"), "{reason}");
        mute.breaks.add_permits(10);
        assert_eq!(send(&alone.node, Duration::ZERO).await, Some(super::super::verdict::overdue(false)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(mute.posted.load(Ordering::SeqCst), 0, "the actor did not go on by itself");
        assert_eq!(alone.node.peers.deliveries_waiting(), 0);
    }

    /// A host whose manifest comes in the moment in which the machine wakes up after two minutes.
    #[derive(Clone)]
    struct Suspended {
        clock: Arc<std::sync::OnceLock<Clock>>,
        posted: Arc<AtomicUsize>,
    }

    impl Transport for Suspended {
        fn get<'a>(
            &'a self,
            domain: &'a Domain,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Answer, TransportError>> {
            let key = SigningSecret::from_seed([3; 32]).public();
            let manifest = Manifest::of_this_node(domain.clone(), key, 604_800);
            let body = serde_json::to_vec(&manifest).unwrap();
            if let Some(clock) = self.clock.get() {
                clock.advance(120_000);
            }
            async { Ok(Answer { status: 200, body, retry_after: None, max_age: None, date: None }) }.boxed()
        }

        fn post<'a>(
            &'a self,
            _: &'a Domain,
            _: &'a str,
            _: Vec<(&'static str, String)>,
            _: String,
        ) -> BoxFuture<'a, Result<Answer, TransportError>> {
            self.posted.fetch_add(1, Ordering::SeqCst);
            async { Err(TransportError::Broken("by the host".into())) }.boxed()
        }
    }

    #[actix::test]
    async fn nothing_is_sent_on_a_lease_that_ended_while_the_machine_was_suspended() {
        let host = Suspended { clock: Arc::default(), posted: Arc::default() };
        let alone = Alone::start_with(host.clone()).await;
        send(&alone.node, Duration::from_secs(50)).await;
        assert_eq!(host.posted.load(Ordering::SeqCst), 1, "without suspension it is sent");
        alone.node.peers.forget_manifests();
        host.clock.set(alone.node.clock.clone()).unwrap();
        let verdict = send(&alone.node, Duration::from_secs(50)).await;
        assert_eq!(verdict, Some(super::super::verdict::overdue(false)));
        assert_eq!(host.posted.load(Ordering::SeqCst), 1, "another node may have the lease");
    }

    #[actix::test]
    async fn deliveries_that_wait_for_one_manifest_share_its_failure() {
        let mute = Mute::new();
        let alone = Alone::start_with(mute.clone()).await;
        let sending = join_all((0..4).map(|_| send(&alone.node, Duration::from_secs(20))));
        let breaking = async {
            while mute.asked.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // All of them are waiting by now.
            tokio::time::sleep(Duration::from_millis(100)).await;
            mute.breaks.add_permits(4);
        };
        let (verdicts, ()) = tokio::join!(sending, breaking);
        for verdict in verdicts {
            assert!(matches!(verdict, Some(Verdict::Later { trouble: Trouble::Peer, .. })), "{verdict:?}");
        }
        assert_eq!(mute.asked.load(Ordering::SeqCst), 1);
        send(&alone.node, Duration::from_secs(20)).await;
        assert_eq!(mute.asked.load(Ordering::SeqCst), 2, "a later attempt asks anew");
    }

    #[actix::test]
    async fn the_actor_of_a_name_that_nobody_has_proven_goes_soon_and_others_stay_a_while() {
        let alone = Alone::start().await;
        let (node, peers) = (&alone.node, &alone.node.peers);
        let invented = Domain::parse("invented.example").unwrap();
        peers.introduce(node, &invented).await.unwrap_err();
        let known = Handle::new(Alias::parse("bob").unwrap(), Domain::parse("known.example").unwrap());
        peers.resolve_user(node, &known, for_a_user()).await.unwrap_err();
        assert_eq!(peers.len(), 1, "a look-up that a user started in vain leaves nothing");
        peers.actor(node, known.domain());
        assert_eq!((peers.sweep(node.clock.now()), peers.len()), (0, 2));
        let later = |seconds: i64| node.clock.now().plus_millis(seconds * 1000);
        assert_eq!((peers.sweep(later(31)), peers.len()), (1, 1));
        assert_eq!((peers.sweep(later(599)), peers.len()), (0, 1));
        assert_eq!((peers.sweep(later(600)), peers.len()), (1, 0));
        assert!(peers.is_empty());
    }

    #[actix::test]
    async fn a_flood_of_invented_names_starts_a_bounded_number_of_actors() {
        let alone = Alone::start().await;
        let (node, peers) = (&alone.node, &alone.node.peers);
        for n in 0..MOST_UNPROVEN {
            peers.actor_of_claimed(node, &Domain::parse(&format!("n{n}.example")).unwrap()).unwrap();
        }
        let one_more = Domain::parse("one-more.example").unwrap();
        assert!(matches!(peers.introduce(node, &one_more).await, Err(PeerError::TooManyStrangers)));
        let met = Domain::parse("met.example").unwrap();
        let (key, now) = (node.identity.public(), node.clock.now());
        let pinned = node.store.write(move |tx| {
            async move { vellum_store::peers::pin(tx, "met.example", &key, None, now).await }.boxed()
        });
        let pinned: Result<_, StoreError> = pinned.await;
        pinned.unwrap();
        assert!(matches!(peers.introduce(node, &met).await, Err(PeerError::Transport(_))), "it is asked");
        let first = Domain::parse("n0.example").unwrap();
        assert!(matches!(peers.introduce(node, &first).await, Err(PeerError::Transport(_))));
        let known = Handle::new(Alias::parse("bob").unwrap(), one_more.clone());
        let resolved = peers.resolve_user(node, &known, for_a_user()).await;
        assert!(matches!(resolved, Err(PeerError::Transport(_))), "what this node itself asks for has room");
        peers.sweep(node.clock.now().plus_millis(31_000));
        assert_eq!(peers.len(), 1, "the one that was met");
        assert!(matches!(peers.introduce(node, &first).await, Err(PeerError::Transport(_))));
    }
}
