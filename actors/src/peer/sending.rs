//! A peer's send loop: lease a few due rows, send them, record how that ended, and ask for the next.
//!
//! ```text
//!   ┌─▶ one transaction: record what has ended ▸ lease as many rows as there are places
//!   │        │
//!   │        └─▶ an attempt for each row: manifest ▸ signature ▸ POST ▸ outcome
//!   └── an attempt has ended, a row is due, or more was queued ◀──┘
//! ```
//!
//! The queue is in the database, so the loop may end at any moment. Dying between sending and recording repeats one
//! attempt, which the receiver recognises.

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
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, INBOX_PATH,
    PROTOCOL_VERSION,
};
use vellum_protocol::{Domain, Envelope, ServerRequest, SigningSecret, UnixMillis, base64};
use vellum_store::outbox::{self, Leased, Outcome, Retry, Unread, Unreadable, Wanted};
use vellum_store::{Tx, UserId};

use super::bulkhead::Purpose;
use super::documents::Documents;
use super::record::{Ended, record_outcome};
use super::{Federation, outcome};
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

/// What a loop is told by whoever starts it.
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
    pub domain: Domain,
    pub federation: Arc<Federation>,
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
    token: String,
    last_user: Option<UserId>,
    now: UnixMillis,
}

/// What it has done.
struct Done {
    /// What is to be told to those who wait for the rows in [`Step::ended`].
    outcomes: Vec<Option<Outcome>>,
    leased: Vec<Unread>,
    served: Served,
}

impl SendLoop {
    /// Sends what is due for the peer until nothing is, or the turn is over.
    pub async fn run(&mut self, turn: Turn) -> Served {
        let until = Instant::now() + TURN;
        let (mut attempts, mut ended) = (JoinSet::new(), Vec::new());
        loop {
            let goes_on = Instant::now() < until || !turn.others_wait.load(Ordering::Relaxed);
            let lease = goes_on.then_some(turn.proven);
            let served = self.step(std::mem::take(&mut ended), lease, &mut attempts, &mut ended).await;
            if attempts.is_empty() && ended.is_empty() {
                return served;
            }
            self.wait(&turn, served.next.filter(|_| goes_on), &mut attempts, &mut ended).await;
        }
    }

