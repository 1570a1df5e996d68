//! Reading rows: from the columns of either engine to typed values.
//!
//! A value that cannot be read names its column, never its content.

use std::fmt::Display;

use rusqlite::types::FromSql;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row as _, Type};
use vellum_protocol::{EncryptionKey, KmVersion, SigningKey};

use crate::StoreError;

/// A row of either engine.
#[derive(Clone, Copy)]
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r PgRow),
}

impl Row<'_> {
    /// The value of the column at this place; places count from 0.
    fn column<T: Column>(self, at: usize) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(row) => Ok(row.get(at)?),
            Self::Postgres(row) => Ok(row.try_get(at)?),
        }
    }

    #[cfg(debug_assertions)]
    fn name(&self, at: usize) -> Option<&str> {
        use sqlx::Column as _;
        match self {
            Self::Sqlite(row) => row.as_ref().column_name(at).ok(),
            Self::Postgres(row) => row.columns().get(at).map(|column| column.name()),
        }
    }
}

/// A type that one column is read into.
pub(crate) trait Column: FromSql + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl<T> Column for T where T: FromSql + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

/// The columns of a row, read from left to right.
pub(crate) struct Columns<'r> {
    row: Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    pub fn of(row: Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    /// The value of the next column.
    pub fn take<T: Column>(&mut self) -> Result<T, StoreError> {
        let value = self.row.column(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The value of the next column, which is the field of this name. Debug builds check that, so
    /// that no two columns are mistaken for each other.
    pub fn field<T: Column>(&mut self, name: &str) -> Result<T, StoreError> {
        #[cfg(debug_assertions)]
        assert_eq!(
            self.row.name(self.next),
            Some(name),
            "a statement gives other columns than its row reads"
        );
        #[cfg(not(debug_assertions))]
        let _ = name;
        self.take()
    }
}

/// A type that a row is read into, column by column in the order in which the statement names them.
pub(crate) trait FromRow: Sized {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError>;
}

/// Implements [`FromRow`] for a struct whose fields are the columns of a statement, in its order.
/// `..field` is a field that reads several columns by a [`FromRow`] of its own.
macro_rules! columns {
    ($row:ty { $($fields:tt)* }) => {
        impl $crate::row::FromRow for $row {
            fn from_row(columns: &mut $crate::row::Columns<'_>) -> Result<Self, $crate::StoreError> {
                $crate::row::columns!(@read columns, [] $($fields)*)
            }
        }
    };
    (@read $columns:ident, [$($read:tt)*] ..$field:ident $(, $($rest:tt)*)?) => {
        $crate::row::columns!(@read $columns,
            [$($read)* $field: $crate::row::FromRow::from_row($columns)?,] $($($rest)*)?)
    };
    (@read $columns:ident, [$($read:tt)*] $field:ident $(, $($rest:tt)*)?) => {
        $crate::row::columns!(@read $columns,
            [$($read)* $field: $columns.field(stringify!($field))?,] $($($rest)*)?)
    };
    (@read $columns:ident, [$($read:tt)*]) => { Ok(Self { $($read)* }) };
}
pub(crate) use columns;

macro_rules! tuple {
    ($($column:ident),+) => {
        impl<$($column: Column),+> FromRow for ($($column,)+) {
            fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
                Ok(($(columns.take::<$column>()?,)+))
            }
        }
    };
}
tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);

/// How many rows one statement writes: every one of them is a few parameters, of which the engines allow some ten thousand.
pub(crate) const ROWS_A_STATEMENT: usize = 500;

/// Reads one stored value with `parse`.
pub(crate) fn read<T, V, E: Display>(
    column: &'static str,
    value: V,
    parse: impl FnOnce(V) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(value).map_err(|error| StoreError::Unreadable { column, reason: error.to_string() })
}

/// Reads a stored value that was not there as well as one that was.
pub(crate) fn read_optional<T, V, E: Display>(
    column: &'static str,
    value: Option<V>,
    parse: impl FnOnce(V) -> Result<T, E>,
) -> Result<Option<T>, StoreError> {
    value.map(|value| read(column, value, parse)).transpose()
}

/// Reads a state or kind that is kept as a fixed word.
pub(crate) fn read_word<T>(
    column: &'static str,
    word: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(word).ok_or_else(|| StoreError::Unreadable { column, reason: "an unknown word".into() })
}

pub(crate) fn km_version(column: &'static str, version: i64) -> Result<KmVersion, StoreError> {
    read(column, version, |version| KmVersion::new(version).ok_or("below 1"))
}

pub(crate) fn signing_key(column: &'static str, text: &str) -> Result<SigningKey, StoreError> {
    read(column, text, SigningKey::parse)
}

pub(crate) fn encryption_key(column: &'static str, text: &str) -> Result<EncryptionKey, StoreError> {
    read(column, text, EncryptionKey::parse)
}
