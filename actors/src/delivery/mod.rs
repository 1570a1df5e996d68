//! RevocationDelivery: carries what is in the outbox to its recipients' nodes until it has arrived.
//!
//! ```text
//!            ┌──────── wake: a command has committed, an attempt has ended, the timer
//!            ▼
//!   ┌─ RevocationDelivery ─┐  round: look at one stretch of the peers after another
//!   │  scanning / idle     │    the first look closes windows; each takes leases ── one transaction
//!   │  under way: {row}    │───▶ attempt(row) ──▶ PeerActor ──▶ other node
//!   │                      │◀─── verdict ──▶ settle ── one transaction ──▶ reports
//!   └──────────────────────┘
//! ```
//!
//! The queue is in the database; this actor is only its clockwork, and may be killed at any moment. A
//! row is leased, sent, and its outcome recorded: three steps. Dying between them repeats at most one
//! attempt, which the receiver recognises.
//!
//! A row that is discarded while an attempt is under way has that attempt stopped before the discard is
//! answered ([`Withdraw`]): once the owner has the answer, nothing is sent any more.

mod failing;
mod look;
mod reports;
mod retry;
mod settle;
pub mod window;
mod wrong_times;

use look::{Look, Next, Scan};

pub(crate) use failing::Failing;
pub(crate) use look::LEASE_MILLIS;
pub use reports::{OutcomeBoard, Report, Reports};
pub use retry::RetryPolicy;
pub(crate) use settle::lapsed;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use vellum_store::outbox::{self, Leased};
use vellum_store::{OutboxId, StoreError};

use crate::measure;
use crate::node::Node;
use crate::peer::Verdict;
use crate::trace::{self, TraceParent};
use crate::{BootTime, Error};

/// The longest sleep between two looks at the outbox: what another process has put there is seen by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The shortest: a row that is due but may not go yet (its peer has enough under way) is no busy loop.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);
/// The pause after an attempt has ended, in which others may end too.
const AFTER_ATTEMPT: Duration = Duration::from_millis(2);
/// How much longer than a look the rest after it is: looking in vain is to take no more than a fifth of a core.
const REST: u32 = 4;
/// What finding a row may take of a look: so much of it was not in vain.
const WORTH: Duration = Duration::from_micros(100);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// With so many attempts under way, more of them make nothing faster, and each takes memory.
const CROWD: usize = 2048;
/// From so many on there is less haste.
const QUITE_A_FEW: usize = CROWD / 2;
/// Connections that attempts may need in all, as long as there are not that many peers. They stay open for some seconds.
const CONNECTIONS: usize = 4096;
/// How often the queue is searched for times that a wrong clock has stored.
const CORRECTED_EVERY: Duration = Duration::from_secs(10);
/// The pause after the database has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The clockwork of the outbox. There is one in a process.
pub struct RevocationDelivery {
    node: Arc<Node>,
    scanning: bool,
    /// The last peer looked at in this round through all of them; empty between two rounds.
    after: String,
    /// How many peers this round has found something for, and how many lately did.
    peers: (usize, usize),
    /// Whether there is to be another round.
    again: bool,
    /// Whether this round has found as much as a look may take, so that there is more that is due.
    more: bool,
    stopping: bool,
    /// The next look, and when it will be.
    timer: Option<(SpawnHandle, Instant)>,
    /// No look before this time.
    rested_at: Option<Instant>,
    /// When the queue was last searched for times that a wrong clock has stored.
    corrected_at: Option<Instant>,
    /// By row, and by a number that tells two attempts with one row apart.
    under_way: BTreeMap<(OutboxId, u64), UnderWay>,
    attempts: u64,
    /// Rows withdrawn while a scan may already have leased them.
    withdrawn: HashSet<OutboxId>,
    stopped: Vec<oneshot::Sender<()>>,
}

/// An attempt, and who waits for its end.
struct UnderWay {
    abort: AbortHandle,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Node {
    /// Starts the delivery on an arbiter. Leases that an earlier run of this node left behind are taken
    /// back first: all of them where nobody else can hold any, else those of this name.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn start_delivery(self: &Arc<Self>, arbiter: &ArbiterHandle) -> Result<(), Error> {
        let earlier = if self.store.is_shared() { format!("{}.", self.name) } else { String::new() };
        let freed: Result<u64, StoreError> = self
            .store
            .write(move |tx| async move { outbox::release_leases(tx, &earlier).await }.boxed())
            .await;
        let freed = freed?;
        if freed > 0 {
            tracing::info!(rows = freed, "took up deliveries that an earlier run left under way");
        }
        let node = Arc::clone(self);
        let addr = Supervisor::start_in_arbiter(arbiter, move |_| RevocationDelivery::new(node));
        if self.delivery.set(addr).is_err() {
            tracing::warn!("the delivery was started already");
        }
        self.wake_delivery();
        Ok(())
    }

