//! Withdrawing or dropping an invitation (`DELETE /friends/invitations/{id}`).

use futures_util::FutureExt;
use vellum_protocol::MessageType;
use vellum_store::invitations::{self, Direction, Status};
use vellum_store::{InvitationId, Tx, outbox, users};

use super::{Scope, UserCommand};
use crate::Error;
use crate::replicas::Withdrawal;

/// Removes the user's own row of an invitation, and the other one if it is on this node too.
#[derive(Clone, Debug)]
pub struct CancelInvitation {
    /// Which one.
    pub id: InvitationId,
}

impl UserCommand for CancelInvitation {
    type Output = ();
    const NAME: &'static str = "cancel_invitation";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        let unsent: Result<_, Error> =
            node.store.write(move |tx| async move { self.cancel(tx, &scope).await }.boxed()).await;
        if let Some(row) = unsent? {
            node.replicas.withdraw(row).await;
        }
        Ok(())
    }
}

impl CancelInvitation {
    /// Returns the outbox row of an invitation that may not have left the node yet.
    async fn cancel(self, tx: &mut Tx, scope: &Scope) -> Result<Option<Withdrawal>, Error> {
        let expired_until = scope.node.invitations.expired_until(scope.now);
        let invitation = invitations::by_id(tx, &scope.user, &self.id)
            .await?
            .filter(|invitation| {
                invitation.status == Status::Pending && invitation.created_at > expired_until
            })
            .ok_or(Error::InvitationNotFound)?;
        invitations::delete(tx, &invitation.id).await?;
        let peer = invitation.peer_handle();
        if !scope.node.is_local(peer) {
            let row =
                outbox::withdraw(tx, &scope.user, MessageType::FriendInvite, invitation.id.as_str()).await?;
            return match row {
                Some(row) => Ok(Some(scope.node.replicas.withdrawal(tx, row).await?)),
                None => Ok(None),
            };
        }
        let (others_side, own_handle) = match invitation.direction {
            Direction::Incoming => (Direction::Outgoing, &invitation.to),
            Direction::Outgoing => (Direction::Incoming, &invitation.from),
        };
        if let Some(other) = users::by_alias(tx, peer.alias()).await?
            && let Some(theirs) = invitations::with_peer(tx, &other.id, others_side, own_handle).await?
        {
            invitations::delete(tx, &theirs.id).await?;
        }
        Ok(None)
    }
}
