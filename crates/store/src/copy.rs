//! Copies every row of one database into another, empty one, of whichever engine.
//!
//! Tables are copied in the order in which they refer to each other, each in the order of its key,
//! page by page; a page is there whole or not at all. So an interrupted copy goes on behind the
//! last row that arrived. A mark stands in the target until counts and digests of both sides are
//! equal, and no node works on a database with that mark. The source is only read. A page has
//! bounds in bytes, not only in rows: a blob may have many megabytes.

mod rows;

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::conn::per_engine;
use crate::connect::{self, blocking, is_postgres, place};
use crate::postgres::Postgres;
use crate::schema::{self, Step};
use crate::sqlite::Sqlite;
use crate::statement::{Statement, Value};
use crate::tables::{self, COPY_MARK, SEEDED, TABLES, Table};
use crate::{Conn, StoreError, Tx};
use rows::Rows;

/// What a copy locks its PostgreSQL target by ("vellumcp"): no other copy goes to it meanwhile, nor
/// does what a killed one has left under way.
const COPY_LOCK: i64 = 0x7665_6c6c_756d_6370;

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
    let (from, to) = (from.to_owned(), to.to_owned());
    let (sender, mut steps) = mpsc::unbounded_channel();
    let copying = blocking(move || async move {
        copy_all(&from, &to, &mut |step| {
            // The caller may have stopped waiting.
            let _ = sender.send(step);
        })
        .await
    });
    let reporting = async {
        while let Some(step) = steps.recv().await {
            progress(step);
        }
    };
    tokio::join!(copying, reporting).0
}

