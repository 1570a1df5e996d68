//! What is counted and timed, under the names that dashboards know. No handle, address or domain is
//! ever a label: metrics must not reveal who talks to whom.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use vellum_store::outbox::{FailureScope, Outcome, Retry};

use crate::Error;
use crate::refusal::Refusal;

/// A metric: its name, its help text, and its label with every value that the label has.
type Metric = (&'static str, &'static str, Option<(&'static str, &'static [&'static str])>);

const COUNTERS: [Metric; 8] = [
    (
        "vellum_delivery_attempts_total",
        "Attempts to deliver a message to another node, by outcome.",
        Some(("outcome", &["delivered", "rejected", "refused", "unreachable", "held_up"])),
    ),
    (
        "vellum_inbox_envelopes_total",
        "Envelopes that other nodes sent, by what became of them.",
        Some((
            "result",
            &[
                "accepted",
                "not_json",
                "shape",
                "server_authentication",
                "stale",
                "sender_unknown",
                "foreign_sender",
                "recipient_unknown",
                "replayed",
                "message",
                "limited",
                "unavailable",
            ],
        )),
    ),
    (
        "vellum_envelopes_refused_total",
        "Envelopes of other nodes that were refused, by reason.",
        Some(("reason", &REFUSALS)),
    ),
    ("vellum_database_statements_total", "Statements sent to the database.", None),
    (
        "vellum_database_round_trips_total",
        "Requests to the PostgreSQL server and their answers; 0 on SQLite.",
        None,
    ),
    (
        "vellum_database_conflicts_total",
        "Transactions that were run again because another one was in their way.",
        None,
    ),
    (MAIL_SENT, "Emails that a mail server took, or that were written into the outbox folder.", None),
    (MAIL_FAILED, "Emails that were given up.", None),
];

const HISTOGRAMS: [Metric; 4] = [
    ("vellum_delivery_attempt_seconds", "Time of one attempt to deliver a message.", None),
    (
        "vellum_delivery_latency_seconds",
        "Time from a user's signature to the recipient's node, of messages that arrived.",
        None,
    ),
    ("vellum_database_group_seconds", "Time of one commit of a group of changes.", None),
    ("vellum_database_group_jobs", "Changes in one group.", None),
];

const GAUGES: [Metric; 14] = [
    (
        "vellum_database_up",
        "1 if the database answered the last scrape in time, else 0: other values are older then.",
        None,
    ),
    ("vellum_database_connections", "Open connections to the database.", None),
    ("vellum_users", "Accounts.", None),
    ("vellum_sessions", "Sessions that have not ended.", None),
    ("vellum_queue_rows", "Messages to other nodes in the queue, by state.", Some(("state", &STATES))),
    (
        "vellum_queue_oldest_seconds",
        "Age of the oldest message in the queue, by state.",
        Some(("state", &STATES)),
    ),
    ("vellum_queue_paused", "1 while an operator has paused all deliveries, else 0.", None),
    (
        "vellum_peers",
        "Other nodes that this one has met, by the state of their circuit breaker.",
        Some(("breaker", &["closed", "half_open", "open"])),
    ),
    ("vellum_peers_with_changed_key", "Peers that show another key than the pinned one.", None),
    ("vellum_actors", "Actors in memory, by kind.", Some(("kind", &["user", "peer"]))),
    ("vellum_user_commands_waiting", "Commands that wait for their user's actor or are under way.", None),
    ("vellum_peer_deliveries_waiting", "Deliveries that wait for their turn at their peer's actor.", None),
    (MAIL_WAITING, "Emails that wait to be sent.", None),
    (MAIL_OLDEST, "Age of the oldest email that waits to be sent.", None),
];

const STATES: [&str; 4] = ["awaiting_signature", "queued", "delivering", "rejected"];

const MAIL_SENT: &str = "vellum_mail_sent_total";
const MAIL_FAILED: &str = "vellum_mail_failed_total";
const MAIL_WAITING: &str = "vellum_mail_waiting";
const MAIL_OLDEST: &str = "vellum_mail_oldest_seconds";

/// Describes every metric of this crate and the store, and starts each series at 0: a rate or an
/// alert sees the first event only where there was a value before it.
pub fn start() {
    for metric @ (name, help, _) in COUNTERS {
        describe_counter!(name, help);
        for labels in series(&metric) {
            counter!(name, &labels).increment(0);
        }
    }
    for metric @ (name, help, _) in HISTOGRAMS {
        describe_histogram!(name, if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count }, help);
        for labels in series(&metric) {
            // Registered is enough: a histogram without samples is all zeros.
            drop(histogram!(name, &labels));
        }
    }
    for metric @ (name, help, _) in GAUGES {
        describe_gauge!(name, help);
        for labels in series(&metric) {
            gauge!(name, &labels).set(0.0);
        }
    }
}

/// The label sets of a metric.
fn series((_, _, label): &Metric) -> Vec<Vec<(&'static str, &'static str)>> {
    match label {
        None => vec![Vec::new()],
        Some((name, values)) => values.iter().map(|value| vec![(*name, *value)]).collect(),
    }
}

/// Counts an email that a mail server took, or that was written into the outbox folder.
pub(crate) fn mail_sent() {
    counter!(MAIL_SENT).increment(1);
}

/// Counts an email that was given up: refused for good, or tried for an hour.
pub(crate) fn mail_failed() {
    counter!(MAIL_FAILED).increment(1);
}

/// Notes how many emails wait to be sent, and for how long the oldest, in milliseconds.
pub(crate) fn mail_waiting(emails: u64, oldest: i64) {
    gauge!(MAIL_WAITING).set(number(emails));
    gauge!(MAIL_OLDEST).set(seconds(oldest));
}

/// Notes an attempt to deliver, how it ended and how long it took.
pub(crate) fn attempt(outcome: &Outcome, took: Duration) {
    let outcome = match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Retry(Retry { scope: FailureScope::Envelope, .. }) => "refused",
        Outcome::Retry(Retry { scope: FailureScope::Peer, .. }) => "unreachable",
        Outcome::Retry(Retry { scope: FailureScope::Node, .. }) => "held_up",
        Outcome::Withdrawn => return,
    };
    counter!("vellum_delivery_attempts_total", "outcome" => outcome).increment(1);
    histogram!("vellum_delivery_attempt_seconds").record(took);
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

/// Notes that an envelope was refused. Returns the reason as a word.
pub(crate) fn refusal(error: &Error) -> &'static str {
    let reason = match error {
        Error::Message(refusal) => refusal_reason(refusal),
        Error::TooManyEnvelopes { .. } | Error::LookupLimited { .. } => "limited",
        Error::TooManyUnknownPeers => "too_many_unknown_servers",
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

/// A time that may lie ahead of a clock that was set back.
pub(crate) fn seconds(millis: i64) -> f64 {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}

/// Gauges are floats; counts of rows are far below where these lose whole numbers.
pub(crate) fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
