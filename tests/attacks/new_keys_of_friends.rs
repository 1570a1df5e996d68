//! The attacker runs, or has got into, the node of somebody's friend, and has that node show
//! another key for the friend. He would speak for the friend: everything that he signs verifies
//! with the key that the node shows. What stops him: the first message under another key marks the
//! friendship in the same transaction; what is shared under that key is marked too, until the user
//! has compared that very key and says so. No request without the key confirms anything.

use serde_json::{Value, json};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::Method;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::{JsonObject, MessageType, UnixMillis};

use crate::support::{Peer, PeerUser, Person, TestNode, now};

async fn scene() -> (TestNode, Peer, Person, PeerUser) {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.friend_of(&ann, "bob").await;
    (node, peer, ann, bob)
}

async fn send_at(
    peer: &Peer,
    from: &PeerUser,
    to: &Person,
    kind: MessageType,
    payload: JsonObject,
    at: UnixMillis,
) -> (u16, Value) {
    peer.send(&from.signer.envelope(kind, &to.handle(), payload, at, &mut rand::rng())).await
}

async fn send(peer: &Peer, from: &PeerUser, to: &Person, kind: MessageType) -> (u16, Value) {
    send_at(peer, from, to, kind, JsonObject::new(), now()).await
}

async fn share(peer: &Peer, from: &PeerUser, to: &Person, id: &str) {
    let shared = SharedResource {
        resource_type: "collection".into(),
        resource_id: id.into(),
        ciphertext: SharedCiphertext { encrypted_data: "v7B/".into(), nonce: "WoyOsQE8QeFAtxhm".into() },
        role: ShareRole::Editor,
    };
    let (status, answer) = send_at(peer, from, to, MessageType::ResourceShare, shared.payload(), now()).await;
    assert_eq!(status, 202, "{answer}");
}

/// The friend as the list shows them: the signing key, and whether it is marked as changed.
async fn kept(person: &Person) -> (String, bool) {
    let (status, answer) = person.ask(Method::GET, "/friends", Value::Null).await;
    let friend = &answer["friends"][0];
    assert_eq!((status, friend["friendHandle"].is_string()), (200, true), "{answer}");
    (friend["friendSigningKey"].as_str().unwrap().to_owned(), friend["keysChangedAt"].is_string())
}

/// Whether this share is marked.
async fn is_marked(person: &Person, id: &str) -> bool {
    let (_, answer) = person.ask(Method::GET, "/sharing/incoming", Value::Null).await;
    let shares = answer["shares"].as_array().unwrap();
    let share = shares.iter().find(|share| share["resourceId"] == id);
    let share = share.unwrap_or_else(|| panic!("no share {id} in {answer}"));
    share["keyChanged"].as_bool().unwrap_or_else(|| panic!("no mark in {share}"))
}

