//! Blobs and collections.

use serde_json::{Value, json};
use vellum_client::{Binding, SealedData};

use super::{
    Client, Flag, Number, Scene, Text, TextOrNull, Time, Walk, clients, expect, expect_members, list, text,
    wire,
};

const HISTORY: &str = "/me/blobs/search-history";
const COLLECTIONS: &str = "/library/collections";

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut emma = Scene::settle(&scene.one, "emma").await;
    blob(walk, &mut emma).await;
    blobs(walk, &mut emma).await;
    let row = collection(walk, &mut emma).await;
    metadata(walk, &mut emma, &row).await;
    end_of_a_collection(walk, &mut emma, &row).await;
}

fn sealed_history(emma: &Client) -> String {
    let binding = Binding::personal_blob(&emma.user_id, "search-history");
    emma.seed.personal_key().seal(b"[]", &binding, &mut rand::rng()).unwrap().to_base64()
}

async fn blob(walk: &Walk, emma: &mut Client) {
    walk.step(
        "blobs: there is none",
        clients("GET `/me/blobs/{type}` answers 204 when there is none."),
        async { emma.browser.get(HISTORY).await.empty(204) },
    )
    .await;
    let sealed = sealed_history(emma);
    walk.step(
        "blobs: one is stored",
        clients("takes `{encryptedBlob, nonce?, kmVersion?}` and answers `{success: true}`."),
        async {
            let seen = emma.browser.put(HISTORY, json!({ "encryptedBlob": sealed })).await.body(200);
            expect("success", &seen["success"], true);
        },
    )
    .await;
    walk.step(
        "blobs: it is read",
        clients(
            "answers `{encryptedBlob, nonce, kmVersion, updatedAt}`; a nonce that was not given is the empty text.",
        ),
        async {
            let seen = emma.read(HISTORY).await;
            expect("encryptedBlob", &seen["encryptedBlob"], sealed.clone());
            expect("nonce", &seen["nonce"], "");
            expect_members(&seen, &[("kmVersion", Number), ("updatedAt", Time)]);
        },
    )
    .await;
}

async fn blobs(walk: &Walk, emma: &mut Client) {
    walk.step(
        "blobs: every type that clients have",
        clients(
            "Types in use are `search-history`, `friend-pins`, `integration-config:<id>` and \
             `direct-creds:<id>`.",
        ),
        async {
            for kind in ["friend-pins", "integration-config:k2f9", "direct-creds:k2f9"] {
                let body = json!({ "encryptedBlob": "AgE=", "nonce": "AAAA", "kmVersion": 1 });
                emma.browser.put(&format!("/me/blobs/{kind}"), body).await.body(200);
                let seen = emma.read(&format!("/me/blobs/{kind}")).await;
                expect("nonce", &seen["nonce"], "AAAA");
            }
        },
    )
    .await;
    walk.step(
        "blobs: all of them",
        clients("GET `/me/blobs` answers `{blobs: [{blobType, kmVersion, updatedAt}]}`."),
        async {
            let blobs = list(&emma.read("/me/blobs").await, "blobs");
            assert_eq!(blobs.len(), 4, "expected four, seen {blobs:?}");
            for blob in &blobs {
                expect_members(blob, &[("blobType", Text), ("kmVersion", Number), ("updatedAt", Time)]);
            }
        },
    )
    .await;
    walk.step(
        "blobs: another type is refused",
        clients(
            "A type is 1 to 64 of letters, digits, `.`, `_`, `:` and `-`; another one is refused with 400.",
        ),
        async {
            let body = json!({ "encryptedBlob": "AgE=" });
            emma.browser.put("/me/blobs/search%20history", body.clone()).await.refused(400);
            emma.browser.put(&format!("/me/blobs/{}", "x".repeat(65)), body).await.refused(400);
        },
    )
    .await;
    walk.step(
        "blobs: one is deleted",
        clients("DELETE `/me/blobs/{type}` answers `{success: true}`."),
        async {
            expect("success", &emma.browser.delete(HISTORY).await.body(200)["success"], true);
            emma.browser.get(HISTORY).await.empty(204);
        },
    )
    .await;
}

async fn collection(walk: &Walk, emma: &mut Client) -> Value {
    walk.step("collections: the list", clients("GET `/library/collections` is an array."), async {
        let all = emma.read(COLLECTIONS).await;
        assert!(all.is_array(), "expected an array, seen {all}");
    })
    .await;
    walk.step(
        "collections: there is one from the start",
        clients("A new user has one collection from the start, whose metadata is null."),
        async {
            let all = emma.read(COLLECTIONS).await;
            assert_eq!(all.as_array().map(Vec::len), Some(1), "expected one, seen {all}");
            expect("its metadata", &all[0]["metadataEncrypted"], Value::Null);
        },
    )
    .await;
    let row = walk
        .step(
            "collections: one is made before it can be sealed",
            clients("POST `/library/collections` comes with `metadataEncrypted: \"\"`"),
            async {
                let row = emma.browser.post(COLLECTIONS, json!({ "metadataEncrypted": "" })).await.body(200);
                expect("userId", &row["userId"], emma.user_id.clone());
                expect("isPublic", &row["isPublic"], false);
                expect("metadataKeyVersion", &row["metadataKeyVersion"], 1);
                row
            },
        )
        .await;
    row_of(walk, &row).await;
    row
}

