//! A user's present keys with what is bound to them, over all tables.

use vellum_protocol::KmVersion;

use crate::row::{Columns, FromRow};
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

impl FromRow for BoundToKeys {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            keys: users::keys(columns)?,
            km_version: columns.field("users.km_version")?,
            key_generation: columns.field("users.key_generation")?,
            anything_sealed: columns.field("sealed")?,
        })
    }
}

/// Reads all of it in one statement. `None` where there is no such user.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Option<BoundToKeys>, StoreError> {
    let look = Statement::new(
        "select signing_key, encryption_key, km_version, key_generation,
                cast(case when exists (select 1 from blobs where user_id = $1)
                            or exists (select 1 from collections where user_id = $1 and metadata_encrypted <> '')
                            or exists (select 1 from slots where user_id = $1) then 1 else 0 end as bigint) as sealed
         from users where id = $1",
    );
    conn.one(look.bind(user)).await
}
