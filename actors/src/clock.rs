//! Where the time comes from: a parameter, so that a test can steer it.
//!
//! The wall clock dates things. It can be set, also by mistake. The boot clock measures how long
//! something takes.

use std::ops::Add;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vellum_protocol::UnixMillis;

/// Tells the time. Clones tell the same one. It is read once per operation, not once per line.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Steered(Arc<Steered>),
}

struct Steered {
    wall: AtomicI64,
    boot: AtomicI64,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn steered(at: UnixMillis) -> Self {
        Self(Source::Steered(Arc::new(Steered { wall: AtomicI64::new(at.0), boot: AtomicI64::new(0) })))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            Source::System => system_now(),
            Source::Steered(at) => UnixMillis(at.wall.load(Ordering::SeqCst)),
        }
    }

    /// The time since the machine started, suspension included. Nobody sets this clock.
    #[must_use]
    pub fn boot(&self) -> BootTime {
        match &self.0 {
            Source::System => system_boot(),
            Source::Steered(at) => BootTime(at.boot.load(Ordering::SeqCst)),
        }
    }

    /// Lets time pass on a steered clock; the machine's clocks are left alone.
    pub fn advance(&self, millis: i64) {
        self.set_forward(millis);
        if let Source::Steered(at) = &self.0 {
            at.boot.fetch_add(millis, Ordering::SeqCst);
        }
    }

    /// Sets the wall clock of a steered clock forward, or back, without time passing.
    pub fn set_forward(&self, millis: i64) {
        if let Source::Steered(at) = &self.0 {
            at.wall.fetch_add(millis, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// Milliseconds since the machine started. Unlike [`std::time::Instant`] it goes on while the
/// machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(i64);

impl BootTime {
    /// The time from `earlier` until this one; zero if that is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// How far the clocks of nodes on one database may differ. A stored time that is further ahead than what
/// it is for allows, and this much more, comes from a clock that was wrong.
pub const CLOCKS_DIFFER_MILLIS: i64 = 60_000;

/// How far the difference of wall clock and boot clock may move while they count as agreeing.
const AGREEMENT_MILLIS: i64 = 5_000;
/// How long they must have agreed before anything is forgotten by the wall clock.
const AGREEMENT_LASTS: Duration = Duration::from_secs(3600);

/// Compares wall clock and boot clock. A wall clock that somebody sets, or that was wrong when the
/// machine started and is corrected, moves against the boot clock.
#[derive(Debug)]
pub struct ClockWatch(Mutex<Agreement>);

/// Since when the clocks have agreed, and the least and the greatest difference seen since then.
#[derive(Debug)]
struct Agreement {
    since: BootTime,
    least: i64,
    greatest: i64,
}

impl Agreement {
    fn from(wall: UnixMillis, boot: BootTime) -> Self {
        let difference = wall.0.saturating_sub(boot.0);
        Self { since: boot, least: difference, greatest: difference }
    }
}

impl ClockWatch {
    /// Watches from now on.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self(Mutex::new(Agreement::from(clock.now(), clock.boot())))
    }

    /// Compares the clocks. Returns the time now if they have agreed within 5 s for an hour.
    pub fn settled(&self, clock: &Clock) -> Option<UnixMillis> {
        let (wall, boot) = (clock.now(), clock.boot());
        let seen = Agreement::from(wall, boot);
        let mut agreement = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let least = agreement.least.min(seen.least);
        let greatest = agreement.greatest.max(seen.greatest);
        if greatest.saturating_sub(least) > AGREEMENT_MILLIS {
            tracing::warn!(
                moved_ms = greatest.saturating_sub(least),
                "clock was set; nothing is purged for an hour"
            );
            *agreement = seen;
        } else {
            (agreement.least, agreement.greatest) = (least, greatest);
        }
        (boot.since(agreement.since) >= AGREEMENT_LASTS).then_some(wall)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
fn system_now() -> UnixMillis {
    // A clock before 1970 reads as 1970; every freshness check then refuses, which is the safe side.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).plus_millis(shifts().0)
}

fn system_boot() -> BootTime {
    // Only Linux has the other one; elsewhere (macOS) the monotonic clock counts suspension.
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    BootTime(
        time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000).saturating_add(shifts().1),
    )
}

/// How far a test has this process's wall clock and boot clock go wrong, in milliseconds: the two
/// numbers in the file that the environment variable `TEST_CLOCK_FILE` names; the second may be
/// left out. It is read at every look, so a test can have the clocks jump. A release has no such
/// thing.
#[cfg(debug_assertions)]
fn shifts() -> (i64, i64) {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let file = std::env::var_os("TEST_CLOCK_FILE").map(PathBuf::from);
        if let Some(file) = &file {
            tracing::warn!(file = %file.display(), "THE CLOCK IS WRONG ON PURPOSE: it follows a file of a test");
        }
        file
    });
    let Some(file) = &*FILE else { return (0, 0) };
    let text = std::fs::read_to_string(file).expect("a test that steers the clock keeps the file there");
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("the file holds numbers"));
    (numbers.next().expect("the file of the test's clock holds a number"), numbers.next().unwrap_or(0))
}

#[cfg(not(debug_assertions))]
const fn shifts() -> (i64, i64) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn clocks_have_settled_when_they_agreed_for_an_hour() {
        let clock = Clock::steered(UnixMillis(1_700_000_000_000));
        let watch = ClockWatch::new(&clock);
        clock.advance(HOUR - 1);
        assert_eq!(watch.settled(&clock), None);
        clock.advance(1);
        assert_eq!(watch.settled(&clock), Some(clock.now()));
        // Drift within 5 s is none, in either direction; more is, also when it comes bit by bit.
        clock.set_forward(3_000);
        assert_eq!(watch.settled(&clock), Some(clock.now()));
        clock.set_forward(-5_000);
        assert_eq!(watch.settled(&clock), Some(clock.now()));
        clock.set_forward(-1);
        assert_eq!(watch.settled(&clock), None);
        clock.advance(HOUR);
        assert_eq!(watch.settled(&clock), Some(clock.now()));
    }

    #[test]
    fn a_clock_that_is_ahead_and_right_again_has_to_settle_anew_each_time() {
        let clock = Clock::steered(UnixMillis(1_700_000_000_000));
        let watch = ClockWatch::new(&clock);
        clock.advance(2 * HOUR);
        clock.set_forward(40 * 24 * HOUR);
        assert_eq!(watch.settled(&clock), None);
        clock.advance(60_000);
        clock.set_forward(-40 * 24 * HOUR);
        assert_eq!(watch.settled(&clock), None);
        clock.advance(HOUR);
        assert_eq!(watch.settled(&clock), Some(clock.now()));
    }

    #[test]
    fn the_boot_clock_of_the_machine_goes_on() {
        let clock = Clock::system();
        let before = clock.boot();
        assert!(before > BootTime(0) && clock.boot() >= before, "{before:?}");
        assert_eq!((before + Duration::from_secs(2)).since(before), Duration::from_secs(2));
        assert_eq!(before.since(before + Duration::from_secs(2)), Duration::ZERO);
    }
}