async fn row_of(walk: &Walk, row: &Value) {
    walk.step(
        "collections: what a row has",
        clients("`publicRole`, `metadataEncrypted`, `metadataKeyVersion`, `createdAt` and `updatedAt`."),
        async {
            let members = [
                ("id", Text),
                ("userId", Text),
                ("isPublic", Flag),
                ("isSensitive", Flag),
                ("scheme", Text),
                ("resharingPolicy", Text),
                ("publicToken", TextOrNull),
                ("publicRole", TextOrNull),
                ("metadataEncrypted", TextOrNull),
                ("metadataKeyVersion", Number),
                ("createdAt", Time),
                ("updatedAt", Time),
            ];
            expect_members(row, &members);
        },
    )
    .await;
    walk.step(
        "collections: the words of a row",
        clients(
            "`scheme` is `server-key` or `user-e2ee`, and `resharingPolicy` is `owner-only` or \
             `editors-can-share`.",
        ),
        async {
            let (scheme, policy) = (text(row, "scheme"), text(row, "resharingPolicy"));
            assert!(["server-key", "user-e2ee"].contains(&scheme.as_str()), "seen {scheme:?}");
            assert!(["owner-only", "editors-can-share"].contains(&policy.as_str()), "seen {policy:?}");
        },
    )
    .await;
    walk.step(
        "collections: the form of an id",
        clients("The id of a collection is 24 letters and digits, made by the node."),
        async {
            let id = text(row, "id");
            let right = id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(right, "expected 24 letters and digits, seen {id:?}");
        },
    )
    .await;
}

async fn metadata(walk: &Walk, emma: &mut Client, row: &Value) {
    let id = text(row, "id");
    let path = format!("{COLLECTIONS}/{id}");
    let user = emma.user_id.clone();
    let binding = Binding::collection_metadata(&user, &id);
    let key = emma.seed.collection_key(&id, 1);
    let plaintext = br#"{"name":"Cafes","description":"","icon":"cup","iconColor":"blue"}"#;
    let sealed = key.seal(plaintext, &binding, &mut rand::rng()).unwrap().to_base64();
    walk.step(
        "collections: it is sealed",
        clients("PUT `/library/collections/{id}` takes the same members, each of them optional, and answers the row."),
        async {
            let seen = emma.browser.put(&path, json!({ "metadataEncrypted": sealed })).await.body(200);
            expect("metadataEncrypted", &seen["metadataEncrypted"], sealed.clone());
            expect("id", &seen["id"], id.clone());
        },
    )
    .await;
    walk.step(
        "collections: one alone",
        clients("GET `/library/collections/{id}` answers the row with `role` and `bookmarks: []`."),
        async {
            let seen = emma.read(&path).await;
            expect_members(&seen, &[("id", Text), ("role", Text), ("metadataEncrypted", Text)]);
            expect("bookmarks", &seen["bookmarks"], json!([]));
        },
    )
    .await;
    walk.step(
        "collections: its metadata opens",
        wire(
            "| collection metadata | the user | `collection-metadata` | the collection | \
              `parchment-collection-metadata-v1` (not the key's `info`) |",
        ),
        async {
            let read = SealedData::parse(&text(&emma.read(&path).await, "metadataEncrypted")).unwrap();
            let opened = key.open(&read, &binding).unwrap();
            assert_eq!(opened.as_slice(), plaintext, "expected what was sealed");
        },
    )
    .await;
    walk.step(
        "collections: a long one",
        clients("Metadata of a collection may be up to 1 MiB long."),
        async {
            let long = "QUFB".repeat(250_000);
            let seen = emma.browser.put(&path, json!({ "metadataEncrypted": long })).await.body(200);
            assert_eq!(text(&seen, "metadataEncrypted").len(), long.len(), "expected all of it");
        },
    )
    .await;
}

async fn end_of_a_collection(walk: &Walk, emma: &mut Client, row: &Value) {
    let path = format!("{COLLECTIONS}/{}", text(row, "id"));
    walk.step(
        "collections: one is deleted",
        clients("DELETE `/library/collections/{id}` answers 204."),
        async { emma.browser.delete(&path).await.empty(204) },
    )
    .await;
    walk.step(
        "collections: it is gone",
        clients("Answers about collections have the same text in `error`, too."),
        async {
            let refusal = emma.browser.get(&path).await.body(404);
            expect("error", &refusal["error"], refusal["message"].clone());
            assert!(!text(&refusal, "error").is_empty(), "expected words, seen {refusal}");
        },
    )
    .await;
}
