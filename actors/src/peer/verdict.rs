//! What a peer's answer means for an envelope: three words, never two. Pure functions of the answer.
//!
//! A delivery is proven only by a success status *and* a body that says `success: true`: a web server
//! that answers 200 with a page, a login form or nothing has taken no envelope. Peers answer 400 for
//! every trouble with a message and 401 for every trouble with the request (their clock, ours, a pin, a
//! version), so neither is final by itself; only words that this module knows are.

use std::time::Duration;

use vellum_protocol::text::without_control_characters;
use vellum_protocol::{Json, MessageType, UnixMillis};

use super::PeerError;
use super::transport::{Answer, TransportError};

/// What is to become of an envelope after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The peer has carried it out.
    Delivered {
        /// Whether the peer says that the two are friends now, since both had invited each other.
        friends: bool,
    },
    /// It never will.
    Rejected {
        /// Why, in the peer's words.
        reason: String,
    },
    /// To be tried again.
    Later {
        /// Why, in words for the owner and the operator.
        reason: String,
        /// The same for operators alone, where the owner is not told everything.
        cause: Option<String>,
        /// The pause that the peer asks for.
        pause: Option<Duration>,
        /// Whose trouble it is.
        trouble: Trouble,
        /// Whether the peer may have carried it out all the same: the answer was lost, or made no sense.
        maybe_arrived: bool,
    },
}

/// Whose trouble it is that an attempt was in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The peer's node has refused this very envelope.
    Envelope,
    /// The peer's or the way's: every other envelope for it would fare the same.
    Peer,
    /// This node's own: it says nothing of peer or envelope.
    Ours,
}

/// From this difference on a peer's clock is worth a word: half of what makes a message stale.
const NOTED_SKEW_MILLIS: i64 = 150_000;

impl Verdict {
    /// Adds how far the peer's clock is from ours, where it told the time of a refusal and that may explain it.
    #[must_use]
    pub fn with_clock(mut self, answer: &Answer, now: UnixMillis) -> Self {
        let ahead = answer.date.map_or(0, |date| date.since(now));
        if let Self::Later { reason, .. } = &mut self
            && ahead.abs() >= NOTED_SKEW_MILLIS
        {
            let direction = if ahead > 0 { "ahead" } else { "behind" };
            *reason = format!("{reason} (peer clock is {} s {direction})", ahead.abs() / 1000);
        }
        self
    }
}

/// Longest part of a peer's words that is kept.
const LONGEST_REASON: usize = 300;

/// Judges the answer to an envelope of this type. `repeated` says that an earlier attempt with the same
/// envelope may have been carried out without our hearing of it.
#[must_use]
pub fn of_answer(message_type: MessageType, answer: &Answer, repeated: bool) -> Verdict {
    let json = Json::parse(&answer.body).ok();
    let said = |name: &str| json.as_ref().and_then(|json| json.get(name));
    if (200..300).contains(&answer.status) {
        return if said("success").and_then(Json::as_bool) == Some(true) {
            Verdict::Delivered { friends: said("friends").and_then(Json::as_bool) == Some(true) }
        } else {
            later(
                format!("answered {} without confirming: no federation node spoke", answer.status),
                answer,
                Trouble::Envelope,
            )
        };
    }
    let words = said("message").and_then(Json::as_str).map(cut).unwrap_or_default();
    if answer.status == 400 {
        match (message_type, words.as_str()) {
            // What was asked for is so already, or an earlier attempt has done it.
            (MessageType::FriendInvite, "Invitation already exists")
            | (MessageType::FriendReject, "Invitation not found") => {
                return Verdict::Delivered { friends: false };
            }
            (MessageType::FriendAccept, "Original invitation not found") if repeated => {
                return Verdict::Delivered { friends: false };
            }
            (MessageType::FriendAccept, "Original invitation not found")
            | (_, "Recipient not found" | "Recipient is not on this server") => {
                return Verdict::Rejected { reason: format!("refused (400): {words}") };
            }
            _ => {}
        }
    }
    // A proxy before a node that is away: nobody has looked at the envelope.
    let by_proxy = words.is_empty() && matches!(answer.status, 502..=504);
    let trouble = if by_proxy { Trouble::Peer } else { Trouble::Envelope };
    let words = if words.is_empty() { "no reason given".to_owned() } else { words };
    later(format!("refused ({}): {words}", answer.status), answer, trouble)
}

