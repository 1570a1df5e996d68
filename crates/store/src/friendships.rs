//! Friendships: each of the two users holds a row of their own, on this node or on another.

use vellum_protocol::{EncryptionKey, Handle, SigningKey, UnixMillis};

use crate::defects::{Defect, planted};
use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, FriendshipId, StoreError, Tx, UserId};

/// What is known of the person at the other end of a relationship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUser {
    /// The handle, exactly as its own user document spells it.
    pub handle: Handle,
    /// What the peer's envelopes are verified with.
    pub signing_key: SigningKey,
    /// What is sealed for the peer with; some have none.
    pub encryption_key: Option<EncryptionKey>,
    /// The name the peer shows.
    pub name: Option<String>,
    /// The picture the peer shows.
    pub picture: Option<String>,
}

/// A friendship as one user holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friendship {
    /// The row's name.
    pub id: FriendshipId,
    /// Who holds it.
    pub user_id: UserId,
    /// The friend.
    pub friend: RemoteUser,
    /// Set while the friend shows a key that differs from an earlier one.
    pub keys_changed_at: Option<UnixMillis>,
    /// When it began: a revocation signed before this does not end it.
    pub established_at: UnixMillis,
    /// When it began by the friend's clock, as far as that is known: what the friend has signed since is newer.
    pub revocable_from: UnixMillis,
    /// When the row was made.
    pub created_at: UnixMillis,
}

columns!("friendships": RemoteUser {
    handle: friend_handle,
    signing_key: friend_signing_key,
    encryption_key: friend_encryption_key,
    name: friend_name,
    picture: friend_picture
});
columns!("friendships": Friendship {
    id,
    user_id,
    ..friend,
    keys_changed_at,
    established_at,
    revocable_from,
    created_at
});

macro_rules! select_friendship {
    ($rest:literal) => {
        concat!(
            "select id, user_id, friend_handle, friend_signing_key, friend_encryption_key, friend_name, ",
            "friend_picture, keys_changed_at, established_at, revocable_from, created_at from friendships ",
            $rest
        )
    };
}

/// Makes `user` a friend of `peer` from `now` on. An older friendship with the same handle is replaced:
/// the new one has its own beginning and the keys of today. A mark stays, and a signing key that
/// differs from the one kept before is marked: a renewed friendship says nothing of the key.
/// `revocable_from` is the beginning by the peer's own clock, which stamps the peer's revocations
/// too: those that are older do not end it.
pub async fn establish(
    tx: &mut Tx,
    user: &UserId,
    peer: &RemoteUser,
    now: UnixMillis,
    revocable_from: UnixMillis,
) -> Result<(), StoreError> {
    let id = FriendshipId::generate();
    let upsert = Statement::new(
        "insert into friendships (id, user_id, friend_handle, friend_signing_key, friend_encryption_key,
             friend_name, friend_picture, established_at, revocable_from, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)
         on conflict (user_id, friend_handle) do update set
             keys_changed_at = case
                 when friendships.friend_signing_key = excluded.friend_signing_key
                     and coalesce(friendships.friend_encryption_key, '') =
                         coalesce(excluded.friend_encryption_key, '')
                 then friendships.keys_changed_at
                 else excluded.established_at end,
             friend_signing_key = excluded.friend_signing_key,
             friend_encryption_key = excluded.friend_encryption_key,
             friend_name = excluded.friend_name, friend_picture = excluded.friend_picture,
             established_at = excluded.established_at, revocable_from = excluded.revocable_from",
    );
    let upsert = bind_peer(upsert.bind(id.as_str()).bind(user), peer).bind(now).bind(revocable_from);
    tx.change(upsert).await?;
    Ok(())
}

/// The user's friendships, oldest first.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Friendship>, StoreError> {
    conn.all(Statement::new(select_friendship!("where user_id = $1 order by established_at, id")).bind(user))
        .await
}

