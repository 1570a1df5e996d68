//! What commands, inbound messages and the outcomes of deliveries do to relationships: how they
//! begin and end, and what becomes of them when the message that they rest on is taken, refused, or
//! never taken.

use vellum_protocol::{Handle, MessageType, UnixMillis};
use vellum_store::friendships::{self, RemoteUser};
use vellum_store::invitations::{self, Status};
use vellum_store::outbox::{self, Lapsed, Leased, State};
use vellum_store::{InvitationId, ShareId, Tx, UserId, applied_envelopes, shares};

use crate::Error;

/// The user's side of a new friendship: the invitations that led to it are over, and a revocation
/// that nobody has signed yet is void, since a signature made from now on would end the new
/// friendship. `revocable_from` is the beginning by the peer's clock, where the peer has signed a
/// time, else `now`. Tells whether there was such a revocation.
pub(crate) async fn become_friends(
    tx: &mut Tx,
    user: &UserId,
    peer: &RemoteUser,
    now: UnixMillis,
    revocable_from: UnixMillis,
) -> Result<bool, Error> {
    invitations::end(tx, user, &peer.handle, UnixMillis(i64::MAX)).await?;
    let voided = outbox::drop_unsigned(tx, user, &peer.handle).await?;
    friendships::establish(tx, user, peer, now, revocable_from).await?;
    Ok(voided)
}

/// The user's side of an ended relationship: friendship, invitations and shares with this peer that
/// were established at or before `cutoff` (wire protocol, section 6). Tells whether there was
/// anything.
pub(crate) async fn end_relationship(
    tx: &mut Tx,
    user: &UserId,
    peer: &Handle,
    cutoff: UnixMillis,
) -> Result<bool, Error> {
    let ended = friendships::end(tx, user, peer, cutoff).await?
        + invitations::end(tx, user, peer, cutoff).await?
        + shares::end(tx, user, peer, cutoff).await?;
    Ok(ended > 0)
}

/// What follows when the recipient's node has carried a message out.
pub(crate) async fn delivered(
    tx: &mut Tx,
    leased: &Leased,
    friends: bool,
    started: UnixMillis,
    now: UnixMillis,
) -> Result<(), Error> {
    let (user, peer) = (&leased.user_id, &leased.peer_handle);
    let subject = InvitationId::from(leased.subject.clone());
    match leased.envelope.content.message_type {
        // Both had invited each other, and the peer has made them friends: so do we.
        MessageType::FriendInvite if friends => {
            let Some(invitation) = invitations::by_id(tx, user, &subject).await? else { return Ok(()) };
            let me = &leased.envelope.content.from;
            if applied_envelopes::revoked_since(tx, peer, me, started).await? {
                // What the peer has answered and what they have revoked have crossed, and their
                // order cannot be told.
                invitations::delete(tx, &subject).await?;
                outbox::await_signature(tx, user, peer, now).await?;
            } else if let Some(resolved) = invitation.peer {
                // The answer does not say when they signed theirs. If it is here already, its time
                // is the one that their revocation will be compared with; if not, its arrival dates
                // the friendship back.
                let theirs = applied_envelopes::last_approach(tx, peer, me).await?;
                become_friends(tx, user, &resolved, now, theirs.unwrap_or(now).min(now)).await?;
            }
        }
        MessageType::FriendAccept => {
            invitations::delete(tx, &subject).await?;
            if friendships::find(tx, user, peer).await?.is_none() {
                // The friendship ended while the acceptance was under way. The peer may have
                // taken it, perhaps for the answer to another invitation, and needs a revocation.
                revoke_unless_pending(tx, user, peer, now).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What follows when the recipient's node refuses a message for good.
pub(crate) async fn rejected(
    tx: &mut Tx,
    leased: &Leased,
    reason: &str,
    now: UnixMillis,
) -> Result<(), Error> {
    let subject = InvitationId::from(leased.subject.clone());
    match leased.envelope.content.message_type {
        MessageType::ResourceShare => {
            shares::delete(tx, &ShareId::from(leased.subject.clone())).await?;
        }
        // Its owner may have gone before there was an answer.
        MessageType::FriendInvite => invitations::note_failure(tx, &subject, reason).await?,
        // The inviter knows of no invitation: the friendship would be ours alone.
        MessageType::FriendAccept => {
            undo_accept(tx, &leased.user_id, &subject).await?;
            invitations::delete(tx, &subject).await?;
            if leased.voids_revocation {
                revoke_unless_pending(tx, &leased.user_id, &leased.peer_handle, now).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Has the user sign a revocation for this peer, unless one is to be signed or on its way already.
async fn revoke_unless_pending(
    tx: &mut Tx,
    user: &UserId,
    peer: &Handle,
    now: UnixMillis,
) -> Result<(), Error> {
    let pending = outbox::pending_for_peer(tx, user, peer).await?;
    if pending.is_none_or(|row| row.state == State::Rejected) {
        outbox::await_signature(tx, user, peer, now).await?;
    }
    Ok(())
}

/// Undoes what rested on a message that was never taken.
pub(crate) async fn compensate(tx: &mut Tx, message: &Lapsed, now: UnixMillis) -> Result<(), Error> {
    let subject = InvitationId::from(message.subject.clone());
    match message.message_type {
        // It has reached nobody, so the list of shares does not show it.
        MessageType::ResourceShare => {
            shares::delete(tx, &ShareId::from(message.subject.clone())).await?;
        }
        MessageType::FriendInvite => {
            // One that was given up has a note by now; one whose keys are gone was taken back by
            // its owner.
            invitations::delete_unless_noted(tx, &subject).await?;
            if message.maybe_arrived {
                // Somebody who had invited us, too, took it for the answer, and is our friend now:
                // unless we become theirs, the peer needs a revocation.
                outbox::await_signature(tx, &message.user_id, &message.peer_handle, now).await?;
            }
        }
        // The invitation stands as before, and can be accepted again.
        MessageType::FriendAccept if undo_accept(tx, &message.user_id, &subject).await? => {
            invitations::set_status(tx, &subject, Status::Pending).await?;
            if message.maybe_arrived || message.voids_revocation {
                // The inviter's node may hold the friendship that ours has just undone, or an older
                // one that was still to be ended: unless a new one is made, the peer needs a
                // revocation.
                outbox::await_signature(tx, &message.user_id, &message.peer_handle, now).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Ends the friendship that an accept has made, if its invitation is still kept.
async fn undo_accept(tx: &mut Tx, user: &UserId, invitation: &InvitationId) -> Result<bool, Error> {
    let Some(invitation) = invitations::by_id(tx, user, invitation).await? else {
        return Ok(false);
    };
    friendships::end(tx, user, &invitation.from, UnixMillis(i64::MAX)).await?;
    Ok(true)
}
