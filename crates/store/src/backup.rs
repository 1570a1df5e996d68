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

use rusqlite::{Connection, OpenFlags};
use tempfile::{TempDir, TempPath};

use crate::connect::{self, blocking, is_postgres};
use crate::sqlite::{self, BUSY_TIMEOUT, MIGRATIONS};
use crate::{StoreError, copy, runs};

pub use digests::TableDigest;

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
    let (url, path) = (url.to_owned(), absolute(path)?);
    blocking(move || async move {
        if is_there(&path)? {
            return Err(StoreError::Backup(format!("{} is there already", path.display())));
        }
        let draft = Draft::beside(&path)?;
        if let Some(source) = connect::file(&url)? {
            vacuum(&source, &draft.path, &path)?;
        } else {
            copy::snapshot(&url, &url_of(&draft.path)).await?;
        }
        let copy = open(&draft.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        copy.execute("update epochs set epoch = ?1", [runs::BACKUP])?;
        digests::write(&copy)?;
        drop(copy);
        digests::append_last_line(&draft.path).map_err(trouble(&draft.path))?;
        let contents = verify_file(&draft.path)?;
        draft.publish(&path)?;
        Ok(contents)
    })
    .await
}

/// Copies a database to the draft of `path`.
fn vacuum(source: &Path, draft: &Path, path: &Path) -> Result<(), StoreError> {
    let opened = sqlite::open_to_change(source);
    let source = opened.map_err(StoreError::opening(source))?;
    let written = source.execute("vacuum into ?1", [draft.to_string_lossy()]);
    written.map(drop).map_err(StoreError::opening(path))
}

/// Reads a backup from beginning to end.
///
/// # Errors
/// [`StoreError::Backup`] with what is wrong with it.
pub async fn verify(path: &Path) -> Result<Contents, StoreError> {
    let path = path.to_owned();
    blocking(move || async move { verify_file(&path) }).await
}

fn verify_file(path: &Path) -> Result<Contents, StoreError> {
    let bytes = fs::metadata(path).map_err(trouble(path))?.len();
    let is_as_written = digests::is_as_written(path).map_err(trouble(path))?;
    let unreadable = |error: rusqlite::Error| StoreError::Backup(format!("{}: {error}", path.display()));
    let copy = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut faults = faults_of(&copy).unwrap_or_else(|error| vec![error.to_string()]);
    let tables = differences(&copy, &mut faults).unwrap_or_else(|error| {
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
    let count = |query| copy.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(unreadable);
    let schema = count("select max(version) from _sqlx_migrations")?;
    if !MIGRATIONS.version_exists(schema) {
        return Err(StoreError::Schema(format!("the backup has step {schema}, which a newer version made")));
    }
    let users = u64::try_from(count("select count(*) from users")?).unwrap_or(0);
    let outbox = u64::try_from(count("select count(*) from outbox")?).unwrap_or(0);
    Ok(Contents { users, outbox, schema, bytes, tables })
}

/// What SQLite itself finds wrong.
fn faults_of(copy: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut faults = digests::texts(copy, "pragma integrity_check(10)", [])?;
    faults.retain(|fault| fault != "ok");
    let strays = digests::texts(copy, "select \"table\" from pragma_foreign_key_check", [])?.len();
    if strays > 0 {
        faults.push(format!("{strays} rows refer to nothing"));
    }
    Ok(faults)
}

/// Compares each table with its digest, and gives the digests; `None` where none were written.
fn differences(copy: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<Option<Vec<TableDigest>>> {
    let Some(written) = digests::written(copy)? else { return Ok(None) };
    let found = digests::of_tables(copy)?;
    faults.extend(digests::differences(&written, &found));
    Ok(Some(found))
}

/// Puts a backup where the database at `url` would be, if nothing is there.
///
/// # Errors
/// [`StoreError::Backup`] when something is there, or the backup is not whole. Nothing is changed then.
pub async fn restore(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let (url, path) = (url.to_owned(), path.to_owned());
    if is_postgres(&url) {
        restore_rows(&url, &path).await
    } else {
        blocking(move || async move { restore_file(&url, &path) }).await
    }
}

fn restore_file(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let target = absolute(&sqlite::file(url)?)?;
    for ending in ["", "-wal", "-shm"] {
        let mut name = target.clone().into_os_string();
        name.push(ending);
        let place = PathBuf::from(name);
        if is_there(&place)? {
            let reason = "is there already; a backup is put back into an empty place only";
            return Err(StoreError::Backup(format!("{} {reason}", place.display())));
        }
    }
    let contents = verify_file(path)?;
    let last_line = if contents.tables.is_some() { digests::LAST_LINE } else { 0 };
    let draft = Draft::beside(&target)?;
    let mut from = File::open(path).map_err(trouble(path))?.take(contents.bytes - last_line);
    let mut to = OpenOptions::new().write(true).open(&draft.path).map_err(trouble(&draft.path))?;
    std::io::copy(&mut from, &mut to).map_err(trouble(&draft.path))?;
    drop(to);
    let database = open(&draft.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.execute_batch("drop table if exists backup_digests")?;
    drop(database);
    draft.publish(&target)?;
    Ok(contents)
}

async fn restore_rows(url: &str, path: &Path) -> Result<Contents, StoreError> {
    let contents = verify(path).await?;
    if MIGRATIONS.iter().any(|step| step.version > contents.schema) {
        let reason = "an earlier version made it: put it back as a SQLite database, bring that to this \
                      version with vellum db migrate, and copy it with vellum db copy";
        return Err(StoreError::Backup(format!("{}: {reason}", path.display())));
    }
    copy::copy(&url_of(path), url, |_| {}).await?;
    Ok(contents)
}

/// The address of a SQLite file, whatever is in its name.
fn url_of(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}

/// Opens a backup, which is one file: no log lies beside it.
fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let opened = sqlite::open(path, flags, BUSY_TIMEOUT).and_then(|backup| {
        backup.execute_batch("pragma journal_mode = delete")?;
        Ok(backup)
    });
    opened.map_err(|error| StoreError::Backup(format!("{}: {error}", path.display())))
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
