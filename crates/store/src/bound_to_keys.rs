//! A user's present keys with what is bound to them, over all tables.

use sqlx::FromRow;
use vellum_protocol::KmVersion;

use crate::row::{columns, km_version};
use crate::statement::Statement;
use crate::users::{self, KeyGeneration, Keys};
use crate::{Conn, StoreError, UserId};

/// What a change of keys begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundToKeys {
    /// The keys, once registered.
    pub keys: Option<Keys>,
    /// Their version.
    pub km_version: KmVersion,
    /// How often they were changed.
    pub key_generation: KeyGeneration,
    /// Whether there is anything that nobody could read without them: blobs, metadata of collections, slots.
    pub anything_sealed: bool,
}

#[derive(FromRow)]
struct BoundRow {
    signing_key: Option<String>,
    encryption_key: Option<String>,
    km_version: i64,
    key_generation: i64,
    sealed: i64,
}

columns!(BoundRow { signing_key, encryption_key, km_version, key_generation, sealed });

/// Looks at all of it at once: each statement is a trip to the connection's thread. `None` where there is no such user.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Option<BoundToKeys>, StoreError> {
    let look = Statement::new(
        "select signing_key, encryption_key, km_version, key_generation,
                cast(case when exists (select 1 from blobs where user_id = $1)
                            or exists (select 1 from collections where user_id = $1 and metadata_encrypted <> '')
                            or exists (select 1 from slots where user_id = $1) then 1 else 0 end as bigint) as sealed
         from users where id = $1",
    );
    let Some(row) = conn.one::<BoundRow>(look.bind(user)).await? else { return Ok(None) };
    Ok(Some(BoundToKeys {
        keys: users::keys(row.signing_key.as_deref(), row.encryption_key.as_deref())?,
        km_version: km_version("users.km_version", row.km_version)?,
        key_generation: KeyGeneration(row.key_generation),
        anything_sealed: row.sealed != 0,
    }))
}
