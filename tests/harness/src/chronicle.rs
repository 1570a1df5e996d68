//! Who did what to whom, and what must have come of it: the oracle for relationships. It is told of acts as people
//! learn of their outcomes, and knows nothing of nodes.
//!
//! Acts overlap, so each has a beginning and an end on one line of moments. One is *before* another only if it had
//! ended when the other began. Where acts overlap, or an outcome is unknown, nothing definite is expected but what
//! holds always: the two sides agree.

use std::sync::Mutex;

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Invited somebody.
    Invites,
    /// Accepted somebody's invitation.
    Accepts,
    /// Saw the other in the list of friends, on both sides.
    SeesFriendship,
    /// Ended the friendship.
    Ends,
    /// Erased everything, and so ended it with everybody.
    Resets,
    /// Signed a revocation that was pending.
    SignsPending,
    /// Discarded a pending revocation.
    Discards,
    /// Has other keys than before.
    ChangesKeys,
    /// Shared this.
    Shares(String),
    /// Their node's database was put back: it may have forgotten what others told it.
    Forgets,
}

/// A deed, and when.
#[derive(Debug, Clone)]
pub struct Event {
    /// Who.
    pub who: usize,
    /// To whom; `None` for what is about everybody.
    pub whom: Option<usize>,
    /// What.
    pub deed: Deed,
    /// When it began.
    pub begin: u64,
    /// When its outcome was known.
    pub end: u64,
    /// Whether it was acknowledged. If not, it may have happened.
    pub sure: bool,
}

impl Event {
    fn before(&self, other: &Self) -> bool {
        self.end < other.begin
    }

    fn ends_it(&self) -> bool {
        matches!(self.deed, Deed::Ends | Deed::Resets)
    }

    fn begins_it(&self) -> bool {
        matches!(self.deed, Deed::Invites | Deed::Accepts)
    }
}

/// What must be seen of two people when nothing is under way any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Both have the other in their list.
    Friends {
        /// Although an earlier friendship was ended.
        after_end: bool,
    },
    /// The one who ended it has nobody; the other has nobody either, or is in the list of those who have yet to be told.
    Ended {
        /// Who ended it.
        by: usize,
        /// Whether the revocation may have been discarded.
        discarded: bool,
    },
    /// The same on both sides.
    Agreement,
    /// One side only is possible: a known gap of the protocol (docs/model.md) or somebody's choice.
    Anything(&'static str),
}

/// All that was done in a history.
#[derive(Debug, Default)]
pub struct Chronicle(Mutex<Vec<Event>>);

impl Chronicle {
    /// Adds one.
    pub fn add(&self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }

    /// Pairs of people who had to do with each other, each once.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let events = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pairs =
            events.iter().filter_map(|event| Some((event.who.min(event.whom?), event.who.max(event.whom?))));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// What is to be seen of two people. `hurried`: whether so much time was made to pass that messages lapsed.
    pub fn expected(&self, one: usize, other: usize, hurried: bool) -> Expected {
        let events = self.between(one, other);
        if events.iter().any(|event| event.deed == Deed::Forgets) {
            return Expected::Anything("a database was put back");
        }
        let ends: Vec<&Event> = events.iter().filter(|event| event.ends_it()).collect();
        let begins: Vec<&Event> = events.iter().filter(|event| event.begins_it()).collect();
        if let Some(after_end) = friends(&events, &ends).filter(|_| !hurried) {
            return Expected::Friends { after_end };
        }
        if !ends.is_empty() && crossed(&events, &ends) {
            return Expected::Anything("crossing invitations, one of which may never have arrived");
        }
        let last = ends
            .iter()
            .filter(|end| end.sure && begins.iter().all(|begin| begin.before(end)))
            .max_by_key(|end| end.end);
        if let Some(end) = last {
            return Expected::Ended { by: end.who, discarded: may_be_discarded(&events, end) };
        }
        if events.iter().any(|event| event.deed == Deed::Discards) {
            return Expected::Anything("somebody has discarded a revocation");
        }
        if revoked_while_invited(&events) {
            return Expected::Anything("revoked between an invitation and the arrival of its acceptance");
        }
        Expected::Agreement
    }

