//! The store's errors: what went wrong between the node and its database.
//!
//! Each engine has codes of its own, which say different things with the same digits: [`of_postgres`] and
//! [`of_sqlite`] read them, and nothing else does.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why the database could not do what was asked. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is busy or a connection could not be had in time; trying again later may help.
    #[error("the database is busy")]
    Busy,
    /// Another transaction, here or on another node, got in the way; this one was undone. The store tries such
    /// a transaction again by itself, so this is seen inside a transaction only.
    #[error("another change to the database got in the way")]
    Conflict,
    /// The database cannot be reached, or has just gone away. Nothing was changed.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The database takes no changes now; an operator has to do something, and it goes on. Nothing was changed.
    #[error("the database cannot be written, since {fault} ({reason})")]
    NotWritable {
        /// Why, in words that anybody may read.
        fault: WriteFault,
        /// What the database says.
        reason: String,
    },
    /// The node's role in the database lacks a right, which the text names.
    #[error("the database refuses it: {0}")]
    Denied(String),
    /// A text has bytes that the database does not store, such as U+0000 on PostgreSQL.
    #[error("the database does not store such a text: {0}")]
    InvalidText(String),
    /// A database that no node can work on, such as one with another encoding than UTF-8.
    #[error("the database cannot be used: {0}")]
    Unsuitable(String),
    /// A file of the database cannot be opened.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: Box<StoreError>,
    },
    /// The store was closed: the node is stopping.
    #[error("the database is closed")]
    Closed,
    /// A row broke a unique key. Callers that expect this turn it into their own error.
    #[error("a row with the same key exists already ({0})")]
    Duplicate(String),
    /// A stored value is not what this version of the node writes.
    #[error("the database holds an unreadable value in {column}: {reason}")]
    Unreadable {
        /// Table and column.
        column: &'static str,
        /// What is wrong with it, without the value.
        reason: String,
    },
    /// The database was made by a newer version of the node, or its history does not match.
    #[error("the database's schema does not fit this version of the node: {0}")]
    Schema(String),
    /// The database address in the settings cannot be used.
    #[error("the database address cannot be used: {0}")]
    Address(String),
    /// A backup cannot be made, is not whole, or cannot be put back.
    #[error("{0}")]
    Backup(String),
    /// A copy from another database cannot be made.
    #[error("{0}")]
    Copy(String),
    /// Work given to the database panicked; its change was rolled back.
    #[error("a change to the database panicked and was rolled back")]
    Panicked,
    /// Work given to the SQLite database waited for something else; its change was rolled back.
    #[error("a change to the database waited for something else and was rolled back")]
    Waited,
    /// Any other failure of the database.
    #[error("the database failed: {0}")]
    Database(Arc<dyn std::error::Error + Send + Sync>),
}

/// Why nothing can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// There is no room.
    Full,
    /// The file, its file system or the server takes no changes.
    ReadOnly,
    /// The disk or the server reports errors.
    Failing,
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the database is read-only",
            Self::Failing => "the storage reports errors",
        })
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::read(&error).unwrap_or_else(|| Self::Database(Arc::new(error)))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let known = if let rusqlite::Error::SqliteFailure(failure, message) = &error {
            let message = message.clone().unwrap_or_else(|| failure.to_string());
            of_sqlite(failure.extended_code.unsigned_abs(), &message)
        } else {
            None
        };
        known.unwrap_or_else(|| Self::Database(Arc::new(error)))
    }
}

impl StoreError {
    /// What a failure means; `None` where there is no variant for it.
    pub(crate) fn read(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::PoolTimedOut => Some(Self::Busy),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Some(Self::Closed),
            sqlx::Error::Io(error) => Some(Self::Unreachable(error.to_string())),
            sqlx::Error::Tls(error) => Some(Self::Unreachable(error.to_string())),
            sqlx::Error::Database(db) => {
                let known = if let Some(error) = db.try_downcast_ref::<PgDatabaseError>() {
                    of_postgres(error.code(), error.message())
                } else if db.try_downcast_ref::<SqliteError>().is_some() {
                    let code = db.code().and_then(|code| code.parse().ok()).unwrap_or(0);
                    of_sqlite(code, db.message())
                } else {
                    None
                };
                let duplicate = || db.is_unique_violation().then(|| Self::Duplicate(db.message().to_owned()));
                known.or_else(duplicate)
            }
            _ => None,
        }
    }

    /// A statement that always gives a row has given none.
    pub(crate) fn no_row() -> Self {
        sqlx::Error::RowNotFound.into()
    }

    /// Names the file in an error of opening it. What is wrong with the schema or the address says enough.
    pub(crate) fn opening<E: Into<Self>>(path: &Path) -> impl Fn(E) -> Self {
        move |error| match error.into() {
            error @ (Self::Schema(_) | Self::Address(_) | Self::File { .. }) => error,
            error => Self::File { path: path.display().to_string(), error: Box::new(error) },
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::VersionMissing(step) => Self::Schema(format!(
                "a newer version made it (step {step} of its history is not known here)"
            )),
            MigrateError::VersionMismatch(step) => Self::Schema(format!(
                "step {step} of its history is another than the one of that number in this version"
            )),
            other => Self::Schema(other.to_string()),
        }
    }
}

