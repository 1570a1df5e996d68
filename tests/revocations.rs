//! Pending revocations, flushing them, and what becomes of them when peers misbehave.

use serde_json::{Value, json};
use vellum_client::http::{Delivery, Method, PendingRevocation, RevocationState};
use vellum_protocol::{Handle, Json, MessageType};

use crate::support::{Mood, Peer, PeerUser, Person, TestNode, fields, now, wait_for};

/// A user of the node who is a friend of somebody at the peer, and has reset.
async fn reset_with_friend(node: &TestNode, peer: &Peer) -> (Person, PeerUser) {
    let mut ann = node.person("ann").await;
    let bob = peer.user("bob");
    befriend(&ann, peer, &bob).await;
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    (ann, bob)
}

async fn befriend(person: &Person, peer: &Peer, other: &PeerUser) {
    peer.invite(other, &person.handle()).await;
    person.accept(&other.handle).await;
}

fn item(peer: &Handle, signed: Value) -> Value {
    let mut item = signed;
    item["peerHandle"] = json!(peer);
    item
}

#[tokio::test]
async fn a_flush_delivers_what_was_signed_byte_for_byte() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    let row = &ann.pending().await[0];
    assert_eq!((row.state, row.attempts), (RevocationState::AwaitingSignature, 0));
    let signed = ann.revocation(&bob.handle);
    let (status, answer) = ann.flush_raw(json!([item(&bob.handle, fields(&signed))])).await;
    assert_eq!(status, 200);
    assert_eq!(answer["results"][0]["delivered"], true, "{answer}");
    assert_eq!(answer["results"][0]["error"], Value::Null);
    assert!(ann.pending().await.is_empty());
    let received = &peer.received_of(MessageType::RelationshipRevoke)[0];
    let expected = json!({
        "protocol_version": 2, "message_type": "RELATIONSHIP_REVOKE", "message_version": 1, "from": ann.handle(),
        "to": bob.handle, "nonce": signed.nonce, "timestamp": signed.timestamp, "payload": {},
        "signature": signed.signature,
    });
    assert_eq!(received.canonical(), vellum_protocol::Json::try_from(expected).unwrap().canonical());
}

#[tokio::test]
async fn items_are_refused_one_by_one_told_why_and_never_sent() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    let stranger = node.person("stranger").await;
    let carol = peer.user("carol");
    let good = fields(&ann.revocation(&bob.handle));
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    let old = fields(&ann.signer().revoke(&bob.handle, now().plus_millis(-301_000), &mut rand::rng()));
    let early = fields(&ann.signer().revoke(&bob.handle, now().plus_millis(301_000), &mut rand::rng()));
    let another_type = fields(&ann.signer().invite(&bob.handle, now(), &mut rand::rng()));
    for (what, signed, code) in [
        (
            "the key of somebody else",
            fields(&stranger.signer().revoke(&bob.handle, now(), &mut rand::rng())),
            "bad_signature",
        ),
        ("signed for another peer", fields(&ann.revocation(&carol.handle)), "bad_signature"),
        ("signed as another type", another_type, "bad_signature"),
        ("a stale timestamp", old, "stale_timestamp"),
        ("a timestamp of the future", early, "stale_timestamp"),
        ("no timestamp at all", with("timestamp", json!("yesterday")), "stale_timestamp"),
        (
            "an altered timestamp",
            with("timestamp", json!(now().plus_millis(1).to_rfc3339())),
            "bad_signature",
        ),
        ("an altered nonce", with("nonce", json!("AAAAAAAAAAAAAAAAAAAAAA==")), "bad_signature"),
        ("an altered version", with("messageVersion", json!(2)), "bad_signature"),
        ("no signature", with("signature", json!("***")), "bad_signature"),
        ("an empty nonce", with("nonce", json!("")), "invalid_nonce"),
    ] {
        let (status, answer) = ann.flush_raw(json!([item(&bob.handle, signed)])).await;
        let result = &answer["results"][0];
        assert_eq!(status, 200, "{what}: {answer}");
        assert_eq!(
            (result["delivered"].as_bool(), result["code"].as_str()),
            (Some(false), Some(code)),
            "{what}"
        );
        assert!(!result["error"].as_str().unwrap().is_empty());
    }
    let (_, answer) = ann
        .flush_raw(json!([
            item(&carol.handle, fields(&ann.revocation(&carol.handle))),
            item(&bob.handle, with("nonce", json!("x"))),
            item(&bob.handle, good.clone()),
        ]))
        .await;
    let codes: Vec<&str> =
        answer["results"].as_array().unwrap().iter().map(|result| result["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["not_pending", "bad_signature", "duplicate"], "in the order of the items");

    assert!(peer.received_of(MessageType::RelationshipRevoke).is_empty(), "none of it was sent");
    let row = &ann.pending().await[0];
    assert_eq!((row.state, row.attempts), (RevocationState::AwaitingSignature, 0), "and none of it was kept");
    assert_eq!(ann.flush_raw(json!([item(&bob.handle, good)])).await.1["results"][0]["delivered"], true);
}

#[tokio::test]
async fn a_flush_as_a_whole_is_refused_for_its_shape_or_an_incomplete_identity() {
    let node = TestNode::start().await;
    let (ann, nobody) = (node.person("ann").await, node.user("nobody").await);
    let signed = item(&ann.handle(), fields(&ann.revocation(&ann.handle())));
    for items in [json!({}), Value::Null, json!([7]), json!([{}]), Value::Array(vec![signed.clone(); 1001])] {
        let (status, problem) = ann.flush_raw(items).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("validation_failed")));
    }
    let (status, problem) = nobody.flush_raw(json!([signed])).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("identity_incomplete")));
}

