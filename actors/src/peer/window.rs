//! Until when a peer takes an envelope (wire protocol, sections 4 and 5).
//!
//! Every peer takes envelopes that are fresh: 300 s. One whose manifest lists
//! `durable-revocation-v1` takes revocations for as long as it says. In both cases the window is
//! closed a little early on our side: clocks differ, and an envelope that arrives too late is only
//! noise to the peer.

use std::time::Duration;

use vellum_protocol::timestamp::FRESHNESS_MILLIS;
use vellum_protocol::{Envelope, MessageType, UnixMillis};
use vellum_store::peers::Peer;

/// By how much a window is closed early.
pub const SAFETY_MARGIN_MILLIS: i64 = 10_000;

/// The window that every peer gives every envelope.
pub const SHORTEST_MILLIS: i64 = FRESHNESS_MILLIS - SAFETY_MARGIN_MILLIS;

/// When the window of this envelope closes, as far as its recipient's node is known.
#[must_use]
pub fn closes_at(peer: Option<&Peer>, envelope: &Envelope) -> UnixMillis {
    let content = &envelope.content;
    let stated = peer.and_then(|peer| peer.revocation_window_seconds);
    end(content.message_type, content.timestamp.instant(), stated)
}

/// A third of a window of so many milliseconds: after a pause of that length two more tries fit
/// into it.
#[must_use]
pub fn third(window_millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(window_millis / 3).unwrap_or(0))
}

/// The longest pause before this envelope, whose window closes at `expires_at`, is tried again: a
/// third of the window, or half of what is left of it, down to 10 s.
#[must_use]
pub fn longest_pause(envelope: &Envelope, expires_at: UnixMillis, now: UnixMillis) -> Duration {
    let window = expires_at.since(envelope.content.timestamp.instant());
    let left = (expires_at.since(now) / 2).max(SHORTEST_PAUSE_MILLIS);
    third(window).min(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

/// A pause that the end of a window makes no shorter.
const SHORTEST_PAUSE_MILLIS: i64 = 10_000;

/// When the window of an envelope of this type and time closes, at a peer that states this window
/// for late revocations, in seconds.
#[must_use]
pub fn end(message_type: MessageType, signed_at: UnixMillis, stated: Option<i64>) -> UnixMillis {
    let window = match (message_type, stated) {
        (MessageType::RelationshipRevoke, Some(seconds)) => of_revocations(seconds),
        _ => SHORTEST_MILLIS,
    };
    signed_at.plus_millis(window)
}

/// The window of revocations at a peer that states this one, in seconds.
#[must_use]
pub fn of_revocations(stated: i64) -> i64 {
    stated.saturating_mul(1000).saturating_sub(SAFETY_MARGIN_MILLIS).max(SHORTEST_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_revocations_to_a_peer_that_takes_them_late_get_a_long_window() {
        let at = UnixMillis(1_000_000);
        let week = Some(604_800);
        assert_eq!(end(MessageType::RelationshipRevoke, at, week), at.plus_millis(604_790_000));
        assert_eq!(end(MessageType::RelationshipRevoke, at, None), at.plus_millis(290_000));
        assert_eq!(end(MessageType::FriendAccept, at, week), at.plus_millis(290_000));
        assert_eq!(
            end(MessageType::RelationshipRevoke, at, Some(1)),
            at.plus_millis(290_000),
            "never below fresh"
        );
    }
}
