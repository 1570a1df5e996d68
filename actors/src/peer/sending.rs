//! A peer's send loop: lease a few due rows, send them, record how that ended, and ask for the
//! next.
//!
//! ```text
//!   ┌─▶ one transaction: record what has ended ▸ lease as many rows as there are places
//!   │        │
//!   │        └─▶ an attempt for each row: manifest ▸ signature ▸ POST ▸ outcome
//!   └── an attempt has ended, a row is due, or more was queued ◀──┘
//! ```
//!
//! The queue is in the database, so the loop may end at any moment. Dying between sending and
//! recording repeats one attempt, which the receiver recognises.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::RngExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Instrument;
use tracing::field::Empty;
use vellum_protocol::server_request::{INBOX_PATH, PROTOCOL_VERSION};
use vellum_protocol::{Domain, Envelope, ServerRequest, SigningSecret, UnixMillis, base64};
use vellum_store::outbox::{self, Leased, Outcome, Retry, Wanted};
use vellum_store::{Tx, UserId};

use super::bulkhead::Purpose;
use super::documents::Documents;
use super::outcome;
use super::record::{Ended, record_outcome};
use crate::trace::{self, TraceParent};
use crate::{BootTime, Error, measure};

/// How long a lease holds. An attempt fetches at most two documents (10 s each) and posts (15 s).
pub(crate) const LEASE_MILLIS: i64 = 60_000;
/// What of that an attempt may use.
const LEASE_HOLDS: Duration = Duration::from_secs(50);
/// How long a peer may go on while others wait to be served.
const TURN: Duration = Duration::from_secs(1);
/// The pause after the database has failed, and where other nodes have all places of the peer.
const LATER_MILLIS: i64 = 1_000;

/// Delivers a row to a user of this very node.
pub(crate) type DeliverHere = Arc<dyn Fn(Leased) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// What the delivery passes to a send loop when it starts one.
#[derive(Clone)]
pub(crate) struct Turn {
    /// Whether the peer counts as one that takes more than one row at a time.
    pub proven: bool,
    /// Notified when more was queued for the peer, or is due.
    pub more: Arc<Notify>,
    /// Whether other peers wait to be served.
    pub others_wait: Arc<AtomicBool>,
}

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    /// When something is due for the peer.
    pub next: Option<UnixMillis>,
    /// Whether the peer counts as one that takes more than one row at a time.
    pub proven: bool,
}

/// The send loop of one peer.
pub(super) struct SendLoop {
    pub documents: Arc<Documents>,
    pub deliver_here: DeliverHere,
    /// The user whose row was leased last.
    pub last_user: Option<UserId>,
}

/// What one transaction of the loop is to do.
struct Step {
    ended: Vec<Ended>,
    /// Whether rows are to be leased for a peer that is proven, or not. `None` for no rows.
    lease: Option<bool>,
    last_user: Option<UserId>,
    now: UnixMillis,
}

/// What it has done.
struct Done {
    /// What those hear who wait for the rows in [`Step::ended`].
    outcomes: Vec<Option<Outcome>>,
    leased: Vec<Leased>,
    served: Served,
}

