//! A collection shared with a friend, on one node and with another.

use serde_json::{Value, json};
use vellum_client::EncryptionSecret;
use vellum_client::collection_share::{SharedCiphertext, open_collection_share, seal_collection_share};
use vellum_client::signer::{ShareRole, SharedResource};

use super::friends::BARE;
use super::peers::befriend;
use super::{
    Browser, Client, Scene, Text, TextOrNull, Time, TimeOrNull, Walk, clients, expect, expect_members, list,
    text, wire,
};
use crate::support::{now, wait_for};

const PLAINTEXT: &[u8] = br#"{"metadata":{"name":"Cafes"}}"#;

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut lea = Scene::settle(&scene.one, "lea").await;
    let mut max = Scene::settle(&scene.one, "max").await;
    let id = text(&lea.read("/library/collections").await[0], "id");
    befriend_here(&mut lea, &mut max).await;
    let share = shared_here(walk, &mut lea, &mut max, &id).await;
    seen_by_the_friend(walk, &mut lea, &mut max, &id).await;
    changed_here(walk, &mut lea, &mut max, &share, &id).await;
    ended_here(walk, &mut lea, &mut max, &share).await;

    let mut nora = Scene::settle(&scene.two, "nora").await;
    befriend(&mut lea, &mut nora).await;
    shared_elsewhere(walk, &mut lea, &mut nora, &id).await;
    changed_elsewhere(walk, &mut lea, &mut nora, &id).await;
}

async fn befriend_here(lea: &mut Client, max: &mut Client) {
    let body = json!({ "handle": max.handle(), "signature": BARE });
    lea.browser.post("/friends/invite", body).await.body(200);
    let id = text(&super::friends::invitations(&mut max.browser, "incoming").await[0], "id");
    let path = format!("/friends/invitations/{id}/accept");
    max.browser.post(&path, json!({ "signature": BARE })).await.body(200);
}

/// The shares of one list.
pub async fn shares(browser: &mut Browser, which: &str) -> Vec<Value> {
    list(&browser.get(&format!("/sharing/{which}")).await.body(200), "shares")
}

fn secret(client: &Client) -> EncryptionSecret {
    client.seed.encryption_secret()
}

/// What a share brings.
pub fn sealed_for(from: &Client, to: &Client) -> SharedCiphertext {
    let key = secret(to).public();
    seal_collection_share(PLAINTEXT, &secret(from), &key, &mut rand::rng()).unwrap()
}

/// Opens what a share brings, as the recipient.
fn expect_opens(row: &Value, from: &Client, to: &Client) {
    let share = SharedCiphertext { encrypted_data: text(row, "encryptedData"), nonce: text(row, "nonce") };
    let opened = open_collection_share(&share, &secret(to), &secret(from).public()).unwrap();
    assert_eq!(opened.as_slice(), PLAINTEXT, "expected what the friend sealed");
}

/// The body of a share without the members that a recipient elsewhere needs.
fn body(to: &Client, id: &str, sealed: &SharedCiphertext) -> Value {
    json!({
        "recipientHandle": to.handle(),
        "resourceType": "collection",
        "resourceId": id,
        "encryptedData": sealed.encrypted_data,
        "nonce": sealed.nonce,
        "role": "viewer",
    })
}

async fn shared_here(walk: &Walk, lea: &mut Client, max: &mut Client, id: &str) -> Value {
    let sealed = sealed_for(lea, max);
    let share = walk
        .step(
            "shares: a collection is shared with a friend here",
            clients(
                "A share on one node is accepted at once, and the recipient sees it among the incoming ones.",
            ),
            async {
                let share = lea.browser.post("/sharing", body(max, id, &sealed)).await.body(200);
                expect("status", &share["status"], "accepted");
                let incoming = shares(&mut max.browser, "incoming").await;
                assert_eq!(incoming.len(), 1, "expected one, seen {incoming:?}");
                expect("resourceId", &incoming[0]["resourceId"], id);
                share
            },
        )
        .await;
    walk.step(
        "shares: what a share has",
        clients("`encryptedData`, `nonce`, `role`, `status`, `createdAt`, `acceptedAt` and `expiresAt`."),
        async {
            let members = [
                ("id", Text),
                ("userId", Text),
                ("recipientHandle", Text),
                ("recipientUserId", TextOrNull),
                ("resourceType", Text),
                ("resourceId", Text),
                ("encryptedData", TextOrNull),
                ("nonce", TextOrNull),
                ("role", Text),
                ("status", Text),
                ("createdAt", Time),
                ("acceptedAt", TimeOrNull),
                ("expiresAt", TimeOrNull),
            ];
            expect_members(&share, &members);
            expect("recipientHandle", &share["recipientHandle"], max.handle().to_string());
            expect("recipientUserId", &share["recipientUserId"], max.user_id.clone());
        },
    )
    .await;
    walk.step(
        "shares: the friend opens it",
        wire("key HKDF(X25519 of the two long-lived keys, `parchment-share-collection-v1`)"),
        async { expect_opens(&shares(&mut max.browser, "incoming").await[0], lea, max) },
    )
    .await;
    share
}

