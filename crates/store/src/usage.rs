//! How much each user stores, over all tables.
//!
//! Counted anew each time, not kept beside the rows: an older node that writes to the same database
//! would not keep it. `octet_length` takes the length of a text from the head of its row, on
//! SQLite, or from the pointer to where it is kept, on PostgreSQL. So this reads no ciphertext:
//! 3 ms, in a build for debugging, for a user with 200 blobs of 300 kB and 2,000 shares.

use sqlx::FromRow;

use crate::statement::Statement;
use crate::{Conn, StoreError, UserId};

/// What a user stores, or may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of sealed data: of blobs, of metadata of collections, of slots, and of what the user
    /// shares.
    pub bytes: u64,
    /// Types of blobs.
    pub blobs: u64,
    /// Collections.
    pub collections: u64,
    /// Slots.
    pub slots: u64,
    /// Shares that the user has made.
    pub shares: u64,
}

#[derive(FromRow)]
struct UsageRow {
    bytes: i64,
    blobs: i64,
    collections: i64,
    slots: i64,
    shares: i64,
}

/// What the user stores.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Usage, StoreError> {
    let count = Statement::new(
        "select cast(b.bytes + c.bytes + s.bytes + h.bytes as bigint) as bytes,
                b.items as blobs, c.items as collections, s.items as slots, h.items as shares
         from (select count(*) as items, coalesce(sum(octet_length(encrypted_blob)), 0) as bytes
               from blobs where user_id = $1) as b,
              (select count(*) as items, coalesce(sum(octet_length(metadata_encrypted)), 0) as bytes
               from collections where user_id = $1) as c,
              (select count(*) as items, coalesce(sum(octet_length(wrapped_km)), 0) as bytes
               from slots where user_id = $1) as s,
              (select count(*) as items, coalesce(sum(octet_length(encrypted_data)), 0) as bytes
               from shares where user_id = $1 and direction = 'outgoing') as h",
    );
    let row: Option<UsageRow> = conn.one(count.bind(user)).await?;
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(row.map_or_else(Usage::default, |row| Usage {
        bytes: number(row.bytes),
        blobs: number(row.blobs),
        collections: number(row.collections),
        slots: number(row.slots),
        shares: number(row.shares),
    }))
}
