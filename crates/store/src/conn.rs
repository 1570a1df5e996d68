//! Connections, by what may be done with them: [`Conn`] reads, [`Tx`] changes.
//!
//! A query is a [`Statement`]: one text for both engines, its values, and the type that its rows are
//! read into. On SQLite it runs at once, in the calling thread; on PostgreSQL the server is awaited.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Connection as _, PgConnection, SqlSafeStr, SqlStr};

use crate::pool::Lent;
use crate::row::{Columns, FromRow, Row};
use crate::statement::Statement;
use crate::{StoreError, WriteFault, counters};

/// A connection that queries run on, whatever the engine.
#[derive(Debug)]
pub struct Conn {
    pub(crate) engine: EngineConn,
}

/// The connection of the engine in use.
#[derive(Debug)]
pub(crate) enum EngineConn {
    Sqlite(Lent<rusqlite::Connection>),
    /// The one in the writer's thread, which changes nothing outside of a transaction.
    SqliteWriter(rusqlite::Connection),
    Postgres(PgConn),
}

/// A connection to PostgreSQL.
#[derive(Debug)]
pub(crate) struct PgConn {
    pub lent: Lent<PgConnection>,
    /// How to connect anew if the connection has died while nobody used it. Only for a first read:
    /// nothing is lost with it.
    reconnect: Option<Arc<PgConnectOptions>>,
}

impl PgConn {
    /// A connection for a transaction.
    pub fn of_transaction(lent: Lent<PgConnection>) -> Self {
        Self { lent, reconnect: None }
    }

    pub fn of_reader(lent: Lent<PgConnection>, options: &Arc<PgConnectOptions>) -> Self {
        let reconnect = (!lent.is_new).then(|| Arc::clone(options));
        Self { lent, reconnect }
    }

    async fn rows(&mut self, statement: &Statement) -> Result<Vec<PgRow>, StoreError> {
        counters::round_trip();
        self.lent.under_way = true;
        let mut asked = statement.postgres().fetch_all(&mut *self.lent).await;
        if let (Err(sqlx::Error::Io(_)), Some(options)) = (&asked, self.reconnect.take()) {
            self.lent.replace(PgConnection::connect_with(&options).await?);
            self.lent.under_way = true;
            asked = statement.postgres().fetch_all(&mut *self.lent).await;
        }
        self.reconnect = None;
        self.lent.under_way = false;
        Ok(asked?)
    }

    pub async fn change(&mut self, statement: &Statement) -> Result<u64, StoreError> {
        counters::round_trip();
        self.lent.under_way = true;
        let done = statement.postgres().execute(&mut *self.lent).await;
        self.lent.under_way = false;
        Ok(done?.rows_affected())
    }

    /// Runs statements without parameters, in one round trip.
    pub async fn run(&mut self, statements: SqlStr) -> Result<(), sqlx::Error> {
        counters::round_trip();
        self.lent.under_way = true;
        let done = sqlx::raw_sql(statements).execute(&mut *self.lent).await;
        self.lent.under_way = false;
        done.map(drop)
    }
}

/// The text of a query in the few places where the engines need one of their own.
macro_rules! per_engine {
    ($conn:expr, sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        if $conn.is_sqlite() { $sqlite } else { $postgres }
    };
}
pub(crate) use per_engine;

impl Conn {
    pub(crate) fn new(engine: EngineConn) -> Self {
        Self { engine }
    }

