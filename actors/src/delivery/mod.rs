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
//! The queue is in the database. What is kept here is only when something is due for which peer; it
//! may be lost at any moment and is found again.

mod schedule;
mod wrong_times;

pub use crate::peer::RetryPolicy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use vellum_protocol::{Domain, MessageType, UnixMillis};
use vellum_store::outbox::{self, PeerQueue};
use vellum_store::{InvitationId, StoreError, Tx, invitations};

use crate::Error;
use crate::peer::{DeliverHere, Federation, Peers, Serve, Served, Turn};
use crate::relationships::compensate;
use schedule::Schedule;

/// How often the whole queue is looked at: what another process has put there is found by then.
const FIND_EVERY: Duration = Duration::from_secs(30);
/// The same where other nodes are on the database: what one of them had in hand when it died is
/// found by then.
const FIND_EVERY_SHARED: Duration = Duration::from_secs(10);
/// The shortest time between two looks at what is over: windows end in swarms.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);
/// The pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Decides which peers are served. There is one in a process.
pub struct RevocationDelivery {
    federation: Arc<Federation>,
    peers: Arc<Peers>,
    deliver_here: DeliverHere,
    schedule: Schedule,
    /// Whose queues are to be looked at next: those of these peers, or all.
    asked: BTreeSet<String>,
    asked_all: bool,
    /// Whether the database is being looked at.
    finding: bool,
    /// When the next lease or window ends.
    next_end: Option<UnixMillis>,
    timer: Option<SpawnHandle>,
    /// Who waits for the end of the delivery; `None` while it goes on.
    stopping: Option<Vec<oneshot::Sender<()>>>,
}

/// The queues that were asked for, and when the next lease or window ends.
type Found = (Vec<PeerQueue>, Option<UnixMillis>);

impl RevocationDelivery {
    /// Starts the delivery on an arbiter. Leases that an earlier run of this node left behind are
    /// taken back first: all of them where nobody else can hold any, else those whose token begins
    /// with this node's `name`.
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
            asked: BTreeSet::new(),
            asked_all: true,
            finding: false,
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
        let now = self.federation.clock.now();
        self.find(now, ctx);
        for (domain, turn) in self.schedule.start(now) {
            self.serve(domain, turn, ctx);
        }
        let until = |at: UnixMillis| Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0));
        let due = self.schedule.next().map(until);
        let end = self.next_end.map(|end| until(end).max(SHORTEST_SLEEP));
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let sleep = due.into_iter().chain(end).min();
        self.timer = sleep.map(|sleep| ctx.run_later(sleep, |actor, ctx| actor.go_on(ctx)));
    }

    /// Looks at the queues that were asked for, and closes what is over; one look after the other.
    fn find(&mut self, now: UnixMillis, ctx: &mut Context<Self>) {
        let is_over = self.next_end.is_some_and(|end| end <= now);
        if self.finding || !(self.asked_all || is_over || !self.asked.is_empty()) {
            return;
        }
        self.finding = true;
        let peers = std::mem::take(&mut self.asked);
        let all = std::mem::take(&mut self.asked_all);
        let find = find(Arc::clone(&self.federation), peers, all, now).into_actor(self);
        ctx.spawn(find.map(move |found, actor, ctx| {
            actor.finding = false;
            match found {
                Ok(found) => actor.found(found, now),
                Err(error) => {
                    tracing::error!(%error, "outbox could not be read");
                    actor.next_end = None;
                    ctx.run_later(AFTER_FAILURE, |actor, ctx| actor.find_all(ctx));
                }
            }
            actor.go_on(ctx);
        }));
    }

    fn find_all(&mut self, ctx: &mut Context<Self>) {
        self.asked_all = true;
        self.go_on(ctx);
    }

    fn found(&mut self, (queues, next_end): Found, now: UnixMillis) {
        self.next_end = next_end;
        let due_at = |queue: PeerQueue| queue.due_at().map(|at| (at, queue));
        let mut due: Vec<_> = queues.into_iter().filter_map(due_at).collect();
        // The peer that has waited longest comes first.
        due.sort_by_key(|(at, _)| *at);
        for (at, queue) in due {
            let proven = self.federation.is_proven(&queue, now);
            self.schedule.note(queue.domain, at, proven, now);
        }
    }

    /// Has a peer's actor send what is due.
    fn serve(&mut self, domain: String, turn: Turn, ctx: &mut Context<Self>) {
        let (peers, proven) = (Arc::clone(&self.peers), turn.proven);
        let serve = Serve { turn, deliver_here: Arc::clone(&self.deliver_here) };
        let work = async move {
            let served = match Domain::parse(&domain) {
                Ok(parsed) => peers.actor(&parsed).send(serve).await.ok(),
                Err(_) => None,
            };
            (domain, served)
        };
        ctx.spawn(work.into_actor(self).map(move |(domain, served), actor, ctx| {
            let now = actor.federation.clock.now();
            let later = now.plus_millis(i64::try_from(AFTER_FAILURE.as_millis()).unwrap_or(0));
            let failed = || Served { next: Some(later), proven };
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
        let is_shared = self.federation.store.is_shared();
        ctx.run_interval(if is_shared { FIND_EVERY_SHARED } else { FIND_EVERY }, Self::find_all);
        self.find_all(ctx);
    }
}

impl Supervised for RevocationDelivery {}

/// Something may be due for these peers (domains in lower case); `None` for any.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake(pub Option<BTreeSet<String>>);

impl Handler<Wake> for RevocationDelivery {
    type Result = ();

    fn handle(&mut self, Wake(peers): Wake, ctx: &mut Context<Self>) {
        self.asked_all |= peers.is_none();
        self.asked.extend(peers.unwrap_or_default());
        self.go_on(ctx);
    }
}

/// Stop: start nothing, stop what is under way, hand leases back.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

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

/// Looks at the queues of these peers, or of all, and closes what is over first.
async fn find(
    federation: Arc<Federation>,
    mut peers: BTreeSet<String>,
    all: bool,
    now: UnixMillis,
) -> Result<Found, Error> {
    let store = &federation.store;
    if all {
        wrong_times::correct(&federation).await?;
    }
    let mut next_end = outbox::next_end(&mut *store.read().await?).await?;
    if next_end.is_some_and(|end| end <= now) {
        let (lapsed, freed) =
            store.write(move |tx| async move { close_what_is_over(tx, now).await }.boxed()).await?;
        // Said only now: a transaction may be run more than once.
        if lapsed > 0 {
            tracing::info!(messages = lapsed, "given up: their recipients' nodes did not take them in time");
        }
        peers.extend(freed);
        next_end = outbox::next_end(&mut *store.read().await?).await?;
    }
    let queues: Result<_, Error> = if all {
        store.read_blocking(|conn| async move { Ok(outbox::queues(conn).await?) }.boxed()).await
    } else {
        let mut conn = store.read().await?;
        let mut queues = Vec::with_capacity(peers.len());
        for domain in peers {
            queues.push(outbox::queue_of(&mut conn, &domain).await?);
        }
        Ok(queues)
    };
    Ok((queues?, next_end))
}

/// Puts rows whose lease has ended back into the queue, and gives up what its recipients' nodes did
/// not take in time. Returns how many of those there were, and the peers whose rows can be leased
/// again.
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
