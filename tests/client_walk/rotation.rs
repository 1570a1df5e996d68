//! New keys, with everything sealed anew.

use serde_json::{Value, json};
use vellum_client::{Binding, MasterSeed, SealedData};

use super::client::keys_of;
use super::{Client, Scene, Walk, clients, expect, list, passkeys, text};
use crate::support::Authenticator;

const COMMIT: &str = "/users/me/km-version/commit";
const BLOB: &str = "search-history";
const PLAINTEXT: &[u8] = b"[\"harbour\"]";

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut gina = Scene::settle(&scene.one, "gina").await;
    let device = passkeys::with_slot(&mut gina).await;
    let body = json!({ "encryptedBlob": sealed_blob(&gina, &gina.seed) });
    gina.browser.put(&format!("/me/blobs/{BLOB}"), body).await.body(200);
    let collection = text(&gina.read("/library/collections").await[0], "id");
    let body = json!({ "metadataEncrypted": sealed_collection(&gina, &gina.seed, &collection) });
    gina.browser.put(&format!("/library/collections/{collection}"), body).await.body(200);

    let old = version(&mut gina).await;
    let seed = MasterSeed::generate(&mut rand::rng());
    commit(walk, &mut gina, &device, &collection, &seed, old).await;
    after(walk, &mut gina, &collection, &seed, old + 1).await;
    conflict(walk, &mut gina, &device, &collection, old).await;
}

async fn version(gina: &mut Client) -> i64 {
    gina.read("/users/me/km-version").await["kmVersion"].as_i64().unwrap()
}

fn sealed_blob(gina: &Client, seed: &MasterSeed) -> String {
    let binding = Binding::personal_blob(&gina.user_id, BLOB);
    seed.personal_key().seal(PLAINTEXT, &binding, &mut rand::rng()).unwrap().to_base64()
}

fn sealed_collection(gina: &Client, seed: &MasterSeed, id: &str) -> String {
    let binding = Binding::collection_metadata(&gina.user_id, id);
    seed.collection_key(id, 1).seal(PLAINTEXT, &binding, &mut rand::rng()).unwrap().to_base64()
}

/// Everything of hers, sealed under a seed.
fn everything(
    gina: &Client,
    device: &Authenticator,
    collection: &str,
    seed: &MasterSeed,
    expected: i64,
) -> Value {
    let mut body = keys_of(seed);
    body["expectedCurrent"] = json!(expected);
    body["blobs"] = json!([{ "blobType": BLOB, "encryptedBlob": sealed_blob(gina, seed) }]);
    body["collections"] =
        json!([{ "id": collection, "metadataEncrypted": sealed_collection(gina, seed, collection) }]);
    body["slots"] = json!([passkeys::slot_of(gina, device, seed)]);
    body
}

async fn commit(
    walk: &Walk,
    gina: &mut Client,
    device: &Authenticator,
    collection: &str,
    seed: &MasterSeed,
    old: i64,
) {
    walk.step(
        "rotation: one commit for everything",
        clients("slots}` and answers `{kmVersion}`, which is one more than expected."),
        async {
            let body = everything(gina, device, collection, seed, old);
            let seen = gina.browser.post(COMMIT, body).await.body(200);
            expect("kmVersion", &seen["kmVersion"], old + 1);
        },
    )
    .await;
    walk.step(
        "rotation: the new keys are shown",
        clients("After a commit the identity shows the new keys and the new version."),
        async {
            let (identity, keys) = (gina.read("/users/me/identity").await, keys_of(seed));
            expect("signingKey", &identity["signingKey"], keys["signingKey"].clone());
            expect("encryptionKey", &identity["encryptionKey"], keys["encryptionKey"].clone());
            expect("kmVersion", &identity["kmVersion"], old + 1);
        },
    )
    .await;
}

async fn after(walk: &Walk, gina: &mut Client, collection: &str, seed: &MasterSeed, version: i64) {
    walk.step(
        "rotation: everything has the new version",
        clients("What was committed carries the new version."),
        async {
            let blob = list(&gina.read("/me/blobs").await, "blobs")[0].clone();
            let slot = list(&gina.read("/users/me/wrapped-keys").await, "slots")[0].clone();
            expect("the blob's", &blob["kmVersion"], version);
            expect("the slot's", &slot["kmVersion"], version);
        },
    )
    .await;
    walk.step(
        "rotation: everything opens under the new seed",
        clients("seals each anew and sends all in one commit; it keeps the new seed only after 200."),
        async {
            let sealed = |row: &Value, name: &str| SealedData::parse(&text(row, name)).unwrap();
            let blob = sealed(&gina.read(&format!("/me/blobs/{BLOB}")).await, "encryptedBlob");
            let binding = Binding::personal_blob(&gina.user_id, BLOB);
            let opened = seed.personal_key().open(&blob, &binding).unwrap();
            assert_eq!(opened.as_slice(), PLAINTEXT, "expected the blob as it was");
            let row = gina.read(&format!("/library/collections/{collection}")).await;
            let binding = Binding::collection_metadata(&gina.user_id, collection);
            let metadata = sealed(&row, "metadataEncrypted");
            let opened = seed.collection_key(collection, 1).open(&metadata, &binding).unwrap();
            assert_eq!(opened.as_slice(), PLAINTEXT, "expected the metadata as it was");
            let slot = list(&gina.read("/users/me/wrapped-keys").await, "slots")[0].clone();
            assert!(passkeys::open(gina, &slot, seed) == *seed, "expected the new seed in the slot");
        },
    )
    .await;
}

async fn conflict(walk: &Walk, gina: &mut Client, device: &Authenticator, collection: &str, old: i64) {
    walk.step(
        "rotation: another device came first",
        clients(
            "When another commit came first it answers 409, with the version as `currentKmVersion`, and \
             nothing is written.",
        ),
        async {
            let before = gina.read("/users/me/identity").await;
            let blob = gina.read(&format!("/me/blobs/{BLOB}")).await;
            let late = MasterSeed::generate(&mut rand::rng());
            let body = everything(gina, device, collection, &late, old);
            let refusal = gina.browser.post(COMMIT, body).await.body(409);
            expect("currentKmVersion", &refusal["currentKmVersion"], old + 1);
            expect("the identity", &gina.read("/users/me/identity").await, before);
            expect("the blob", &gina.read(&format!("/me/blobs/{BLOB}")).await, blob);
        },
    )
    .await;
}