async fn seen_by_the_friend(walk: &Walk, lea: &mut Client, max: &mut Client, id: &str) {
    walk.step(
        "shares: the friend's library has it",
        wire(
            "| GET `/library/collections/shared-with-me` | → `[{…the collection, role, shareEnvelope: \
             {encryptedData, nonce}, senderHandle, keyChanged}]`",
        ),
        async {
            let all = max.read("/library/collections/shared-with-me").await;
            assert_eq!(all.as_array().map(Vec::len), Some(1), "expected one, seen {all}");
            expect("id", &all[0]["id"], id);
            expect("userId", &all[0]["userId"], lea.user_id.clone());
        },
    )
    .await;
    walk.step(
        "shares: the friend reads the collection",
        wire("| GET `/library/collections/{id}` | → the same with `bookmarks: []`"),
        async {
            let seen = max.read(&format!("/library/collections/{id}")).await;
            expect("id", &seen["id"], id);
            expect("senderHandle", &seen["senderHandle"], lea.handle().to_string());
            expect_opens(&seen["shareEnvelope"], lea, max);
        },
    )
    .await;
}

async fn changed_here(walk: &Walk, lea: &mut Client, max: &mut Client, share: &Value, id: &str) {
    let sentence = "PATCH `/sharing/{id}` takes `{role}`, and PUT `/sharing/envelope` a new `encryptedData` and `nonce`.";
    walk.step("shares: the friend may write", clients(sentence), async {
        let path = format!("/sharing/{}", text(share, "id"));
        let seen = lea.browser.patch(&path, json!({ "role": "editor" })).await.body(200);
        expect("role", &seen["role"], "editor");
        expect("the friend's role", &shares(&mut max.browser, "incoming").await[0]["role"], "editor");
    })
    .await;
    walk.step("shares: it is sealed anew", clients(sentence), async {
        let sealed = sealed_for(lea, max);
        let mut body = body(max, id, &sealed);
        body.as_object_mut().unwrap().remove("role");
        lea.browser.put("/sharing/envelope", body).await.body(200);
        let incoming = shares(&mut max.browser, "incoming").await;
        expect("encryptedData", &incoming[0]["encryptedData"], sealed.encrypted_data.clone());
        expect_opens(&incoming[0], lea, max);
    })
    .await;
    walk.step(
        "shares: once more is the same one",
        clients("There is one share for an owner, a recipient, a type and an id."),
        async {
            let sealed = sealed_for(lea, max);
            lea.browser.post("/sharing", body(max, id, &sealed)).await.body(200);
            let path = format!("outgoing/collection/{id}");
            assert_eq!(shares(&mut lea.browser, &path).await.len(), 1, "expected one outgoing");
            assert_eq!(shares(&mut max.browser, "incoming").await.len(), 1, "expected one incoming");
        },
    )
    .await;
}

async fn ended_here(walk: &Walk, lea: &mut Client, max: &mut Client, share: &Value) {
    let path = format!("/sharing/{}", text(share, "id"));
    walk.step(
        "shares: it is taken back",
        clients("DELETE `/sharing/{id}` and POST `/sharing/{id}/revoke` remove the share on both sides of one node."),
        async {
            let seen = lea.browser.post_nothing(&format!("{path}/revoke")).await.body(200);
            expect("success", &seen["success"], true);
            assert!(shares(&mut lea.browser, "outgoing").await.is_empty(), "expected none outgoing");
            assert!(shares(&mut max.browser, "incoming").await.is_empty(), "expected none incoming");
        },
    )
    .await;
    walk.step("shares: it is not there", clients("A share that does not exist is answered 404."), async {
        lea.browser.delete(&path).await.refused(404);
        lea.browser.post_nothing(&format!("{path}/revoke")).await.refused(404);
    })
    .await;
}

