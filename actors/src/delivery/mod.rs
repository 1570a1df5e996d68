//! RevocationDelivery: decides which peers are served, and when.
//!
//! ```text
//!   a command has queued rows: Wake(peers) ─┐      ┌─▶ PeerActor ── its send loop ──▶ other node
//!   every 30 s, after a decision: Wake(all) ┼▶ find ┼─▶ PeerActor
//!   a window or a lease ends ───────────────┘      └─▶ …
//!                                 ▲                        │
//!                                 └── Served: when something is due there next
//! ```
//!
//! The queue is in the database. What is kept here is only when something is due for which peer; it may be lost at any
//! moment and is found again.

mod schedule;
mod wrong_times;

pub use crate::peer::RetryPolicy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use vellum_protocol::{Domain, MessageType, UnixMillis};
use vellum_store::outbox::{self, PeerQueue};
use vellum_store::{InvitationId, StoreError, Tx, invitations};

use crate::Error;
use crate::peer::{DeliverHere, Federation, Peers, Serve, Served, Turn, compensate};
use schedule::Schedule;

/// How often the whole queue is looked at: what another process has put there is found by then.
const FIND_EVERY: Duration = Duration::from_secs(30);
/// The same where other nodes are on the database: what one of them had in hand when it died is found by then.
const FIND_EVERY_SHARED: Duration = Duration::from_secs(10);
/// The shortest time between two looks at what is over: windows end in swarms.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);
/// How often the queue is searched for times that a wrong clock has stored.
const CORRECT_EVERY: Duration = Duration::from_secs(10);
/// The pause after a failure.
const AFTER_FAILURE_MILLIS: i64 = 1_000;

/// Decides which peers are served. There is one in a process.
pub struct RevocationDelivery {
    federation: Arc<Federation>,
    peers: Arc<Peers>,
    deliver_here: DeliverHere,
    schedule: Schedule,
    /// What is to be looked at next.
    asked: Option<Asked>,
    /// Whether the database is being looked at.
    finding: bool,
    found_all_at: Option<Instant>,
    corrected_at: Option<Instant>,
    /// When the next lease or window ends.
    next_end: Option<UnixMillis>,
    timer: Option<SpawnHandle>,
    /// Who waits for the end of the delivery; none while it goes on.
    stopping: Option<Vec<oneshot::Sender<()>>>,
}

/// Whose queues are to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    All,
    Peers(BTreeSet<String>),
}

impl Asked {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Peers(mut peers), Self::Peers(more)) => {
                peers.extend(more);
                Self::Peers(peers)
            }
            _ => Self::All,
        }
    }
}

/// What was found in the database.
struct Found {
    queues: Vec<PeerQueue>,
    next_end: Option<UnixMillis>,
}

impl RevocationDelivery {
    /// Starts the delivery on an arbiter. Leases that an earlier run of this node left behind are taken back first: all
    /// of them where nobody else can hold any, else those whose token begins with this node's `name`.
    ///
    /// # Errors
    /// Only what the database says.
    pub(crate) async fn start(
        arbiter: &ArbiterHandle,
        name: &str,
        federation: Arc<Federation>,
        peers: Arc<Peers>,
        deliver_here: DeliverHere,
    ) -> Result<Addr<Self>, Error> {
        let earlier = if federation.store.is_shared() { format!("{name}.") } else { String::new() };
        let freed = release_leases(&federation, earlier).await?;
        if freed > 0 {
            tracing::info!(rows = freed, "took up deliveries that an earlier run left under way");
        }
        Ok(Supervisor::start_in_arbiter(arbiter, move |_| Self {
            schedule: Schedule::new(federation.in_flight_per_peer),
            federation,
            peers,
            deliver_here,
            asked: None,
            finding: false,
            found_all_at: None,
            corrected_at: None,
            next_end: None,
            timer: None,
            stopping: None,
        }))
    }

