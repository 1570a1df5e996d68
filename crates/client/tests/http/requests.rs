//! What goes over the wire for every call.

use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::{Direction, FlushItem, Method, NameChange, ProfileChange};
use vellum_protocol::{Alias, KmVersion};

use super::{TOKEN, handle, invitation, node, signed, user};
use crate::scripted_node::{Reply, Request};

fn ok(body: &Value) -> Reply {
    Reply::json(200, body)
}

fn assert_asked(requests: &[Request], expected: &[(&str, Value)]) {
    let asked: Vec<_> =
        requests.iter().map(|request| (request.line.as_str(), request.body.clone())).collect();
    assert_eq!(asked, expected);
    for request in requests {
        assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(request.headers["accept"], "application/json");
        let has_type = request.headers.get("content-type").is_some_and(|text| text == "application/json");
        assert_eq!(has_type, !request.body.is_null());
    }
}

#[tokio::test]
async fn sessions() {
    let replies = vec![
        Reply::text(201, ""),
        Reply::json(201, &json!({"token": TOKEN, "user": user()})),
        Reply::text(204, ""),
        Reply::text(204, ""),
        Reply::text(204, ""),
    ];
    let (node, mut client) = node(replies).await;
    client.request_code("alice@a.example").await.unwrap();
    assert_eq!(client.sign_in_with_code("alice@a.example", "12345678").await.unwrap().id, "u1");
    assert_eq!(client.token().unwrap().expose(), TOKEN);
    assert!(client.current_session().await.unwrap().is_none());
    client.end_session("a/b").await.unwrap();
    client.sign_out().await.unwrap();
    assert!(client.token().is_none());
    assert_asked(
        &node.requests().await,
        &[
            ("POST /auth/verify", json!({"email": "alice@a.example"})),
            (
                "POST /auth/sessions",
                json!({"method": "otp", "email": "alice@a.example", "token": "12345678"}),
            ),
            ("GET /auth/sessions/current", Value::Null),
            ("DELETE /auth/sessions/a%2Fb", Value::Null),
            ("DELETE /auth/sessions", Value::Null),
        ],
    );
}

#[tokio::test]
async fn identity() {
    let seed = MasterSeed::from_bytes([7; 32]);
    let (signing, encryption) = (seed.signing_secret().public(), seed.encryption_key());
    let replies = vec![
        ok(&json!({"alias": "alice", "handle": "alice@a.example"})),
        ok(&json!({"success": true, "kmVersion": 1})),
        ok(&json!({"success": true, "kmVersion": 2})),
        ok(&json!({"kmVersion": 2})),
        ok(&json!({"success": true, "pendingRevocations": 3})),
        ok(&json!({"success": true, "firstName": null, "lastName": "Li"})),
    ];
    let (node, client) = node(replies).await;
    assert_eq!(client.set_alias("alice").await.unwrap().handle, handle("alice@a.example"));
    assert_eq!(client.register_keys(&signing, &encryption, None).await.unwrap().get(), 1);
    let expected = KmVersion::new(1);
    assert_eq!(client.register_keys(&signing, &encryption, expected).await.unwrap().get(), 2);
    assert_eq!(client.km_version().await.unwrap().get(), 2);
    assert_eq!(client.reset_identity().await.unwrap(), 3);
    let change = ProfileChange { first_name: NameChange::Clear, ..ProfileChange::default() };
    assert_eq!(client.change_profile(&change).await.unwrap().last_name.as_deref(), Some("Li"));
    let keys = json!({"signingKey": signing.to_base64(), "encryptionKey": encryption.to_base64()});
    let mut keys_again = keys.clone();
    keys_again["expectedKmVersion"] = json!(1);
    assert_asked(
        &node.requests().await,
        &[
            ("PATCH /users/me/alias", json!({"alias": "alice"})),
            ("PUT /users/me/keys", keys),
            ("PUT /users/me/keys", keys_again),
            ("GET /users/me/km-version", Value::Null),
            ("POST /users/me/identity/reset", json!({"confirm": "erase-all-my-data"})),
            ("PATCH /users/me/profile", json!({"firstName": null})),
        ],
    );
}

#[tokio::test]
async fn devices() {
    let device = json!({
        "deviceId": "phone-of-ann", "createdAt": "2026-09-21T14:13:20.000Z", "lastUsedAt": null, "current": true,
    });
    let (node, client) = node(vec![ok(&json!({ "devices": [device] })), ok(&Value::Null)]).await;
    let devices = client.devices().await.unwrap();
    assert_eq!((devices[0].device_id.as_str(), devices[0].current), ("phone-of-ann", true));
    client.remove_device("phone-of-ann").await.unwrap();
    assert_asked(
        &node.requests().await,
        &[("GET /users/me/devices", Value::Null), ("DELETE /users/me/devices/phone-of-ann", Value::Null)],
    );
}

