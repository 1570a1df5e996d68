//! The one writer of a SQLite database, and its groups.
//!
//! ```text
//!   actor ── job ──┐
//!   actor ── job ──┼──▶ queue ──▶ writer:  BEGIN IMMEDIATE
//!   actor ── job ──┘                         job 1            fails: ROLLBACK, begin anew
//!                                            SAVEPOINT job 2  fails: ROLLBACK TO, harms no other
//!                                            SAVEPOINT job 3
//!                                          COMMIT  (synced to disk)
//!                                          only now: every job is answered
//! ```
//!
//! SQLite has one writer at a time anyway, and the sync at the end of a commit costs more than most
//! changes. So whatever waits when the writer becomes free is committed together. A lonely job waits for
//! nobody: the group is what is there, never what might come. (Waiting a part of a sync for as many jobs as the
//! last group had gains nothing in `benches/writes.rs`: whoever was answered is back while the first jobs of the
//! next group run, and they are in it.) A job is answered after the commit, with
//! its refusal too, since a refusal may rest on an earlier job of the same group.

use std::time::Instant;

use futures_util::future::BoxFuture;
use metrics::histogram;
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;
use crate::conn::{Conn, Tx};
use crate::defects::{Defect, planted};
use crate::recent::Recent;

/// How many jobs one commit may hold: a bound on how long the first of them waits for the last.
const LARGEST_GROUP: usize = 128;
/// How many jobs may wait; more senders wait for a place, which is where back-pressure begins.
const QUEUE: usize = 1024;

/// Work on a transaction. It reports whether its changes are to be kept, and how its caller is answered.
type Job = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Done> + Send>;
/// Answers the caller, with the commit's outcome.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a job leaves behind.
pub(crate) struct Done {
    pub keep: bool,
    pub answer: Answer,
}

/// Where jobs are handed in. Clones share one writer; it ends when the last of them is gone, or on
/// [`Writer::close`].
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

enum Request {
    Run(Job),
    /// Look whether another program has changed the database.
    Look,
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writer on its own connection. It sees to it that nothing `recent` is older than an answered change.
    pub fn start(conn: Conn, recent: Recent) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(serve(Tx::new(conn), recent, requests));
        Self { queue }
    }

    /// Hands a job in. It runs even if its caller stops waiting.
    pub async fn run<F>(&self, job: F) -> Result<(), StoreError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Done> + Send + 'static,
    {
        self.queue.send(Request::Run(Box::new(job))).await.map_err(|_| StoreError::Closed)
    }

    /// Has it looked whether another program has changed the database, soon. Where jobs wait, their senders come first.
    pub fn look(&self, recent: &Recent) {
        if self.queue.try_send(Request::Look).is_err() {
            recent.look_again();
        }
    }

    /// Finishes what was handed in before and stops; later jobs are refused.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Request::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn serve(mut tx: Tx, recent: Recent, mut requests: mpsc::Receiver<Request>) {
    let mut watch = Watch { recent, version: None };
    let mut closing = None;
    while closing.is_none() {
        match requests.recv().await {
            Some(Request::Run(first)) => {
                closing = commit_group(&mut tx, &mut watch, first, &mut requests).await;
            }
            Some(Request::Look) => watch.look(&mut tx).await,
            Some(Request::Close(done)) => closing = Some(done),
            None => return,
        }
    }
    // What is still queued gets no answer from its job; dropping it tells its sender `Closed`.
    drop(requests);
    drop(tx);
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

