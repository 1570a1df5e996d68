//! Ending a friendship (`DELETE /friends/{handle}`).

use futures_util::FutureExt;
use vellum_protocol::{Handle, MessageType, UnixMillis};
use vellum_store::{Tx, friendships, outbox, users};

use super::invite::send;
use super::{Scope, SignedFields, UserCommand, load};
use crate::Error;
use crate::relationships::end_relationship;
use crate::waiters::OutcomeReceiver;

/// Ends the friendship with this handle, and everything shared within it.
#[derive(Clone, Debug)]
pub struct RemoveFriend {
    /// The friend, as the list of friends spells it.
    pub friend: Handle,
    /// What the client signed, for the friend's node.
    pub signed: Option<SignedFields>,
}

/// How the other side learns of it.
#[derive(Debug)]
pub enum Removed {
    /// It is on this node: both sides ended together.
    Local,
    /// An envelope is on its way; the reports tell its first attempt's outcome.
    Sent(OutcomeReceiver),
    /// A pending row waits for a signature.
    Unsigned,
}

impl UserCommand for RemoveFriend {
    type Output = Removed;
    const NAME: &'static str = "remove_friend";

    async fn run(self, scope: Scope) -> Result<Removed, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.remove(tx, &scope).await }.boxed()).await
    }
}

impl RemoveFriend {
    async fn remove(self, tx: &mut Tx, scope: &Scope) -> Result<Removed, Error> {
        let me = load(tx, &scope.user).await?;
        if friendships::find(tx, &me.id, &self.friend).await?.is_none() {
            return Err(Error::FriendshipNotFound);
        }
        // Whatever there is now, by whichever clock it was dated: the user is here and means it.
        let all = UnixMillis(i64::MAX);
        end_relationship(tx, &me.id, &self.friend, all).await?;
        if scope.node.is_local(&self.friend) {
            if let Some(other) = users::by_alias(tx, self.friend.alias()).await? {
                end_relationship(tx, &other.id, &scope.node.handle_of_user(&me)?, all).await?;
            }
            return Ok(Removed::Local);
        }
        // Who has not heard yet that the invitation was accepted is not to hear it after the end.
        outbox::drop_acceptances(tx, &me.id, &self.friend).await?;
        let Some(signed) = &self.signed else {
            outbox::await_signature(tx, &me.id, &self.friend, scope.now).await?;
            return Ok(Removed::Unsigned);
        };
        let envelope =
            signed.envelope(&scope.node, &me, MessageType::RelationshipRevoke, &self.friend, scope.now)?;
        Ok(Removed::Sent(send(tx, scope, &envelope, "").await?))
    }
}
