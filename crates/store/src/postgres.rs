//! PostgreSQL, shared by any number of nodes: transactions that are as good as one after the other.
//!
//! ```text
//!   work ──▶ BEGIN SERIALIZABLE ──▶ COMMIT ──▶ answered
//!     ▲            │                   │
//!     │            │ conflict          │ the connection broke: did it happen?
//!     └── again ◀──┘                   └──▶ is its mark there, on a new connection: yes / no
//! ```
//!
//! The actors were written for a database with one writer, and on PostgreSQL they get the same: every
//! transaction is serializable, and one that another gets in the way of is undone and run again, here,
//! where nobody above notices.
//!
//! Every transaction leaves a mark (`commit_marks`) as its last change. Where the answer to a commit is
//! lost, the mark is left anew: a duplicate says that the transaction was committed, and success that it
//! never will be. So "it failed" is never said of a change that stands, nor "done" of one that a crash
//! has taken. (The server's own number of a transaction would not do: after a crash it gives numbers out
//! again that were not on the disk yet.)

use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::SqlSafeStr;
#[cfg(debug_assertions)]
use sqlx::migrate::MigrationType;
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, timeout};
use uuid::{NoContext, Timestamp, Uuid};
use vellum_protocol::UnixMillis;

use crate::conn::{EngineConn, PgConn, Reader, Tx};
use crate::defects::{Defect, planted};
use crate::error::{TxError, WriteFault};
use crate::pool::{ACQUIRE, Lent, Pool};
use crate::statement::Statement;
use crate::write_status::WriteStatus;
use crate::{StoreError, TxFuture, counters, pooling, postgres_checks};

/// Connections of a node. Its two kinds of threads keep no more busy at once.
const CONNECTIONS: u32 = 24;
/// For how long a transaction that others get in the way of is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The longest pause before it is tried again; each is drawn by lot up to twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// For how long the fate of a commit whose answer was lost is asked for.
const FIND_OUT: Duration = Duration::from_secs(30);
/// Between two attempts to ask.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// For how long marks are kept: much longer than anybody asks for one.
const KEEP_MARKS_MILLIS: u64 = 300_000;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/postgres");

/// A PostgreSQL database.
#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool<PgConnection>,
    options: Arc<PgConnectOptions>,
    pub status: WriteStatus,
}

/// How an attempt ended that is not simply done.
enum Trouble<E> {
    /// Another transaction got in the way: undone, to be tried again.
    Conflict,
    /// To be told to the caller. Undone.
    Failed(E),
}

