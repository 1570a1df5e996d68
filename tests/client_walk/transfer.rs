//! The seed handed to a new device.

use serde_json::{Value, json};
use vellum_client::transfer::{TransferReceiver, TransferSender, TransferUpload};

use super::members::time;
use super::{Browser, Client, Scene, Text, Time, Walk, clients, expect, expect_members, sign_in, text, wire};
use crate::support::now;

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut hugo = Scene::settle(&scene.one, "hugo").await;
    let mut fresh = sign_in::again(scene, &hugo).await;
    let receiver = TransferReceiver::begin(&mut rand::rng());
    let id = beginning(walk, &mut fresh, &receiver).await;
    let digits = upload(walk, &mut hugo, &id, &receiver).await;
    arrival(walk, &hugo, &mut fresh, &id, &receiver, &digits).await;
    limits(walk, scene, &mut fresh, &id).await;
}

async fn begin(browser: &mut Browser, receiver: &TransferReceiver) -> Value {
    let body = json!({ "receiverEphemeralPub": receiver.public() });
    browser.post("/device-transfer", body).await.body(200)
}

async fn beginning(walk: &Walk, fresh: &mut Browser, receiver: &TransferReceiver) -> String {
    let id = walk
        .step(
            "transfer: the new device begins",
            clients("takes `{receiverEphemeralPub}` and answers `{sessionId, expiresAt}`, 60 s from now."),
            async {
                let before = now();
                let begun = begin(fresh, receiver).await;
                expect_members(&begun, &[("sessionId", Text), ("expiresAt", Time)]);
                let ends = time(&begun, "expiresAt");
                let (least, most) = (ends.since(now()), ends.since(before));
                assert!(least <= 60_000 && most >= 60_000, "expected 60 s, seen {least} to {most} ms");
                text(&begun, "sessionId")
            },
        )
        .await;
    walk.step(
        "transfer: nothing is there yet",
        clients("GET `/device-transfer/{id}` answers 425 while nothing is there."),
        async { drop(fresh.get(&format!("/device-transfer/{id}")).await.refused(425)) },
    )
    .await;
    id
}

/// Gives the six digits that the old device shows.
async fn upload(walk: &Walk, hugo: &mut Client, id: &str, receiver: &TransferReceiver) -> String {
    // The new device shows its key as a picture, which the old one reads.
    let sender = TransferSender::begin(id, receiver.public(), &mut rand::rng());
    let (digits, path) = (sender.digits(), format!("/device-transfer/{id}/upload"));
    let upload = serde_json::to_value(sender.send(&hugo.seed, &mut rand::rng()).unwrap()).unwrap();
    walk.step(
        "transfer: the old device uploads the seed",
        clients("POST `/device-transfer/{id}/upload` takes `{senderEphemeralPub, sealedSeed, senderSignature}`, once"),
        async {
            let status = hugo.browser.post(&path, upload.clone()).await.status;
            assert!((200..300).contains(&status), "expected a success, seen {status}");
        },
    )
    .await;
    walk.step("transfer: it uploads it once", clients("once; a second one is answered 409."), async {
        hugo.browser.post(&path, upload.clone()).await.refused(409);
    })
    .await;
    digits
}

async fn arrival(
    walk: &Walk,
    hugo: &Client,
    fresh: &mut Browser,
    id: &str,
    receiver: &TransferReceiver,
    digits: &str,
) {
    let path = format!("/device-transfer/{id}");
    let seen = walk
        .step(
            "transfer: the new device fetches it",
            clients(
                "The GET that finds it answers `{sessionId, receiverEphemeralPub, senderEphemeralPub, \
                 sealedSeed, senderSignature}`, once",
            ),
            async {
                let seen = fresh.get(&path).await.body(200);
                expect("sessionId", &seen["sessionId"], id);
                expect("receiverEphemeralPub", &seen["receiverEphemeralPub"], json!(receiver.public()));
                let members = [("senderEphemeralPub", Text), ("sealedSeed", Text), ("senderSignature", Text)];
                expect_members(&seen, &members);
                serde_json::from_value::<TransferUpload>(seen).unwrap()
            },
        )
        .await;
    walk.step("transfer: both show the same digits", wire("Six digits to compare"), async {
        assert_eq!(receiver.digits(id, &seen.sender_ephemeral_pub), digits, "expected the old device's");
    })
    .await;
    walk.step(
        "transfer: the seed has arrived",
        wire("The signature is the version 1 form of type `device-transfer`"),
        async {
            let key = hugo.seed.signing_secret().public();
            assert!(receiver.open(id, &seen, &key).unwrap() == hugo.seed, "expected the same seed");
        },
    )
    .await;
    walk.step("transfer: it is fetched once", clients("once; the next is answered 410."), async {
        fresh.get(&path).await.refused(410);
    })
    .await;
}

async fn limits(walk: &Walk, scene: &Scene, fresh: &mut Browser, id: &str) {
    walk.step(
        "transfer: it is the user's own",
        clients("A transfer of another user is answered 403, and an unknown one 404."),
        async {
            let mut other = Scene::settle(&scene.one, "hanna").await;
            other.browser.get(&format!("/device-transfer/{id}")).await.refused(403);
            other.browser.get("/device-transfer/unknown").await.refused(404);
        },
    )
    .await;
    let receiver = TransferReceiver::begin(&mut rand::rng());
    walk.step(
        "transfer: it is given up",
        clients("DELETE `/device-transfer/{id}` answers `{success: true}`."),
        async {
            let begun = text(&begin(fresh, &receiver).await, "sessionId");
            let ended = fresh.delete(&format!("/device-transfer/{begun}")).await.body(200);
            expect("success", &ended["success"], true);
        },
    )
    .await;
    walk.step(
        "transfer: three an hour",
        clients("A user has three transfers an hour; the next is answered 429."),
        async {
            begin(fresh, &receiver).await;
            let body = json!({ "receiverEphemeralPub": receiver.public() });
            fresh.post("/device-transfer", body).await.refused(429);
        },
    )
    .await;
}
