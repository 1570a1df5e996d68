//! The store's errors: what went wrong between the node and its database.

use std::sync::Arc;

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
    /// Any other failure of the database.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Closed,
            sqlx::Error::Io(error) => Self::Unreachable(error.to_string()),
            sqlx::Error::Tls(error) => Self::Unreachable(error.to_string()),
            sqlx::Error::Database(db) if is_conflict(db.code().as_deref()) => Self::Conflict,
            sqlx::Error::Database(db) if is_away(db.code().as_deref()) => {
                Self::Unreachable(db.message().to_owned())
            }
            sqlx::Error::Database(db) if db.is_unique_violation() => Self::Duplicate(db.message().to_owned()),
            sqlx::Error::Database(db) if is_sqlite_busy(db.code().as_deref()) => Self::Busy,
            _ => Self::Database(Arc::new(error)),
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

/// PostgreSQL: a serialization failure or a deadlock, both made good by trying again.
fn is_conflict(code: Option<&str>) -> bool {
    matches!(code, Some("40001" | "40P01"))
}

/// PostgreSQL: the server stops, starts, has crashed, has no place left, or was stopped by an operator.
fn is_away(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "53300"))
}

/// SQLITE_BUSY (5) and SQLITE_LOCKED (6), with their extended codes in the higher bytes.
fn is_sqlite_busy(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
}
