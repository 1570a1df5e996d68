//! How long answers took: counts in buckets whose width is at most a 128th of their value, so that a percentile
//! is right to a percent from a microsecond to a day. It only counts; from which moment an answer's time is
//! measured is decided in [`super::load`].

use std::time::Duration;

/// Buckets in each doubling of the value.
const STEPS: u64 = 128;
/// Values below this have a bucket each.
const EXACT: u64 = 2 * STEPS;

/// Counts by time, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

/// The bucket that a value falls into.
fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return usize::try_from(micros).unwrap_or(usize::MAX);
    }
    // How far the value has to be shifted to have as many bits as the largest exact one.
    let shift = u64::from(EXACT.leading_zeros() - micros.leading_zeros()) + 1;
    usize::try_from(shift * STEPS + (micros >> shift)).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn top(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < EXACT {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS + 1) << shift) - 1
}

impl Histogram {
    /// Counts one answer.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(1 << 37);
        let bucket = bucket(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.longest = self.longest.max(micros);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time that this share of the answers (0 to 1) did not exceed, in milliseconds; 0 without answers.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and times are far below where floats lose whole numbers"
    )]
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = share * self.total as f64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return top(bucket).min(self.longest) as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The longest time, in milliseconds.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.percentile(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_is_at_most_a_percent_above_it() {
        let mut last = 0;
        for value in (0..5000).chain((1..60_000).map(|n| n * 977)) {
            let top = top(bucket(value));
            assert!(top >= value && top - value <= value / 100, "{value}: {top}");
        }
        for value in 0..100_000 {
            let bucket = bucket(value);
            assert!(bucket == last || bucket == last + 1, "no bucket is left out: {value}");
            last = bucket;
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.total(), 10_000);
        for (share, expected) in [(0.5, 5.0), (0.99, 9.9), (0.999, 9.99), (1.0, 10.0)] {
            let told = histogram.percentile(share);
            assert!((told - expected).abs() <= expected / 100.0, "{share}: {told}");
        }
        assert_eq!(Histogram::default().percentile(0.5), 0.0);
    }

    #[test]
    fn two_together_count_as_one() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_millis(1));
        other.record(Duration::from_secs(2));
        one.add(&other);
        assert_eq!((one.total(), one.max()), (2, 2000.0));
    }
}
