//! SQLite: one file, one writer that makes groups of changes durable together, a few readers.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::oneshot;

use crate::abreast::Lane;
use crate::conn::{Conn, Reader, Tx};
use crate::error::TxError;
use crate::recent::Recent;
use crate::write_status::WriteStatus;
use crate::writer::{Done, Writer};
use crate::{Concern, StoreError, TxFuture};

/// How long a statement waits for another process (a command beside the running node) to let go.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of the read pool. Reads are short and never wait for the writer; a few are enough.
const READERS: u32 = 4;

/// How much of the database the writer keeps in memory at most, in KiB and, as SQLite wants it, negative. Its own 2 MB are
/// less than the upper pages of the indexes of a long queue.
const PAGES: &str = "-16000";
/// How many compiled statements the writer keeps. A statement that jobs share is one text for each number of them.
const COMPILED: usize = 512;
/// How many rows the writer's thread may be ahead of whoever takes them.
const ROWS_UNDER_WAY: usize = 512;

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// A SQLite database.
#[derive(Clone)]
pub(crate) struct Sqlite {
    pub readers: SqlitePool,
    pub writers: SqlitePool,
    recent: Recent,
    writer: Writer,
    pub status: WriteStatus,
}

impl Sqlite {
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = options(url)?;
        let path = options.get_filename().to_owned();
        make_private(&path)?;
        let writers = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(
                options
                    .clone()
                    .create_if_missing(true)
                    .row_buffer_size(ROWS_UNDER_WAY)
                    .pragma("cache_size", PAGES)
                    .statement_cache_capacity(COMPILED),
            )
            .await
            .map_err(StoreError::opening(&path))?;
        let mut connection = writers.acquire().await.map_err(StoreError::opening(&path))?;
        MIGRATIONS.run(&mut *connection).await.map_err(StoreError::opening(&path))?;
        let status = WriteStatus::new(path.display().to_string());
        let changed = status.clone();
        // A commit of nothing succeeds on a full disk, too.
        connection.lock_handle().await?.set_update_hook(move |_| changed.note_change());
        let conn = Conn::lane(Lane::new(connection));
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(StoreError::opening(&path))?;
        let recent = Recent::new();
        let writer = Writer::start(conn, recent.clone(), status.clone());
        Ok(Self { readers, writers, recent, writer, status })
    }

    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader(Conn::sqlite(self.readers.acquire().await?)))
    }

    /// What was read a moment ago.
    pub fn recent(&self) -> &Recent {
        if self.recent.is_look_due() {
            self.writer.look(&self.recent);
        }
        &self.recent
    }

    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let (caller, answered) = oneshot::channel();
        self.writer.run(move |tx| attempt(tx, work, Caller::new(caller)).boxed()).await?;
        self.answer(answered).await
    }

    /// The same for work that concerns one person only.
    pub async fn write_for<T, E, F>(&self, whom: Concern, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Clone + Send + 'static,
    {
        let (caller, answered) = oneshot::channel();
        let caller = Caller::new(caller);
        self.writer.run_for(whom, move |tx| attempt(tx, work.clone(), caller.clone()).boxed()).await?;
        self.answer(answered).await
    }

    /// The channel ends without an answer only when the job was never run: no transaction could be begun. The
    /// database cannot be written, or another process has held it for longer than the busy timeout.
    async fn answer<T, E: TxError>(&self, answered: oneshot::Receiver<Result<T, E>>) -> Result<T, E> {
        let reason = || self.status.failure().unwrap_or(StoreError::Busy);
        answered.await.unwrap_or_else(|_| Err(reason().into()))
    }

    pub async fn close(&self) {
        self.writer.close().await;
        // The last connection to go puts the log into the database, which a reader could not.
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Whoever waits for a job's answer, whichever attempt gives it.
struct Caller<T>(Arc<Mutex<Option<oneshot::Sender<T>>>>);

impl<T> Caller<T> {
    fn new(caller: oneshot::Sender<T>) -> Self {
        Self(Arc::new(Mutex::new(Some(caller))))
    }

    fn answer(&self, answer: T) {
        let caller = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(caller) = caller {
            // It may have stopped waiting; the change stands all the same.
            let _ = caller.send(answer);
        }
    }
}

impl<T> Clone for Caller<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

async fn attempt<T, E, F>(tx: &mut Tx, work: F, caller: Caller<Result<T, E>>) -> Done
where
    T: Send + 'static,
    E: TxError,
    F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
{
    // A panic in one job must not take the writer, and every later change, with it.
    let result = AssertUnwindSafe(async { work(tx).await }).catch_unwind().await;
    let result = result.unwrap_or_else(|_| Err(StoreError::Panicked.into()));
    let failure = result.as_ref().err().and_then(TxError::as_store);
    Done {
        keep: result.is_ok(),
        broken: failure.filter(|error| matches!(error, StoreError::NotWritable { .. })).cloned(),
        answer: Box::new(move |committed: Result<(), StoreError>| {
            caller.answer(committed.map_err(E::from).and(result));
        }),
    }
}

/// The file that an address names.
pub(crate) fn file(url: &str) -> Result<PathBuf, StoreError> {
    Ok(options(url)?.get_filename().to_owned())
}

/// Makes the database file before SQLite would: readable to nobody else, whatever folder it lies
/// in. Its log takes over the mode. A link that leads nowhere is refused: SQLite would make the
/// file at its end.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let unusable = |reason: String| Err(StoreError::Address(format!("{}: {reason}", path.display())));
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => unusable(error.to_string()),
        Err(_) if !path.exists() => unusable("this is a link to a file that does not exist".into()),
        _ => Ok(()),
    }
}

/// No statistics are kept (`analyze`, `pragma optimize`): those of a young database make SQLite read whole tables when it has grown,
/// and without them it goes by its indexes, which every query has.
pub(crate) fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    Ok(parse(url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT))
}

fn parse(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    if !url.starts_with("sqlite:") {
        return Err(StoreError::Address("it must be sqlite://PATH or postgres://…".into()));
    }
    // Looked for in the text: sqlx gives such a database a file name of its own.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(StoreError::Address("a database in memory would forget everything; give a path".into()));
    }
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Address(error.to_string()))
}

/// For reading a database that nobody may change, whether a node works on it or not. (Opened read-only, SQLite
/// could not make the shared memory that its log needs.) Nothing that is kept in the file is set.
pub(crate) fn reading(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    Ok(parse(url)?.busy_timeout(BUSY_TIMEOUT).pragma("query_only", "on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::on;

    #[tokio::test]
    async fn what_is_committed_is_synced_and_keys_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("v.db").display());
        let database = Sqlite::open(&url).await.unwrap();
        for (pragma, expected) in
            [("pragma synchronous", 2), ("pragma foreign_keys", 1), ("pragma busy_timeout", 5000)]
        {
            let told: Result<(i64,), StoreError> = database
                .write(move |tx| {
                    async move { Ok(on!(tx, c => sqlx::query_as(pragma).fetch_one(c).await)?) }.boxed()
                })
                .await;
            assert_eq!(told.unwrap().0, expected, "{pragma}");
        }
    }
}
