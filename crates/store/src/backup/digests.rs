//! The digests of a backup: one per table, in a table of their own, and one of the whole file. That
//! is the last line of the file, behind its last page, where SQLite reads nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::{Connection, Params};
use sha2::{Digest, Sha256};

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
pub(super) fn write(database: &Connection) -> rusqlite::Result<()> {
    // One may be there already: an earlier version puts back a backup with all that is in it.
    database.execute_batch(
        "drop table if exists backup_digests;
         create table backup_digests
             (name text not null primary key, row_count integer not null, sha256 text not null) strict",
    )?;
    for TableDigest { table, rows, sha256 } in of_tables(database)? {
        let insert = "insert into backup_digests (name, row_count, sha256) values (?1, ?2, ?3)";
        database.execute(insert, (table, i64::try_from(rows).unwrap_or(i64::MAX), sha256))?;
    }
    Ok(())
}

/// The digests that were written into a database; `None` where none were.
pub(super) fn written(database: &Connection) -> rusqlite::Result<Option<Vec<TableDigest>>> {
    if !database.table_exists(None, "backup_digests")? {
        return Ok(None);
    }
    let mut select = database.prepare("select name, row_count, sha256 from backup_digests")?;
    let rows = select.query_map([], |row| {
        let rows = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        Ok(TableDigest { table: row.get(0)?, rows, sha256: row.get(2)? })
    })?;
    rows.collect::<rusqlite::Result<_>>().map(Some)
}

/// The texts that a query of one column gives.
pub(super) fn texts(
    database: &Connection,
    query: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<String>> {
    database.prepare(query)?.query_map(values, |row| row.get(0))?.collect()
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
pub(super) fn of_tables(database: &Connection) -> rusqlite::Result<Vec<TableDigest>> {
    let tables =
        "select name from sqlite_schema where type = 'table' and name <> 'backup_digests' order by name";
    let schema = ["type", "name", "tbl_name", "sql"].map(str::to_owned);
    let mut digests = vec![of_table(database, "sqlite_schema", &schema, "type, name")?];
    for table in texts(database, tables, [])? {
        let columns = "select name from pragma_table_info(?1) order by cid";
        let columns = texts(database, columns, [&table])?;
        let key = "select name from pragma_table_info(?1) where pk > 0 order by pk";
        let key: Vec<String> = texts(database, key, [&table])?.iter().map(quoted).collect();
        let order = if key.is_empty() { "rowid".to_owned() } else { key.join(", ") };
        digests.push(of_table(database, &table, &columns, &order)?);
    }
    Ok(digests)
}

/// Digests one table: the names of its columns, then each value with its type and length, row by row
/// in the order of the primary key. No two tables that differ give the same bytes.
fn of_table(
    database: &Connection,
    table: &str,
    columns: &[String],
    order: &str,
) -> rusqlite::Result<TableDigest> {
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
    let query = format!("select {} from {} order by {order}", values.join(", "), quoted(table));
    let mut select = database.prepare(&query)?;
    let (mut rows, mut count) = (select.query([])?, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        for at in 0..columns.len() {
            let bytes = row.get_ref(2 * at + 1)?.as_bytes_or_null()?;
            update(row.get_ref(2 * at)?.as_str()?, bytes.unwrap_or_default());
        }
    }
    Ok(TableDigest { table: table.to_owned(), rows: count, sha256: hex(&hash.finalize()) })
}

fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref().replace('"', "\"\""))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