    /// Stops the delivery: no attempt starts any more, those under way are stopped, leases are handed
    /// back.
    pub async fn stop_delivery(&self) {
        if let Some(delivery) = self.delivery.get()
            && delivery.send(Stop).await.is_err()
        {
            tracing::debug!("the delivery had stopped already");
        }
    }
}

impl RevocationDelivery {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            scanning: false,
            after: String::new(),
            peers: (0, 0),
            again: false,
            more: false,
            stopping: false,
            timer: None,
            rested_at: None,
            corrected_at: None,
            under_way: BTreeMap::new(),
            attempts: 0,
            withdrawn: HashSet::new(),
            stopped: Vec::new(),
        }
    }

    /// Something may be due: looks at the outbox from the beginning, now or after what is being looked at.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        self.again = true;
        self.scan(ctx);
    }

    /// Goes on looking, as soon as it may.
    fn scan(&mut self, ctx: &mut Context<Self>) {
        if self.stopping || self.scanning {
            return;
        }
        let now = Instant::now();
        if let Some(rested_at) = self.rested_at.filter(|at| *at > now) {
            self.sleep(rested_at, ctx);
            return;
        }
        self.scanning = true;
        let due = self.more;
        if self.after.is_empty() {
            (self.again, self.more) = (false, false);
        }
        let lease = format!("{}:{}", self.node.instance, uuid::Uuid::new_v4());
        let peers = self.peers.0.max(self.peers.1);
        let per_peer = places(self.under_way.len(), peers, self.node.settings.in_flight_per_peer);
        let after = self.after.clone();
        let correct = after.is_empty()
            && self.corrected_at.is_none_or(|at| now.saturating_duration_since(at) >= CORRECTED_EVERY);
        if correct {
            self.corrected_at = Some(now);
        }
        let look = Look { lease, after, due, per_peer, again: self.again || self.more, correct };
        let look = look.run(Arc::clone(&self.node)).into_actor(self);
        ctx.spawn(look.map(|scan, actor, ctx| actor.scanned(scan, ctx)));
    }

    fn scanned(&mut self, scan: Result<Scan, Error>, ctx: &mut Context<Self>) {
        self.scanning = false;
        let withdrawn = std::mem::take(&mut self.withdrawn);
        let scan = scan.unwrap_or_else(|error| {
            let (took, until) = (Duration::ZERO, self.node.clock.boot());
            Scan { leased: Vec::new(), took, until, next: Next::Failed(error) }
        });
        self.more |= look::is_full(&scan.leased);
        // Another look of this round is at other peers.
        self.peers.0 +=
            scan.leased.iter().map(|row| row.peer_handle.domain().folded()).collect::<HashSet<_>>().len();
        self.rested_at = Some(Instant::now() + rest(scan.took, scan.leased.len()));
        for leased in scan.leased {
            // What is leased by a delivery that is stopping is handed back with its other leases.
            if !self.stopping && !withdrawn.contains(&leased.id) {
                self.start_attempt(leased, scan.until, ctx);
            }
        }
        let sleep = match scan.next {
            Next::After(domain) => {
                self.after = domain;
                None
            }
            Next::Round(sleep) => {
                self.end_round();
                Some(sleep.unwrap_or(LONGEST_SLEEP)).filter(|_| !self.again && !self.more)
            }
            Next::Failed(error) => {
                tracing::error!(%error, "the outbox could not be read");
                self.end_round();
                self.rested_at = Some(Instant::now() + AFTER_FAILURE);
                Some(AFTER_FAILURE)
            }
        };
        match sleep {
            _ if self.stopping => self.finish_stopping(),
            None => self.scan(ctx),
            Some(sleep) => {
                self.sleep(Instant::now() + sleep.clamp(SHORTEST_SLEEP, LONGEST_SLEEP), ctx);
            }
        }
    }

    fn end_round(&mut self) {
        self.after.clear();
        // Forgotten by halves: a round in which all are busy says nothing.
        self.peers = (0, self.peers.0.max(self.peers.1 / 2));
    }

    /// Goes on at this time, and not before: one look serves all that has called for one until then.
    fn sleep(&mut self, until: Instant, ctx: &mut Context<Self>) {
        if let Some((timer, _)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(until.saturating_duration_since(Instant::now()), |actor, ctx| {
            actor.timer = None;
            actor.scan(ctx);
        });
        self.timer = Some((timer, until));
    }

    fn start_attempt(&mut self, leased: Leased, until: BootTime, ctx: &mut Context<Self>) {
        // A row is leased while an older attempt runs only if it was signed anew since: that one is void.
        self.abort_attempts(&leased.id);
        let (abort, registration) = AbortHandle::new_pair();
        self.attempts += 1;
        let key = (leased.id.clone(), self.attempts);
        self.under_way.insert(key.clone(), UnderWay { abort, waiting: Vec::new() });
        let (row, peer, n) = (&leased.id, &leased.peer_handle, leased.attempts + 1);
        let span = tracing::info_span!(parent: None, "delivery_attempt", %row, %peer, n, trace_id = Empty);
        let trace = trace::tie(&span, leased.trace.as_deref().and_then(TraceParent::parse));
        let work = attempt(Arc::clone(&self.node), leased, trace, registration, until);
        let work = work.instrument(span).into_actor(self);
        ctx.spawn(work.map(move |_, actor, ctx| actor.ended(&key, ctx)));
    }

    /// Stops the attempts with a row; gives a way to wait for the end of each.
    fn abort_attempts(&mut self, id: &OutboxId) -> Vec<oneshot::Receiver<()>> {
        let of_row = (id.clone(), 0)..=(id.clone(), u64::MAX);
        let stop = |attempt: &mut UnderWay| {
            attempt.abort.abort();
            let (done, ended) = oneshot::channel();
            attempt.waiting.push(done);
            ended
        };
        self.under_way.range_mut(of_row).map(|(_, attempt)| stop(attempt)).collect()
    }

    fn ended(&mut self, key: &(OutboxId, u64), ctx: &mut Context<Self>) {
        for waiting in self.under_way.remove(key).into_iter().flat_map(|ended| ended.waiting) {
            // Whoever waited may have gone.
            let _ = waiting.send(());
        }
        if self.stopping {
            self.finish_stopping();
            return;
        }
        self.again = true;
        // Attempts end in swarms: one look serves all that ended in the same moment.
        let soon = Instant::now() + AFTER_ATTEMPT;
        if !self.scanning && self.timer.as_ref().is_none_or(|(_, at)| *at > soon) {
            self.sleep(soon, ctx);
        }
    }

    fn finish_stopping(&mut self) {
        if self.under_way.is_empty() && !self.scanning {
            for waiting in self.stopped.drain(..) {
                // Whoever waited may have gone.
                let _ = waiting.send(());
            }
        }
    }
}

