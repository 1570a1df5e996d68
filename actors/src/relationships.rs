//! The two changes of a relationship that several commands and outcomes share: it begins, and it ends.

use vellum_protocol::{Handle, UnixMillis};
use vellum_store::friendships::{self, Peer};
use vellum_store::{Tx, UserId, invitations, outbox, shares};

use crate::Error;

/// The user's side of a new friendship: the invitations that led to it are over, and a revocation that
/// nobody has signed yet is void, since a signature made from now on would end the new friendship.
/// `revocable_from` is the beginning by the peer's clock, where the peer has signed a time, else `now`. Tells
/// whether there was such a revocation.
pub(crate) async fn become_friends(
    tx: &mut Tx,
    user: &UserId,
    peer: &Peer,
    now: UnixMillis,
    revocable_from: UnixMillis,
) -> Result<bool, Error> {
    invitations::end(tx, user, &peer.handle, UnixMillis(i64::MAX)).await?;
    let voided = outbox::drop_unsigned(tx, user, &peer.handle).await?;
    friendships::establish(tx, user, peer, now, revocable_from).await?;
    Ok(voided)
}

/// The user's side of an ended relationship: friendship, invitations and shares with this peer that were
/// established at or before `cutoff` (wire protocol, section 6). Tells whether there was anything.
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
