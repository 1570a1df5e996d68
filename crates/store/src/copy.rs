//! Moving house: every row of one database into another, empty one, of whichever engine.
//!
//! Tables are copied in the order in which they refer to each other, each in the order of its key, page by
//! page; a page is there whole or not at all. So an interrupted copy goes on behind the last row that arrived.
//! A mark stands in the target until counts and digests of both sides are equal, and no node works on a
//! database with that mark. The source is only read. Pages and statements have bounds in bytes, not only in rows: a blob may
//! have many megabytes.

mod side;

pub(crate) use side::MARK;

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::schema::{self, Step};
use crate::{Store, StoreError};
use side::{Cell, Side};

/// Rows in a page, at most.
const PAGE: usize = 5_000;
/// Bytes in a page, save for a single row that is longer: a page is held in memory.
const PAGE_BYTES: u64 = 16 * 1024 * 1024;

/// A table and what its rows are ordered by.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key }
}

/// Every table, after those that it refers to.
const TABLES: [Table; 32] = [
    table("users", &["id"]),
    table("published_aliases", &["alias_folded"]),
    table("preferences", &["user_id"]),
    table("permissions", &["id"]),
    table("roles", &["id"]),
    table("role_permissions", &["role_id", "permission_id"]),
    table("user_roles", &["user_id", "role_id"]),
    table("sessions", &["id"]),
    table("one_time_codes", &["email_folded"]),
    table("sign_in_codes", &["id"]),
    table("wrong_codes", &["account", "source", "hour"]),
    table("code_emails", &["account"]),
    table("mail_queue", &["id"]),
    table("known_sources", &["user_id", "source"]),
    table("passkeys", &["credential_id"]),
    table("passkey_ceremonies", &["challenge_hash"]),
    table("device_transfers", &["id"]),
    table("blobs", &["user_id", "blob_type"]),
    table("slots", &["user_id", "credential_id"]),
    table("collections", &["id"]),
    table("wrap_secrets", &["user_id", "device_id"]),
    table("audit", &["id"]),
    table("friendships", &["id"]),
    table("invitations", &["id"]),
    table("shares", &["id"]),
    table("peers", &["domain"]),
    table("outbox", &["id"]),
    table("transport_nonces", &["sender", "nonce"]),
    table("applied_envelopes", &["sender_handle", "nonce"]),
    table("node_state", &["name"]),
    table("node_facts", &["name"]),
    table("epochs", &["folder"]),
];

/// The names of all tables that both engines have.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

/// Tables that a new database has rows in already; the copy brings its own.
const SEEDED: [&str; 4] = ["role_permissions", "roles", "permissions", "node_state"];

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The table at hand.
    pub table: &'static str,
    /// Whether its rows are being compared, after having been copied.
    pub comparing: bool,
    /// Rows of all tables that are there, or compared.
    pub done: u64,
    /// Rows of all tables.
    pub of: u64,
}

/// A table that is equal on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// SHA-256 over them, in hexadecimal digits.
    pub digest: String,
}

