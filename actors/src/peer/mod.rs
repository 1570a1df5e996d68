//! The actor of one peer node: its manifest, its pinned key, and the requests under way to it.
//!
//! ```text
//!   RevocationDelivery ── Deliver ──▶ ┌───────────┐ ── manifest, once ──▶ peer
//!   inbox, friends ── ResolveUser ──▶ │ PeerActor │ ── documents ───────▶ peer
//!   inbox ── Introduce ─────────────▶ └───────────┘ ── envelopes ───────▶ peer
//! ```
//!
//! One peer's trouble is that peer's trouble: each has its own actor, its own limit of requests in
//! flight, its own record of failures. The handlers here interleave, since a peer takes several requests
//! at once; what must happen once (fetching the manifest) is behind a lock of its own.

mod bulkhead;
mod documents;
mod lookups;
pub mod policy;
mod registry;
mod transport;
pub mod verdict;

pub(crate) use lookups::{Added, LookupFor};
pub use registry::Peers;
pub(crate) use registry::is_pinned;
pub use transport::{Answer, Transport, TransportError};
pub use verdict::{Trouble, Verdict};

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::{AbortRegistration, Abortable};
use rand::RngExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, INBOX_PATH,
    PROTOCOL_VERSION,
};
use vellum_protocol::{Alias, Domain, Envelope, Manifest, ServerRequest, SigningSecret, UnixMillis, base64};
use vellum_store::StoreError;
use vellum_store::friendships::Peer;

use crate::node::Node;
use crate::trace::{self, TraceParent};
use crate::{BootTime, Error};
use bulkhead::Purpose;
use documents::Documents;

/// Speaks to one peer node.
pub struct PeerActor {
    domain: Domain,
    documents: Arc<Documents>,
    in_flight: Arc<Semaphore>,
}

impl PeerActor {
    pub(crate) fn new(domain: Domain, in_flight: u32) -> Self {
        let permits = usize::try_from(in_flight.max(1)).unwrap_or(1);
        let documents = Arc::new(Documents::new(domain.clone()));
        Self { domain, documents, in_flight: Arc::new(Semaphore::new(permits)) }
    }
}

impl Actor for PeerActor {
    type Context = Context<Self>;
}

impl Supervised for PeerActor {}

