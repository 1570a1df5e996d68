//! Where the time comes from: a parameter, so that a test can steer it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use vellum_protocol::UnixMillis;

/// Tells the time. Clones tell the same one. It is read once per operation, not once per line.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Steered(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn steered(at: UnixMillis) -> Self {
        Self(Source::Steered(Arc::new(AtomicI64::new(at.0))))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            Source::System => system_now(),
            Source::Steered(at) => UnixMillis(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a steered clock; the machine's clock is left alone.
    pub fn advance(&self, millis: i64) {
        if let Source::Steered(at) = &self.0 {
            at.fetch_add(millis, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
fn system_now() -> UnixMillis {
    // A clock before 1970 reads as 1970; every freshness check then refuses, which is the safe side.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