impl Actor for RevocationDelivery {
    type Context = Context<Self>;
}

impl Supervised for RevocationDelivery {}

/// Look at the outbox: something may be due.
pub(crate) struct Wake;

impl Message for Wake {
    type Result = ();
}

impl Handler<Wake> for RevocationDelivery {
    type Result = ();

    fn handle(&mut self, Wake: Wake, ctx: &mut Context<Self>) {
        self.wake(ctx);
    }
}

/// This row has been removed: stop an attempt with it. Answered when none is under way.
pub(crate) struct Withdraw(pub OutboxId);

impl Message for Withdraw {
    type Result = ();
}

impl Handler<Withdraw> for RevocationDelivery {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Withdraw(id): Withdraw, _: &mut Context<Self>) -> Self::Result {
        if self.scanning {
            self.withdrawn.insert(id.clone());
        }
        self.node.reports.publish(&id, Report::Withdrawn);
        let ending = self.abort_attempts(&id);
        Box::pin(async move {
            // An error means that the delivery ended, and every attempt with it.
            futures_util::future::join_all(ending).await;
        })
    }
}

/// Stop: start nothing, stop what is under way, hand leases back.
struct Stop;

impl Message for Stop {
    type Result = ();
}

impl Handler<Stop> for RevocationDelivery {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Stop: Stop, _: &mut Context<Self>) -> Self::Result {
        self.stopping = true;
        for attempt in self.under_way.values() {
            attempt.abort.abort();
        }
        let (done, stopped) = oneshot::channel();
        self.stopped.push(done);
        self.finish_stopping();
        let (store, instance) = (self.node.store.clone(), self.node.instance.clone());
        Box::pin(async move {
            // An error means that the actor ended, and every attempt with it.
            let _ = stopped.await;
            let handed_back: Result<u64, StoreError> = store
                .write(move |tx| async move { outbox::release_leases(tx, &instance).await }.boxed())
                .await;
            if let Err(error) = handed_back {
                tracing::warn!(%error, "leases could not be handed back; the next start takes them over");
            }
        })
    }
}

