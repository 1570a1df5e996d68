//! RevocationDelivery: carries what is in the outbox to its recipients' nodes until it has arrived.
//!
//! ```text
//!            ┌──────── wake: a command has committed, an attempt has ended, the timer
//!            ▼
//!   ┌─ RevocationDelivery ─┐  scan: close windows, take leases ── one transaction
//!   │  scanning / idle     │───▶ attempt(row) ──▶ PeerActor ──▶ other node
//!   │  under way: {row}    │◀─── verdict ──▶ settle ── one transaction ──▶ reports
//!   └──────────────────────┘
//! ```
//!
//! The queue is in the database; this actor is only its clockwork, and may be killed at any moment. A
//! row is leased, sent, and its outcome recorded: three steps. Dying between them repeats at most one
//! attempt, which the receiver recognises.
//!
//! A row that is discarded while an attempt is under way has that attempt stopped before the discard is
//! answered ([`Withdraw`]): once the owner has the answer, nothing is sent any more.

mod reports;
mod retry;
mod settle;
pub mod window;

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
use vellum_protocol::UnixMillis;
use vellum_store::outbox::{self, Leased, Lot};
use vellum_store::{OutboxId, StoreError};

use crate::Error;
use crate::measure;
use crate::node::Node;
use crate::peer::Verdict;
use crate::trace::{self, TraceParent};

