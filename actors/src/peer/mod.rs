//! The actor of one peer node: its manifest, its pinned key, and its send loop.
//!
//! ```text
//!   RevocationDelivery ── Serve ────▶ ┌───────────┐ ── manifest, once ──▶ peer
//!   inbox, friends ── ResolveUser ──▶ │ PeerActor │ ── documents ───────▶ peer
//!   inbox ── Introduce ─────────────▶ └───────────┘ ── envelopes ───────▶ peer
//! ```
//!
//! One peer's trouble is that peer's trouble: each has its own actor, its own limit of requests in
//! flight, its own record of failures. The handlers here interleave, since a peer takes several requests
//! at once; what must happen once (fetching the manifest) is behind a lock of its own.

mod attempts;
mod bulkhead;
mod documents;
mod error;
mod federation;
mod lookups;
pub mod outcome;
pub mod policy;
mod record;
mod registry;
mod retry;
mod sending;
mod transport;
pub mod window;

pub(crate) use attempts::Attempts;
pub(crate) use bulkhead::Bulkheads;
pub use error::PeerError;
pub use federation::Federation;
pub(crate) use lookups::LookupFor;
pub use registry::{PeerSettings, Peers};
pub use retry::RetryPolicy;
pub use sending::signed_request;
pub(crate) use sending::{DeliverHere, LEASE_MILLIS, Served, Turn};
pub use transport::{Answer, Transport, TransportError};

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::OwnedSemaphorePermit;
use vellum_protocol::{Alias, Domain, Manifest};
use vellum_store::UserId;
use vellum_store::friendships::RemoteUser;

use documents::Documents;
use sending::SendLoop;

/// Speaks to one peer node.
pub struct PeerActor {
    documents: Arc<Documents>,
    /// The user whose row was leased last.
    last_user: Option<UserId>,
}

impl PeerActor {
    pub(crate) fn new(domain: Domain, federation: Arc<Federation>) -> Self {
        Self { documents: Arc::new(Documents::new(domain, federation)), last_user: None }
    }
}

impl Actor for PeerActor {
    type Context = Context<Self>;
}

impl Supervised for PeerActor {}

/// Somebody says that they are this peer: makes sure that its manifest is known and carries the pinned key,
/// and returns it.
#[derive(Message)]
#[rtype(result = "Result<Arc<Manifest>, PeerError>")]
pub(crate) struct Introduce;

impl Handler<Introduce> for PeerActor {
    type Result = ResponseFuture<Result<Arc<Manifest>, PeerError>>;

    fn handle(&mut self, Introduce: Introduce, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move { documents.manifest_for_unproven().await })
    }
}

/// Has the manifest fetched anew when it is needed next.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ForgetManifest;

impl Handler<ForgetManifest> for PeerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, ForgetManifest: ForgetManifest, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move { documents.forget_manifest().await })
    }
}

/// Asks for a user's document.
#[derive(Message)]
#[rtype(result = "Result<RemoteUser, PeerError>")]
pub(crate) struct ResolveUser {
    pub alias: Alias,
    pub why: LookupFor,
    /// The user's place, held until the look-up is over, also when nobody waits for its answer.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Handler<ResolveUser> for PeerActor {
    type Result = ResponseFuture<Result<RemoteUser, PeerError>>;

    fn handle(&mut self, ask: ResolveUser, _: &mut Context<Self>) -> Self::Result {
        let documents = Arc::clone(&self.documents);
        Box::pin(async move {
            let ResolveUser { alias, why, place: _place } = ask;
            documents.user(&alias, &why).await
        })
    }
}

/// Runs the peer's send loop. It is sent again only after it was answered.
#[derive(Message)]
#[rtype(result = "Served")]
pub(crate) struct Serve {
    pub turn: Turn,
    /// How a row is delivered whose recipient is on this node.
    pub deliver_here: DeliverHere,
}

impl Handler<Serve> for PeerActor {
    type Result = ResponseActFuture<Self, Served>;

    fn handle(&mut self, Serve { turn, deliver_here }: Serve, _: &mut Context<Self>) -> Self::Result {
        let (documents, last_user) = (Arc::clone(&self.documents), self.last_user.take());
        let mut sending = SendLoop { documents, deliver_here, last_user };
        let work = async move {
            let served = sending.run(turn).await;
            (served, sending.last_user)
        };
        Box::pin(work.into_actor(self).map(|(served, last_user), actor, _| {
            actor.last_user = last_user;
            served
        }))
    }
}
