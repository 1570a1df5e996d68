//! One-time codes for signing in: one per e-mail address, hashed, with a few tries.

use vellum_protocol::UnixMillis;

use crate::conn::{Affected, on};
use crate::statement::Statement;
use crate::{StoreError, Tx};

/// The keyed hash of a code.
pub type CodeHash = [u8; 32];

/// Stores a code for an address; one that was there is replaced and no longer works.
pub async fn replace(
    tx: &mut Tx,
    email_folded: &str,
    code: &CodeHash,
    tries: u32,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query(
        "insert into one_time_codes (email_folded, code_hash, tries_left, created_at, expires_at)
         values ($1, $2, $3, $4, $5)
         on conflict (email_folded) do update set code_hash = excluded.code_hash,
             tries_left = excluded.tries_left, created_at = excluded.created_at, expires_at = excluded.expires_at"
    )
    .bind(email_folded)
    .bind(code.as_slice())
    .bind(i64::from(tries))
    .bind(now.0)
    .bind(until.0)
    .execute(c).await.map(Affected::from))?;
    Ok(())
}

/// Uses up one try and returns the stored hash to compare with; `None` when there is no code, it is over
/// its time, or no try is left. The try must be committed even when the comparison fails.
pub async fn spend_try(
    tx: &mut Tx,
    email_folded: &str,
    now: UnixMillis,
) -> Result<Option<CodeHash>, StoreError> {
    let update = Statement::new(
        "update one_time_codes set tries_left = tries_left - 1
         where email_folded = $1 and expires_at > $2 and tries_left > 0 returning code_hash",
    );
    let row: Option<(Vec<u8>,)> = tx.change_returning(update.bind(email_folded).bind(now)).await?.pop();
    Ok(row.and_then(|(hash,)| hash.try_into().ok()))
}

/// Removes the code of an address: it was used.
pub async fn delete(tx: &mut Tx, email_folded: &str) -> Result<(), StoreError> {
    tx.change(Statement::new("delete from one_time_codes where email_folded = $1").bind(email_folded))
        .await?;
    Ok(())
}

/// Forgets codes that are over their time. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from one_time_codes where expires_at <= $1").bind(now.0).execute(c).await.map(Affected::from))?
        .rows_affected())
}
