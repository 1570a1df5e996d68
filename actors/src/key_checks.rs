//! Friends whose keys are compared later, since their node may not be asked now.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vellum_protocol::{Domain, Handle};
use vellum_store::UserId;

/// Peers with look-ups in the background at once, and look-ups that wait for one of them.
const PEERS_LATER: usize = 256;
const LATER_PER_PEER: usize = 200;
/// Those peers at once that one user has made wait: hostile ones can make it last.
const PEERS_LATER_PER_USER: usize = 16;

/// Friends whose keys are still to be compared, by peer. Nothing is lost with them: a later call
/// does it again.
#[derive(Default)]
pub(crate) struct KeyChecks(Mutex<HashMap<String, OfPeer>>);

struct OfPeer {
    /// Who had the first of them wait.
    opened_by: UserId,
    waiting: VecDeque<(UserId, Handle)>,
}

/// What has become of a friend that is to be compared later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It waits, and the caller has to work on this peer's friends, until
    /// [`next`](KeyChecks::next) gives none.
    First,
    /// It waits.
    Waits,
    /// There is no room.
    Full,
}

impl KeyChecks {
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

    #[test]
    fn what_waits_is_bounded_and_worked_on_by_one() {
        let later = KeyChecks::default();
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
