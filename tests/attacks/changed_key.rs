//! The attacker has got hold of another node's name: its domain lapsed, its DNS or its proxy is his. He has no copy of
//! its key, and shows one of his own. He would speak for all of that node's users, and get what is sent to them. What
//! stops him: the key that a node showed first is pinned; another one is neither believed nor sent to, however long and
//! often it is shown, until an operator has compared it.

use std::time::Duration;

use serde_json::Value;
use vellum_client::http::Method;
use vellum_protocol::{JsonObject, MessageType};

use crate::support::{Peer, TestNode, now, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_not_believed_and_nothing_is_sent_to_it_and_the_old_one_works_again() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    let pinned = peer.server_key();
    // An operator's decision has manifests read anew; otherwise that is after five minutes.
    let read_anew = async || {
        node.process.run(&["queue", "retry"]).await.unwrap();
    };
    let revoke = async || {
        let kind = MessageType::RelationshipRevoke;
        let to = ann.handle();
        peer.send(&bob.signer.envelope(kind, &to, JsonObject::new(), now(), &mut rand::rng())).await
    };

    let old = peer.change_key();
    let (status, answer) = revoke().await;
    assert_eq!(status, 401, "signed with a key that this node has not seen: {answer}");
    read_anew().await;
    let refused = |(status, answer): &(u16, Value)| {
        assert_eq!(*status, 401, "{answer}");
        answer["message"].as_str().unwrap().ends_with("has changed")
    };
    wait_for("the other key is seen and refused as such", || async { revoke().await }, refused).await;
    // The attacker's users under the old names are nobody.
    let mallory = peer.user("mallory");
    assert_eq!(peer.try_invite(&mallory, &ann.handle()).await.0, 401);
    let resolve = format!("/friends/resolve/{}", mallory.handle);
    ann.ask_for(502, Method::GET, &resolve, Value::Null).await;
    assert_eq!(ann.friends().await, std::slice::from_ref(&bob.handle), "what he sent has changed nothing");

    let received = peer.received().len();
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    read_anew().await;
    // Longer than a running node takes to hear of an operator's wish.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(peer.received().len(), received, "he gets nothing, even when an operator would hurry it");
    assert_eq!(ann.pending().await.len(), 1, "it waits");
    let shown = node.process.run(&["peer", "show", peer.domain().as_str(), "--json"]).await.unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["publicKey"], &shown["offeredKey"]), (&pinned.into(), &peer.server_key().into()));

    peer.set_key(old);
    read_anew().await;
    wait_for("the owner is back and believed", || async { revoke().await }, |seen| seen.0 == 202).await;
    wait_for("and is told", || ann.pending(), |seen| seen.is_empty()).await;
    assert_eq!(peer.received().len(), received + 1);
}