impl Postgres {
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let database = Self::connect(url).await?;
        let mut connection = database.check_out().await?;
        let history = &history();
        postgres_checks::encoding(&mut connection).await?;
        // A role that only works on the tables needs no right to make them.
        if !postgres_checks::is_current(&mut connection, history).await? {
            postgres_checks::right_to_create(&mut connection).await?;
            // It takes an advisory lock, so of several nodes that start together one migrates.
            history.run(&mut *connection).await?;
        }
        postgres_checks::rights(&mut connection).await?;
        drop(connection);
        Ok(database)
    }

    async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = options(url)?;
        // A pool would try for a while, and say of whatever went wrong that there was no time.
        PgConnection::connect_with(&options).await?.close().await?;
        pooling::refuse_transaction_pooling(&options).await?;
        let (pool, options) = (Pool::new(CONNECTIONS), Arc::new(options));
        Ok(Self { pool, options, status: WriteStatus::new("PostgreSQL".to_owned()) })
    }

    /// Open connections; the one that listens for signals is not counted.
    pub fn connections(&self) -> u32 {
        self.pool.open_connections()
    }

    pub async fn read(&self) -> Result<Reader, StoreError> {
        let lent = self.check_out().await.inspect_err(|error| self.status.read_failed(error))?;
        Ok(Reader::postgres(PgConn::of_reader(lent, &self.options)))
    }

    async fn check_out(&self) -> Result<Lent<PgConnection>, StoreError> {
        self.pool.check_out(connect(&self.options)).await
    }

    /// Why there was no answer in time.
    pub fn timed_out(&self) -> StoreError {
        if self.pool.is_exhausted() { StoreError::Busy } else { no_connection() }
    }

    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Clone + Send + 'static,
    {
        let database = self.clone();
        // A task of its own: it goes on if the caller stops waiting.
        let task = tokio::spawn(async move {
            let result = database.run(work).await;
            database.status.note(&result);
            result
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Clone + Send + 'static,
    {
        let give_up = Instant::now() + RETRY;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.attempt(work.clone()).await {
                Ok(value) => return Ok(value),
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Conflict) if Instant::now() < give_up => {
                    metrics::counter!("vellum_database_conflicts_total").increment(1);
                    tokio::time::sleep(pause.mul_f64(rand::random())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(Trouble::Conflict) => return Err(StoreError::Busy.into()),
            }
        }
    }

    async fn attempt<T, E, F>(&self, work: F) -> Result<T, Trouble<E>>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let started = Instant::now();
        // Marks sort by the time they were made.
        let mark = Uuid::now_v7();
        let mut tx = self.begin().await.map_err(|error| Trouble::Failed(error.into()))?;
        let result = AssertUnwindSafe(async { work(&mut tx).await }).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(StoreError::Panicked.into()));
        match result {
            Ok(value) => {
                if planted(Defect::AckBeforeCommit) {
                    let database = self.clone();
                    tokio::spawn(async move {
                        // A slow disk.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        database.commit::<StoreError>(tx, mark).await.ok();
                    });
                    return Ok(value);
                }
                self.commit(tx, mark).await?;
                // The names that SQLite's groups are measured under; here each change is a group.
                metrics::histogram!("vellum_database_group_seconds").record(started.elapsed());
                metrics::histogram!("vellum_database_group_jobs").record(1.0);
                Ok(value)
            }
            Err(error) => {
                let conflict = matches!(error.as_store(), Some(StoreError::Conflict));
                undo(tx).await;
                Err(if conflict { Trouble::Conflict } else { Trouble::Failed(error) })
            }
        }
    }

    /// Begins a transaction. A connection that has died while nobody used it is replaced once, and all
    /// that were free with it: most likely the server was started anew.
    async fn begin(&self) -> Result<Tx, StoreError> {
        loop {
            let lent = self.check_out().await?;
            let is_new = lent.is_new;
            let mut connection = PgConn::of_transaction(lent);
            counters::statement();
            match connection.run("begin isolation level serializable".into_sql_str()).await {
                Ok(()) => return Ok(Tx::new(EngineConn::Postgres(connection))),
                Err(sqlx::Error::Io(_)) if !is_new => {
                    connection.lent.discard();
                    self.pool.clear();
                }
                Err(error) => {
                    connection.lent.discard();
                    return Err(standby(&error).unwrap_or_else(|| error.into()));
                }
            }
        }
    }

    async fn commit<E: TxError>(&self, mut tx: Tx, mark: Uuid) -> Result<(), Trouble<E>> {
        match commit_with_mark(&mut tx, mark).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict) => {
                undo(tx).await;
                Err(Trouble::Conflict)
            }
            Err(
                error @ (StoreError::Unreachable(_)
                | StoreError::NotWritable { .. }
                | StoreError::Database(_)),
            ) => {
                give_away(tx);
                if self.did_commit(mark).await { Ok(()) } else { Err(Trouble::Failed(error.into())) }
            }
            Err(error) => {
                undo(tx).await;
                Err(Trouble::Failed(error.into()))
            }
        }
    }

    /// Finds out whether a transaction was committed whose answer did not come.
    async fn did_commit(&self, mark: Uuid) -> bool {
        let give_up = Instant::now() + FIND_OUT;
        while Instant::now() < give_up {
            match self.leave_mark(mark).await {
                // Left by the transaction itself.
                Err(StoreError::Duplicate(_)) => return true,
                // It cannot leave its own any more, and so never will be committed.
                Ok(()) => return false,
                // No server; or the transaction is still under way, in a server process that has not
                // noticed yet.
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        tracing::error!(%mark, "commit outcome unknown");
        false
    }

    /// Leaves a transaction's mark in its place. Where the transaction has left it without having
    /// ended, the server waits for its end.
    async fn leave_mark(&self, mark: Uuid) -> Result<(), StoreError> {
        let mut connection = PgConn::of_transaction(self.check_out().await?);
        let waiting = connection.run(AssertSqlSafe(insert_mark(mark)).into_sql_str());
        // A connection that is given up while it waits is closed.
        timeout(ASK_AGAIN * 5, waiting).await.map_err(|_| StoreError::Busy)??;
        Ok(())
    }

    /// Forgets the marks that nobody asks for any more.
    pub async fn forget_marks(&self, now: UnixMillis) -> Result<(), StoreError> {
        let until = u64::try_from(now.0).unwrap_or(0).saturating_sub(KEEP_MARKS_MILLIS);
        let at = Timestamp::from_unix(NoContext, until / 1000, 0);
        // Not serializable, as nothing rests on it: so it gets in nobody's way.
        let forget = Statement::new("delete from commit_marks where mark < $1");
        let mut connection = PgConn::of_transaction(self.check_out().await?);
        connection.change(&forget.bind(Uuid::new_v7(at).to_string())).await?;
        Ok(())
    }

    pub async fn listen(&self, channel: &str) -> Result<PgListener, StoreError> {
        // The listener takes its connection from a pool of the driver's.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.connect_with(PgConnectOptions::clone(&self.options)).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(channel).await?;
        Ok(listener)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The steps of the schema. In builds for tests a variable adds one that is not there yet, so that nodes with and
/// without it can be tried together.
pub(crate) fn history() -> Migrator {
    let steps: Vec<Migration> = MIGRATIONS.iter().cloned().collect();
    #[cfg(debug_assertions)]
    let steps = {
        let mut steps = steps;
        if let Ok(text) = std::env::var("TEST_TOMORROWS_MIGRATION") {
            let sql = AssertSqlSafe(text).into_sql_str();
            steps.push(Migration::new(9_999, "of tomorrow".into(), MigrationType::Simple, sql, false));
        }
        steps
    };
    Migrator::with_migrations(steps)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    Ok(timeout(ACQUIRE, PgConnection::connect_with(options)).await.map_err(|_| no_connection())??)
}

fn no_connection() -> StoreError {
    let reason = "no connection in time: the server is down, starting, or has no connection left";
    StoreError::Unreachable(reason.to_owned())
}

/// The name is digits and hyphens, and nobody else's.
fn insert_mark(mark: Uuid) -> String {
    format!("insert into commit_marks (mark) values ('{mark}')")
}

/// Commits a transaction in which every statement has succeeded. PostgreSQL takes `commit` for a failed
/// one as a rollback, and calls that a success; leaving the mark fails then.
async fn commit_with_mark(tx: &mut Tx, mark: Uuid) -> Result<(), StoreError> {
    if let EngineConn::Postgres(connection) = &mut tx.conn.engine {
        let commit = format!("{}; commit", insert_mark(mark));
        counters::statement();
        counters::statement();
        connection.run(AssertSqlSafe(commit).into_sql_str()).await?;
    }
    Ok(())
}

/// Takes a transaction back. A connection on which even that fails is of no use to anybody.
async fn undo(mut tx: Tx) {
    if let Err(error) = tx.run("rollback").await {
        tracing::debug!(%error, "a transaction went with its connection");
        give_away(tx);
    }
}

/// Closes a connection, which undoes what is under way there.
fn give_away(tx: Tx) {
    if let EngineConn::Postgres(connection) = tx.conn.engine {
        connection.lent.discard();
    }
}

pub(crate) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    // The reason must not repeat the address: it carries a password.
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Address("it is no address of a PostgreSQL database".into()))?;
    // Poolers refuse what they do not know; there are no floating-point numbers here. The driver sets
    // the time zone.
    Ok(options.application_name("vellum").extra_float_digits(None))
}

/// Names the database at `url` without user and password.
pub(crate) fn place(url: &str) -> String {
    options(url).map_or_else(
        |error| error.to_string(),
        |options| {
            let database = options.get_database().unwrap_or(options.get_username());
            format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
        },
    )
}

/// A standby has no serializable transactions, whatever they would do, and says so with a code for all that it has
/// not.
fn standby(error: &sqlx::Error) -> Option<StoreError> {
    const FEATURE_NOT_SUPPORTED: &str = "0A000";
    let error = error.as_database_error()?;
    (error.code()? == FEATURE_NOT_SUPPORTED)
        .then(|| StoreError::NotWritable { fault: WriteFault::ReadOnly, reason: error.message().to_owned() })
}
