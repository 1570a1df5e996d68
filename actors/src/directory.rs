//! Finds or starts the actor of a user, and lets idle ones go.
//!
//! The directory is a table behind locks and not an actor: a message to it would add a hop between
//! threads to every request and make all users wait in one mailbox. What it guards is this:
//!
//! - A user has at most one actor here. Actors are spread over a fixed set of arbiters by a hash of the id.
//! - The only address of an actor is in this table. Messages are counted and put into its mailbox under
//!   the table's lock, so the bound is exact, and an entry can be removed without losing a message: once
//!   it is gone nobody can send, and the actor ends when its mailbox is empty.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use vellum_protocol::UnixMillis;
use vellum_store::UserId;

use crate::clock::CLOCKS_DIFFER_MILLIS;
use crate::user::{Ask, NodeContext, Pending, UserActor, UserCommand};
use crate::{Asker, Error};

/// Messages that may wait for one user; one more is refused.
const MAILBOX: usize = 64;
/// How long an actor without messages is kept.
const IDLE: Duration = Duration::from_secs(60);
/// The table is cut into this many, each with its own lock.
const SHARDS: usize = 16;

/// The table of the users' actors.
pub struct Directory {
    context: Arc<NodeContext>,
    shards: [Mutex<HashMap<UserId, Entry>>; SHARDS],
    hasher: RandomState,
    arbiters: Vec<ArbiterHandle>,
}

struct Entry {
    addr: Addr<UserActor>,
    pending: Pending,
    last_used: UnixMillis,
}

impl Directory {
    /// A directory that starts its actors on `arbiters`, of which there must be at least one.
    #[must_use]
    pub fn new(context: Arc<NodeContext>, arbiters: Vec<ArbiterHandle>) -> Self {
        assert!(!arbiters.is_empty(), "a directory needs an arbiter to start actors on");
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { context, shards, hasher: RandomState::new(), arbiters }
    }

    /// Has the user's actor carry `command` out and waits for its answer.
    ///
    /// # Errors
    /// What the command refuses with; [`Error::Busy`] when too many messages wait for this user.
    pub async fn ask<C: UserCommand>(&self, asker: impl Into<Asker>, command: C) -> Result<C::Output, Error> {
        let Asker { user, origin } = asker.into();
        let (reply, answer) = oneshot::channel();
        {
            let mut shard = self.shard(&user);
            let entry = shard.entry(user.clone()).or_insert_with(|| self.start(&user));
            if !entry.addr.connected() {
                // Its arbiter's thread has let it go; the messages it had were answered `Stopping`.
                *entry = self.start(&user);
            }
            entry.last_used = self.context.clock.now();
            let Some(ticket) = entry.pending.enter(MAILBOX) else {
                return Err(Error::Busy { retry_after: Duration::from_secs(1) });
            };
            // The ticket is the bound, counted under this lock. The mailbox's own would count
            // wrongly: until the actor's thread has started it, it has actix's default size, and a
            // first burst would be refused.
            entry.addr.do_send(Ask { command, origin, reply, ticket });
        }
        // Without an answer the actor ended in the middle, which only a stopping node makes it do.
        answer.await.unwrap_or(Err(Error::Stopping))
    }

