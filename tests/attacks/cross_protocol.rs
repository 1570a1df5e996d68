//! The attacker has a signature that its owner made for one thing and presents it for another: an invitation's as
//! a revocation's, a user's as a server's. What stops him: what is signed names its type, its recipient, or the
//! whole request, and no two kinds of signed bytes can be equal.

use serde_json::json;
use vellum_protocol::{Domain, Json, JsonObject, MessageType};

use crate::support::{Peer, TestNode, now};

#[tokio::test]
async fn a_signature_is_good_for_what_it_was_made_for_and_nothing_else() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let domain = Domain::parse(&node.process.domain()).unwrap();
    let sign = |kind| bob.signer.envelope(kind, &ann.handle(), JsonObject::new(), now(), &mut rand::rng());
    let invite = sign(MessageType::FriendInvite);
    let as_json = |text: &Json| serde_json::from_str::<serde_json::Value>(&text.canonical()).unwrap();
    for kind in ["RELATIONSHIP_REVOKE", "FRIEND_ACCEPT", "FRIEND_REJECT", "RESOURCE_SHARE"] {
        let mut other = as_json(&invite.to_json());
        other["message_type"] = json!(kind);
        if other.get("type").is_some() {
            other["type"] = json!(kind);
        }
        let (status, answer) = peer.request(&domain, &Json::try_from(other).unwrap()).post().await;
        assert_eq!(status, 400, "{kind}: {answer}");
    }
    let mut request = peer.request(&domain, &invite.to_json());
    request.signature = as_json(&invite.to_json())["signature"].as_str().map(str::to_owned);
    assert_eq!(request.post().await.0, 401, "a user's signature is no server's");
    assert_eq!(peer.send(&invite).await.0, 202, "the honest one is taken");
}
