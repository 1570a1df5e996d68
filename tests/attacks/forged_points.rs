//! The attacker registers keys for which anybody can make signatures (points of small order), or changes a good
//! signature into another one of the same bytes (S plus the group's order). He would have messages accepted that
//! nobody signed, or one message counted twice. What stops him: weak keys are refused at registration and in other
//! nodes' documents, and verification is strict.

use serde_json::json;
use vellum_client::http::Method;
use vellum_protocol::{Domain, JsonObject, MessageType, base64};

use crate::support::{Peer, TestNode, now};

/// Points of order 1, 2, 4 and 8, and encodings of them that are not canonical.
const SMALL_ORDER: [&str; 6] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];
/// The order of the group, least byte first.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn keys_that_anybody_can_sign_for_are_not_registered() {
    let node = TestNode::start().await;
    let mallory = node.user("mallory").await;
    let good = vellum_client::MasterSeed::generate(&mut rand::rng());
    for point in SMALL_ORDER {
        let body =
            json!({ "signingKey": base64::encode(&bytes(point)), "encryptionKey": good.encryption_key() });
        let (status, answer) = mallory.ask(Method::PUT, "/users/me/keys", body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_key")), "{point}: {answer}");
    }
    let body =
        json!({ "signingKey": good.signing_secret().public(), "encryptionKey": good.encryption_key() });
    mallory.ask_for(200, Method::PUT, "/users/me/keys", body).await;
}

/// The same signature with S + L instead of S: loose verifiers take it.
fn malleated(signature: &str) -> String {
    let mut bytes = base64::decode_exact::<64>(signature).unwrap();
    let mut carry = 0_u16;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    base64::encode(&bytes)
}

#[tokio::test]
async fn a_signature_has_one_form() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let domain = Domain::parse(&node.process.domain()).unwrap();
    let invite = bob.signer.envelope(
        MessageType::FriendInvite,
        &ann.handle(),
        JsonObject::new(),
        now(),
        &mut rand::rng(),
    );
    let mut request = peer.request(&domain, &invite.to_json());
    request.signature = Some(malleated(&request.signature()));
    assert_eq!(request.post().await.0, 401, "of the server");
    let mut json: serde_json::Value = serde_json::from_str(&invite.to_json().canonical()).unwrap();
    json["signature"] = json!(malleated(json["signature"].as_str().unwrap()));
    let changed = vellum_protocol::Json::try_from(json).unwrap();
    assert_eq!(peer.request(&domain, &changed).post().await.0, 400, "of the user");
    assert_eq!(peer.send(&invite).await.0, 202, "the honest one is taken");
}