    /// Runs a statement that has no parameters and gives no rows.
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        match self.route()? {
            Route::Sqlite(connection) => connection.execute_batch(statement)?,
            Route::Postgres(connection) => connection.run(statement.into_sql_str()).await?,
        }
        Ok(())
    }

    /// Runs a statement that changes no row, and returns its rows.
    pub(crate) async fn all<T: FromRow>(&mut self, statement: Statement) -> Result<Vec<T>, StoreError> {
        self.all_by(statement, T::from_row).await
    }

    /// The same, with each row read by `read`.
    pub(crate) async fn all_by<T>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        match self.route()? {
            Route::Sqlite(connection) => statement.rows_on_sqlite(connection, read),
            Route::Postgres(connection) => {
                let rows = connection.rows(&statement).await?;
                rows.iter().map(|row| read(&mut Columns::of(Row::Postgres(row)))).collect()
            }
        }
    }

    /// The same for a statement that gives one row at most.
    pub(crate) async fn one<T: FromRow>(&mut self, statement: Statement) -> Result<Option<T>, StoreError> {
        Ok(self.all(statement).await?.pop())
    }

    /// The same for a statement that always gives a row.
    pub(crate) async fn row<T: FromRow>(&mut self, statement: Statement) -> Result<T, StoreError> {
        self.one(statement).await?.ok_or_else(StoreError::no_row)
    }

    fn route(&mut self) -> Result<Route<'_>, StoreError> {
        counters::statement();
        Ok(match &mut self.engine {
            EngineConn::Sqlite(connection) => Route::Sqlite(connection),
            // After some failures, such as a full disk, SQLite has rolled the whole transaction back by
            // itself, and would make durable whatever comes next.
            EngineConn::SqliteWriter(connection) if connection.is_autocommit() => {
                let reason = "the transaction was rolled back".to_owned();
                return Err(StoreError::NotWritable { fault: WriteFault::Failing, reason });
            }
            EngineConn::SqliteWriter(connection) => Route::Sqlite(connection),
            EngineConn::Postgres(connection) => Route::Postgres(connection),
        })
    }

    /// Whether it is one to SQLite.
    pub(crate) fn is_sqlite(&self) -> bool {
        !matches!(self.engine, EngineConn::Postgres(_))
    }

    /// The PostgreSQL connection, for what only PostgreSQL has.
    pub(crate) fn as_postgres(&mut self) -> Option<&mut PgConnection> {
        match &mut self.engine {
            EngineConn::Postgres(connection) => Some(&mut connection.lent),
            _ => None,
        }
    }
}

/// Where a statement goes.
enum Route<'c> {
    Sqlite(&'c mut rusqlite::Connection),
    Postgres(&'c mut PgConn),
}

/// A connection for reading, on loan from the read pool. It never waits for a writer.
///
/// On SQLite it is used by the thread that took it and given back before anything else is awaited;
/// debug builds check that.
#[derive(Debug)]
pub struct Reader {
    conn: Conn,
    #[cfg(debug_assertions)]
    _held: Option<held::Mark>,
}

impl Reader {
    /// A reader on SQLite, for the calling thread.
    pub(crate) fn sqlite(connection: Lent<rusqlite::Connection>) -> Self {
        Self {
            conn: Conn::new(EngineConn::Sqlite(connection)),
            #[cfg(debug_assertions)]
            _held: Some(held::Mark::new()),
        }
    }

    pub(crate) fn postgres(connection: PgConn) -> Self {
        Self {
            conn: Conn::new(EngineConn::Postgres(connection)),
            #[cfg(debug_assertions)]
            _held: None,
        }
    }
}

impl Deref for Reader {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

/// Checks that a thread holds one SQLite reader at a time, and gives it back itself. A reader that is
/// held while something else is awaited breaks one of the two.
#[cfg(debug_assertions)]
mod held {
    use std::cell::Cell;
    use std::thread::{self, ThreadId};

    thread_local! {
        static HELD: Cell<bool> = const { Cell::new(false) };
    }

    #[derive(Debug)]
    pub(super) struct Mark(ThreadId);

    impl Mark {
        pub fn new() -> Self {
            assert!(
                !HELD.replace(true),
                "a second reader is taken, or one is held while something is awaited"
            );
            Self(thread::current().id())
        }
    }

    impl Drop for Mark {
        fn drop(&mut self) {
            if !thread::panicking() {
                assert_eq!(self.0, thread::current().id(), "a reader was held while something was awaited");
            }
            HELD.set(false);
        }
    }
}

/// A transaction under way: everything done through it happens, or nothing does. Reads through it see
/// its own changes.
#[derive(Debug)]
pub struct Tx {
    pub(crate) conn: Conn,
}

impl Tx {
    pub(crate) fn new(engine: EngineConn) -> Self {
        Self { conn: Conn::new(engine) }
    }

    /// Runs a statement that changes rows. Returns how many.
    pub(crate) async fn change(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match self.conn.route()? {
            Route::Sqlite(connection) => statement.change_on_sqlite(connection),
            Route::Postgres(connection) => connection.change(&statement).await,
        }
    }

    /// Runs a statement that changes rows, and reads what it returns.
    pub(crate) async fn change_returning<T: FromRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<T>, StoreError> {
        self.conn.all(statement).await
    }

    /// The same for a statement that always returns a row.
    pub(crate) async fn change_returning_row<T: FromRow>(
        &mut self,
        statement: Statement,
    ) -> Result<T, StoreError> {
        self.conn.row(statement).await
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
