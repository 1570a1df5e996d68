//! When to try again: exponential intervals with jitter. The one module that touches `backoff`, of
//! which only the policy is used; attempts and due times live in the database, not in a loop.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// The intervals between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The first interval. A peer that restarts is back within seconds.
    pub first: Duration,
    /// How fast the intervals grow; 1 or more.
    pub multiplier: f64,
    /// How far jitter takes an interval from its middle, as a share of it (0 to 1): attempts that
    /// failed together do not come back together.
    pub randomization: f64,
    /// The longest interval: what a peer that returns after days costs in delay at most.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            multiplier: 2.0,
            randomization: 0.5,
            longest: Duration::from_secs(3600),
        }
    }
}

impl RetryPolicy {
    /// The pause after the given number of failed attempts (at least 1).
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let mut policy = ExponentialBackoff {
            current_interval: self.middle(failures),
            initial_interval: self.first,
            randomization_factor: self.randomization,
            multiplier: self.multiplier,
            max_interval: self.longest,
            // The window of the envelope ends the attempts, not the time that a process has run.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        policy.next_backoff().unwrap_or(self.longest)
    }

    /// The longest pause after an attempt, jitter included, and the longest that a peer may ask
    /// for.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        self.longest.mul_f64(1.0 + self.randomization)
    }

    /// The interval without jitter: with the defaults 1 s, 2 s, 4 s … 1 h.
    fn middle(&self, failures: u32) -> Duration {
        let grown = self.multiplier.powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
        let millis = self.first.as_secs_f64() * grown;
        Duration::try_from_secs_f64(millis).map_or(self.longest, |interval| interval.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_and_stay_within_half_of_their_middle() {
        let policy = RetryPolicy::default();
        for failures in 1..2000 {
            let middle = policy.middle(failures);
            for _ in 0..5 {
                let pause = policy.after(failures);
                assert!(pause >= middle / 2 && pause <= middle * 3 / 2, "{failures} failures: {pause:?}");
                assert!(pause <= policy.longest_pause());
            }
        }
        assert_eq!(policy.middle(1), policy.first);
        assert_eq!(policy.middle(4), policy.first * 8);
        assert_eq!(policy.middle(39), policy.longest);
    }

    #[test]
    fn intervals_follow_the_settings() {
        let policy = RetryPolicy {
            first: Duration::from_millis(100),
            multiplier: 3.0,
            randomization: 0.0,
            longest: Duration::from_millis(1000),
        };
        let pauses: Vec<u128> = (1..5).map(|failures| policy.after(failures).as_millis()).collect();
        assert_eq!(pauses, [100, 300, 900, 1000]);
    }

    #[test]
    fn two_rows_that_failed_together_do_not_come_back_together() {
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| RetryPolicy::default().after(5)).collect();
        assert!(pauses.len() > 10, "jitter spreads them: {pauses:?}");
    }
}