    /// Does what is to be done now, and sets the timer for the next time.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if self.stopping.is_some() {
            return self.finish_stopping();
        }
        let (now, instant) = (self.federation.clock.now(), Instant::now());
        if self.found_all_at.is_none_or(|at| instant >= at + self.find_every()) {
            self.ask(Asked::All);
        } else if self.next_end.is_some_and(|end| end <= now) {
            self.ask(Asked::Peers(BTreeSet::new()));
        }
        self.find(ctx);
        for (domain, turn) in self.schedule.start(now) {
            self.serve(domain, turn, ctx);
        }
        let until = |at: UnixMillis| Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0));
        let due = self.schedule.next().map(until);
        let end = self.next_end.map(|end| until(end).max(SHORTEST_SLEEP));
        let sleep = due.into_iter().chain(end).min().unwrap_or(FIND_EVERY).min(self.find_every());
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(sleep.max(Duration::from_millis(1)), |actor, ctx| {
            actor.timer = None;
            actor.go_on(ctx);
        }));
    }

    fn find_every(&self) -> Duration {
        if self.federation.store.is_shared() { FIND_EVERY_SHARED } else { FIND_EVERY }
    }

    fn ask(&mut self, asked: Asked) {
        self.asked = Some(match self.asked.take() {
            Some(before) => before.with(asked),
            None => asked,
        });
    }

    /// Looks at the queues that were asked for, one look after the other.
    fn find(&mut self, ctx: &mut Context<Self>) {
        if self.finding {
            return;
        }
        let Some(asked) = self.asked.take() else { return };
        self.finding = true;
        let instant = Instant::now();
        let mut correct = false;
        if asked == Asked::All {
            self.found_all_at = Some(instant);
            correct = self.corrected_at.is_none_or(|at| instant >= at + CORRECT_EVERY);
        }
        if correct {
            self.corrected_at = Some(instant);
        }
        let find = find(Arc::clone(&self.federation), asked, correct).into_actor(self);
        ctx.spawn(find.map(|found, actor, ctx| actor.found(found, ctx)));
    }

    fn found(&mut self, found: Result<Found, Error>, ctx: &mut Context<Self>) {
        self.finding = false;
        let now = self.federation.clock.now();
        match found {
            Ok(Found { queues, next_end }) => {
                self.next_end = next_end;
                let mut due: Vec<_> =
                    queues.into_iter().filter_map(|queue| queue.due_at().map(|at| (at, queue))).collect();
                // Whoever has waited longest comes first.
                due.sort_by_key(|(at, _)| *at);
                for (at, queue) in due {
                    let proven = self.federation.is_proven(&queue, now);
                    self.schedule.note(queue.domain, at, proven, now);
                }
            }
            Err(error) => {
                tracing::error!(%error, "outbox could not be read");
                self.next_end = Some(now.plus_millis(AFTER_FAILURE_MILLIS));
                self.found_all_at = None;
                let after = Duration::from_millis(AFTER_FAILURE_MILLIS.unsigned_abs());
                ctx.run_later(after, |actor, ctx| actor.go_on(ctx));
                return;
            }
        }
        self.go_on(ctx);
    }

    /// Has a peer's actor send what is due.
    fn serve(&mut self, domain: String, turn: Turn, ctx: &mut Context<Self>) {
        let (peers, proven) = (Arc::clone(&self.peers), turn.proven);
        let serve = Serve { turn, deliver_here: Arc::clone(&self.deliver_here) };
        let work = async move {
            let served = match Domain::parse(&domain) {
                Ok(parsed) => peers.serve(&parsed, serve).await.ok(),
                Err(_) => None,
            };
            (domain, served)
        };
        ctx.spawn(work.into_actor(self).map(move |(domain, served), actor, ctx| {
            let now = actor.federation.clock.now();
            let failed = || Served { next: Some(now.plus_millis(AFTER_FAILURE_MILLIS)), proven };
            actor.schedule.end(domain, served.unwrap_or_else(failed), now);
            actor.go_on(ctx);
        }));
    }

    fn finish_stopping(&mut self) {
        if !self.schedule.is_active() {
            for waiting in self.stopping.iter_mut().flat_map(|waiting| waiting.drain(..)) {
                // Whoever waited may have gone.
                let _ = waiting.send(());
            }
        }
    }
}

