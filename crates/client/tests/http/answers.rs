//! How answers are read, with everything there and with everything missing that may be.

use serde_json::json;
use vellum_client::MasterSeed;
use vellum_client::http::{Delivery, Direction, RevocationState};

use super::{TOKEN, handle, invitation, node, user};
use crate::scripted_node::Reply;

#[tokio::test]
async fn the_current_session() {
    let answer = json!({
        "token": TOKEN, "user": user(),
        "session": {
            "id": "s1", "createdAt": "2026-11-23T10:00:00.000Z", "expiresAt": "2026-12-23T10:00:00.000Z",
            "userAgent": null, "ip": "127.0.0.1",
        },
        "subscription": {"isPremium": true, "isBasic": false, "hasSubscription": false, "tier": "premium"},
    });
    let (_node, client) = node(vec![Reply::json(200, &answer)]).await;
    let current = client.current_session().await.unwrap().unwrap();
    assert_eq!(current.token.expose(), TOKEN);
    assert_eq!(current.user.km_version.get(), 3);
    assert_eq!(current.user.roles[0].id, "user");
    assert_eq!(current.session.ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(current.subscription.tier, "premium");
    let shown = format!("{current:?} {client:?}");
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[tokio::test]
async fn an_identity_with_nothing_set() {
    let answer = json!({
        "alias": null, "handle": null, "signingKey": null, "encryptionKey": null,
        "domain": "localhost:5001", "kmVersion": 1,
    });
    let (_node, client) = node(vec![Reply::json(200, &answer)]).await;
    let identity = client.identity().await.unwrap();
    assert_eq!((identity.alias, identity.handle, identity.signing_key), (None, None, None));
    assert_eq!(identity.domain.as_str(), "localhost:5001");
}

#[tokio::test]
async fn what_is_stored() {
    let quota = |used, limit| json!({ "used": used, "limit": limit });
    let answer = json!({
        "bytes": quota(18_230, 67_108_864), "blobs": quota(3, 200), "collections": quota(1, 1000),
        "slots": quota(0, 100), "shares": quota(2, 2000), "of the future": quota(1, 1),
    });
    let (_node, client) = node(vec![Reply::json(200, &answer)]).await;
    let usage = client.usage().await.unwrap();
    assert_eq!((usage.bytes.used, usage.bytes.limit), (18_230, 67_108_864));
    assert_eq!((usage.blobs.used, usage.slots.limit, usage.shares.used), (3, 100, 2));
}

#[tokio::test]
async fn revocations() {
    let pending = json!({"revocations": [
        {"id": "r1", "peerHandle": "bob@b.example:8443", "createdAt": "2026-11-23T10:00:00.000Z",
         "state": "awaiting_signature", "attempts": 0, "lastError": null, "lastAttemptAt": null,
         "nextAttemptAt": null, "expiresAt": null},
        {"id": "r2", "peerHandle": "eve@c.example", "createdAt": "2026-11-23T10:00:00.000Z",
         "state": "queued", "attempts": 2, "lastError": "timed out", "lastAttemptAt": "2026-11-23T10:00:01.000Z",
         "nextAttemptAt": "2026-11-23T10:00:09.500Z", "expiresAt": "2026-11-30T10:00:00.000Z"},
    ]});
    let flushed = json!({"results": [
        {"peerHandle": "bob@b.example:8443", "delivered": true, "error": null, "state": "delivered",
         "attempts": 1, "nextAttemptAt": null},
        {"peerHandle": "no handle", "delivered": false, "error": "not pending", "code": "not_pending", "state": null},
        {"peerHandle": "x@y.example", "delivered": false, "state": "a word of the future", "attempts": 1},
    ]});
    let (_node, client) = node(vec![Reply::json(200, &pending), Reply::json(200, &flushed)]).await;
    let pending = client.pending_revocations().await.unwrap();
    assert_eq!(pending[0].peer_handle, handle("bob@b.example:8443"));
    assert_eq!(pending[0].state, RevocationState::AwaitingSignature);
    assert_eq!(pending[1].next_attempt_at.as_ref().unwrap().as_str(), "2026-11-23T10:00:09.500Z");
    let flushed = client.flush_revocations(&[]).await.unwrap();
    assert!(flushed[0].delivered && flushed[0].state == Some(RevocationState::Delivered));
    assert_eq!((flushed[1].state, flushed[1].error.as_deref()), (None, Some("not pending")));
    assert_eq!(flushed[1].code.as_deref(), Some("not_pending"));
    assert_eq!(flushed[2].state, Some(RevocationState::Other));
}

#[tokio::test]
async fn friends() {
    let seed = MasterSeed::from_bytes([7; 32]);
    let friend = |encryption_key: &str| {
        json!({
            "id": "f1", "friendHandle": "bob@b.example:8443", "friendName": null, "friendPicture": null,
            "friendSigningKey": seed.signing_secret().public().to_base64(),
            "friendEncryptionKey": encryption_key, "status": "accepted",
            "establishedAt": "2026-11-23T10:00:00.000Z", "userId": "u1", "revokedAt": null,
        })
    };
    let friends = json!({"friends": [friend(&seed.encryption_key().to_base64()), friend("")]});
    let replies = vec![
        Reply::json(200, &friends),
        Reply::json(200, &json!({"invitations": [invitation()]})),
        Reply::json(200, &json!({"success": true, "delivery": "local"})),
        Reply::json(
            200,
            &json!({"results": [{"handle": "bob@b.example:8443", "updated": false, "error": "e"}]}),
        ),
    ];
    let (_node, client) = node(replies).await;
    let friends = client.friends().await.unwrap();
    assert_eq!(friends[0].friend_encryption_key, Some(seed.encryption_key()));
    assert_eq!(friends[1].friend_encryption_key, None);
    let invitations = client.invitations(Direction::Outgoing).await.unwrap();
    assert_eq!(invitations[0].direction, Direction::Outgoing);
    assert_eq!(client.remove_friend(&handle("bob@b.example"), None).await.unwrap(), Delivery::Local);
    assert_eq!(client.sync_friend_keys().await.unwrap()[0].error.as_deref(), Some("e"));
}