impl SendLoop {
    /// Sends what is due for the peer until nothing is, or the turn is over.
    pub async fn run(&mut self, turn: Turn) -> Served {
        let federation = Arc::clone(&self.documents.federation);
        let turn_ends = Instant::now() + TURN;
        let (mut attempts, mut ended) = (JoinSet::new(), Vec::new());
        loop {
            let may_go_on = Instant::now() < turn_ends || !turn.others_wait.load(Ordering::Relaxed);
            let goes_on = may_go_on && !federation.attempts.is_closed();
            // Read before the lease begins, and from the clock that goes on while the machine is
            // suspended.
            let (until, now) = (federation.clock.boot() + LEASE_HOLDS, federation.clock.now());
            let (lease, last_user) = (goes_on.then_some(turn.proven), self.last_user.clone());
            let step = Step { ended: std::mem::take(&mut ended), lease, last_user, now };
            let Done { leased, served, .. } = self.carry_out(step).await;
            for row in leased {
                self.last_user = Some(row.user_id.clone());
                let (documents, deliver_here) = (Arc::clone(&self.documents), Arc::clone(&self.deliver_here));
                let sending =
                    Sending { documents, deliver_here, leased: row, until, sent: AtomicBool::new(false) };
                attempts.spawn_local(sending.run(now));
            }
            if attempts.is_empty() {
                return served;
            }
            let due = served.next.filter(|_| goes_on).map(|at| at.since(now)).filter(|wait| *wait > 0);
            let wait =
                due.and_then(|wait| u64::try_from(wait).ok()).map_or(LEASE_HOLDS, Duration::from_millis);
            tokio::select! {
                one = attempts.join_next() => ended.extend(one.and_then(Result::ok)),
                () = turn.more.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            // Those that ended together are recorded together.
            while let Some(one) = attempts.try_join_next() {
                ended.extend(one.ok());
            }
        }
    }

    /// Carries out a step and publishes the outcomes. If that fails, each outcome is recorded by
    /// itself: what cannot be recorded must not keep the others from it.
    async fn carry_out(&self, step: Step) -> Done {
        let step = Arc::new(step);
        let error = match self.transaction(&step).await {
            Ok(done) => return done,
            Err(error) => error,
        };
        tracing::error!(peer = %self.documents.domain, %error, "delivery transaction failed");
        for one in &step.ended {
            let alone = Step { ended: vec![one.clone()], lease: None, last_user: None, now: step.now };
            if let Err(error) = self.transaction(&Arc::new(alone)).await {
                tracing::error!(row = %one.leased.id, %error, "outcome not recorded; its lease will run out");
            }
        }
        let next = Some(step.now.plus_millis(LATER_MILLIS));
        let served = Served { next, proven: step.lease.unwrap_or_default() };
        Done { outcomes: Vec::new(), leased: Vec::new(), served }
    }

    async fn transaction(&self, step: &Arc<Step>) -> Result<Done, Error> {
        let (work, documents) = (Arc::clone(step), Arc::clone(&self.documents));
        let federation = &self.documents.federation;
        let done: Result<Done, Error> =
            federation.store.write(move |tx| async move { work.run(tx, &documents).await }.boxed()).await;
        let done = done?;
        for (ended, outcome) in step.ended.iter().zip(&done.outcomes) {
            match outcome {
                Some(outcome) => federation.outcomes.publish(&ended.leased.id, outcome),
                None => {
                    tracing::debug!(row = %ended.leased.id, "outcome void: stopped, or the row has changed");
                }
            }
        }
        Ok(done)
    }
}

impl Step {
    /// Records what has ended, and leases what is due.
    async fn run(&self, tx: &mut Tx, documents: &Documents) -> Result<Done, Error> {
        let (federation, domain, now) = (&documents.federation, &documents.domain.folded(), self.now);
        let mut outcomes = Vec::with_capacity(self.ended.len());
        for ended in &self.ended {
            outcomes.push(record_outcome(tx, federation, ended, now).await?);
        }
        let queue = outbox::queue_of(tx, domain).await?;
        let mut served = Served { next: queue.due_at(), proven: federation.is_proven(&queue, now) };
        let mut leased = Vec::new();
        if self.lease == Some(served.proven) && served.next.is_some_and(|due| due <= now) {
            let places = if served.proven { federation.in_flight_per_peer } else { 1 };
            // The leases of all nodes count.
            let rows = places.saturating_sub(queue.leased);
            let (token, until) = (federation.lease_token(), now.plus_millis(LEASE_MILLIS));
            let last_user = self.last_user.as_ref();
            let wanted = Wanted { domain, rows, last_user, token: &token, now, until };
            leased = outbox::lease_due(tx, &wanted).await?;
            served.next = if rows == 0 {
                Some(now.plus_millis(LATER_MILLIS))
            } else if leased.len() < usize::try_from(rows).unwrap_or(usize::MAX) {
                outbox::next_due_after(tx, domain, now).await?
            } else {
                Some(now)
            };
        }
        Ok(Done { outcomes, leased, served })
    }
}

/// One attempt with one row.
struct Sending {
    documents: Arc<Documents>,
    deliver_here: DeliverHere,
    leased: Leased,
    /// When the lease is over: nothing is sent from then on.
    until: BootTime,
    /// Set once the envelope is on its way.
    sent: AtomicBool,
}

impl Sending {
    async fn run(self, started: UnixMillis) -> Ended {
        let Leased { id, peer_handle, attempts, trace, .. } = &self.leased;
        let span = tracing::info_span!(
            parent: None, "delivery_attempt", row = %id, peer = %peer_handle, n = attempts + 1, trace_id = Empty
        );
        let trace = trace::tie(&span, trace.as_deref().and_then(TraceParent::parse));
        let attempt = Box::pin(self.attempt(trace).instrument(span));
        let outcome = self.documents.federation.attempts.run(id, attempt).await;
        Ended { outcome, started, sent: self.sent.into_inner(), leased: self.leased }
    }

