//! Blobs, collections and slots: what is stored for people without being readable here.

use reqwest::header::{AUTHORIZATION, ETAG, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

async fn code(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, problem) = person.ask(method, path, body).await;
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_blob_is_written_read_listed_and_removed() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let path = "/me/blobs/integration-config:x.y_1";
    ann.ask_for(204, Method::GET, path, Value::Null).await;
    assert_eq!(
        ann.ask(Method::PUT, path, json!({ "encryptedBlob": "AgE=" })).await,
        (200, json!({ "success": true }))
    );
    let (status, blob) = ann.ask(Method::GET, path, Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&blob["encryptedBlob"], &blob["nonce"], &blob["kmVersion"]),
        (&json!("AgE="), &json!(""), &json!(1))
    );
    let (_, list) = ann.ask(Method::GET, "/me/blobs", Value::Null).await;
    assert_eq!(list["blobs"][0]["blobType"], "integration-config:x.y_1");
    assert!(list["blobs"][0]["updatedAt"].is_string());
    assert_eq!(ann.ask(Method::DELETE, path, Value::Null).await, (200, json!({ "success": true })));
    assert_eq!(ann.ask(Method::DELETE, path, Value::Null).await.0, 200, "it may be gone already");
    ann.ask_for(204, Method::GET, path, Value::Null).await;
}

#[tokio::test]
async fn blobs_are_refused_by_type_shape_version_and_size() {
    let node = TestNode::start_with(&[("VELLUM_HTTP__LONGEST_UPLOAD", "200000")]).await;
    let ann = node.person("ann").await;
    let long_type = "x".repeat(65);
    for blob_type in ["a%20b", "%C3%BC", "a%2Fb", long_type.as_str()] {
        let path = format!("/me/blobs/{blob_type}");
        assert_eq!(
            code(&ann, Method::PUT, &path, json!({ "encryptedBlob": "x" })).await,
            (400, "invalid_blob_type".into())
        );
    }
    for body in [
        json!({}),
        json!({ "encryptedBlob": 1 }),
        json!({ "encryptedBlob": null }),
        json!({ "encryptedBlob": "x", "kmVersion": 0 }),
    ] {
        let refused = code(&ann, Method::PUT, "/me/blobs/t", body.clone()).await;
        assert_eq!(refused, (422, "validation_failed".into()), "{body}");
    }
    let future = json!({ "encryptedBlob": "x", "kmVersion": 2 });
    assert_eq!(code(&ann, Method::PUT, "/me/blobs/t", future).await, (400, "invalid_km_version".into()));
    let large = json!({ "encryptedBlob": "x".repeat(150_000) });
    assert_eq!(ann.ask(Method::PUT, "/me/blobs/t", large).await.0, 200, "larger than ordinary bodies");
    let larger = json!({ "encryptedBlob": "x".repeat(250_000) });
    assert_eq!(code(&ann, Method::PUT, "/me/blobs/t", larger).await, (413, "body_too_large".into()));
}

#[tokio::test]
async fn two_devices_do_not_overwrite_each_other_unknowingly() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let url = format!("{}/me/blobs/search-history", node.process.origin());
    let bearer = format!("Bearer {}", ann.client.token().unwrap().expose());
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let put = async |text: &str, condition: Option<(reqwest::header::HeaderName, String)>| {
        let mut request =
            http.put(&url).header(AUTHORIZATION, &bearer).json(&json!({ "encryptedBlob": text }));
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        let tag = answer.headers().get(ETAG).map(|tag| tag.to_str().unwrap().to_owned());
        (answer.status().as_u16(), tag)
    };
    let (status, first) = put("one", Some((IF_NONE_MATCH, "*".into()))).await;
    assert_eq!(status, 200);
    assert_eq!(put("again", Some((IF_NONE_MATCH, "*".into()))).await.0, 412);
    let (status, second) = put("two", Some((IF_MATCH, first.clone().unwrap()))).await;
    assert_eq!(status, 200);
    assert_ne!(first, second);
    assert_eq!(put("stale", Some((IF_MATCH, first.unwrap()))).await.0, 412);
    assert_eq!(put("nonsense", Some((IF_MATCH, "W/x".into()))).await.0, 400);
    assert_eq!(put("three", None).await.0, 200, "a client that sends nothing works as before");
    let read = http.get(&url).header(AUTHORIZATION, &bearer).send().await.unwrap();
    assert!(read.headers().contains_key(ETAG));
    assert_eq!(read.json::<Value>().await.unwrap()["encryptedBlob"], "three");
}

