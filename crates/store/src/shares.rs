//! Shares: which resources a user has opened to somebody, and which were opened to the user. The
//! payload is ciphertext; the node looks only at who shares what with whom, and since when. A share
//! is a letter and no key: it lets nobody change anything, and lets its recipient read one thing of
//! this node, a collection that its owner has shared (`collections::shared_with`).

use vellum_protocol::{Handle, SigningKey, UnixMillis};

pub use crate::relations::{Direction, Status};
use crate::row::{columns, word};
use crate::statement::Statement;
use crate::{Conn, ShareId, StoreError, Tx, UserId};

/// What the other side may do with the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read it.
    Viewer,
    /// Change it.
    Editor,
}

impl Role {
    /// The word that the database, the API and the wire protocol use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Viewer, Self::Editor].into_iter().find(|role| role.as_str() == word)
    }
}

word!(Role);

/// Which resource is shared. Both are any text to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `collection`, `route`, `map` or `layer`.
    pub kind: String,
    /// Its id at its owner's node.
    pub id: String,
}

/// A share as one side holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The row's name.
    pub id: ShareId,
    /// Who holds it.
    pub user_id: UserId,
    /// Whether the holder shares or is shared with.
    pub direction: Direction,
    /// The other side.
    pub peer_handle: Handle,
    /// The other side's account, if it is on this node.
    pub peer_user_id: Option<UserId>,
    /// What is shared.
    pub resource: Resource,
    /// The sealed payload.
    pub encrypted_data: Option<String>,
    /// Its nonce.
    pub nonce: Option<String>,
    /// What the recipient may do.
    pub role: Role,
    /// Where it stands.
    pub status: Status,
    /// When the row was made.
    pub created_at: UnixMillis,
    /// When the recipient said yes.
    pub accepted_at: Option<UnixMillis>,
    /// The key that signed it, where the recipient has yet to confirm that key as the friend's.
    pub unverified_key: Option<SigningKey>,
}

columns!("shares": Resource { kind: resource_type, id: resource_id });
columns!("shares": Share {
    id,
    user_id,
    direction,
    peer_handle,
    peer_user_id,
    ..resource,
    encrypted_data,
    nonce,
    role,
    status,
    created_at,
    accepted_at,
    unverified_key
});

macro_rules! select_share {
    ($rest:literal) => {
        concat!(
            "select id, user_id, direction, peer_handle, peer_user_id, resource_type, resource_id, ",
            "encrypted_data, nonce, role, status, created_at, accepted_at, unverified_key from shares ",
            $rest
        )
    };
}

/// Writes a share: a new one, or what is to be different of one with the same holder, direction, peer and
/// resource, whose id and beginning stay. Returns the id. `revocable_from` is the beginning by the clock of
/// whoever may end it.
pub async fn put(tx: &mut Tx, share: &Share, revocable_from: UnixMillis) -> Result<ShareId, StoreError> {
    let (id,): (ShareId,) = tx.change_returning_row(Statement::new("insert into shares (id, user_id, direction, peer_handle, peer_user_id, resource_type, resource_id,
             encrypted_data, nonce, role, status, created_at, accepted_at, revocable_from, unverified_key)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         on conflict (user_id, direction, peer_handle, resource_type, resource_id) do update set
             encrypted_data = excluded.encrypted_data, nonce = excluded.nonce, role = excluded.role,
             status = case when shares.status = 'accepted' then shares.status else excluded.status end,
             revocable_from = excluded.revocable_from, unverified_key = excluded.unverified_key
         returning id")
        .bind(&share.id)
        .bind(&share.user_id)
        .bind(share.direction.as_str())
        .bind(share.peer_handle.as_str())
        .bind(&share.peer_user_id)
        .bind(&share.resource.kind)
        .bind(&share.resource.id)
        .bind(&share.encrypted_data)
        .bind(&share.nonce)
        .bind(share.role.as_str())
        .bind(share.status.as_str())
        .bind(share.created_at.0)
        .bind(share.accepted_at.map(|at| at.0))
        .bind(revocable_from.0)
        .bind(share.unverified_key.map(|key| key.to_base64()))).await?;
    Ok(id)
}