#[tokio::test]
async fn only_a_confirmed_delivery_is_one_and_everything_else_is_tried_again() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    peer.set_mood(Mood::Answers(200, "<html>Welcome</html>".into()));
    let result = &ann.flush(std::slice::from_ref(&bob.handle)).await[0];
    assert!(!result.delivered);
    assert_eq!((result.state, result.attempts), (Some(RevocationState::Queued), Some(1)));
    assert!(result.error.as_ref().unwrap().contains("without confirming"), "{result:?}");
    assert!(result.next_attempt_at.is_some());

    peer.set_mood(Mood::Answers(401, json!({ "message": "Federation auth failed: your clock" }).to_string()));
    let has_its_words =
        |row: &PendingRevocation| row.last_error.as_deref().is_some_and(|error| error.contains("your clock"));
    let what = "the peer's words are shown to the owner";
    wait_for(what, || ann.pending(), |rows| rows.iter().any(has_its_words)).await;
    peer.set_mood(Mood::Well);
    wait_for("it is delivered", || ann.pending(), |seen| seen.is_empty()).await;
    let received = peer.received_of(MessageType::RelationshipRevoke);
    assert!(
        received.len() >= 3 && received.iter().all(|message| *message == received[0]),
        "the envelope is never touched"
    );
}

#[tokio::test]
async fn a_recipient_that_does_not_exist_is_final_and_a_new_signature_starts_over() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    peer.set_mood(Mood::Answers(400, json!({ "message": "Recipient is not on this server" }).to_string()));
    let result = &ann.flush(std::slice::from_ref(&bob.handle)).await[0];
    assert_eq!(result.state, Some(RevocationState::Rejected));
    assert!(result.next_attempt_at.is_none());
    peer.set_mood(Mood::Well);
    assert!(ann.flush(std::slice::from_ref(&bob.handle)).await[0].delivered);
}

