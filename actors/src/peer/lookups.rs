//! Look-ups that users start: how often one peer is asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vellum_protocol::{Domain, UnixMillis};
use vellum_store::UserId;

use super::PeerError;
use super::bulkhead::Purpose;

/// The time that the allowance is for.
const MINUTE_MILLIS: i64 = 60_000;

/// Why somebody on another node is looked up. It decides which bounds hold, and whether a kept
/// document serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookupFor {
    /// A message says that it is from them.
    Message,
    /// A message from them does not verify with the kept document.
    MessageAgain,
    /// This user asks for them as they are now.
    User(UserId),
    /// The same in the background: half of the allowance is left to users who wait.
    Background(UserId),
    /// This user accepts their invitation.
    Accept(UserId),
}

impl LookupFor {
    pub fn purpose(&self) -> Purpose {
        if self.user().is_some() { Purpose::UserLookup } else { Purpose::InboundLookup }
    }

    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Message | Self::MessageAgain => None,
            Self::User(user) | Self::Background(user) | Self::Accept(user) => Some(user),
        }
    }

    /// Whether a document that was fetched a moment ago serves.
    pub fn takes_kept(&self) -> bool {
        matches!(self, Self::Message | Self::Accept(_))
    }
}

/// How often each peer was asked in the last minute, because a user wanted to know.
#[derive(Default)]
pub(super) struct Allowance {
    /// `None`: without limit.
    per_minute: Option<usize>,
    asked: Mutex<HashMap<String, VecDeque<UnixMillis>>>,
}

impl Allowance {
    pub fn new(per_minute: Option<u32>) -> Self {
        let per_minute = per_minute.map(|most| usize::try_from(most.max(1)).unwrap_or(usize::MAX));
        Self { per_minute, asked: Mutex::default() }
    }

    /// Counts a look-up at this peer, where it is one that counts.
    ///
    /// # Errors
    /// [`PeerError::Limited`] when the peer was asked as often as it may be.
    pub fn count(&self, peer: &Domain, why: &LookupFor, now: UnixMillis) -> Result<(), PeerError> {
        let most = match (self.per_minute, why) {
            (Some(most), LookupFor::User(_)) => most,
            (Some(most), LookupFor::Background(_)) => most.div_ceil(2),
            _ => return Ok(()),
        };
        let mut table = self.table();
        let asked = table.entry(peer.folded()).or_default();
        forget_old(asked, now);
        if asked.len() < most {
            asked.push_back(now);
            return Ok(());
        }
        let free_at = asked[asked.len() - most].plus_millis(MINUTE_MILLIS);
        let wait = u64::try_from(free_at.since(now)).unwrap_or(0);
        Err(PeerError::Limited { retry_after: Duration::from_millis(wait) })
    }

    pub fn sweep(&self, now: UnixMillis) {
        let mut table = self.table();
        table.retain(|_, asked| {
            forget_old(asked, now);
            !asked.is_empty()
        });
        table.shrink_to_fit();
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, VecDeque<UnixMillis>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Times in the future are of a clock that was wrong.
fn forget_old(asked: &mut VecDeque<UnixMillis>, now: UnixMillis) {
    asked.retain(|at| (0..MINUTE_MILLIS).contains(&now.since(*at)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: UnixMillis = UnixMillis(1_800_000_000_000);

    fn wait(counted: Result<(), PeerError>) -> Option<u64> {
        match counted {
            Ok(()) => None,
            Err(PeerError::Limited { retry_after }) => Some(retry_after.as_secs()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_peer_is_asked_so_often_a_minute_and_half_as_often_in_the_background() {
        let allowance = Allowance::new(Some(4));
        let (peer, other) = (Domain::parse("a.example").unwrap(), Domain::parse("b.example").unwrap());
        let user = LookupFor::User("u".to_owned().into());
        let background = LookupFor::Background("u".to_owned().into());
        let at = |seconds: i64| T0.plus_millis(seconds * 1000);
        for second in 0..2 {
            assert_eq!(wait(allowance.count(&peer, &background, at(second))), None);
        }
        assert_eq!(wait(allowance.count(&peer, &background, at(2))), Some(58), "half is left to users");
        assert_eq!(wait(allowance.count(&peer, &user, at(2))), None);
        assert_eq!(wait(allowance.count(&peer, &user, at(3))), None);
        assert_eq!(wait(allowance.count(&peer, &user, at(10))), Some(50));
        assert_eq!(wait(allowance.count(&other, &user, at(10))), None, "another peer has its own");
        assert_eq!(wait(allowance.count(&peer, &LookupFor::Message, at(10))), None, "messages do not count");
        assert_eq!(wait(allowance.count(&peer, &user, at(60))), None, "the first is a minute ago");
        assert_eq!(wait(allowance.count(&peer, &user, at(60))), Some(1));
        assert_eq!(wait(allowance.count(&peer, &user, at(-3600))), None, "the clock was an hour ahead");
        allowance.sweep(at(200));
        assert!(allowance.table().is_empty());
    }
}