#[tokio::test]
async fn a_new_user_has_one_collection_and_can_make_change_and_remove_more() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let (_, list) = ann.ask(Method::GET, "/library/collections", Value::Null).await;
    let first = list.as_array().unwrap();
    assert_eq!((first.len(), &first[0]["metadataEncrypted"]), (1, &Value::Null));

    let (status, made) =
        ann.ask(Method::POST, "/library/collections", json!({ "metadataEncrypted": "" })).await;
    assert_eq!(status, 200);
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!((&made["scheme"], &made["resharingPolicy"]), (&json!("user-e2ee"), &json!("owner-only")));
    let path = format!("/library/collections/{id}");
    let sealed = json!({ "metadataEncrypted": "AgE=", "metadataKeyVersion": 2, "isPublic": true });
    let (status, changed) = ann.ask(Method::PUT, &path, sealed).await;
    assert_eq!(
        (status, &changed["metadataEncrypted"], &changed["metadataKeyVersion"]),
        (200, &json!("AgE="), &json!(2))
    );
    assert!(changed["publicToken"].is_string() && changed["publicRole"] == "viewer");
    let (_, shown) = ann.ask(Method::GET, &path, Value::Null).await;
    assert_eq!((&shown["role"], &shown["bookmarks"]), (&json!("owner"), &json!([])));

    for (method, body) in
        [(Method::GET, Value::Null), (Method::PUT, json!({})), (Method::DELETE, Value::Null)]
    {
        let (status, problem) = ben.ask(method, &path, body).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("collection_not_found")), "not ben's");
        assert_eq!(problem["error"], problem["message"], "these clients read error");
    }
    for body in [
        json!({}),
        json!({ "metadataEncrypted": 7 }),
        json!({ "metadataEncrypted": "", "metadataKeyVersion": 0 }),
        json!({ "metadataEncrypted": "", "isPublic": "yes" }),
    ] {
        assert_eq!(
            code(&ann, Method::POST, "/library/collections", body).await,
            (422, "validation_failed".into())
        );
    }
    ann.ask_for(204, Method::DELETE, &path, Value::Null).await;
    ann.ask_for(404, Method::GET, &path, Value::Null).await;
}

#[tokio::test]
async fn a_slot_needs_a_passkey_and_emptying_none_is_a_success() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let slot = json!({ "credentialId": "unknown", "wrappedKm": "AgE=", "slotSignature": "x" });
    assert_eq!(
        code(&ann, Method::POST, "/users/me/wrapped-keys", slot).await,
        (400, "unknown_credential".into())
    );
    let missing = json!({ "credentialId": "unknown" });
    assert_eq!(
        code(&ann, Method::POST, "/users/me/wrapped-keys", missing).await,
        (422, "validation_failed".into())
    );
    assert_eq!(
        ann.ask(Method::GET, "/users/me/wrapped-keys", Value::Null).await,
        (200, json!({ "slots": [], "total": 0 }))
    );
    assert_eq!(
        ann.ask(Method::DELETE, "/users/me/wrapped-keys/x", Value::Null).await,
        (200, json!({ "success": true }))
    );
    assert_eq!(
        ann.ask(Method::POST, "/users/me/wrapped-keys/x/used", Value::Null).await,
        (200, json!({ "success": true }))
    );
}

#[tokio::test]
async fn a_reset_wipes_all_ciphertext_and_keeps_preferences_and_the_trail() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    ann.ask(Method::PUT, "/me/blobs/t", json!({ "encryptedBlob": "x" })).await;
    ann.ask(Method::POST, "/library/collections", json!({ "metadataEncrypted": "x" })).await;
    ann.ask(Method::GET, "/users/me/devices/device-1/wrap-secret", Value::Null).await;
    ann.ask(Method::PUT, "/users/me/preferences", json!({ "language": "es-ES" })).await;
    ann.client.reset_identity().await.unwrap();
    assert_eq!(ann.ask(Method::GET, "/me/blobs", Value::Null).await.1, json!({ "blobs": [], "total": 0 }));
    assert_eq!(ann.ask(Method::GET, "/library/collections", Value::Null).await.1, json!([]));
    let rotated = ann.ask(Method::POST, "/users/me/device-wrap-secrets/rotate", Value::Null).await.1;
    assert_eq!(rotated["rotated"], 0, "the wrap secrets are gone");
    assert_eq!(ann.ask(Method::GET, "/users/me/preferences", Value::Null).await.1["language"], "es-ES");
    let (_, trail) = ann.ask(Method::GET, "/users/me/audit", Value::Null).await;
    let events: Vec<&str> =
        trail["data"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["wrap_secrets_rotated", "reset", "keys_registered", "alias_set"], "newest first");
    let session = ann.client.current_session().await.unwrap().unwrap().session.id;
    assert!(
        trail["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry["sessionId"] == session && entry["ip"] == "127.0.0.1")
    );
}

#[tokio::test]
async fn preferences_begin_with_the_defaults_and_change_one_by_one() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let view = |language: &str, units: &str| (200, json!({ "language": language, "unitSystem": units }));
    let path = "/users/me/preferences";
    assert_eq!(ann.ask(Method::GET, path, Value::Null).await, view("en-US", "metric"));
    assert_eq!(
        ann.ask(Method::PUT, path, json!({ "unitSystem": "imperial" })).await,
        view("en-US", "imperial")
    );
    assert_eq!(ann.ask(Method::PUT, path, json!({ "language": "es" })).await, view("es", "imperial"));
    for body in [json!({ "language": "no tag" }), json!({ "language": 1 }), json!({ "unitSystem": "cubits" })]
    {
        assert_eq!(code(&ann, Method::PUT, path, body).await, (422, "validation_failed".into()));
    }
}
