//! Taking note of what a friend shows today (`POST /friends/sync-keys`).

use futures_util::FutureExt;
use vellum_store::friendships::{self, RemoteUser};

use super::{Scope, UserCommand};
use crate::Error;

/// Compares a friend, as resolved just now, with the row of the friendship.
#[derive(Debug)]
pub struct UpdateFriend {
    /// The friend as their user document shows them.
    pub peer: RemoteUser,
}

impl UserCommand for UpdateFriend {
    /// Whether a key differs from the one known before. Such a friend is marked as unverified.
    type Output = bool;
    const NAME: &'static str = "update_friend";

    async fn run(self, scope: Scope) -> Result<bool, Error> {
        let Scope { user, now, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    let known = friendships::find(tx, &user, &self.peer.handle)
                        .await?
                        .ok_or(Error::FriendshipNotFound)?;
                    let changed = known.friend.signing_key != self.peer.signing_key
                        || known.friend.encryption_key != self.peer.encryption_key;
                    if changed || known.friend != self.peer {
                        let mark = if changed { Some(now) } else { known.keys_changed_at };
                        friendships::update_peer(tx, &user, &self.peer, mark).await?;
                    }
                    Ok(changed)
                }
                .boxed()
            })
            .await
    }
}
