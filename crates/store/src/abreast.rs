//! Jobs of different users side by side in one transaction: their statements go to the database together.
//!
//! SQLite runs in a thread of its own, and handing it a statement and taking the answer back costs as much as several
//! small changes. So jobs that have nothing to do with each other are run at the same time. Each goes on until it
//! needs the database; when all of them wait for it, what they wait for is carried out in as few trips as can be, and each goes
//! on with its answer. Equal statements share a trip:
//!
//! ```text
//!   job of user 1:  look up ──┐          swap keys ──┐          audit ──┐
//!   job of user 2:  look up ──┼─ a trip  swap keys ──┼─ a trip  audit ──┼─ a trip
//!   job of user 3:  look up ──┘          refused     ┘                  ┘
//! ```
//!
//! That is as good as one after the other, since no job reads or writes what another is about (see `concern`); who says
//! so is the caller of [`Store::write_for`](crate::Store::write_for). What cannot be undone alone is a job that has changed something and then fails.
//! It is rare, and then the writer takes all of them back and runs them one after the other.
//!
//! After some failures, such as a full disk, SQLite has rolled the whole transaction back by itself, and would carry out
//! whatever comes next for good. So after the first failure that is not a row's own fault nothing is carried out any more.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Either, Executor, SqlSafeStr, SqlStr, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard, oneshot};

use crate::StoreError;
use crate::statement::Statement;

/// How many equal statements share a trip at most. A power of two, since the database keeps one compiled text for each
/// of 1, 2, 4 and so on of them.
const LARGEST_TRIP: usize = 32;
/// How many texts of repeated statements are kept. There are few kinds; only numbers of rows make new ones.
const TEXTS: usize = 512;

/// How long a result is waited for without going to sleep.
const AWAKE: Duration = Duration::from_micros(60);

/// The writer's connection as one job sees it.
#[derive(Debug)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
    /// Whether there are jobs beside this one, and somebody carries out what they wait for.
    abreast: bool,
    /// Whether the job may have changed something.
    changed: bool,
}

/// Texts by what is repeated, and how often.
type Texts = HashMap<(Cow<'static, str>, usize), Arc<str>>;

#[derive(Debug)]
struct Shared {
    connection: Mutex<PoolConnection<Sqlite>>,
    waiting: StdMutex<Vec<Waiting>>,
    /// Why nothing is carried out for jobs that are abreast any more. Taken when they have ended, so empty without them.
    broken: StdMutex<Option<StoreError>>,
    texts: StdMutex<Texts>,
}

/// A statement that a job waits for.
#[derive(Debug)]
struct Waiting {
    statement: Statement,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub affected: u64,
    pub rows: Vec<SqliteRow>,
}

impl Lane {
    pub fn new(connection: PoolConnection<Sqlite>) -> Self {
        let (waiting, broken, texts) = (StdMutex::default(), StdMutex::default(), StdMutex::default());
        let shared = Shared { connection: Mutex::new(connection), waiting, broken, texts };
        Self { shared: Arc::new(shared), abreast: false, changed: false }
    }

    /// For a job beside others, as part of the same transaction.
    pub fn beside(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), abreast: true, changed: false }
    }

    /// The connection itself, for a query that goes to it alone. It counts as a change: what it does is not known here.
    pub async fn connection(&mut self) -> Result<MutexGuard<'_, PoolConnection<Sqlite>>, StoreError> {
        self.changed = true;
        let connection = self.shared.connection.lock().await;
        self.shared.check()?;
        Ok(connection)
    }

    /// To be told what became of a query that was given the connection.
    pub fn heed<T>(&self, outcome: &Result<T, sqlx::Error>) {
        if let Err(error) = outcome
            && self.abreast
        {
            self.shared.heed(error);
        }
    }

    /// What has put an end to the jobs that were abreast, if anything did; it is over then.
    pub fn take_broken(&self) -> Option<StoreError> {
        lock(&self.shared.broken).take()
    }

    /// Carries out a statement, together with the equal ones of other jobs.
    pub async fn run(&mut self, statement: Statement, changes: bool) -> Result<Outcome, StoreError> {
        let outcome = if self.abreast {
            let (answer, answered) = oneshot::channel();
            lock(&self.shared.waiting).push(Waiting { statement, answer });
            answered.await.unwrap_or(Err(StoreError::Closed))?
        } else {
            alone(&mut *self.shared.connection.lock().await, statement).await?
        };
        self.changed |= changes && outcome.affected > 0;
        Ok(outcome)
    }

    pub fn has_changed(&self) -> bool {
        self.changed
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> StdMutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has come of letting all jobs go on.
enum Step<'l, T> {
    Done(Vec<T>),
    AllWait(MutexGuard<'l, PoolConnection<Sqlite>>),
}

/// Runs jobs side by side, each of which holds a lane from [`Lane::beside`]. Gives what they give, in their order.
pub(crate) async fn run<J: Future>(lane: &Lane, jobs: impl IntoIterator<Item = J>) -> Vec<J::Output> {
    let mut jobs = pin!(join_all(jobs));
    loop {
        // Every job goes on until all of them wait.
        let step = poll_fn(|context| match jobs.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Step::Done(done)),
            Poll::Pending if lock(&lane.shared.waiting).is_empty() => Poll::Pending,
            // Where a job has the connection for itself, it goes on first: it cannot while this waits.
            Poll::Pending => {
                lane.shared.connection.try_lock().map_or(Poll::Pending, |c| Poll::Ready(Step::AllWait(c)))
            }
        });
        match step.await {
            Step::Done(done) => return done,
            Step::AllWait(mut connection) => lane.shared.carry_out(&mut connection).await,
        }
    }
}

