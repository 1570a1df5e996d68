//! Look-ups that users start: how often one peer is asked, and what is done later for that reason.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vellum_protocol::{Domain, Handle, UnixMillis};
use vellum_store::UserId;

use super::PeerError;
use super::bulkhead::Purpose;

/// The time that the allowance is for.
const MINUTE_MILLIS: i64 = 60_000;
/// Peers with look-ups in the background at once, and look-ups that wait for one of them.
const PEERS_LATER: usize = 256;
const LATER_PER_PEER: usize = 200;
/// Those peers at once that one user has made wait: hostile ones can make it last.
const PEERS_LATER_PER_USER: usize = 16;

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

/// Friends whose keys are still to be compared, by peer. Nothing is lost with them: a later call
/// does it again.
#[derive(Default)]
pub(crate) struct Later(Mutex<HashMap<String, OfPeer>>);

struct OfPeer {
    /// Who had the first of them wait.
    opened_by: UserId,
    waiting: VecDeque<(UserId, Handle)>,
}

/// What has become of a friend that is to be compared later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It waits, and the caller has to work on this peer's friends, until
    /// [`next`](Later::next) gives none.
    First,
    /// It waits.
    Waits,
    /// There is no room.
    Full,
}

impl Later {
    /// Adds a friend of this user, if there is room.
    pub fn add(&self, user: UserId, friend: Handle) -> Added {
        let mut table = self.table();
        let peer = friend.domain().folded();
        if let Some(OfPeer { waiting, .. }) = table.get_mut(&peer) {
            let entry = (user, friend);
            if waiting.contains(&entry) {
                return Added::Waits;
            }
            if waiting.len() >= LATER_PER_PEER {
                return Added::Full;
            }
            waiting.push_back(entry);
            return Added::Waits;
        }
        let of_user = table.values().filter(|of_peer| of_peer.opened_by == user).count();
        if table.len() >= PEERS_LATER || of_user >= PEERS_LATER_PER_USER {
            return Added::Full;
        }
        let of_peer = OfPeer { opened_by: user.clone(), waiting: VecDeque::from([(user, friend)]) };
        table.insert(peer, of_peer);
        Added::First
    }

    /// Takes the next friend on this peer.
    pub fn next(&self, peer: &Domain) -> Option<(UserId, Handle)> {
        let mut table = self.table();
        let next = table.get_mut(&peer.folded()).and_then(|of_peer| of_peer.waiting.pop_front());
        if next.is_none() {
            table.remove(&peer.folded());
        }
        next
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, OfPeer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    #[test]
    fn what_waits_is_bounded_and_worked_on_by_one() {
        let later = Later::default();
        let friend = |n: usize, peer: &str| Handle::parse(&format!("user{n}@{peer}")).unwrap();
        let user = || UserId::from("u".to_owned());
        assert_eq!(later.add(user(), friend(0, "a.example")), Added::First, "it starts the work");
        for n in 0..2 * LATER_PER_PEER {
            let added = if n + 1 < LATER_PER_PEER { Added::Waits } else { Added::Full };
            assert_eq!(later.add(user(), friend(n, "A.example")), added, "{n}");
        }
        for n in 1..2 * PEERS_LATER_PER_USER {
            let added = if n < PEERS_LATER_PER_USER { Added::First } else { Added::Full };
            assert_eq!(later.add(user(), friend(0, &format!("u{n}.example"))), added, "{n}");
        }
        for n in PEERS_LATER_PER_USER..2 * PEERS_LATER {
            let added = if n < PEERS_LATER { Added::First } else { Added::Full };
            let other = UserId::from(format!("other{n}"));
            assert_eq!(later.add(other, friend(0, &format!("n{n}.example"))), added, "{n}");
        }
        let peer = Domain::parse("a.example").unwrap();
        let mut taken = 0;
        while later.next(&peer).is_some() {
            taken += 1;
        }
        assert_eq!(taken, LATER_PER_PEER);
        assert_eq!(later.add(user(), friend(0, "a.example")), Added::First, "the work was over");
    }
}
