//! Shares: which resources a user has opened to somebody, and which were opened to the user. The payload
//! is ciphertext; the node looks only at who shares with whom, and since when.

use vellum_protocol::{Handle, UnixMillis};

use crate::conn::on;
use crate::{StoreError, Tx, UserId};

/// Ends the shares in both directions with this peer that were made at or before `cutoff`. Returns how
/// many.
pub async fn end(tx: &mut Tx, user: &UserId, peer: &Handle, cutoff: UnixMillis) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from shares where user_id = $1 and peer_handle = $2 and created_at <= $3")
        .bind(user).bind(peer.as_str()).bind(cutoff.0).execute(c).await)?
        .rows_affected())
}

/// Removes every share of the user, in both directions: part of a reset.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from shares where user_id = $1").bind(user).execute(c).await)?
        .rows_affected())
}
