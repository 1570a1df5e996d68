//! A statement with its parameters: the one way in which a query is written.

use std::borrow::Cow;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use vellum_protocol::{Handle, KmVersion, UnixMillis};

use crate::row::{Columns, Row};
use crate::{
    AuditId, CollectionId, FriendshipId, InvitationId, OutboxId, SessionId, ShareId, StoreError, TransferId,
    UserId,
};

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

/// The text of one SQL statement and the values of `$1`, `$2` and so on, each of which stands in it.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub sql: Cow<'static, str>,
    pub values: Vec<Value>,
}

impl Statement {
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    /// A statement about several rows, each in brackets between `before` and `after`.
    pub fn with_rows<R: IntoIterator<Item = Value>>(
        before: &str,
        rows: impl Iterator<Item = R>,
        after: &str,
    ) -> Self {
        let (mut sql, mut values) = (before.to_owned(), Vec::new());
        for row in rows {
            sql.push_str(if values.is_empty() { "(" } else { ", (" });
            for (n, value) in row.into_iter().enumerate() {
                values.push(value);
                sql.push_str(&format!("{}${}", if n == 0 { "" } else { ", " }, values.len()));
            }
            sql.push(')');
        }
        sql.push_str(after);
        Self { sql: sql.into(), values }
    }

    /// The value of the next parameter.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The query for PostgreSQL.
    pub fn postgres(&self) -> Query<'_, Postgres, PgArguments> {
        // Every text here is the store's own; what comes from outside is bound.
        let query = sqlx::query(AssertSqlSafe(self.sql.clone()));
        self.values.iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text.as_deref()),
            Value::Integer(number) => query.bind(*number),
            Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        })
    }

    /// Runs it on SQLite and reads its rows.
    pub fn rows_on_sqlite<T>(
        self,
        connection: &Connection,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut prepared = self.prepare(connection)?;
        let (mut rows, mut all) = (prepared.raw_query(), Vec::new());
        while let Some(row) = rows.next()? {
            all.push(read(&mut Columns::of(Row::Sqlite(row)))?);
        }
        Ok(all)
    }

    /// Runs it on SQLite. Returns how many rows it has changed.
    pub fn change_on_sqlite(self, connection: &Connection) -> Result<u64, StoreError> {
        let changed = self.prepare(connection)?.raw_execute()?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    /// SQLite numbers `$1` and `$2` in the order in which they appear, and `?1` and `?2` as they say.
    fn prepare<'c>(&self, connection: &'c Connection) -> Result<CachedStatement<'c>, StoreError> {
        let mut prepared = connection.prepare_cached(&self.sql.replace('$', "?"))?;
        for (n, value) in self.values.iter().enumerate() {
            prepared.raw_bind_parameter(n + 1, value)?;
        }
        Ok(prepared)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => text.as_deref().into(),
            Self::Integer(number) => number.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Bytes(bytes) => bytes.as_deref().into(),
        }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<Option<UnixMillis>> for Value {
    fn from(at: Option<UnixMillis>) -> Self {
        at.map(|at| at.0).into()
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        i64::from(number).into()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        i64::from(value).into()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<&[u8; 32]> for Value {
    fn from(hash: &[u8; 32]) -> Self {
        Self::Bytes(Some(hash.to_vec()))
    }
}

impl From<UnixMillis> for Value {
    fn from(at: UnixMillis) -> Self {
        at.0.into()
    }
}

impl From<KmVersion> for Value {
    fn from(version: KmVersion) -> Self {
        version.get().into()
    }
}

impl From<&Handle> for Value {
    fn from(handle: &Handle) -> Self {
        handle.as_str().into()
    }
}

macro_rules! from_id {
    ($($id:ty),+) => {$(
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                id.as_str().into()
            }
        }

        impl From<Option<&$id>> for Value {
            fn from(id: Option<&$id>) -> Self {
                id.map(<$id>::as_str).into()
            }
        }

        impl From<&Option<$id>> for Value {
            fn from(id: &Option<$id>) -> Self {
                id.as_ref().into()
            }
        }
    )+};
}
from_id!(AuditId, CollectionId, FriendshipId, InvitationId, OutboxId, SessionId, ShareId, TransferId, UserId);