    /// What one has shared with the other and the other must have: shared in a friendship that both had seen and that
    /// nobody has touched since.
    pub fn shares(&self, from: usize, to: usize) -> Vec<String> {
        let events = self.between(from, to);
        let share_of = |event: &Event| match &event.deed {
            Deed::Shares(resource) if event.sure && event.who == from => Some(resource.clone()),
            _ => None,
        };
        let undisturbed = |share: &Event| {
            let seen = |seen: &Event| {
                let later = |event: &Event| {
                    !matches!(event.deed, Deed::Shares(_))
                        && event.end > seen.begin
                        && !std::ptr::eq(event, seen)
                };
                seen.deed == Deed::SeesFriendship && seen.before(share) && !events.iter().any(later)
            };
            events.iter().any(seen)
        };
        events.iter().filter(|event| undisturbed(event)).filter_map(share_of).collect()
    }

    /// Everything that concerns two people.
    fn between(&self, one: usize, other: usize) -> Vec<Event> {
        let concerns = |event: &&Event| {
            (event.who == one && event.whom.is_none_or(|whom| whom == other))
                || (event.who == other && event.whom.is_none_or(|whom| whom == one))
        };
        let events = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        events.iter().filter(concerns).cloned().collect()
    }
}

/// Whether an acknowledged invitation was accepted, with acknowledgement, after all that ended anything; and whether
/// anything had been ended.
fn friends(events: &[Event], ends: &[&Event]) -> Option<bool> {
    let invites = events.iter().filter(|event| event.deed == Deed::Invites && event.sure);
    for invite in invites {
        let answers = |event: &&Event| {
            event.deed == Deed::Accepts && event.sure && event.who != invite.who && invite.before(event)
        };
        let Some(accept) = events.iter().find(answers) else { continue };
        if may_answer_another(events, invite) {
            continue;
        }
        let ended_before = ends.iter().all(|end| end.before(invite));
        let signed_before =
            events.iter().filter(|event| event.deed == Deed::SignsPending).all(|event| event.before(invite));
        // What is under way is void when its signer has other keys; once both have seen the friendship nothing is.
        let seen = events
            .iter()
            .filter(|event| event.deed == Deed::SeesFriendship && accept.begin < event.begin)
            .map(|event| event.begin)
            .min();
        let keys_kept = events
            .iter()
            .filter(|event| event.deed == Deed::ChangesKeys)
            .all(|change| change.before(invite) || seen.is_some_and(|seen| seen < change.begin));
        if ended_before && signed_before && keys_kept {
            return Some(!ends.is_empty());
        }
    }
    None
}

/// Whether the other may not have to be told of this end: its revocation was discarded, or that of an earlier one, since
/// when nobody has seen a friendship, so that there may be none left that this end could be about.
fn may_be_discarded(events: &[Event], end: &Event) -> bool {
    let discards = events.iter().filter(|event| event.deed == Deed::Discards && event.who == end.who);
    discards.into_iter().any(|discard| {
        let since =
            |seen: &Event| seen.deed == Deed::SeesFriendship && discard.before(seen) && seen.before(end);
        discard.end > end.begin || !events.iter().any(since)
    })
}

/// Whether what is accepted after this invitation may be an earlier one of the same person: an acceptance does not say which.
fn may_answer_another(events: &[Event], invite: &Event) -> bool {
    let answered = |earlier: &Event| {
        events.iter().any(|event| {
            event.deed == Deed::Accepts
                && event.sure
                && event.who != invite.who
                && earlier.begin < event.begin
                && event.before(invite)
        })
    };
    events
        .iter()
        .filter(|event| event.deed == Deed::Invites && event.who == invite.who && event.begin < invite.begin)
        .any(|earlier| !answered(earlier))
}

