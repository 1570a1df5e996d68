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
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).plus_millis(shift())
}

/// How far a test has this process's clock go wrong, in milliseconds: what is in the file that the environment variable
/// `TEST_CLOCK_FILE` names. It is read at every look, so a test can have the clock jump. A release has no such thing.
#[cfg(debug_assertions)]
fn shift() -> i64 {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let file = std::env::var_os("TEST_CLOCK_FILE").map(PathBuf::from);
        if let Some(file) = &file {
            tracing::warn!(file = %file.display(), "THE CLOCK IS WRONG ON PURPOSE: it follows a file of a test");
        }
        file
    });
    let Some(file) = &*FILE else { return 0 };
    let text = std::fs::read_to_string(file).expect("a test that steers the clock keeps the file there");
    text.trim().parse().expect("the file of the test's clock holds a number")
}

#[cfg(not(debug_assertions))]
const fn shift() -> i64 {
    0
}