/// Shares a collection with a friend on another node, signed.
pub async fn share_elsewhere(from: &mut Client, to: &Client, id: &str, sealed: &SharedCiphertext) -> Value {
    let resource = SharedResource {
        resource_type: "collection".to_owned(),
        resource_id: id.to_owned(),
        ciphertext: sealed.clone(),
        role: ShareRole::Viewer,
    };
    let signed = from.signer().share(&to.handle(), &resource, now(), &mut rand::rng());
    let mut body = body(to, id, sealed);
    body["federationSignature"] = json!(signed.signature);
    body["federationNonce"] = json!(signed.nonce);
    body["federationTimestamp"] = json!(signed.timestamp);
    from.browser.post("/sharing", body).await.body(200)
}

async fn shared_elsewhere(walk: &Walk, lea: &mut Client, nora: &mut Client, id: &str) {
    let sealed = sealed_for(lea, nora);
    walk.step(
        "shares: one with a person elsewhere has to be signed",
        clients("and without the three `federation…` members it is refused with 400."),
        async { drop(lea.browser.post("/sharing", body(nora, id, &sealed)).await.refused(400)) },
    )
    .await;
    walk.step(
        "shares: a signed one is pending",
        wire(
            "a version 2 RESOURCE_SHARE, message version 1, whose payload is exactly the five members above.",
        ),
        async {
            let share = share_elsewhere(lea, nora, id, &sealed).await;
            expect("status", &share["status"], "pending");
        },
    )
    .await;
    walk.step(
        "shares: it waits for the recipient",
        wire("An incoming share, if the two are friends."),
        async {
            let browser = tokio::sync::Mutex::new(&mut nora.browser);
            let probe = || async { shares(&mut **browser.lock().await, "incoming/pending").await };
            let mut pending = wait_for("the share arrives", probe, |shares| !shares.is_empty()).await;
            let pending = pending.pop().unwrap();
            expect("resourceId", &pending["resourceId"], id);
            expect("role", &pending["role"], "viewer");
            expect_opens(&pending, lea, nora);
        },
    )
    .await;
    walk.step(
        "shares: the recipient accepts it",
        wire("| POST `/sharing/incoming/{id}/accept` | → the share |"),
        async {
            let pending = shares(&mut nora.browser, "incoming/pending").await;
            let path = format!("/sharing/incoming/{}/accept", text(&pending[0], "id"));
            let share = nora.browser.post_nothing(&path).await.body(200);
            expect("status", &share["status"], "accepted");
            assert!(shares(&mut nora.browser, "incoming/pending").await.is_empty(), "expected none pending");
        },
    )
    .await;
}

async fn changed_elsewhere(walk: &Walk, lea: &mut Client, nora: &mut Client, id: &str) {
    let sentence = "Without the `federation…` members these two change the user's own row of a share with \
                    somebody elsewhere, and answer 200 with `delivery: \"unsigned\"`.";
    walk.step("shares: another role, unsigned", clients(sentence), async {
        let row = shares(&mut lea.browser, &format!("outgoing/collection/{id}")).await[0].clone();
        let path = format!("/sharing/{}", text(&row, "id"));
        let seen = lea.browser.patch(&path, json!({ "role": "editor" })).await.body(200);
        expect("delivery", &seen["delivery"], "unsigned");
        expect("role", &seen["role"], "editor");
        expect("the recipient's", &shares(&mut nora.browser, "incoming").await[0]["role"], "viewer");
    })
    .await;
    walk.step("shares: sealed anew, unsigned", clients(sentence), async {
        let sealed = sealed_for(lea, nora);
        let mut body = body(nora, id, &sealed);
        body.as_object_mut().unwrap().remove("role");
        let seen = lea.browser.put("/sharing/envelope", body).await.body(200);
        expect("delivery", &seen["delivery"], "unsigned");
        let row = shares(&mut lea.browser, &format!("outgoing/collection/{id}")).await[0].clone();
        expect("encryptedData", &row["encryptedData"], sealed.encrypted_data.clone());
    })
    .await;
    walk.step(
        "shares: the recipient drops it",
        wire(
            "| POST `/sharing/incoming/{id}/reject`, DELETE `/sharing/incoming/{id}` | → `{success: true}` |",
        ),
        async {
            let row = shares(&mut nora.browser, "incoming").await[0].clone();
            let path = format!("/sharing/incoming/{}", text(&row, "id"));
            expect("success", &nora.browser.delete(&path).await.body(200)["success"], true);
            assert!(shares(&mut nora.browser, "incoming").await.is_empty(), "expected none");
        },
    )
    .await;
}
