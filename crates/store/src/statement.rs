//! A statement with its parameters, as a value: it can wait until others go to the database with it (see `abreast`).
//!
//! What many requests do at once is written with these; everything else hands its query to sqlx directly, with `on!`.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::encode::Encode;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Database, Type};
use vellum_protocol::{Handle, KmVersion, UnixMillis};

use crate::users::KeyGeneration;
use crate::{
    AuditId, CollectionId, FriendshipId, InvitationId, OutboxId, SessionId, ShareId, TransferId, UserId,
};

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(Option<Arc<str>>),
    Integer(i64),
    /// An integer that is not there.
    Null,
    Bytes(Vec<u8>),
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
    pub fn with_rows<const N: usize>(
        before: &str,
        rows: impl Iterator<Item = [Value; N]>,
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

    /// Its own query, for a connection of this engine.
    pub fn query<DB>(&self) -> Query<'static, DB, DB::Arguments>
    where
        DB: Database,
        DB::Arguments: sqlx::IntoArguments<DB>,
        Option<Arc<str>>: Encode<'static, DB> + Type<DB>,
        i64: Encode<'static, DB> + Type<DB>,
        Option<i64>: Encode<'static, DB> + Type<DB>,
        Vec<u8>: Encode<'static, DB> + Type<DB>,
    {
        // Every text here is the store's own; what comes from outside is bound.
        self.bind_to(sqlx::query(AssertSqlSafe(self.sql.clone())))
    }

    /// Binds its values as the next parameters of a query.
    pub fn bind_to<DB>(&self, query: Query<'static, DB, DB::Arguments>) -> Query<'static, DB, DB::Arguments>
    where
        DB: Database,
        Option<Arc<str>>: Encode<'static, DB> + Type<DB>,
        i64: Encode<'static, DB> + Type<DB>,
        Option<i64>: Encode<'static, DB> + Type<DB>,
        Vec<u8>: Encode<'static, DB> + Type<DB>,
    {
        self.values.iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Integer(number) => query.bind(*number),
            Value::Null => query.bind(None::<i64>),
            Value::Bytes(bytes) => query.bind(bytes.clone()),
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Integer)
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
        Self::Bytes(bytes.to_vec())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&[u8; 32]> for Value {
    fn from(hash: &[u8; 32]) -> Self {
        Self::Bytes(hash.to_vec())
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

impl From<KeyGeneration> for Value {
    fn from(generation: KeyGeneration) -> Self {
        generation.0.into()
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