/// What a transaction can fail with: an error that may come from the store, which has to know.
pub trait TxError: From<StoreError> + Send + 'static {
    /// The store's error, if it is one.
    fn as_store(&self) -> Option<&StoreError>;
}

impl TxError for StoreError {
    fn as_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// What a SQLSTATE of PostgreSQL means; `None` where there is no variant for it.
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>)
fn of_postgres(state: &str, message: &str) -> Option<StoreError> {
    let text = || message.to_owned();
    let not_writable = |fault| StoreError::NotWritable { fault, reason: text() };
    Some(match state {
        // A serialization failure or a deadlock, both made good by trying again.
        "40001" | "40P01" => StoreError::Conflict,
        // A lock was not had in time, or the server has cancelled a statement that took too long.
        "55P03" | "57014" => StoreError::Busy,
        "42501" => StoreError::Denied(text()),
        "22021" | "22P05" => StoreError::InvalidText(text()),
        "25006" => not_writable(WriteFault::ReadOnly),
        "53100" => not_writable(WriteFault::Full),
        // Out of memory or of another resource; a failed read or write; a file that is gone.
        "53000" | "53200" | "53400" | "58000" | "58030" | "58P01" => not_writable(WriteFault::Failing),
        // The server stops, starts, has crashed, has no place left, has ended the connection, or was told to.
        "53300" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" => {
            StoreError::Unreachable(text())
        }
        // No connection; a password that is not taken; no such database.
        "3D000" => StoreError::Unreachable(text()),
        _ if state.starts_with("08") || state.starts_with("28") => StoreError::Unreachable(text()),
        _ => return None,
    })
}

/// What a result code of SQLite means, whose higher bytes say more; `None` where there is no variant for it.
/// (<https://sqlite.org/rescode.html>)
fn of_sqlite(code: u32, message: &str) -> Option<StoreError> {
    let not_writable = |fault| StoreError::NotWritable { fault, reason: format!("{message}, code {code}") };
    Some(match code & 0xff {
        // SQLITE_BUSY, SQLITE_LOCKED
        5 | 6 => StoreError::Busy,
        // SQLITE_READONLY
        8 => not_writable(WriteFault::ReadOnly),
        // SQLITE_FULL
        13 => not_writable(WriteFault::Full),
        // SQLITE_IOERR, SQLITE_CANTOPEN
        10 | 14 => not_writable(WriteFault::Failing),
        // SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_ROWID
        _ if matches!(code, 1555 | 2067 | 2579) => StoreError::Duplicate(message.to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: Option<StoreError>) -> &'static str {
        match error {
            None => "other",
            Some(StoreError::Busy) => "busy",
            Some(StoreError::Conflict) => "conflict",
            Some(StoreError::Denied(_)) => "denied",
            Some(StoreError::InvalidText(_)) => "text",
            Some(StoreError::Unreachable(_)) => "away",
            Some(StoreError::NotWritable { fault: WriteFault::Full, .. }) => "full",
            Some(StoreError::NotWritable { fault: WriteFault::ReadOnly, .. }) => "read-only",
            Some(StoreError::NotWritable { fault: WriteFault::Failing, .. }) => "failing",
            Some(other) => panic!("{other}"),
        }
    }

    #[test]
    fn each_engine_has_codes_of_its_own() {
        for (state, expected) in [
            // As numbers their last bytes are SQLite's codes for "busy" and "locked".
            ("42501", "denied"),
            ("22021", "text"),
            ("22P05", "text"),
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("25006", "read-only"),
            ("53100", "full"),
            ("58030", "failing"),
            ("57P01", "away"),
            ("57P03", "away"),
            ("08006", "away"),
            ("28P01", "away"),
            ("53300", "away"),
            ("57014", "busy"),
            ("42P01", "other"),
            ("23503", "other"),
            ("5", "other"),
        ] {
            assert_eq!(kind(of_postgres(state, "words")), expected, "{state}");
        }
        for (code, expected) in [
            (5, "busy"),
            (6, "busy"),
            (261, "busy"),
            (517, "busy"),
            (8, "read-only"),
            (1032, "read-only"),
            (13, "full"),
            (778, "failing"),
            (1034, "failing"),
            (14, "failing"),
            (1, "other"),
            (11, "other"),
            (787, "other"),
        ] {
            assert_eq!(kind(of_sqlite(code, "words")), expected, "{code}");
        }
    }
}
