//! Reading rows: from the columns of either engine to typed values.
//!
//! A value that cannot be read names its column, never its content.

use rusqlite::types::FromSql;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row as _, Type};
use vellum_protocol::{Alias, EncryptionKey, Handle, KmVersion, MessageType, SigningKey, UnixMillis};

use crate::StoreError;

/// A row of either engine.
#[derive(Clone, Copy)]
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r PgRow),
}

impl Row<'_> {
    /// The value of the column at this place; places count from 0.
    fn column<T: Stored>(self, at: usize) -> Result<T, StoreError> {
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

/// A type that both engines store as it is.
pub(crate) trait Stored: FromSql + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl<T> Stored for T where T: FromSql + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

/// A type that one column is read into.
pub(crate) trait Column: Sized {
    /// What the column holds.
    type Stored: Stored;

    /// Reads what the column holds, or says what is wrong with it, without the value.
    fn parse(stored: Self::Stored) -> Result<Self, String>;
}

impl<T: Column> Column for Option<T>
where
    Option<T::Stored>: Stored,
{
    type Stored = Option<T::Stored>;

    fn parse(stored: Self::Stored) -> Result<Self, String> {
        stored.map(T::parse).transpose()
    }
}

/// Implements [`Column`] for types, each with what it is stored as and how it is read.
macro_rules! column {
    ($($column:ty: $stored:ty => $parse:expr;)+) => {$(
        impl $crate::row::Column for $column {
            type Stored = $stored;

            fn parse(stored: $stored) -> Result<Self, String> {
                let parse: fn($stored) -> Result<Self, String> = $parse;
                parse(stored)
            }
        }
    )+};
}
pub(crate) use column;

/// Implements [`Column`] for types that are kept as one of a few words.
macro_rules! word {
    ($($column:ty),+) => {$(
        $crate::row::column! {
            $column: String => |word| Self::parse(&word).ok_or_else(|| "an unknown word".to_owned());
        }
    )+};
}
pub(crate) use word;

word!(MessageType);
column! {
    i64: i64 => Ok;
    String: String => Ok;
    Vec<u8>: Vec<u8> => Ok;
    bool: i64 => |number| Ok(number != 0);
    u32: i64 => |number| Ok(u32::try_from(number).unwrap_or(u32::MAX));
    u64: i64 => |number| Ok(u64::try_from(number).unwrap_or(0));
    UnixMillis: i64 => |at| Ok(Self(at));
    KmVersion: i64 => |version| Self::new(version).ok_or_else(|| "below 1".to_owned());
    [u8; 32]: Vec<u8> => |bytes| Self::try_from(bytes).map_err(|_| "not 32 bytes".to_owned());
    Alias: String => |text| Self::parse(&text).map_err(|error| error.to_string());
    Handle: String => |text| Self::parse(&text).map_err(|error| error.to_string());
    SigningKey: String => |text| Self::parse_checked(&text).map_err(|error| error.to_string());
    EncryptionKey: String => |text| Self::parse(&text).map_err(|error| error.to_string());
}

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
        self.read(std::any::type_name::<T>())
    }

    /// The value of the next column, whose table and name these are. Debug builds check the name,
    /// so that no two columns are mistaken for each other.
    pub fn field<T: Column>(&mut self, column: &'static str) -> Result<T, StoreError> {
        #[cfg(debug_assertions)]
        assert_eq!(
            self.row.name(self.next),
            column.rsplit('.').next(),
            "a statement gives other columns than its row reads"
        );
        self.read(column)
    }

    fn read<T: Column>(&mut self, column: &'static str) -> Result<T, StoreError> {
        let stored = self.row.column(self.next)?;
        self.next += 1;
        T::parse(stored).map_err(|reason| StoreError::Unreadable { column, reason })
    }
}

/// A type that a row is read into, column by column in the order in which the statement names them.
pub(crate) trait FromRow: Sized {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError>;
}

/// Implements [`FromRow`] for a struct whose fields are the columns of a statement, in its order.
/// The table is what errors name. `field: column` is a field whose column has another name,
/// `..field` one that reads several columns by a [`FromRow`] of its own.
macro_rules! columns {
    ($table:literal: $row:ty { $($fields:tt)* }) => {
        impl $crate::row::FromRow for $row {
            fn from_row(columns: &mut $crate::row::Columns<'_>) -> Result<Self, $crate::StoreError> {
                $crate::row::columns!(@read $table columns, [] $($fields)*)
            }
        }
    };
    (@read $table:literal $columns:ident, [$($read:tt)*] ..$field:ident $(, $($rest:tt)*)?) => {
        $crate::row::columns!(@read $table $columns,
            [$($read)* $field: $crate::row::FromRow::from_row($columns)?,] $($($rest)*)?)
    };
    (@read $table:literal $columns:ident, [$($read:tt)*] $field:ident: $column:ident $(, $($rest:tt)*)?) => {
        $crate::row::columns!(@read $table $columns,
            [$($read)* $field: $columns.field(concat!($table, ".", stringify!($column)))?,] $($($rest)*)?)
    };
    (@read $table:literal $columns:ident, [$($read:tt)*] $field:ident $(, $($rest:tt)*)?) => {
        $crate::row::columns!(@read $table $columns, [$($read)*] $field: $field $(, $($rest)*)?)
    };
    (@read $table:literal $columns:ident, [$($read:tt)*]) => { Ok(Self { $($read)* }) };
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