    async fn attempt(&self, trace: TraceParent) -> Outcome {
        let (federation, stopwatch) = (&self.documents.federation, Instant::now());
        let outcome = if federation.is_local(&self.leased.peer_handle) {
            self.sent.store(true, Ordering::Relaxed);
            // The recipient's actor may go on with it, but does nothing for a row that is gone.
            // Waiting for it would have two people wait for each other who each discard what they
            // have for the other.
            (self.deliver_here)(self.leased.clone()).await
        } else {
            self.send_in_time(trace).await
        };
        measure::attempt(&outcome, stopwatch.elapsed());
        match &outcome {
            Outcome::Delivered { .. } => {
                let signed_at = self.leased.envelope.content.timestamp.instant();
                measure::delivered_after(federation.clock.now().since(signed_at));
                tracing::info!("delivered");
            }
            Outcome::Rejected { reason } => tracing::warn!(%reason, "refused for good"),
            Outcome::Retry(Retry { reason, cause, .. }) => {
                tracing::info!(reason = %cause.as_ref().unwrap_or(reason), "to be tried again");
            }
            Outcome::Withdrawn => {}
        }
        outcome
    }

    /// Sends within the lease.
    async fn send_in_time(&self, trace: TraceParent) -> Outcome {
        let clock = &self.documents.federation.clock;
        let overdue = || outcome::overdue(self.sent.load(Ordering::Relaxed));
        let mut send = pin!(self.send(trace));
        // Looked at before every step: a process that was stopped goes on where it was, and must
        // not send then on a lease that another node may have.
        let checked =
            poll_fn(
                |cx| {
                    if clock.boot() < self.until { send.as_mut().poll(cx) } else { Poll::Ready(overdue()) }
                },
            );
        // This timer stands still while the machine is suspended; the look at the clock does not.
        timeout(self.until.since(clock.boot()), checked).await.unwrap_or_else(|_| overdue())
    }

    async fn send(&self, trace: TraceParent) -> Outcome {
        let Self { documents, leased, .. } = self;
        let Documents { domain, federation, .. } = &**documents;
        let clock = &federation.clock;
        if let Err(error) = federation.admit(domain) {
            return outcome::without_manifest(&error, clock.now());
        }
        let envelope = &leased.envelope;
        let _of_sender = match federation.bulkheads.place_of_sender(&envelope.content.from).await {
            Ok(place) => place,
            Err(error) => return outcome::of_failure(&error),
        };
        let manifest = match documents.manifest(Purpose::Delivery).await {
            Ok(manifest) => manifest,
            Err(error) => return outcome::without_manifest(&error, clock.now()),
        };
        let (from, to) = (&federation.domain, &manifest.server_id);
        let (mut headers, body) = signed_request(&federation.identity, from, to, envelope, clock.now());
        headers.push((trace::HEADER, trace.to_string()));
        let _place = match federation.bulkheads.place(Purpose::Delivery, domain).await {
            Ok(place) => place,
            Err(error) => return outcome::of_failure(&error),
        };
        // Once more, directly before it is sent.
        if clock.boot() >= self.until {
            return outcome::overdue(false);
        }
        self.sent.store(true, Ordering::Relaxed);
        match federation.transport.post(domain, INBOX_PATH, headers, body).await {
            Ok(answer) => {
                let now = clock.now();
                if answer.status == 401 {
                    // The peer may have a new manifest; a later attempt reads it again.
                    documents.doubt_manifest(now);
                }
                outcome::of_answer(envelope.content.message_type, &answer, leased.maybe_arrived, now)
            }
            Err(error) => outcome::of_failure(&error),
        }
    }
}

/// The request around an envelope (wire protocol, section 5): its headers and its body. Nonce and
/// timestamp are fresh for every attempt: a receiver remembers the nonce of an attempt that failed
/// later on.
#[must_use]
pub fn signed_request(
    secret: &SigningSecret,
    from: &Domain,
    to: &Domain,
    envelope: &Envelope,
    now: UnixMillis,
) -> (Vec<(&'static str, String)>, String) {
    let body = envelope.to_json();
    let request = ServerRequest {
        method: "POST",
        path: INBOX_PATH,
        body_hash: &body.sha256_base64(),
        nonce: &base64::encode(&rand::rng().random::<[u8; 16]>()),
        timestamp: &now.to_rfc3339(),
        peer_server_id: to.as_str(),
        sender_server_id: from.as_str(),
        protocol_version: PROTOCOL_VERSION,
    };
    (request.headers(secret).to_vec(), body.canonical())
}

#[cfg(test)]
mod tests;