/// Judges an attempt that got no answer.
#[must_use]
pub fn of_failure(error: &TransportError) -> Verdict {
    // A peer whose answer is too long, or which we may not connect to, does not become reachable by
    // waiting; but settings and peers change, so it is tried again until the window closes.
    let unsent = matches!(
        error,
        TransportError::Unreachable(_)
            | TransportError::ConnectTimedOut(_)
            | TransportError::Forbidden(_)
            | TransportError::Busy
    );
    Verdict::Later {
        reason: cut(&error.for_users()),
        cause: Some(cut(&error.to_string())),
        pause: None,
        trouble: of_transport(error),
        maybe_arrived: !unsent,
    }
}

/// Judges an attempt that ended before the envelope was sent, because the peer's manifest could not be had.
#[must_use]
pub fn without_manifest(error: &PeerError) -> Verdict {
    let (trouble, pause) = match error {
        PeerError::Transport(error) => (of_transport(error), None),
        PeerError::Unusable { pause, .. } => (Trouble::Peer, *pause),
        PeerError::PinMismatch(_) => (Trouble::Peer, None),
        PeerError::TooManyStrangers
        | PeerError::Limited { .. }
        | PeerError::NotAdmitted(_)
        | PeerError::NoSuchUser
        | PeerError::Store(_)
        | PeerError::Stopping => (Trouble::Ours, None),
    };
    let reason = match error {
        PeerError::Transport(error) => cut(&error.for_users()),
        other => cut(&other.to_string()),
    };
    Verdict::Later { reason, cause: Some(cut(&error.to_string())), pause, trouble, maybe_arrived: false }
}

/// Judges an attempt that was not over when its lease was.
#[must_use]
pub fn overdue(maybe_arrived: bool) -> Verdict {
    let reason = "the attempt took longer than it may".to_owned();
    Verdict::Later { reason, cause: None, pause: None, trouble: Trouble::Ours, maybe_arrived }
}

fn of_transport(error: &TransportError) -> Trouble {
    if matches!(error, TransportError::Busy) { Trouble::Ours } else { Trouble::Peer }
}

fn later(reason: String, answer: &Answer, trouble: Trouble) -> Verdict {
    // A refusal says that nothing was done; anything else leaves it open.
    let maybe_arrived = !(400..500).contains(&answer.status);
    Verdict::Later { reason, cause: None, pause: answer.retry_after, trouble, maybe_arrived }
}