/// Why a peer cannot be trusted or understood right now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It answered, but not with the document asked for.
    #[error("{reason}")]
    Unusable {
        /// What it did instead.
        reason: String,
        /// The HTTP status, where that was what made it unusable.
        status: Option<u16>,
        /// The pause that it asked for.
        pause: Option<Duration>,
    },
    /// It shows another key than the one pinned at first contact.
    #[error("the key of {0} has changed since it was first met; an operator has to decide")]
    PinMismatch(Domain),
    /// An operator has decided that nothing is exchanged with it.
    #[error("this node does not federate with {0}")]
    NotAdmitted(Domain),
    /// Nobody here has met it, and too many such nodes are asked who they are already.
    #[error("too many unknown nodes introduce themselves at once")]
    TooManyStrangers,
    /// Users have had it asked as often as this node asks it.
    #[error("it was asked often enough for now")]
    Limited {
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// It is asked for a user that it does not have.
    #[error("there is no such user at that node")]
    NoSuchUser,
    /// Our own database failed.
    #[error(transparent)]
    Store(StoreError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// When to ask again where nobody has said so.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The same for a peer that says that it is asked too often; and the longest wait that is passed
/// on.
const LIMITED: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl PeerError {
    fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable { reason: reason.into(), status: None, pause: None }
    }

    /// Whether the peer says that it cannot answer now.
    fn is_peers_refusal(&self) -> bool {
        matches!(self, Self::Unusable { status: Some(429 | 500..), .. })
    }

    /// The answer to a message whose sender could not be looked up for a reason that will pass and
    /// is no fault of the message; `None` where it says something of the sender.
    pub(crate) fn passing(&self) -> Option<Error> {
        Some(match self {
            Self::Transport(
                TransportError::TimedOut(_)
                | TransportError::ConnectTimedOut(_)
                | TransportError::Unreachable(_)
                | TransportError::Broken(_)
                | TransportError::Tls(_),
            ) => Error::SenderUnavailable { retry_after: RETRY_AFTER },
            Self::Unusable { status: Some(429), pause, .. } => {
                Error::LookupLimited { retry_after: limited(*pause) }
            }
            Self::Unusable { status: Some(500..), pause, .. } => {
                Error::SenderUnavailable { retry_after: pause.unwrap_or(RETRY_AFTER).min(LONGEST_WAIT) }
            }
            other => return other.ours(),
        })
    }

    /// The same where the reason is this node's own.
    pub(crate) fn ours(&self) -> Option<Error> {
        Some(match self {
            Self::Transport(TransportError::Busy) => Error::TooManyLookups { retry_after: RETRY_AFTER },
            Self::Limited { retry_after } => Error::LookupLimited { retry_after: *retry_after },
            Self::TooManyStrangers => Error::TooManyStrangers,
            Self::Store(error) => Error::Store(error.clone()),
            Self::Stopping => Error::Stopping,
            _ => return None,
        })
    }

    /// What a user is told of a peer that could not be asked: one sentence for whatever kept it
    /// from answering, since the user has chosen its name.
    fn for_users(&self) -> String {
        match self {
            Self::Transport(error @ (TransportError::TooLong(_) | TransportError::Packed(_))) => {
                error.to_string()
            }
            Self::Transport(_) => "it does not answer".into(),
            other => other.to_string(),
        }
    }
}

fn limited(pause: Option<Duration>) -> Duration {
    pause.unwrap_or(LIMITED).min(LONGEST_WAIT)
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::NoSuchUser => Self::UserNotFound,
            PeerError::NotAdmitted(domain) => Self::PeerNotAdmitted(domain),
            PeerError::Unusable { status: Some(429), pause, .. } => {
                Self::LookupLimited { retry_after: limited(pause) }
            }
            other => other.ours().unwrap_or_else(|| Self::PeerUnreachable(other.for_users())),
        }
    }
}

/// Somebody says that they are this peer: makes sure that its manifest is known and carries the pinned key,
/// and returns it.
pub(crate) struct Introduce(pub Arc<Node>);

impl Message for Introduce {
    type Result = Result<Arc<Manifest>, PeerError>;
}

impl Handler<Introduce> for PeerActor {
    type Result = ResponseFuture<Result<Arc<Manifest>, PeerError>>;

    fn handle(&mut self, Introduce(node): Introduce, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move { documents.manifest_for_stranger(&node).await })
    }
}

/// Has the manifest fetched anew when it is needed next.
pub(crate) struct ForgetManifest;

impl Message for ForgetManifest {
    type Result = ();
}

impl Handler<ForgetManifest> for PeerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, ForgetManifest: ForgetManifest, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move { documents.forget_manifest().await })
    }
}

/// Asks for a user's document.
pub(crate) struct ResolveUser {
    pub node: Arc<Node>,
    pub alias: Alias,
    pub why: LookupFor,
    /// The user's place, held until the look-up is over, also when nobody waits for its answer.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Message for ResolveUser {
    type Result = Result<Peer, PeerError>;
}

impl Handler<ResolveUser> for PeerActor {
    type Result = ResponseFuture<Result<Peer, PeerError>>;

    fn handle(&mut self, ask: ResolveUser, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move {
            let ResolveUser { node, alias, why, place: _place } = ask;
            documents.user(&node, &alias, &why).await
        })
    }
}

/// Makes one attempt to deliver an envelope.
pub(crate) struct Deliver {
    pub node: Arc<Node>,
    pub envelope: Envelope,
    pub repeated: bool,
    /// The attempt's place in a trace, for the peer to go on with.
    pub trace: TraceParent,
    /// Stops the attempt, wherever it is: waiting for its turn, for a document, or for the answer.
    pub stop: AbortRegistration,
    /// When the lease is over: nothing is sent from then on.
    pub until: BootTime,
}

