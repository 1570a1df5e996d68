//! Opening the database, and the two ways to use it: [`Store::read`] and [`Store::write`].

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::oneshot;

use crate::conn::{Conn, Reader, Tx};
use crate::writer::{Done, Writer};
use crate::{StoreError, TxFuture};

/// How long a statement waits for another process (a command beside the running node) to let go.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of the read pool. Reads are short and never wait for the writer; a few are enough.
const READERS: u32 = 4;

static SQLITE_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// A node's database. Clones are handles to the same one.
#[derive(Clone)]
pub struct Store {
    readers: SqlitePool,
    writers: SqlitePool,
    writer: Writer,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite://PATH`), makes it if it is not there, and brings its schema
    /// up to date. Durable: write-ahead log, `synchronous=FULL`, foreign keys on.
    ///
    /// # Errors
    /// [`StoreError::Address`] for another scheme, [`StoreError::Schema`] for a database of a newer
    /// version, otherwise what the database says.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = sqlite_options(url)?;
        make_private(options.get_filename())?;
        let writers = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone().create_if_missing(true))
            .await?;
        let mut conn = Conn::sqlite(writers.acquire().await?);
        SQLITE_MIGRATIONS.run(conn.as_sqlite()).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { readers, writers, writer: Writer::start(conn) })
    }

    /// The file that a database address names.
    ///
    /// # Errors
    /// [`StoreError::Address`] for an address that [`Store::open`] would refuse.
    pub fn file(url: &str) -> Result<PathBuf, StoreError> {
        Ok(sqlite_options(url)?.get_filename().to_owned())
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when none becomes free in time, [`StoreError::Closed`] after [`Store::close`].
    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader(Conn::sqlite(self.readers.acquire().await?)))
    }

    /// Runs `work` in a transaction. When this returns `Ok`, its changes are on the disk; when it returns
    /// an error, none of them is. The work goes on if the caller stops waiting.
    ///
    /// # Errors
    /// Whatever `work` returns, or a [`StoreError`] when the transaction could not be run or committed.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let (caller, answered) = oneshot::channel();
        self.writer
            .run(move |tx| {
                async move {
                    // A panic in one job must not take the writer, and every later change, with it.
                    let result = AssertUnwindSafe(async { work(tx).await }).catch_unwind().await;
                    let result = result.unwrap_or_else(|_| Err(StoreError::Panicked.into()));
                    Done {
                        keep: result.is_ok(),
                        answer: Box::new(move |committed: Result<(), StoreError>| {
                            // The caller may have stopped waiting; the change stands all the same.
                            let _ = caller.send(committed.map_err(E::from).and(result));
                        }),
                    }
                }
                .boxed()
            })
            .await?;
        // The channel ends without an answer only when the job was never run: no transaction could be
        // begun, which is a database held by another process for longer than the busy timeout.
        answered.await.unwrap_or_else(|_| Err(StoreError::Busy.into()))
    }

    /// Reads the whole database and says what is wrong with it; an empty list says that it is whole.
    ///
    /// # Errors
    /// When it cannot even be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let mut conn = self.read().await?;
        let rows: Vec<(String,)> =
            sqlx::query_as("pragma integrity_check").fetch_all(conn.as_sqlite()).await?;
        Ok(rows.into_iter().map(|(text,)| text).filter(|text| text != "ok").collect())
    }

    /// Finishes the writes handed in before, then closes every connection.
    pub async fn close(&self) {
        self.writer.close().await;
        // The last connection to go puts the log into the database, which a reader could not.
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Makes the database file before SQLite would: readable to nobody else, whatever folder it lies in. Its
/// log takes over the mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::Address(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    if !url.starts_with("sqlite:") {
        return Err(StoreError::Address("only sqlite://PATH is supported".into()));
    }
    // Looked for in the text: sqlx gives such a database a file name of its own.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(StoreError::Address("a database in memory would forget everything; give a path".into()));
    }
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Address(error.to_string()))?;
    Ok(options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .optimize_on_close(true, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_committed_is_synced_and_keys_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("v.db").display());
        let store = Store::open(&url).await.unwrap();
        for (pragma, expected) in
            [("pragma synchronous", 2), ("pragma foreign_keys", 1), ("pragma busy_timeout", 5000)]
        {
            let told: Result<(i64,), StoreError> = store
                .write(move |tx| {
                    async move { Ok(sqlx::query_as(pragma).fetch_one(tx.as_sqlite()).await?) }.boxed()
                })
                .await;
            assert_eq!(told.unwrap().0, expected, "{pragma}");
        }
    }
}
