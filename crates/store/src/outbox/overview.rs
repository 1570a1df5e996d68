//! The outbox as operators see it: what waits, for whom, since when; and what they may do about it.

use vellum_protocol::UnixMillis;

use super::{Removed, RemovedRow, State};
use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, OutboxId, StoreError, Tx, UserId};

/// A row, without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// Its name.
    pub id: OutboxId,
    /// Whose message it is.
    pub user_id: UserId,
    /// Whom it is for.
    pub peer_handle: String,
    /// The recipient's node, in lower case.
    pub peer_domain: String,
    /// What it is: the protocol's word.
    pub message_type: String,
    /// Where it stands.
    pub state: State,
    /// Attempts with the present signature.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// Since when it is there.
    pub created_at: UnixMillis,
    /// When the last attempt was made.
    pub last_attempt_at: Option<UnixMillis>,
    /// When the next one is due, as far as the row itself is concerned.
    pub next_attempt_at: Option<UnixMillis>,
    /// When the peer stops taking it.
    pub expires_at: Option<UnixMillis>,
}

columns!("outbox": QueueRow {
    id,
    user_id,
    peer_handle,
    peer_domain,
    message_type,
    state,
    attempts,
    last_error,
    created_at,
    last_attempt_at,
    next_attempt_at,
    expires_at
});

/// Which rows are meant; what is `None` does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// One row.
    pub id: Option<OutboxId>,
    /// Rows for one node, in lower case.
    pub peer_domain: Option<String>,
    /// Rows in one state.
    pub state: Option<State>,
}

/// The rows of a selection, oldest first, `limit` of them from `offset` on.
pub async fn rows(
    conn: &mut Conn,
    wanted: &Selection,
    limit: u32,
    offset: u32,
) -> Result<Vec<QueueRow>, StoreError> {
    conn.all(Statement::new("select id, user_id, peer_handle, peer_domain, message_type, state, attempts, last_error, created_at,
             last_attempt_at, next_attempt_at, expires_at
         from outbox where ($1 = '' or id = $1) and ($2 = '' or peer_domain = $2) and ($3 = '' or state = $3)
         order by created_at, id limit $4 offset $5")
        .bind(wanted.id.as_ref().map_or("", OutboxId::as_str))
        .bind(wanted.peer_domain.as_deref().unwrap_or_default())
        .bind(wanted.state.map_or("", State::as_str))
        .bind(i64::from(limit))
        .bind(i64::from(offset))).await
}

/// How many rows a selection has.
pub async fn count(conn: &mut Conn, wanted: &Selection) -> Result<u64, StoreError> {
    let select = Statement::new(
        "select count(*) from outbox
         where ($1 = '' or id = $1) and ($2 = '' or peer_domain = $2) and ($3 = '' or state = $3)",
    );
    let select = select
        .bind(wanted.id.as_ref().map_or("", OutboxId::as_str))
        .bind(wanted.peer_domain.as_deref().unwrap_or_default())
        .bind(wanted.state.map_or("", State::as_str));
    let (count,) = conn.row(select).await?;
    Ok(count)
}

/// How many rows there are in a state, and since when the oldest is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The state.
    pub state: State,
    /// How many rows.
    pub rows: u64,
    /// When the oldest was made.
    pub oldest: UnixMillis,
}

columns!("outbox": Depth { state, rows, oldest });

/// The depth of every state that any row is in.
pub async fn depths(conn: &mut Conn) -> Result<Vec<Depth>, StoreError> {
    let select =
        "select state, count(*) as rows, min(created_at) as oldest from outbox group by state order by state";
    conn.all(Statement::new(select)).await
}

/// Makes the queued rows of a selection due at once, and lets their peers be tried. Returns how many rows.
pub async fn retry_now(tx: &mut Tx, wanted: &Selection, now: UnixMillis) -> Result<u64, StoreError> {
    let id = wanted.id.as_ref().map_or("", OutboxId::as_str);
    let domain = wanted.peer_domain.as_deref().unwrap_or_default();
    tx.change(Statement::new("update peers set retry_at = 0, pause_until = 0 where (retry_at > $3 or pause_until > $3) and domain in (
             select peer_domain from outbox
             where state = 'queued' and ($1 = '' or id = $1) and ($2 = '' or peer_domain = $2))")
        .bind(id)
        .bind(domain)
        .bind(now.0)).await?;
    tx.change(
        Statement::new(
            "update outbox set next_attempt_at = $3
         where state = 'queued' and ($1 = '' or id = $1) and ($2 = '' or peer_domain = $2)",
        )
        .bind(id)
        .bind(domain)
        .bind(now.0),
    )
    .await
}

/// Removes one row, whatever its state, and returns it.
pub async fn remove(tx: &mut Tx, id: &OutboxId) -> Result<Option<Removed>, StoreError> {
    let row: Option<RemovedRow> = tx
        .change_returning(
            Statement::new("delete from outbox where id = $1 returning id, lease_holder, lease_until")
                .bind(id),
        )
        .await
        .map(|mut rows| rows.pop())?;
    super::removed(tx, row).await
}
