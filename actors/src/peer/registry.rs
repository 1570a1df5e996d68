//! Finds or starts the actor of a peer node, and lets those go that have been silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use vellum_protocol::{Domain, Handle, Manifest, UnixMillis};
use vellum_store::friendships::RemoteUser;

use super::lookups::{Allowance, LookupFor};
use super::{Federation, ForgetManifest, Introduce, PeerActor, PeerError, ResolveUser};
use crate::clock::CLOCKS_DIFFER_MILLIS;

/// How long the actor of a silent peer is kept.
const IDLE: Duration = Duration::from_secs(600);
/// The same for a server that somebody has named and that has not been heard of.
const IDLE_UNPROVEN: Duration = Duration::from_secs(30);
/// Actors of such servers at once: a flood of invented names fills this and no more.
const MOST_UNPROVEN: usize = 4096;

/// What the table of the peers' actors is made from.
#[derive(Debug)]
pub struct PeerSettings {
    /// Where the actors run, in turn; at least one.
    pub arbiters: Vec<ArbiterHandle>,
    /// How often a minute each peer is asked because a user looks somebody up; `None` for any
    /// number.
    pub lookups_per_minute: Option<u32>,
}

/// The table of the peers' actors.
pub struct Peers {
    federation: Arc<Federation>,
    table: Mutex<Table>,
    arbiters: Vec<ArbiterHandle>,
    allowance: Allowance,
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
    /// An empty table.
    #[must_use]
    pub fn new(federation: Arc<Federation>, settings: PeerSettings) -> Self {
        assert!(!settings.arbiters.is_empty(), "peers need an arbiter to run on");
        let allowance = Allowance::new(settings.lookups_per_minute);
        Self { federation, table: Mutex::default(), arbiters: settings.arbiters, allowance }
    }

    /// The manifest of a peer that somebody says they are, with its key compared to the pinned one.
    pub(crate) async fn introduce(&self, domain: &Domain) -> Result<Arc<Manifest>, PeerError> {
        self.federation.admit(domain)?;
        let actor = match self.actor_of_claimed(domain) {
            Some(actor) => actor,
            // Those that were met have their place whatever unknown ones do.
            None if self.federation.is_pinned(domain).await? => self.actor(domain),
            None => return Err(PeerError::TooManyUnknownPeers),
        };
        let manifest = actor.send(Introduce).await.unwrap_or(Err(PeerError::Stopping))?;
        self.lock().prove(domain);
        Ok(manifest)
    }

    /// Somebody on another node, as their user document shows them.
    pub(crate) async fn resolve_user(
        &self,
        handle: &Handle,
        why: LookupFor,
    ) -> Result<RemoteUser, PeerError> {
        let (federation, domain) = (&self.federation, handle.domain());
        federation.admit(domain)?;
        let place = match why.user() {
            Some(user) => Some(federation.bulkheads.place_of_user(user).await?),
            None => None,
        };
        self.allowance.count(domain, &why, federation.clock.now())?;
        let (actor, _started) = {
            let mut table = self.lock();
            let started = !table.entries.contains_key(&domain.folded());
            let actor = self.find_or_start(&mut table, domain);
            (actor, started.then(|| Started { peers: self, domain }))
        };
        let ask = ResolveUser { alias: handle.alias().clone(), why, place };
        let found = actor.send(ask).await.unwrap_or(Err(PeerError::Stopping));
        if matches!(found, Ok(_) | Err(PeerError::NoSuchUser)) {
            self.lock().prove(domain);
        }
        found
    }

    /// The actor of a peer that is more than a name.
    pub(crate) fn actor(&self, domain: &Domain) -> Addr<PeerActor> {
        let mut table = self.lock();
        let actor = self.find_or_start(&mut table, domain);
        table.prove(domain);
        actor
    }

    /// The actor of a server that somebody has only named; `None` while there are too many such.
    fn actor_of_claimed(&self, domain: &Domain) -> Option<Addr<PeerActor>> {
        let mut table = self.lock();
        if table.unproven >= MOST_UNPROVEN && !table.entries.contains_key(&domain.folded()) {
            return None;
        }
        Some(self.find_or_start(&mut table, domain))
    }

    fn find_or_start(&self, table: &mut Table, domain: &Domain) -> Addr<PeerActor> {
        let now = self.federation.clock.now();
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
        let (domain, federation) = (domain.clone(), Arc::clone(&self.federation));
        Supervisor::start_in_arbiter(&self.arbiters[place], move |_| PeerActor::new(domain, federation))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many deliveries wait for a place among the requests in flight.
    #[must_use]
    pub fn deliveries_waiting(&self) -> usize {
        self.federation.deliveries_waiting()
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
    pub(crate) async fn look_again(&self, domain: &Domain) -> Result<(), PeerError> {
        self.federation.admit(domain)?;
        let actor = self.actor(domain);
        actor.do_send(ForgetManifest);
        actor.send(Introduce).await.unwrap_or(Err(PeerError::Stopping)).map(drop)
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use vellum_protocol::Alias;
    use vellum_store::StoreError;

    use super::*;
    use crate::alone::Alone;

    fn for_a_user() -> LookupFor {
        LookupFor::User("u".to_owned().into())
    }

    #[actix::test]
    async fn the_actor_of_a_name_that_nobody_has_proven_goes_soon_and_others_stay_a_while() {
        let alone = Alone::start().await;
        let (node, peers) = (&alone.node, &alone.node.peers);
        let invented = Domain::parse("invented.example").unwrap();
        peers.introduce(&invented).await.unwrap_err();
        let known = Handle::new(Alias::parse("bob").unwrap(), Domain::parse("known.example").unwrap());
        peers.resolve_user(&known, for_a_user()).await.unwrap_err();
        assert_eq!(peers.len(), 1, "a look-up that a user started in vain leaves nothing");
        peers.actor(known.domain());
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
            peers.actor_of_claimed(&Domain::parse(&format!("n{n}.example")).unwrap()).unwrap();
        }
        let one_more = Domain::parse("one-more.example").unwrap();
        assert!(matches!(peers.introduce(&one_more).await, Err(PeerError::TooManyUnknownPeers)));
        let met = Domain::parse("met.example").unwrap();
        let (key, now) = (node.identity.public(), node.clock.now());
        let pinned = node.store.write(move |tx| {
            async move { vellum_store::peers::pin(tx, "met.example", &key, None, now).await }.boxed()
        });
        let pinned: Result<_, StoreError> = pinned.await;
        pinned.unwrap();
        assert!(matches!(peers.introduce(&met).await, Err(PeerError::Transport(_))), "it is asked");
        let first = Domain::parse("n0.example").unwrap();
        assert!(matches!(peers.introduce(&first).await, Err(PeerError::Transport(_))));
        let known = Handle::new(Alias::parse("bob").unwrap(), one_more.clone());
        let resolved = peers.resolve_user(&known, for_a_user()).await;
        assert!(matches!(resolved, Err(PeerError::Transport(_))), "what this node itself asks for has room");
        peers.sweep(node.clock.now().plus_millis(31_000));
        assert_eq!(peers.len(), 1, "the one that was met");
        assert!(matches!(peers.introduce(&first).await, Err(PeerError::Transport(_))));
    }
}
