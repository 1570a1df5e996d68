//! Backups of a SQLite database: made while the node runs, checked, and put back into an empty place.
//!
//! A backup is a database file of its own, written by SQLite in one read transaction. It forgets which runs
//! have worked on it, so a node that is started on it knows that it comes from a backup. (On PostgreSQL, backups
//! are the server's own: `pg_dump`.)

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::{TempDir, TempPath};

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
    let path = &absolute(path)?;
    if is_there(path)? {
        return Err(StoreError::Backup(format!("{} is there already", path.display())));
    }
    let draft = Draft::beside(path)?;
    let opened = SqliteConnection::connect_with(&options).await;
    let mut source = opened.map_err(StoreError::opening(options.get_filename()))?;
    let target = draft.path.to_string_lossy().replace('\'', "''");
    let written = sqlx::query(AssertSqlSafe(format!("vacuum into '{target}'"))).execute(&mut source).await;
    written.map_err(StoreError::opening(path))?;
    source.close().await?;
    let mut copy = SqliteConnection::connect_with(&single_file(&draft.path)).await?;
    sqlx::query("update epochs set epoch = 'backup'").execute(&mut copy).await?;
    copy.close().await?;
    let contents = verify(&draft.path).await?;
    draft.publish(path)?;
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
    let target = absolute(sqlite_only(url)?.get_filename())?;
    for ending in ["", "-wal", "-shm"] {
        let mut name = target.clone().into_os_string();
        name.push(ending);
        let place = PathBuf::from(name);
        if is_there(&place)? {
            let reason = "is there already; a backup is put back into an empty place only";
            return Err(StoreError::Backup(format!("{} {reason}", place.display())));
        }
    }
    let contents = verify(path).await?;
    let draft = Draft::beside(&target)?;
    let mut from = File::open(path).map_err(trouble(path))?;
    let mut to = OpenOptions::new().write(true).open(&draft.path).map_err(trouble(&draft.path))?;
    std::io::copy(&mut from, &mut to).map_err(trouble(&draft.path))?;
    draft.publish(&target)?;
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

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(trouble(path))
}

/// Whether anything has this name: a link that leads nowhere, too.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(trouble(path)(error)),
    }
}

/// An empty file of mode 0600 in a new folder that nobody else can enter, beside the place that it
/// is for. So nothing that others put there is opened, whatever its name. Both are removed with the
/// value.
struct Draft {
    path: PathBuf,
    _folder: TempDir,
}

impl Draft {
    fn beside(target: &Path) -> Result<Self, StoreError> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        let private = Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix(".vellum-backup-").permissions(private).tempdir_in(parent);
        let folder = folder.map_err(trouble(parent))?;
        let path = folder.path().join("draft");
        // Made before SQLite would, which gives files the mode that the process gives them.
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(trouble(&path))?;
        Ok(Self { path, _folder: folder })
    }

    /// Gives the finished file its name, if nothing has that name by now. After a crash it is there
    /// whole or not at all.
    fn publish(self, target: &Path) -> Result<(), StoreError> {
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(trouble(&self.path))?;
        let draft = TempPath::try_from_path(&self.path).map_err(trouble(&self.path))?;
        draft.persist_noclobber(target).map_err(|failed| trouble(target)(failed.error))?;
        let parent = target.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(trouble(target))
    }
}
