//! What the outcome of an attempt leaves behind: at the message's row, and in the peer's record.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use vellum_client::http::{PendingRevocation, RevocationState};
use vellum_protocol::{MessageType, Timestamp};

use crate::drain::with_pending;
use crate::support::{Database, Mood, Peer, PeerUser, Person, TestNode, eventually, now};

/// Nobody waits for long for what does not come.
pub const QUICK: (&str, &str) = ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300");

pub fn says(status: u16, message: &str) -> Mood {
    Mood::Answers(status, json!({ "message": message }).to_string())
}

/// What the operator sees of something.
pub async fn shown(node: &TestNode, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&node.process.run(&words).await.unwrap()).unwrap()
}

/// Somebody on the peer who is a friend, which the peer has been told.
pub async fn friend(node: &TestNode, person: &Person, peer: &Peer, alias: &str) -> PeerUser {
    let friend = peer.friend_of(person, alias).await;
    node.process.run(&["queue", "watch"]).await.unwrap();
    friend
}

async fn record(node: &TestNode, peer: &Peer) -> Value {
    shown(node, &["peer", "show", peer.domain().as_str()]).await
}

/// Somebody's only pending revocation, once this holds for it.
pub async fn only_row(
    person: &Person,
    what: &str,
    holds: impl Fn(&PendingRevocation) -> bool,
) -> PendingRevocation {
    eventually(what, || async {
        let mut pending = person.pending().await;
        assert_eq!(pending.len(), 1, "expected one row, seen {pending:?}");
        Some(pending.remove(0)).filter(|row| holds(row))
    })
    .await
}

