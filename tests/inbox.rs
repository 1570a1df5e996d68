//! The inbox, as a peer meets it: what is taken, what is refused, and with which words.

use serde_json::{Value, json};
use vellum_client::SignedFields;
use vellum_client::http::Direction;
use vellum_protocol::{
    Domain, Envelope, Json, JsonObject, MessageType, SigningSecret, UnixMillis, legacy_signable,
};

use crate::support::{Peer, PeerUser, Person, Request, TestNode, now, wait_for};

struct Scene {
    node: TestNode,
    peer: Peer,
    ann: Person,
    bob: PeerUser,
}

/// Ann on the node under test, bob at the peer.
async fn scene() -> Scene {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.user("bob");
    Scene { node, peer, ann, bob }
}

impl Scene {
    fn domain(&self) -> Domain {
        Domain::parse(&self.node.process.domain()).unwrap()
    }

    fn signed(&self, kind: MessageType, at: UnixMillis) -> Envelope {
        self.bob.signer.envelope(kind, &self.ann.handle(), JsonObject::new(), at, &mut rand::rng())
    }

    async fn invited(&self) -> usize {
        self.ann.client.invitations(Direction::Incoming).await.unwrap().len()
    }

    /// Posts a changed message of bob's.
    async fn post(&self, message: &Json) -> (u16, Value) {
        self.peer.request(&self.domain(), message).post().await
    }

    /// Makes ann and bob friends.
    async fn befriend(&self) {
        let (status, answer) = self.peer.send(&self.signed(MessageType::FriendInvite, now())).await;
        assert_eq!(status, 202, "{answer}");
        self.ann.accept(&self.bob.handle).await;
    }
}

fn with(message: &Json, member: &str, value: Value) -> Json {
    let mut members = message.as_object().unwrap().clone();
    members.insert(member, Json::try_from(value).unwrap());
    Json::Object(members)
}

fn refusal(status: u16, message: &str) -> (u16, String) {
    (status, message.to_owned())
}