#[tokio::test]
async fn revocations() {
    let bob = handle("bob@b.example:8443");
    let replies = vec![ok(&json!({"results": []})), ok(&json!({"success": true}))];
    let (node, client) = node(replies).await;
    let item = FlushItem { peer_handle: bob.clone(), signed: signed() };
    assert_eq!(client.flush_revocations(&[item]).await.unwrap(), []);
    client.discard_revocation(&bob).await.unwrap();
    let signed = signed();
    let item = json!({
        "peerHandle": "bob@b.example:8443", "signature": signed.signature.to_base64(), "nonce": signed.nonce,
        "timestamp": "2026-09-21T14:13:20.000Z", "messageVersion": 1,
    });
    assert_asked(
        &node.requests().await,
        &[
            ("POST /users/me/revocations/flush", json!({"items": [item]})),
            ("DELETE /users/me/revocations/pending/bob%40b.example%3A8443", Value::Null),
        ],
    );
}

#[tokio::test]
async fn friends() {
    let bob = handle("bob@b.example:8443");
    let done = json!({"success": true});
    let replies = vec![
        ok(&json!({"invitations": []})),
        ok(&json!({"invitation": invitation()})),
        ok(&done),
        ok(&done),
        ok(&done),
        ok(&json!({"success": true, "delivery": "queued"})),
        ok(&json!({"success": true, "delivery": "unsigned"})),
        ok(&json!({"results": []})),
        ok(&json!({"results": [{"handle": bob, "updated": false, "confirmed": true}]})),
    ];
    let (node, client) = node(replies).await;
    let signed = signed();
    client.invitations(Direction::Incoming).await.unwrap();
    client.invite(&bob, &signed).await.unwrap();
    client.accept_invitation("i1", &signed).await.unwrap();
    client.reject_invitation("i1", &signed).await.unwrap();
    client.cancel_invitation("i1").await.unwrap();
    client.remove_friend(&bob, Some(&signed)).await.unwrap();
    client.remove_friend(&bob, None).await.unwrap();
    client.sync_friend_keys().await.unwrap();
    let key = MasterSeed::from_bytes([7; 32]).signing_secret().public();
    client.confirm_friend_key(&bob, &key).await.unwrap();
    let fields = serde_json::to_value(&signed).unwrap();
    let mut invite = fields.clone();
    invite["handle"] = json!("bob@b.example:8443");
    assert_asked(
        &node.requests().await,
        &[
            ("GET /friends/invitations?direction=incoming", Value::Null),
            ("POST /friends/invite", invite),
            ("POST /friends/invitations/i1/accept", fields.clone()),
            ("POST /friends/invitations/i1/reject", fields.clone()),
            ("DELETE /friends/invitations/i1", Value::Null),
            ("DELETE /friends/bob%40b.example%3A8443", fields),
            ("DELETE /friends/bob%40b.example%3A8443", Value::Null),
            ("POST /friends/sync-keys", Value::Null),
            ("POST /friends/sync-keys", json!({ "handle": bob, "signingKey": key })),
        ],
    );
}

#[tokio::test]
async fn documents() {
    let seed = MasterSeed::from_bytes([7; 32]);
    let document = json!({
        "handle": "alice@a.example", "signingKey": seed.signing_secret().public().to_base64(),
        "encryptionKey": "", "inbox": "https://a.example/federation/inbox", "name": "Alice",
    });
    let manifest = json!({
        "server_id": "a.example", "public_key": seed.signing_secret().public().to_base64(),
        "protocol_versions": [2], "minimum_protocol_version": 2, "capabilities": ["signed-server-messages"],
        "key_transparency_anchor": null,
    });
    let replies =
        vec![ok(&manifest), ok(&document), ok(&document), ok(&json!({"status": "ok"})), Reply::text(200, "")];
    let (node, client) = node(replies).await;
    assert_eq!(client.manifest().await.unwrap().server_id.as_str(), "a.example");
    let alice = client.user_document(&Alias::parse("alice").unwrap()).await.unwrap();
    assert_eq!(alice.encryption_key, None);
    assert_eq!(client.resolve_friend(&alice.handle).await.unwrap().handle, alice.handle);
    client.check_live().await.unwrap();
    client.check_ready().await.unwrap();
    assert_asked(
        &node.requests().await,
        &[
            ("GET /.well-known/parchment-server", Value::Null),
            ("GET /.well-known/user/alice", Value::Null),
            ("GET /friends/resolve/alice%40a.example", Value::Null),
            ("GET /health/live", Value::Null),
            ("GET /health/ready", Value::Null),
        ],
    );
}

#[tokio::test]
async fn anything_else() {
    let replies = vec![
        Reply::json(409, &json!({"code": "x"})),
        Reply::text(204, ""),
        Reply::text(500, "<oops>"),
        Reply::text(200, ""),
    ];
    let (node, client) = node(replies).await;
    let body = json!({"a": 1});
    let raw = client.request_json(Method::PUT, "/x?y=1", Some(&body)).await.unwrap();
    assert_eq!(raw, (409, json!({"code": "x"})));
    assert_eq!(client.request_json(Method::GET, "/x", None).await.unwrap(), (204, Value::Null));
    let raw = client.request_json(Method::GET, "/x", None).await.unwrap();
    assert_eq!(raw, (500, Value::String("<oops>".to_owned())));
    // A path that looks like another host stays a path.
    client.request_json(Method::GET, "//evil.example/x", None).await.unwrap();
    assert_asked(
        &node.requests().await,
        &[
            ("PUT /x?y=1", body),
            ("GET /x", Value::Null),
            ("GET /x", Value::Null),
            ("GET //evil.example/x", Value::Null),
        ],
    );
}
