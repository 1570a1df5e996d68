//! `Retry-After`: how long a peer that asks for a pause is left alone, and which messages wait.

use serde_json::json;
use vellum_client::http::PendingRevocation;
use vellum_protocol::{Handle, MessageType};

use crate::support::{Mood, Peer, Person, TestNode, eventually, now};

/// Takes late revocations, so that no short window limits a pause.
async fn durable_peer() -> Peer {
    let manifest = json!({ "capabilities": ["durable-revocation-v1"], "revocation_window_seconds": 604_800 });
    Peer::start_with(manifest).await
}

/// Somebody on the peer who is a friend, about which everything is told.
async fn friend(node: &TestNode, person: &Person, peer: &Peer, alias: &str) -> Handle {
    let friend = peer.friend_of(person, alias).await.handle;
    node.process.run(&["queue", "watch"]).await.unwrap();
    friend
}

fn asks_for(seconds: u32) -> Mood {
    Mood::AsksForPause(429, r#"{"message":"not so often!"}"#.to_owned(), seconds)
}

/// Somebody's pending revocation for this peer.
async fn row(person: &Person, peer: &Handle) -> PendingRevocation {
    let pending = person.pending().await;
    let row = pending.iter().find(|row| row.peer_handle == *peer).cloned();
    row.unwrap_or_else(|| panic!("expected a row for {peer}, seen {pending:?}"))
}

/// The pause after the first attempt with this revocation, in milliseconds.
async fn first_pause(person: &Person, peer: &Handle) -> i64 {
    let row = eventually("an attempt has failed and the next is due", || async {
        let row = row(person, peer).await;
        (row.attempts == 1 && row.next_attempt_at.is_some()).then_some(row)
    })
    .await;
    row.next_attempt_at.unwrap().instant().since(row.last_attempt_at.unwrap().instant())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_an_hour_is_no_longer_than_the_longest_of_the_settings() {
    // With half of that as jitter, two seconds are at most three.
    let node = TestNode::start_with(&[
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "500"),
        ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "2000"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "100"),
    ])
    .await;
    let (ann, peer) = (node.person("ann").await, durable_peer().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    peer.set_mood(asks_for(3_600));
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let pause = first_pause(&ann, &bob).await;
    assert!((2_500..=3_100).contains(&pause), "expected the longest pause of 3 s, seen {pause} ms");
    peer.set_mood(Mood::Well);
    eventually("it is delivered after that", || async { ann.pending().await.is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_an_hour_leaves_time_within_the_window_of_what_waits() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "100")]).await;
    // This one takes a message for 290 s.
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    peer.set_mood(asks_for(3_600));
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let pause = first_pause(&ann, &bob).await;
    assert!((90_000..=97_000).contains(&pause), "expected a third of 290 s, seen {pause} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_back_everything_for_the_peer_that_asks_and_nothing_for_others() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "2000")]).await;
    let (ann, peer, other) = (node.person("ann").await, durable_peer().await, Peer::start().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    let carl = friend(&node, &ann, &peer, "carl").await;
    let dora = friend(&node, &ann, &other, "dora").await;
    for friend in [&bob, &carl, &dora] {
        ann.client.remove_friend(friend, None).await.unwrap();
    }
    peer.set_mood(asks_for(600));
    ann.flush(std::slice::from_ref(&bob)).await;
    let pause = first_pause(&ann, &bob).await;
    assert!((590_000..=600_100).contains(&pause), "expected the 600 s that it asked for, seen {pause} ms");

    peer.set_mood(Mood::Well);
    let results = ann.flush(&[carl.clone(), dora]).await;
    assert!(results[1].delivered, "another peer has asked for nothing: {:?}", results[1]);
    assert!(!results[0].delivered, "the peer has asked to be left alone: {:?}", results[0]);
    assert_eq!(results[0].attempts, Some(0), "expected no attempt, seen {:?}", results[0]);
    let waits = row(&ann, &carl).await.next_attempt_at.unwrap().instant().since(now());
    assert!((500_000..=600_000).contains(&waits), "expected the rest of the pause, seen {waits} ms");
    let sent = peer.received_of(MessageType::RelationshipRevoke);
    assert_eq!(sent.len(), 1, "expected the first attempt only, seen {sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_no_time_is_no_leave_to_come_again_at_once() {
    let node = TestNode::start_with(&[
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "60000"),
        ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "100"),
    ])
    .await;
    let (ann, peer) = (node.person("ann").await, durable_peer().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    peer.set_mood(asks_for(0));
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let pause = first_pause(&ann, &bob).await;
    assert_eq!(pause, 60_000, "expected the pause of the settings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_shortened_for_a_message_whose_window_it_would_outlast() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let (ann, peer) = (node.person("ann").await, durable_peer().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    peer.set_mood(asks_for(3_000));
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let pause = first_pause(&ann, &bob).await;
    assert!((2_990_000..=3_000_100).contains(&pause), "expected what it asked for, seen {pause} ms");
    // An invitation is sent for 290 s. What is signed anew shows how long the pause still lasts.
    ann.invite(&peer.user("carl").handle).await;
    let invited_at = now();
    ann.flush(std::slice::from_ref(&bob)).await;
    let waits = row(&ann, &bob).await.next_attempt_at.unwrap().instant().since(invited_at);
    assert!((60_000..=97_000).contains(&waits), "expected a third of 290 s, seen {waits} ms");
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_trusts_a_new_key_ends_the_pause_that_the_old_one_asked_for() {
    use crate::support::Steered;
    let steered = Steered::start(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "5000")]).await;
    let node = &steered.node;
    let (ann, peer) = (node.person("ann").await, durable_peer().await);
    let bob = friend(node, &ann, &peer, "bob").await;
    peer.set_mood(asks_for(3_000));
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    first_pause(&ann, &bob).await;
    peer.set_mood(Mood::Well);
    peer.change_key();
    // Longer than a manifest is kept: somebody is looked up, and the other key is noticed.
    steered.after(301_000);
    let refused = ann.client.resolve_friend(&peer.user("carl").handle).await;
    assert!(refused.is_err(), "expected that its users are not trusted either, seen {refused:?}");
    let domain = peer.domain().to_string();
    node.process.run(&["peer", "repin", &domain, "--key", &peer.server_key()]).await.unwrap();
    let signed = ann.signer().revoke(&bob, now().plus_millis(301_000), &mut rand::rng());
    let item = vellum_client::http::FlushItem { peer_handle: bob, signed };
    let result = ann.client.flush_revocations(&[item]).await.unwrap().remove(0);
    assert!(result.delivered, "expected no pause any more, seen {result:?}");
}
