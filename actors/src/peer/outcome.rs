//! What a peer's answer means for an envelope. Pure functions of the answer.
//!
//! A delivery is proven only by a success status *and* a body that says `success: true`: a web
//! server that answers 200 with a page, a login form or nothing has taken no envelope. Peers answer
//! 400 for every trouble with a message and 401 for every trouble with the request (their clock,
//! ours, a pin, a version), so neither is final by itself; only words that this module knows are.

use std::time::Duration;

use vellum_protocol::text::without_control_characters;
use vellum_protocol::{Json, MessageType, UnixMillis};
use vellum_store::outbox::{FailureScope, Outcome, Retry};

use super::PeerError;
use super::transport::{Answer, TransportError};

/// From this difference on a peer's clock is worth a word: half of what makes a message stale.
const NOTED_SKEW_MILLIS: i64 = 150_000;
/// Longest part of a peer's words that is kept.
const LONGEST_REASON: usize = 300;

/// The outcome of an attempt that the peer has answered at `now`. `repeated` says that an earlier
/// attempt with the same envelope may have been carried out without our hearing of it.
#[must_use]
pub fn of_answer(message_type: MessageType, answer: &Answer, repeated: bool, now: UnixMillis) -> Outcome {
    let json = Json::parse(&answer.body).ok();
    let said = |name: &str| json.as_ref().and_then(|json| json.get(name));
    if (200..300).contains(&answer.status) {
        return if said("success").and_then(Json::as_bool) == Some(true) {
            Outcome::Delivered { friends: said("friends").and_then(Json::as_bool) == Some(true) }
        } else {
            let reason = format!("answered {} without confirming: no federation node spoke", answer.status);
            retry(reason, answer, FailureScope::Envelope, now)
        };
    }
    let words = said("message").and_then(Json::as_str).map(cut).unwrap_or_default();
    if answer.status == 400 {
        match (message_type, words.as_str()) {
            // What was asked for is so already, or an earlier attempt has done it.
            (MessageType::FriendInvite, "Invitation already exists")
            | (MessageType::FriendReject, "Invitation not found") => {
                return Outcome::Delivered { friends: false };
            }
            (MessageType::FriendAccept, "Original invitation not found") if repeated => {
                return Outcome::Delivered { friends: false };
            }
            (MessageType::FriendAccept, "Original invitation not found")
            | (_, "Recipient not found" | "Recipient is not on this server") => {
                return Outcome::Rejected { reason: format!("refused (400): {words}") };
            }
            _ => {}
        }
    }
    // A proxy before a node that is away: nobody has looked at the envelope.
    let by_proxy = words.is_empty() && matches!(answer.status, 502..=504);
    let scope = if by_proxy { FailureScope::Peer } else { FailureScope::Envelope };
    let words = if words.is_empty() { "no reason given".to_owned() } else { words };
    retry(format!("refused ({}): {words}", answer.status), answer, scope, now)
}

/// The outcome of an attempt that got no answer.
#[must_use]
pub fn of_failure(error: &TransportError) -> Outcome {
    // A peer whose answer is too long, or which we may not connect to, does not become reachable by
    // waiting; but settings and peers change, so it is tried again until the window closes.
    let unsent = matches!(
        error,
        TransportError::Unreachable(_)
            | TransportError::ConnectTimedOut(_)
            | TransportError::Forbidden(_)
            | TransportError::Busy
    );
    Outcome::Retry(Retry {
        reason: cut(&error.for_users()),
        cause: Some(cut(&error.to_string())),
        scope: of_transport(error),
        at: None,
        maybe_arrived: !unsent,
    })
}

