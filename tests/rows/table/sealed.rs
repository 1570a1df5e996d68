//! What people store that the node cannot open: blobs, slots, collections; and sealing all of it anew.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::json;
use vellum_client::http::Method as ClientMethod;

use super::identity::{LOW_ORDER, new_keys};
use crate::rows::row::{Field, Given, Row, integer, objects, row, sealed, short, text, texts, truth};
use crate::rows::scene::LONGEST_UPLOAD;

pub fn rows() -> Vec<Row> {
    [of_rotation(), of_blobs(), of_slots(), of_collections()].into_iter().flatten().collect()
}

fn of_rotation() -> Vec<Row> {
    let fields = [
        integer("expectedCurrent", 1),
        text("signingKey"),
        text("encryptionKey"),
        objects("blobs").optional(),
        text("blobs/0/blobType"),
        sealed("blobs/0/encryptedBlob"),
        objects("collections").optional(),
        text("collections/0/id"),
        sealed("collections/0/metadataEncrypted"),
        objects("slots").optional(),
        short("slots/0/credentialId", 1500),
        text("slots/0/wrappedKm"),
        short("slots/0/wrapAlgo", 1500).optional(),
        short("slots/0/slotSignature", 1500),
        texts("dropSlots"),
        truth("requireComplete"),
    ];
    let blob = json!({ "blobType": "t", "encryptedBlob": "AgE=" });
    let collection = json!({ "id": "c1", "metadataEncrypted": "AgE=" });
    let slot = json!({ "credentialId": "s1", "wrappedKm": "AgE=", "slotSignature": "c2ln" });
    let commit = row(Method::POST, "/users/me/km-version/commit")
        .number(15)
        .longest_body(LONGEST_UPLOAD)
        .given(|stage| {
            async move {
                let mut body = new_keys();
                body["expectedCurrent"] = json!(1);
                body["blobs"] = json!([{ "blobType": "t", "encryptedBlob": "AgE=" }]);
                body["collections"] =
                    json!([{ "id": stage.collection().await, "metadataEncrypted": "AgE=" }]);
                let slot = stage.passkey().await;
                body["slots"] =
                    json!([{ "credentialId": slot, "wrappedKm": "AgE=", "slotSignature": "c2ln" }]);
                Given::default().body(body)
            }
            .boxed()
        })
        .body(&fields)
        .refuses_field("expectedCurrent", json!(2), 409, "rotation_conflict")
        .refuses_field("signingKey", json!(LOW_ORDER), 400, "invalid_key")
        .refuses_field("encryptionKey", json!(LOW_ORDER), 400, "invalid_key")
        .refuses_field("encryptionKey", json!("AAAA"), 400, "invalid_key")
        .refuses_field("blobs", json!([{ "blobType": "a b", "encryptedBlob": "" }]), 422, "validation_failed")
        .refuses_field("blobs", json!([blob, blob]), 422, "validation_failed")
        .refuses_field("collections", json!([collection, collection]), 422, "validation_failed")
        .refuses_field("slots", json!([slot, slot]), 422, "validation_failed")
        .refuses_field("dropSlots", json!(["a", "a"]), 422, "validation_failed")
        .answers(200, &["kmVersion"]);
    vec![commit]
}

