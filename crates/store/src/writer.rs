//! The one writer of a SQLite database, and its groups.
//!
//! ```text
//!   actor ── job ──┐
//!   actor ── job ──┼──▶ queue ──▶ writer thread:  begin immediate
//!   actor ── job ──┘                                savepoint, job 1, release
//!                                                   savepoint, job 2 fails, rollback to: harms no other
//!                                                   savepoint, job 3, release
//!                                                 commit  (synced to disk)
//!                                                 only now: every job is answered
//! ```
//!
//! SQLite has one writer at a time anyway, and the sync at the end of a commit costs more than most
//! changes. So whatever waits when the writer becomes free is committed together. A lonely job waits
//! for nobody: the group is what is there, never what might come. A job is answered after the commit,
//! with its refusal too, since a refusal may rest on an earlier job of the same group.
//!
//! A job is a future, since the same code waits for a server on PostgreSQL. Here nothing it awaits is
//! ever pending, so polling it once runs it from beginning to end, in this thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use futures_util::FutureExt;
use metrics::histogram;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::conn::{EngineConn, Tx};
use crate::defects::{Defect, planted};
use crate::error::TxError;
use crate::write_status::WriteStatus;
use crate::{StoreError, TxFuture};

/// How many jobs one commit may hold: a bound on how long the first of them waits for the last.
const LARGEST_GROUP: usize = 128;
/// How many jobs may wait; more senders wait for a place, which is where back-pressure begins.
const QUEUE: usize = 1024;

/// Work on a transaction. Returns what it leaves behind.
type Job = Box<dyn FnOnce(&mut Tx) -> Done + Send>;
/// Answers the caller, with the commit's outcome.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a job leaves behind.
struct Done {
    /// Whether its changes are kept.
    keep: bool,
    /// The failure after which SQLite may have rolled the whole transaction back by itself.
    broken: Option<StoreError>,
    answer: Answer,
}

/// Where jobs are handed in. Clones share one thread; it ends when the last of them is gone, or on
/// [`Writer::close`].
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
    status: WriteStatus,
}

enum Request {
    Run(Job),
    Close(oneshot::Sender<Connection>),
}

impl Writer {
    /// Starts the writer's thread on its own connection. How commits end is noted in `status`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(connection: Connection, status: WriteStatus) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let thread = Thread { tx: Tx::new(EngineConn::SqliteWriter(connection)), status: status.clone() };
        thread::Builder::new().name("vellum-writer".into()).spawn(move || thread.serve(requests))?;
        Ok(Self { queue, status })
    }

    /// Runs `work` in a savepoint of its own. It runs even if the caller stops waiting.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let (caller, answered) = oneshot::channel();
        let job: Job = Box::new(move |tx| run_job(tx, work, caller));
        self.queue.send(Request::Run(job)).await.map_err(|_| StoreError::Closed)?;
        // Only a job that was never run is dropped: no transaction could be begun. The database cannot
        // be written, or another process has held it for longer than the busy timeout.
        answered.await.unwrap_or_else(|_| Err(self.status.failure().unwrap_or(StoreError::Busy).into()))
    }

    /// Finishes what was handed in before and stops; later jobs are refused. Returns the connection,
    /// which should be the last one to be closed: SQLite puts the log into the database then.
    pub async fn close(&self) -> Option<Connection> {
        let (done, closed) = oneshot::channel();
        self.queue.send(Request::Close(done)).await.ok()?;
        closed.await.ok()
    }
}

/// Runs a job, which must not take the writer, and every later change, with it.
fn run_job<T, E, F>(tx: &mut Tx, work: F, caller: oneshot::Sender<Result<T, E>>) -> Done
where
    T: Send + 'static,
    E: TxError,
    F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, E> + Send + 'static,
{
    let result = match catch_unwind(AssertUnwindSafe(|| work(tx).now_or_never())) {
        Ok(Some(result)) => result,
        Ok(None) => Err(StoreError::Waited.into()),
        Err(_) => Err(StoreError::Panicked.into()),
    };
    let failure = result.as_ref().err().and_then(TxError::as_store);
    Done {
        keep: result.is_ok(),
        broken: failure.filter(|error| matches!(error, StoreError::NotWritable { .. })).cloned(),
        answer: Box::new(move |committed: Result<(), StoreError>| {
            // The caller may have stopped waiting; the change stands all the same.
            let _ = caller.send(committed.map_err(E::from).and(result));
        }),
    }
}

