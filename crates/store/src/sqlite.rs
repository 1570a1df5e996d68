//! SQLite: one file, one thread that makes groups of changes durable together, a few readers.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Connection as _, SqliteConnection};

use crate::conn::Reader;
use crate::error::TxError;
use crate::pool::{Lent, Pool};
use crate::write_status::WriteStatus;
use crate::writer::Writer;
use crate::{StoreError, TxFuture};

/// How long the writer waits for another process (a command beside the running node) to let go.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a reader, which keeps the thread of an HTTP worker busy meanwhile.
const READER_BUSY_TIMEOUT: Duration = Duration::from_millis(50);
/// Readers. Each is used by one thread at a time, for microseconds where it is no long list.
const READERS: u32 = 8;
/// How many compiled statements a connection keeps: more than there are texts, but for statements
/// about many rows.
const COMPILED: usize = 512;
/// How much of the database the writer keeps in memory at most, in KiB and, as SQLite wants it,
/// negative. Its own 2 MB are less than the upper pages of the indexes of a long queue.
const WRITER_PAGES: i64 = -16_000;

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// A SQLite database.
#[derive(Clone)]
pub(crate) struct Sqlite {
    path: PathBuf,
    readers: Pool<Connection>,
    writer: Writer,
    pub status: WriteStatus,
}

impl Sqlite {
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let path = file(url)?;
        make_private(&path)?;
        migrate(url).await.map_err(StoreError::opening(&path))?;
        let writer = open_writer(&path).map_err(StoreError::opening(&path))?;
        let status = WriteStatus::new(path.display().to_string());
        let writer = Writer::start(writer, status.clone())
            .map_err(|error| StoreError::Unsuitable(format!("no thread for its writer: {error}")))?;
        let database = Self { path, readers: Pool::new(READERS), writer, status };
        drop(database.check_out().await?);
        Ok(database)
    }

    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader::sqlite(self.check_out().await?))
    }

    /// A reader that may go to another thread with whoever uses it.
    pub async fn check_out(&self) -> Result<Lent<Connection>, StoreError> {
        let open = async { open_reader(&self.path).map_err(StoreError::opening(&self.path)) };
        self.readers.check_out(open).await
    }

    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut crate::Tx) -> TxFuture<'t, T, E> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Open connections: the writer's and the readers'.
    pub fn connections(&self) -> u32 {
        1 + self.readers.open_connections()
    }

    pub async fn close(&self) {
        let writer = self.writer.close().await;
        self.readers.close().await;
        drop(writer);
    }
}

/// Brings the schema up to date; makes the database if it is not there.
async fn migrate(url: &str) -> Result<(), StoreError> {
    let options = parse(url)?
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    MIGRATIONS.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Opens a file with what every connection needs. What is committed is synced.
///
/// No statistics are kept (`analyze`, `pragma optimize`): those of a young database make SQLite read
/// whole tables when it has grown, and without them it goes by its indexes, which every query has.
pub(crate) fn open(path: &Path, flags: OpenFlags, busy: Duration) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(COMPILED);
    connection.execute_batch("pragma foreign_keys = on; pragma synchronous = full")?;
    Ok(connection)
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = open_to_change(path)?;
    connection.pragma_update(None, "cache_size", WRITER_PAGES)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_BUSY_TIMEOUT)
}

pub(crate) fn open_to_change(path: &Path) -> Result<Connection, StoreError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, BUSY_TIMEOUT)
}

/// Opens a database that nobody may change, whether a node works on it or not. (Opened read-only,
/// SQLite could not make the shared memory that its log needs.)
pub(crate) fn open_unchanged(path: &Path) -> Result<Connection, StoreError> {
    let connection = open_to_change(path)?;
    connection.execute_batch("pragma query_only = on")?;
    Ok(connection)
}

/// The file that an address names.
pub(crate) fn file(url: &str) -> Result<PathBuf, StoreError> {
    Ok(parse(url)?.get_filename().to_owned())
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
