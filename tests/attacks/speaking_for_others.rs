//! The attacker runs a node, with a key and a manifest of its own, and sends messages that are from users of another
//! node: signed with a key of his, or captured. He would end other people's friendships, or begin some in their names.
//! What stops him: a message's sender belongs to the server that sends it, the server proves itself with the key of
//! its own name, and its documents count for its own name and users only.

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};
use vellum_client::{MasterSeed, Signer};
use vellum_protocol::{Domain, Json, JsonObject, MessageType, SigningSecret};

use super::server;
use crate::support::{Peer, PeerUser, Person, TestNode, now};

struct Scene {
    node: TestNode,
    good: Peer,
    evil: Peer,
    ann: Person,
    bob: PeerUser,
}

/// Ann here and bob on a good node are friends.
async fn scene() -> Scene {
    let (node, good, evil) = (TestNode::start().await, Peer::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, good.user("bob"));
    good.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.await_friends(&[&bob.handle]).await;
    Scene { node, good, evil, ann, bob }
}

impl Scene {
    fn domain(&self) -> Domain {
        Domain::parse(&self.node.process.domain()).unwrap()
    }

    fn revocation(&self, signer: &Signer) -> Json {
        let kind = MessageType::RelationshipRevoke;
        signer.envelope(kind, &self.ann.handle(), JsonObject::new(), now(), &mut rand::rng()).to_json()
    }

    /// The friendship stands, and its other side can end it.
    async fn nothing_has_happened(&self) {
        assert_eq!(self.ann.friends().await, std::slice::from_ref(&self.bob.handle));
        assert!(self.ann.client.invitations(Direction::Incoming).await.unwrap().is_empty());
        let honest = self.revocation(&self.bob.signer);
        let (status, answer) = self.good.request(&self.domain(), &honest).post().await;
        assert_eq!((status, &answer["applied"]), (202, &json!(true)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_for_its_own_users_only() {
    let scene = scene().await;
    let mallory = Signer::new(scene.bob.handle.clone(), MasterSeed::from_bytes([6; 32]).signing_secret());
    let anns_own = Signer::new(scene.ann.handle(), MasterSeed::from_bytes([6; 32]).signing_secret());
    let cases = [
        (scene.revocation(&mallory), "bob's name under another key"),
        (scene.revocation(&scene.bob.signer), "captured: bob's very own signature"),
        (scene.revocation(&anns_own), "the recipient's own name"),
    ];
    for (message, case) in cases {
        let (status, answer) = scene.evil.request(&scene.domain(), &message).post().await;
        let words = "Sender is not on the sending server";
        assert_eq!((status, answer["message"].as_str()), (400, Some(words)), "{case}");
    }
    scene.nothing_has_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_proves_itself_with_the_key_of_the_name_that_it_gives() {
    let scene = scene().await;
    let message = scene.revocation(&scene.bob.signer);
    let mut request = scene.good.request(&scene.domain(), &message);
    request.secret = SigningSecret::from_seed([6; 32]);
    let (status, answer) = request.post().await;
    let words = format!("Federation auth failed: Invalid server signature from {}", scene.good.domain());
    assert_eq!((status, answer["message"].as_str()), (401, Some(words.as_str())));

    let mut request = scene.evil.request(&scene.domain(), &message);
    request.server_id = scene.node.process.domain();
    let (status, answer) = request.post().await;
    assert_eq!(status, 401, "this node's own name: {answer}");
    scene.nothing_has_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_in_anothers_name_neither_counts_nor_occupies_that_names_place() {
    let node = TestNode::start().await;
    let (ann, good) = (node.person("ann").await, Peer::start().await);
    let bob = good.user("bob");
    let evil = Peer::start_with(json!({ "server_id": good.domain() })).await;
    let mallory = evil.user("mallory");
    let (status, answer) = evil.try_invite(&mallory, &ann.handle()).await;
    assert_eq!(status, 401, "{answer}");
    let mut as_good = evil.request(
        &Domain::parse(&node.process.domain()).unwrap(),
        &bob.signer
            .envelope(MessageType::FriendInvite, &ann.handle(), JsonObject::new(), now(), &mut rand::rng())
            .to_json(),
    );
    as_good.server_id = good.domain().to_string();
    assert_eq!(as_good.post().await.0, 401, "signed by the other one");
    good.invite(&bob, &ann.handle()).await;
    let shown = node.process.run(&["peer", "show", good.domain().as_str(), "--json"]).await.unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["publicKey"], good.server_key(), "its place was free for its own key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_about_somebody_elses_user_is_not_believed() {
    let scene = scene().await;
    let victim = scene.bob.handle.to_string();
    for name_of_victim in [false, true] {
        let victim = victim.clone();
        let evil = server(move |port, head| {
            let seed = MasterSeed::from_bytes([6; 32]);
            let handle = if name_of_victim { victim.clone() } else { format!("bob@localhost:{port}") };
            let document = match head.contains("parchment-server") {
                true => json!({
                    "server_id": format!("localhost:{port}"), "protocol_versions": [2], "capabilities": [],
                    "public_key": seed.signing_secret().public(),
                }),
                false => json!({
                    "handle": handle, "signingKey": seed.signing_secret().public(),
                    "encryptionKey": seed.encryption_key(), "inbox": format!("http://localhost:{port}/federation/inbox"),
                }),
            };
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{document}").into_bytes()
        })
        .await;
        let path = format!("/friends/resolve/bob@localhost:{}", evil.port);
        let (status, answer) = scene.ann.ask(Method::GET, &path, Value::Null).await;
        let expected = if name_of_victim { 502 } else { 200 };
        assert_eq!(status, expected, "only its own: {answer}");
    }
    scene.nothing_has_happened().await;
}
