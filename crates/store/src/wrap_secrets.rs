//! Device wrap secrets: what a device derives the key from that seals the seed on it.

use crate::conn::on;
use crate::{StoreError, Tx, UserId};

/// Removes every wrap secret of the user: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from wrap_secrets where user_id = $1").bind(user).execute(c).await)?
        .rows_affected())
}
