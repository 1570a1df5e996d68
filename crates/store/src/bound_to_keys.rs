//! What is bound to a user's present keys, over all tables: what is sealed under them, and what they have signed.

use crate::statement::Statement;
use crate::{Conn, StoreError, UserId};

/// What a change of keys has to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundToKeys {
    /// Whether there is anything that nobody could read without the present keys: blobs, metadata of collections, slots.
    pub anything_sealed: bool,
    /// Whether anything waits in the outbox that they have signed or are to sign.
    pub anything_queued: bool,
}

/// Looks at all of it at once: each statement is a trip to the connection's thread.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<BoundToKeys, StoreError> {
    let look = Statement::new(
        "select cast(case when exists (select 1 from blobs where user_id = $1)
                            or exists (select 1 from collections where user_id = $1 and metadata_encrypted <> '')
                            or exists (select 1 from slots where user_id = $1) then 1 else 0 end as bigint),
                cast(case when exists (select 1 from outbox where user_id = $1) then 1 else 0 end as bigint)",
    );
    let (sealed, queued): (i64, i64) = conn.one(look.bind(user)).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(BoundToKeys { anything_sealed: sealed != 0, anything_queued: queued != 0 })
}