    /// Lets actors go that have had nothing to do for a while. Returns how many.
    pub fn sweep(&self, now: UnixMillis) -> usize {
        let idle = i64::try_from(IDLE.as_millis()).unwrap_or(i64::MAX);
        let mut gone = 0;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, entry| {
                // A use in the future was dated by a clock that was ahead.
                let is_recent = (-CLOCKS_DIFFER_MILLIS..idle).contains(&now.since(entry.last_used));
                !entry.pending.is_empty() || is_recent
            });
            gone += before - shard.len();
        }
        gone
    }

    /// How many actors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// How many commands wait or are under way, of all users together.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let of_shard = |shard: &Mutex<HashMap<UserId, Entry>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().map(|entry| entry.pending.count()).sum::<usize>()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// Whether there is no actor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn start(&self, user: &UserId) -> Entry {
        let arbiter = &self.arbiters[self.place(user, self.arbiters.len())];
        let (user, context) = (user.clone(), Arc::clone(&self.context));
        let addr = Supervisor::start_in_arbiter(arbiter, move |_| UserActor::new(user, context));
        Entry { addr, pending: Pending::default(), last_used: self.context.clock.now() }
    }

    fn shard(&self, user: &UserId) -> MutexGuard<'_, HashMap<UserId, Entry>> {
        // A poisoned lock only means that a thread panicked while it looked; the table itself is whole.
        self.shards[self.place(user, SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, user: &UserId, places: usize) -> usize {
        let hash = self.hasher.hash_one(user);
        usize::try_from(hash % places as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;
    use crate::alone::Alone;
    use crate::user::Scope;

    /// Waits until it is let go, and counts how many do so at once.
    struct Hold {
        inside: Arc<AtomicUsize>,
        go: Arc<Notify>,
    }

    impl UserCommand for Hold {
        type Output = usize;
        const NAME: &'static str = "hold";

        async fn run(self, _: Scope) -> Result<usize, Error> {
            let at_once = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
            self.go.notified().await;
            self.inside.fetch_sub(1, Ordering::SeqCst);
            Ok(at_once)
        }
    }

    /// Gives others every chance to come between, and tells how many were inside with it.
    struct Yield(Arc<AtomicUsize>);

    impl UserCommand for Yield {
        type Output = usize;
        const NAME: &'static str = "yield";

        async fn run(self, _: Scope) -> Result<usize, Error> {
            let at_once = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.0.fetch_sub(1, Ordering::SeqCst);
            Ok(at_once)
        }
    }

    struct Panic;

    impl UserCommand for Panic {
        type Output = ();
        const NAME: &'static str = "panic";

        async fn run(self, _: Scope) -> Result<(), Error> {
            panic!("as a broken command would");
        }
    }

    #[actix::test]
    async fn commands_of_one_user_run_strictly_one_at_a_time() {
        let alone = Alone::start().await;
        let user = alone.user("ann").await;
        let inside = Arc::new(AtomicUsize::new(0));
        let all = (0..64).map(|_| alone.node.ask(&user, Yield(Arc::clone(&inside))));
        for at_once in join_all(all).await {
            assert_eq!(at_once.unwrap(), 1);
        }
    }

    #[actix::test]
    async fn a_user_whose_commands_hang_delays_nobody_else() {
        let alone = Alone::start().await;
        let (inside, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        // More hanging users than there are arbiters, so that others share a thread with one of them.
        let mut hanging = Vec::new();
        for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
            let (user, node) = (alone.user(name).await, Arc::clone(&alone.node));
            let hold = Hold { inside: Arc::clone(&inside), go: Arc::clone(&go) };
            hanging.push(actix::spawn(async move { node.ask(&user, hold).await }));
        }
        while inside.load(Ordering::SeqCst) < 6 {
            tokio::task::yield_now().await;
        }
        let other = alone.user("ben").await;
        let done = join_all((0..32).map(|_| alone.node.ask(&other, Yield(Arc::default())))).await;
        assert_eq!(done.into_iter().filter(Result::is_ok).count(), 32);
        assert_eq!(inside.load(Ordering::SeqCst), 6, "all that while they hang");
        for held in hanging {
            go.notify_one();
            go.notify_waiters();
            held.await.unwrap().unwrap();
        }
    }

    #[actix::test]
    async fn one_message_too_many_is_refused_and_none_is_dropped() {
        let alone = Alone::start().await;
        let user = alone.user("ann").await;
        let (inside, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let node = Arc::clone(&alone.node);
        let hold = Hold { inside: Arc::clone(&inside), go: Arc::clone(&go) };
        let asker = user.clone();
        let held = actix::spawn(async move { node.ask(&asker, hold).await });
        while inside.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let node = Arc::clone(&alone.node);
        let waiting = (0..MAILBOX + 10).map(|_| {
            let (node, user) = (Arc::clone(&node), user.clone());
            actix::spawn(async move { node.ask(&user, Yield(Arc::default())).await })
        });
        let waiting: Vec<_> = waiting.collect();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        held.await.unwrap().unwrap();
        let answers = join_all(waiting).await;
        let refused = answers.iter().filter(|answer| matches!(answer, Ok(Err(Error::Busy { .. })))).count();
        let done = answers.iter().filter(|answer| matches!(answer, Ok(Ok(1)))).count();
        assert_eq!((done, refused), (MAILBOX - 1, 11));
    }

    #[actix::test]
    async fn an_actor_that_panicked_answers_and_goes_on() {
        let alone = Alone::start().await;
        let user = alone.user("ann").await;
        assert!(matches!(alone.node.ask(&user, Panic).await, Err(Error::Internal)));
        for _ in 0..3 {
            assert_eq!(alone.node.ask(&user, Yield(Arc::default())).await.unwrap(), 1);
        }
    }

    #[actix::test]
    async fn idle_actors_go_and_busy_ones_stay() {
        let alone = Alone::start().await;
        let (idle, busy) = (alone.user("ann").await, alone.user("ben").await);
        let (inside, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        alone.node.ask(&idle, Yield(Arc::default())).await.unwrap();
        let hold = Hold { inside: Arc::clone(&inside), go: Arc::clone(&go) };
        let node = Arc::clone(&alone.node);
        let asker = busy.clone();
        let held = actix::spawn(async move { node.ask(&asker, hold).await });
        while inside.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(alone.node.directory.sweep(alone.node.clock.now()), 0, "not idle for long enough");
        alone.node.clock.advance(61_000);
        assert_eq!(alone.node.directory.sweep(alone.node.clock.now()), 1);
        assert_eq!(alone.node.directory.len(), 1);
        go.notify_one();
        held.await.unwrap().unwrap();
        assert_eq!(
            alone.node.ask(&idle, Yield(Arc::default())).await.unwrap(),
            1,
            "started again when needed"
        );
    }
}
