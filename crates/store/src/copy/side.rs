//! One side of a copy: rows as plain cells, read and written the same way on both engines.
//!
//! The texts of these queries are put together here, from names of tables and columns that the schema gives and
//! from nothing else.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::conn::per_engine;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::statement::Statement;
use crate::{Conn, StoreError, postgres, sqlite};

/// Values in one statement. Statements of one length are parsed once; longer ones bring nothing.
const VALUES: usize = 3_000;
/// Bytes in one statement, save for a single row that is longer. PostgreSQL takes a gigabyte.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;
/// What a copy locks its PostgreSQL target by ("vellumcp"): no other copy goes to it meanwhile, nor does what a
/// killed one has left under way.
const COPY_LOCK: i64 = 0x7665_6c6c_756d_6370;
/// How many bytes a row has.
type Length = i64;
/// The table that marks an unfinished copy.
pub(crate) const MARK: &str = "copy_under_way";

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    /// How many bytes it has, about.
    fn len(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Bytes,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    kind: Kind,
}

/// A database that is copied from or to.
pub(super) enum Side {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Runs one body on whichever engine's connection it is.
macro_rules! on_side {
    ($side:expr, $c:ident => $body:expr) => {
        match $side {
            Side::Sqlite($c) => $body,
            Side::Postgres($c) => $body,
        }
    };
}

/// Brings the schema of a target to this version's.
pub(super) async fn migrate(url: &str) -> Result<(), StoreError> {
    if url.starts_with("sqlite:") {
        Sqlite::open(url).await?.close().await;
    } else {
        Postgres::open(url).await?.close().await;
    }
    Ok(())
}

pub(super) async fn has_mark(conn: &mut Conn) -> Result<bool, StoreError> {
    let text = per_engine!(conn,
        sqlite: "select count(*) from sqlite_schema where name = $1",
        postgres: "select count(*) from pg_tables where schemaname = current_schema() and tablename = $1"
    );
    let (count,): (i64,) = conn.row(Statement::new(text).bind(MARK)).await?;
    Ok(count > 0)
}

/// Divides rows into statements: each has at most `most` rows, and not more than its bytes unless a row alone has.
fn statements(rows: &[Vec<Cell>], most: usize) -> Vec<&[Vec<Cell>]> {
    let (mut statements, mut rest) = (Vec::new(), rows);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |row: &&Vec<Cell>| {
            bytes += row.iter().map(Cell::len).sum::<usize>();
            bytes <= STATEMENT_BYTES
        };
        let count = rest.iter().take(most).take_while(fits).count().max(1);
        let (statement, behind) = rest.split_at(count);
        statements.push(statement);
        rest = behind;
    }
    statements
}

/// How many of these rows have together so many bytes; one at least.
fn rows_within(lengths: &[Length], bytes: u64) -> usize {
    let mut sum = 0_u64;
    let fits = |length: &&Length| {
        sum += u64::try_from(**length).unwrap_or(0);
        sum <= bytes
    };
    lengths.iter().take_while(fits).count().max(1)
}

