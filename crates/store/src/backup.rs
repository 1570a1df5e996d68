//! Backups of a SQLite database: made while the node runs, checked, and put back into an empty place.
//!
//! A backup is a database file of its own, written by SQLite in one read transaction. It forgets which runs
//! have worked on it, so a node that is started on it knows that it comes from a backup. (On PostgreSQL, backups
//! are the server's own: `pg_dump`.)

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::{StoreError, sqlite};

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Accounts.
    pub users: u64,
    /// Messages to other nodes, in every state.
    pub outbox: u64,
    /// The last step of the schema's history.
    pub schema: i64,
    /// Its size in bytes.
    pub bytes: u64,
}

fn trouble(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    move |error| StoreError::Backup(format!("{}: {error}", path.display()))
}

/// Writes a backup of the database at `url` to a new file, also while a node works on it.
///
/// # Errors
/// [`StoreError::Backup`] when the file is there already or cannot be written, or for another engine.
pub async fn create(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let options = sqlite_only(url)?;
    if path.exists() {
        return Err(StoreError::Backup(format!("{} is there already", path.display())));
    }
    let draft = draft_of(path);
    // Made before SQLite would.
    new_draft(&draft)?;
    let mut source = SqliteConnection::connect_with(&options).await?;
    let target = draft.to_string_lossy().replace('\'', "''");
    sqlx::query(AssertSqlSafe(format!("vacuum into '{target}'"))).execute(&mut source).await?;
    source.close().await?;
    let mut copy = SqliteConnection::connect_with(&single_file(&draft)).await?;
    sqlx::query("update epochs set epoch = 'backup'").execute(&mut copy).await?;
    copy.close().await?;
    let contents = verify(&draft).await?;
    publish(&draft, path)?;
    Ok(contents)
}

/// Reads a backup from beginning to end.
///
/// # Errors
/// [`StoreError::Backup`] with what is wrong with it.
pub async fn verify(path: &Path) -> Result<Contents, StoreError> {
    let bytes = fs::metadata(path).map_err(trouble(path))?.len();
    let unreadable = |error: sqlx::Error| StoreError::Backup(format!("{}: {error}", path.display()));
    let mut copy =
        SqliteConnection::connect_with(&single_file(path).read_only(true)).await.map_err(unreadable)?;
    let faults: Vec<(String,)> =
        sqlx::query_as("pragma integrity_check").fetch_all(&mut copy).await.map_err(unreadable)?;
    let strays =
        sqlx::query("pragma foreign_key_check").fetch_all(&mut copy).await.map_err(unreadable)?.len();
    if faults.iter().any(|(fault,)| fault != "ok") || strays > 0 {
        let first = faults.into_iter().next().map(|(fault,)| fault).unwrap_or_default();
        return Err(StoreError::Backup(format!(
            "{}: {first}, {strays} rows refer to nothing",
            path.display()
        )));
    }
    let (users, outbox, schema): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from users), (select count(*) from outbox),
             (select max(version) from _sqlx_migrations)",
    )
    .fetch_one(&mut copy)
    .await
    .map_err(unreadable)?;
    copy.close().await?;
    if !sqlite::MIGRATIONS.version_exists(schema) {
        return Err(StoreError::Schema(format!("the backup has step {schema}, which a newer version made")));
    }
    let count = |count| u64::try_from(count).unwrap_or(0);
    Ok(Contents { users: count(users), outbox: count(outbox), schema, bytes })
}

/// Puts a backup where the database at `url` would be, if nothing is there.
///
/// # Errors
/// [`StoreError::Backup`] when something is there, or the backup is not whole. Nothing is changed then.
pub async fn restore(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let target = sqlite_only(url)?.get_filename().to_owned();
    for ending in ["", "-wal", "-shm"] {
        let mut name = target.clone().into_os_string();
        name.push(ending);
        let place = PathBuf::from(name);
        if place.exists() {
            let reason = "is there already; a backup is put back into an empty place only";
            return Err(StoreError::Backup(format!("{} {reason}", place.display())));
        }
    }
    let contents = verify(path).await?;
    let draft = draft_of(&target);
    let mut from = File::open(path).map_err(trouble(path))?;
    let mut to = new_draft(&draft)?;
    std::io::copy(&mut from, &mut to).map_err(trouble(&draft))?;
    publish(&draft, &target)?;
    Ok(contents)
}

fn sqlite_only(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    if url.starts_with("sqlite:") {
        sqlite::options(url)
    } else {
        Err(StoreError::Backup("only SQLite; for PostgreSQL use pg_dump and pg_restore".into()))
    }
}

/// A backup is one file: no log lies beside it.
fn single_file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Delete)
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Makes a draft, empty, and readable to nobody else.
fn new_draft(draft: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).open(draft).map_err(trouble(draft))
}

/// Gives a finished file its name, so that after a crash it is there whole or not at all.
fn publish(draft: &Path, path: &Path) -> Result<(), StoreError> {
    File::open(draft).and_then(|file| file.sync_all()).map_err(trouble(draft))?;
    fs::rename(draft, path).map_err(trouble(path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(trouble(path))
}
