//! Friendships between users of one node and of two.

use serde_json::{Value, json};
use vellum_client::http::{Delivery, Direction, Method};
use vellum_protocol::{Alias, Handle, MessageType};

use crate::support::{Mood, Peer, Person, TestNode, fields, now, wait_for};

/// The code of a refusal.
async fn code(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, problem) = person.ask(method, path, body).await;
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn two_users_of_one_node_become_friends_and_part() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let invitation = ann.invite(&ben.handle()).await;
    assert_eq!((invitation.status.as_str(), invitation.direction), ("pending", Direction::Outgoing));
    assert_eq!(ann.client.invitations(Direction::Outgoing).await.unwrap().len(), 1);
    let again = json!({ "handle": ben.handle(), "signature": "x" });
    assert_eq!(code(&ann, Method::POST, "/friends/invite", again).await, refused(400, "already_invited"));

    ben.accept(&ann.handle()).await;
    assert_eq!((ann.friends().await, ben.friends().await), (vec![ben.handle()], vec![ann.handle()]));
    assert!(ann.client.invitations(Direction::Outgoing).await.unwrap().is_empty());
    let again = json!({ "handle": ben.handle() });
    assert_eq!(code(&ann, Method::POST, "/friends/invite", again).await, refused(400, "already_friends"));

    assert_eq!(ann.client.remove_friend(&ben.handle(), None).await.unwrap(), Delivery::Local);
    assert!(ann.friends().await.is_empty() && ben.friends().await.is_empty(), "both ends at once");
    assert!(ann.pending().await.is_empty());
    let path = format!("/friends/{}", ben.handle());
    assert_eq!(code(&ann, Method::DELETE, &path, Value::Null).await, refused(400, "friendship_not_found"));
}

#[tokio::test]
async fn what_existing_clients_send_works_between_users_of_one_node() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let bare =
        json!({ "handle": ben.handle(), "signature": "a signature over a time that is not transmitted" });
    ann.ask_for(200, Method::POST, "/friends/invite", bare.clone()).await;
    let id = ben.invitation_from(&ann.handle()).await.id;
    ben.ask_for(200, Method::POST, &format!("/friends/invitations/{id}/reject"), Value::Null).await;
    assert!(ann.client.invitations(Direction::Outgoing).await.unwrap().is_empty(), "rejected on both sides");
    ann.ask_for(200, Method::POST, "/friends/invite", bare).await;
    let id = ben.invitation_from(&ann.handle()).await.id;
    let accept = json!({ "signature": "bare" });
    ben.ask_for(200, Method::POST, &format!("/friends/invitations/{id}/accept"), accept).await;
    assert_eq!(ann.friends().await, [ben.handle()]);
}

#[tokio::test]
async fn inviting_is_refused_with_the_reason() {
    let node = TestNode::start().await;
    let (ann, nokeys) = (node.person("ann").await, node.user("nokeys").await);
    nokeys.ask(Method::PATCH, "/users/me/alias", json!({ "alias": "nokeys" })).await;
    let domain = node.process.domain();
    let invite = |handle: String| json!({ "handle": handle });
    for (handle, status, expected) in [
        ("no handle".to_owned(), 400, "invalid_handle"),
        (ann.handle().to_string(), 400, "self"),
        (format!("nobody@{domain}"), 400, "user_not_found"),
        (format!("nokeys@{domain}"), 400, "user_not_found"),
        (format!("ANN@{domain}"), 400, "invalid_handle"),
        ("bob@localhost:1".to_owned(), 400, "envelope_required"),
    ] {
        assert_eq!(
            code(&ann, Method::POST, "/friends/invite", invite(handle.clone())).await,
            refused(status, expected),
            "{handle}"
        );
    }
    let nobody_there = Handle::parse("bob@localhost:1").unwrap();
    let signed = fields(&ann.signer().invite(&nobody_there, now(), &mut rand::rng()));
    let mut body = signed.clone();
    body["handle"] = json!(nobody_there);
    assert_eq!(code(&ann, Method::POST, "/friends/invite", body).await, refused(502, "peer_unreachable"));
    let refusal = code(&nokeys, Method::POST, "/friends/invite", invite(ann.handle().to_string())).await;
    assert_eq!(refusal, refused(400, "identity_incomplete"));
    for body in [json!({}), json!({ "handle": 1 }), json!({ "handle": "a@b.example", "signature": 1 })] {
        assert_eq!(
            code(&ann, Method::POST, "/friends/invite", body).await,
            refused(422, "validation_failed")
        );
    }
}

#[tokio::test]
async fn users_of_two_nodes_become_friends_and_part() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    assert_eq!(ben.friends().await, [ann.handle()]);
    let shown = ann.client.resolve_friend(&ben.handle()).await.unwrap();
    assert_eq!(Some(shown.signing_key), ben.client.identity().await.unwrap().signing_key);

    let signed = ann.revocation(&ben.handle());
    assert_eq!(ann.client.remove_friend(&ben.handle(), Some(&signed)).await.unwrap(), Delivery::Delivered);
    assert!(ann.friends().await.is_empty());
    assert!(ben.friends().await.is_empty(), "the other end too, before the answer");
}

#[tokio::test]
async fn removing_a_remote_friend_without_a_signature_leaves_a_row_that_awaits_one() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    assert_eq!(ann.client.remove_friend(&ben.handle(), None).await.unwrap(), Delivery::Unsigned);
    assert_eq!(ann.pending().await.len(), 1);
    assert_eq!(ben.friends().await, [ann.handle()], "ben's node was told nothing");
    assert!(ann.flush(&[ben.handle()]).await[0].delivered);
    assert!(ben.friends().await.is_empty());
}

