//! Until when a peer takes an envelope (wire protocol, sections 4 and 5).
//!
//! Every peer takes envelopes that are fresh: 300 s. One whose manifest lists `durable-revocation-v1`
//! takes revocations for as long as it says. In both cases the window is closed a little early on our
//! side: clocks differ, and an envelope that arrives too late is only noise to the peer.

use vellum_protocol::timestamp::FRESHNESS_MILLIS;
use vellum_protocol::{Envelope, MessageType, UnixMillis};
use vellum_store::{Conn, StoreError, peers};

/// By how much a window is closed early.
pub const SAFETY_MARGIN_MILLIS: i64 = 10_000;

/// When the window of this envelope closes, as far as its recipient's node is known.
///
/// # Errors
/// Only what the database says.
pub async fn closes_at(conn: &mut Conn, envelope: &Envelope) -> Result<UnixMillis, StoreError> {
    let content = &envelope.content;
    let peer = peers::find(conn, &content.to.domain().folded()).await?;
    let stated = peer.and_then(|peer| peer.revocation_window_seconds);
    Ok(end(content.message_type, content.timestamp.instant(), stated))
}

/// When the window of an envelope of this type and time closes, at a peer that states this window for
/// late revocations, in seconds.
#[must_use]
pub fn end(message_type: MessageType, signed_at: UnixMillis, stated: Option<i64>) -> UnixMillis {
    let fresh = FRESHNESS_MILLIS - SAFETY_MARGIN_MILLIS;
    let window = match (message_type, stated) {
        (MessageType::RelationshipRevoke, Some(seconds)) => {
            seconds.saturating_mul(1000).saturating_sub(SAFETY_MARGIN_MILLIS).max(fresh)
        }
        _ => fresh,
    };
    signed_at.plus_millis(window)
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
