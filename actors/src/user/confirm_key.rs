//! Confirming a friend's changed key (`POST /friends/sync-keys` with a key).

use futures_util::FutureExt;
use vellum_protocol::{Handle, SigningKey};
use vellum_store::{friendships, shares};

use super::{Scope, UserCommand};
use crate::Error;

/// The user has compared this signing key with the friend.
#[derive(Clone, Debug)]
pub struct ConfirmKey {
    /// The friend, as the list of friends spells them.
    pub friend: Handle,
    /// The key that was compared.
    pub signing_key: SigningKey,
}

impl UserCommand for ConfirmKey {
    type Output = ();
    const NAME: &'static str = "confirm_key";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let Scope { user, node, .. } = scope;
        let Self { friend, signing_key } = self;
        node.store
            .write(move |tx| {
                async move {
                    if !friendships::confirm_signing_key(tx, &user, &friend, &signing_key).await? {
                        return Err(match friendships::find(tx, &user, &friend).await? {
                            Some(_) => Error::KeyChanged,
                            None => Error::FriendNotFound,
                        });
                    }
                    // What another key has signed meanwhile stays marked.
                    shares::confirm_key(tx, &user, &friend, &signing_key).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}