/// From the last attempt to the next, in milliseconds.
fn pause(last: &str, next: &str) -> i64 {
    let at = |text| Timestamp::parse(text).unwrap().instant();
    at(next).since(at(last))
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_fail_together_are_one_failure_and_a_delivery_makes_it_good() {
    let settings = [
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "20000"),
        ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
        QUICK,
    ];
    let node = TestNode::start_with(&settings).await;
    let peers = [Peer::start().await];
    let peer = &peers[0];
    let (ann, handles) = with_pending(&node, &peers, 5).await;
    let (first, others) = handles[0].split_at(1);
    // Only who has taken something is sent more than one message at a time.
    ann.flush(first).await;
    eventually("the first has arrived", || async { (ann.pending().await.len() == 4).then_some(()) }).await;
    let well = record(&node, peer).await;
    assert_eq!((&well["failures"], &well["lastError"]), (&json!(0), &Value::Null), "{well}");
    assert!(well["lastDeliveryAt"].is_string(), "{well}");

    let permits = Arc::new(Semaphore::new(0));
    peer.set_mood(Mood::Held(Arc::clone(&permits), 503, String::new()));
    ann.flush(others).await;
    eventually("all are under way", || async {
        (peer.received_of(MessageType::RelationshipRevoke).len() == 5).then_some(())
    })
    .await;
    for failed in 1..=4 {
        permits.add_permits(1);
        eventually("one more has failed", || async {
            let pending = ann.pending().await;
            (pending.iter().filter(|row| row.attempts == 1).count() == failed).then_some(())
        })
        .await;
    }
    let failed = record(&node, peer).await;
    assert_eq!((&failed["failures"], &failed["breaker"]), (&json!(1), &json!("half_open")), "{failed}");
    let error = failed["lastError"].as_str().unwrap_or_default();
    assert!(error.contains("refused (503)"), "{failed}");
    let (last, next) = (failed["lastFailureAt"].as_str().unwrap(), failed["nextProbeAt"].as_str().unwrap());
    assert_eq!(pause(last, next), 20_000, "expected the first pause, seen {failed}");

    peer.set_mood(Mood::Well);
    node.process.run(&["queue", "retry"]).await.unwrap();
    eventually("all are delivered", || async { ann.pending().await.is_empty().then_some(()) }).await;
    let well = record(&node, peer).await;
    let expected = (&json!(0), &json!("closed"), &Value::Null, &Value::Null);
    assert_eq!(
        (&well["failures"], &well["breaker"], &well["lastError"], &well["nextProbeAt"]),
        expected,
        "{well}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_that_a_peer_is_not_reachable_and_an_operator_why() {
    let node = TestNode::start_with(&[QUICK]).await;
    let ann = node.person("ann").await;
    // A port that nobody listens at.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let domain = format!("localhost:{}", held.local_addr().unwrap().port());
    Database::of(&node).await.add_messages(&ann, &domain, 1).await;
    node.process.run(&["queue", "retry"]).await.unwrap();
    let row = only_row(&ann, "an attempt has failed", |row| row.last_error.is_some()).await;
    assert_eq!(row.last_error.as_deref(), Some("not reachable"), "the owner has chosen the name: {row:?}");
    let peer = shown(&node, &["peer", "show", &domain]).await;
    let cause = peer["lastError"].as_str().unwrap_or_default();
    assert!(cause.len() > "not reachable".len(), "expected the cause as well, seen {peer}");
    assert!(peer["failures"].as_u64() >= Some(1), "{peer}");
}

/// Pauses of half a second, then five.
const STEEP: [(&str, &str); 4] = [
    ("VELLUM_FEDERATION__RETRY_FIRST_MS", "500"),
    ("VELLUM_FEDERATION__RETRY_MULTIPLIER", "10"),
    ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
    QUICK,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_makes_the_envelope_wait_and_silence_the_peer() {
    let node = TestNode::start_with(&STEEP).await;
    let ann = node.person("ann").await;
    for (answer, refuses) in [
        (says(400, "not today"), true),
        (says(503, "too busy"), true),
        (Mood::Answers(500, "oops".into()), true),
        (Mood::Answers(503, String::new()), false),
        (Mood::Answers(502, "<h1>Bad Gateway</h1>".into()), false),
    ] {
        let what = format!("{answer:?}");
        let peer = Peer::start().await;
        let bob = friend(&node, &ann, &peer, "bob").await.handle;
        peer.set_mood(answer);
        ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
        let row = only_row(&ann, "two attempts have failed", |row| {
            row.attempts == 2 && row.state == RevocationState::Queued
        })
        .await;
        let row = shown(&node, &["queue", "show", &row.id]).await;
        let own = pause(row["lastAttemptAt"].as_str().unwrap(), row["nextAttemptAt"].as_str().unwrap());
        let peer = record(&node, &peer).await;
        if refuses {
            assert_eq!((own, &peer["failures"]), (5_000, &json!(0)), "{what}: {row} {peer}");
        } else {
            assert_eq!((own, &peer["failures"]), (500, &json!(2)), "{what}: {row} {peer}");
            let last = peer["lastFailureAt"].as_str().unwrap();
            assert_eq!(pause(last, peer["nextProbeAt"].as_str().unwrap()), 5_000, "{what}: {peer}");
        }
        ann.client.discard_revocation(&bob).await.unwrap();
    }
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_signature_is_sent_at_once_with_a_window_and_a_count_of_its_own() {
    use crate::support::Steered;
    let settings = [
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "3600000"),
        ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "10000"),
    ];
    let steered = Steered::start(&settings).await;
    let (ann, peer) = (steered.node.person("ann").await, Peer::start().await);
    let bob = friend(&steered.node, &ann, &peer, "bob").await.handle;
    ann.client.remove_friend(&bob, None).await.unwrap();
    peer.set_mood(says(400, "not today"));
    ann.flush(std::slice::from_ref(&bob)).await;
    let old = only_row(&ann, "an attempt has failed", |row| row.last_error.is_some()).await;
    let waits = old.next_attempt_at.as_ref().unwrap().instant().since(now());
    assert!(waits > 60_000, "expected a pause of a third of 290 s, seen {waits} ms");

    steered.after(40_000);
    let at = now().plus_millis(40_000);
    let signed = ann.signer().revoke(&bob, at, &mut rand::rng());
    let item = vellum_client::http::FlushItem { peer_handle: bob, signed };
    let result = ann.client.flush_revocations(&[item]).await.unwrap().remove(0);
    assert_eq!(result.attempts, Some(1), "expected an attempt of its own, seen {result:?}");
    assert_eq!(peer.received_of(MessageType::RelationshipRevoke).len(), 2);
    let new = ann.pending().await.remove(0);
    let window = new.expires_at.as_ref().unwrap().instant().since(at);
    assert_eq!(window, 290_000, "expected the window from its signature on, seen {new:?}");
    assert_eq!((new.id, new.created_at), (old.id, old.created_at), "the same row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_refused_for_good_says_when_and_why() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(&node, &ann, &peer, "bob").await.handle;
    peer.set_mood(says(400, "Recipient not found"));
    let begun = now();
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let row = only_row(&ann, "it is refused", |row| row.state == RevocationState::Rejected).await;
    let seen = (row.attempts, row.last_error.as_deref(), row.next_attempt_at.as_ref());
    assert_eq!(seen, (1, Some("refused (400): Recipient not found"), None));
    let at = row.last_attempt_at.as_ref().map(Timestamp::instant);
    assert!(at.is_some_and(|at| (begun..=now()).contains(&at)), "expected when it was tried, seen {row:?}");
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_knows_this_node_no_more_is_asked_for_its_manifest_after_a_minute() {
    use crate::support::Steered;
    let steered = Steered::start(&[QUICK]).await;
    let node = &steered.node;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(node, &ann, &peer, "bob").await.handle;
    peer.set_mood(says(401, "Federation auth failed: another key"));
    peer.change_key();
    steered.after(61_000);
    let at = now().plus_millis(61_000);
    let signed = ann.signer().revoke(&bob, at, &mut rand::rng());
    ann.client.remove_friend(&bob, Some(&signed)).await.unwrap();
    let key = peer.server_key();
    eventually("its new key is noticed", || async {
        (record(node, &peer).await["offeredKey"] == key).then_some(())
    })
    .await;
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_gets_the_window_that_its_peer_states_now_up_to_a_month() {
    use crate::support::Steered;
    const MONTH_SECONDS: i64 = 30 * 86_400;
    // On a busy machine there are more attempts before, and longer pauses.
    let soon = ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "2000");
    let steered = Steered::start(&[QUICK, soon]).await;
    let node = &steered.node;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(node, &ann, &peer, "bob").await.handle;
    peer.set_mood(says(401, "Federation auth failed: not now"));
    let at = now();
    let signed = ann.signer().revoke(&bob, at, &mut rand::rng());
    ann.client.remove_friend(&bob, Some(&signed)).await.unwrap();
    let window = async || ann.pending().await[0].expires_at.as_ref().unwrap().instant().since(at);
    assert_eq!(window().await, 290_000, "expected that of a peer that takes fresh messages only");
    for (stated, expected) in [(MONTH_SECONDS / 2, MONTH_SECONDS / 2), (2 * MONTH_SECONDS, MONTH_SECONDS)] {
        let manifest = json!({
            "capabilities": ["durable-revocation-v1"], "revocation_window_seconds": stated,
        });
        peer.set_manifest(manifest);
        // Its manifest is read again after a refusal, once a minute.
        steered.after(61_000 * if stated < MONTH_SECONDS { 1 } else { 2 });
        eventually("its manifest is read again", || async {
            (window().await == expected * 1000 - 10_000).then_some(())
        })
        .await;
    }
}
