//! `/friends`: friends, invitations, looking people up.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::json;

use crate::rows::row::{Field, Given, Row, integer, row, text};

const READ: &str = "social:read";
const WRITE: &str = "social:write";
const FRIEND: [&str; 12] = [
    "id",
    "userId",
    "friendHandle",
    "friendSigningKey",
    "friendEncryptionKey",
    "friendName",
    "friendPicture",
    "status",
    "keysChangedAt",
    "establishedAt",
    "revokedAt",
    "createdAt",
];
const INVITATION: [&str; 12] = [
    "id",
    "localUserId",
    "fromHandle",
    "toHandle",
    "direction",
    "status",
    "originServer",
    "signature",
    "createdAt",
    "expiresAt",
    "delivery",
    "deliveryError",
];
/// What the client signed; existing clients leave it out, or send the signature alone.
const SIGNED: [Field; 4] = [
    text("signature").optional(),
    text("nonce").optional(),
    text("timestamp").optional(),
    integer("messageVersion", 0).optional(),
];

pub fn rows() -> Vec<Row> {
    [of_friends(), of_invitations()].into_iter().flatten().collect()
}

fn of_friends() -> Vec<Row> {
    vec![
        row(Method::GET, "/friends")
            .may(READ)
            .given(|stage| {
                async move {
                    stage.friend().await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("limit=0")
            .answers(200, &["friends", "total"])
            .shows("/friends/0", &FRIEND),
        row(Method::DELETE, "/friends/{handle}")
            .may(WRITE)
            .given(|stage| {
                async move { Given::default().path("handle", stage.friend().await.handle()) }.boxed()
            })
            .optional_body(&SIGNED)
            .refuses_path("handle", "nobody@peer.example", 400, "friendship_not_found")
            .refuses_path("handle", "no handle", 400, "friendship_not_found")
            .refuses_query("messageVersion=x")
            .answers(200, &["success", "delivery"]),
        row(Method::GET, "/friends/resolve/{handle}")
            .may(READ)
            .given(|stage| {
                async move { Given::default().path("handle", stage.somebody().await.handle()) }.boxed()
            })
            .without_head()
            .refuses_path("handle", "no handle", 400, "invalid_handle")
            .refuses_path("handle", "nobody@localhost:1", 502, "peer_unreachable")
            .answers(200, &["handle", "signingKey", "encryptionKey", "inbox", "name"]),
        row(Method::POST, "/friends/sync-keys")
            .may(WRITE)
            .given(|stage| {
                async move {
                    stage.friend().await;
                    Given::default()
                }
                .boxed()
            })
            .optional_body(&[text("handle").optional(), text("signingKey").optional()])
            .refuses_field("handle", json!("nobody@peer.example"), 422, "validation_failed")
            .answers(200, &["results"])
            .shows("/results/0", &["handle", "updated"])
            .changes(false),
    ]
}

fn of_invitations() -> Vec<Row> {
    let incoming = |row: Row| {
        row.may(WRITE)
            .given(|stage| async move { Given::default().path("id", stage.invitation().await) }.boxed())
            .refuses_path("id", "unknown", 400, "invitation_not_found")
    };
    vec![
        row(Method::GET, "/friends/invitations")
            .may(READ)
            .given(|stage| {
                async move {
                    stage.invitation().await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("direction=sideways")
            .refuses_query("direction=incoming&direction=outgoing")
            .refuses_query("offset=x")
            .answers(200, &["invitations", "total"])
            .shows("/invitations/0", &INVITATION),
        row(Method::POST, "/friends/invite")
            .may(WRITE)
            .given(|stage| {
                async move {
                    let other = stage.somebody().await.handle();
                    Given::default().body(json!({ "handle": other, "signature": "bare" }))
                }
                .boxed()
            })
            .body(&[&[text("handle")], &SIGNED[..]].concat())
            .refuses_field("handle", json!("no handle"), 400, "invalid_handle")
            .refuses_field("handle", json!(""), 400, "invalid_handle")
            .refuses_field("handle", json!("bob@localhost:1"), 400, "envelope_required")
            .answers(200, &["invitation"])
            .shows("/invitation", &INVITATION),
        incoming(row(Method::POST, "/friends/invitations/{id}/accept"))
            .optional_body(&SIGNED)
            .answers(200, &["success"]),
        incoming(row(Method::POST, "/friends/invitations/{id}/reject"))
            .optional_body(&SIGNED)
            .answers(200, &["success"]),
        incoming(row(Method::DELETE, "/friends/invitations/{id}")).answers(200, &["success"]),
    ]
}
