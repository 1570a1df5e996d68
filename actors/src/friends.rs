//! Friendships across nodes: what must be asked of another node before, and waited for after, the user's
//! actor does its part.
//!
//! Another node is never asked from inside a command: a slow peer would hold up everything else that its
//! user does.

use std::sync::Arc;
use std::time::Duration;

use vellum_protocol::Handle;
use vellum_store::friendships::{self, RemoteUser};
use vellum_store::invitations::{self, Direction, Invitation, Status};
use vellum_store::outbox::Outcome;
use vellum_store::{InvitationId, UserId};

use crate::Error;
use crate::key_checks::Added;
use crate::node::Node;
use crate::peer::LookupFor;
use crate::user::{Accept, CancelInvitation, Invite, RemoveFriend, Removed, SignedFields, UpdateFriend};

/// How often the keys of a friend are asked for in the background before that is given up.
const TRIES_LATER: u32 = 20;
/// The longest wait for a node that asks for one: others wait behind it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often what waits in the background looks at the clock.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// Somebody as resolved just now.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What their user document shows.
    pub peer: RemoteUser,
    /// Their account, if it is on this node.
    pub local: Option<UserId>,
}

/// How the other side learns that a friendship has ended (wire protocol, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is on this node and knows.
    Local,
    /// Its node has confirmed.
    Delivered,
    /// The envelope is on its way.
    Queued,
    /// The client sent no signature; a pending row waits for one.
    Unsigned,
}

/// A friend whose keys were compared with what their node shows.
#[derive(Debug)]
pub struct Synced {
    /// The friend.
    pub handle: Handle,
    /// Whether a key had changed, or why that could not be found out.
    pub outcome: Result<bool, Error>,
    /// Whether it could not be found out now, and is in the background.
    pub later: bool,
}

/// Looks somebody up for this user: on this node, or by asking theirs.
///
/// # Errors
/// [`Error::UserNotFound`], [`Error::HandleSpelling`] when they spell their handle in
/// another way, [`Error::PeerUnreachable`]; [`Error::LookupLimited`] and [`Error::TooManyLookups`]
/// when it has to wait.
pub async fn resolve(node: &Arc<Node>, user: &UserId, handle: &Handle) -> Result<Resolved, Error> {
    look_up(node, handle, LookupFor::User(user.clone())).await
}

async fn look_up(node: &Arc<Node>, handle: &Handle, why: LookupFor) -> Result<Resolved, Error> {
    let resolved = if node.context.is_local(handle) {
        let user = node.user_by_alias(handle.alias()).await?.ok_or(Error::UserNotFound)?;
        if user.identity.keys.is_none() {
            return Err(Error::UserNotFound);
        }
        Resolved { peer: node.context.as_peer(&user)?, local: Some(user.id.clone()) }
    } else {
        let found = node.peers.resolve_user(handle, why).await;
        // A user is not told everything.
        let found = found.inspect_err(|error| tracing::info!(%handle, %error, "look-up for a user failed"));
        Resolved { peer: found?, local: None }
    };
    if resolved.peer.handle != *handle {
        return Err(Error::HandleSpelling(resolved.peer.handle.to_string()));
    }
    Ok(resolved)
}

/// Invites somebody, and waits a while for their node to take it.
///
/// # Errors
/// What [`resolve`] and [`Invite`] refuse with; [`Error::UserNotFound`] when the other node refuses for good.
pub async fn invite(
    node: &Arc<Node>,
    user: &UserId,
    handle: &Handle,
    signed: Option<SignedFields>,
) -> Result<Invitation, Error> {
    let me = node.user(user).await?;
    if node.context.handle_of_user(&me)? == *handle {
        return Err(Error::OwnHandle);
    }
    if !node.context.is_local(handle) && signed.is_none() {
        return Err(Error::EnvelopeRequired);
    }
    let Resolved { peer, local } = resolve(node, user, handle).await?;
    let invited = node.ask(user, Invite { peer, local, signed }).await?;
    let Some(outcome) = invited.outcome else {
        return Ok(invited.invitation);
    };
    match outcome.first(node.settings.flush_wait).await {
        Some(Outcome::Rejected { .. }) => {
            // Told now, so the note that would tell it later is not needed.
            match node.ask(user, CancelInvitation { id: invited.invitation.id }).await {
                Ok(()) | Err(Error::InvitationNotFound) => Err(Error::UserNotFound),
                Err(other) => Err(other),
            }
        }
        _ => Ok(invited.invitation),
    }
}

