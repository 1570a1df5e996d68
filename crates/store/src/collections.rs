//! Collections: opaque metadata that the client seals. The empty text is what a client posts before it knows
//! the collection's id; nothing is sealed in that.

use crate::conn::on;
use crate::{Conn, StoreError, Tx, UserId};

/// Whether the user has anything here that is sealed under the present keys.
pub async fn any_sealed(conn: &mut Conn, user: &UserId) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on!(conn, c => sqlx::query_as(
        "select 1 from collections where user_id = $1 and metadata_encrypted <> '' limit 1"
    )
    .bind(user).fetch_optional(c).await)?;
    Ok(row.is_some())
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from collections where user_id = $1").bind(user).execute(c).await)?
        .rows_affected())
}
