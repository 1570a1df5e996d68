//! Wrapped-key slots: the user's seed, sealed for a passkey.

use crate::conn::on;
use crate::{Conn, StoreError, Tx, UserId};

/// Whether the user has anything here that is sealed under the present keys.
pub async fn any_sealed(conn: &mut Conn, user: &UserId) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on!(conn, c => sqlx::query_as(
        "select 1 from slots where user_id = $1 limit 1"
    )
    .bind(user).fetch_optional(c).await)?;
    Ok(row.is_some())
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from slots where user_id = $1").bind(user).execute(c).await)?
        .rows_affected())
}
