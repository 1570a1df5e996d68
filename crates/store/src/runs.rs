//! The last run of each data folder that has worked on the database. A file in the folder names the
//! same run; a database that was put back from a backup does not know the folder's last run.

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// The name of every run in a backup, until a node has noticed that the database was put back.
pub const BACKUP: &str = "backup";
/// The name of those runs from then on.
pub const RESTORED: &str = "restored";

/// The last run of a data folder that this database knows of.
pub async fn of_folder(conn: &mut Conn, folder: &str) -> Result<Option<String>, StoreError> {
    let row: Option<(String,)> =
        conn.one(Statement::new("select epoch from epochs where folder = $1").bind(folder)).await?;
    Ok(row.map(|(run,)| run))
}

/// Whether any folder has worked on this database.
pub async fn any(conn: &mut Conn) -> Result<bool, StoreError> {
    let row: Option<(String,)> = conn.one(Statement::new("select folder from epochs limit 1")).await?;
    Ok(row.is_some())
}

/// Whether the database was put back from a backup, and no node has noticed yet.
pub async fn any_from_backup(conn: &mut Conn) -> Result<bool, StoreError> {
    let select = Statement::new("select folder from epochs where epoch = $1 limit 1").bind(BACKUP);
    let row: Option<(String,)> = conn.one(select).await?;
    Ok(row.is_some())
}

/// Notes that the database was put back from a backup.
pub async fn note_restored(tx: &mut Tx) -> Result<(), StoreError> {
    let update = Statement::new("update epochs set epoch = $1 where epoch = $2");
    tx.change(update.bind(RESTORED).bind(BACKUP)).await?;
    Ok(())
}

/// Notes a folder's run.
pub async fn set(tx: &mut Tx, folder: &str, run: &str) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "insert into epochs (folder, epoch) values ($1, $2)
         on conflict (folder) do update set epoch = excluded.epoch",
        )
        .bind(folder)
        .bind(run),
    )
    .await?;
    Ok(())
}