/// The cells of a row that its table is ordered by.
pub(super) fn key_of(row: &[Cell], key: &[&str], columns: &[Column]) -> Vec<Cell> {
    let cell = |name: &&str| {
        let at = columns.iter().position(|column| column.name == *name);
        at.and_then(|at| row.get(at)).cloned().unwrap_or(Cell::Null)
    };
    key.iter().map(cell).collect()
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn places(from: usize, count: usize) -> String {
    let places: Vec<String> = (from..from + count).map(|n| format!("${n}")).collect();
    format!("({})", places.join(", "))
}

/// Binds a cell with the type of its column: a missing value has a type, too.
macro_rules! bind {
    ($query:expr, $cell:expr, $kind:expr) => {
        match ($cell, $kind) {
            (Cell::Int(number), _) => $query.bind(*number),
            (Cell::Text(text), _) => $query.bind(text.as_str()),
            (Cell::Bytes(bytes), _) => $query.bind(bytes.as_slice()),
            (Cell::Null, Kind::Int) => $query.bind(None::<i64>),
            (Cell::Null, Kind::Text) => $query.bind(None::<&str>),
            (Cell::Null, Kind::Bytes) => $query.bind(None::<&[u8]>),
        }
    };
}

/// A text without U+0000. Earlier versions let it into SQLite, and PostgreSQL takes none; where it
/// may be, in what peers call themselves and have shared, nothing depends on it.
fn text(text: String) -> Cell {
    Cell::Text(if text.contains('\0') { text.replace('\0', "") } else { text })
}

/// Reads a row's cells by the kinds of its columns.
macro_rules! cells {
    ($row:expr, $columns:expr) => {{
        let mut cells = Vec::with_capacity($columns.len());
        for (at, column) in $columns.iter().enumerate() {
            cells.push(match column.kind {
                Kind::Int => $row.try_get::<Option<i64>, _>(at)?.map_or(Cell::Null, Cell::Int),
                Kind::Text => $row.try_get::<Option<String>, _>(at)?.map_or(Cell::Null, text),
                Kind::Bytes => $row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Cell::Null, Cell::Bytes),
            });
        }
        cells
    }};
}

