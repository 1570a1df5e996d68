//! Connections, by what may be done with them: [`Conn`] reads, [`Tx`] changes.
//!
//! Both engines run the same SQL text, so a query is written once, with the `on!` macro, and compiled for
//! each engine's connection. (sqlx's own `Any` driver is not used: it decodes truth values of SQLite
//! wrongly, after the write was applied.)

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgQueryResult;
use sqlx::sqlite::SqliteQueryResult;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection};

use crate::{StoreError, UserId};

/// A connection that queries run on, whatever the engine.
#[derive(Debug)]
pub struct Conn {
    pub(crate) engine: EngineConn,
}

/// The connection of the engine in use.
#[derive(Debug)]
pub(crate) enum EngineConn {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// How many rows a statement has changed, whatever the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affected(u64);

impl Affected {
    pub fn rows_affected(self) -> u64 {
        self.0
    }
}

impl From<SqliteQueryResult> for Affected {
    fn from(done: SqliteQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

impl From<PgQueryResult> for Affected {
    fn from(done: PgQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

/// Runs one body on whichever engine's connection `$conn` holds, under the name `$c`.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match &mut $conn.engine {
            $crate::conn::EngineConn::Sqlite(connection) => {
                let $c = &mut **connection;
                $body
            }
            $crate::conn::EngineConn::Postgres(connection) => {
                let $c = &mut **connection;
                $body
            }
        }
    };
}
pub(crate) use on;

/// The text of a query in the few places where the engines need one of their own.
macro_rules! per_engine {
    ($conn:expr, sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        match &$conn.engine {
            $crate::conn::EngineConn::Sqlite(_) => $sqlite,
            $crate::conn::EngineConn::Postgres(_) => $postgres,
        }
    };
}
pub(crate) use per_engine;

impl Conn {
    pub(crate) fn sqlite(connection: PoolConnection<Sqlite>) -> Self {
        Self { engine: EngineConn::Sqlite(connection) }
    }

    pub(crate) fn postgres(connection: PoolConnection<Postgres>) -> Self {
        Self { engine: EngineConn::Postgres(connection) }
    }

    /// Runs a statement that has no parameters and gives no rows.
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        on!(self, c => sqlx::query(statement).execute(c).await.map(Affected::from))?;
        Ok(())
    }

    /// The SQLite connection, for what only SQLite has.
    pub(crate) fn as_sqlite(&mut self) -> Option<&mut SqliteConnection> {
        match &mut self.engine {
            EngineConn::Sqlite(connection) => Some(connection),
            EngineConn::Postgres(_) => None,
        }
    }

    /// The PostgreSQL connection, for what only PostgreSQL has.
    pub(crate) fn as_postgres(&mut self) -> Option<&mut PgConnection> {
        match &mut self.engine {
            EngineConn::Sqlite(_) => None,
            EngineConn::Postgres(connection) => Some(connection),
        }
    }
}

/// A connection for reading, on loan from the read pool. It never waits for a writer.
#[derive(Debug)]
pub struct Reader(pub(crate) Conn);

impl Deref for Reader {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

/// A transaction under way: everything done through it happens, or nothing does. Reads through it see
/// its own changes.
#[derive(Debug)]
pub struct Tx {
    pub(crate) conn: Conn,
    touched: Vec<UserId>,
}

impl Tx {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, touched: Vec::new() }
    }

    /// To be called with every change of a user's row, sessions or roles, so that nobody goes on with what was read before.
    pub(crate) fn touch(&mut self, user: &UserId) {
        self.touched.push(user.clone());
    }

    /// Whom the changes since the last call have touched.
    pub(crate) fn take_touched(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.touched)
    }
}

impl Deref for Tx {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