/// The outcome of an attempt that ended at `now` before the envelope was sent, because the peer's
/// manifest could not be had.
#[must_use]
pub fn without_manifest(error: &PeerError, now: UnixMillis) -> Outcome {
    let (scope, pause) = match error {
        PeerError::Transport(error) => (of_transport(error), None),
        PeerError::Unusable { pause, .. } => (FailureScope::Peer, *pause),
        PeerError::PinMismatch(_) => (FailureScope::Peer, None),
        PeerError::TooManyUnknownPeers
        | PeerError::Limited { .. }
        | PeerError::NotAdmitted(_)
        | PeerError::NoSuchUser
        | PeerError::Store(_)
        | PeerError::Stopping => (FailureScope::Node, None),
    };
    let reason = match error {
        PeerError::Transport(error) => cut(&error.for_users()),
        other => cut(&other.to_string()),
    };
    let (cause, at) = (Some(cut(&error.to_string())), asked_until(pause, now));
    Outcome::Retry(Retry { reason, cause, scope, at, maybe_arrived: false })
}

/// The outcome of an attempt that was not over when its lease was.
#[must_use]
pub fn overdue(maybe_arrived: bool) -> Outcome {
    let reason = "the attempt took longer than it may".to_owned();
    Outcome::Retry(Retry { reason, cause: None, scope: FailureScope::Node, at: None, maybe_arrived })
}

fn of_transport(error: &TransportError) -> FailureScope {
    if matches!(error, TransportError::Busy) { FailureScope::Node } else { FailureScope::Peer }
}

/// When the pause ends that a peer asks for.
fn asked_until(pause: Option<Duration>, now: UnixMillis) -> Option<UnixMillis> {
    pause.map(|pause| now.plus_millis(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)))
}

/// A refusal. Says how far the peer's clock is from ours, where it told the time and that may
/// explain it.
fn retry(mut reason: String, answer: &Answer, scope: FailureScope, now: UnixMillis) -> Outcome {
    let ahead = answer.date.map_or(0, |date| date.since(now));
    if ahead.abs() >= NOTED_SKEW_MILLIS {
        let direction = if ahead > 0 { "ahead" } else { "behind" };
        reason = format!("{reason} (peer clock is {} s {direction})", ahead.abs() / 1000);
    }
    // A refusal says that nothing was done; anything else leaves it open.
    let maybe_arrived = !(400..500).contains(&answer.status);
    let at = asked_until(answer.retry_after, now);
    Outcome::Retry(Retry { reason, cause: None, scope, at, maybe_arrived })
}