impl Side {
    pub async fn open(url: &str, read_only: bool) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            let options = if read_only { sqlite::reading(url)? } else { sqlite::options(url)? };
            let opened = SqliteConnection::connect_with(&options).await;
            return Ok(Self::Sqlite(opened.map_err(StoreError::opening(options.get_filename()))?));
        }
        // By this name it is told from a node at work.
        let options = postgres::options(url)?.application_name("vellum-copy");
        Ok(Self::Postgres(PgConnection::connect_with(&options).await?))
    }

    /// Ends the connection, and waits until it has ended.
    pub async fn close(self) -> Result<(), StoreError> {
        on_side!(self, c => c.close().await?);
        Ok(())
    }

    /// A database to be looked at; `None` for a file that is not there.
    pub async fn open_if_there(url: &str) -> Result<Option<Self>, StoreError> {
        if url.starts_with("sqlite:") && !sqlite::file(url)?.exists() {
            return Ok(None);
        }
        Self::open(url, true).await.map(Some)
    }

    /// Has every later read see the state of now. A SQLite file is held still by its lock, which whoever calls takes.
    pub async fn hold_still(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(c) = self {
            sqlx::raw_sql("begin isolation level repeatable read read only").execute(c).await?;
        }
        Ok(())
    }

    /// Waits for another copy to this side to end; refuses if it does not soon.
    pub async fn keep_others_out(&mut self) -> Result<(), StoreError> {
        let Self::Postgres(c) = self else { return Ok(()) };
        for _ in 0..50 {
            let (taken,): (bool,) =
                sqlx::query_as("select pg_try_advisory_lock($1)").bind(COPY_LOCK).fetch_one(&mut *c).await?;
            if taken {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(StoreError::Copy("another copy to this database is under way".into()))
    }

    /// Whether there is such a table.
    pub async fn has_table(&mut self, table: &str) -> Result<bool, StoreError> {
        let (there,): (bool,) = match self {
            Self::Sqlite(c) => {
                sqlx::query_as("select exists (select 1 from sqlite_schema where name = $1)")
                    .bind(table)
                    .fetch_one(c)
                    .await?
            }
            Self::Postgres(c) => {
                sqlx::query_as("select to_regclass($1) is not null").bind(table).fetch_one(c).await?
            }
        };
        Ok(there)
    }

    /// Whether nodes are connected. A SQLite file has a lock for that, which whoever calls takes.
    pub async fn nodes_at_work(&mut self) -> Result<bool, StoreError> {
        let Self::Postgres(c) = self else { return Ok(false) };
        // Within a transaction the server would show who was there at the first look, again and again.
        sqlx::raw_sql("select pg_stat_clear_snapshot()").execute(&mut *c).await?;
        let (count,): (i64,) = sqlx::query_as(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'vellum'",
        )
        .fetch_one(c)
        .await?;
        Ok(count > 0)
    }

    #[cfg(test)]
    pub async fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        let Self::Sqlite(c) = self else { return Ok(Vec::new()) };
        let rows: Vec<(String,)> = sqlx::query_as(
            "select name from sqlite_schema where type = 'table' and name not like '\\_%' escape '\\'
                 and name not like 'sqlite\\_%' escape '\\'",
        )
        .fetch_all(c)
        .await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// The columns of a table, in the order of the schema's history.
    pub async fn columns(&mut self, table: &str) -> Result<Vec<Column>, StoreError> {
        let rows: Vec<(String, String)> = match self {
            Self::Sqlite(c) => {
                sqlx::query_as("select name, lower(type) from pragma_table_info($1) order by cid")
                    .bind(table)
                    .fetch_all(c)
                    .await?
            }
            Self::Postgres(c) => {
                sqlx::query_as(
                    "select column_name::text, data_type::text from information_schema.columns
                     where table_schema = current_schema() and table_name = $1 order by ordinal_position",
                )
                .bind(table)
                .fetch_all(c)
                .await?
            }
        };
        let column = |(name, kind): (String, String)| {
            let kind = match kind.as_str() {
                "integer" | "bigint" => Kind::Int,
                "text" => Kind::Text,
                "blob" | "bytea" => Kind::Bytes,
                other => return Err(StoreError::Copy(format!("{table}.{name} has the type {other}"))),
            };
            Ok(Column { name, kind })
        };
        rows.into_iter().map(column).collect()
    }

    pub async fn count(&mut self, table: &str) -> Result<u64, StoreError> {
        let query = format!("select count(*) from {table}");
        let (count,): (i64,) = on_side!(self, c => sqlx::query_as(AssertSqlSafe(query)).fetch_one(c).await)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Rows behind `last`, in the order of the key: at most `limit`, and not more bytes than `bytes` unless the first
    /// row alone has more.
    pub async fn page(
        &mut self,
        table: &str,
        key: &[&str],
        columns: &[Column],
        last: Option<&[Cell]>,
        limit: usize,
        bytes: u64,
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let (order, names) = (key.join(", "), names(columns));
        let behind = match last {
            Some(last) => format!("where ({order}) > {}", places(1, last.len())),
            None => String::new(),
        };
        // Measured first, which reads no value: what has been asked for comes, however long it is.
        let lengths: Vec<String> = columns
            .iter()
            .filter(|column| column.kind != Kind::Int)
            .map(|column| format!("coalesce(octet_length({}), 0)", column.name))
            .collect();
        let lengths = if lengths.is_empty() { "8".to_owned() } else { lengths.join(" + ") };
        let measure =
            format!("select cast({lengths} as bigint) from {table} {behind} order by {order} limit {limit}");
        let text = |limit| format!("select {names} from {table} {behind} order by {order} limit {limit}");
        on_side!(self, c => {
            let mut measured = sqlx::query_scalar(AssertSqlSafe(measure));
            for cell in last.unwrap_or_default() {
                // A key is never null.
                measured = bind!(measured, cell, Kind::Text);
            }
            let lengths: Vec<Length> = measured.fetch_all(&mut *c).await?;
            let mut query = sqlx::query(AssertSqlSafe(text(rows_within(&lengths, bytes))));
            for cell in last.unwrap_or_default() {
                query = bind!(query, cell, Kind::Text);
            }
            let rows = query.fetch_all(c).await?;
            rows.iter().map(|row| Ok(cells!(row, columns))).collect()
        })
    }

    /// The key of the last row, or `None` for an empty table.
    pub async fn last_key(
        &mut self,
        table: &str,
        key: &[&str],
        columns: &[Column],
    ) -> Result<Option<Vec<Cell>>, StoreError> {
        let of_key: Vec<Column> = key
            .iter()
            .filter_map(|name| columns.iter().find(|column| column.name == *name))
            .cloned()
            .collect();
        let order: Vec<String> = key.iter().map(|name| format!("{name} desc")).collect();
        let query = format!("select {} from {table} order by {} limit 1", names(&of_key), order.join(", "));
        on_side!(self, c => {
            let row = sqlx::query(AssertSqlSafe(query)).fetch_optional(c).await?;
            row.map(|row| Ok(cells!(row, of_key))).transpose()
        })
    }

    /// Writes rows: all of them, or none.
    pub async fn insert(
        &mut self,
        table: &str,
        columns: &[Column],
        rows: &[Vec<Cell>],
    ) -> Result<(), StoreError> {
        let names = names(columns);
        on_side!(self, c => {
            let mut tx = c.begin().await?;
            for rows in statements(rows, (VALUES / columns.len()).max(1)) {
                let places: Vec<String> =
                    (0..rows.len()).map(|n| places(n * columns.len() + 1, columns.len())).collect();
                let text = format!("insert into {table} ({names}) values {}", places.join(", "));
                let mut query = sqlx::query(AssertSqlSafe(text));
                for row in rows {
                    for (cell, column) in row.iter().zip(columns) {
                        query = bind!(query, cell, column.kind);
                    }
                }
                query.execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(())
        })
    }

    /// The source that an unfinished copy to this side is made from.
    pub async fn mark(&mut self) -> Result<Option<String>, StoreError> {
        let there = self.has_table(MARK).await?;
        if !there {
            return Ok(None);
        }
        let query = format!("select source from {MARK}");
        let (source,): (String,) =
            on_side!(self, c => sqlx::query_as(AssertSqlSafe(query)).fetch_one(c).await)?;
        Ok(Some(source))
    }

    /// Marks the side as the target of a copy, and empties what a new database comes with.
    pub async fn set_mark(&mut self, source: &str, seeded: &[&str]) -> Result<(), StoreError> {
        on_side!(self, c => {
            let mut tx = c.begin().await?;
            for table in seeded {
                sqlx::query(AssertSqlSafe(format!("delete from {table}"))).execute(&mut *tx).await?;
            }
            sqlx::query(AssertSqlSafe(format!("create table {MARK} (source text not null)")))
                .execute(&mut *tx)
                .await?;
            sqlx::query(AssertSqlSafe(format!("insert into {MARK} (source) values ($1)")))
                .bind(source)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(())
        })
    }

    pub async fn remove_mark(&mut self) -> Result<(), StoreError> {
        let query = format!("drop table {MARK}");
        on_side!(self, c => sqlx::query(AssertSqlSafe(query)).execute(c).await.map(drop))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_starts_while_a_source_is_held_still_is_seen() {
        let Some(server) = vellum_test_database::shared_server() else { return };
        let address = server.new_database();
        crate::Store::open(&address).await.unwrap().close().await;
        let mut side = Side::open_if_there(&address).await.unwrap().unwrap();
        side.hold_still().await.unwrap();
        while side.nodes_at_work().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let node = crate::Store::open(&address).await.unwrap();
        assert!(side.nodes_at_work().await.unwrap());
        node.close().await;
    }

    #[test]
    fn a_page_ends_before_it_is_too_long_and_has_one_row_at_least() {
        assert_eq!(rows_within(&[4, 4, 4], 8), 2);
        assert_eq!(rows_within(&[4, 4, 4], 100), 3);
        assert_eq!(rows_within(&[9, 1], 8), 1);
    }

    #[test]
    fn statements_have_bounds_in_rows_and_in_bytes() {
        let row = |bytes| vec![Cell::Bytes(vec![0; bytes])];
        let count = |rows: &[Vec<Cell>], most| -> Vec<usize> {
            statements(rows, most).iter().map(|statement| statement.len()).collect()
        };
        assert_eq!(count(&[row(1), row(1), row(1)], 2), [2, 1]);
        let (large, half) = (STATEMENT_BYTES + 1, STATEMENT_BYTES / 2);
        assert_eq!(count(&[row(large), row(half), row(half), row(1)], 9), [1, 2, 1]);
    }
}
