//! Friends on other nodes: on another Vellum, and on an existing server.

use serde_json::{Value, json};
use tokio::sync::Mutex;
use vellum_protocol::{Handle, Json, JsonObject, MessageType};

use super::client::{in_path, signed};
use super::friends::{BARE, friends, invitations};
use super::{Browser, Client, Scene, Walk, clients, expect, expect_members, text, wire};
use crate::support::{PeerUser, now, wait_for};

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut olga = Scene::settle(&scene.one, "olga").await;
    let mut paul = Scene::settle(&scene.two, "paul").await;
    unsigned(walk, &mut olga, &paul.handle()).await;
    between_nodes(walk, &mut olga, &mut paul).await;
    let quin = scene.peer.user("quin");
    with_an_existing_server(walk, scene, &mut olga, &quin).await;
    ended_by_the_peer(walk, scene, &mut olga, &quin).await;
    removed_unsigned(walk, &mut olga, &mut paul).await;
}

/// Invites somebody with a signature that another node can verify; gives the invitation.
pub async fn invite(from: &mut Client, to: &Handle) -> Value {
    let fields = from.signer().invite(to, now(), &mut rand::rng());
    let body = signed(&fields, json!({ "handle": to }));
    from.browser.post("/friends/invite", body).await.body(200)["invitation"].clone()
}

/// The incoming invitation from somebody, once it is there.
pub async fn invitation_from(client: &mut Client, from: &Handle) -> Value {
    let browser = Mutex::new(&mut client.browser);
    let is_theirs = |one: &Value| one["fromHandle"] == json!(from);
    let probe = || async { invitations(&mut **browser.lock().await, "incoming").await };
    let what = format!("an invitation by {from} arrives");
    let all = wait_for(&what, probe, |all| all.iter().any(is_theirs)).await;
    all.into_iter().find(is_theirs).unwrap()
}

/// Accepts somebody's invitation with a signature.
pub async fn accept(client: &mut Client, from: &Handle) {
    let id = text(&invitation_from(client, from).await, "id");
    let fields = client.signer().accept(from, now(), &mut rand::rng());
    let path = format!("/friends/invitations/{id}/accept");
    let seen = client.browser.post(&path, signed(&fields, json!({}))).await.body(200);
    expect("success", &seen["success"], true);
}

/// Waits until somebody is among the friends, or is not any more.
pub async fn await_friend(browser: &mut Browser, handle: &Handle, there: bool) {
    let browser = Mutex::new(browser);
    wait_for(
        &format!("{handle} is a friend: {there}"),
        || async { friends(&mut **browser.lock().await).await },
        |all| all.contains(&handle.to_string()) == there,
    )
    .await;
}

/// Makes two people friends, whatever nodes they are on.
pub async fn befriend(one: &mut Client, other: &mut Client) {
    invite(one, &other.handle()).await;
    accept(other, &one.handle()).await;
    await_friend(&mut one.browser, &other.handle(), true).await;
}

async fn unsigned(walk: &Walk, olga: &mut Client, paul: &Handle) {
    walk.step(
        "peers: an invitation without what was signed is refused",
        clients(
            "To a person elsewhere such an invitation is refused with 400 and the code `envelope_required`.",
        ),
        async {
            let body = json!({ "handle": paul, "signature": BARE });
            let code = olga.browser.post("/friends/invite", body).await.refused(400);
            assert_eq!(code, "envelope_required", "expected this code");
        },
    )
    .await;
}

async fn between_nodes(walk: &Walk, olga: &mut Client, paul: &mut Client) {
    walk.step(
        "peers: an invitation reaches another node",
        wire("| POST `/friends/invite` | `{handle, signed parts}` → `{invitation}`"),
        async {
            let made = invite(olga, &paul.handle()).await;
            expect("status", &made["status"], "pending");
            let arrived = invitation_from(paul, &olga.handle()).await;
            expect("toHandle", &arrived["toHandle"], paul.handle().to_string());
        },
    )
    .await;
    walk.step(
        "peers: the answer comes back",
        wire("The recipient's outgoing invitation to the sender becomes a friendship with the sender's keys of today."),
        async {
            accept(paul, &olga.handle()).await;
            await_friend(&mut olga.browser, &paul.handle(), true).await;
            await_friend(&mut paul.browser, &olga.handle(), true).await;
            let row = olga.read("/friends").await["friends"][0].clone();
            expect("the key", &row["friendSigningKey"], json!(paul.seed.signing_secret().public()));
        },
    )
    .await;
}

/// The envelope as a device signed it.
fn envelope(kind: MessageType, from: &Handle, to: &Handle, fields: &vellum_client::SignedFields) -> Json {
    Json::try_from(json!({
        "protocol_version": 2,
        "message_type": kind.as_str(),
        "message_version": fields.message_version,
        "from": from,
        "to": to,
        "nonce": fields.nonce,
        "timestamp": fields.timestamp,
        "payload": {},
        "signature": fields.signature,
    }))
    .unwrap()
}

