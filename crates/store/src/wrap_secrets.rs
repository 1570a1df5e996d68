//! Device wrap secrets: what a device derives the key from that seals the seed on it. They are stored
//! encrypted with a key that is not in the database; this module sees only that form.

use vellum_protocol::UnixMillis;

use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, SessionId, StoreError, Tx, UserId};

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Whose.
    pub user_id: UserId,
    /// Which device's.
    pub device_id: String,
    /// Nonce and ciphertext.
    pub sealed_secret: Vec<u8>,
    /// Which key it is encrypted with.
    pub key_id: String,
}

columns!("wrap_secrets": SealedSecret { user_id, device_id, sealed_secret, key_id });

/// A device that has a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub id: String,
    /// When its secret was first made.
    pub created_at: UnixMillis,
    /// When it last read its secret, to a day; `None` for never since that is noted.
    pub last_used_at: Option<UnixMillis>,
}

columns!("wrap_secrets": Device { id: device_id, created_at, last_used_at });

/// The user's devices, oldest first.
pub async fn devices_of(conn: &mut Conn, user: &UserId) -> Result<Vec<Device>, StoreError> {
    let select = Statement::new(
        "select device_id, created_at, last_used_at from wrap_secrets where user_id = $1
         order by created_at, device_id",
    );
    conn.all(select.bind(user)).await
}

/// Whether it is noted that the device has read its secret between `since` and `until`, and that this
/// session is on it.
pub async fn is_use_noted(
    conn: &mut Conn,
    user: &UserId,
    device: &str,
    session: Option<&SessionId>,
    since: UnixMillis,
    until: UnixMillis,
) -> Result<bool, StoreError> {
    let select = Statement::new(
        "select w.device_id, w.created_at, w.last_used_at from wrap_secrets w
         where w.user_id = $1 and w.device_id = $2 and w.last_used_at > $3 and w.last_used_at <= $5
           and not exists
             (select 1 from sessions s where s.id = $4 and coalesce(s.device_id, '') <> w.device_id)",
    );
    let select = select.bind(user).bind(device).bind(since).bind(session.map(SessionId::as_str)).bind(until);
    let found: Option<Device> = conn.one(select).await?;
    Ok(found.is_some())
}

/// Notes that the device has read its secret.
pub async fn note_use(tx: &mut Tx, user: &UserId, device: &str, now: UnixMillis) -> Result<(), StoreError> {
    let update =
        Statement::new("update wrap_secrets set last_used_at = $3 where user_id = $1 and device_id = $2");
    tx.change(update.bind(user).bind(device).bind(now)).await?;
    Ok(())
}

/// Removes a device's secret. Tells whether there was one.
pub async fn delete(tx: &mut Tx, user: &UserId, device: &str) -> Result<bool, StoreError> {
    let delete = Statement::new("delete from wrap_secrets where user_id = $1 and device_id = $2");
    Ok(tx.change(delete.bind(user).bind(device)).await? == 1)
}

/// The secret of one device.
pub async fn find(conn: &mut Conn, user: &UserId, device: &str) -> Result<Option<SealedSecret>, StoreError> {
    conn.one(Statement::new("select user_id, device_id, sealed_secret, key_id from wrap_secrets where user_id = $1 and device_id = $2")
        .bind(user)
        .bind(device)).await
}

/// Every secret of the user, by device.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<SealedSecret>, StoreError> {
    conn.all(Statement::new("select user_id, device_id, sealed_secret, key_id from wrap_secrets where user_id = $1 order by device_id")
        .bind(user)).await
}

/// Every secret of the node that is not encrypted with this key.
pub async fn not_under(conn: &mut Conn, key_id: &str) -> Result<Vec<SealedSecret>, StoreError> {
    conn.all(
        Statement::new(
            "select user_id, device_id, sealed_secret, key_id from wrap_secrets where key_id <> $1",
        )
        .bind(key_id),
    )
    .await
}

/// How many devices of the user have a secret.
pub async fn count(conn: &mut Conn, user: &UserId) -> Result<u64, StoreError> {
    let (count,) =
        conn.row(Statement::new("select count(*) from wrap_secrets where user_id = $1").bind(user)).await?;
    Ok(count)
}

/// Stores a secret; one that is there for the device is replaced.
pub async fn put(tx: &mut Tx, secret: &SealedSecret, now: UnixMillis) -> Result<(), StoreError> {
    tx.change(Statement::new("insert into wrap_secrets (user_id, device_id, sealed_secret, key_id, created_at) values ($1, $2, $3, $4, $5)
         on conflict (user_id, device_id) do update set sealed_secret = excluded.sealed_secret,
             key_id = excluded.key_id")
        .bind(&secret.user_id)
        .bind(&secret.device_id)
        .bind(secret.sealed_secret.as_slice())
        .bind(&secret.key_id)
        .bind(now.0)).await?;
    Ok(())
}

/// Removes every wrap secret of the user: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from wrap_secrets where user_id = $1").bind(user)).await
}
