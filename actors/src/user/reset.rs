//! Erasing everything that was sealed under the old seed (`POST /users/me/identity/reset`).

use futures_util::FutureExt;
use vellum_store::users::KeyGeneration;
use vellum_store::{
    blobs, collections, friendships, invitations, outbox, shares, slots, users, wrap_secrets,
};

use super::key_generation::knows_its_own;
use super::{Event, Scope, UserCommand, load};
use crate::Error;

/// Resets the user's identity. Alias, sessions, passkeys, roles and preferences stay.
#[derive(Debug)]
pub struct ResetIdentity;

impl UserCommand for ResetIdentity {
    /// How many revocations are pending now.
    type Output = u64;
    const NAME: &'static str = "reset_identity";

    async fn run(self, scope: Scope) -> Result<u64, Error> {
        scope
            .node
            .clone()
            .store
            .write(move |tx| {
                async move {
                    let (user, now) = (scope.user.clone(), scope.now);
                    // First whom to tell, then the wiping: the snapshot must not miss anybody.
                    let peers = outbox::peers_of_user(tx, &user).await?;
                    outbox::withdraw_signatures(tx, &user).await?;
                    for peer in &peers {
                        outbox::await_signature(tx, &user, peer, now).await?;
                    }
                    friendships::wipe(tx, &user).await?;
                    invitations::wipe(tx, &user).await?;
                    shares::wipe(tx, &user).await?;
                    blobs::wipe(tx, &user).await?;
                    collections::wipe(tx, &user).await?;
                    slots::wipe(tx, &user).await?;
                    wrap_secrets::wipe(tx, &user).await?;
                    users::clear_keys(tx, &user, now).await?;
                    let generation = load(tx, &user).await?.identity.key_generation;
                    knows_its_own(tx, &scope, KeyGeneration::NONE, generation).await?;
                    scope.audit(tx, Event::Reset).await?;
                    Ok(outbox::count_pending(tx, &user).await?)
                }
                .boxed()
            })
            .await
    }
}
