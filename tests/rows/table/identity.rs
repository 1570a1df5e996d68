//! `/users/me`: the caller's identity, revocations, preferences, devices, and the trail of all that.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method as ClientMethod;

use crate::rows::row::{Field, Given, Row, integer, objects, row, short, text};
use crate::support::fields;

pub fn rows() -> Vec<Row> {
    [of_identity(), of_keys(), of_revocations(), of_devices()].into_iter().flatten().collect()
}

/// Both public keys of a new seed.
pub fn new_keys() -> Value {
    let seed = MasterSeed::generate(&mut rand::rng());
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

/// A key that every signature would verify under.
pub const LOW_ORDER: &str = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const SIGNED: [Field; 5] = [
    text("items/0/peerHandle"),
    text("items/0/signature"),
    text("items/0/nonce"),
    text("items/0/timestamp"),
    integer("items/0/messageVersion", 0).optional(),
];

fn of_identity() -> Vec<Row> {
    vec![
        row(Method::POST, "/users/me/identity/reset")
            .number(6)
            .given(|stage| {
                async move {
                    stage.friend().await;
                    Given::default().body(json!({ "confirm": "erase-all-my-data" }))
                }
                .boxed()
            })
            .body(&[text("confirm")])
            .refuses_field("confirm", json!("erase all my data"), 422, "validation_failed")
            .refuses_field("confirm", json!("ERASE-ALL-MY-DATA"), 422, "validation_failed")
            .refuses_field("confirm", json!("erase-all-my-data "), 422, "validation_failed")
            .refuses_field("confirm", json!(""), 422, "validation_failed")
            .answers(200, &["success", "pendingRevocations"]),
        row(Method::GET, "/users/me/identity")
            .number(10)
            .answers(200, &["alias", "handle", "signingKey", "encryptionKey", "domain", "kmVersion"]),
        row(Method::PATCH, "/users/me/alias")
            .number(11)
            .given(|_| async { Given::default().body(json!({ "alias": "another_alias" })) }.boxed())
            .body(&[text("alias")])
            .refuses_field("alias", json!("ab"), 400, "invalid_alias")
            .refuses_field("alias", json!("x".repeat(31)), 400, "invalid_alias")
            .refuses_field("alias", json!("an alias"), 400, "invalid_alias")
            .refuses_field("alias", json!("ünicode"), 400, "invalid_alias")
            .refuses_field("alias", json!(""), 400, "invalid_alias")
            .refuses_field("alias", json!("POWERLESS"), 409, "alias_taken")
            .answers(200, &["alias", "handle"]),
        row(Method::PATCH, "/users/me/profile")
            .number(13)
            .given(|_| {
                async { Given::default().body(json!({ "firstName": "Anna", "lastName": null })) }.boxed()
            })
            .body(&[
                short("firstName", 200).optional(),
                short("lastName", 200).optional(),
                short("picture", 2000).optional(),
            ])
            .refuses_field("picture", json!("http://people.example/a.png"), 422, "validation_failed")
            .refuses_field("picture", json!("javascript:alert(1)"), 422, "validation_failed")
            .refuses_field("picture", json!("/users/another/avatar"), 422, "validation_failed")
            .refuses_field("picture", json!("https://me:word@people.example"), 422, "validation_failed")
            .refuses_field("picture", json!(""), 422, "validation_failed")
            .answers(200, &["success", "firstName", "lastName"]),
        row(Method::POST, "/users/me/onboarding/complete").answers(200, &["onboardingCompletedAt"]),
        row(Method::GET, "/users/me/preferences").number(16).answers(200, &["language", "unitSystem"]),
        row(Method::PUT, "/users/me/preferences")
            .number(17)
            .given(|_| async { Given::default().body(json!({ "language": "es-ES" })) }.boxed())
            .body(&[text("language").optional(), text("unitSystem").optional()])
            .refuses_field("language", json!("no language"), 422, "validation_failed")
            .refuses_field("language", json!(""), 422, "validation_failed")
            .refuses_field("unitSystem", json!("cubits"), 422, "validation_failed")
            .refuses_field("unitSystem", json!("Metric"), 422, "validation_failed")
            .answers(200, &["language", "unitSystem"]),
        row(Method::GET, "/users/me/usage")
            .answers(200, &["bytes", "blobs", "collections", "slots", "shares"])
            .shows("/bytes", &["used", "limit"]),
        row(Method::GET, "/users/me/audit")
            .refuses_query("page=0")
            .refuses_query("limit=101")
            .answers(200, &["data", "total", "page", "limit"])
            .shows("/data/0", &["id", "at", "event", "sessionId", "ip"]),
    ]
}

fn of_keys() -> Vec<Row> {
    vec![
        row(Method::PUT, "/users/me/keys")
            .number(12)
            .given(|_| async { Given::default().body(new_keys()) }.boxed())
            .body(&[text("signingKey"), text("encryptionKey"), integer("expectedKmVersion", 1).optional()])
            .refuses_field("signingKey", json!(""), 400, "invalid_key")
            .refuses_field("signingKey", json!("not base64!"), 400, "invalid_key")
            .refuses_field("signingKey", json!("AAAA"), 400, "invalid_key")
            .refuses_field("signingKey", json!(LOW_ORDER), 400, "invalid_key")
            .refuses_field("encryptionKey", json!("AAAA"), 400, "invalid_key")
            .refuses_field("encryptionKey", json!(LOW_ORDER), 400, "invalid_key")
            .refuses_field("expectedKmVersion", json!(2), 409, "rotation_conflict")
            .answers(200, &["success", "kmVersion"]),
        row(Method::PUT, "/users/me/keys")
            .number(12)
            .given(|stage| {
                async move {
                    let blob = json!({ "encryptedBlob": "AgE=" });
                    stage.done(&stage.me, ClientMethod::PUT, "/me/blobs/t", blob).await;
                    let mut body = new_keys();
                    body["expectedKmVersion"] = json!(1);
                    Given::default().body(body)
                }
                .boxed()
            })
            .body(&[text("signingKey"), text("encryptionKey"), integer("expectedKmVersion", 1).optional()])
            .refuses_field("expectedKmVersion", Value::Null, 409, "rotation_required")
            .refuses_field("expectedKmVersion", json!(2), 409, "rotation_conflict")
            .answers(200, &["success", "kmVersion"]),
        row(Method::GET, "/users/me/km-version").number(14).answers(200, &["kmVersion"]),
    ]
}

fn of_revocations() -> Vec<Row> {
    let pending = [
        "id",
        "peerHandle",
        "createdAt",
        "state",
        "attempts",
        "lastError",
        "lastAttemptAt",
        "nextAttemptAt",
        "expiresAt",
    ];
    let flushed = ["peerHandle", "delivered", "error", "code", "state", "attempts", "nextAttemptAt"];
    vec![
        row(Method::GET, "/users/me/revocations/pending")
            .number(7)
            .given(|stage| {
                async move {
                    stage.revoked().await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("limit=1001")
            .answers(200, &["revocations", "total"])
            .shows("/revocations/0", &pending),
        row(Method::POST, "/users/me/revocations/flush")
            .number(8)
            .given(|stage| {
                async move {
                    let peer = stage.revoked().await;
                    let mut item = fields(&stage.me.revocation(&peer));
                    item["peerHandle"] = json!(peer);
                    Given::default().body(json!({ "items": [item] }))
                }
                .boxed()
            })
            .longest_body(1024 * 1024)
            .body(&[&[objects("items")], &SIGNED[..]].concat())
            .refuses_field("items", json!([{}]), 422, "validation_failed")
            .refuses_field("items", many_items(), 422, "validation_failed")
            .answers(200, &["results"])
            .shows("/results/0", &flushed),
        row(Method::DELETE, "/users/me/revocations/pending/{peerHandle}")
            .number(9)
            .given(|stage| async move { Given::default().path("peerHandle", stage.revoked().await) }.boxed())
            .refuses_path("peerHandle", "nobody@peer.example", 404, "not_pending")
            .refuses_path("peerHandle", "no handle", 404, "not_pending")
            .answers(200, &["success"]),
    ]
}

/// One more than a flush takes.
fn many_items() -> Value {
    let item = json!({ "peerHandle": "a@b.example", "signature": "", "nonce": "", "timestamp": "" });
    Value::Array(vec![item; 1001])
}

fn of_devices() -> Vec<Row> {
    vec![
        row(Method::GET, "/users/me/devices/{deviceId}/wrap-secret")
            .number(18)
            .given(|_| async { Given::default().path("deviceId", "device-1") }.boxed())
            .refuses_path("deviceId", "seven77", 422, "validation_failed")
            .refuses_path("deviceId", &"x".repeat(65), 422, "validation_failed")
            .refuses_path("deviceId", "under_score", 422, "validation_failed")
            .refuses_path("deviceId", "%C3%BCmlaut-1", 422, "validation_failed")
            .answers(200, &["secret"])
            .without_head()
            .changes(true),
        row(Method::GET, "/users/me/devices")
            .given(|stage| async move { stage.device().await }.boxed())
            .answers(200, &["devices", "total"])
            .shows("/devices/0", &["deviceId", "createdAt", "lastUsedAt", "current"]),
        row(Method::DELETE, "/users/me/devices/{deviceId}")
            .given(|stage| async move { stage.device().await }.boxed())
            .refuses_path("deviceId", "device-2", 404, "device_not_found")
            .refuses_path("deviceId", "no", 404, "device_not_found")
            .answers(204, &[]),
        row(Method::POST, "/users/me/device-wrap-secrets/rotate")
            .number(19)
            .given(|stage| {
                async move {
                    stage.device().await;
                    Given::default()
                }
                .boxed()
            })
            .answers(200, &["success", "ok", "rotated"]),
    ]
}
