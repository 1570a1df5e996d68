//! Sharing with friends, on one node and across two.

use serde_json::{Value, json};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::Method;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::{Handle, Json, JsonObject, MessageType};

use crate::support::{Peer, Person, TestNode, now, wait_for};

fn resource(id: &str, data: &str) -> SharedResource {
    let ciphertext = SharedCiphertext { encrypted_data: data.into(), nonce: "WoyOsQE8QeFAtxhm".into() };
    SharedResource {
        resource_type: "collection".into(),
        resource_id: id.into(),
        ciphertext,
        role: ShareRole::Editor,
    }
}

/// The body of a share, with what a recipient elsewhere needs.
pub fn signed_share(person: &Person, to: &Handle, shared: &SharedResource) -> Value {
    let signed = person.signer().share(to, shared, now(), &mut rand::rng());
    json!({
        "recipientHandle": to,
        "resourceType": shared.resource_type,
        "resourceId": shared.resource_id,
        "encryptedData": shared.ciphertext.encrypted_data,
        "nonce": shared.ciphertext.nonce,
        "role": shared.role,
        "federationSignature": signed.signature,
        "federationNonce": signed.nonce,
        "federationTimestamp": signed.timestamp,
    })
}

async fn shares(person: &Person, list: &str) -> Vec<Value> {
    let (status, body) = person.ask(Method::GET, &format!("/sharing/{list}"), Value::Null).await;
    assert_eq!(status, 200, "{body}");
    body["shares"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_share_on_one_node_is_on_both_sides_at_once_and_ends_on_both() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let bare = json!({ "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": "c1" });
    let (status, problem) = ann.ask(Method::POST, "/sharing", bare.clone()).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("not_a_friend")));
    ann.befriend(&ben).await;
    let (status, share) = ann.ask(Method::POST, "/sharing", bare.clone()).await;
    assert_eq!((status, &share["status"], &share["role"]), (200, &json!("accepted"), &json!("viewer")));
    assert!(share["recipientUserId"].is_string() && share["acceptedAt"].is_string());
    assert_eq!(shares(&ben, "incoming").await[0]["senderHandle"], json!(ann.handle()));

    let path = format!("/sharing/{}", share["id"].as_str().unwrap());
    let (status, changed) = ann.ask(Method::PATCH, &path, json!({ "role": "editor" })).await;
    assert_eq!((status, &changed["role"], &changed["id"]), (200, &json!("editor"), &share["id"]));
    assert_eq!(shares(&ben, "incoming").await[0]["role"], "editor");
    let mut replaced = bare.clone();
    replaced["encryptedData"] = json!("new");
    replaced["nonce"] = json!("n");
    ann.ask_for(200, Method::PUT, "/sharing/envelope", replaced).await;
    assert_eq!(shares(&ben, "incoming").await[0]["encryptedData"], "new");
    assert_eq!(shares(&ann, "outgoing/collection/c1").await.len(), 1);
    assert!(shares(&ann, "outgoing/collection/other").await.is_empty());

    let (status, _) = ben.ask(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, 404, "not ben's to end");
    ann.ask_for(200, Method::POST, &format!("{path}/revoke"), Value::Null).await;
    assert!(shares(&ann, "outgoing").await.is_empty() && shares(&ben, "incoming").await.is_empty());
    ann.ask_for(404, Method::DELETE, &path, Value::Null).await;
}

