//! The actor of one user: it handles one message at a time, so that two devices never change the same
//! identity at once.
//!
//! A message is a *command*: a value that knows how to carry itself out in one transaction
//! ([`UserCommand`]). Each stands in a file of its own here, named after what it does. The actor keeps no
//! state of the user between messages: the database is the guard (compare-and-swap, unique keys), the
//! actor is the order. That is also why a restart after a panic loses nothing.

mod accept;
mod alias;
mod blobs;
mod cancel;
mod collections;
mod confirm_key;
mod context;
mod device_transfer;
mod discard;
mod end_sessions;
mod event;
mod flush;
mod incoming_share;
mod invite;
mod key_generation;
mod keys;
mod passkeys;
mod preferences;
mod profile;
mod quotas;
mod receive;
mod reject;
mod remove_friend;
mod reset;
mod rotate_keys;
mod share;
mod signed;
mod slots;
mod sync_keys;
mod wrap_secrets;

pub use accept::Accept;
pub use alias::{AliasSet, SetAlias};
pub use blobs::{DeleteBlob, Expectation, PutBlob};
pub use cancel::CancelInvitation;
pub(crate) use collections::empty as first_collection;
pub use collections::{CollectionChange, CreateCollection, DeleteCollection, UpdateCollection};
pub use confirm_key::ConfirmKey;
pub use context::NodeContext;
pub use device_transfer::{BeginTransfer, CancelTransfer, FetchTransfer, UploadTransfer};
pub use discard::DiscardRevocation;
pub use end_sessions::{EndAllSessions, EndOtherDevices, EndOtherSessions, EndSession};
pub use event::Event;
pub use flush::{Flush, FlushItem, ItemRefusal, Queued};
pub use incoming_share::{AcceptShare, DropShare};
pub use invite::{Invite, Invited};
pub use key_generation::show_keys;
pub use keys::RegisterKeys;
pub use passkeys::{AddPasskey, RemovePasskey, RenamePasskey};
pub use preferences::SetPreferences;
pub use profile::{ChangeProfile, CompleteOnboarding, NameChange, Names};
pub use quotas::DEFAULT_QUOTAS;
pub(crate) use receive::remember;
pub use receive::{LONGEST_RESOURCE_ID, RESOURCE_TYPES, Receive, Received, Source};
pub use reject::Reject;
pub use remove_friend::{RemoveFriend, Removed};
pub use reset::ResetIdentity;
pub use rotate_keys::{ResealedBlob, ResealedCollection, RotateKeys, Rotated};
pub use share::{EndShare, Keeps, Share, Shared};
pub use signed::SignedFields;
pub use slots::{DeleteSlot, MarkSlotUsed, PutSlot};
pub use sync_keys::UpdateFriend;
pub use wrap_secrets::{RemoveDevice, RotateWrapSecrets, WrapSecret};

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tracing::Instrument;
use vellum_protocol::{KmVersion, UnixMillis};
use vellum_store::sessions::Known;
use vellum_store::users::{self, Identity, User};
use vellum_store::{Conn, Store, UserId, node_state};

use crate::{Error, Origin};

/// A change to one user's affairs. It is carried out alone: the user's next command starts when this one
/// has answered.
pub trait UserCommand: Send + 'static {
    /// What it answers.
    type Output: Send + 'static;
    /// Its name in traces.
    const NAME: &'static str;

    /// Carries it out: all of it or, with an error, nothing of it.
    fn run(self, scope: Scope) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// What a command works with.
#[derive(Clone)]
pub struct Scope {
    /// Whose affairs these are.
    pub user: UserId,
    /// Where the request came from.
    pub origin: Origin,
    /// The time of this command, taken once.
    pub now: UnixMillis,
    /// Their node.
    pub node: Arc<NodeContext>,
    queued_for: QueuedFor,
}

/// The peers that a command has queued something for, by their domains in lower case.
#[derive(Clone, Default)]
struct QueuedFor(Arc<Mutex<BTreeSet<String>>>);

