//! What is counted and timed, under the names that dashboards know. No handle, address or domain is ever a
//! label: who speaks with whom is nobody's business who draws curves.

use std::time::Duration;

use metrics::{counter, describe_counter, gauge, histogram};
use vellum_store::outbox::{State, overview};
use vellum_store::{StoreError, node_state, peers};

use crate::Error;
use crate::inbox::Refusal;
use crate::node::Node;
use crate::peer::{Trouble, Verdict};

/// Notes an attempt to deliver, how it ended and how long it took.
pub(crate) fn attempt(verdict: &Verdict, took: Duration) {
    let outcome = match verdict {
        Verdict::Delivered { .. } => "delivered",
        Verdict::Rejected { .. } => "rejected",
        Verdict::Later { trouble: Trouble::Envelope, .. } => "refused",
        Verdict::Later { trouble: Trouble::Peer, .. } => "unreachable",
        Verdict::Later { trouble: Trouble::Ours, .. } => "held_up",
    };
    counter!("vellum_delivery_attempts_total", "outcome" => outcome).increment(1);
    histogram!("vellum_delivery_attempt_seconds").record(took);
}

/// Counts an email that a mail server took, or that was written into the outbox folder.
pub(crate) fn mail_sent() {
    counter!("vellum_mail_sent_total").increment(1);
}

/// Counts an email that was given up: refused for good, or tried for an hour.
pub(crate) fn mail_failed() {
    counter!("vellum_mail_failed_total").increment(1);
}

/// Notes how many emails wait to be sent.
pub(crate) fn mail_waiting(emails: u64) {
    gauge!("vellum_mail_waiting").set(number(emails));
}

/// Notes how long an envelope has been on its way, from its signature to its recipient's node, in
/// milliseconds.
pub(crate) fn delivered_after(millis: i64) {
    histogram!("vellum_delivery_latency_seconds")
        .record(Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
}

/// Notes what became of an envelope that came in.
pub(crate) fn inbox(result: Result<(), &Error>) {
    let result = match result {
        Ok(()) => "accepted",
        Err(Error::Message(refusal)) => refused(refusal),
        Err(Error::TooManyEnvelopes { .. }) => "limited",
        Err(_) => "unavailable",
    };
    counter!("vellum_inbox_envelopes_total", "result" => result).increment(1);
}

fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotJson(_) => "not_json",
        Refusal::Shape(_) => "shape",
        Refusal::Auth(_) => "server_authentication",
        Refusal::Skew => "stale",
        Refusal::UnresolvedSender => "sender_unknown",
        Refusal::ForeignSender => "foreign_sender",
        Refusal::RecipientElsewhere | Refusal::RecipientNotFound => "recipient_unknown",
        Refusal::Replayed => "replayed",
        _ => "message",
    }
}

/// Why envelopes are refused, as the counter names it.
const REFUSALS: [&str; 21] = [
    "already_invited",
    "envelope",
    "foreign_sender",
    "limited",
    "not_a_friend",
    "no_invitation",
    "not_json",
    "recipient_elsewhere",
    "recipient_unknown",
    "replayed",
    "resource",
    "sender_unknown",
    "server_authentication",
    "shape",
    "signature",
    "stale",
    "too_many_invitations",
    "too_many_shares",
    "too_many_unknown_servers",
    "unavailable",
    "unsupported_type",
];

/// Counts nothing yet, so that every reason is there from the start.
pub fn begin_refusals() {
    describe_counter!(
        "vellum_envelopes_refused_total",
        "Envelopes of other nodes that were refused, by reason"
    );
    for reason in REFUSALS {
        counter!("vellum_envelopes_refused_total", "reason" => reason).increment(0);
    }
}

/// Notes that an envelope was refused. Returns the reason as a word.
pub(crate) fn refusal(error: &Error) -> &'static str {
    let reason = match error {
        Error::Message(refusal) => refusal_reason(refusal),
        Error::TooManyEnvelopes { .. } | Error::LookupLimited { .. } => "limited",
        Error::TooManyStrangers => "too_many_unknown_servers",
        _ => "unavailable",
    };
    debug_assert!(REFUSALS.contains(&reason), "{reason} is not there from the start");
    counter!("vellum_envelopes_refused_total", "reason" => reason).increment(1);
    reason
}

fn refusal_reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotJson(_) => "not_json",
        Refusal::Shape(_) => "shape",
        Refusal::Auth(_) => "server_authentication",
        Refusal::Message(words) if words == "Invalid signature" => "signature",
        Refusal::Message(_) => "envelope",
        Refusal::RecipientElsewhere => "recipient_elsewhere",
        Refusal::RecipientNotFound => "recipient_unknown",
        Refusal::ForeignSender => "foreign_sender",
        Refusal::Skew => "stale",
        Refusal::UnresolvedSender => "sender_unknown",
        Refusal::Replayed => "replayed",
        Refusal::Unsupported(_) => "unsupported_type",
        Refusal::InvitationExists => "already_invited",
        Refusal::TooManyInvitations => "too_many_invitations",
        Refusal::NoOriginalInvitation | Refusal::NoInvitation => "no_invitation",
        Refusal::MissingResource | Refusal::InvalidResource(_) | Refusal::UnknownResource => "resource",
        Refusal::TooManyShares => "too_many_shares",
        Refusal::NotAFriend => "not_a_friend",
    }
}

/// Looks at what has no event of its own: depths, peers, actors.
///
/// # Errors
/// Only what the database says.
pub async fn look(node: &Node) -> Result<(), StoreError> {
    let now = node.clock.now();
    let mut conn = node.store.read().await?;
    let depths = overview::depths(&mut conn).await?;
    for state in [State::AwaitingSignature, State::Queued, State::Delivering, State::Rejected] {
        let depth = depths.iter().find(|depth| depth.state == state);
        let age = depth.map_or(0, |depth| now.since(depth.oldest).max(0));
        let rows = depth.map_or(0, |depth| depth.rows);
        gauge!("vellum_queue_rows", "state" => state.as_str()).set(number(rows));
        gauge!("vellum_queue_oldest_seconds", "state" => state.as_str())
            .set(Duration::from_millis(u64::try_from(age).unwrap_or(0)).as_secs_f64());
    }
    let paused = node_state::deliveries_paused(&mut conn).await?;
    gauge!("vellum_queue_paused").set(f64::from(u8::from(paused)));
    let census = peers::census(&mut conn).await?;
    for (breaker, peers) in
        [("closed", census.closed), ("half_open", census.half_open), ("open", census.open)]
    {
        gauge!("vellum_peers", "breaker" => breaker).set(number(peers));
    }
    gauge!("vellum_peers_with_changed_key").set(number(census.changed_key));
    let (users, peers) = (node.directory.len(), node.peers.len());
    gauge!("vellum_actors", "kind" => "user").set(number(u64::try_from(users).unwrap_or(u64::MAX)));
    gauge!("vellum_actors", "kind" => "peer").set(number(u64::try_from(peers).unwrap_or(u64::MAX)));
    let waiting = u64::try_from(node.directory.waiting()).unwrap_or(u64::MAX);
    gauge!("vellum_user_commands_waiting").set(number(waiting));
    let waiting = u64::try_from(node.peers.deliveries_waiting()).unwrap_or(u64::MAX);
    gauge!("vellum_peer_deliveries_waiting").set(number(waiting));
    Ok(())
}

/// Gauges are floats; counts of rows are far below where these lose whole numbers.
fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