/// Waits until the peer has got one more message of a type to somebody there; gives the newest.
pub async fn received(scene: &Scene, kind: MessageType, to: &Handle) -> Json {
    let what = format!("a {} for {to} arrives at the peer", kind.as_str());
    let is_theirs = |message: &Json| message.get("to").and_then(Json::as_str) == Some(to.as_str());
    let all =
        wait_for(&what, || async { scene.peer.received_of(kind) }, |all| all.iter().any(is_theirs)).await;
    all.into_iter().rfind(is_theirs).unwrap()
}

/// Fails unless the peer got just what was signed.
pub fn expect_as_signed(
    seen: &Json,
    kind: MessageType,
    from: &Handle,
    to: &Handle,
    fields: &vellum_client::SignedFields,
) {
    let expected = envelope(kind, from, to, fields).canonical();
    assert_eq!(seen.canonical(), expected, "expected the envelope as it was signed");
}

async fn with_an_existing_server(walk: &Walk, scene: &Scene, olga: &mut Client, quin: &PeerUser) {
    walk.step(
        "peers: an existing server gets what was signed, and no more",
        wire("Send the body's own members and no others"),
        async {
            let fields = olga.signer().invite(&quin.handle, now(), &mut rand::rng());
            let body = signed(&fields, json!({ "handle": quin.handle }));
            olga.browser.post("/friends/invite", body).await.body(200);
            let seen = received(scene, MessageType::FriendInvite, &quin.handle).await;
            expect_as_signed(&seen, MessageType::FriendInvite, &olga.handle(), &quin.handle, &fields);
        },
    )
    .await;
    walk.step(
        "peers: an existing server's acceptance is a success",
        wire("`202` with `{\"success\": true}`."),
        async {
            let kind = MessageType::FriendAccept;
            let to = olga.handle();
            let accept = quin.signer.envelope(kind, &to, JsonObject::new(), now(), &mut rand::rng());
            let (status, answer) = scene.peer.send(&accept).await;
            assert_eq!(status, 202, "expected the status 202, seen it with {answer}");
            expect("success", &answer["success"], true);
            await_friend(&mut olga.browser, &quin.handle, true).await;
        },
    )
    .await;
}

async fn ended_by_the_peer(walk: &Walk, scene: &Scene, olga: &mut Client, quin: &PeerUser) {
    walk.step(
        "peers: an existing server's revocation ends the friendship",
        wire("Ends friendship, invitations in both directions and shares in both directions between the two"),
        async {
            let (status, answer) = revoke(scene, quin, &olga.handle()).await;
            assert_eq!(status, 202, "expected the status 202, seen it with {answer}");
            expect("success", &answer["success"], true);
            await_friend(&mut olga.browser, &quin.handle, false).await;
        },
    )
    .await;
    walk.step(
        "peers: a second revocation is a success, too",
        wire("Success also when there is nothing"),
        async {
            let (status, answer) = revoke(scene, quin, &olga.handle()).await;
            assert_eq!(status, 202, "expected the status 202, seen it with {answer}");
            expect("success", &answer["success"], true);
        },
    )
    .await;
}

/// Has somebody on the peer revoke: the status and the answer.
pub async fn revoke(scene: &Scene, from: &PeerUser, to: &Handle) -> (u16, Value) {
    let kind = MessageType::RelationshipRevoke;
    let envelope = from.signer.envelope(kind, to, JsonObject::new(), now(), &mut rand::rng());
    scene.peer.send(&envelope).await
}

async fn removed_unsigned(walk: &Walk, olga: &mut Client, paul: &mut Client) {
    walk.step(
        "peers: a friend elsewhere is removed without a signature",
        clients("and a pending revocation waits for a signature."),
        async {
            let path = format!("/friends/{}", in_path(&paul.handle()));
            let seen = olga.browser.delete(&path).await.body(200);
            expect("success", &seen["success"], true);
            expect("delivery", &seen["delivery"], "unsigned");
            assert!(friends(&mut olga.browser).await.is_empty(), "expected no friend here");
            let pending = olga.read("/users/me/revocations/pending").await;
            expect("peerHandle", &pending["revocations"][0]["peerHandle"], paul.handle().to_string());
        },
    )
    .await;
    walk.step(
        "peers: the signature follows",
        wire(
            "→ `{results: [{peerHandle, delivered, error, code, state, attempts, nextAttemptAt}]}`, in the \
              order of the items",
        ),
        async {
            let fields = olga.signer().revoke(&paul.handle(), now(), &mut rand::rng());
            let items = json!({ "items": [signed(&fields, json!({ "peerHandle": paul.handle() }))] });
            let seen = olga.browser.post("/users/me/revocations/flush", items).await.body(200);
            let result = &seen["results"][0];
            expect("peerHandle", &result["peerHandle"], paul.handle().to_string());
            expect_members(result, &[("delivered", super::Flag)]);
            await_friend(&mut paul.browser, &olga.handle(), false).await;
        },
    )
    .await;
}
