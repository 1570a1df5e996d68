//! When to try again: exponential intervals with jitter. The one module that touches `backoff`, of which
//! only the policy is used; attempts and due times live in the database, not in a loop.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// The first interval. A peer that restarts is back within seconds.
const FIRST: Duration = Duration::from_secs(1);
/// The longest interval: what a peer that returns after days costs in delay at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest pause after an attempt, jitter included, and the longest that a peer may ask for.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5400);
/// How fast the intervals grow.
const MULTIPLIER: f64 = 2.0;
/// How far jitter takes an interval from its middle, as a share of it: attempts that failed together do
/// not come back together.
const JITTER: f64 = 0.5;

/// The pause after the given number of failed attempts (at least 1).
#[must_use]
pub fn retry_after(failures: u32) -> Duration {
    let mut policy = ExponentialBackoff {
        current_interval: middle(failures),
        initial_interval: FIRST,
        randomization_factor: JITTER,
        multiplier: MULTIPLIER,
        max_interval: LONGEST,
        // The window of the envelope ends the attempts, not the time that a process has run.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    policy.next_backoff().unwrap_or(LONGEST)
}

/// The interval without jitter: 1 s, 2 s, 4 s … 1 h.
fn middle(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_and_stay_within_half_of_their_middle() {
        for failures in 1..40 {
            let middle = middle(failures);
            for _ in 0..50 {
                let pause = retry_after(failures);
                assert!(pause >= middle / 2 && pause <= middle * 3 / 2, "{failures} failures: {pause:?}");
            }
        }
        assert_eq!(middle(1), FIRST);
        assert_eq!(middle(4), FIRST * 8);
        assert_eq!(middle(39), LONGEST);
    }

    #[test]
    fn two_rows_that_failed_together_do_not_come_back_together() {
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| retry_after(5)).collect();
        assert!(pauses.len() > 10, "jitter spreads them: {pauses:?}");
    }
}
