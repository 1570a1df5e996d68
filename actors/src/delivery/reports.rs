//! Who waits for the outcome of which row. A flush is answered when its rows' next attempts have ended,
//! or when its time is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use vellum_store::OutboxId;

/// How an attempt ended, for those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The peer has carried it out.
    Delivered,
    /// The peer refuses for good.
    Rejected,
    /// It will be tried again; the row tells when and why.
    Postponed,
    /// Its owner took it back.
    Withdrawn,
}

impl Report {
    /// The word that nodes on one database tell each other.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Postponed => "postponed",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Delivered, Self::Rejected, Self::Postponed, Self::Withdrawn]
            .into_iter()
            .find(|report| report.as_str() == word)
    }
}

/// The waiting ones, by row, or by what else is waited for.
#[derive(Debug)]
pub struct OutcomeBoard<K = OutboxId>(Mutex<Board<K>>);

#[derive(Debug)]
struct Board<K> {
    waiting: HashMap<K, Vec<oneshot::Sender<Report>>>,
    closed: bool,
}

impl<K> Default for OutcomeBoard<K> {
    fn default() -> Self {
        Self(Mutex::new(Board { waiting: HashMap::new(), closed: false }))
    }
}

impl<K: Eq + Hash + Clone> OutcomeBoard<K> {
    /// Waits for the next report on this row.
    pub(crate) fn watch(&self, id: &K) -> Reports {
        let (sender, receiver) = oneshot::channel();
        let mut board = self.board();
        if board.closed {
            return Reports(receiver);
        }
        let waiting = board.waiting.entry(id.clone()).or_default();
        // Those that stopped waiting leave here, so a row that is flushed often holds no more than one.
        waiting.retain(|other| !other.is_closed());
        waiting.push(sender);
        Reports(receiver)
    }

    pub(crate) fn publish(&self, id: &K, report: Report) {
        let waiting = self.board().waiting.remove(id);
        for sender in waiting.into_iter().flatten() {
            // Whoever waited may have gone.
            let _ = sender.send(report.clone());
        }
    }

    /// Forgets those that stopped waiting.
    pub fn sweep(&self) {
        self.board().waiting.retain(|_, waiting| {
            waiting.retain(|other| !other.is_closed());
            !waiting.is_empty()
        });
    }

    /// Lets everybody go, now and from now on: whoever waits hears at once that there is no report. A stopping node
    /// answers its flushes so, with what their rows say, instead of being cut off while they wait.
    pub fn close(&self) {
        let mut board = self.board();
        board.closed = true;
        board.waiting.clear();
    }

    fn board(&self) -> MutexGuard<'_, Board<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way on which the next report on a row comes.
#[derive(Debug)]
pub struct Reports(oneshot::Receiver<Report>);

impl Reports {
    /// The next report, or `None` when there is none within `limit`.
    pub async fn first(self, limit: Duration) -> Option<Report> {
        self.before(Instant::now() + limit).await
    }

    /// The next report, or `None` when there is none until `deadline`.
    pub async fn before(self, deadline: Instant) -> Option<Report> {
        tokio::time::timeout_at(deadline, self.0).await.ok()?.ok()
    }
}
