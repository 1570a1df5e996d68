//! The attempts that are under way on this node, so that a discard can stop the ones with its row.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable};
use tokio::sync::watch;
use vellum_store::OutboxId;

/// For how long it is remembered that a row was discarded: a lease on it may just come from the
/// database.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The attempts under way, by row.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// No attempt starts any more.
    closed: bool,
    /// Tells attempts with one row apart.
    started: u64,
    running: HashMap<OutboxId, Vec<Running>>,
    /// Rows that were discarded lately. The id of a row is never used again.
    discarded: HashMap<OutboxId, Instant>,
}

struct Running {
    number: u64,
    abort: AbortHandle,
    /// Closed when the attempt has ended.
    ended: watch::Receiver<()>,
}

impl Attempts {
    /// Makes an attempt with a leased row; `None` when it is stopped, or must not begin. From then
    /// on nothing of it goes on. An older attempt with the row is stopped: the row was signed anew
    /// since.
    pub async fn run<T>(&self, row: &OutboxId, attempt: impl Future<Output = T>) -> Option<T> {
        let (abort, stop) = AbortHandle::new_pair();
        let (_running, ended) = watch::channel(());
        let number = {
            let mut table = self.table();
            if table.closed || table.discarded.contains_key(row) {
                return None;
            }
            table.abort(row);
            table.started += 1;
            let number = table.started;
            table.running.entry(row.clone()).or_default().push(Running { number, abort, ended });
            number
        };
        let done = Abortable::new(attempt, stop).await.ok();
        let mut table = self.table();
        if let Some(running) = table.running.get_mut(row) {
            running.retain(|other| other.number != number);
            if running.is_empty() {
                table.running.remove(row);
            }
        }
        done
    }

    /// Stops the attempts with a row that has been discarded. When this returns none is under way,
    /// and none begins.
    pub async fn stop(&self, row: &OutboxId) {
        let ending = {
            let mut table = self.table();
            let now = Instant::now();
            table.discarded.retain(|_, at| now.duration_since(*at) < REMEMBERED);
            table.discarded.insert(row.clone(), now);
            table.abort(row)
        };
        for mut ended in ending {
            // An error says that the attempt has ended.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Stops every attempt, and lets none begin.
    pub fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.running.values().flatten().for_each(|running| running.abort.abort());
    }

    pub fn is_closed(&self) -> bool {
        self.table().closed
    }

    /// How many rows have an attempt under way.
    pub fn len(&self) -> usize {
        self.table().running.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn abort(&self, row: &OutboxId) -> Vec<watch::Receiver<()>> {
        let running = self.running.get(row).into_iter().flatten();
        running.inspect(|running| running.abort.abort()).map(|running| running.ended.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_discarded_row_has_its_attempt_stopped_before_the_discard_goes_on() {
        let attempts = Attempts::default();
        let (row, other) = (OutboxId::generate(), OutboxId::generate());
        let (mut stopped, mut kept) =
            (pin!(attempts.run(&row, pending::<()>())), pin!(attempts.run(&other, pending::<()>())));
        assert!(stopped.as_mut().now_or_never().is_none() && kept.as_mut().now_or_never().is_none());
        let mut stop = pin!(attempts.stop(&row));
        assert!(stop.as_mut().now_or_never().is_none(), "the attempt has not ended");
        assert_eq!(stopped.await, None);
        stop.await;
        assert!(kept.now_or_never().is_none(), "another row's goes on");
        assert_eq!(attempts.len(), 1, "what has ended is forgotten");
    }

    #[tokio::test]
    async fn a_row_that_was_discarded_while_it_was_leased_is_not_sent() {
        let (attempts, row) = (Attempts::default(), OutboxId::generate());
        attempts.stop(&row).await;
        assert_eq!(attempts.run(&row, async { 1 }).await, None);
        assert_eq!(attempts.run(&OutboxId::generate(), async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn a_newer_attempt_with_a_row_stops_the_older_one_and_none_begins_after_the_end() {
        let (attempts, row) = (Attempts::default(), OutboxId::generate());
        let (mut older, mut newer) =
            (pin!(attempts.run(&row, pending::<()>())), pin!(attempts.run(&row, pending::<()>())));
        assert!(older.as_mut().now_or_never().is_none() && newer.as_mut().now_or_never().is_none());
        assert_eq!(older.await, None);
        attempts.close();
        assert_eq!(newer.await, None);
        assert_eq!(attempts.run(&row, async { 1 }).await, None);
    }
}
