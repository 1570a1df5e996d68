//! How the last write ended: what `/health/ready` goes by, and what is logged once and not for each request.

use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::StoreError;
use crate::error::TxError;

/// For how long an outcome stands.
const STANDS: Duration = Duration::from_secs(30);
/// The same for a failure that may have passed already, such as a busy database.
const PASSING: Duration = Duration::from_secs(1);
/// For how long a probe is waited for.
const PROBE: Duration = Duration::from_millis(2500);

/// Shared by everything that writes to one database.
#[derive(Clone)]
pub(crate) struct WriteStatus(Arc<Shared>);

struct Shared {
    /// What the log calls the database: a path, or the engine.
    database: String,
    state: Mutex<State>,
    /// Held by the one who probes.
    probing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// When the last write that says something ended, and why it failed if it did.
    last: Option<(Instant, Option<StoreError>)>,
    /// The kind of failure that was logged and is not over.
    logged: Option<Discriminant<StoreError>>,
}

impl WriteStatus {
    pub fn new(database: String) -> Self {
        Self(Arc::new(Shared { database, state: Mutex::default(), probing: tokio::sync::Mutex::default() }))
    }

    /// Takes note of how a write ended.
    pub fn note<T, E: TxError>(&self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.succeeded(),
            Err(error) => error.as_store().into_iter().for_each(|error| self.failed(error)),
        }
    }

    /// Takes note of a write that has succeeded and changed something.
    pub fn succeeded(&self) {
        let mut state = self.state();
        state.last = Some((Instant::now(), None));
        if state.logged.take().is_some() {
            tracing::info!(database = self.0.database, "database writable again");
        }
    }

    /// Takes note of a failed write.
    pub fn failed(&self, error: &StoreError) {
        let mut state = self.state();
        match error {
            StoreError::NotWritable { .. } | StoreError::Denied(_) => {
                state.last = Some((Instant::now(), Some(error.clone())));
                self.log(&mut state, error);
            }
            // What the next write will meet is not known.
            StoreError::Unreachable(_) => {
                state.last = None;
                self.log(&mut state, error);
            }
            _ => {}
        }
    }

    /// Takes note of a failed read, which says nothing about writing unless nothing can be reached.
    pub fn read_failed(&self, error: &StoreError) {
        if matches!(error, StoreError::Unreachable(_)) {
            self.log(&mut self.state(), error);
        }
    }

    /// Logs a failure of this kind unless it was logged before and is not over.
    fn log(&self, state: &mut State, error: &StoreError) {
        let kind = discriminant(error);
        if state.logged.replace(kind) != Some(kind) {
            tracing::error!(database = self.0.database, %error, "database failure");
        }
    }

    /// Why the last write failed, if it did.
    pub fn failure(&self) -> Option<StoreError> {
        self.state().last.as_ref().and_then(|(_, error)| error.clone())
    }

    /// How the last write ended, if that still stands.
    fn outcome(&self) -> Option<Result<(), StoreError>> {
        let state = self.state();
        let (at, error) = state.last.as_ref()?;
        let stands = match error {
            None | Some(StoreError::NotWritable { .. } | StoreError::Denied(_)) => STANDS,
            Some(_) => PASSING,
        };
        (at.elapsed() < stands).then(|| error.clone().map_or(Ok(()), Err))
    }

    /// How the last write ended; where that was long ago, how `probe` ends. All who ask meanwhile share one probe.
    pub async fn check(&self, probe: impl AsyncFnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        let _probing = self.0.probing.lock().await;
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        let seen = self.last_at();
        let outcome = timeout(PROBE, probe()).await.unwrap_or(Err(StoreError::Busy));
        let mut state = self.state();
        // A write that has ended meanwhile knows better.
        if state.last.as_ref().is_none_or(|(at, _)| Some(*at) == seen) {
            state.last = Some((Instant::now(), outcome.clone().err()));
        }
        outcome
    }

    fn last_at(&self) -> Option<Instant> {
        self.state().last.as_ref().map(|(at, _)| *at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;
    use crate::WriteFault;

    /// Asks ten at once; every one must be told the same. Gives that, and how many probes it took.
    async fn ask(status: &WriteStatus, end: &Result<(), StoreError>) -> (bool, usize) {
        let probes = AtomicUsize::new(0);
        let asked = (0..10).map(|_| {
            status.check(async || {
                probes.fetch_add(1, Ordering::Relaxed);
                // The others come meanwhile.
                tokio::task::yield_now().await;
                end.clone()
            })
        });
        let told: Vec<bool> = join_all(asked).await.iter().map(Result::is_ok).collect();
        assert!(told.iter().all(|one| *one == told[0]), "not all are told the same: {told:?}");
        (told[0], probes.into_inner())
    }

    /// Has the last write be so much longer ago.
    fn age(status: &WriteStatus, by: Duration) {
        if let Some((at, _)) = &mut status.state().last {
            *at = at.checked_sub(by).unwrap();
        }
    }

    fn full() -> StoreError {
        StoreError::NotWritable { fault: WriteFault::Full, reason: "full".into() }
    }

    #[tokio::test]
    async fn a_probe_is_made_when_asked_after_30_seconds_without_a_write_and_shared() {
        let status = WriteStatus::new("a database".into());
        assert_eq!(ask(&status, &Ok(())).await, (true, 1), "nothing is known at first");
        assert_eq!(ask(&status, &Err(full())).await, (true, 0), "the last outcome stands");
        age(&status, STANDS);
        assert_eq!(ask(&status, &Err(full())).await, (false, 1));
        age(&status, STANDS / 2);
        assert_eq!(ask(&status, &Ok(())).await, (false, 0));
        age(&status, STANDS / 2);
        assert_eq!(ask(&status, &Err(StoreError::Busy)).await, (false, 1));
        age(&status, PASSING);
        assert_eq!(ask(&status, &Ok(())).await, (true, 1), "a busy database may not be it for long");
    }

    #[tokio::test]
    async fn a_write_that_ends_during_a_probe_decides() {
        let status = WriteStatus::new("a database".into());
        let probed = status
            .check(async || {
                status.failed(&full());
                Ok(())
            })
            .await;
        assert!(probed.is_ok());
        assert_eq!(ask(&status, &Ok(())).await, (false, 0), "the write is what stands");
    }

    #[tokio::test]
    async fn the_last_write_decides() {
        let status = WriteStatus::new("a database".into());
        status.note(&Err::<(), _>(full()));
        assert_eq!(ask(&status, &Ok(())).await, (false, 0));
        status.succeeded();
        assert_eq!(ask(&status, &Ok(())).await, (true, 0));
        status.note(&Err::<(), _>(StoreError::Duplicate("a row".into())));
        assert_eq!(ask(&status, &Ok(())).await, (true, 0), "a refused change says nothing about the disk");
        status.note(&Err::<(), _>(StoreError::Unreachable("gone".into())));
        assert_eq!(ask(&status, &Ok(())).await, (true, 1), "it may be back");
    }
}