async fn confirm(person: &Person, of: &Value, key: &str) -> (u16, Value) {
    person.ask(Method::POST, "/friends/sync-keys", json!({ "handle": of, "signingKey": key })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_under_another_key_is_kept_and_marked_until_the_user_confirms_that_key() {
    let (_node, peer, ann, bob) = scene().await;
    share(&peer, &bob, &ann, "before").await;
    let old = bob.key();
    assert_eq!((kept(&ann).await, is_marked(&ann, "before").await), ((old.clone(), false), false));

    let changed = peer.user("bob");
    share(&peer, &changed, &ann, "after").await;
    assert_eq!(kept(&ann).await, (changed.key(), true), "the change is seen with the message");
    assert!(is_marked(&ann, "after").await && !is_marked(&ann, "before").await);
    let (_, pending) = ann.ask(Method::GET, "/sharing/incoming/pending", Value::Null).await;
    assert_eq!(pending["shares"][1]["keyChanged"], true, "in every list: {pending}");
    let path = format!("/sharing/incoming/{}/accept", pending["shares"][1]["id"].as_str().unwrap());
    let (status, accepted) = ann.ask(Method::POST, &path, Value::Null).await;
    assert_eq!((status, &accepted["keyChanged"]), (200, &json!(true)), "accepting confirms no key");

    for body in [Value::Null, json!({}), json!({ "handle": null, "signingKey": null })] {
        let (status, answer) = ann.ask(Method::POST, "/friends/sync-keys", body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(kept(&ann).await, (changed.key(), true), "{body} confirms nothing");
        assert!(is_marked(&ann, "after").await, "{body} confirms nothing");
    }
    let handle = json!(bob.handle);
    let (status, problem) = confirm(&ann, &handle, &old).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("key_changed")), "{problem}");
    assert!(kept(&ann).await.1 && is_marked(&ann, "after").await, "nothing has changed");

    let (status, answer) = confirm(&ann, &handle, &changed.key()).await;
    let confirmed = json!({ "results": [{ "handle": bob.handle, "updated": false, "confirmed": true }] });
    assert_eq!((status, &answer), (200, &confirmed));
    assert_eq!((kept(&ann).await, is_marked(&ann, "after").await), ((changed.key(), false), false));
    assert_eq!(confirm(&ann, &handle, &changed.key()).await.0, 200, "once more is no harm");
    share(&peer, &changed, &ann, "later").await;
    assert!(!is_marked(&ann, "later").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_message_under_another_key_marks_the_friendship_also_when_it_is_refused() {
    let (_node, peer, ann, bob) = scene().await;
    let kinds = [
        (MessageType::FriendInvite, 202),
        (MessageType::FriendAccept, 202),
        (MessageType::FriendReject, 400),
        (MessageType::ResourceShare, 400),
        (MessageType::LocationUpdate, 400),
    ];
    for (kind, expected) in kinds {
        assert!(!kept(&ann).await.1, "before {kind}");
        let changed = peer.user("bob");
        let (status, answer) = send(&peer, &changed, &ann, kind).await;
        assert_eq!(status, expected, "{kind}: {answer}");
        assert_eq!(kept(&ann).await, (changed.key(), true), "after {kind}");
        assert_eq!(confirm(&ann, &json!(bob.handle), &changed.key()).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_under_another_key_is_carried_out_and_one_that_ends_nothing_marks_the_friendship() {
    let (_node, peer, ann, bob) = scene().await;
    share(&peer, &bob, &ann, "c1").await;
    let changed = peer.user("bob");
    let too_old = now().plus_millis(-250_000);
    let revoke = MessageType::RelationshipRevoke;
    let (status, answer) = send_at(&peer, &changed, &ann, revoke, JsonObject::new(), too_old).await;
    assert_eq!((status, &answer["applied"]), (202, &json!(false)), "{answer}");
    assert_eq!(kept(&ann).await, (changed.key(), true));
    let (status, answer) = send(&peer, &changed, &ann, revoke).await;
    assert_eq!((status, &answer["applied"]), (202, &json!(true)), "what a reset looks like: {answer}");
    assert!(ann.friends().await.is_empty());
    let (_, shares) = ann.ask(Method::GET, "/sharing/incoming", Value::Null).await;
    assert_eq!(shares["shares"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepting_an_invitation_of_a_friend_does_not_confirm_their_new_key() {
    let (_node, peer, ann, _bob) = scene().await;
    let changed = peer.user("bob");
    assert_eq!(send(&peer, &changed, &ann, MessageType::FriendInvite).await.0, 202);
    ann.accept(&changed.handle).await;
    assert_eq!(
        kept(&ann).await,
        (changed.key(), true),
        "the friendship has been renewed, the key not compared"
    );
    share(&peer, &changed, &ann, "c1").await;
    assert!(is_marked(&ann, "c1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirming_one_key_confirms_nothing_that_another_has_signed() {
    let (_node, peer, ann, bob) = scene().await;
    let attacker = peer.user("bob");
    share(&peer, &attacker, &ann, "forged").await;
    let renewed = peer.user("bob");
    share(&peer, &renewed, &ann, "honest").await;
    let handle = json!(bob.handle);
    assert_eq!(confirm(&ann, &handle, &attacker.key()).await.0, 409, "it is another one by now");
    assert_eq!(confirm(&ann, &handle, &renewed.key()).await.0, 200);
    assert!(!is_marked(&ann, "honest").await && is_marked(&ann, "forged").await);
    share(&peer, &renewed, &ann, "forged").await;
    assert!(!is_marked(&ann, "forged").await, "sent again under the key that was compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_on_one_node_are_marked_like_friends_elsewhere() {
    let node = TestNode::start().await;
    let (ann, mut ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    let share = async |ben: &Person, id: &str| {
        let body = json!({ "recipientHandle": ann.handle(), "resourceType": "map", "resourceId": id });
        let (status, answer) = ben.ask(Method::POST, "/sharing", body).await;
        assert_eq!(status, 200, "{answer}");
    };
    share(&ben, "before").await;
    ben.new_keys().await;
    share(&ben, "after").await;
    let key = ben.client.identity().await.unwrap().signing_key.unwrap().to_base64();
    assert_eq!(kept(&ann).await, (key.clone(), true));
    assert!(is_marked(&ann, "after").await && !is_marked(&ann, "before").await);
    assert_eq!(confirm(&ann, &json!(ben.handle()), &key).await.0, 200);
    assert_eq!((kept(&ann).await.1, is_marked(&ann, "after").await), (false, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_names_a_friend_and_a_key() {
    let (_node, peer, ann, bob) = scene().await;
    let changed = peer.user("bob");
    share(&peer, &changed, &ann, "c1").await;
    let (handle, key) = (json!(bob.handle), json!(changed.key()));
    for (body, status, code) in [
        (json!({ "handle": handle }), 422, "validation_failed"),
        (json!({ "signingKey": key }), 422, "validation_failed"),
        (json!({ "handle": handle, "signingKey": 1 }), 422, "validation_failed"),
        (json!({ "handle": "no handle", "signingKey": key }), 400, "invalid_handle"),
        (json!({ "handle": handle, "signingKey": "no key" }), 400, "invalid_key"),
        (json!({ "handle": "nobody@peer.example", "signingKey": key }), 404, "friend_not_found"),
    ] {
        let (found, problem) = ann.ask(Method::POST, "/friends/sync-keys", body.clone()).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{body}: {problem}");
    }
    assert!(kept(&ann).await.1 && is_marked(&ann, "c1").await);
}
