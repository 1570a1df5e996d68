//! Looking people up at other nodes: how often, and for how long what was found serves.

use serde_json::{Value, json};
use vellum_client::http::Method;
use vellum_protocol::{JsonObject, MessageType};

#[cfg(debug_assertions)]
use crate::support::Steered;
use crate::support::{Documents, Peer, PeerUser, Person, TestNode, fields, now, plain_http, wait_for};

const LIMITED: (&str, &str) = ("VELLUM_LIMITS__ENABLED", "true");

/// The status, and what `Retry-After` says.
async fn ask(
    node: &TestNode,
    person: &Person,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Option<u64>) {
    let request = plain_http().request(method, format!("{}{path}", node.process.origin()));
    let request = request.bearer_auth(person.client.token().unwrap().expose()).json(&body);
    let answer = request.send().await.unwrap();
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    (answer.status().as_u16(), after)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_look_up_invite_and_compare_keys_so_often_a_minute() {
    let node = TestNode::start_with(&[
        LIMITED,
        ("VELLUM_LIMITS__RESOLVES_PER_MINUTE", "2"),
        ("VELLUM_LIMITS__INVITES_PER_MINUTE", "2"),
        ("VELLUM_LIMITS__KEY_SYNCS_PER_MINUTE", "2"),
    ])
    .await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let resolve = format!("/friends/resolve/{}", ben.handle());
    for (method, path, body, well) in [
        (Method::GET, resolve.as_str(), Value::Null, 200),
        (Method::POST, "/friends/invite", json!({ "handle": "no handle" }), 400),
        (Method::POST, "/friends/sync-keys", json!({}), 200),
    ] {
        for _ in 0..2 {
            assert_eq!(ask(&node, &ann, method.clone(), path, body.clone()).await.0, well, "{path}");
        }
        let (status, after) = ask(&node, &ann, method.clone(), path, body.clone()).await;
        assert!(status == 429 && after.is_some_and(|after| after > 0), "{path}: {status}, {after:?}");
        assert_eq!(ask(&node, &ben, method, path, body).await.0, well, "{path}: others have their own limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_look_people_up_anew_each_time_and_one_peer_is_asked_so_often_a_minute() {
    let most = ("VELLUM_LIMITS__LOOKUPS_PER_PEER_PER_MINUTE", "3");
    let node = TestNode::start_with(&[LIMITED, most]).await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let (peer, other) = (Peer::start().await, Peer::start().await);
    let (bob, carl) = (peer.user("bob"), other.user("carl"));
    let resolve = format!("/friends/resolve/{}", bob.handle);
    for asked in 1..=3 {
        assert_eq!(ask(&node, &ann, Method::GET, &resolve, Value::Null).await.0, 200);
        assert_eq!(peer.documents_asked(), asked, "each time anew");
    }
    let mut invite = fields(&ben.signer().invite(&bob.handle, now(), &mut rand::rng()));
    invite["handle"] = json!(bob.handle);
    for (method, path, body) in
        [(Method::GET, resolve.as_str(), Value::Null), (Method::POST, "/friends/invite", invite)]
    {
        let (status, after) = ask(&node, &ben, method, path, body).await;
        assert!(status == 429 && after.is_some_and(|after| after > 30), "{path}: {status}, {after:?}");
    }
    assert_eq!(peer.documents_asked(), 3, "it is not asked any more");
    let elsewhere = format!("/friends/resolve/{}", carl.handle);
    assert_eq!(ask(&node, &ann, Method::GET, &elsewhere, Value::Null).await.0, 200, "another peer is");
    assert_eq!(peer.try_invite(&bob, &ann.handle()).await.0, 202, "messages do not count");
}

/// A release's clock cannot be put ahead.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_many_friends_keys_is_compared_later_and_goes_on_by_itself() {
    let most = ("VELLUM_LIMITS__LOOKUPS_PER_PEER_PER_MINUTE", "4");
    let ahead = Steered::start(&[LIMITED, most]).await;
    let (ann, peer) = (ahead.node.person("ann").await, Peer::start().await);
    for n in 0..6 {
        let friend = peer.friend_of(&ann, &format!("friend{n}")).await;
        peer.renew(&friend);
    }
    let asked = peer.documents_asked();
    let synced = ann.client.sync_friend_keys().await.unwrap();
    let later = synced.iter().filter(|friend| friend.error.as_deref() == Some("later")).count();
    let updated = synced.iter().filter(|friend| friend.updated).count();
    assert_eq!((updated, later), (4, 2), "{synced:?}");
    assert_eq!(peer.documents_asked(), asked + 4);
    ahead.after(61_000);
    wait_for(
        "the keys of all are compared",
        || async {
            let (_, list) = ann.ask(Method::GET, "/friends", Value::Null).await;
            list["friends"].as_array().unwrap().clone()
        },
        |friends| friends.iter().all(|friend| friend["keysChangedAt"].is_string()),
    )
    .await;
    assert_eq!(peer.documents_asked(), asked + 6, "each was asked for once");
}

/// A message that is taken whatever was sent before: the status, and what `Retry-After` says.
async fn revoke(peer: &Peer, from: &PeerUser, to: &Person) -> (u16, Option<String>) {
    let kind = MessageType::RelationshipRevoke;
    let to = to.handle();
    let envelope = from.signer.envelope(kind, &to, JsonObject::new(), now(), &mut rand::rng());
    let answer = peer.request(to.domain(), &envelope.to_json()).post_for_answer().await;
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), after)
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn for_messages_a_document_serves_ten_seconds_or_less_and_a_minute_while_the_peer_refuses() {
    let ahead = Steered::start(&[]).await;
    let (ann, peer) = (ahead.node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    let taken = (202, None);
    // What the peer asks for makes it shorter, and never longer.
    peer.set_documents(Documents::KeptFor(3600));
    assert_eq!(revoke(&peer, &bob, &ann).await, taken);
    assert_eq!(revoke(&peer, &bob, &ann).await, taken);
    assert_eq!(peer.documents_asked(), 1, "the second is verified with what was fetched for the first");
    ahead.after(11_000);
    peer.set_documents(Documents::KeptFor(0));
    for asked in 2..=3 {
        assert_eq!(revoke(&peer, &bob, &ann).await, taken);
        assert_eq!(peer.documents_asked(), asked, "it is fetched again");
    }
    for status in [429, 503] {
        peer.set_documents(Documents::Refused(status));
        assert_eq!(
            revoke(&peer, &bob, &ann).await,
            taken,
            "kept for a minute, since the peer answers {status}"
        );
    }
    ahead.after((11 + 61) * 1000);
    for (status, answered, after) in [(429, 429, Some("8")), (503, 503, Some("7"))] {
        peer.set_documents(Documents::Refused(status));
        let (told, wait) = revoke(&peer, &bob, &ann).await;
        assert_eq!((told, wait.as_deref()), (answered, after), "the peer answers {status}");
    }
    peer.set_documents(Documents::Refused(404));
    assert_eq!(revoke(&peer, &bob, &ann).await, (400, None), "this says something of the sender");
    peer.set_documents(Documents::Shown);
    assert_eq!(revoke(&peer, &bob, &ann).await, taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_fetched_for_a_message_does_not_hide_a_changed_key_from_a_user() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    let before = ann.client.resolve_friend(&bob.handle).await.unwrap().signing_key;
    // So that the document is kept for messages.
    peer.try_invite(&bob, &ann.handle()).await;
    peer.renew(&bob);
    assert!(ann.client.sync_friend_keys().await.unwrap()[0].updated, "the new key is seen at once");
    peer.renew(&bob);
    let after = ann.client.resolve_friend(&bob.handle).await.unwrap().signing_key;
    assert_ne!(before, after, "and so is the next");
}