impl Message for Deliver {
    /// `None` when it was stopped. Once this is answered, nothing of the attempt goes on.
    type Result = Option<Verdict>;
}

impl Handler<Deliver> for PeerActor {
    type Result = ResponseFuture<Option<Verdict>>;

    fn handle(&mut self, deliver: Deliver, _: &mut Context<Self>) -> Self::Result {
        let (domain, documents) = (self.domain.clone(), Arc::clone(&self.documents));
        let in_flight = Arc::clone(&self.in_flight);
        let Deliver { node, envelope, repeated, trace, stop, until } = deliver;
        let (waiting, clock) = (node.peers.waiting(), node.clock.clone());
        let posting = Arc::new(AtomicBool::new(false));
        let posted = Arc::clone(&posting);
        let attempt = async move {
            // The semaphore is never closed while the actor lives, and it lives as long as this future.
            let _place = in_flight.acquire().await;
            drop(waiting);
            let request = Request { envelope: &envelope, repeated, trace, until, posted: &posted };
            attempt(&domain, &documents, &node, request).await
        };
        let in_time = async move {
            let overdue = || verdict::overdue(posting.load(Ordering::Relaxed));
            let mut attempt = pin!(attempt);
            // Looked at before every step: a process that was stopped goes on where it was, and must not send then.
            let checked = poll_fn(|cx| {
                if clock.boot() < until { attempt.as_mut().poll(cx) } else { Poll::Ready(overdue()) }
            });
            // This timer stands still while the machine is suspended; the look at the clock does
            // not.
            timeout(until.since(clock.boot()), checked).await.unwrap_or_else(|_| overdue())
        };
        // Both here and not at the delivery's end: this future runs on although nobody waits for its answer.
        Box::pin(async move { Abortable::new(in_time, stop).await.ok() })
    }
}

/// What an attempt is to carry.
struct Request<'a> {
    envelope: &'a Envelope,
    repeated: bool,
    trace: TraceParent,
    /// When the lease is over.
    until: BootTime,
    /// Set once it is on its way.
    posted: &'a AtomicBool,
}

async fn attempt(
    domain: &Domain,
    documents: &Arc<Documents>,
    node: &Arc<Node>,
    request: Request<'_>,
) -> Verdict {
    let Request { envelope, repeated, trace, until, posted } = request;
    let _of_sender = match node.peers.bulkheads.place_of_sender(&envelope.content.from).await {
        Ok(place) => place,
        Err(error) => return verdict::of_failure(&error),
    };
    let manifest = match documents.manifest(node, Purpose::Delivery).await {
        Ok(manifest) => manifest,
        Err(error) => return verdict::without_manifest(&error),
    };
    let (mut headers, body) =
        signed_request(&node.identity, &node.domain, &manifest.server_id, envelope, node.clock.now());
    headers.push((trace::HEADER, trace.to_string()));
    let _place = match node.peers.bulkheads.place(Purpose::Delivery, domain).await {
        Ok(place) => place,
        Err(error) => return verdict::of_failure(&error),
    };
    // Once more, directly before it is sent: another node may have the lease by now.
    if node.clock.boot() >= until {
        return verdict::overdue(false);
    }
    posted.store(true, Ordering::Relaxed);
    match node.transport.post(domain, INBOX_PATH, headers, body).await {
        Ok(answer) => {
            if answer.status == 401 {
                // The peer may have a new manifest; a later attempt reads it again.
                documents.doubt_manifest(node.clock.now());
            }
            let verdict = verdict::of_answer(envelope.content.message_type, &answer, repeated);
            verdict.with_clock(&answer, node.clock.now())
        }
        Err(error) => verdict::of_failure(&error),
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
