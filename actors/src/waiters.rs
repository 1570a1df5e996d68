//! Who waits for the outcome of which row. A flush is answered when its rows' next attempts have
//! ended, or when its time is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use vellum_store::OutboxId;
use vellum_store::outbox::Outcome;

/// Requests that wait for an outcome, by row, or by what else is waited for.
#[derive(Debug)]
pub struct OutcomeWaiters<K = OutboxId>(Mutex<Table<K>>);

#[derive(Debug)]
struct Table<K> {
    waiting: HashMap<K, Vec<oneshot::Sender<Outcome>>>,
    closed: bool,
}

impl<K> Default for OutcomeWaiters<K> {
    fn default() -> Self {
        Self(Mutex::new(Table { waiting: HashMap::new(), closed: false }))
    }
}

impl<K: Eq + Hash + Clone> OutcomeWaiters<K> {
    /// Waits for the next outcome of this row.
    pub(crate) fn watch(&self, id: &K) -> OutcomeReceiver {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.closed {
            return OutcomeReceiver(receiver);
        }
        let waiting = table.waiting.entry(id.clone()).or_default();
        // Those that stopped waiting leave here, so a row that is flushed often holds no more than
        // one.
        waiting.retain(|other| !other.is_closed());
        waiting.push(sender);
        OutcomeReceiver(receiver)
    }

    pub(crate) fn publish(&self, id: &K, outcome: &Outcome) {
        let waiting = self.table().waiting.remove(id);
        for sender in waiting.into_iter().flatten() {
            // The waiting request may have ended.
            let _ = sender.send(outcome.clone());
        }
    }

    /// Forgets those that stopped waiting.
    pub fn sweep(&self) {
        self.table().waiting.retain(|_, waiting| {
            waiting.retain(|other| !other.is_closed());
            !waiting.is_empty()
        });
    }

    /// Ends every wait, now and from now on, without an outcome: a stopping node answers its
    /// flushes with what their rows say.
    pub fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.waiting.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives the next outcome of a row.
#[derive(Debug)]
pub struct OutcomeReceiver(oneshot::Receiver<Outcome>);

impl OutcomeReceiver {
    /// The next outcome, or `None` when there is none within `limit`.
    pub async fn first(self, limit: Duration) -> Option<Outcome> {
        self.before(Instant::now() + limit).await
    }

    /// The next outcome, or `None` when there is none until `deadline`.
    pub async fn before(self, deadline: Instant) -> Option<Outcome> {
        tokio::time::timeout_at(deadline, self.0).await.ok()?.ok()
    }
}
