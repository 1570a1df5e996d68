//! Backups of a database: made while nodes run, checked, and put back into an empty place.
//!
//! A backup is a SQLite database file of its own, with digests behind its last page. SQLite writes it
//! in one read transaction; rows of PostgreSQL are copied into it in one. The runs
//! that have worked on it have another name in it, so a node that is started on it knows that it
//! comes from a backup.

mod digests;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::{TempDir, TempPath};

use crate::{StoreError, copy, runs, sqlite};

pub use digests::TableDigest;

/// Rows that may be read ahead: a single one may have many megabytes.
const ROWS_IN_MEMORY: usize = 1;

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
    /// Its tables with their digests; `None` for a backup of an earlier version, which has none.
    pub tables: Option<Vec<TableDigest>>,
}

fn trouble(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    move |error| StoreError::Backup(format!("{}: {error}", path.display()))
}

/// Writes a backup of the database at `url` to a new file, also while nodes work on it.
///
/// # Errors
/// [`StoreError::Backup`] when the file is there already or cannot be written.
pub async fn create(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let path = &absolute(path)?;
    if is_there(path)? {
        return Err(StoreError::Backup(format!("{} is there already", path.display())));
    }
    let draft = Draft::beside(path)?;
    if is_sqlite(url) {
        let options = sqlite::options(url)?;
        let opened = SqliteConnection::connect_with(&options).await;
        let mut source = opened.map_err(StoreError::opening(options.get_filename()))?;
        let target = draft.path.to_string_lossy().replace('\'', "''");
        let vacuum = format!("vacuum into '{target}'");
        let written = sqlx::query(AssertSqlSafe(vacuum)).execute(&mut source).await;
        written.map_err(StoreError::opening(path))?;
        source.close().await?;
    } else {
        copy::snapshot(url, &url_of(&draft.path)).await?;
    }
    let mut copy = SqliteConnection::connect_with(&single_file(&draft.path)).await?;
    sqlx::query("update epochs set epoch = $1").bind(runs::BACKUP).execute(&mut copy).await?;
    digests::write(&mut copy).await?;
    copy.close().await?;
    digests::append_last_line(&draft.path).map_err(trouble(&draft.path))?;
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
    let is_as_written = digests::is_as_written(path).map_err(trouble(path))?;
    let unreadable = |error: sqlx::Error| StoreError::Backup(format!("{}: {error}", path.display()));
    let mut copy =
        SqliteConnection::connect_with(&single_file(path).read_only(true)).await.map_err(unreadable)?;
    let mut faults = faults_of(&mut copy).await.unwrap_or_else(|error| vec![error.to_string()]);
    let tables = differences(&mut copy, &mut faults).await.unwrap_or_else(|error| {
        faults.push(error.to_string());
        None
    });
    match is_as_written {
        Some(false) if faults.is_empty() => {
            faults.push("bytes outside of its tables differ from what was written".into());
        }
        None if tables.is_some() => {
            faults.push("its last line, the digest of the file, is damaged or missing".into());
        }
        _ => {}
    }
    if !faults.is_empty() {
        return Err(StoreError::Backup(format!("{}: {}", path.display(), faults.join("; "))));
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
    Ok(Contents { users: count(users), outbox: count(outbox), schema, bytes, tables })
}

/// What SQLite itself finds wrong.
async fn faults_of(copy: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar("pragma integrity_check(10)").fetch_all(&mut *copy).await?;
    let mut faults: Vec<String> = found.into_iter().filter(|fault| fault != "ok").collect();
    let strays = sqlx::query("pragma foreign_key_check").fetch_all(&mut *copy).await?.len();
    if strays > 0 {
        faults.push(format!("{strays} rows refer to nothing"));
    }
    Ok(faults)
}

/// Compares each table with its digest, and gives the digests; `None` where none were written.
async fn differences(
    copy: &mut SqliteConnection,
    faults: &mut Vec<String>,
) -> Result<Option<Vec<TableDigest>>, sqlx::Error> {
    let Some(written) = digests::written(copy).await? else { return Ok(None) };
    let found = digests::of_tables(copy).await?;
    faults.extend(digests::differences(&written, &found));
    Ok(Some(found))
}

/// Puts a backup where the database at `url` would be, if nothing is there.
///
/// # Errors
/// [`StoreError::Backup`] when something is there, or the backup is not whole. Nothing is changed then.
pub async fn restore(url: &str, path: &Path) -> Result<Contents, StoreError> {
    if is_sqlite(url) { restore_file(url, path).await } else { restore_rows(url, path).await }
}

async fn restore_file(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let target = absolute(sqlite::options(url)?.get_filename())?;
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
    let last_line = if contents.tables.is_some() { digests::LAST_LINE } else { 0 };
    let draft = Draft::beside(&target)?;
    let mut from = File::open(path).map_err(trouble(path))?.take(contents.bytes - last_line);
    let mut to = OpenOptions::new().write(true).open(&draft.path).map_err(trouble(&draft.path))?;
    std::io::copy(&mut from, &mut to).map_err(trouble(&draft.path))?;
    drop(to);
    let mut database = SqliteConnection::connect_with(&single_file(&draft.path)).await?;
    sqlx::query("drop table if exists backup_digests").execute(&mut database).await?;
    database.close().await?;
    draft.publish(&target)?;
    Ok(contents)
}

async fn restore_rows(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let contents = verify(path).await?;
    if sqlite::MIGRATIONS.iter().any(|step| step.version > contents.schema) {
        let reason = "an earlier version made it: put it back as a SQLite database, bring that to this \
                      version with vellum db migrate, and copy it with vellum db copy";
        return Err(StoreError::Backup(format!("{}: {reason}", path.display())));
    }
    copy::copy(&url_of(path), url, |_| {}).await?;
    Ok(contents)
}

fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

/// The address of a SQLite file, whatever is in its name.
fn url_of(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}

/// A backup is one file: no log lies beside it.
fn single_file(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).row_buffer_size(ROWS_IN_MEMORY);
    options.journal_mode(SqliteJournalMode::Delete)
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