#[tokio::test]
async fn a_share_reaches_a_friend_on_another_node_as_signed_and_ends_with_the_friendship() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    let shared = resource("c1", "v7B/");
    let mut unsigned = signed_share(&ann, &ben.handle(), &shared);
    unsigned["federationSignature"] = Value::Null;
    let (status, problem) = ann.ask(Method::POST, "/sharing", unsigned).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("envelope_required")));
    let mut altered = signed_share(&ann, &ben.handle(), &shared);
    altered["role"] = json!("viewer");
    let (status, problem) = ann.ask(Method::POST, "/sharing", altered).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("bad_signature")));
    assert!(shares(&ann, "outgoing").await.is_empty(), "a refused share leaves nothing");

    let (status, share) = ann.ask(Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &shared)).await;
    assert_eq!((status, &share["status"]), (200, &json!("pending")), "{share}");
    let pending = shares(&ben, "incoming/pending").await;
    assert_eq!(
        (pending.len(), &pending[0]["role"], &pending[0]["encryptedData"]),
        (1, &json!("editor"), &json!("v7B/"))
    );
    let id = pending[0]["id"].as_str().unwrap();
    let (status, accepted) =
        ben.ask(Method::POST, &format!("/sharing/incoming/{id}/accept"), Value::Null).await;
    assert_eq!((status, &accepted["status"]), (200, &json!("accepted")));
    assert!(shares(&ben, "incoming/pending").await.is_empty());

    // Again, with something new in it: the same row, and nobody is asked again.
    let renewed = resource("c1", "bmV3");
    ann.ask_for(200, Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &renewed)).await;
    let incoming = shares(&ben, "incoming").await;
    assert_eq!(
        (incoming.len(), &incoming[0]["encryptedData"], &incoming[0]["status"]),
        (1, &json!("bmV3"), &json!("accepted"))
    );

    let signed = ann.revocation(&ben.handle());
    ann.client.remove_friend(&ben.handle(), Some(&signed)).await.unwrap();
    wait_for("ben's side ends", || shares(&ben, "incoming"), |seen| seen.is_empty()).await;
    assert!(shares(&ann, "outgoing").await.is_empty());
}

#[tokio::test]
async fn a_share_counts_among_the_relationships_that_a_reset_has_to_tell() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    let bare = json!({ "recipientHandle": ben.handle(), "resourceType": "map", "resourceId": "m1" });
    ann.ask(Method::POST, "/sharing", bare).await;
    ann.client.reset_identity().await.unwrap();
    assert!(shares(&ann, "outgoing").await.is_empty());
    assert_eq!(ann.pending().await[0].peer_handle, ben.handle());
}

#[tokio::test]
async fn shares_from_peers_are_refused_with_the_protocols_words() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.user("bob");
    let send = async |payload: JsonObject| {
        let envelope =
            bob.signer.envelope(MessageType::ResourceShare, &ann.handle(), payload, now(), &mut rand::rng());
        let (status, answer) = peer.send(&envelope).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let good = resource("c1", "AA==").payload();
    let without = |name: &str| {
        let mut payload = good.clone();
        payload.remove(name);
        payload
    };
    for name in ["resourceType", "resourceId", "encryptedData", "nonce"] {
        assert_eq!(send(without(name)).await, (400, "Missing resource data".into()), "{name}");
    }
    let mut unknown = good.clone();
    unknown.insert("resourceType", Json::from("spaceship"));
    assert_eq!(send(unknown).await.0, 400);
    assert_eq!(send(good.clone()).await, (400, "Not a friend".into()));

    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    let mut odd_role = good.clone();
    odd_role.insert("role", Json::from("owner"));
    assert_eq!(send(odd_role).await.0, 202);
    assert_eq!(shares(&ann, "incoming").await[0]["role"], "viewer", "editor only for exactly that word");
    let id = shares(&ann, "incoming").await[0]["id"].as_str().unwrap().to_owned();
    ann.ask_for(200, Method::POST, &format!("/sharing/incoming/{id}/reject"), Value::Null).await;
    assert!(shares(&ann, "incoming").await.is_empty());
}

#[tokio::test]
async fn a_share_that_no_other_node_would_take_is_refused_before_it_leaves() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    for (data, nonce) in [("", "WoyOsQE8QeFAtxhm"), ("v7B/", "")] {
        let mut shared = resource("c1", data);
        shared.ciphertext.nonce = nonce.into();
        let (status, problem) =
            ann.ask(Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &shared)).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("payload_required")), "{problem}");
    }
    // Each of these takes six bytes in an envelope, which has to fit into 64 KiB.
    let swelling = resource("c1", &"\u{1}".repeat(9_000));
    let (status, problem) =
        ann.ask(Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &swelling)).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("encryptedData")), "{problem}");
    assert!(shares(&ann, "outgoing").await.is_empty());

    let long_id = resource(&"ü".repeat(200), "v7B/");
    ann.ask_for(200, Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &long_id)).await;
    assert_eq!(shares(&ben, "incoming").await.len(), 1, "both nodes count characters");
}
