//! Dropping a pending revocation (`DELETE /users/me/revocations/pending/{peerHandle}`).

use futures_util::FutureExt;
use vellum_protocol::Handle;
use vellum_store::outbox;

use super::{Scope, UserCommand};
use crate::Error;

/// Drops the revocation for this peer, in whatever state. Once it has answered, no attempt starts.
#[derive(Debug)]
pub struct DiscardRevocation {
    /// The peer, as the pending list spells it.
    pub peer: Handle,
}

impl UserCommand for DiscardRevocation {
    type Output = ();
    const NAME: &'static str = "discard_revocation";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let (user, node) = (scope.user.clone(), scope.node.clone());
        let dropped: Result<_, Error> = node
            .store
            .write(move |tx| {
                async move {
                    let row = outbox::discard(tx, &user, &self.peer).await?.ok_or(Error::NotPending)?;
                    Ok(scope.node.replicas.withdrawal(tx, row).await?)
                }
                .boxed()
            })
            .await;
        // The row is gone; an attempt that had it in hand is stopped before this is answered.
        node.replicas.withdraw(dropped?).await;
        Ok(())
    }
}