struct Thread {
    tx: Tx,
    status: WriteStatus,
}

impl Thread {
    fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        while closing.is_none() {
            match requests.blocking_recv() {
                Some(Request::Run(job)) => closing = self.commit_group(job, &mut requests),
                Some(Request::Close(done)) => closing = Some(done),
                None => return,
            }
        }
        // What is still queued gets no answer from its job; dropping it tells its sender `Closed`.
        drop(requests);
        if let (Some(done), EngineConn::SqliteWriter(connection)) = (closing, self.tx.conn.engine) {
            // Whoever closes may have stopped waiting.
            let _ = done.send(connection);
        }
    }

    /// Runs the first job and whatever else waits, commits once, answers all. Returns whom to tell
    /// when the writer is to stop.
    fn commit_group(
        &mut self,
        first: Job,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<oneshot::Sender<Connection>> {
        let (started, mut group) = (Instant::now(), Group::default());
        let (mut next, mut closing) = (Some(first), None);
        let mut outcome = self.begin();
        while let (Ok(()), Some(job)) = (&outcome, next.take()) {
            outcome = self.run(&mut group, job);
            if group.answers.len() < LARGEST_GROUP {
                match requests.try_recv() {
                    Ok(Request::Run(job)) => next = Some(job),
                    Ok(Request::Close(done)) => closing = Some(done),
                    Err(_) => {}
                }
            }
        }
        // A count of jobs is far below where floats lose whole numbers.
        let jobs = u32::try_from(group.answers.len()).unwrap_or(u32::MAX);
        self.end(group, outcome);
        histogram!("vellum_database_group_seconds").record(started.elapsed());
        histogram!("vellum_database_group_jobs").record(f64::from(jobs));
        closing
    }

    fn connection(&mut self) -> &Connection {
        match &self.tx.conn.engine {
            EngineConn::SqliteWriter(connection) => connection,
            _ => unreachable!("the writer has a connection of its own"),
        }
    }

    fn execute(&mut self, statement: &'static str) -> Result<(), StoreError> {
        self.connection().prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        // Noted before the first job is dropped, whose caller asks for the reason.
        self.execute("begin immediate").inspect_err(|error| self.status.failed(error))
    }

    /// Runs one job in a savepoint. An error means that the transaction itself is of no use any more;
    /// a job that merely fails is rolled back alone and is no error here.
    fn run(&mut self, group: &mut Group, job: Job) -> Result<(), StoreError> {
        self.execute("savepoint job")?;
        let before = self.connection().total_changes();
        let done = job(&mut self.tx);
        group.answers.push(done.answer);
        if let Some(error) = done.broken {
            return Err(error);
        }
        if done.keep {
            group.changed |= self.connection().total_changes() > before;
        } else {
            self.execute("rollback to job")?;
        }
        self.execute("release job")
    }

    /// Makes the group durable and answers its jobs; or, after a failure, tells all of them that
    /// nothing of it stands.
    fn end(&mut self, mut group: Group, outcome: Result<(), StoreError>) {
        if planted(Defect::AckBeforeCommit) {
            group.answers.drain(..).for_each(|answer| answer(Ok(())));
            #[allow(clippy::disallowed_methods, reason = "a slow disk")]
            thread::sleep(std::time::Duration::from_millis(20));
        }
        match outcome.and_then(|()| self.execute("commit")) {
            Ok(()) => {
                // A commit of nothing succeeds on a full disk, too.
                if group.changed {
                    self.status.succeeded();
                }
                group.answers.into_iter().for_each(|answer| answer(Ok(())));
            }
            Err(error) => self.abandon(group, &error),
        }
    }

    fn abandon(&mut self, group: Group, error: &StoreError) {
        self.status.failed(error);
        let jobs = group.answers.len();
        // The status says once, and not for each group, that nothing can be written.
        if matches!(error, StoreError::NotWritable { .. }) {
            tracing::debug!(%error, jobs, "a group of changes could not be made durable");
        } else {
            tracing::error!(%error, jobs, "a group of changes could not be made durable");
        }
        // After some failures SQLite has rolled back by itself, or nothing was begun.
        if !self.connection().is_autocommit()
            && let Err(error) = self.execute("rollback")
        {
            tracing::error!(%error, "transaction could not be rolled back");
        }
        group.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
    }
}

/// The jobs of one commit so far.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    /// Whether any of them has changed a row.
    changed: bool,
}
