//! The digests of a backup: one per table, in a table of their own, and one of the whole file. That
//! is the last line of the file, behind its last page, where SQLite reads nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

/// The length of the last line: a newline, `sha256`, a blank, 64 digits and a newline.
pub(super) const LAST_LINE: u64 = 73;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// A table of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigest {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// SHA-256 over its columns and rows, in hexadecimal digits.
    pub sha256: String,
}

/// Appends its digest to a file.
pub(super) fn append_last_line(file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(file)?;
    let length = file.metadata()?.len();
    let line = format!("\nsha256 {}\n", sha256(&mut file, length)?);
    file.write_all(line.as_bytes())
}

/// Whether a file is as its last line says, byte for byte; `None` where it has no such line.
pub(super) fn is_as_written(file: &Path) -> io::Result<Option<bool>> {
    let mut file = File::open(file)?;
    let Some(length) = file.metadata()?.len().checked_sub(LAST_LINE) else { return Ok(None) };
    let found = sha256(&mut file, length)?;
    let mut last = Vec::new();
    file.read_to_end(&mut last)?;
    let line = std::str::from_utf8(&last).ok();
    let written = line.and_then(|line| line.strip_prefix("\nsha256 ")?.strip_suffix('\n'));
    Ok(written.map(|written| written == found))
}

/// Reads a file up to a length.
fn sha256(file: &mut File, length: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut chunk, mut rest) = (Sha256::new(), vec![0; CHUNK], length);
    while rest > 0 {
        let part = chunk.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let part = &mut chunk[..part];
        file.read_exact(part)?;
        hash.update(&*part);
        rest -= u64::try_from(part.len()).unwrap_or(0);
    }
    Ok(hex(&hash.finalize()))
}

/// Writes the digests of a database into it.
pub(super) async fn write(database: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // One may be there already: an earlier version puts back a backup with all that is in it.
    sqlx::raw_sql(
        "drop table if exists backup_digests;
         create table backup_digests
             (name text not null primary key, row_count integer not null, sha256 text not null) strict",
    )
    .execute(&mut *database)
    .await?;
    for TableDigest { table, rows, sha256 } in of_tables(database).await? {
        sqlx::query("insert into backup_digests (name, row_count, sha256) values ($1, $2, $3)")
            .bind(table)
            .bind(i64::try_from(rows).unwrap_or(i64::MAX))
            .bind(sha256)
            .execute(&mut *database)
            .await?;
    }
    Ok(())
}

/// The digests that were written into a database; `None` where none were.
pub(super) async fn written(
    database: &mut SqliteConnection,
) -> Result<Option<Vec<TableDigest>>, sqlx::Error> {
    let tables = "select count(*) from sqlite_schema where type = 'table' and name = 'backup_digests'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *database).await? == 0 {
        return Ok(None);
    }
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as("select name, row_count, sha256 from backup_digests").fetch_all(database).await?;
    let digest =
        |(table, rows, sha256)| TableDigest { table, rows: u64::try_from(rows).unwrap_or(0), sha256 };
    Ok(Some(rows.into_iter().map(digest).collect()))
}

/// Names the tables that differ, and how.
pub(super) fn differences(written: &[TableDigest], found: &[TableDigest]) -> Vec<String> {
    let by_name = |tables: &[TableDigest]| -> BTreeMap<String, TableDigest> {
        tables.iter().map(|table| (table.table.clone(), table.clone())).collect()
    };
    let (written, found) = (by_name(written), by_name(found));
    let mut differences = Vec::new();
    for (name, was) in &written {
        match found.get(name) {
            Some(is) if is == was => {}
            Some(is) if is.rows != was.rows => {
                differences.push(format!("the table {name} has {} rows instead of {}", is.rows, was.rows));
            }
            Some(_) => differences.push(format!("the table {name} differs from what was written")),
            None => differences.push(format!("the table {name} is missing")),
        }
    }
    let added = found.keys().filter(|name| !written.contains_key(*name));
    differences.extend(added.map(|name| format!("the table {name} was added")));
    differences
}

/// Digests every table, and the schema as one more (`sqlite_schema`).
pub(super) async fn of_tables(database: &mut SqliteConnection) -> Result<Vec<TableDigest>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_schema where type = 'table' and name <> 'backup_digests' order by name",
    )
    .fetch_all(&mut *database)
    .await?;
    let schema = ["type", "name", "tbl_name", "sql"].map(str::to_owned);
    let mut digests = vec![of_table(database, "sqlite_schema", &schema, "type, name").await?];
    for name in names {
        let columns: Vec<(String, i64)> =
            sqlx::query_as("select name, pk from pragma_table_info($1) order by cid")
                .bind(&name)
                .fetch_all(&mut *database)
                .await?;
        let mut key: Vec<&(String, i64)> = columns.iter().filter(|(_, pk)| *pk > 0).collect();
        key.sort_by_key(|(_, pk)| *pk);
        let key: Vec<String> = key.iter().map(|(column, _)| quoted(column)).collect();
        let order = if key.is_empty() { "rowid".to_owned() } else { key.join(", ") };
        let columns: Vec<String> = columns.into_iter().map(|(column, _)| column).collect();
        digests.push(of_table(database, &name, &columns, &order).await?);
    }
    Ok(digests)
}

/// Digests one table: the names of its columns, then each value with its type and length, row by row
/// in the order of the primary key. No two tables that differ give the same bytes.
async fn of_table(
    database: &mut SqliteConnection,
    table: &str,
    columns: &[String],
    order: &str,
) -> Result<TableDigest, sqlx::Error> {
    let mut hash = Sha256::new();
    let mut update = |kind: &str, bytes: &[u8]| {
        hash.update(kind.as_bytes());
        hash.update([b' ']);
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    for column in columns {
        update("column", column.as_bytes());
    }
    // As bytes, since a damaged text need not be one.
    let values: Vec<String> = columns
        .iter()
        .map(quoted)
        .map(|column| format!("typeof({column}), cast({column} as blob)"))
        .collect();
    let name = quoted(table);
    let query = format!("select {} from {name} order by {order}", values.join(", "));
    let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(database);
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        count += 1;
        for at in 0..columns.len() {
            let kind: &str = row.try_get(2 * at)?;
            let bytes: Option<&[u8]> = row.try_get(2 * at + 1)?;
            update(kind, bytes.unwrap_or_default());
        }
    }
    drop(rows);
    Ok(TableDigest { table: table.to_owned(), rows: count, sha256: hex(&hash.finalize()) })
}

fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref().replace('"', "\"\""))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