/// The user's shares in one direction, oldest first.
pub async fn of_user(conn: &mut Conn, user: &UserId, direction: Direction) -> Result<Vec<Share>, StoreError> {
    conn.all(
        Statement::new(select_share!("where user_id = $1 and direction = $2 order by created_at, id"))
            .bind(user)
            .bind(direction.as_str()),
    )
    .await
}

/// The user's share with this id, in this direction.
pub async fn by_id(
    conn: &mut Conn,
    user: &UserId,
    direction: Direction,
    id: &ShareId,
) -> Result<Option<Share>, StoreError> {
    conn.one(
        Statement::new(select_share!("where user_id = $1 and direction = $2 and id = $3"))
            .bind(user)
            .bind(direction.as_str())
            .bind(id),
    )
    .await
}

/// The user's share of this resource with exactly this peer.
pub async fn with_peer(
    conn: &mut Conn,
    user: &UserId,
    direction: Direction,
    peer: &Handle,
    resource: &Resource,
) -> Result<Option<Share>, StoreError> {
    conn.one(Statement::new(select_share!(
        "where user_id = $1 and direction = $2 and peer_handle = $3 and resource_type = $4 and resource_id = $5"
    ))
        .bind(user)
        .bind(direction.as_str())
        .bind(peer.as_str())
        .bind(&resource.kind)
        .bind(&resource.id)).await
}

/// Changes what is shared and the role, and nothing else: when the share began stays, as for a
/// change that the other side is not told of.
pub async fn change(
    tx: &mut Tx,
    id: &ShareId,
    encrypted_data: Option<&str>,
    nonce: Option<&str>,
    role: Role,
) -> Result<(), StoreError> {
    let update = Statement::new("update shares set encrypted_data = $2, nonce = $3, role = $4 where id = $1");
    tx.change(update.bind(id).bind(encrypted_data).bind(nonce).bind(role.as_str())).await?;
    Ok(())
}

/// The user has confirmed this key of a friend: what it signed is not marked any more.
pub async fn confirm_key(
    tx: &mut Tx,
    user: &UserId,
    peer: &Handle,
    key: &SigningKey,
) -> Result<(), StoreError> {
    let update = Statement::new(
        "update shares set unverified_key = null
         where user_id = $1 and direction = 'incoming' and peer_handle = $2 and unverified_key = $3",
    );
    tx.change(update.bind(user).bind(peer).bind(key.to_base64())).await?;
    Ok(())
}

/// Marks a share as accepted. Tells whether it was there and pending.
pub async fn accept(tx: &mut Tx, id: &ShareId, now: UnixMillis) -> Result<bool, StoreError> {
    let done = tx.change(Statement::new("update shares set status = 'accepted', accepted_at = $2 where id = $1 and status = 'pending'")
        .bind(id)
        .bind(now.0)).await?;
    Ok(done == 1)
}

/// Removes a share. Tells whether it was there.
pub async fn delete(tx: &mut Tx, id: &ShareId) -> Result<bool, StoreError> {
    let done = tx.change(Statement::new("delete from shares where id = $1").bind(id)).await?;
    Ok(done == 1)
}

/// Ends the shares in both directions with this peer that began, by the peer's clock, at or before
/// `cutoff`. Returns how many.
pub async fn end(tx: &mut Tx, user: &UserId, peer: &Handle, cutoff: UnixMillis) -> Result<u64, StoreError> {
    let delete =
        Statement::new("delete from shares where user_id = $1 and peer_handle = $2 and revocable_from <= $3");
    tx.change(delete.bind(user).bind(peer).bind(cutoff)).await
}

/// Removes every share of the user, in both directions: part of a reset.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from shares where user_id = $1").bind(user)).await
}
