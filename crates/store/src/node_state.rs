//! A few numbers that the processes on one database share.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// Whether deliveries are paused as a whole.
pub async fn deliveries_paused(conn: &mut Conn) -> Result<bool, StoreError> {
    Ok(value(conn, "deliveries_paused").await? != 0)
}

/// Pauses deliveries as a whole, or lets them go on.
pub async fn pause_deliveries(tx: &mut Tx, paused: bool) -> Result<(), StoreError> {
    tx.change(
        Statement::new("update node_state set value = $1 where name = 'deliveries_paused'")
            .bind(i64::from(paused)),
    )
    .await?;
    Ok(())
}

/// How many decisions operators have made: running nodes see by it that there is a new one.
pub async fn operator_changes(conn: &mut Conn) -> Result<i64, StoreError> {
    value(conn, "operator_changes").await
}

/// Tells running nodes that an operator has decided something.
pub async fn note_operator_change(tx: &mut Tx) -> Result<(), StoreError> {
    tx.change(Statement::new("update node_state set value = value + 1 where name = 'operator_changes'"))
        .await?;
    Ok(())
}

async fn value(conn: &mut Conn, name: &str) -> Result<i64, StoreError> {
    let (value,): (i64,) =
        conn.row(Statement::new("select value from node_state where name = $1").bind(name)).await?;
    Ok(value)
}

/// Leaves nothing behind, but writes to the disk. (An update to the same value would not:
/// SQLite writes no page for it.) On PostgreSQL every transaction leaves a mark, which is a change.
pub(crate) async fn write_and_remove(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.is_sqlite() {
        tx.change(Statement::new("insert into node_state (name, value) values ('write_check', 0)")).await?;
        tx.change(Statement::new("delete from node_state where name = 'write_check'")).await?;
    }
    Ok(())
}

/// When the database was found to come from a backup; `None` when it was not.
pub async fn restored_at(conn: &mut Conn) -> Result<Option<UnixMillis>, StoreError> {
    Ok(Some(value(conn, "restored_at").await?).filter(|at| *at != 0).map(UnixMillis))
}

/// Notes that the database was found to come from a backup.
pub async fn note_restored(tx: &mut Tx, now: UnixMillis) -> Result<(), StoreError> {
    tx.change(Statement::new("update node_state set value = $1 where name = 'restored_at'").bind(now.0))
        .await?;
    Ok(())
}