/// The user's friendship with exactly this handle.
pub async fn find(conn: &mut Conn, user: &UserId, friend: &Handle) -> Result<Option<Friendship>, StoreError> {
    let select = Statement::new(select_friendship!("where user_id = $1 and friend_handle = $2"));
    conn.one(select.bind(user).bind(friend)).await
}

/// The parameters of a peer, from the handle on.
fn bind_peer(statement: Statement, peer: &RemoteUser) -> Statement {
    let encryption_key = peer.encryption_key.map(|key| key.to_base64());
    statement
        .bind(&peer.handle)
        .bind(peer.signing_key.to_base64())
        .bind(encryption_key.as_deref())
        .bind(peer.name.as_deref())
        .bind(peer.picture.as_deref())
}

/// Notes that the friend has signed with another key than the one kept: stores what they show
/// today, and marks the change. Tells whether there is such a friend and the key is another one.
pub async fn note_signing_key(
    tx: &mut Tx,
    user: &UserId,
    peer: &RemoteUser,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let update = Statement::new(
        "update friendships set friend_signing_key = $3, friend_encryption_key = $4, friend_name = $5,
             friend_picture = $6, keys_changed_at = $7
         where user_id = $1 and friend_handle = $2 and friend_signing_key <> $3",
    );
    let update = bind_peer(update.bind(user), peer).bind(now);
    Ok(tx.change(update).await? > 0)
}

/// The user has compared this key of the friend: the mark goes, if it is still the key that is
/// kept. Tells whether it is.
pub async fn confirm_signing_key(
    tx: &mut Tx,
    user: &UserId,
    friend: &Handle,
    key: &SigningKey,
) -> Result<bool, StoreError> {
    let update = Statement::new(
        "update friendships set keys_changed_at = null
         where user_id = $1 and friend_handle = $2 and friend_signing_key = $3",
    );
    Ok(tx.change(update.bind(user).bind(friend).bind(key.to_base64())).await? > 0)
}

/// Stores what the friend shows today. Differing keys are marked, so that nobody takes them for verified;
/// the beginning of the friendship stays.
pub async fn update_peer(
    tx: &mut Tx,
    user: &UserId,
    peer: &RemoteUser,
    keys_changed_at: Option<UnixMillis>,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "update friendships set friend_signing_key = $3, friend_encryption_key = $4, friend_name = $5,
             friend_picture = $6, keys_changed_at = $7
         where user_id = $1 and friend_handle = $2",
        )
        .bind(user)
        .bind(peer.handle.as_str())
        .bind(peer.signing_key.to_base64())
        .bind(peer.encryption_key.map(|key| key.to_base64()))
        .bind(&peer.name)
        .bind(&peer.picture)
        .bind(keys_changed_at.map(|at| at.0)),
    )
    .await?;
    Ok(())
}

/// The friend has signed something of this friendship at `at`, by their own clock: so it began no later by that clock.
pub async fn date_back(
    tx: &mut Tx,
    user: &UserId,
    friend: &Handle,
    at: UnixMillis,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "update friendships set revocable_from = $3
         where user_id = $1 and friend_handle = $2 and revocable_from > $3",
        )
        .bind(user)
        .bind(friend.as_str())
        .bind(at.0),
    )
    .await?;
    Ok(())
}

/// Ends the friendship with this handle if it began, by the friend's clock, at or before `cutoff`. Returns
/// how many rows went.
pub async fn end(tx: &mut Tx, user: &UserId, friend: &Handle, cutoff: UnixMillis) -> Result<u64, StoreError> {
    let cutoff = if planted(Defect::NoEstablishedAt) { UnixMillis(i64::MAX) } else { cutoff };
    let delete = Statement::new(
        "delete from friendships where user_id = $1 and friend_handle = $2 and revocable_from <= $3",
    );
    tx.change(delete.bind(user).bind(friend).bind(cutoff)).await
}

/// Ends every friendship of the user: part of a reset.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from friendships where user_id = $1").bind(user)).await
}