/// Runs `first` and whatever waits behind it, commits once, answers all. Gives the closing request back
/// if one stood in the queue.
async fn commit_group(
    tx: &mut Tx,
    watch: &mut Watch,
    first: Job,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<oneshot::Sender<()>> {
    let mut group = Group::default();
    let started = Instant::now();
    let mut next = Some(first);
    let mut closing = None;
    while let Some(job) = next.take() {
        if let Err(error) = group.run(tx, job).await {
            return group.abandon(tx, error).await;
        }
        while next.is_none() && closing.is_none() && group.answers.len() < LARGEST_GROUP {
            match requests.try_recv() {
                Ok(Request::Run(job)) => next = Some(job),
                Ok(Request::Look) => watch.look(tx).await,
                Ok(Request::Close(done)) => closing = Some(done),
                Err(_) => break,
            }
        }
    }
    // A count of jobs is far below where floats lose whole numbers.
    let jobs = u32::try_from(group.answers.len()).unwrap_or(u32::MAX);
    group.commit(tx, &watch.recent).await;
    histogram!("vellum_database_group_seconds").record(started.elapsed());
    histogram!("vellum_database_group_jobs").record(f64::from(jobs));
    closing
}

/// Watches for changes that another program makes, so that nothing `recent` outlives them by much.
struct Watch {
    recent: Recent,
    /// SQLite's number for the database's state; it changes with every commit that is not this connection's.
    version: Option<i64>,
}

impl Watch {
    async fn look(&mut self, tx: &mut Tx) {
        let Some(connection) = tx.as_sqlite() else { return };
        let look = self.recent.looking();
        match sqlx::query_scalar("pragma data_version").fetch_one(connection).await {
            Ok(version) => {
                // Before the first look anything may have happened.
                self.recent.looked(look, self.version != Some(version));
                self.version = Some(version);
            }
            Err(error) => {
                tracing::debug!(%error, "whether another program has changed the database could not be told");
                self.recent.look_again();
            }
        }
    }
}

/// The jobs of one commit so far.
#[derive(Default)]
struct Group {
    open: Open,
    answers: Vec<Answer>,
}

/// What is open on the connection. Every statement is a round trip to the connection's thread, as long as a small
/// change itself, so a savepoint is kept until the next job needs one, and the commit releases the last.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// A transaction with at most the changes of its first job.
    Transaction,
    /// A savepoint, behind which nothing was changed yet.
    EmptySavepoint,
    /// A savepoint with the changes of a job that are kept.
    FilledSavepoint,
}

impl Group {
    /// Runs one job inside the group's transaction. An error means the transaction itself is of no use
    /// any more; a job that merely fails is rolled back alone and is no error here.
    async fn run(&mut self, tx: &mut Tx, job: Job) -> Result<(), StoreError> {
        self.open(tx).await?;
        let done = job(tx).await;
        self.answers.push(done.answer);
        self.seal(tx, done.keep).await
    }

    /// Begins the transaction, or a savepoint where earlier jobs' changes stand in it already.
    async fn open(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let (statements, open) = match self.open {
            Open::Nothing => ("begin immediate", Open::Transaction),
            Open::Transaction => ("savepoint job", Open::EmptySavepoint),
            Open::FilledSavepoint => ("release job; savepoint job", Open::EmptySavepoint),
            Open::EmptySavepoint => return Ok(()),
        };
        tx.run(statements).await?;
        self.open = open;
        Ok(())
    }

    /// Keeps what a job has changed, or takes it back.
    async fn seal(&mut self, tx: &mut Tx, keep: bool) -> Result<(), StoreError> {
        // Only the first job has no savepoint of its own.
        let is_first = self.open == Open::Transaction;
        self.open = match (keep, is_first) {
            (true, true) => Open::Transaction,
            (true, false) => Open::FilledSavepoint,
            (false, true) => {
                tx.run("rollback").await?;
                Open::Nothing
            }
            (false, false) => {
                tx.run("rollback to job").await?;
                Open::EmptySavepoint
            }
        };
        Ok(())
    }

    async fn commit(mut self, tx: &mut Tx, recent: &Recent) {
        if planted(Defect::AckBeforeCommit) {
            self.answers.drain(..).for_each(|answer| answer(Ok(())));
            // A slow disk.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if self.open != Open::Nothing
            && let Err(error) = tx.run("commit").await
        {
            self.abandon(tx, error).await;
            return;
        }
        recent.forget(&tx.take_touched());
        for answer in self.answers {
            answer(Ok(()));
        }
    }

    /// Gives the whole group up: nothing of it stands, and every job that ran is told so. A job that
    /// could not be run is dropped, which its caller sees as the end of the channel.
    async fn abandon(self, tx: &mut Tx, error: StoreError) -> Option<oneshot::Sender<()>> {
        tracing::error!(%error, jobs = self.answers.len(), "a group of changes could not be made durable");
        // After some failures SQLite has rolled back by itself; then this says that there is nothing to do.
        if self.open != Open::Nothing
            && let Err(nothing_left) = tx.run("rollback").await
        {
            tracing::debug!(error = %nothing_left, "no transaction was left to roll back");
        }
        for answer in self.answers {
            answer(Err(error.clone()));
        }
        None
    }
}
