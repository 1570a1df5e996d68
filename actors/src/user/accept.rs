//! Accepting an invitation (`POST /friends/invitations/{id}/accept`).

use futures_util::FutureExt;
use vellum_protocol::{MessageType, UnixMillis};
use vellum_store::friendships::RemoteUser;
use vellum_store::invitations::{self, Direction, Invitation, Status};
use vellum_store::users::{self, User};
use vellum_store::{InvitationId, Tx, outbox};

use super::invite::{Beginnings, become_friends_here, queue, signed_at};
use super::{Scope, SignedFields, UserCommand, load};
use crate::Error;
use crate::relationships::become_friends;
use crate::waiters::OutcomeReceiver;

/// Accepts an incoming invitation.
#[derive(Clone, Debug)]
pub struct Accept {
    /// Which one.
    pub id: InvitationId,
    /// What the client signed; towards another node nothing goes without it.
    pub signed: Option<SignedFields>,
    /// The inviter as resolved just now, if their node could be asked.
    pub peer: Option<RemoteUser>,
}

impl UserCommand for Accept {
    /// Word of the first attempt, if the inviter is on another node.
    type Output = Option<OutcomeReceiver>;
    const NAME: &'static str = "accept_invitation";

    async fn run(self, scope: Scope) -> Result<Option<OutcomeReceiver>, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.accept(tx, &scope).await }.boxed()).await
    }
}

impl Accept {
    async fn accept(self, tx: &mut Tx, scope: &Scope) -> Result<Option<OutcomeReceiver>, Error> {
        let me = load(tx, &scope.user).await?;
        scope.node.handle_of_user(&me)?;
        let invitation = open_incoming(tx, scope, &self.id).await?;
        if scope.node.is_local(&invitation.from) {
            let signed = self.signed.as_ref().and_then(|signed| {
                signed.envelope(&scope.node, &me, MessageType::FriendAccept, &invitation.from, scope.now).ok()
            });
            let mine = signed_at(signed.as_ref(), scope.now);
            accept_here(tx, scope, &me, &invitation, mine).await?;
            return Ok(None);
        }
        let signed = self.signed.as_ref().ok_or(Error::EnvelopeRequired)?;
        let envelope =
            signed.envelope(&scope.node, &me, MessageType::FriendAccept, &invitation.from, scope.now)?;
        let peer = self.peer.or_else(|| invitation.peer.clone()).ok_or(Error::UserNotFound)?;
        let voided = become_friends(tx, &me.id, &peer, scope.now, invitation.revocable_from).await?;
        // The invitation is kept, out of sight, until the inviter's node confirms: if it never does, the
        // friendship would be one-sided, and is undone (see `peer::record`).
        invitations::insert(tx, &Invitation { status: Status::Accepted, ..invitation.clone() }).await?;
        let (row, reports) = queue(tx, scope, &envelope, invitation.id.as_str()).await?;
        if voided {
            outbox::note_voided_revocation(tx, &row).await?;
        }
        Ok(Some(reports))
    }
}

/// The user's incoming invitation with this id, if it is still open.
pub(super) async fn open_incoming(
    tx: &mut Tx,
    scope: &Scope,
    id: &InvitationId,
) -> Result<Invitation, Error> {
    let expired_until = scope.node.invitations.expired_until(scope.now);
    invitations::by_id(tx, &scope.user, id)
        .await?
        .filter(|invitation| {
            invitation.direction == Direction::Incoming
                && invitation.status == Status::Pending
                && invitation.created_at > expired_until
        })
        .ok_or(Error::InvitationNotFound)
}

/// Accepts an invitation between two users of this node: both sides at once.
async fn accept_here(
    tx: &mut Tx,
    scope: &Scope,
    me: &User,
    invitation: &Invitation,
    mine: UnixMillis,
) -> Result<(), Error> {
    let inviter = users::by_alias(tx, invitation.from.alias()).await?.ok_or(Error::UserNotFound)?;
    let my_handle = scope.node.handle_of_user(me)?;
    // The inviter may have withdrawn it, or have reset the identity that it was made with.
    if invitations::with_peer(tx, &inviter.id, Direction::Outgoing, &my_handle).await?.is_none() {
        return Err(Error::InvitationNotFound);
    }
    let begin = Beginnings { mine, theirs: invitation.revocable_from };
    become_friends_here(tx, scope, me, &inviter.id, &scope.node.as_peer(&inviter)?, begin).await
}