/// How many rows may be under way to one peer, with so many attempts under way and so many peers that something was found for lately,
/// where `most` is the setting. In a crowd it is only one, so that whoever has nothing under way still has a place, however many
/// others hang; and each is a connection, of which a process cannot have any number.
fn places(under_way: usize, peers: usize, most: u32) -> u32 {
    let connections = u32::try_from(CONNECTIONS / peers.max(1)).unwrap_or(u32::MAX);
    let crowd = match under_way {
        0..QUITE_A_FEW => most,
        QUITE_A_FEW..CROWD => most.div_ceil(2),
        _ => 1,
    };
    crowd.min(connections).max(1)
}

/// How long nobody looks after a look that `took` so long and `found` so many rows.
fn rest(took: Duration, found: usize) -> Duration {
    let worth = WORTH * u32::try_from(found).unwrap_or(u32::MAX);
    (took.saturating_sub(worth) * REST).min(LONGEST_REST)
}

/// One attempt with one row, and the record of its outcome. One that is stopped leaves no record.
async fn attempt(
    node: Arc<Node>,
    leased: Leased,
    trace: TraceParent,
    stop: AbortRegistration,
    until: BootTime,
) {
    let (started, stopwatch) = (node.clock.now(), Instant::now());
    let verdict = if node.is_local(&leased.peer_handle) {
        // The recipient's actor may go on with it, but does nothing for a row that is gone. Waiting for it would
        // have two people wait for each other who each discard what they have for the other.
        Abortable::new(settle::deliver_here(&node, &leased), stop).await.ok()
    } else {
        // Its own limits end it long before its lease does. But a process that was stopped and goes on must not
        // send on a lease that another node may have by now.
        node.peers.deliver(&node, leased.envelope.clone(), leased.maybe_arrived, trace, stop, until).await
    };
    let Some(verdict) = verdict else {
        tracing::debug!("stopped");
        return;
    };
    measure::attempt(&verdict, stopwatch.elapsed());
    match &verdict {
        Verdict::Delivered { .. } => {
            let signed_at = leased.envelope.content.timestamp.instant();
            measure::delivered_after(node.clock.now().since(signed_at));
            tracing::info!("delivered");
        }
        Verdict::Rejected { reason } => tracing::warn!(%reason, "refused for good"),
        Verdict::Later { reason, cause, .. } => {
            let reason = cause.as_ref().unwrap_or(reason);
            tracing::info!(%reason, "to be tried again");
        }
    }
    match settle::settle(&node, leased.clone(), verdict, started).await {
        Ok(Some(report)) => node.reports.publish(&leased.id, report),
        Ok(None) => tracing::debug!("the row had been changed meanwhile; the outcome is void"),
        Err(error) => tracing::error!(%error, "the outcome could not be recorded; the lease will run out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_fewer_places_the_more_is_under_way_or_the_more_peers_there_are_and_never_none() {
        let of_four = [0, 1023, 1024, 2047, 2048, 100_000].map(|under_way| places(under_way, 9, 4));
        assert_eq!(of_four, [4, 4, 2, 2, 1, 1]);
        assert_eq!([0, 1024, 2048].map(|under_way| places(under_way, 9, 1)), [1, 1, 1]);
        assert_eq!([0, 1024, 1025, 2048, 4096, 100_000].map(|peers| places(0, peers, 4)), [4, 4, 3, 2, 1, 1]);
        assert_eq!(places(0, 0, 0), 1);
    }

    #[test]
    fn looking_in_vain_takes_a_fifth_of_the_time_and_finding_pays_for_itself() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(3), 0), ms(12));
        assert_eq!(rest(ms(3), 20), ms(4));
        assert_eq!(rest(ms(3), 30), ms(0));
        assert_eq!(rest(ms(3), usize::MAX), ms(0));
        assert_eq!(rest(ms(60_000), 10), LONGEST_REST);
    }
}