impl QueuedFor {
    fn add(&self, domain: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(domain);
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The user's row, for a command that cannot do without it.
async fn load(conn: &mut Conn, user: &UserId) -> Result<User, Error> {
    users::by_id(conn, user).await?.ok_or(Error::NoSuchUser)
}

/// What is said to a caller who knows of `known` where the node has `current`: `otherwise`, unless the database
/// was put back from a backup and the caller's version is the later one.
pub(crate) async fn rolled_back_or(
    conn: &mut Conn,
    known: KmVersion,
    current: KmVersion,
    otherwise: Error,
) -> Result<Error, Error> {
    Ok(if is_rolled_back(conn, known, current).await? {
        Error::ServerRolledBack { current }
    } else {
        otherwise
    })
}

/// Whether the database was put back from a backup that is older than what the caller knows.
async fn is_rolled_back(conn: &mut Conn, known: KmVersion, current: KmVersion) -> Result<bool, Error> {
    Ok(known > current && node_state::restored_at(conn).await?.is_some())
}

/// The identity of a session's user as it stood when the session was looked up, for a caller who
/// may say which version of the keys they know: an older one is not handed out silently after a
/// backup was put back.
///
/// # Errors
/// [`Error::ServerRolledBack`]; [`Error::Store`] for a stored identity that cannot be read.
pub async fn identity(store: &Store, session: &Known, known: Option<KmVersion>) -> Result<Identity, Error> {
    let identity = &session.user()?.identity;
    let current = identity.km_version;
    if let Some(known) = known.filter(|known| *known > current)
        && is_rolled_back(&mut *store.read().await?, known, current).await?
    {
        return Err(Error::ServerRolledBack { current });
    }
    Ok(identity.clone())
}

/// Serializes the commands of one user.
pub struct UserActor {
    user: UserId,
    node: Arc<NodeContext>,
}

impl UserActor {
    pub(crate) fn new(user: UserId, node: Arc<NodeContext>) -> Self {
        Self { user, node }
    }
}

impl Actor for UserActor {
    type Context = Context<Self>;
}

impl Supervised for UserActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        tracing::warn!(user = %self.user, "the user's actor was started again after a panic");
    }
}

/// A command in the mailbox, with the way back to its sender.
pub(crate) struct Ask<C: UserCommand> {
    pub command: C,
    pub origin: Origin,
    pub reply: oneshot::Sender<Result<C::Output, Error>>,
    pub ticket: Ticket,
}

impl<C: UserCommand> Message for Ask<C> {
    type Result = ();
}

impl<C: UserCommand> Handler<Ask<C>> for UserActor {
    // Plain asynchronous handlers of one actor interleave; this response holds the mailbox back.
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, ask: Ask<C>, _: &mut Context<Self>) -> Self::Result {
        let Ask { command, origin, reply, ticket } = ask;
        let (user, now, node) = (self.user.clone(), self.node.clock.now(), Arc::clone(&self.node));
        let queued_for = QueuedFor::default();
        let scope = Scope { user, origin, now, node: Arc::clone(&node), queued_for: queued_for.clone() };
        let span = tracing::info_span!("user_command", command = C::NAME, user = %self.user);
        let work = async move {
            let result = AssertUnwindSafe(async { command.run(scope).await }).catch_unwind().await;
            let panicked = result.is_err();
            match &result {
                Ok(Ok(_)) => tracing::debug!("carried out"),
                Ok(Err(reason)) => tracing::debug!(%reason, "refused"),
                Err(_) => tracing::error!("a command panicked; its transaction was rolled back"),
            }
            let peers = queued_for.take();
            if matches!(result, Ok(Ok(_))) && !peers.is_empty() {
                node.wake_delivery_for(peers);
            }
            drop(ticket);
            // The sender may have gone; what was done stands.
            let _ = reply.send(result.unwrap_or(Err(Error::Internal)));
            panicked
        };
        AtomicResponse::new(Box::pin(work.instrument(span).into_actor(self).map(|panicked, _, ctx| {
            if panicked {
                // The supervisor starts the actor again; waiting messages stay in the mailbox.
                ctx.stop();
            }
        })))
    }
}

/// How many commands of a user wait or are under way.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<AtomicUsize>);

/// One command's place in the count; dropping it frees the place.
pub(crate) struct Ticket(Arc<AtomicUsize>);

impl Pending {
    /// A place, unless `limit` are taken. Called under the directory's lock, the only place that adds.
    pub fn enter(&self, limit: usize) -> Option<Ticket> {
        if self.0.load(Ordering::Acquire) >= limit {
            return None;
        }
        self.0.fetch_add(1, Ordering::AcqRel);
        Some(Ticket(Arc::clone(&self.0)))
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