impl Actor for RevocationDelivery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.go_on(ctx);
    }
}

impl Supervised for RevocationDelivery {}

/// Something may be due for these peers (domains in lower case); `None` for any.
pub(crate) struct Wake(pub Option<BTreeSet<String>>);

impl Message for Wake {
    type Result = ();
}

impl Handler<Wake> for RevocationDelivery {
    type Result = ();

    fn handle(&mut self, Wake(peers): Wake, ctx: &mut Context<Self>) {
        self.ask(peers.map_or(Asked::All, Asked::Peers));
        self.go_on(ctx);
    }
}

/// Stop: start nothing, stop what is under way, hand leases back.
pub(crate) struct Stop;

impl Message for Stop {
    type Result = ();
}

impl Handler<Stop> for RevocationDelivery {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Stop: Stop, _: &mut Context<Self>) -> Self::Result {
        let (done, stopped) = oneshot::channel();
        self.stopping.get_or_insert_default().push(done);
        self.federation.attempts.close();
        self.finish_stopping();
        let federation = Arc::clone(&self.federation);
        Box::pin(async move {
            // An error means that the actor ended, and every attempt with it.
            let _ = stopped.await;
            let prefix = federation.instance.clone();
            if let Err(error) = release_leases(&federation, prefix).await {
                tracing::warn!(%error, "leases not handed back; the next start takes them over");
            }
        })
    }
}

async fn release_leases(federation: &Federation, prefix: String) -> Result<u64, Error> {
    let released: Result<u64, StoreError> = federation
        .store
        .write(move |tx| async move { outbox::release_leases(tx, &prefix).await }.boxed())
        .await;
    Ok(released?)
}

/// Looks at the queues that were asked for, and closes what is over first.
async fn find(federation: Arc<Federation>, asked: Asked, correct: bool) -> Result<Found, Error> {
    if correct {
        wrong_times::correct(&federation).await?;
    }
    let now = federation.clock.now();
    let store = &federation.store;
    let mut next_end = outbox::next_end(&mut *store.read().await?).await?;
    let mut asked = asked;
    if next_end.is_some_and(|end| end <= now) {
        let (lapsed, peers) = store.write(move |tx| close_what_is_over(tx, now).boxed()).await?;
        // Said only now: a transaction may be run more than once.
        if lapsed > 0 {
            tracing::info!(messages = lapsed, "given up: their recipients' nodes did not take them in time");
        }
        asked = asked.with(Asked::Peers(peers.into_iter().collect()));
        next_end = outbox::next_end(&mut *store.read().await?).await?;
    }
    let queues: Result<_, Error> = match asked {
        Asked::All => {
            store.read_blocking(|conn| async move { Ok(outbox::queues(conn).await?) }.boxed()).await
        }
        Asked::Peers(peers) if peers.is_empty() => Ok(Vec::new()),
        Asked::Peers(peers) => {
            Ok(outbox::queues_of(&mut *store.read().await?, &Vec::from_iter(peers)).await?)
        }
    };
    Ok(Found { queues: queues?, next_end })
}

/// Puts rows whose lease has ended back into the queue, and gives up what its recipients' nodes did not take in time.
/// Returns how many of those there were, and the peers whose rows can be leased again.
async fn close_what_is_over(tx: &mut Tx, now: UnixMillis) -> Result<(usize, Vec<String>), Error> {
    let peers = outbox::expire_leases(tx, now).await?;
    let lapsed = outbox::expire(tx, now).await?;
    for message in &lapsed {
        if message.message_type == MessageType::FriendInvite {
            let reason = message.last_error.as_deref().unwrap_or("it was not tried in time");
            invitations::note_failure(tx, &InvitationId::from(message.subject.clone()), reason).await?;
        }
        compensate(tx, message, now).await?;
    }
    Ok((lapsed.len(), peers))
}