/// A peer's words, short and on one line: they end up in lists and logs.
fn cut(words: &str) -> String {
    without_control_characters(words).chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn scope(outcome: &Outcome) -> Option<FailureScope> {
        if let Outcome::Retry(retry) = outcome { Some(retry.scope) } else { None }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), retry_after: None, max_age: None, date: None }
    }

    #[test]
    fn only_a_body_that_says_so_is_a_delivery() {
        let revoke = MessageType::RelationshipRevoke;
        let delivered = of_answer(revoke, &answer(202, r#"{"success":true}"#), false, NOW);
        assert_eq!(delivered, Outcome::Delivered { friends: false });
        for body in
            ["", "<html>Welcome</html>", "{}", r#"{"success":"true"}"#, r#"{"success":false}"#, "true"]
        {
            let outcome = of_answer(revoke, &answer(200, body), false, NOW);
            assert_eq!(scope(&outcome), Some(FailureScope::Envelope), "{body} gave {outcome:?}");
        }
    }

    #[test]
    fn a_refusal_by_a_peer_with_another_time_says_so() {
        let refused = |ahead| {
            let mut answer = answer(400, r#"{"message":"Message timestamp outside acceptable skew"}"#);
            answer.date = Some(NOW.plus_millis(ahead));
            match of_answer(MessageType::RelationshipRevoke, &answer, false, NOW) {
                Outcome::Retry(retry) => retry.reason,
                other => panic!("{other:?} instead of a refusal that may change"),
            }
        };
        assert!(refused(412_000).ends_with("(peer clock is 412 s ahead)"), "{}", refused(412_000));
        assert!(refused(-412_999).ends_with("(peer clock is 412 s behind)"));
        assert!(refused(20_000).ends_with("acceptable skew"), "a few seconds explain nothing");
    }

    #[test]
    fn refusals_mean_later_unless_their_words_are_known_to_be_final() {
        let revoke = MessageType::RelationshipRevoke;
        for (status, body) in [
            (400, r#"{"message":"Message timestamp outside acceptable skew"}"#),
            (401, r#"{"message":"Federation auth failed: Invalid server signature from a.example"}"#),
            (429, r#"{"message":"Too many requests"}"#),
            (500, "oops"),
            (404, ""),
        ] {
            let outcome = of_answer(revoke, &answer(status, body), false, NOW);
            assert_eq!(scope(&outcome), Some(FailureScope::Envelope), "{status} gave {outcome:?}");
        }
        let gone =
            of_answer(revoke, &answer(400, r#"{"message":"Recipient is not on this server"}"#), false, NOW);
        assert!(matches!(gone, Outcome::Rejected { .. }));
    }

    #[test]
    fn a_proxy_before_a_node_that_is_away_is_trouble_of_the_peer_and_not_of_the_envelope() {
        let blamed = |status, body| {
            scope(&of_answer(MessageType::RelationshipRevoke, &answer(status, body), false, NOW)).unwrap()
        };
        for status in [502, 503, 504] {
            assert_eq!(blamed(status, "<html>Bad Gateway</html>"), FailureScope::Peer);
            assert_eq!(
                blamed(status, r#"{"message":"too busy"}"#),
                FailureScope::Envelope,
                "a node has spoken"
            );
        }
        assert_eq!(blamed(500, ""), FailureScope::Envelope, "this may be about the envelope");
    }

    #[test]
    fn a_manifest_that_cannot_be_had_is_trouble_of_the_peer_and_its_pause_counts() {
        let pause = Some(Duration::from_secs(120));
        let limited = PeerError::Unusable { reason: "it answered 429".into(), status: Some(429), pause };
        assert_eq!(
            without_manifest(&limited, NOW),
            Outcome::Retry(Retry {
                reason: "it answered 429".into(),
                cause: Some("it answered 429".into()),
                scope: FailureScope::Peer,
                at: Some(NOW.plus_millis(120_000)),
                maybe_arrived: false
            })
        );
        let busy = without_manifest(&PeerError::Transport(TransportError::Busy), NOW);
        assert_eq!(scope(&busy), Some(FailureScope::Node), "our own trouble is not the peer's");
    }

    #[test]
    fn an_owner_is_told_the_same_whatever_keeps_a_name_from_being_reached_and_operators_the_cause() {
        for error in [
            TransportError::Unreachable("no such host".into()),
            TransportError::Unreachable("connection refused".into()),
            TransportError::ConnectTimedOut(Duration::from_secs(5)),
            TransportError::Forbidden("the address 10.0.0.1 is not on the public internet".into()),
        ] {
            let no_manifest = without_manifest(&PeerError::Transport(error.clone()), NOW);
            for outcome in [of_failure(&error), no_manifest] {
                let Outcome::Retry(retry) = outcome else { panic!("{error} is final") };
                assert_eq!(retry.reason, "not reachable", "{error}");
                assert_eq!(retry.cause, Some(error.to_string()));
                let said = (retry.scope, retry.maybe_arrived);
                assert_eq!(said, (FailureScope::Peer, false), "{error}: nothing was sent");
            }
        }
    }

    #[test]
    fn an_accept_that_finds_no_invitation_was_done_by_an_earlier_attempt_or_never_will_be() {
        let body = r#"{"message":"Original invitation not found"}"#;
        let first = of_answer(MessageType::FriendAccept, &answer(400, body), false, NOW);
        assert!(matches!(first, Outcome::Rejected { .. }));
        let again = of_answer(MessageType::FriendAccept, &answer(400, body), true, NOW);
        assert_eq!(again, Outcome::Delivered { friends: false });
    }

    #[test]
    fn a_peers_words_are_cut_and_kept_on_one_line() {
        let body = format!(r#"{{"message":"a\nb{}"}}"#, "x".repeat(1000));
        match of_answer(MessageType::FriendInvite, &answer(400, &body), false, NOW) {
            Outcome::Retry(Retry { reason, .. }) => assert!(!reason.contains('\n') && reason.len() < 400),
            other => panic!("{other:?} instead of a refusal"),
        }
    }
}
