//! Leases that lost their row while an attempt was under way: the row was signed anew, or taken back by a reset.
//! The attempt's outcome counts no more, but it may still be sending, and whoever removes the row has to have it
//! stopped. A node knows its own attempts; this is where nodes on one database find each other's, so on SQLite
//! there is nothing to keep.

use vellum_protocol::UnixMillis;

use crate::outbox::Lease;
use crate::statement::Statement;
use crate::{OutboxId, StoreError, Tx, UserId};

/// Notes the leases of rows that are about to lose them: all of the user's, or only the one for this peer, type
/// and subject.
pub(crate) async fn note(
    tx: &mut Tx,
    user: &UserId,
    row: Option<(&str, &str, &str)>,
) -> Result<(), StoreError> {
    if tx.is_sqlite() {
        return Ok(());
    }
    let (peer, message_type, subject) = row.unwrap_or_default();
    let insert = Statement::new(
        "insert into displaced_leases (outbox_id, holder, until)
         select id, lease_holder, lease_until from outbox
         where user_id = $1 and lease_holder is not null
           and ($2 = '' or (peer_handle = $2 and message_type = $3 and subject = $4))
         on conflict (outbox_id, holder) do update set until = excluded.until",
    );
    tx.change(insert.bind(user).bind(peer).bind(message_type).bind(subject)).await.map(drop)
}

/// Notes the leases that end later than `latest`, by a clock that was wrong. They count until `over`.
pub(crate) async fn note_beyond(tx: &mut Tx, latest: UnixMillis, over: UnixMillis) -> Result<(), StoreError> {
    if tx.is_sqlite() {
        return Ok(());
    }
    let insert = Statement::new(
        "insert into displaced_leases (outbox_id, holder, until)
         select id, lease_holder, $2 from outbox where lease_until is not null and lease_until > $1
         on conflict (outbox_id, holder) do update set until = excluded.until",
    );
    tx.change(insert.bind(latest).bind(over)).await.map(drop)
}

/// Forgets the displaced leases of a row that was removed, and returns them.
pub(crate) async fn take(tx: &mut Tx, row: &OutboxId) -> Result<Vec<Lease>, StoreError> {
    let delete =
        Statement::new("delete from displaced_leases where outbox_id = $1 returning holder, until").bind(row);
    if tx.is_sqlite() { Ok(Vec::new()) } else { tx.change_returning(delete).await }
}

/// Forgets those whose token begins with `prefix`: their holder has stopped every attempt, or is
/// known to be gone.
pub(crate) async fn release(tx: &mut Tx, prefix: &str) -> Result<(), StoreError> {
    let delete = Statement::new("delete from displaced_leases where substr(holder, 1, length($1)) = $1");
    if tx.is_sqlite() { Ok(()) } else { tx.change(delete.bind(prefix)).await.map(drop) }
}

/// Forgets those that are over. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    let delete = Statement::new("delete from displaced_leases where until <= $1").bind(now);
    if tx.is_sqlite() { Ok(0) } else { tx.change(delete).await }
}
