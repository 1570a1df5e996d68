//! The peers that could not be reached a moment ago. A row that was leased while its peer was well has nothing to put right there
//! when it is delivered, unless another attempt has failed in between: that is what is known here. Only this process's attempts are;
//! what another node notes is put right by the next probe.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long it matters: a lease that was taken before ends sooner, and one that is taken later sees what was recorded.
const KEPT: Duration = Duration::from_secs(60);
/// From so many peers on, those that do not matter any more are forgotten at each other's arrival.
const MANY: usize = 1024;

/// Who failed when.
#[derive(Default)]
pub(crate) struct Failing(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    since: HashMap<String, Instant>,
    cleared_at: Option<Instant>,
}

impl Failing {
    /// To be called before a failure to reach this domain, folded, is recorded.
    pub fn add(&self, domain: String, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |at: Instant| now.duration_since(at) > KEPT;
        // Going through all of them costs something, too: not at each, where thousands fail.
        if kept.since.len() >= MANY && kept.cleared_at.is_none_or(is_old) {
            kept.since.retain(|_, at| !is_old(*at));
            kept.cleared_at = Some(now);
        }
        kept.since.insert(domain, now);
    }

    /// Whether an attempt has failed to reach this domain lately.
    pub fn has(&self, domain: &str, now: Instant) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.since.get(domain).is_some_and(|at| now.duration_since(*at) <= KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_known_for_as_long_as_a_lease_and_then_forgotten() {
        let (failing, start) = (Failing::default(), Instant::now());
        for n in 0..MANY {
            failing.add(format!("{n}.example"), start);
        }
        assert!(failing.has("0.example", start + KEPT) && !failing.has("other.example", start));
        let later = start + KEPT + Duration::from_millis(1);
        assert!(!failing.has("0.example", later));
        failing.add("other.example".into(), later);
        assert!(failing.has("other.example", later));
        assert_eq!(failing.0.lock().unwrap().since.len(), 1, "the old ones take no memory");
    }
}