fn told((status, body): (u16, Value)) -> (u16, String) {
    (status, body["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_invitation_is_taken_once_and_shown() {
    let scene = scene().await;
    let invite = scene.signed(MessageType::FriendInvite, now());
    assert_eq!(scene.peer.send(&invite).await, (202, json!({ "success": true })));
    let shown = &scene.ann.client.invitations(Direction::Incoming).await.unwrap()[0];
    assert_eq!((&shown.from_handle, shown.status.as_str()), (&scene.bob.handle, "pending"));
    assert_eq!(shown.origin_server.as_deref(), Some(scene.peer.domain().as_str()));
    let another = scene.signed(MessageType::FriendInvite, now());
    assert_eq!(told(scene.peer.send(&another).await), refusal(400, "Invitation already exists"));
    assert_eq!(scene.peer.send(&invite).await.0, 202, "the same envelope again is answered as before");
    assert_eq!(scene.invited().await, 1);
}

#[tokio::test]
async fn requests_that_are_not_proven_are_refused_with_401_and_change_nothing() {
    let scene = scene().await;
    let invite = scene.signed(MessageType::FriendInvite, now()).to_json();
    let request = || scene.peer.request(&scene.domain(), &invite);
    let failed = |reason: String| refusal(401, &format!("Federation auth failed: {reason}"));
    let me = scene.peer.domain();

    let mut spoilt = request();
    spoilt.nonce.clear();
    assert_eq!(told(spoilt.post().await), failed("Missing federation headers".into()));
    for version in ["1", "3", "2.0", "2abc"] {
        let mut spoilt = request();
        spoilt.version = version.into();
        assert_eq!(told(spoilt.post().await), failed("Unsupported protocol version".into()), "{version}");
    }
    for offset in [-301_000, 301_000] {
        let mut spoilt = request();
        spoilt.timestamp = now().plus_millis(offset).to_rfc3339();
        assert_eq!(told(spoilt.post().await), failed("Timestamp outside acceptable skew".into()));
    }
    let mut spoilt = request();
    spoilt.secret = SigningSecret::from_seed([9; 32]);
    assert_eq!(told(spoilt.post().await), failed(format!("Invalid server signature from {me}")));
    let mut spoilt = request();
    spoilt.signature = Some("***".into());
    assert_eq!(told(spoilt.post().await), failed(format!("Malformed server signature from {me}")));
    let mut spoilt = request();
    spoilt.signature = Some(request().signature.unwrap_or_else(|| "AA==".into()));
    assert_eq!(spoilt.post().await.0, 401);
    let mut spoilt = request();
    spoilt.server_id = scene.domain().to_string();
    assert_eq!(spoilt.post().await.0, 401, "nobody else speaks as this node");
    let mut spoilt = request();
    spoilt.server_id = "not a domain".into();
    assert_eq!(spoilt.post().await.0, 401);
    let mut spoilt = request();
    spoilt.server_id = "localhost:1".into();
    assert_eq!(spoilt.post().await.0, 401, "a server without a manifest");

    let (status, body) = {
        let mut spoilt = request();
        spoilt.version = "9".into();
        spoilt.post().await
    };
    assert_eq!((status, &body["supported_protocol_versions"]), (401, &json!([2])));
    assert_eq!(scene.invited().await, 0);
}

#[tokio::test]
async fn a_transport_is_taken_once_and_a_failed_one_uses_no_nonce_up() {
    let scene = scene().await;
    let invite = scene.signed(MessageType::FriendInvite, now()).to_json();
    let request = scene.peer.request(&scene.domain(), &invite);
    let mut forged = scene.peer.request(&scene.domain(), &invite);
    forged.nonce.clone_from(&request.nonce);
    forged.secret = SigningSecret::from_seed([9; 32]);
    assert_eq!(forged.post().await.0, 401);
    assert_eq!(request.post().await.0, 202, "the forged request did not use the nonce up");
    assert_eq!(told(request.post().await), refusal(401, "Federation auth failed: Replayed nonce"));
}

#[tokio::test]
async fn messages_are_refused_in_the_protocols_order_with_its_words() {
    let scene = scene().await;
    let good = scene.signed(MessageType::FriendInvite, now()).to_json();
    let carol = scene.peer.user("carol");
    let elsewhere = json!("ann@elsewhere.example");
    for (member, value, status, message) in [
        ("to", json!("no handle"), 400, "Invalid message structure"),
        ("signature", json!(""), 400, "Invalid message structure"),
        ("to", elsewhere, 400, "Recipient is not on this server"),
        ("from", json!("bob@elsewhere.example"), 400, "Sender is not on the sending server"),
        (
            "timestamp",
            json!(now().plus_millis(-301_000).to_rfc3339()),
            400,
            "Message timestamp outside acceptable skew",
        ),
        ("timestamp", json!("2026-11-23"), 400, "Message timestamp outside acceptable skew"),
        ("from", json!(format!("nobody@{}", scene.peer.domain())), 400, "Could not resolve sender"),
        ("nonce", json!(""), 400, "v2 message missing nonce or message_type"),
        ("protocol_version", json!(3), 400, "Unsupported protocol version"),
        ("protocol_version", json!(2.5), 400, "Unsupported protocol version"),
        ("signature", json!("***"), 400, "Malformed signature input: not base64 of 64 bytes"),
        ("from", json!(carol.handle), 400, "Invalid signature"),
        ("nonce", json!("AAAA"), 400, "Invalid signature"),
        ("payload", json!({ "x": 1 }), 400, "Invalid signature"),
        ("message_version", json!(2), 400, "Invalid signature"),
        ("message_type", json!("FRIEND_ACCEPT"), 400, "Invalid signature"),
        ("from", json!(7), 422, "from must be a string"),
        ("payload", Value::Null, 422, "payload must be an object"),
        ("message_version", json!("1"), 422, "message_version must be a number"),
    ] {
        let answer = told(scene.post(&with(&good, member, value.clone())).await);
        assert_eq!(answer, refusal(status, message), "{member}: {value}");
    }
    let unsupported = scene.signed(MessageType::RealtimeEvent, now());
    let answer = told(scene.peer.send(&unsupported).await);
    assert_eq!(
        answer,
        refusal(400, "Unsupported message type: REALTIME_EVENT"),
        "told to good signatures only"
    );
    assert_eq!(scene.invited().await, 0);
}

#[tokio::test]
async fn bodies_that_are_not_json_or_ambiguous_json_are_refused() {
    let scene = scene().await;
    for body in
        ["", "{", "[]x", r#"{"from":"a","from":"b"}"#, r#"{"__proto__":1}"#, "\"\\ud800\"", "{\"n\":1e999}"]
    {
        let mut request = scene.peer.request(&scene.domain(), &Json::Null);
        request.body = body.into();
        assert_eq!(request.post().await.0, 400, "{body}");
    }
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let mut request = scene.peer.request(&scene.domain(), &Json::Null);
    request.body = deep;
    assert_eq!(request.post().await.0, 400);
    let mut request = scene.peer.request(&scene.domain(), &Json::Null);
    request.body = "x".repeat(70_000);
    assert_eq!(request.post().await.0, 413);
}

#[tokio::test]
async fn version_1_is_taken_for_the_friend_types_only_and_never_with_a_payload() {
    let scene = scene().await;
    let secret_of_bob = |kind: &str| {
        let members =
            json!({ "from": scene.bob.handle, "to": scene.ann.handle(), "timestamp": now().to_rfc3339() });
        let fields = Json::try_from(members).unwrap().as_object().unwrap().clone();
        let signature = scene.bob.sign(legacy_signable(kind, &fields).as_bytes());
        let mut message = fields;
        message.insert("type", Json::from(kind));
        message.insert("signature", Json::String(signature));
        Json::Object(message)
    };
    let revoke = secret_of_bob("RELATIONSHIP_REVOKE");
    assert_eq!(told(scene.post(&revoke).await).0, 400, "not in version 1");
    let invite = secret_of_bob("FRIEND_INVITE");
    let laid_over = with(&invite, "payload", json!({ "type": "FRIEND_INVITE" }));
    assert_eq!(told(scene.post(&laid_over).await), refusal(400, "v1 message with a payload"));
    assert_eq!(scene.invited().await, 0);
    assert_eq!(scene.post(&invite).await.0, 202);
    assert_eq!(scene.post(&invite).await.0, 202, "the same once more is answered as before");
    assert_eq!(scene.invited().await, 1);
}

#[tokio::test]
async fn accepting_needs_an_invitation_and_rejecting_touches_only_ones_own() {
    let scene = scene().await;
    let ben = scene.node.person("ben").await;
    assert_eq!(
        told(scene.peer.send(&scene.signed(MessageType::FriendAccept, now())).await),
        refusal(400, "Original invitation not found")
    );
    scene.ann.invite(&scene.bob.handle).await;
    ben.invite(&scene.bob.handle).await;
    assert_eq!(scene.peer.send(&scene.signed(MessageType::FriendReject, now())).await.0, 202);
    assert!(scene.ann.client.invitations(Direction::Outgoing).await.unwrap().is_empty());
    assert_eq!(
        ben.client.invitations(Direction::Outgoing).await.unwrap().len(),
        1,
        "ben's invitation stands"
    );
    assert_eq!(
        told(scene.peer.send(&scene.signed(MessageType::FriendReject, now())).await),
        refusal(400, "Invitation not found")
    );
    let accept = scene.bob.signer.envelope(
        MessageType::FriendAccept,
        &ben.handle(),
        JsonObject::new(),
        now(),
        &mut rand::rng(),
    );
    assert_eq!(scene.peer.send(&accept).await, (202, json!({ "success": true })));
    assert_eq!(ben.friends().await, std::slice::from_ref(&scene.bob.handle));
    assert_eq!(scene.peer.send(&accept).await.0, 202, "a repetition is a success again");
}

#[tokio::test]
async fn a_revocation_ends_what_is_older_than_it_and_says_whether_there_was_anything() {
    let scene = scene().await;
    scene.befriend().await;
    let before = scene.signed(MessageType::RelationshipRevoke, now().plus_millis(-3_600_000));
    assert_eq!(
        scene.peer.send(&before).await,
        (202, json!({ "success": true, "applied": false })),
        "late, but within the window"
    );
    assert_eq!(scene.ann.friends().await, std::slice::from_ref(&scene.bob.handle), "the friendship is newer");
    let too_late = scene.signed(MessageType::RelationshipRevoke, now().plus_millis(-604_801_000));
    assert_eq!(
        told(scene.peer.send(&too_late).await),
        refusal(400, "Message timestamp outside acceptable skew")
    );
    let revoke = scene.signed(MessageType::RelationshipRevoke, now());
    assert_eq!(scene.peer.send(&revoke).await, (202, json!({ "success": true, "applied": true })));
    assert!(scene.ann.friends().await.is_empty());
    assert_eq!(
        scene.peer.send(&revoke).await,
        (202, json!({ "success": true, "applied": true })),
        "as before"
    );

    scene.befriend().await;
    assert_eq!(scene.peer.send(&revoke).await.0, 202);
    assert_eq!(
        scene.ann.friends().await,
        std::slice::from_ref(&scene.bob.handle),
        "a repeated one ends nothing newer"
    );
    let nobody = scene.bob.signer.envelope(
        MessageType::RelationshipRevoke,
        &format!("nobody@{}", scene.domain()).parse().unwrap(),
        JsonObject::new(),
        now(),
        &mut rand::rng(),
    );
    assert_eq!(scene.peer.send(&nobody).await, (202, json!({ "success": true, "applied": false })));
}

#[tokio::test]
async fn another_envelope_with_a_known_nonce_is_refused() {
    let scene = scene().await;
    scene.befriend().await;
    let revoke = scene.signed(MessageType::RelationshipRevoke, now());
    assert_eq!(scene.peer.send(&revoke).await.0, 202);
    let mut twin = revoke.content.clone();
    twin.timestamp = vellum_protocol::Timestamp::at(now().plus_millis(1));
    let signature = scene.bob.sign(twin.signable().as_bytes());
    let twin = twin.signed_with(vellum_protocol::Signature::parse(&signature).unwrap());
    assert_eq!(told(scene.peer.send(&twin).await), refusal(400, "Replayed message nonce"));
}

#[tokio::test]
async fn a_sender_whose_keys_changed_a_moment_ago_is_believed() {
    let scene = scene().await;
    scene.befriend().await;
    let renewed = scene.peer.user("bob");
    let SignedFields { signature, nonce, timestamp, message_version } =
        renewed.signer.revoke(&scene.ann.handle(), now(), &mut rand::rng());
    let envelope = vellum_protocol::EnvelopeContent {
        message_type: MessageType::RelationshipRevoke,
        message_version,
        from: renewed.handle.clone(),
        to: scene.ann.handle(),
        nonce,
        timestamp,
        payload: JsonObject::new(),
    }
    .signed_with(signature);
    assert_eq!(scene.peer.send(&envelope).await.0, 202, "the keys kept from before are fetched anew once");
    wait_for("the friendship ends", || scene.ann.friends(), |seen| seen.is_empty()).await;
}

#[tokio::test]
async fn senders_over_their_limit_are_told_429_before_anything_is_checked() {
    let node =
        TestNode::start_with(&[("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_LIMITS__INBOX_PER_MINUTE", "2")])
            .await;
    let peer = Peer::start().await;
    let to = Domain::parse(&node.process.domain()).unwrap();
    let post = async || peer.request(&to, &Json::Null).post().await.0;
    assert_eq!((post().await, post().await, post().await), (422, 422, 429));
}

#[tokio::test]
async fn a_peer_whose_clock_is_behind_can_end_what_has_just_begun() {
    let scene = scene().await;
    let behind = |millis: i64| now().plus_millis(millis - 120_000);
    assert_eq!(scene.peer.send(&scene.signed(MessageType::FriendInvite, behind(0))).await.0, 202);
    scene.ann.accept(&scene.bob.handle).await;
    let revoke = scene.signed(MessageType::RelationshipRevoke, behind(50));
    assert_eq!(scene.peer.send(&revoke).await.1["applied"], true, "compared by the sender's own clock");
    assert!(scene.ann.friends().await.is_empty());

    scene.ann.invite(&scene.bob.handle).await;
    assert_eq!(scene.peer.send(&scene.signed(MessageType::FriendAccept, behind(100))).await.0, 202);
    let earlier = scene.signed(MessageType::RelationshipRevoke, behind(-10_000));
    assert_eq!(scene.peer.send(&earlier).await.1["applied"], false);
    let revoke = scene.signed(MessageType::RelationshipRevoke, behind(200));
    assert_eq!(scene.peer.send(&revoke).await.1["applied"], true);
}

#[tokio::test]
async fn a_server_over_its_limit_is_told_so_before_its_signature_is_looked_at_and_others_are_not() {
    let node = TestNode::start_with(&[
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__INBOX_PER_SERVER_PER_MINUTE", "2"),
    ])
    .await;
    let (eager, other) = (Peer::start().await, Peer::start().await);
    let (ann, bob, carol) = (node.person("ann").await, eager.user("bob"), other.user("carol"));
    let revoke = |user: &PeerUser| {
        user.signer.envelope(
            MessageType::RelationshipRevoke,
            &ann.handle(),
            JsonObject::new(),
            now(),
            &mut rand::rng(),
        )
    };
    let domain = Domain::parse(&node.process.domain()).unwrap();
    let unsigned = |peer: &Peer, user: &PeerUser| {
        let mut request = peer.request(&domain, &revoke(user).to_json());
        request.signature = Some("A".repeat(86) + "==");
        request
    };
    for _ in 0..5 {
        let (status, answer) = unsigned(&eager, &bob).post().await;
        assert_eq!(status, 401, "what it has not signed does not count: {answer}");
    }
    assert_eq!(eager.send(&revoke(&bob)).await.0, 202);
    assert_eq!(eager.send(&revoke(&bob)).await.0, 202);
    assert_eq!(eager.send(&revoke(&bob)).await.0, 429);
    assert_eq!(unsigned(&eager, &bob).post().await.0, 429, "now no signature is looked at any more");
    assert_eq!(other.send(&revoke(&carol)).await.0, 202);
}

#[tokio::test]
async fn what_was_captured_is_of_no_use_for_anybody_else_anywhere_else() {
    let scene = scene().await;
    scene.befriend().await;
    let carol = scene.node.person("carol").await;
    let revoke = scene.signed(MessageType::RelationshipRevoke, now()).to_json();

    let redirected = with(&revoke, "to", json!(carol.handle()));
    assert_eq!(told(scene.post(&redirected).await), refusal(400, "Invalid signature"), "another recipient");
    let other = Peer::start().await;
    let relayed = other.request(&scene.domain(), &revoke).post().await;
    assert_eq!(told(relayed), refusal(400, "Sender is not on the sending server"), "another server");
    let elsewhere = TestNode::start().await;
    let captured = scene.peer.request(&scene.domain(), &revoke);
    let answer = replay_at(&elsewhere, captured).await;
    assert_eq!(answer.0, 401, "the transport is signed for one receiver: {}", answer.1);

    let first = scene.post(&revoke).await;
    assert_eq!(first, (202, json!({ "success": true, "applied": true })));
    let again = scene.post(&revoke).await;
    assert_eq!(again.0, 202, "the same envelope under a new transport is answered as applied: {}", again.1);
}

/// Sends a request that was signed for one node to another.
async fn replay_at(node: &TestNode, mut captured: Request) -> (u16, Value) {
    captured.signature = Some(captured.signature());
    captured.peer_server_id = node.process.domain();
    captured.post().await
}
