//! Wrapped-key slots: the user's seed, sealed for a passkey. One a credential.

use vellum_protocol::{KmVersion, UnixMillis};

use crate::row::{ROWS_A_STATEMENT, columns};
use crate::statement::{Statement, Value};
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

columns!("slots": Wrapped { credential_id, wrapped_km, wrap_algo, slot_signature });
columns!("slots": Slot { ..wrapped, km_version, created_at, last_used_at });

/// The user's slots, oldest first.
pub async fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<Slot>, StoreError> {
    let select = Statement::new(
        "select credential_id, wrapped_km, wrap_algo, slot_signature, km_version, created_at, last_used_at
         from slots where user_id = $1 order by created_at, credential_id",
    );
    conn.all(select.bind(user)).await
}

const FILL: &str = "insert into slots (user_id, credential_id, wrapped_km, wrap_algo, slot_signature, km_version, created_at)";
const OR_REFILL: &str =
    " on conflict (user_id, credential_id) do update set wrapped_km = excluded.wrapped_km,
         wrap_algo = excluded.wrap_algo, slot_signature = excluded.slot_signature, km_version = excluded.km_version";

/// The values of a row to be filled.
fn filled(user: &UserId, wrapped: &Wrapped, sealed_under: KmVersion, now: UnixMillis) -> [Value; 7] {
    let Wrapped { credential_id, wrapped_km, wrap_algo, slot_signature } = wrapped;
    let (id, km, algo) = (credential_id.into(), wrapped_km.into(), wrap_algo.into());
    [user.into(), id, km, algo, slot_signature.into(), sealed_under.into(), now.into()]
}

/// Fills a slot, anew or again.
pub async fn put(
    tx: &mut Tx,
    user: &UserId,
    wrapped: &Wrapped,
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let row = std::iter::once(filled(user, wrapped, sealed_under, now));
    tx.change(Statement::with_rows(&format!("{FILL} values "), row, OR_REFILL)).await?;
    Ok(())
}

/// Fills the slots of those credentials that are the user's passkeys, in as few statements as can be. Gives their ids.
pub async fn put_all(
    tx: &mut Tx,
    user: &UserId,
    all: &[Wrapped],
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<Vec<String>, StoreError> {
    let mut ids = Vec::with_capacity(all.len());
    for some in all.chunks(ROWS_A_STATEMENT) {
        let insert = Statement::with_rows(
            &format!("{FILL} select given.* from (values "),
            some.iter().map(|wrapped| filled(user, wrapped, sealed_under, now)),
            &format!(
                ") as given where exists (
                     select 1 from passkeys p where p.user_id = given.column1 and p.credential_id = given.column2)
                 {OR_REFILL} returning credential_id"
            ),
        );
        let rows: Vec<(String,)> = tx.change_returning(insert).await?;
        ids.extend(rows.into_iter().map(|(id,)| id));
    }
    Ok(ids)
}

/// Notes that a client has opened the slot. Nothing happens when there is none.
pub async fn mark_used(
    tx: &mut Tx,
    user: &UserId,
    credential: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new("update slots set last_used_at = $3 where user_id = $1 and credential_id = $2")
            .bind(user)
            .bind(credential)
            .bind(now.0),
    )
    .await?;
    Ok(())
}

/// Empties a slot. Tells whether there was one.
pub async fn delete(tx: &mut Tx, user: &UserId, credential: &str) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("delete from slots where user_id = $1 and credential_id = $2")
                .bind(user)
                .bind(credential),
        )
        .await?;
    Ok(done == 1)
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from slots where user_id = $1").bind(user)).await
}