    /// Waits until an attempt has ended, something is due, or more was queued. Adds the attempts that have ended.
    async fn wait(
        &self,
        turn: &Turn,
        due: Option<UnixMillis>,
        attempts: &mut JoinSet<Ended>,
        ended: &mut Vec<Ended>,
    ) {
        let wait = due.map(|due| due.since(self.federation.clock.now())).filter(|wait| *wait > 0);
        let wait = wait.and_then(|wait| u64::try_from(wait).ok()).map_or(LEASE_HOLDS, Duration::from_millis);
        if ended.is_empty() {
            tokio::select! {
                one = attempts.join_next() => ended.extend(one.and_then(Result::ok)),
                () = turn.more.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // Those that ended together are recorded together.
        while let Some(one) = attempts.try_join_next() {
            ended.extend(one.ok());
        }
    }

    /// Records what has ended, leases, and starts an attempt for each row. What is leased and may not be sent any more
    /// is added to `unsent`.
    async fn step(
        &mut self,
        ended: Vec<Ended>,
        lease: Option<bool>,
        attempts: &mut JoinSet<Ended>,
        unsent: &mut Vec<Ended>,
    ) -> Served {
        let federation = Arc::clone(&self.federation);
        let leasing = federation.attempts.leasing();
        let lease = lease.filter(|_| leasing.is_some());
        // Read before the lease begins, and from the clock that goes on while the machine is suspended.
        let (until, now) = (federation.clock.boot() + LEASE_HOLDS, federation.clock.now());
        let token = format!("{}:{}", federation.instance, uuid::Uuid::new_v4());
        let step = Step { ended, lease, token, last_user: self.last_user.clone(), now };
        let Done { leased, served, .. } = self.write(step).await;
        for leased in self.readable(leased, now).await {
            self.last_user = Some(leased.user_id.clone());
            let attempt = leasing.as_ref().and_then(|leasing| leasing.start(&leased.id));
            let Some(attempt) = attempt else {
                unsent.push(Ended { leased, outcome: None, started: now, sent: false });
                continue;
            };
            let sending = Sending {
                domain: self.domain.clone(),
                federation: Arc::clone(&federation),
                documents: Arc::clone(&self.documents),
                deliver_here: Arc::clone(&self.deliver_here),
                leased: leased.clone(),
                until,
                sent: AtomicBool::new(false),
            };
            attempts.spawn_local(async move {
                let outcome = attempt.run(sending.attempt()).await;
                Ended { leased, outcome, started: now, sent: sending.sent.load(Ordering::Relaxed) }
            });
        }
        served
    }

    /// Carries out a step and tells the outcomes. If that fails, each outcome is recorded by itself: what cannot be
    /// recorded must not keep the others from it.
    async fn write(&self, step: Step) -> Done {
        let step = Arc::new(step);
        let error = match self.transaction(&step).await {
            Ok(done) => {
                self.tell(&step.ended, &done.outcomes);
                return done;
            }
            Err(error) => error,
        };
        tracing::error!(peer = %self.domain, %error, "delivery transaction failed");
        for one in &step.ended {
            let (ended, token) = (vec![one.clone()], String::new());
            let alone = Step { ended, lease: None, token, last_user: None, now: step.now };
            match self.transaction(&Arc::new(alone)).await {
                Ok(done) => self.tell(std::slice::from_ref(one), &done.outcomes),
                Err(error) => {
                    tracing::error!(row = %one.leased.id, %error, "outcome not recorded; its lease will run out");
                }
            }
        }
        let next = Some(step.now.plus_millis(LATER_MILLIS));
        let served = Served { next, proven: step.lease.unwrap_or_default() };
        Done { outcomes: Vec::new(), leased: Vec::new(), served }
    }

    async fn transaction(&self, step: &Arc<Step>) -> Result<Done, Error> {
        let (step, federation, domain) = (Arc::clone(step), Arc::clone(&self.federation), self.domain.folded());
        federation
            .store
            .clone()
            .write(move |tx| async move { step.run(tx, &federation, &domain).await }.boxed())
            .await
    }

    fn tell(&self, ended: &[Ended], outcomes: &[Option<Outcome>]) {
        for (ended, outcome) in ended.iter().zip(outcomes) {
            match outcome {
                Some(outcome) => self.federation.outcomes.publish(&ended.leased.id, outcome),
                None => tracing::debug!(row = %ended.leased.id, "stopped, or the row has changed; outcome void"),
            }
        }
    }

    /// Reads leased rows. What cannot be read is set aside, or the rest would stand still behind it for ever.
    async fn readable(&self, leased: Vec<Unread>, now: UnixMillis) -> Vec<Leased> {
        let mut readable = Vec::with_capacity(leased.len());
        for row in leased {
            let row = match row.read() {
                Ok(row) => {
                    readable.push(row);
                    continue;
                }
                Err(row) => row,
            };
            let Unreadable { id, error, .. } = &row;
            tracing::error!(row = %id, %error, "outbox row cannot be read; it is set aside as rejected");
            let set_aside: Result<(), Error> = self
                .federation
                .store
                .write(move |tx| async move { Ok(outbox::set_aside(tx, &row, now).await?) }.boxed())
                .await;
            if let Err(error) = set_aside {
                // The row comes again when its lease is over.
                tracing::error!(%error, "outbox row not set aside");
            }
        }
        readable
    }
}

impl Step {
    async fn run(&self, tx: &mut Tx, federation: &Federation, domain: &str) -> Result<Done, Error> {
        let now = self.now;
        let mut outcomes = Vec::with_capacity(self.ended.len());
        for ended in &self.ended {
            outcomes.push(record_outcome(tx, federation, ended, now).await?);
        }
        let queue = outbox::queues_of(tx, &[domain.to_owned()]).await?.pop();
        let Some(queue) = queue else {
            return Ok(Done { outcomes, leased: Vec::new(), served: Served { next: None, proven: false } });
        };
        let mut served = Served { next: queue.due_at(), proven: federation.is_proven(&queue, now) };
        let mut leased = Vec::new();
        if self.lease == Some(served.proven) && served.next.is_some_and(|due| due <= now) {
            let places = if served.proven { federation.in_flight_per_peer } else { 1 };
            // The leases of all nodes count.
            let rows = places.saturating_sub(queue.leased);
            let (token, last_user) = (self.token.as_str(), self.last_user.as_ref());
            let until = now.plus_millis(LEASE_MILLIS);
            leased = outbox::lease_due(tx, &Wanted { domain, rows, last_user, token, now, until }).await?;
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
    domain: Domain,
    federation: Arc<Federation>,
    documents: Arc<Documents>,
    deliver_here: DeliverHere,
    leased: Leased,
    /// When the lease is over: nothing is sent from then on.
    until: BootTime,
    /// Set once the envelope is on its way.
    sent: AtomicBool,
}

impl Sending {
    async fn attempt(&self) -> Outcome {
        let Leased { id, peer_handle, attempts, trace, .. } = &self.leased;
        let span = tracing::info_span!(
            parent: None, "delivery_attempt", row = %id, peer = %peer_handle, n = attempts + 1, trace_id = Empty
        );
        let trace = trace::tie(&span, trace.as_deref().and_then(TraceParent::parse));
        self.attempt_in_span(trace).instrument(span).await
    }

    async fn attempt_in_span(&self, trace: TraceParent) -> Outcome {
        let stopwatch = Instant::now();
        let outcome = if self.federation.is_local(&self.leased.peer_handle) {
            self.sent.store(true, Ordering::Relaxed);
            // The recipient's actor may go on with it, but does nothing for a row that is gone. Waiting for it would
            // have two people wait for each other who each discard what they have for the other.
            (self.deliver_here)(self.leased.clone()).await
        } else {
            self.send_in_time(trace).await
        };
        measure::attempt(&outcome, stopwatch.elapsed());
        match &outcome {
            Outcome::Delivered { .. } => {
                let signed_at = self.leased.envelope.content.timestamp.instant();
                measure::delivered_after(self.federation.clock.now().since(signed_at));
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
        let clock = &self.federation.clock;
        let overdue = || outcome::overdue(self.sent.load(Ordering::Relaxed));
        let mut send = pin!(self.send(trace));
        // Looked at before every step: a process that was stopped goes on where it was, and must not send then on a
        // lease that another node may have.
        let checked = poll_fn(|cx| {
            if clock.boot() < self.until { send.as_mut().poll(cx) } else { Poll::Ready(overdue()) }
        });
        // This timer stands still while the machine is suspended; the look at the clock does not.
        timeout(self.until.since(clock.boot()), checked).await.unwrap_or_else(|_| overdue())
    }

    async fn send(&self, trace: TraceParent) -> Outcome {
        let Self { domain, federation, documents, leased, .. } = self;
        let clock = &federation.clock;
        if let Err(error) = federation.admit(domain) {
            return outcome::without_manifest(&error, clock.now());
        }
        let envelope = &leased.envelope;
        let _of_sender = match federation.bulkheads.place_of_sender(&envelope.content.from).await {
            Ok(place) => place,
            Err(error) => return outcome::of_failure(&error),
        };
        let manifest = match documents.manifest(federation, Purpose::Delivery).await {
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

/// The request around an envelope (wire protocol, section 5): its headers and its body. Nonce and timestamp are fresh for
/// every attempt: a receiver remembers the nonce of an attempt that failed later on.
#[must_use]
pub fn signed_request(
    secret: &SigningSecret,
    from: &Domain,
    to: &Domain,
    envelope: &Envelope,
    now: UnixMillis,
) -> (Vec<(&'static str, String)>, String) {
    let body = envelope.to_json();
    let nonce = base64::encode(&rand::rng().random::<[u8; 16]>());
    let timestamp = now.to_rfc3339();
    let request = ServerRequest {
        method: "POST",
        path: INBOX_PATH,
        body_hash: &body.sha256_base64(),
        nonce: &nonce,
        timestamp: &timestamp,
        peer_server_id: to.as_str(),
        sender_server_id: from.as_str(),
        protocol_version: PROTOCOL_VERSION,
    };
    let signature = request.sign(secret).to_base64();
    let headers = vec![
        (HEADER_SERVER_ID, from.as_str().to_owned()),
        (HEADER_PROTOCOL_VERSION, PROTOCOL_VERSION.to_string()),
        (HEADER_NONCE, nonce),
        (HEADER_TIMESTAMP, timestamp),
        (HEADER_SIGNATURE, signature),
    ];
    (headers, body.canonical())
}

#[cfg(test)]
mod tests;