/// A peer's words, short and on one line: they end up in lists and logs.
fn cut(words: &str) -> String {
    without_control_characters(words).chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), retry_after: None, max_age: None, date: None }
    }

    #[test]
    fn only_a_body_that_says_so_is_a_delivery() {
        let revoke = MessageType::RelationshipRevoke;
        let delivered = of_answer(revoke, &answer(202, r#"{"success":true}"#), false);
        assert_eq!(delivered, Verdict::Delivered { friends: false });
        for body in
            ["", "<html>Welcome</html>", "{}", r#"{"success":"true"}"#, r#"{"success":false}"#, "true"]
        {
            let verdict = of_answer(revoke, &answer(200, body), false);
            assert!(
                matches!(verdict, Verdict::Later { trouble: Trouble::Envelope, .. }),
                "{body} gave {verdict:?}"
            );
        }
    }

    #[test]
    fn a_refusal_by_a_peer_with_another_time_says_so() {
        let now = UnixMillis(1_700_000_000_000);
        let refused = |ahead| {
            let mut answer = answer(400, r#"{"message":"Message timestamp outside acceptable skew"}"#);
            answer.date = Some(now.plus_millis(ahead));
            let verdict = of_answer(MessageType::RelationshipRevoke, &answer, false).with_clock(&answer, now);
            let Verdict::Later { reason, .. } = verdict else { panic!("a refusal that may change") };
            reason
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
            let verdict = of_answer(revoke, &answer(status, body), false);
            assert!(
                matches!(verdict, Verdict::Later { trouble: Trouble::Envelope, .. }),
                "{status} gave {verdict:?}"
            );
        }
        let gone = of_answer(revoke, &answer(400, r#"{"message":"Recipient is not on this server"}"#), false);
        assert!(matches!(gone, Verdict::Rejected { .. }));
    }

    #[test]
    fn a_proxy_before_a_node_that_is_away_is_trouble_of_the_peer_and_not_of_the_envelope() {
        let blamed =
            |status, body| match of_answer(MessageType::RelationshipRevoke, &answer(status, body), false) {
                Verdict::Later { trouble, .. } => trouble,
                other => panic!("{other:?}"),
            };
        for status in [502, 503, 504] {
            assert_eq!(blamed(status, "<html>Bad Gateway</html>"), Trouble::Peer);
            assert_eq!(blamed(status, r#"{"message":"too busy"}"#), Trouble::Envelope, "a node has spoken");
        }
        assert_eq!(blamed(500, ""), Trouble::Envelope, "this may be about the envelope");
    }

    #[test]
    fn a_manifest_that_cannot_be_had_is_trouble_of_the_peer_and_its_pause_counts() {
        let pause = Some(Duration::from_secs(120));
        let limited = PeerError::Unusable { reason: "it answered 429".into(), status: Some(429), pause };
        let verdict = without_manifest(&limited);
        assert_eq!(
            verdict,
            Verdict::Later {
                reason: "it answered 429".into(),
                cause: Some("it answered 429".into()),
                pause,
                trouble: Trouble::Peer,
                maybe_arrived: false
            }
        );
        let busy = without_manifest(&PeerError::Transport(TransportError::Busy));
        assert!(
            matches!(busy, Verdict::Later { trouble: Trouble::Ours, .. }),
            "our own trouble is not the peer's"
        );
    }

    #[test]
    fn an_owner_is_told_the_same_whatever_keeps_a_name_from_being_reached_and_operators_the_cause() {
        for error in [
            TransportError::Unreachable("no such host".into()),
            TransportError::Unreachable("connection refused".into()),
            TransportError::ConnectTimedOut(Duration::from_secs(5)),
            TransportError::Forbidden("the address 10.0.0.1 is not on the public internet".into()),
        ] {
            for verdict in [of_failure(&error), without_manifest(&PeerError::Transport(error.clone()))] {
                let Verdict::Later { reason, cause, trouble, maybe_arrived, .. } = verdict else {
                    panic!("{error} is final")
                };
                assert_eq!(reason, "not reachable", "{error}");
                assert_eq!(cause, Some(error.to_string()));
                assert_eq!((trouble, maybe_arrived), (Trouble::Peer, false), "{error}: nothing was sent");
            }
        }
    }

    #[test]
    fn an_accept_that_finds_no_invitation_was_done_by_an_earlier_attempt_or_never_will_be() {
        let body = r#"{"message":"Original invitation not found"}"#;
        let first = of_answer(MessageType::FriendAccept, &answer(400, body), false);
        assert!(matches!(first, Verdict::Rejected { .. }));
        let again = of_answer(MessageType::FriendAccept, &answer(400, body), true);
        assert_eq!(again, Verdict::Delivered { friends: false });
    }

    #[test]
    fn a_peers_words_are_cut_and_kept_on_one_line() {
        let body = format!(r#"{{"message":"a\nb{}"}}"#, "x".repeat(1000));
        let Verdict::Later { reason, .. } = of_answer(MessageType::FriendInvite, &answer(400, &body), false)
        else {
            panic!("a refusal");
        };
        assert!(!reason.contains('\n') && reason.len() < 400);
    }
}
