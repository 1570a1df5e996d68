//! The attempts that are under way on this node, so that a discard can stop the ones with its row.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tokio::sync::watch;
use vellum_store::OutboxId;

/// The attempts under way, by row.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// No attempt starts any more.
    closed: bool,
    numbers: u64,
    /// The rows that were discarded while a lease on them may have been on its way from the database,
    /// for each look for leases.
    leasing: HashMap<u64, HashSet<OutboxId>>,
    running: HashMap<OutboxId, Vec<Running>>,
}

struct Running {
    number: u64,
    abort: AbortHandle,
    /// Closed when the attempt has ended.
    ended: watch::Receiver<()>,
}

impl Attempts {
    /// To be held from before rows are leased until their attempts have been started. `None` when no attempt starts
    /// any more.
    pub fn leasing(self: &Arc<Self>) -> Option<Leasing> {
        let mut table = self.table();
        if table.closed {
            return None;
        }
        let number = table.next_number();
        table.leasing.insert(number, HashSet::new());
        Some(Leasing { attempts: Arc::clone(self), number })
    }

    /// Stops the attempts with a row that has been discarded. When this returns none is under way, and none starts.
    pub async fn stop(&self, row: &OutboxId) {
        let ending = {
            let mut table = self.table();
            for discarded in table.leasing.values_mut() {
                discarded.insert(row.clone());
            }
            table.abort(row)
        };
        for mut ended in ending {
            // An error says that the attempt has ended.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Stops every attempt, and lets none start.
    pub fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.running.values().flatten().for_each(|running| running.abort.abort());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn abort(&self, row: &OutboxId) -> Vec<watch::Receiver<()>> {
        let running = self.running.get(row).into_iter().flatten();
        running.inspect(|running| running.abort.abort()).map(|running| running.ended.clone()).collect()
    }
}

/// A look for rows to lease.
pub(crate) struct Leasing {
    attempts: Arc<Attempts>,
    number: u64,
}

impl Leasing {
    /// An attempt with a row that has been leased; `None` if the row was discarded meanwhile, or no attempt starts any
    /// more. An older attempt with the row is stopped: it was signed anew since.
    pub fn start(&self, row: &OutboxId) -> Option<Attempt> {
        let mut table = self.attempts.table();
        if table.closed || table.leasing.get(&self.number).is_some_and(|rows| rows.contains(row)) {
            return None;
        }
        table.abort(row);
        let number = table.next_number();
        let (abort, stop) = AbortHandle::new_pair();
        let (running, ended) = watch::channel(());
        table.running.entry(row.clone()).or_default().push(Running { number, abort, ended });
        Some(Attempt { attempts: Arc::clone(&self.attempts), row: row.clone(), number, stop, _running: running })
    }
}

impl Drop for Leasing {
    fn drop(&mut self) {
        self.attempts.table().leasing.remove(&self.number);
    }
}

/// An attempt that can be stopped.
pub(crate) struct Attempt {
    attempts: Arc<Attempts>,
    row: OutboxId,
    number: u64,
    stop: AbortRegistration,
    _running: watch::Sender<()>,
}

impl Attempt {
    /// Makes the attempt; `None` when it was stopped. From then on nothing of it goes on.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let Self { attempts, row, number, stop, _running } = self;
        let done = Abortable::new(work, stop).await.ok();
        let mut table = attempts.table();
        if let Some(running) = table.running.get_mut(&row) {
            running.retain(|other| other.number != number);
            if running.is_empty() {
                table.running.remove(&row);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_discarded_row_has_its_attempt_stopped_before_the_discard_goes_on() {
        let attempts = Arc::new(Attempts::default());
        let (row, other) = (OutboxId::generate(), OutboxId::generate());
        let leasing = attempts.leasing().unwrap();
        let (started, kept) = (leasing.start(&row).unwrap(), leasing.start(&other).unwrap());
        let stop = attempts.stop(&row);
        tokio::pin!(stop);
        assert!(stop.as_mut().now_or_never().is_none(), "the attempt has not ended");
        assert_eq!(started.run(std::future::pending::<()>()).await, None);
        stop.await;
        assert_eq!(kept.run(async { 1 }).await, Some(1), "another row's goes on");
        assert!(attempts.table().running.is_empty(), "what has ended is forgotten");
    }

    #[tokio::test]
    async fn a_row_that_is_discarded_while_it_is_leased_is_not_sent() {
        let attempts = Arc::new(Attempts::default());
        let row = OutboxId::generate();
        let leasing = attempts.leasing().unwrap();
        attempts.stop(&row).await;
        assert!(leasing.start(&row).is_none(), "the lease is older than the discard");
        drop(leasing);
        assert!(attempts.leasing().unwrap().start(&row).is_some(), "a later lease is another row's life");
    }

    #[tokio::test]
    async fn a_newer_attempt_with_a_row_stops_the_older_one_and_nothing_starts_after_the_end() {
        let attempts = Arc::new(Attempts::default());
        let row = OutboxId::generate();
        let leasing = attempts.leasing().unwrap();
        let (older, newer) = (leasing.start(&row).unwrap(), leasing.start(&row).unwrap());
        assert_eq!(older.run(std::future::pending::<()>()).await, None);
        attempts.close();
        assert_eq!(newer.run(std::future::pending::<()>()).await, None);
        assert!(leasing.start(&row).is_none() && attempts.leasing().is_none());
    }
}
