//! Wrapped-key slots: the user's seed, sealed for a passkey. One a credential.

use sqlx::FromRow;
use vellum_protocol::{KmVersion, UnixMillis};

use crate::conn::{Affected, on};
use crate::row::{ROWS_A_STATEMENT, km_version};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, UserId};

/// What a client puts into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The passkey's credential, base64url.
    pub credential_id: String,
    /// The sealed seed.
    pub wrapped_km: String,
    /// How it is sealed.
    pub wrap_algo: String,
    /// The user's signature over it, which the reading client verifies.
    pub slot_signature: String,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What is in it.
    pub wrapped: Wrapped,
    /// The version of the keys whose seed it holds.
    pub km_version: KmVersion,
    /// When it was first filled.
    pub created_at: UnixMillis,
    /// When a client last said that it opened it.
    pub last_used_at: Option<UnixMillis>,
}

#[derive(FromRow)]
struct SlotRow {
    credential_id: String,
    wrapped_km: String,
    wrap_algo: String,
    slot_signature: String,
    km_version: i64,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl TryFrom<SlotRow> for Slot {
    type Error = StoreError;

    fn try_from(row: SlotRow) -> Result<Self, StoreError> {
        Ok(Self {
            wrapped: Wrapped {
                credential_id: row.credential_id,
                wrapped_km: row.wrapped_km,
                wrap_algo: row.wrap_algo,
                slot_signature: row.slot_signature,
            },
            km_version: km_version("slots.km_version", row.km_version)?,
            created_at: UnixMillis(row.created_at),
            last_used_at: row.last_used_at.map(UnixMillis),
        })
    }
}

/// The user's slots, oldest first.
pub async fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<Slot>, StoreError> {
    let select = Statement::new(
        "select credential_id, wrapped_km, wrap_algo, slot_signature, km_version, created_at, last_used_at
         from slots where user_id = $1 order by created_at, credential_id",
    );
    let rows: Vec<SlotRow> = conn.all(select.bind(user)).await?;
    rows.into_iter().map(Slot::try_from).collect()
}

/// Fills slots of different credentials, anew or again, in as few statements as can be.
pub async fn put_all(
    tx: &mut Tx,
    user: &UserId,
    filled: &[&Wrapped],
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<(), StoreError> {
    for some in filled.chunks(ROWS_A_STATEMENT) {
        let insert = Statement::with_rows(
            "insert into slots (user_id, credential_id, wrapped_km, wrap_algo, slot_signature, km_version, created_at)
             values ",
            some.iter().map(|wrapped| {
                let Wrapped { credential_id, wrapped_km, wrap_algo, slot_signature } = *wrapped;
                let (id, km) = (credential_id.into(), wrapped_km.into());
                let (algo, signature) = (wrap_algo.into(), slot_signature.into());
                [user.into(), id, km, algo, signature, sealed_under.into(), now.into()]
            }),
            " on conflict (user_id, credential_id) do update set wrapped_km = excluded.wrapped_km,
                 wrap_algo = excluded.wrap_algo, slot_signature = excluded.slot_signature,
                 km_version = excluded.km_version",
        );
        tx.change(insert).await?;
    }
    Ok(())
}

/// Notes that a client has opened the slot. Nothing happens when there is none.
pub async fn mark_used(
    tx: &mut Tx,
    user: &UserId,
    credential: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query("update slots set last_used_at = $3 where user_id = $1 and credential_id = $2")
        .bind(user).bind(credential).bind(now.0).execute(c).await.map(Affected::from))?;
    Ok(())
}

/// Empties a slot. Tells whether there was one.
pub async fn delete(tx: &mut Tx, user: &UserId, credential: &str) -> Result<bool, StoreError> {
    let done = on!(tx, c => sqlx::query("delete from slots where user_id = $1 and credential_id = $2")
        .bind(user).bind(credential).execute(c).await.map(Affected::from))?;
    Ok(done.rows_affected() == 1)
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from slots where user_id = $1").bind(user).execute(c).await.map(Affected::from))?
        .rows_affected())
}
