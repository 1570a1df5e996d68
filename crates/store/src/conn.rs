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
use tokio::sync::MutexGuard;

use crate::abreast::Lane;
use crate::recent::Part;
use crate::row::{Columns, FromRow, Row};
use crate::statement::Statement;
use crate::{StoreError, UserId};

/// A connection that queries run on, whatever the engine.
#[derive(Debug)]
pub struct Conn {
    pub(crate) engine: EngineConn,
}

/// The connection of the engine in use.
#[derive(Debug)]
pub(crate) enum EngineConn {
    Sqlite(SqliteConn),
    Postgres(PoolConnection<Postgres>),
}

/// A connection to SQLite.
#[derive(Debug)]
pub(crate) enum SqliteConn {
    Reader(PoolConnection<Sqlite>),
    Writer(Lane),
}

/// The same while a query has it for itself.
pub(crate) enum Held<'c> {
    Reader(&'c mut SqliteConnection),
    Writer(MutexGuard<'c, PoolConnection<Sqlite>>),
}

impl SqliteConn {
    pub async fn hold(&mut self) -> Result<Held<'_>, StoreError> {
        Ok(match self {
            Self::Reader(connection) => Held::Reader(connection),
            Self::Writer(lane) => Held::Writer(lane.connection().await?),
        })
    }

    /// To be told what became of a query that had the connection.
    pub fn heed<T>(&self, outcome: &Result<T, sqlx::Error>) {
        if let Self::Writer(lane) = self {
            lane.heed(outcome);
        }
    }
}

impl Deref for Held<'_> {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Reader(connection) => connection,
            Self::Writer(connection) => connection,
        }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Reader(connection) => connection,
            Self::Writer(connection) => connection,
        }
    }
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
                let outcome = {
                    let mut held = connection.hold().await?;
                    let $c = &mut *held;
                    $body
                };
                connection.heed(&outcome);
                outcome
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
        Self { engine: EngineConn::Sqlite(SqliteConn::Reader(connection)) }
    }

    pub(crate) fn lane(lane: Lane) -> Self {
        Self { engine: EngineConn::Sqlite(SqliteConn::Writer(lane)) }
    }

    pub(crate) fn postgres(connection: PoolConnection<Postgres>) -> Self {
        Self { engine: EngineConn::Postgres(connection) }
    }

    /// Runs a statement that has no parameters and gives no rows.
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        on!(self, c => sqlx::query(statement).execute(c).await.map(Affected::from))?;
        Ok(())
    }

    /// Carries out a statement that changes no row, and gives all of its rows.
    pub(crate) async fn all<T: FromRow>(&mut self, statement: Statement) -> Result<Vec<T>, StoreError> {
        self.rows(statement, false).await
    }

    /// The same for a statement that gives one row at most.
    pub(crate) async fn one<T: FromRow>(&mut self, statement: Statement) -> Result<Option<T>, StoreError> {
        Ok(self.rows(statement, false).await?.pop())
    }

    /// The same for a statement that always gives a row.
    pub(crate) async fn row<T: FromRow>(&mut self, statement: Statement) -> Result<T, StoreError> {
        self.one(statement).await?.ok_or_else(StoreError::no_row)
    }

    async fn rows<T: FromRow>(&mut self, statement: Statement, changes: bool) -> Result<Vec<T>, StoreError> {
        match &mut self.engine {
            EngineConn::Sqlite(SqliteConn::Reader(connection)) => {
                read_sqlite(&statement.query::<Sqlite>().fetch_all(&mut **connection).await?)
            }
            EngineConn::Sqlite(SqliteConn::Writer(lane)) => {
                read_sqlite(&lane.run(statement, changes).await?.rows)
            }
            EngineConn::Postgres(connection) => {
                let rows = statement.query::<Postgres>().fetch_all(&mut **connection).await?;
                rows.iter().map(|row| T::from_row(&mut Columns::of(Row::Postgres(row)))).collect()
            }
        }
    }

    /// The SQLite connection, for what only SQLite has.
    pub(crate) fn as_sqlite(&mut self) -> Option<&mut SqliteConnection> {
        match &mut self.engine {
            EngineConn::Sqlite(SqliteConn::Reader(connection)) => Some(connection),
            EngineConn::Sqlite(SqliteConn::Writer(_)) | EngineConn::Postgres(_) => None,
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

fn read_sqlite<T: FromRow>(rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| T::from_row(&mut Columns::of(Row::Sqlite(row)))).collect()
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
    touched: Vec<(UserId, Part)>,
}

impl Tx {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, touched: Vec::new() }
    }

    /// To be called with every change of a user's row, sessions or roles, so that nobody goes on with what was read before.
    pub(crate) fn touch(&mut self, user: &UserId, part: Part) {
        self.touched.push((user.clone(), part));
    }

    /// Carries out a statement that changes rows. Tells how many.
    pub(crate) async fn change(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match &mut self.conn.engine {
            EngineConn::Sqlite(SqliteConn::Reader(connection)) => {
                Ok(statement.query::<Sqlite>().execute(&mut **connection).await?.rows_affected())
            }
            EngineConn::Sqlite(SqliteConn::Writer(lane)) => Ok(lane.run(statement, true).await?.affected),
            EngineConn::Postgres(connection) => {
                Ok(statement.query::<Postgres>().execute(&mut **connection).await?.rows_affected())
            }
        }
    }

    /// Carries out a statement that changes rows, and gives what it returns.
    pub(crate) async fn change_returning<T: FromRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<T>, StoreError> {
        self.conn.rows(statement, true).await
    }

    /// The same for a statement that always returns a row.
    pub(crate) async fn change_returning_row<T: FromRow>(
        &mut self,
        statement: Statement,
    ) -> Result<T, StoreError> {
        self.change_returning(statement).await?.pop().ok_or_else(StoreError::no_row)
    }

    /// Whether something may have been changed.
    pub(crate) fn has_changed(&self) -> bool {
        match &self.conn.engine {
            EngineConn::Sqlite(SqliteConn::Writer(lane)) => lane.has_changed(),
            EngineConn::Sqlite(SqliteConn::Reader(_)) | EngineConn::Postgres(_) => true,
        }
    }

    /// The writer's connection, as a job sees it.
    pub(crate) fn lane(&self) -> Option<&Lane> {
        match &self.conn.engine {
            EngineConn::Sqlite(SqliteConn::Writer(lane)) => Some(lane),
            EngineConn::Sqlite(SqliteConn::Reader(_)) | EngineConn::Postgres(_) => None,
        }
    }

    pub(crate) fn touch_all(&mut self, touched: Vec<(UserId, Part)>) {
        self.touched.extend(touched);
    }

    /// Whom the changes since the last call have touched.
    pub(crate) fn take_touched(&mut self) -> Vec<(UserId, Part)> {
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
