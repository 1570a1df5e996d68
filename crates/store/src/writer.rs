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
//! its refusal too, since a refusal may rest on an earlier job of the same group. Jobs that have
//! nothing to do with each other (see `concern`) are run side by side (see `abreast`), as if they were one job.

use std::collections::VecDeque;
use std::time::Instant;

use futures_util::future::BoxFuture;
use metrics::histogram;
use tokio::sync::{mpsc, oneshot};

use crate::abreast;
use crate::concern::Taken;
use crate::conn::{Conn, Tx, on};
use crate::defects::{Defect, planted};
use crate::recent::Recent;
use crate::write_status::WriteStatus;
use crate::{Concern, StoreError};

/// How many jobs one commit may hold: a bound on how long the first of them waits for the last.
const LARGEST_GROUP: usize = 128;
/// How many jobs may wait; more senders wait for a place, which is where back-pressure begins.
const QUEUE: usize = 1024;

/// Work on a transaction. It reports whether its changes are to be kept, and how its caller is answered.
type Job = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Done> + Send>;
/// The same that can be done again, for what concerns one person only.
type RepeatableJob = Box<dyn for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Done> + Send>;
/// Answers the caller, with the commit's outcome.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a job leaves behind.
pub(crate) struct Done {
    pub keep: bool,
    /// The failure after which SQLite may have rolled the whole transaction back by itself.
    pub broken: Option<StoreError>,
    pub answer: Answer,
}

/// Where jobs are handed in. Clones share one writer; it ends when the last of them is gone, or on
/// [`Writer::close`].
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

enum Request {
    Do(Work),
    Close(oneshot::Sender<()>),
}

enum Work {
    Run(Job),
    RunFor(Concern, RepeatableJob),
    /// Look whether another program has changed the database.
    Look,
}