/// Whether each may have invited the other. The side that learns of the friendship by an answer dates it by its own
/// clock until the other's invitation arrives, so a revocation before that may not end it.
fn crossed(events: &[Event], ends: &[&Event]) -> bool {
    let invites: Vec<&Event> = events.iter().filter(|event| event.deed == Deed::Invites).collect();
    let apart = |one: &Event, other: &Event| ends.iter().any(|end| one.before(end) && end.before(other));
    invites.iter().any(|one| {
        invites.iter().any(|other| one.who != other.who && !apart(one, other) && !apart(other, one))
    })
}

/// Whether a revocation may have been signed while an invitation was out whose friendship the inviter had not seen.
fn revoked_while_invited(events: &[Event]) -> bool {
    let revokes = events.iter().filter(|event| event.ends_it() || event.deed == Deed::SignsPending);
    revokes.into_iter().any(|revoke| {
        events.iter().filter(|event| event.deed == Deed::Invites).any(|invite| {
            let settled = |seen: &Event| {
                seen.deed == Deed::SeesFriendship && invite.begin < seen.begin && seen.before(revoke)
            };
            !revoke.before(invite) && !events.iter().any(settled)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other, in the order given: who, what.
    fn told(deeds: &[(usize, Deed)]) -> Chronicle {
        let chronicle = Chronicle::default();
        for (at, (who, deed)) in deeds.iter().enumerate() {
            let (at, whom) = (at as u64 * 2, Some(1 - who));
            chronicle.add(Event { who: *who, whom, deed: deed.clone(), begin: at, end: at + 1, sure: true });
        }
        chronicle
    }

    #[test]
    fn an_accepted_invitation_makes_friends_and_an_end_ends_it() {
        let mut deeds = vec![(0, Deed::Invites), (1, Deed::Accepts)];
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Friends { after_end: false });
        deeds.push((1, Deed::Ends));
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Ended { by: 1, discarded: false });
        deeds.extend([(1, Deed::Invites), (0, Deed::Accepts)]);
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Friends { after_end: true });
    }

    #[test]
    fn an_end_of_what_a_discard_has_left_behind_has_nobody_to_tell() {
        let mut deeds = vec![
            (0, Deed::Invites),
            (1, Deed::Accepts),
            (0, Deed::Ends),
            (0, Deed::Discards),
            (0, Deed::Invites),
            (0, Deed::Resets),
        ];
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Ended { by: 0, discarded: true });
        let seen = [(1, Deed::Accepts), (0, Deed::SeesFriendship)];
        deeds.splice(5..5, seen);
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Ended { by: 0, discarded: false });
    }

    #[test]
    fn an_invitation_that_is_out_during_a_revocation_may_leave_one_side() {
        let deeds = [(0, Deed::Invites), (0, Deed::Resets), (1, Deed::Accepts)];
        assert!(matches!(told(&deeds).expected(0, 1, false), Expected::Anything(_)));
    }

    #[test]
    fn of_two_invitations_either_may_have_been_accepted() {
        let deeds = [(0, Deed::Invites), (0, Deed::Resets), (0, Deed::Invites), (1, Deed::Accepts)];
        assert!(matches!(told(&deeds).expected(0, 1, false), Expected::Anything(_)));
    }

    #[test]
    fn keys_that_change_under_an_invitation_leave_only_agreement() {
        let deeds = [(0, Deed::Invites), (0, Deed::ChangesKeys), (1, Deed::Accepts)];
        assert_eq!(told(&deeds).expected(0, 1, false), Expected::Agreement);
    }

    #[test]
    fn a_share_is_expected_in_a_friendship_that_was_seen_and_left_alone() {
        let mut deeds = vec![
            (0, Deed::Invites),
            (1, Deed::Accepts),
            (0, Deed::SeesFriendship),
            (0, Deed::Shares("a".into())),
        ];
        assert_eq!(told(&deeds).shares(0, 1), ["a"]);
        deeds.push((1, Deed::ChangesKeys));
        assert!(told(&deeds).shares(0, 1).is_empty());
    }
}