impl Shared {
    fn check(&self) -> Result<(), StoreError> {
        lock(&self.broken).clone().map_or(Ok(()), Err)
    }

    fn heed(&self, error: &sqlx::Error) {
        if !is_a_rows_fault(error) {
            let other = || StoreError::Database(Arc::new(sqlx::Error::Protocol(error.to_string())));
            let meant = || StoreError::read(error).unwrap_or_else(other);
            lock(&self.broken).get_or_insert_with(meant);
        }
    }

    /// Carries out what jobs wait for: equal statements together.
    async fn carry_out(&self, connection: &mut SqliteConnection) {
        let mut waiting = mem::take(&mut *lock(&self.waiting));
        while !waiting.is_empty() {
            if let Err(error) = self.check() {
                waiting.into_iter().for_each(|one| drop(one.answer.send(Err(error.clone()))));
                return;
            }
            let sql = waiting[0].statement.sql.clone();
            let (mut equal, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|one| one.statement.sql == sql);
            waiting = others;
            while !equal.is_empty() && self.check().is_ok() {
                let rest = equal.split_off(size_of_trip(equal.len()));
                let unanswered = self.trip(connection, equal).await;
                equal = unanswered.into_iter().chain(rest).collect();
            }
            waiting.extend(equal);
        }
    }

    /// Carries out equal statements in one trip and answers them. Gives back those that stood behind one that failed.
    async fn trip(&self, connection: &mut SqliteConnection, equal: Vec<Waiting>) -> VecDeque<Waiting> {
        let mut unanswered = VecDeque::from(equal);
        let asked = unanswered.len();
        let mut query = sqlx::query(self.repeated(&unanswered[0].statement, unanswered.len()));
        for waiting in &unanswered {
            query = waiting.statement.bind_to(query);
        }
        let mut outcome = Outcome::default();
        let mut results = connection.fetch_many(query);
        while let Some(result) = soon(&mut results).await {
            let result = match result {
                Ok(Either::Right(row)) => {
                    outcome.rows.push(row);
                    continue;
                }
                Ok(Either::Left(done)) => {
                    outcome.affected = done.rows_affected();
                    Ok(mem::take(&mut outcome))
                }
                Err(error) => {
                    self.heed(&error);
                    Err(error.into())
                }
            };
            if let Some(Waiting { answer, .. }) = unanswered.pop_front() {
                // A job that does not wait any more has been dropped with the whole group.
                let _ = answer.send(result);
            }
        }
        if unanswered.len() == asked {
            // Not even a failure came back: asking again would go on for ever.
            self.heed(&sqlx::Error::WorkerCrashed);
        }
        unanswered
    }

    /// The text of a statement so many times, each with parameters of its own.
    fn repeated(&self, statement: &Statement, times: usize) -> SqlStr {
        let sql = &statement.sql;
        // Every text is the store's own; what comes from outside is bound.
        if times == 1 {
            return AssertSqlSafe(sql.clone()).into_sql_str();
        }
        let mut texts = lock(&self.texts);
        if texts.len() >= TEXTS {
            texts.clear();
        }
        let text = texts.entry((sql.clone(), times)).or_insert_with(|| {
            let each = (0..times).map(|n| renumbered(sql, n * statement.values.len()));
            each.collect::<Vec<_>>().join("; ").into()
        });
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
}

/// Whether a failure leaves the transaction as it was, but for the statement itself.
fn is_a_rows_fault(error: &sqlx::Error) -> bool {
    use sqlx::error::ErrorKind;
    match error {
        sqlx::Error::Database(error) => matches!(
            error.kind(),
            ErrorKind::UniqueViolation
                | ErrorKind::ForeignKeyViolation
                | ErrorKind::NotNullViolation
                | ErrorKind::CheckViolation
        ),
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        _ => false,
    }
}

/// The largest power of two that is not more than `waiting` and the largest trip.
fn size_of_trip(waiting: usize) -> usize {
    1 << waiting.min(LARGEST_TRIP).ilog2()
}

/// The text with `$1` being `$(1 + by)`, and so on.
fn renumbered(sql: &str, by: usize) -> String {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        let number =
            number.parse().map_or_else(|_| number.to_owned(), |number: usize| (number + by).to_string());
        text.extend(["$", &number, rest]);
    }
    text
}

/// The writer's next result, waited for awake at first: going to sleep and being woken takes longer than most statements,
/// and each of many results would wake whoever sleeps.
async fn soon<T>(results: &mut BoxStream<'_, T>) -> Option<T> {
    let until = Instant::now() + AWAKE;
    loop {
        if let Poll::Ready(result) = results.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
        if Instant::now() > until {
            return results.next().await;
        }
        // Whoever else has something to do goes first.
        std::thread::yield_now();
    }
}

/// Carries out one statement.
async fn alone(connection: &mut SqliteConnection, statement: Statement) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    let mut results = connection.fetch_many(statement.query());
    while let Some(result) = soon(&mut results).await {
        match result? {
            Either::Right(row) => outcome.rows.push(row),
            Either::Left(done) => outcome.affected = done.rows_affected(),
        }
    }
    Ok(outcome)
}