async fn copy_all(
    from: &str,
    to: &str,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Vec<Copied>, StoreError> {
    let mark = source_mark(from);
    let mut source = open_source(from).await?;
    refuse_unfit_target(to, &mark).await?;
    let mut target = open_target(to).await?;
    hold_still(&mut source).await?;
    keep_others_out(&mut target).await?;
    refuse_nodes(&mut source).await?;
    refuse_nodes(&mut target).await?;
    begin(&mut target, &mark).await?;
    let copied = copy_tables(&mut source, &mut target, progress).await?;
    // What a node has changed there since is not here.
    refuse_nodes(&mut source).await?;
    finish(&mut source, &mut target).await?;
    Ok(copied)
}

/// Copies the database at `from` as it is now to a new SQLite file, also while nodes work on it.
/// Keeps its thread busy.
///
/// # Errors
/// [`StoreError::Copy`] when it is not of this version.
pub(crate) async fn snapshot(from: &str, to: &str) -> Result<(), StoreError> {
    let mut source = open_source(from).await?;
    let mut target = open_target(to).await?;
    hold_still(&mut source).await?;
    begin(&mut target, &source_mark(from)).await?;
    copy_tables(&mut source, &mut target, &mut |_| {}).await?;
    finish(&mut source, &mut target).await
}

/// Opens a source, whose schema must be this version's.
async fn open_source(from: &str) -> Result<Conn, StoreError> {
    let history = schema::history(from).await?;
    let source = connect::to_read(from).await?;
    let Some(source) = source.filter(|_| history.iter().any(|step| step.applied)) else {
        return Err(StoreError::Copy(format!("no node at {}", place(from))));
    };
    if !history.iter().all(|Step { applied, known, .. }| *applied && *known) {
        let reason = "the source does not have this version's schema: vellum db migrate brings it there";
        return Err(StoreError::Copy(reason.into()));
    }
    Ok(source)
}

/// Opens a target, after bringing its schema to this version's.
async fn open_target(to: &str) -> Result<Tx, StoreError> {
    if is_postgres(to) {
        Postgres::open(to).await?.close().await;
    } else {
        Sqlite::open(to).await?.close().await;
    }
    connect::to_change(to).await
}

/// Has every later read see the state of now.
async fn hold_still(source: &mut Conn) -> Result<(), StoreError> {
    let postgres = "begin isolation level repeatable read read only";
    source.run(per_engine!(source, sqlite: "begin", postgres: postgres)).await
}

/// Waits for another copy to this target to end; refuses if it does not soon. A SQLite file has a
/// lock for that, which the caller takes.
async fn keep_others_out(target: &mut Tx) -> Result<(), StoreError> {
    let Some(target) = target.as_postgres() else { return Ok(()) };
    for _ in 0..50 {
        let lock = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(COPY_LOCK);
        if lock.fetch_one(&mut *target).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(StoreError::Copy("another copy to this database is under way".into()))
}

/// Copies every table and compares the two sides.
async fn copy_tables(
    source: &mut Conn,
    target: &mut Tx,
    progress: &mut impl FnMut(Progress),
) -> Result<Vec<Copied>, StoreError> {
    let (mut of, mut done) = (0, 0);
    for table in &TABLES {
        of += rows::count(source, table.name).await?;
    }
    for table in &TABLES {
        done = copy_table(source, target, table, done, |done| {
            progress(Progress { table: table.name, comparing: false, done, of });
        })
        .await?;
    }
    let (mut copied, mut compared) = (Vec::new(), 0);
    for table in &TABLES {
        // Each row is read twice.
        let mut report = |rows: u64| {
            progress(Progress { table: table.name, comparing: true, done: compared + rows / 2, of });
        };
        let here = digest(source, table, &mut report).await?;
        let there = digest(target, table, |rows| report(here.rows + rows)).await?;
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
    let Some(mut target) = connect::to_read(to).await? else { return Ok(()) };
    refuse_nodes(&mut target).await?;
    let present = tables::present(&mut target).await?;
    if present.contains(COPY_MARK) {
        let (begun,): (String,) = target.row(Statement::new("select source from copy_under_way")).await?;
        return if begun == mark {
            Ok(())
        } else {
            Err(StoreError::Copy("the target holds an unfinished copy from elsewhere".into()))
        };
    }
    for Table { name, .. } in TABLES.iter().filter(|table| present.contains(table.name)) {
        if !SEEDED.contains(name) && rows::count(&mut target, name).await? > 0 {
            return Err(StoreError::Copy(format!("the target is not empty: there are rows in {name}")));
        }
    }
    Ok(())
}

/// Refuses a side that a node works on. Connections of a command that has just ended take a moment to go.
async fn refuse_nodes(side: &mut Conn) -> Result<(), StoreError> {
    for _ in 0..20 {
        if !are_nodes_connected(side).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(StoreError::Copy("a node is at work on one of the two databases: stop it first".into()))
}

/// Whether nodes are connected. A SQLite file has a lock for that, which the caller takes.
async fn are_nodes_connected(side: &mut Conn) -> Result<bool, StoreError> {
    let Some(side) = side.as_postgres() else { return Ok(false) };
    // Within a transaction the server would show who was there at the first look, again and again.
    sqlx::raw_sql("select pg_stat_clear_snapshot()").execute(&mut *side).await?;
    let query = "select exists (select from pg_stat_activity
                     where datname = current_database() and application_name = 'vellum')";
    Ok(sqlx::query_scalar(query).fetch_one(side).await?)
}

/// Whether nodes are connected to the database at `url`. A SQLite file has a lock for that.
///
/// # Errors
/// When the database cannot be reached.
pub async fn nodes_at_work(url: &str) -> Result<bool, StoreError> {
    let Some(mut side) = connect::to_read(url).await? else { return Ok(false) };
    match refuse_nodes(&mut side).await {
        Ok(()) => Ok(false),
        Err(StoreError::Copy(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Names a source without its password: an interrupted copy goes on from the same one only.
fn source_mark(from: &str) -> String {
    let without_password = match (from.find("://"), from.rfind('@')) {
        (Some(scheme), Some(at)) => format!("{}{}", &from[..scheme], &from[at..]),
        _ => from.to_owned(),
    };
    hex(&Sha256::digest(without_password.as_bytes()))
}

/// Marks the target of a copy, and empties what a new database comes with, unless that was done
/// before.
async fn begin(target: &mut Tx, source: &str) -> Result<(), StoreError> {
    if tables::present(target).await?.contains(COPY_MARK) {
        return Ok(());
    }
    target.run("begin").await?;
    for table in SEEDED {
        target.change(Statement::new(format!("delete from {table}"))).await?;
    }
    target.run("create table copy_under_way (source text not null)").await?;
    target.change(Statement::new("insert into copy_under_way (source) values ($1)").bind(source)).await?;
    target.run("commit").await
}

async fn finish(source: &mut Conn, target: &mut Tx) -> Result<(), StoreError> {
    source.run("commit").await?;
    target.run("drop table copy_under_way").await
}

async fn copy_table(
    source: &mut Conn,
    target: &mut Tx,
    table: &'static Table,
    before: u64,
    mut progress: impl FnMut(u64),
) -> Result<u64, StoreError> {
    let rows = Rows::of(table, source).await?;
    let mut done = before + rows::count(target, table.name).await?;
    let mut last = rows.last_key(target).await?;
    loop {
        let page = rows.page(source, last.as_deref()).await?;
        let Some(row) = page.last() else { return Ok(done) };
        last = Some(rows.key_of(row));
        done += u64::try_from(page.len()).unwrap_or(0);
        rows.insert(target, page).await?;
        progress(done);
    }
}

/// Counts a table and digests its rows in the order of their key: each value with its kind and length, so that
/// no two tables look the same that are not.
async fn digest(
    side: &mut Conn,
    table: &'static Table,
    mut progress: impl FnMut(u64),
) -> Result<Copied, StoreError> {
    let rows = Rows::of(table, side).await?;
    let (mut hash, mut count, mut last) = (Sha256::new(), 0, None);
    loop {
        let page = rows.page(side, last.as_deref()).await?;
        let Some(row) = page.last() else { break };
        last = Some(rows.key_of(row));
        count += u64::try_from(page.len()).unwrap_or(0);
        for value in page.iter().flatten() {
            let number;
            let (kind, bytes) = match value {
                Value::Integer(Some(value)) => {
                    number = value.to_be_bytes();
                    (b'i', number.as_slice())
                }
                Value::Text(Some(text)) => (b't', text.as_bytes()),
                Value::Bytes(Some(bytes)) => (b'b', bytes.as_slice()),
                _ => (b'n', [].as_slice()),
            };
            hash.update([kind]);
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        }
        progress(count);
    }
    Ok(Copied { table: table.name, rows: count, digest: hex(&hash.finalize()) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_does_not_depend_on_a_password() {
        assert_eq!(source_mark("postgres://me:one@host/db"), source_mark("postgres://me:two@host/db"));
        assert_ne!(source_mark("postgres://me:one@host/db"), source_mark("postgres://me:one@host/other"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_starts_while_a_source_is_held_still_is_seen() {
        let Some(server) = vellum_test_database::shared_server() else { return };
        let address = server.new_database();
        crate::Store::open(&address).await.unwrap().close().await;
        let mut side = connect::to_read(&address).await.unwrap().unwrap();
        hold_still(&mut side).await.unwrap();
        while are_nodes_connected(&mut side).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let node = crate::Store::open(&address).await.unwrap();
        assert!(are_nodes_connected(&mut side).await.unwrap());
        node.close().await;
    }
}
