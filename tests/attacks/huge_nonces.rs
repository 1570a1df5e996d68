//! The attacker is a node, or has an account on one, and signs envelopes whose nonces are not
//! nonces: 62 kilobytes long, with characters that a database does not keep, or the nonce of an
//! earlier envelope in another spelling. He would fill the disk with what has to be remembered for
//! a week, or have an envelope count as another one. What stops him: a nonce is base64 of 8 to 64
//! bytes and is remembered in the one spelling of its bytes.

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};
use vellum_protocol::{JsonObject, MessageType, base64};

use crate::support::{Database, Peer, TestNode, fields, now};

/// Texts that are no nonce, with what is wrong with them.
fn bad_nonces() -> Vec<(&'static str, String)> {
    vec![
        ("62 kB of base64", base64::encode(&[7; 46_000])),
        ("65 bytes", base64::encode(&[7; 65])),
        ("7 bytes", base64::encode(&[7; 7])),
        ("not base64", "a nonce, but no base64!!".into()),
        ("base64url", "__________-_-_-_-_-_-A".into()),
        ("base64 with U+0000", format!("{}\0", base64::encode(&[7; 16]))),
        ("a control character", format!("{}\u{85}", base64::encode(&[7; 16]))),
        ("16 bytes among 62 kB of spaces", format!("{}{}", " ".repeat(50_000), base64::encode(&[7; 16]))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_whose_nonce_is_none_is_refused_and_leaves_nothing_long_behind() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let kind = MessageType::FriendInvite;
    let database = Database::of(&node).await;
    let revoke =
        |nonce: &str| bob.envelope(MessageType::RelationshipRevoke, &ann.handle(), JsonObject::new(), nonce);
    for (what, nonce) in bad_nonces() {
        for envelope in [bob.envelope(kind, &ann.handle(), JsonObject::new(), &nonce), revoke(&nonce)] {
            let (status, answer) = peer.send(&envelope).await;
            assert_eq!(status, 400, "{what}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains("nonce"), "it says what is wrong: {answer}");
        }
    }
    assert!(ann.client.invitations(Direction::Incoming).await.unwrap().is_empty(), "none was carried out");
    let all = database.snapshot().await;
    let long: Vec<&str> = all.longer_than(5_000).into_iter().map(|row| &row[..200]).collect();
    assert!(long.is_empty(), "something long was kept: {long:?}");

    for length in [8, 64] {
        let good = revoke(&base64::encode(&vec![9; length]));
        assert_eq!(peer.send(&good).await.0, 202, "{length} bytes are a nonce");
    }
    assert_eq!(peer.try_invite(&bob, &ann.handle()).await.0, 202, "and 16 are what everybody sends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_in_another_spelling_is_the_same_nonce() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let nonce = base64::encode(&rand::random::<[u8; 16]>());
    let spellings = [nonce.trim_end_matches('=').to_owned(), format!("{} {}", &nonce[..8], &nonce[8..])];
    let kind = MessageType::RelationshipRevoke;
    let first = bob.envelope(kind, &ann.handle(), JsonObject::new(), &nonce);
    assert_eq!(peer.send(&first).await.0, 202);
    for spelling in &spellings {
        // Signed anew by its author: another envelope under a used nonce.
        let again = bob.envelope(kind, &ann.handle(), JsonObject::new(), spelling);
        let (status, answer) = peer.send(&again).await;
        assert_eq!(
            (status, &answer["message"]),
            (400, &json!("Replayed message nonce")),
            "{spelling}: {answer}"
        );
        // The old signature covers the text as it was.
        let mut respelled = first.clone();
        respelled.content.nonce.clone_from(spelling);
        let (status, answer) = peer.send(&respelled).await;
        assert_eq!((status, &answer["message"]), (400, &json!("Invalid signature")), "{spelling}: {answer}");
    }
    assert_eq!(peer.send(&first).await.0, 202, "the same envelope is answered as before");

    // The request's own nonce, likewise.
    let envelope = bob.envelope(kind, &ann.handle(), JsonObject::new(), &base64::encode(&[3; 16]));
    let mut request = peer.request(envelope.content.to.domain(), &envelope.to_json());
    assert_eq!(request.post().await.0, 202);
    request.nonce = request.nonce.trim_end_matches('=').to_owned();
    let (status, answer) = request.post().await;
    assert_eq!(
        (status, &answer["message"]),
        (401, &json!("Federation auth failed: Replayed nonce")),
        "signed anew under the same bytes: {answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_nonce_is_none_is_refused() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    for (what, nonce) in bad_nonces().into_iter().filter(|(_, nonce)| !nonce.contains(['\0', '\u{85}'])) {
        // A header has no room for more than some kilobytes.
        let nonce: String = nonce.trim().chars().take(8_000).collect();
        if base64::decode(&nonce).is_ok_and(|bytes| (8..=64).contains(&bytes.len())) {
            continue;
        }
        let kind = MessageType::FriendInvite;
        let envelope = bob.signer.envelope(kind, &ann.handle(), JsonObject::new(), now(), &mut rand::rng());
        let mut request = peer.request(envelope.content.to.domain(), &envelope.to_json());
        request.nonce = nonce;
        let (status, answer) = request.post().await;
        assert_eq!(
            (status, &answer["message"]),
            (401, &json!("Federation auth failed: Malformed nonce")),
            "{what}: {answer}"
        );
    }
    assert_eq!(peer.try_invite(&bob, &ann.handle()).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_client_cannot_have_such_a_nonce_sent_either() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let mut ann = node.person("ann").await;
    let bob = peer.friend_of(&ann, "bob").await;
    let (carol, dora) = (peer.user("carol"), peer.user("dora"));
    peer.invite(&dora, &ann.handle()).await;
    let invitation = ann.invitation_from(&dora.handle).await.id;
    let received = peer.received().len();
    let payload = JsonObject::from_iter(
        [
            ("resourceType", "map"),
            ("resourceId", "m"),
            ("encryptedData", "AgE="),
            ("nonce", "bm9uY2U="),
            ("role", "viewer"),
        ]
        .map(|(name, value)| (name, vellum_protocol::Json::from(value))),
    );
    for (what, nonce) in bad_nonces() {
        // Nothing with a control character or so long is a text of a field.
        let is_text = nonce.len() <= 4096 && !nonce.contains(['\0', '\u{85}']);
        let expected = if is_text { (400, "invalid_nonce") } else { (422, "validation_failed") };
        let sign = |kind, to: &vellum_protocol::Handle| ann.sign_with(kind, to, JsonObject::new(), &nonce);
        let mut invite = fields(&sign(MessageType::FriendInvite, &carol.handle));
        invite["handle"] = json!(carol.handle);
        let accept = fields(&sign(MessageType::FriendAccept, &dora.handle));
        let shared = ann.sign_with(MessageType::ResourceShare, &bob.handle, payload.clone(), &nonce);
        let share = json!({
            "recipientHandle": bob.handle, "resourceType": "map", "resourceId": "m", "encryptedData": "AgE=",
            "nonce": "bm9uY2U=", "role": "viewer", "federationSignature": shared.signature,
            "federationNonce": shared.nonce, "federationTimestamp": shared.timestamp,
        });
        for (path, body) in [
            ("/friends/invite", invite),
            (&format!("/friends/invitations/{invitation}/accept"), accept),
            ("/sharing", share),
        ] {
            let (status, answer) = ann.ask(Method::POST, path, body).await;
            assert_eq!(
                (status, answer["code"].as_str()),
                (expected.0, Some(expected.1)),
                "{what} {path}: {answer}"
            );
        }
    }
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    let kind = MessageType::RelationshipRevoke;
    let mut item = fields(&ann.sign_with(kind, &bob.handle, JsonObject::new(), &base64::encode(&[7; 65])));
    item["peerHandle"] = json!(bob.handle);
    let (status, answer) = ann.flush_raw(json!([item])).await;
    assert_eq!((status, &answer["results"][0]["code"]), (200, &json!("invalid_nonce")), "{answer}");
    let told = answer["results"][0]["error"].as_str().unwrap();
    assert!(told.contains("base64 of 8 to 64 bytes"), "it says what a nonce is: {told}");
    assert_eq!(peer.received().len(), received, "nothing of it was sent");
    let flushed = ann.flush(std::slice::from_ref(&bob.handle)).await;
    assert!(flushed[0].delivered, "an honest one goes: {flushed:?}");
    let (status, _) = ann.ask(Method::GET, "/users/me/revocations/pending", Value::Null).await;
    assert_eq!(status, 200);
}
