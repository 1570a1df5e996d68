//! Bounds on sign-in codes, by account: emails, and wrong codes. The database keeps the counts, so
//! all nodes on it share them.
//!
//! A guess hits one of at most three live codes out of 10^8. With the defaults at most 200 + 50
//! wrong codes a day are compared, which makes 750 chances in 10^8: fewer than 1 in 100,000 a day.

use vellum_protocol::UnixMillis;
use vellum_store::wrong_codes::Spent;

/// Codes of one address that are live at the same time. A new one beyond that replaces the oldest.
pub const MOST_LIVE_CODES: u32 = 3;
/// The counter of wrong codes while everybody may try.
const EVERYBODY: &str = "";

/// The bounds of each account.
#[derive(Debug, Clone, Copy)]
pub struct CodeBounds {
    /// Wrong codes in 24 hours, over all sources and all codes.
    pub wrong_codes_per_day: u32,
    /// After that: wrong codes in 24 hours of each source that the account knows.
    pub wrong_codes_per_known_source: u32,
    /// After that: wrong codes in 24 hours of all sources that the account knows.
    pub wrong_codes_of_known_sources: u32,
    /// Emails that can be sent at once.
    pub emails_at_once: u32,
    /// After that: one email in so many milliseconds.
    pub email_interval_millis: i64,
}

impl Default for CodeBounds {
    fn default() -> Self {
        Self {
            wrong_codes_per_day: 200,
            wrong_codes_per_known_source: 5,
            wrong_codes_of_known_sources: 50,
            emails_at_once: 2,
            email_interval_millis: 15 * 60_000,
        }
    }
}

impl CodeBounds {
    /// Takes one email out of an allowance that is full at `full_at`. Returns when it is full
    /// again, or `None` if it is empty.
    ///
    /// A time further ahead than that takes for an empty one was noted by a clock that was wrong.
    pub(super) fn take_email(&self, full_at: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
        let capacity = i64::from(self.emails_at_once) * self.email_interval_millis;
        let from = full_at.filter(|at| (0..=capacity).contains(&at.since(now))).unwrap_or(now);
        let full_at = from.plus_millis(self.email_interval_millis);
        (full_at.since(now) <= capacity).then_some(full_at)
    }

    /// The counter of a try with eight digits, if it is wrong; `None` if the try must be refused.
    /// `known` are the sources of the request that the account knows.
    pub(super) fn counter<'a>(&self, spent: &[Spent], known: &'a [String]) -> Option<&'a str> {
        let spent_by =
            |source: &str| spent.iter().find(|spent| spent.source == source).map_or(0, |spent| spent.tries);
        if spent_by(EVERYBODY) < self.wrong_codes_per_day {
            return Some(EVERYBODY);
        }
        let by_known: u32 =
            spent.iter().filter(|spent| spent.source != EVERYBODY).map(|spent| spent.tries).sum();
        if by_known >= self.wrong_codes_of_known_sources {
            return None;
        }
        known.iter().map(String::as_str).find(|source| spent_by(source) < self.wrong_codes_per_known_source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: UnixMillis = UnixMillis(1_800_000_000_000);
    const MINUTE: i64 = 60_000;

    #[test]
    fn two_emails_at_once_then_one_every_fifteen_minutes() {
        let bounds = CodeBounds::default();
        let (mut full_at, mut sent) = (None, Vec::new());
        for minute in 0..=60 {
            for _ in 0..3 {
                if let Some(at) = bounds.take_email(full_at, T0.plus_millis(minute * MINUTE)) {
                    full_at = Some(at);
                    sent.push(minute);
                }
            }
        }
        assert_eq!(sent, [0, 0, 15, 30, 45, 60]);
    }

    #[test]
    fn an_allowance_noted_by_a_clock_that_was_ahead_keeps_nobody_waiting() {
        let forty_days_ahead = T0.plus_millis(40 * 24 * 60 * MINUTE);
        let full_at = CodeBounds::default().take_email(Some(forty_days_ahead), T0);
        assert_eq!(full_at, Some(T0.plus_millis(15 * MINUTE)), "as if it were full");
    }

    fn spent(counts: &[(&str, u32)]) -> Vec<Spent> {
        counts.iter().map(|(source, tries)| Spent { source: (*source).to_owned(), tries: *tries }).collect()
    }

    #[test]
    fn known_sources_are_counted_once_the_tries_of_everybody_are_used_up() {
        let bounds = CodeBounds::default();
        let known = ["network".to_owned(), "cookie".to_owned()];
        for (counts, counter) in [
            (spent(&[]), Some("")),
            (spent(&[("", 199)]), Some("")),
            (spent(&[("", 200)]), Some("network")),
            (spent(&[("", 200), ("network", 4)]), Some("network")),
            (spent(&[("", 200), ("network", 5)]), Some("cookie")),
            (spent(&[("", 200), ("network", 5), ("cookie", 5)]), None),
            (spent(&[("", 200), ("others", 49)]), Some("network")),
            (spent(&[("", 200), ("others", 25), ("more", 25)]), None),
        ] {
            assert_eq!(bounds.counter(&counts, &known), counter, "{counts:?}");
            let of_strangers = counter.filter(|counter| counter.is_empty());
            assert_eq!(bounds.counter(&counts, &[]), of_strangers, "{counts:?}, from an unknown source");
        }
    }
}
