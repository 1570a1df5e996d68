//! Rows of the queue and peers as JSON: the same on the command line and over HTTP.

use serde_json::{Value, json};
use vellum_protocol::UnixMillis;
use vellum_store::outbox::overview::QueueRow;
use vellum_store::peers::Peer;

/// Failures in a row from which on a peer counts as down and not as hiccuping.
const OPEN_AFTER: u32 = 5;

/// A row of the queue, without its envelope.
#[must_use]
pub fn queue_row(row: &QueueRow) -> Value {
    json!({
        "id": row.id,
        "userId": row.user_id,
        "peerHandle": row.peer_handle,
        "messageType": row.message_type,
        "state": row.state.as_str(),
        "attempts": row.attempts,
        "lastError": row.last_error,
        "createdAt": row.created_at.to_rfc3339(),
        "lastAttemptAt": time(row.last_attempt_at),
        "nextAttemptAt": time(row.next_attempt_at),
        "expiresAt": time(row.expires_at),
    })
}

/// A peer node.
#[must_use]
pub fn peer(peer: &Peer) -> Value {
    json!({
        "domain": peer.domain,
        "publicKey": peer.public_key,
        "offeredKey": peer.offered_key,
        "standing": peer.standing.as_str(),
        "paused": peer.paused,
        "breaker": breaker(peer),
        "failures": peer.failures,
        "lastError": peer.last_error,
        "lastFailureAt": time(peer.last_failure_at),
        "lastDeliveryAt": time(peer.last_delivery_at),
        "nextProbeAt": (peer.failures > 0).then(|| peer.retry_at.to_rfc3339()),
        "revocationWindowSeconds": peer.revocation_window_seconds,
    })
}

/// The peer's breaker. From the first failure on a peer gets one probe at a time; `open` says that it has
/// failed for longer than a restart takes.
#[must_use]
pub fn breaker(peer: &Peer) -> &'static str {
    match peer.failures {
        0 => "closed",
        failures if failures < OPEN_AFTER => "half_open",
        _ => "open",
    }
}

fn time(at: Option<UnixMillis>) -> Option<String> {
    at.map(|at| at.to_rfc3339())
}