/// Accepts an invitation, and waits a while for the inviter's node to take it.
///
/// # Errors
/// What [`Accept`] refuses with; [`Error::InvitationNotFound`] when the inviter's node says that it knows
/// of no invitation, which undoes the friendship.
pub async fn accept(
    node: &Arc<Node>,
    user: &UserId,
    id: InvitationId,
    signed: Option<SignedFields>,
) -> Result<(), Error> {
    let invitation = invitations::by_id(&mut *node.store.read().await?, user, &id)
        .await?
        .filter(|invitation| {
            invitation.direction == Direction::Incoming && invitation.status == Status::Pending
        })
        .ok_or(Error::InvitationNotFound)?;
    let mut peer = None;
    if !node.context.is_local(&invitation.from) && signed.is_some() {
        // What was known when the invitation came serves while the inviter's node cannot be asked.
        peer = match look_up(node, &invitation.from, LookupFor::Accept(user.clone())).await {
            Ok(resolved) => Some(resolved.peer),
            Err(Error::PeerUnreachable(_) | Error::LookupLimited { .. } | Error::TooManyLookups { .. }) => {
                None
            }
            Err(other) => return Err(other),
        };
    }
    let Some(outcome) = node.ask(user, Accept { id, signed, peer }).await? else {
        return Ok(());
    };
    match outcome.first(node.settings.flush_wait).await {
        Some(Outcome::Rejected { .. }) => Err(Error::InvitationNotFound),
        _ => Ok(()),
    }
}

/// Ends a friendship, and waits a while for the friend's node to take it.
///
/// # Errors
/// What [`RemoveFriend`] refuses with.
pub async fn remove(
    node: &Arc<Node>,
    user: &UserId,
    friend: Handle,
    signed: Option<SignedFields>,
) -> Result<Notice, Error> {
    Ok(match node.ask(user, RemoveFriend { friend, signed }).await? {
        Removed::Local => Notice::Local,
        Removed::Unsigned => Notice::Unsigned,
        Removed::Sent(outcome) => match outcome.first(node.settings.flush_wait).await {
            Some(Outcome::Delivered { .. }) => Notice::Delivered,
            _ => Notice::Queued,
        },
    })
}

/// Compares every friend's keys with what their node shows today. Where a node may not be asked
/// now, the outcome is [`Error::LookupLimited`] or [`Error::TooManyLookups`], and it is done in the
/// background.
///
/// # Errors
/// Only when the list of friends cannot be read; a friend's own trouble is in that friend's outcome.
pub async fn sync_keys(node: &Arc<Node>, user: &UserId) -> Result<Vec<Synced>, Error> {
    let friends = friendships::of_user(&mut *node.store.read().await?, user).await?;
    // Each friend's node answers in its own time; together they take as long as the slowest.
    let synced = friends.into_iter().map(|friendship| async move {
        let handle = friendship.friend.handle;
        let outcome = compare_keys(node, user, &handle, LookupFor::User(user.clone())).await;
        let later = is_for_later(&outcome) && compare_keys_later(node, user, &handle);
        Synced { handle, outcome, later }
    });
    Ok(futures_util::future::join_all(synced).await)
}

async fn compare_keys(
    node: &Arc<Node>,
    user: &UserId,
    friend: &Handle,
    why: LookupFor,
) -> Result<bool, Error> {
    let resolved = look_up(node, friend, why).await?;
    node.ask(user, UpdateFriend { peer: resolved.peer }).await
}

fn is_for_later(outcome: &Result<bool, Error>) -> bool {
    matches!(outcome, Err(Error::LookupLimited { .. } | Error::TooManyLookups { .. }))
}

/// Compares a friend's keys when their node may be asked again: one friend of a node after another.
/// Returns false if too many wait already.
fn compare_keys_later(node: &Arc<Node>, user: &UserId, friend: &Handle) -> bool {
    match node.key_checks.add(user.clone(), friend.clone()) {
        Added::First => {}
        Added::Waits => return true,
        Added::Full => return false,
    }
    let (node, peer) = (Arc::clone(node), friend.domain().clone());
    actix::spawn(async move {
        while let Some((user, friend)) = node.key_checks.next(&peer) {
            for _ in 0..TRIES_LATER {
                let why = LookupFor::Background(user.clone());
                let outcome = compare_keys(&node, &user, &friend, why).await;
                if !is_for_later(&outcome) {
                    break;
                }
                rest(&node, outcome).await;
            }
        }
    });
    true
}

/// Waits until a node may be asked again, by the clock that counts how often it was.
async fn rest(node: &Node, outcome: Result<bool, Error>) {
    let Err(Error::LookupLimited { retry_after } | Error::TooManyLookups { retry_after }) = outcome else {
        return;
    };
    let until = node.clock.boot() + retry_after.min(LONGEST_WAIT);
    while node.clock.boot() < until {
        tokio::time::sleep(LOOK_AT_CLOCK).await;
    }
}
