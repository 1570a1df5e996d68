//! Leases that lost their row while an attempt was under way: the row was signed anew, or taken back by a reset.
//! The attempt's outcome counts no more, but it may still be sending, and whoever removes the row has to have it
//! stopped. A node knows its own attempts; this is where nodes on one database find each other's, so on SQLite
//! there is nothing to keep.

use vellum_protocol::UnixMillis;

use crate::outbox::Lease;
use crate::{OutboxId, StoreError, Tx, UserId};

/// Notes the leases of rows that are about to lose them: all of the user's, or only the one for this peer, type
/// and subject.
pub(crate) async fn note(
    tx: &mut Tx,
    user: &UserId,
    row: Option<(&str, &str, &str)>,
) -> Result<(), StoreError> {
    let Some(connection) = tx.as_postgres() else { return Ok(()) };
    let (peer, message_type, subject) = row.unwrap_or_default();
    sqlx::query(
        "insert into displaced_leases (outbox_id, holder, until)
         select id, lease_holder, lease_until from outbox
         where user_id = $1 and lease_holder is not null
           and ($2 = '' or (peer_handle = $2 and message_type = $3 and subject = $4))
         on conflict (outbox_id, holder) do update set until = excluded.until",
    )
    .bind(user)
    .bind(peer)
    .bind(message_type)
    .bind(subject)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the leases that end later than `latest`, by a clock that was wrong. They count until `over`.
pub(crate) async fn note_beyond(tx: &mut Tx, latest: UnixMillis, over: UnixMillis) -> Result<(), StoreError> {
    let Some(connection) = tx.as_postgres() else { return Ok(()) };
    sqlx::query(
        "insert into displaced_leases (outbox_id, holder, until)
         select id, lease_holder, $2 from outbox where lease_until is not null and lease_until > $1
         on conflict (outbox_id, holder) do update set until = excluded.until",
    )
    .bind(latest.0)
    .bind(over.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the displaced leases of a row that was removed, and returns them.
pub(crate) async fn take(tx: &mut Tx, row: &OutboxId) -> Result<Vec<Lease>, StoreError> {
    let Some(connection) = tx.as_postgres() else { return Ok(Vec::new()) };
    let leases: Vec<(String, i64)> =
        sqlx::query_as("delete from displaced_leases where outbox_id = $1 returning holder, until")
            .bind(row)
            .fetch_all(connection)
            .await?;
    Ok(leases.into_iter().map(|(holder, until)| Lease { holder, until: UnixMillis(until) }).collect())
}

/// Forgets those whose word begins with `prefix`: their holder has stopped every attempt, or is known to be gone.
pub(crate) async fn release(tx: &mut Tx, prefix: &str) -> Result<(), StoreError> {
    let Some(connection) = tx.as_postgres() else { return Ok(()) };
    sqlx::query("delete from displaced_leases where substr(holder, 1, length($1)) = $1")
        .bind(prefix)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets those that are over. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    let Some(connection) = tx.as_postgres() else { return Ok(0) };
    let done =
        sqlx::query("delete from displaced_leases where until <= $1").bind(now.0).execute(connection).await?;
    Ok(done.rows_affected())
}