#[tokio::test]
async fn a_rejection_reaches_the_inviter_on_another_node() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.invite(&ben.handle()).await;
    let invitation = ben.invitation_from(&ann.handle()).await;
    let signed = ben.signer().reject(&ann.handle(), now(), &mut rand::rng());
    ben.client.reject_invitation(&invitation.id, &signed).await.unwrap();
    assert!(ben.client.invitations(Direction::Incoming).await.unwrap().is_empty());
    wait_for(
        "ann's invitation goes",
        || async { ann.client.invitations(Direction::Outgoing).await.unwrap() },
        |seen| seen.is_empty(),
    )
    .await;
}

#[tokio::test]
async fn invitations_in_both_directions_become_a_friendship() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    let (handle_a, handle_b) = (ann.handle(), ben.handle());
    tokio::join!(ann.invite(&handle_b), ben.invite(&handle_a));
    ann.await_friends(&[&handle_b]).await;
    ben.await_friends(&[&handle_a]).await;
    for person in [&ann, &ben] {
        for direction in [Direction::Incoming, Direction::Outgoing] {
            assert!(person.client.invitations(direction).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn an_accept_is_kept_until_the_inviters_node_takes_it() {
    let node = TestNode::start().await;
    let ben = node.person("ben").await;
    let peer = Peer::start().await;
    let ann = peer.user("ann");
    peer.invite(&ann, &ben.handle()).await;
    peer.set_mood(Mood::Answers(503, "busy".into()));
    ben.accept(&ann.handle).await;
    assert_eq!(ben.friends().await, std::slice::from_ref(&ann.handle));
    assert!(ben.client.invitations(Direction::Incoming).await.unwrap().is_empty());
    peer.set_mood(Mood::Well);
    let refused = peer.received_of(MessageType::FriendAccept).len();
    wait_for(
        "the accept is sent again",
        || async { peer.received_of(MessageType::FriendAccept).len() },
        |seen| *seen > refused,
    )
    .await;
    let accepts = peer.received_of(MessageType::FriendAccept);
    assert!(accepts.iter().all(|accept| *accept == accepts[0]), "the envelope is never touched");
    assert_eq!(ben.friends().await, [ann.handle]);
}

#[tokio::test]
async fn an_accept_of_an_invitation_that_the_inviter_took_back_leaves_no_one_sided_friendship() {
    let node = TestNode::start().await;
    let ben = node.person("ben").await;
    let peer = Peer::start().await;
    let ann = peer.user("ann");
    peer.invite(&ann, &ben.handle()).await;
    peer.set_mood(Mood::Answers(400, json!({ "message": "Original invitation not found" }).to_string()));
    let id = ben.invitation_from(&ann.handle).await.id;
    let accept = fields(&ben.signer().accept(&ann.handle, now(), &mut rand::rng()));
    let path = format!("/friends/invitations/{id}/accept");
    assert_eq!(code(&ben, Method::POST, &path, accept).await, refused(400, "invitation_not_found"));
    assert!(ben.friends().await.is_empty());
}

#[tokio::test]
async fn a_friends_changed_key_is_reported_and_marked() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, mut ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    let unchanged = ann.client.sync_friend_keys().await.unwrap();
    assert!(!unchanged[0].updated && unchanged[0].error.is_none());
    ben.new_keys().await;
    // The keys of a minute ago may still be kept; a restart forgets them.
    let mut one = one;
    one.process.stop().await.unwrap();
    one.process.start().await.unwrap();
    assert!(ann.client.sync_friend_keys().await.unwrap()[0].updated);
    let (_, friends) = ann.ask(Method::GET, "/friends", Value::Null).await;
    assert!(friends["friends"][0]["keysChangedAt"].is_string());
}

#[tokio::test]
async fn public_documents_show_what_existing_peers_read() {
    let node = TestNode::start().await;
    let ann = node.person("Ann").await;
    let manifest = node.client().manifest().await.unwrap();
    assert_eq!(manifest.server_id.as_str(), node.process.domain());
    assert!(manifest.has_capability("durable-revocation-v1"));
    assert_eq!(manifest.revocation_window_seconds, Some(604_800));
    let document = node.client().user_document(&Alias::parse("ann").unwrap()).await.unwrap();
    assert_eq!(document.handle, ann.handle(), "found without case, shown as spelled");
    assert_eq!(document.inbox, format!("{}/federation/inbox", node.process.origin()));
    for path in ["/.well-known/user/nobody", "/.well-known/user/..", "/.well-known/user/a%20b"] {
        let (status, body) = node.client().request_json(Method::GET, path, None).await.unwrap();
        assert_eq!(status, 404, "{path}");
        assert!(body["message"].is_string());
    }
}

#[tokio::test]
async fn new_keys_undo_an_invitation_that_never_arrived_so_that_it_can_be_made_again() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let mut ann = node.person("ann").await;
    let peer = Peer::start().await;
    let bob = peer.user("bob");
    peer.set_mood(Mood::Answers(503, String::new()));
    ann.invite(&bob.handle).await;
    ann.new_keys().await;
    assert!(ann.client.invitations(Direction::Outgoing).await.unwrap().is_empty());
    peer.set_mood(Mood::Well);
    ann.invite(&bob.handle).await;
    assert_eq!(ann.client.invitations(Direction::Outgoing).await.unwrap().len(), 1);
}
