//! What a recipient does with a share (`/sharing/incoming/{id}`): accept it, or remove it.

use futures_util::FutureExt;
use vellum_store::ShareId;
use vellum_store::invitations::Direction;
use vellum_store::shares::{self, Share};

use super::{Scope, UserCommand};
use crate::Error;

/// Accepts a share; it may be accepted already.
#[derive(Debug)]
pub struct AcceptShare {
    /// Which.
    pub id: ShareId,
}

impl UserCommand for AcceptShare {
    type Output = Share;
    const NAME: &'static str = "accept_share";

    async fn run(self, scope: Scope) -> Result<Share, Error> {
        let Scope { user, now, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    let share = shares::by_id(tx, &user, Direction::Incoming, &self.id).await?;
                    let share = share.ok_or(Error::ShareNotFound)?;
                    shares::accept(tx, &share.id, now).await?;
                    let accepted = shares::by_id(tx, &user, Direction::Incoming, &share.id).await?;
                    accepted.ok_or(Error::ShareNotFound)
                }
                .boxed()
            })
            .await
    }
}

/// Removes a share from the recipient's list. The sharing side is not told.
#[derive(Debug)]
pub struct DropShare {
    /// Which.
    pub id: ShareId,
}

impl UserCommand for DropShare {
    type Output = ();
    const NAME: &'static str = "drop_share";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let Scope { user, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    let share = shares::by_id(tx, &user, Direction::Incoming, &self.id).await?;
                    shares::delete(tx, &share.ok_or(Error::ShareNotFound)?.id).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}