fn of_blobs() -> Vec<Row> {
    vec![
        row(Method::GET, "/me/blobs")
            .may("library:read")
            .given(|stage| {
                async move {
                    let blob = json!({ "encryptedBlob": "AgE=" });
                    stage.done(&stage.me, ClientMethod::PUT, "/me/blobs/t", blob).await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("limit=0")
            .answers(200, &["blobs", "total"])
            .shows("/blobs/0", &["blobType", "kmVersion", "updatedAt"]),
        refuses_types(row(Method::GET, "/me/blobs/{type}").may("library:read"))
            .given(|stage| {
                async move {
                    let blob = json!({ "encryptedBlob": "AgE=" });
                    stage.done(&stage.me, ClientMethod::PUT, "/me/blobs/t", blob).await;
                    Given::default().path("type", "t")
                }
                .boxed()
            })
            .answers(200, &["encryptedBlob", "nonce", "kmVersion", "updatedAt"]),
        refuses_types(row(Method::PUT, "/me/blobs/{type}").may("library:write"))
            .longest_body(LONGEST_UPLOAD)
            .given(|_| {
                async { Given::default().path("type", "t").body(json!({ "encryptedBlob": "AgE=" })) }.boxed()
            })
            .body(&[
                sealed("encryptedBlob"),
                short("nonce", 100).optional(),
                integer("kmVersion", 1).optional(),
            ])
            .refuses_field("kmVersion", json!(2), 400, "invalid_km_version")
            .answers(200, &["success"]),
        refuses_types(row(Method::DELETE, "/me/blobs/{type}").may("library:write"))
            .given(|stage| {
                async move {
                    let blob = json!({ "encryptedBlob": "AgE=" });
                    stage.done(&stage.me, ClientMethod::PUT, "/me/blobs/t", blob).await;
                    Given::default().path("type", "t")
                }
                .boxed()
            })
            .answers(200, &["success"]),
    ]
}

fn refuses_types(row: Row) -> Row {
    let refuses = |row: Row, name: &str| row.refuses_path("type", name, 400, "invalid_blob_type");
    ["a%20b", "%C3%BC", "a%2Fb", "%FF", "a%00", &"x".repeat(65)].into_iter().fold(row, refuses)
}

fn of_slots() -> Vec<Row> {
    let fields: [Field; 4] = [
        short("credentialId", 1500),
        text("wrappedKm"),
        short("slotSignature", 1500),
        short("wrapAlgo", 1500).optional(),
    ];
    let members =
        ["credentialId", "wrappedKm", "wrapAlgo", "slotSignature", "kmVersion", "createdAt", "lastUsedAt"];
    vec![
        row(Method::GET, "/users/me/wrapped-keys")
            .given(|stage| {
                async move {
                    stage.slot().await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("offset=-1")
            .answers(200, &["slots", "total"])
            .shows("/slots/0", &members),
        row(Method::POST, "/users/me/wrapped-keys")
            .given(|stage| {
                async move {
                    let credential = stage.passkey().await;
                    let slot =
                        json!({ "credentialId": credential, "wrappedKm": "AgE=", "slotSignature": "c2ln" });
                    Given::default().body(slot)
                }
                .boxed()
            })
            .body(&fields)
            .refuses_field("credentialId", json!("unknown"), 400, "unknown_credential")
            .refuses_field("credentialId", json!(""), 422, "validation_failed")
            .answers(201, &["success"]),
        row(Method::DELETE, "/users/me/wrapped-keys/{credentialId}")
            .given(|stage| async move { Given::default().path("credentialId", stage.slot().await) }.boxed())
            .answers(200, &["success"]),
        row(Method::POST, "/users/me/wrapped-keys/{credentialId}/used")
            .given(|stage| async move { Given::default().path("credentialId", stage.slot().await) }.boxed())
            .answers(200, &["success"]),
    ]
}

fn of_collections() -> Vec<Row> {
    let fields =
        [sealed("metadataEncrypted"), integer("metadataKeyVersion", 1).optional(), truth("isPublic")];
    let changed = [fields[0].optional(), fields[1], fields[2]];
    let members = [
        "id",
        "userId",
        "isPublic",
        "isSensitive",
        "scheme",
        "resharingPolicy",
        "publicToken",
        "publicRole",
        "metadataEncrypted",
        "metadataKeyVersion",
        "kmVersion",
        "createdAt",
        "updatedAt",
    ];
    let one = || {
        let mine = |row: Row| {
            row.may("library:write")
                .given(|stage| {
                    async move {
                        let body = json!({ "metadataEncrypted": "AgE=" });
                        Given::default().path("id", stage.collection().await).body(body)
                    }
                    .boxed()
                })
                .refuses_path("id", "nobodys", 404, "collection_not_found")
        };
        move |method| mine(row(method, "/library/collections/{id}"))
    };
    let with_more: Vec<&str> = members.iter().copied().chain(["role", "bookmarks"]).collect();
    let shared = ["role", "shareEnvelope", "senderHandle", "keyChanged"];
    let shared: Vec<&str> = members.iter().copied().chain(shared).collect();
    // 1 MiB of metadata, and what is around it.
    let longest = 1024 * 1024 + 4096;
    vec![
        row(Method::GET, "/library/collections").may("library:write").answers(200, &[]).shows("/0", &members),
        row(Method::POST, "/library/collections")
            .may("library:write")
            .given(|_| async { Given::default().body(json!({ "metadataEncrypted": "" })) }.boxed())
            .longest_body(longest)
            .body(&fields)
            .answers(200, &members),
        row(Method::GET, "/library/collections/shared-with-me")
            .may("library:write")
            .given(|stage| {
                async move {
                    stage.shared_collection().await;
                    Given::default()
                }
                .boxed()
            })
            .refuses_query("limit=0")
            .answers(200, &[])
            .shows("/0", &shared)
            .shows("/0/shareEnvelope", &["encryptedData", "nonce"]),
        one()(Method::GET).answers(200, &with_more),
        one()(Method::PUT).longest_body(longest).body(&changed).answers(200, &members),
        one()(Method::DELETE).answers(204, &[]),
    ]
}
