//! Rows of any table as plain values, read and written the same way on both engines.
//!
//! The texts of these queries are put together from names of tables and columns that the schema
//! gives, and from nothing else.

use crate::conn::per_engine;
use crate::row::Columns;
use crate::statement::{Statement, Value};
use crate::tables::Table;
use crate::{Conn, StoreError, Tx};

/// Rows in a page, at most.
const PAGE: i64 = 5_000;
/// Bytes in a page, save for a single row that is longer: a page is held in memory.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;
/// Values in one statement. Statements of one length are parsed once; longer ones bring nothing.
const VALUES: usize = 3_000;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Text,
    Bytes,
}

/// A table with its columns, in the order of their names.
pub(super) struct Rows {
    table: &'static Table,
    columns: Vec<(String, Kind)>,
    names: String,
    /// The places of the key's columns.
    key: Vec<usize>,
}

impl Rows {
    pub async fn of(table: &'static Table, conn: &mut Conn) -> Result<Self, StoreError> {
        let select = per_engine!(conn,
            sqlite: "select name, lower(type) from pragma_table_info($1)",
            postgres: "select column_name::text, data_type::text from information_schema.columns
                       where table_schema = current_schema() and table_name = $1"
        );
        let mut types: Vec<(String, String)> = conn.all(Statement::new(select).bind(table.name)).await?;
        types.sort();
        let mut columns = Vec::with_capacity(types.len());
        for (name, column_type) in types {
            let kind = match column_type.as_str() {
                "integer" | "bigint" => Kind::Integer,
                "text" => Kind::Text,
                "blob" | "bytea" => Kind::Bytes,
                other => return Err(StoreError::Copy(format!("{}.{name} has the type {other}", table.name))),
            };
            columns.push((name, kind));
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let key = table.key.iter().filter_map(|key| names.iter().position(|name| name == key)).collect();
        Ok(Self { table, names: names.join(", "), key, columns })
    }

    /// Rows behind the key `last`, in the order of the key: at most a page.
    pub async fn page(&self, conn: &mut Conn, last: Option<&[Value]>) -> Result<Vec<Vec<Value>>, StoreError> {
        let last = last.unwrap_or_default();
        let order = self.table.key.join(", ");
        let places: Vec<String> = (1..=last.len()).map(|n| format!("${n}")).collect();
        let behind = if last.is_empty() {
            String::new()
        } else {
            format!("where ({order}) > ({})", places.join(", "))
        };
        let select = |what: &str, limit: i64| {
            let (table, place) = (self.table.name, last.len() + 1);
            let text = format!("select {what} from {table} {behind} order by {order} limit ${place}");
            last.iter().cloned().fold(Statement::new(text), Statement::bind).bind(limit)
        };
        // Measured first, which reads no value: what has been asked for comes, however long it is.
        let lengths: Vec<String> = self
            .columns
            .iter()
            .filter(|(_, kind)| *kind != Kind::Integer)
            .map(|(name, _)| format!("coalesce(octet_length({name}), 0)"))
            .chain(["8".to_owned()])
            .collect();
        let measure = format!("cast({} as bigint)", lengths.join(" + "));
        let lengths: Vec<(i64,)> = conn.all(select(&measure, PAGE)).await?;
        let limit = rows_within(&lengths, PAGE_BYTES);
        conn.all_by(select(&self.names, limit), |row| values(row, &self.columns)).await
    }

    /// The values of a row that its table is ordered by.
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().filter_map(|at| row.get(*at).cloned()).collect()
    }

    /// The key of the last row, or `None` for an empty table.
    pub async fn last_key(&self, conn: &mut Conn) -> Result<Option<Vec<Value>>, StoreError> {
        let columns: Vec<_> = self.key.iter().filter_map(|at| self.columns.get(*at)).cloned().collect();
        let order: Vec<String> = self.table.key.iter().map(|name| format!("{name} desc")).collect();
        let (names, table, order) = (self.table.key.join(", "), self.table.name, order.join(", "));
        let select = Statement::new(format!("select {names} from {table} order by {order} limit 1"));
        Ok(conn.all_by(select, |row| values(row, &columns)).await?.pop())
    }

    /// Writes rows: all of them, or none.
    pub async fn insert(&self, target: &mut Tx, rows: Vec<Vec<Value>>) -> Result<(), StoreError> {
        let before = format!("insert into {} ({}) values ", self.table.name, self.names);
        let mut rows = rows.into_iter().peekable();
        target.run("begin").await?;
        while rows.peek().is_some() {
            let some = rows.by_ref().take(VALUES / self.columns.len());
            target.change(Statement::with_rows(&before, some, "")).await?;
        }
        target.run("commit").await
    }
}

fn values(row: &mut Columns<'_>, columns: &[(String, Kind)]) -> Result<Vec<Value>, StoreError> {
    let value = |(_, kind): &(String, Kind)| {
        Ok(match kind {
            Kind::Integer => Value::Integer(row.take()?),
            Kind::Text => Value::Text(row.take::<Option<String>>()?.map(without_nul)),
            Kind::Bytes => Value::Bytes(row.take()?),
        })
    };
    columns.iter().map(value).collect()
}

pub(super) async fn count(conn: &mut Conn, table: &str) -> Result<u64, StoreError> {
    let (count,): (i64,) = conn.row(Statement::new(format!("select count(*) from {table}"))).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many of these rows have together so many bytes; one at least.
fn rows_within(lengths: &[(i64,)], bytes: u64) -> i64 {
    let mut sum = 0_u64;
    let fits = |(length,): &&(i64,)| {
        sum += u64::try_from(*length).unwrap_or(0);
        sum <= bytes
    };
    i64::try_from(lengths.iter().take_while(fits).count()).unwrap_or(PAGE).max(1)
}

/// A text without U+0000. Earlier versions let it into SQLite, and PostgreSQL takes none; where it
/// may be, in what peers call themselves and have shared, nothing depends on it.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_is_too_long_and_has_one_row_at_least() {
        assert_eq!(rows_within(&[(4,), (4,), (4,)], 8), 2);
        assert_eq!(rows_within(&[(4,), (4,), (4,)], 100), 3);
        assert_eq!(rows_within(&[(9,), (1,)], 8), 1);
    }
}
