//! Rejecting an invitation (`POST /friends/invitations/{id}/reject`).

use futures_util::FutureExt;
use vellum_protocol::MessageType;
use vellum_store::invitations::{self, Direction};
use vellum_store::{InvitationId, Tx, users};

use super::accept::open_incoming;
use super::invite::send;
use super::{Scope, SignedFields, UserCommand, load};
use crate::Error;

/// Rejects an incoming invitation.
#[derive(Clone, Debug)]
pub struct Reject {
    /// Which one.
    pub id: InvitationId,
    /// What the client signed. Without it the invitation goes here, and an inviter on another node is not
    /// told.
    pub signed: Option<SignedFields>,
}

impl UserCommand for Reject {
    /// Whether the inviter is told.
    type Output = bool;
    const NAME: &'static str = "reject_invitation";

    async fn run(self, scope: Scope) -> Result<bool, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.reject(tx, &scope).await }.boxed()).await
    }
}

impl Reject {
    async fn reject(self, tx: &mut Tx, scope: &Scope) -> Result<bool, Error> {
        let me = load(tx, &scope.user).await?;
        let invitation = open_incoming(tx, scope, &self.id).await?;
        invitations::delete(tx, &invitation.id).await?;
        if scope.node.is_local(&invitation.from) {
            if let Some(inviter) = users::by_alias(tx, invitation.from.alias()).await?
                && let Some(theirs) =
                    invitations::with_peer(tx, &inviter.id, Direction::Outgoing, &invitation.to).await?
            {
                invitations::delete(tx, &theirs.id).await?;
            }
            return Ok(true);
        }
        let Some(signed) = &self.signed else {
            return Ok(false);
        };
        let envelope =
            signed.envelope(&scope.node, &me, MessageType::FriendReject, &invitation.from, scope.now)?;
        send(tx, scope, &envelope, invitation.id.as_str()).await?;
        Ok(true)
    }
}
