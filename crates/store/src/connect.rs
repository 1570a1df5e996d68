//! Single connections to a database, for commands and checks; a node at work has pools.

use std::future::ready;
use std::path::PathBuf;

use rusqlite::Connection;
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Handle;

use crate::conn::{Conn, EngineConn, PgConn, Tx};
use crate::pool::Pool;
use crate::{StoreError, postgres, sqlite};

/// Whether an address is one of PostgreSQL.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The file that a database address names; `None` for a database that is no file.
pub(crate) fn file(url: &str) -> Result<Option<PathBuf>, StoreError> {
    if is_postgres(url) { Ok(None) } else { sqlite::file(url).map(Some) }
}

/// Names the database at `url` for people: the file, or the server's database without user and
/// password.
pub(crate) fn place(url: &str) -> String {
    if is_postgres(url) {
        return postgres::place(url);
    }
    let file = sqlite::file(url)
        .and_then(|file| std::path::absolute(file).map_err(|error| StoreError::Address(error.to_string())));
    file.map_or_else(|error| error.to_string(), |file| file.display().to_string())
}

/// Opens the database at `url` to read it; `None` for a file that is not there.
pub(crate) async fn to_read(url: &str) -> Result<Option<Conn>, StoreError> {
    let engine = match file(url)? {
        Some(path) if !path.exists() => return Ok(None),
        Some(path) => to_sqlite(sqlite::open_unchanged(&path).map_err(StoreError::opening(&path))).await?,
        None => to_postgres(url).await?,
    };
    Ok(Some(Conn::new(engine)))
}

/// Opens the database at `url` to change it. Each statement is a transaction of its own until one
/// is begun.
pub(crate) async fn to_change(url: &str) -> Result<Tx, StoreError> {
    Ok(Tx::new(match file(url)? {
        Some(path) => to_sqlite(sqlite::open_to_change(&path).map_err(StoreError::opening(&path))).await?,
        None => to_postgres(url).await?,
    }))
}

async fn to_sqlite(opened: Result<Connection, StoreError>) -> Result<EngineConn, StoreError> {
    Ok(EngineConn::Sqlite(Pool::new(1).check_out(ready(opened)).await?))
}

async fn to_postgres(url: &str) -> Result<EngineConn, StoreError> {
    // By this name it is told from a node at work.
    let options = postgres::options(url)?.application_name("vellum-command");
    let connecting = async { Ok(PgConnection::connect_with(&options).await?) };
    Ok(EngineConn::Postgres(PgConn::of_transaction(Pool::new(1).check_out(connecting).await?)))
}

/// Runs `work` on a thread that it may keep busy with SQLite. It goes on if the caller stops
/// waiting.
pub(crate) async fn blocking<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>>,
{
    let runtime = Handle::current();
    let ended = tokio::task::spawn_blocking(move || runtime.block_on(work())).await;
    ended.unwrap_or_else(|_| Err(StoreError::Panicked))
}
