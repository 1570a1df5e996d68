//! A copy in both directions of a database that has rows in every table, compared value by value.
//!
//! Which tables and columns there are is read from the databases: a new one is tested without a
//! change here.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, Row, SqliteConnection};
use vellum_test_database::shared_server;

use super::{copied, vellum};

/// Tables of the engines' own, and what several nodes on one PostgreSQL tell each other: nothing
/// that a database of another engine has.
const NOT_COPIED: [&str; 3] = ["_sqlx_migrations", "displaced_leases", "commit_marks"];

/// A column as the schema of SQLite describes it.
#[derive(FromRow)]
struct Column {
    table: String,
    name: String,
    kind: String,
    position: i64,
    required: bool,
    /// Whether it is part of the primary key, or refers to another table's.
    is_key: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// By table: its rows in a fixed order, each by column.
type Contents = BTreeMap<String, Vec<BTreeMap<String, Value>>>;

/// Either engine's connection.
enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            Self::Sqlite(SqliteConnection::connect(url).await.unwrap())
        } else {
            Self::Postgres(PgConnection::connect(url).await.unwrap())
        }
    }

    async fn tables(&mut self) -> Vec<String> {
        let names: Vec<String> = match self {
            Self::Sqlite(database) => {
                let query = "select name from sqlite_schema
                             where type = 'table' and name not like 'sqlite\\_%' escape '\\' order by name";
                sqlx::query_scalar(query).fetch_all(database).await.unwrap()
            }
            Self::Postgres(database) => {
                let query = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
                sqlx::query_scalar(query).fetch_all(database).await.unwrap()
            }
        };
        names.into_iter().filter(|name| !NOT_COPIED.contains(&name.as_str())).collect()
    }

    async fn contents(&mut self) -> Contents {
        let mut contents = Contents::new();
        for table in self.tables().await {
            let rows = self.rows(&table).await;
            contents.insert(table, rows);
        }
        contents
    }

    async fn rows(&mut self, table: &str) -> Vec<BTreeMap<String, Value>> {
        let query = AssertSqlSafe(format!("select * from {table}"));
        let mut rows: Vec<BTreeMap<String, Value>> = match self {
            Self::Sqlite(database) => {
                sqlx::query(query).fetch_all(database).await.unwrap().iter().map(values).collect()
            }
            Self::Postgres(database) => {
                sqlx::query(query).fetch_all(database).await.unwrap().iter().map(values).collect()
            }
        };
        rows.sort();
        rows
    }
}

/// The values of a row by column, whichever engine it is from.
fn values<R: Row>(row: &R) -> BTreeMap<String, Value>
where
    for<'r> Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    usize: sqlx::ColumnIndex<R>,
{
    use sqlx::Column as _;
    let value = |at: usize| {
        if let Ok(number) = row.try_get::<Option<i64>, _>(at) {
            return number.map_or(Value::Null, Value::Integer);
        }
        if let Ok(text) = row.try_get::<Option<String>, _>(at) {
            return text.map_or(Value::Null, Value::Text);
        }
        row.try_get::<Option<Vec<u8>>, _>(at).unwrap().map_or(Value::Null, Value::Bytes)
    };
    row.columns().iter().map(|column| (column.name().to_owned(), value(column.ordinal()))).collect()
}

async fn columns(database: &mut SqliteConnection) -> Vec<Column> {
    sqlx::query_as(
        "select t.name as \"table\", c.name, lower(c.type) as kind, c.cid as position,
             c.\"notnull\" or c.pk > 0 as required,
             c.pk > 0 or exists (select 1 from pragma_foreign_key_list(t.name) k where k.\"from\" = c.name) as is_key
         from sqlite_schema t join pragma_table_info(t.name) c
         where t.type = 'table' and t.name not like 'sqlite\\_%' escape '\\' order by t.name, c.cid",
    )
    .fetch_all(database)
    .await
    .unwrap()
}

/// A value that the column takes; rows 1 to 3 of all tables refer to each other. In the third,
/// everything that may be missing is missing. No two columns of a row have the same value, but keys.
fn value(column: &Column, row: i64) -> String {
    let Column { name, position, .. } = column;
    match (name.as_str(), column.kind.as_str()) {
        _ if row == 3 && !column.required => "null".to_owned(),
        ("direction", _) => "'incoming'".to_owned(),
        ("status", _) => "'pending'".to_owned(),
        ("role", _) => "'viewer'".to_owned(),
        ("state", _) if row == 3 => "'awaiting_signature'".to_owned(),
        ("state", _) => "'delivering'".to_owned(),
        (_, "text") if column.is_key => format!("'key {row} of Grüße 🦀'"),
        (_, "text") => format!("'{name} {row}, 🦀 ''and'' \"more\"\\'"),
        (_, "blob") => format!("x'00ff{position:02x}{row:02x}'"),
        _ if row == 2 => (i64::MAX - position).to_string(),
        _ => (position * 1000 + row).to_string(),
    }
}

/// Puts three rows into every table of a new database.
async fn fill(database: &mut SqliteConnection) {
    // A table may come before those that it refers to.
    let mut statements = "pragma defer_foreign_keys = on;".to_owned();
    let columns = columns(database).await;
    for of_table in columns.chunk_by(|one, other| one.table == other.table) {
        let table = &of_table[0].table;
        if NOT_COPIED.contains(&table.as_str()) {
            continue;
        }
        for row in 1..=3 {
            let values: Vec<String> = of_table.iter().map(|column| value(column, row)).collect();
            statements += &format!("insert into {table} values ({});", values.join(", "));
        }
    }
    let mut tx = database.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

fn assert_same(direction: &str, expected: &Contents, seen: &Contents) {
    let names = |contents: &Contents| contents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(seen), names(expected), "{direction}: other tables");
    for (table, rows) in expected {
        let copied = &seen[table];
        assert_eq!(
            copied.len(),
            rows.len(),
            "{direction}: {table} had {} rows and has {}",
            rows.len(),
            copied.len()
        );
        for (row, copy) in rows.iter().zip(copied) {
            assert_eq!(copy, row, "{direction}: a row of {table} differs");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_table_goes_to_postgresql_and_back() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder: &Path = folder.path();
    let migrated = vellum(folder, &["db", "migrate"]);
    assert!(migrated.status.success(), "{}", super::told(&migrated));
    let in_folder = |name: &str| format!("sqlite://{}", folder.join(name).display());
    let (from, middle, back) = (in_folder("vellum.db"), server.new_database(), in_folder("back.db"));
    let mut source = SqliteConnection::connect(&from).await.unwrap();
    fill(&mut source).await;
    source.close().await.unwrap();

    let expected = Database::open(&from).await.contents().await;
    for (table, rows) in &expected {
        assert!(rows.len() >= 3, "this test leaves {table} with {} rows: fill it", rows.len());
    }
    copied(&vellum(folder, &["--json", "db", "copy", "--from", &from, "--to", &middle]));
    assert_same("to PostgreSQL", &expected, &Database::open(&middle).await.contents().await);
    copied(&vellum(folder, &["--json", "db", "copy", "--from", &middle, "--to", &back]));
    assert_same("and back", &expected, &Database::open(&back).await.contents().await);
}
