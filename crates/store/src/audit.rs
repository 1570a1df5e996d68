//! The audit trail: who changed what of an identity, when, and from where. Rows are only ever added, and
//! they survive a reset.

use vellum_protocol::UnixMillis;

use crate::row::columns;
use crate::statement::Statement;
use crate::{AuditId, Conn, SessionId, StoreError, Tx, UserId};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The row's name.
    pub id: AuditId,
    /// When.
    pub at: UnixMillis,
    /// What, as a fixed word.
    pub event: String,
    /// From which session; `None` for what nobody's session did.
    pub session_id: Option<SessionId>,
    /// From which address.
    pub ip: Option<String>,
}

columns!("audit": Entry { id, at, event, session_id, ip });

/// Adds a row. It is part of the change's own transaction: either both are there or neither.
pub async fn append(tx: &mut Tx, user: &UserId, entry: &Entry) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into audit (id, user_id, at, event, session_id, ip) values ($1, $2, $3, $4, $5, $6)",
    );
    let insert = insert.bind(&entry.id).bind(user).bind(entry.at).bind(&entry.event);
    tx.change(insert.bind(entry.session_id.as_ref().map(SessionId::as_str)).bind(entry.ip.as_deref()))
        .await?;
    Ok(())
}

/// A page of the user's trail, newest first.
pub async fn page(conn: &mut Conn, user: &UserId, limit: u32, offset: u32) -> Result<Vec<Entry>, StoreError> {
    let select = Statement::new(
        "select id, at, event, session_id, ip from audit where user_id = $1
         order by at desc, id desc limit $2 offset $3",
    );
    conn.all(select.bind(user).bind(limit).bind(offset)).await
}

/// How many rows the user's trail has.
pub async fn count(conn: &mut Conn, user: &UserId) -> Result<u64, StoreError> {
    let (count,) =
        conn.row(Statement::new("select count(*) from audit where user_id = $1").bind(user)).await?;
    Ok(count)
}