/// Copies the database at `from` to the one at `to`, or goes on with a copy that was interrupted. Nobody may
/// work on either meanwhile.
///
/// # Errors
/// [`StoreError::Copy`] when the source is not of this version, the target is not empty, a node is at work,
/// or the two differ in the end.
pub async fn copy(
    from: &str,
    to: &str,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Copied>, StoreError> {
    refuse_other_schema(from).await?;
    let mark = source_mark(from);
    refuse_unfit_target(to, &mark).await?;
    side::migrate(to).await?;
    let (mut source, mut target) = (Side::open(from, true).await?, Side::open(to, false).await?);
    source.hold_still().await?;
    target.keep_others_out().await?;
    for side in [&mut source, &mut target] {
        refuse_nodes(side).await?;
    }
    begin(&mut target, &mark).await?;
    let copied = copy_tables(&mut source, &mut target, &mut progress).await?;
    // What a node has changed there since is not here.
    refuse_nodes(&mut source).await?;
    target.remove_mark().await?;
    Ok(copied)
}

/// Copies the PostgreSQL database at `from` as it is now to a new SQLite file, also while nodes work
/// on it.
///
/// # Errors
/// [`StoreError::Copy`] when it is not of this version.
pub(crate) async fn snapshot(from: &str, to: &str) -> Result<(), StoreError> {
    refuse_other_schema(from).await?;
    side::migrate(to).await?;
    let (mut source, mut target) = (Side::open(from, true).await?, Side::open(to, false).await?);
    source.hold_still().await?;
    begin(&mut target, &source_mark(from)).await?;
    copy_tables(&mut source, &mut target, &mut |_| {}).await?;
    target.remove_mark().await?;
    source.close().await?;
    target.close().await
}

/// Copies every table and compares the two sides.
async fn copy_tables(
    source: &mut Side,
    target: &mut Side,
    progress: &mut impl FnMut(Progress),
) -> Result<Vec<Copied>, StoreError> {
    let mut of = 0;
    for table in &TABLES {
        of += source.count(table.name).await?;
    }
    let mut done = 0;
    for table in &TABLES {
        done = copy_table(source, target, table, done, |done| {
            progress(Progress { table: table.name, comparing: false, done, of });
        })
        .await?;
    }
    compare(source, target, |table, done| {
        progress(Progress { table, comparing: true, done, of });
    })
    .await
}

/// Refuses a source whose schema is not this version's.
async fn refuse_other_schema(from: &str) -> Result<(), StoreError> {
    let history = schema::history(from).await?;
    if !history.iter().any(|step| step.applied) {
        return Err(StoreError::Copy(format!("no node at {}", Store::place(from))));
    }
    if !history.iter().all(|Step { applied, known, .. }| *applied && *known) {
        let reason = "the source does not have this version's schema: vellum db migrate brings it there";
        return Err(StoreError::Copy(reason.into()));
    }
    Ok(())
}

/// Counts and digests every table on both sides. `progress` hears of rows, each of which is read twice.
async fn compare(
    source: &mut Side,
    target: &mut Side,
    mut progress: impl FnMut(&'static str, u64),
) -> Result<Vec<Copied>, StoreError> {
    let (mut copied, mut compared) = (Vec::new(), 0);
    for table in &TABLES {
        let here = digest(source, table, |rows| progress(table.name, compared + rows / 2)).await?;
        let there =
            digest(target, table, |rows| progress(table.name, compared + (here.rows + rows) / 2)).await?;
        if here != there {
            let reason = format!("the table {} differs: begin again with an empty target", table.name);
            return Err(StoreError::Copy(reason));
        }
        compared += here.rows;
        copied.push(here);
    }
    Ok(copied)
}

/// Refuses a target that is not there for this copy, before anything of it is touched.
async fn refuse_unfit_target(to: &str, mark: &str) -> Result<(), StoreError> {
    let Some(mut target) = Side::open_if_there(to).await? else { return Ok(()) };
    refuse_nodes(&mut target).await?;
    match target.mark().await? {
        Some(begun) if begun == mark => Ok(()),
        Some(_) => Err(StoreError::Copy("the target holds an unfinished copy from elsewhere".into())),
        None => {
            for table in TABLES.iter().filter(|table| !SEEDED.contains(&table.name)) {
                if target.has_table(table.name).await? && target.count(table.name).await? > 0 {
                    let reason = format!("the target is not empty: there are rows in {}", table.name);
                    return Err(StoreError::Copy(reason));
                }
            }
            Ok(())
        }
    }
}

/// Refuses a side that a node works on. Connections of a command that has just ended take a moment to go.
async fn refuse_nodes(side: &mut Side) -> Result<(), StoreError> {
    for _ in 0..20 {
        if !side.nodes_at_work().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(StoreError::Copy("a node is at work on one of the two databases: stop it first".into()))
}

/// Whether nodes are connected to the database at `url`. A SQLite file has a lock for that.
///
/// # Errors
/// When the database cannot be reached.
pub async fn nodes_at_work(url: &str) -> Result<bool, StoreError> {
    let Some(mut side) = Side::open_if_there(url).await? else { return Ok(false) };
    match refuse_nodes(&mut side).await {
        Ok(()) => Ok(false),
        Err(StoreError::Copy(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// What is said of the target of a copy that was begun and not finished.
pub(crate) fn unfinished() -> StoreError {
    StoreError::Copy("a copy to this database is not finished: run the same vellum db copy again".into())
}

/// Whether the copy to a database was begun and not finished.
pub(crate) async fn is_unfinished(conn: &mut crate::Conn) -> Result<bool, StoreError> {
    side::has_mark(conn).await
}

/// Names a source without its password: an interrupted copy goes on from the same one only.
fn source_mark(from: &str) -> String {
    let without_password = match (from.find("://"), from.rfind('@')) {
        (Some(scheme), Some(at)) => format!("{}{}", &from[..scheme], &from[at..]),
        _ => from.to_owned(),
    };
    hex(&Sha256::digest(without_password.as_bytes()))
}

async fn begin(target: &mut Side, source: &str) -> Result<(), StoreError> {
    match target.mark().await? {
        Some(_) => Ok(()),
        None => target.set_mark(source, &SEEDED).await,
    }
}

async fn copy_table(
    source: &mut Side,
    target: &mut Side,
    table: &Table,
    before: u64,
    mut progress: impl FnMut(u64),
) -> Result<u64, StoreError> {
    let columns = source.columns(table.name).await?;
    let mut done = before + target.count(table.name).await?;
    let mut last = target.last_key(table.name, table.key, &columns).await?;
    loop {
        let rows = source.page(table.name, table.key, &columns, last.as_deref(), PAGE, PAGE_BYTES).await?;
        let Some(row) = rows.last() else { break };
        last = Some(side::key_of(row, table.key, &columns));
        target.insert(table.name, &columns, &rows).await?;
        done += u64::try_from(rows.len()).unwrap_or(0);
        progress(done);
    }
    Ok(done)
}

/// Counts a table and digests its rows in the order of their key: each value with its kind and length, so that
/// no two tables look the same that are not.
async fn digest(side: &mut Side, table: &Table, mut progress: impl FnMut(u64)) -> Result<Copied, StoreError> {
    let mut columns = side.columns(table.name).await?;
    // Both engines say the columns in the order of their history; the names make sure of it.
    columns.sort_by(|one, other| one.name.cmp(&other.name));
    let (mut hash, mut rows, mut last) = (Sha256::new(), 0_u64, None);
    loop {
        let page = side.page(table.name, table.key, &columns, last.as_deref(), PAGE, PAGE_BYTES).await?;
        let Some(row) = page.last() else { break };
        last = Some(side::key_of(row, table.key, &columns));
        rows += u64::try_from(page.len()).unwrap_or(0);
        for cell in page.iter().flatten() {
            let number;
            let (kind, bytes) = match cell {
                Cell::Null => (b'n', [].as_slice()),
                Cell::Int(value) => {
                    number = value.to_be_bytes();
                    (b'i', number.as_slice())
                }
                Cell::Text(text) => (b't', text.as_bytes()),
                Cell::Bytes(bytes) => (b'b', bytes.as_slice()),
            };
            hash.update([kind]);
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        }
        progress(rows);
    }
    Ok(Copied { table: table.name, rows, digest: hex(&hash.finalize()) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_table_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("v.db").display());
        side::migrate(&url).await.unwrap();
        let mut there = Side::open(&url, true).await.unwrap().tables().await.unwrap();
        let mut listed: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        there.sort_unstable();
        listed.sort_unstable();
        assert_eq!(there, listed);
    }

    #[test]
    fn a_mark_does_not_depend_on_a_password() {
        assert_eq!(source_mark("postgres://me:one@host/db"), source_mark("postgres://me:two@host/db"));
        assert_ne!(source_mark("postgres://me:one@host/db"), source_mark("postgres://me:one@host/other"));
    }
}