#[tokio::test]
async fn a_discarded_revocation_is_gone_and_its_attempt_is_stopped() {
    let (node, peer) =
        (TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "1500")]).await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    peer.set_mood(Mood::Hangs);
    let result = &ann.flush(std::slice::from_ref(&bob.handle)).await[0];
    assert_eq!(result.state, Some(RevocationState::Delivering), "the flush does not wait for ever");
    ann.client.discard_revocation(&bob.handle).await.unwrap();
    assert!(ann.pending().await.is_empty());
    peer.set_mood(Mood::Well);
    let sent = peer.received_of(MessageType::RelationshipRevoke).len();
    let again = ann.client.discard_revocation(&bob.handle).await.unwrap_err();
    assert_eq!(again.code(), Some("not_pending"));
    ann.ask_for(404, Method::DELETE, "/users/me/revocations/pending/nonsense", Value::Null).await;
    // Anything else the node sends to this peer goes after whatever it might still have sent.
    befriend(&ann, &peer, &peer.user("carol")).await;
    assert_eq!(peer.received_of(MessageType::RelationshipRevoke).len(), sent);
}

#[tokio::test]
async fn a_peer_that_changes_its_key_gets_nothing_more() {
    let (mut node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = reset_with_friend(&node, &peer).await;
    peer.change_key();
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    let result = &ann.flush(std::slice::from_ref(&bob.handle)).await[0];
    assert!(result.error.as_ref().unwrap().contains("key of"), "{result:?}");
    assert!(peer.received_of(MessageType::RelationshipRevoke).is_empty());
}

#[tokio::test]
async fn one_peer_that_hangs_delays_no_other() {
    let (node, slow, quick) = (TestNode::start().await, Peer::start().await, Peer::start().await);
    let mut ann = node.person("ann").await;
    let mut handles = Vec::new();
    for (peer, alias) in [(&slow, "bob"), (&quick, "carol"), (&quick, "dave")] {
        let friend = peer.user(alias);
        befriend(&ann, peer, &friend).await;
        handles.push(friend.handle);
    }
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    slow.set_mood(Mood::Hangs);
    let results = ann.flush(&handles).await;
    assert_eq!(results.iter().map(|result| result.delivered).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(results[0].state, Some(RevocationState::Delivering));
}

#[tokio::test]
async fn a_local_friend_is_told_without_a_request() {
    let node = TestNode::start().await;
    let (mut ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    ann.client.reset_identity().await.unwrap();
    assert_eq!(ben.friends().await, [ann.handle()], "ben keeps his row until ann's signature says otherwise");
    ann.new_keys().await;
    assert!(ann.flush(&[ben.handle()]).await[0].delivered);
    assert!(ben.friends().await.is_empty());
}

#[tokio::test]
async fn a_second_reset_takes_a_queued_signature_back() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (mut ann, bob) = reset_with_friend(&node, &peer).await;
    peer.set_mood(Mood::Answers(503, String::new()));
    assert_eq!(ann.flush(std::slice::from_ref(&bob.handle)).await[0].state, Some(RevocationState::Queued));
    assert_eq!(ann.client.reset_identity().await.unwrap(), 1);
    assert_eq!(ann.pending().await[0].state, RevocationState::AwaitingSignature);
    ann.new_keys().await;
    peer.set_mood(Mood::Well);
    assert!(ann.flush(std::slice::from_ref(&bob.handle)).await[0].delivered);
}

#[tokio::test]
async fn a_newer_signature_is_not_lost_behind_an_older_one_that_is_under_way() {
    let (node, peer) =
        (TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.user("bob");
    befriend(&ann, &peer, &bob).await;
    peer.set_mood(Mood::Hangs);
    let older = ann.revocation(&bob.handle);
    assert_eq!(ann.client.remove_friend(&bob.handle, Some(&older)).await.unwrap(), Delivery::Queued);
    befriend(&ann, &peer, &bob).await;
    let newer = ann.revocation(&bob.handle);
    assert_eq!(ann.client.remove_friend(&bob.handle, Some(&newer)).await.unwrap(), Delivery::Queued);
    peer.set_mood(Mood::Well);
    let nonce = || async {
        let last = peer.received_of(MessageType::RelationshipRevoke).pop();
        last.and_then(|last| last.get("nonce").and_then(Json::as_str).map(str::to_owned))
    };
    wait_for("the newer one arrives", nonce, |nonce| nonce.as_ref() == Some(&newer.nonce)).await;
    wait_for("nothing is pending", || ann.pending(), |seen| seen.is_empty()).await;
}