/// Rows leased in one transaction.
const BATCH: u32 = 256;
/// So many rows pay for the look that has found them: there is no rest after it. Peers take only some at a time each, so a look
/// at a long queue for few peers is never full.
const WORTH_IT: usize = 64;
/// How long a lease holds. An attempt fetches at most two documents (10 s each) and posts (15 s).
const LEASE_MILLIS: i64 = 60_000;
/// What of that an attempt may use.
const LEASE_HOLDS: Duration = Duration::from_secs(50);
/// The longest sleep between two looks at the outbox: what another process has put there is seen by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The shortest: a row that is due but may not go yet (its peer has enough under way) is no busy loop.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);
/// The pause after an attempt has ended, in which others may end too.
const AFTER_ATTEMPT: Duration = Duration::from_millis(10);
/// How much longer than a look the rest after it is: with a long queue a look takes tens of milliseconds, and
/// looking is to take no more than a fifth of a core.
const REST: u32 = 4;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// The pause after the database has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The clockwork of the outbox. There is one in a process.
pub struct RevocationDelivery {
    node: Arc<Node>,
    scanning: bool,
    scan_again: bool,
    stopping: bool,
    timer: Option<SpawnHandle>,
    /// No look before this time.
    rested_at: Option<Instant>,
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

/// What a look at the outbox found.
struct Scan {
    leased: Vec<Leased>,
    /// Whether that is as much as one look may take: there is more that is due.
    full: bool,
    /// Until when what is leased may be sent.
    until: Instant,
    /// Until the next thing is due; `None` when nothing is.
    sleep: Option<Duration>,
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
            scan_again: false,
            stopping: false,
            timer: None,
            rested_at: None,
            under_way: BTreeMap::new(),
            attempts: 0,
            withdrawn: HashSet::new(),
            stopped: Vec::new(),
        }
    }

    /// Looks at the outbox, now or as soon as it may; with `due` something is known to be due.
    fn scan(&mut self, due: bool, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        if self.scanning {
            self.scan_again = true;
            return;
        }
        let rest = self.rested_at.map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            self.sleep(rest, ctx);
            return;
        }
        self.scanning = true;
        self.scan_again = false;
        let lease = format!("{}:{}", self.node.instance, uuid::Uuid::new_v4());
        let begun = Instant::now();
        let look = look(Arc::clone(&self.node), lease, due).into_actor(self);
        ctx.spawn(look.map(move |scan, actor, ctx| {
            actor.rested_at = Some(Instant::now() + (begun.elapsed() * REST).min(LONGEST_REST));
            actor.scanned(scan, ctx);
        }));
    }

    fn scanned(&mut self, scan: Result<Scan, Error>, ctx: &mut Context<Self>) {
        self.scanning = false;
        let withdrawn = std::mem::take(&mut self.withdrawn);
        let (full, sleep) = match scan {
            Ok(scan) => {
                let found = scan.leased.len();
                for leased in scan.leased {
                    // What is leased by a delivery that is stopping is handed back with its other leases.
                    if !self.stopping && !withdrawn.contains(&leased.id) {
                        self.start_attempt(leased, scan.until, ctx);
                    }
                }
                if found >= WORTH_IT {
                    self.rested_at = None;
                }
                (scan.full, scan.sleep)
            }
            Err(error) => {
                tracing::error!(%error, "the outbox could not be read");
                (false, Some(AFTER_FAILURE))
            }
        };
        if self.stopping {
            self.finish_stopping();
        } else if full || self.scan_again {
            self.scan(full, ctx);
        } else {
            self.sleep(sleep.unwrap_or(LONGEST_SLEEP).clamp(SHORTEST_SLEEP, LONGEST_SLEEP), ctx);
        }
    }

    fn sleep(&mut self, time: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(time, |actor, ctx| {
            actor.timer = None;
            actor.scan(false, ctx);
        }));
    }

    fn start_attempt(&mut self, leased: Leased, until: Instant, ctx: &mut Context<Self>) {
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
        } else if !self.scanning {
            // Attempts end in swarms: one look serves all that ended in the same moment.
            self.sleep(AFTER_ATTEMPT, ctx);
        } else {
            self.scan_again = true;
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
        self.scan(false, ctx);
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

/// One look at the outbox. Reads first, unless it is known that something is due: an idle node writes nothing.
async fn look(node: Arc<Node>, lease: String, due: bool) -> Result<Scan, Error> {
    // Measured before the lease begins, and by a clock that goes on while a process is stopped.
    let holds_until = Instant::now() + LEASE_HOLDS;
    let now = node.clock.now();
    if !due {
        let sleep = until_next(&node, now).await?;
        if sleep.is_none_or(|sleep| !sleep.is_zero()) {
            return Ok(Scan { leased: Vec::new(), full: false, until: holds_until, sleep });
        }
    }
    let (per_peer, lot) = (node.settings.in_flight_per_peer, Lot::new(rand::random()));
    let (leased, lapsed) = node
        .store
        .write(move |tx| {
            async move {
                outbox::expire_leases(tx, now).await?;
                let lapsed = outbox::expire(tx, now).await?;
                for message in &lapsed {
                    settle::lapsed(tx, message, now).await?;
                }
                let until = now.plus_millis(LEASE_MILLIS);
                let leased = outbox::lease_due(tx, &lease, now, until, BATCH, per_peer, lot).await?;
                Ok::<_, Error>((leased, lapsed.len()))
            }
            .boxed()
        })
        .await?;
    if lapsed > 0 {
        tracing::info!(
            messages = lapsed,
            "messages were given up: their recipients' nodes did not take them in time"
        );
    }
    let full = leased.len() >= BATCH as usize;
    // After a full look there is another, whatever is due.
    let sleep = if full { None } else { until_next(&node, now).await? };
    Ok(Scan { leased, full, until: holds_until, sleep })
}

/// How long it is until something is due; nothing may ever be.
async fn until_next(node: &Node, now: UnixMillis) -> Result<Option<Duration>, Error> {
    let next = outbox::next_due(&mut *node.store.read().await?).await?;
    Ok(next.map(|next| Duration::from_millis(u64::try_from(next.since(now)).unwrap_or(0))))
}

/// One attempt with one row, and the record of its outcome. One that is stopped leaves no record.
async fn attempt(
    node: Arc<Node>,
    leased: Leased,
    trace: TraceParent,
    stop: AbortRegistration,
    until: Instant,
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
        Verdict::Later { reason, .. } => tracing::info!(%reason, "to be tried again"),
    }
    match settle::settle(&node, leased.clone(), verdict, started).await {
        Ok(Some(report)) => node.reports.publish(&leased.id, report),
        Ok(None) => tracing::debug!("the row had been changed meanwhile; the outcome is void"),
        Err(error) => tracing::error!(%error, "the outcome could not be recorded; the lease will run out"),
    }
}