impl Writer {
    /// Starts the writer on its own connection. It sees to it that nothing `recent` is older than an answered change,
    /// and notes in `status` how commits end.
    pub fn start(conn: Conn, recent: Recent, status: WriteStatus) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(serve(Tx::new(conn), recent, status, requests));
        Self { queue }
    }

    /// Hands a job in. It runs even if its caller stops waiting.
    pub async fn run<F>(&self, job: F) -> Result<(), StoreError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Done> + Send + 'static,
    {
        self.queue.send(Request::Do(Work::Run(Box::new(job)))).await.map_err(|_| StoreError::Closed)
    }

    /// Hands a job in that concerns one person only: it may be run beside others' jobs, and more than once. The caller is
    /// answered once.
    pub async fn run_for<F>(&self, whom: Concern, job: F) -> Result<(), StoreError>
    where
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Done> + Send + 'static,
    {
        self.queue.send(Request::Do(Work::RunFor(whom, Box::new(job)))).await.map_err(|_| StoreError::Closed)
    }

    /// Has it looked whether another program has changed the database, soon. Where jobs wait, their senders come first.
    pub fn look(&self, recent: &Recent) {
        if self.queue.try_send(Request::Do(Work::Look)).is_err() {
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

async fn serve(mut tx: Tx, recent: Recent, status: WriteStatus, requests: mpsc::Receiver<Request>) {
    let mut watch = Watch { recent, status, version: None };
    let mut queue = Queue { requests, arrived: VecDeque::new(), closing: None };
    while queue.wait().await {
        commit_group(&mut tx, &mut watch, &mut queue).await;
    }
    // What is still queued gets no answer from its job; dropping it tells its sender `Closed`.
    drop(queue.requests);
    drop(tx);
    if let Some(done) = queue.closing {
        let _ = done.send(());
    }
}

/// What waits for the writer.
struct Queue {
    requests: mpsc::Receiver<Request>,
    /// Taken out of the channel already.
    arrived: VecDeque<Work>,
    /// Whom to tell when everything that came before is done; nothing is taken any more.
    closing: Option<oneshot::Sender<()>>,
}

impl Queue {
    /// Waits for work. `false` says that there will be none.
    async fn wait(&mut self) -> bool {
        if self.arrived.is_empty() && self.closing.is_none() {
            match self.requests.recv().await {
                Some(request) => self.arrive(request),
                None => return false,
            }
        }
        !self.arrived.is_empty()
    }

    fn arrive(&mut self, request: Request) {
        match request {
            Request::Close(done) => self.closing = Some(done),
            Request::Do(work) => self.arrived.push_back(work),
        }
    }

    /// What comes next, once everything that waits has been taken in, up to `most` of it.
    fn next(&mut self, most: usize) -> Option<Work> {
        while self.closing.is_none() && self.arrived.len() < most {
            match self.requests.try_recv() {
                Ok(request) => self.arrive(request),
                Err(_) => break,
            }
        }
        if most == 0 { None } else { self.arrived.pop_front() }
    }

    /// All that has arrived and can be run beside the first. The order of requests that nobody has been answered yet is
    /// nobody's business; those for one person keep theirs all the same.
    fn beside(&mut self, first: Concern, job: RepeatableJob) -> Vec<RepeatableJob> {
        let (mut taken, mut jobs) = (Taken::default(), vec![job]);
        taken.take(&first);
        for work in std::mem::take(&mut self.arrived) {
            match work {
                Work::RunFor(whom, job) if taken.take(&whom) => jobs.push(job),
                other => self.arrived.push_back(other),
            }
        }
        jobs
    }
}

/// Runs whatever waits, commits once, answers all.
async fn commit_group(tx: &mut Tx, watch: &mut Watch, queue: &mut Queue) {
    let mut group = Group::new(watch.status.clone());
    let started = Instant::now();
    while let Some(work) = queue.next(LARGEST_GROUP.saturating_sub(group.answers.len())) {
        let ran = match work {
            Work::Run(job) => group.run(tx, job).await,
            Work::RunFor(whom, job) => group.run_abreast(tx, queue.beside(whom, job)).await,
            Work::Look => {
                watch.look(tx).await;
                Ok(())
            }
        };
        if let Err(error) = ran {
            group.abandon(tx, error).await;
            return;
        }
    }
    if group.answers.is_empty() {
        return;
    }
    // A count of jobs is far below where floats lose whole numbers.
    let jobs = u32::try_from(group.answers.len()).unwrap_or(u32::MAX);
    group.commit(tx, &watch.recent).await;
    histogram!("vellum_database_group_seconds").record(started.elapsed());
    histogram!("vellum_database_group_jobs").record(f64::from(jobs));
}

/// Watches for changes that another program makes, so that nothing `recent` outlives them by much.
struct Watch {
    recent: Recent,
    status: WriteStatus,
    /// SQLite's number for the database's state; it changes with every commit that is not this connection's.
    version: Option<i64>,
}

impl Watch {
    async fn look(&mut self, tx: &mut Tx) {
        let look = self.recent.looking();
        match data_version(tx).await {
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

async fn data_version(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(on!(tx, c => sqlx::query_scalar("pragma data_version").fetch_one(c).await)?)
}

/// The jobs of one commit so far.
struct Group {
    open: Open,
    answers: Vec<Answer>,
    status: WriteStatus,
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
    fn new(status: WriteStatus) -> Self {
        Self { open: Open::Nothing, answers: Vec::new(), status }
    }

    /// Runs one job inside the group's transaction. An error means the transaction itself is of no use
    /// any more; a job that merely fails is rolled back alone and is no error here.
    async fn run(&mut self, tx: &mut Tx, job: Job) -> Result<(), StoreError> {
        self.open(tx).await?;
        let done = job(tx).await;
        self.answers.push(done.answer);
        match done.broken {
            Some(error) => Err(error),
            None => self.seal(tx, done.keep).await,
        }
    }

    /// Runs jobs of different users side by side, as one job. Where one that has changed something fails, they are
    /// run one after the other instead, so that it can be taken back alone.
    async fn run_abreast(&mut self, tx: &mut Tx, mut jobs: Vec<RepeatableJob>) -> Result<(), StoreError> {
        if jobs.len() > 1 && self.try_abreast(tx, &mut jobs).await? {
            return Ok(());
        }
        for mut job in jobs {
            self.run(tx, Box::new(move |tx| job(tx))).await?;
        }
        Ok(())
    }

    /// Tells whether it could be left at that.
    async fn try_abreast(&mut self, tx: &mut Tx, jobs: &mut [RepeatableJob]) -> Result<bool, StoreError> {
        self.open(tx).await?;
        let Some(lane) = tx.lane() else { return Ok(false) };
        let beside = jobs.iter_mut().map(|job| {
            let mut tx = Tx::new(Conn::lane(lane.beside()));
            async move {
                let done = job(&mut tx).await;
                (done, tx)
            }
        });
        let ran = abreast::run(lane, beside).await;
        if let Some(error) = lane.take_broken() {
            // Whatever each of them makes of it: nothing of the whole group can stand.
            self.answers.extend(ran.into_iter().map(|(done, _)| done.answer));
            return Err(error);
        }
        let half_done = ran.iter().any(|(done, tx)| !done.keep && tx.has_changed());
        if !half_done {
            for (done, mut beside) in ran {
                tx.touch_all(beside.take_touched());
                self.answers.push(done.answer);
            }
        }
        self.seal(tx, !half_done).await?;
        Ok(!half_done)
    }

    /// Begins the transaction, or a savepoint where earlier jobs' changes stand in it already.
    async fn open(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let (statements, open) = match self.open {
            Open::Nothing => ("begin immediate", Open::Transaction),
            Open::Transaction => ("savepoint job", Open::EmptySavepoint),
            Open::FilledSavepoint => ("release job; savepoint job", Open::EmptySavepoint),
            Open::EmptySavepoint => return Ok(()),
        };
        if self.open == Open::Nothing {
            self.status.begun();
        }
        // Noted before the job is dropped, whose caller asks for the reason.
        tx.run(statements).await.inspect_err(|error| self.status.failed(error))?;
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
        self.status.committed();
        recent.forget(&tx.take_touched());
        for answer in self.answers {
            answer(Ok(()));
        }
    }

    /// Gives the whole group up: nothing of it stands, and every job that ran is told so. A job that
    /// could not be run is dropped, which its caller sees as the end of the channel.
    async fn abandon(self, tx: &mut Tx, error: StoreError) {
        self.status.failed(&error);
        let jobs = self.answers.len();
        // The status says once, and not for each group, that nothing can be written.
        if matches!(error, StoreError::NotWritable { .. }) {
            tracing::debug!(%error, jobs, "a group of changes could not be made durable");
        } else {
            tracing::error!(%error, jobs, "a group of changes could not be made durable");
        }
        // After some failures SQLite has rolled back by itself; then this says that there is nothing to do.
        if self.open != Open::Nothing
            && let Err(nothing_left) = tx.run("rollback").await
        {
            tracing::debug!(error = %nothing_left, "no transaction was left to roll back");
        }
        for answer in self.answers {
            answer(Err(error.clone()));
        }
    }
}
