//! Starting over, and telling everybody: on this node, on another, and on an existing server.

use serde_json::{Value, json};
use tokio::sync::Mutex;
use vellum_client::{MasterSeed, SignedFields};
use vellum_protocol::{Handle, MessageType};

use super::client::{in_path, keys_of, signed};
use super::friends::friends;
use super::peers::{accept, await_friend, befriend, expect_as_signed, received, revoke};
use super::shares::{sealed_for, share_elsewhere, shares};
use super::{
    Client, Number, Scene, Text, TextOrNull, Time, TimeOrNull, Walk, clients, expect, expect_members, list,
    text, wire,
};
use crate::support::{PeerUser, now, wait_for};

const RESET: &str = "/users/me/identity/reset";
const PENDING: &str = "/users/me/revocations/pending";
const FLUSH: &str = "/users/me/revocations/flush";
const CONFIRM: &str = "erase-all-my-data";

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut rosa = Scene::settle(&scene.one, "rosa").await;
    let mut sven = Scene::settle(&scene.two, "sven").await;
    let tess = scene.peer.user("tess");
    befriend(&mut rosa, &mut sven).await;
    befriend_peer(scene, &mut rosa, &tess).await;
    let body = json!({ "encryptedBlob": "AgE=" });
    rosa.browser.put("/me/blobs/search-history", body).await.body(200);
    let collection = text(&rosa.read("/library/collections").await[0], "id");
    let sealed = sealed_for(&rosa, &sven);
    share_elsewhere(&mut rosa, &sven, &collection, &sealed).await;
    await_shares(&mut sven, 1).await;

    refused(walk, &mut rosa).await;
    over(walk, &mut rosa, &[sven.handle(), tess.handle.clone()]).await;
    before_the_keys(walk, &mut rosa).await;
    let to_tess = flushed(walk, &mut rosa, &sven.handle(), &tess).await;
    arrived(walk, scene, &mut rosa, &mut sven, &tess, &to_tess).await;
    the_other_way(walk, &mut rosa, &mut sven).await;
    by_an_existing_server(walk, scene, &mut rosa, tess).await;
    discarded(walk, scene, &mut rosa).await;
}

async fn befriend_peer(scene: &Scene, rosa: &mut Client, tess: &PeerUser) {
    scene.peer.invite(tess, &rosa.handle()).await;
    accept(rosa, &tess.handle).await;
    await_friend(&mut rosa.browser, &tess.handle, true).await;
}

/// Waits until somebody has so many incoming shares.
async fn await_shares(client: &mut Client, count: usize) {
    let browser = Mutex::new(&mut client.browser);
    let probe = || async { shares(&mut **browser.lock().await, "incoming").await };
    wait_for(&format!("there are {count} incoming shares"), probe, |shares| shares.len() == count).await;
}

async fn pending(client: &mut Client) -> Vec<Value> {
    list(&client.read(PENDING).await, "revocations")
}

async fn refused(walk: &Walk, rosa: &mut Client) {
    walk.step(
        "reset: another text does nothing",
        clients("and with another text it is answered 422 and nothing is touched."),
        async {
            let before = rosa.read("/users/me/identity").await;
            for confirm in ["erase all my data", "ERASE-ALL-MY-DATA", ""] {
                rosa.browser.post(RESET, json!({ "confirm": confirm })).await.refused(422);
            }
            expect("the identity", &rosa.read("/users/me/identity").await, before);
            assert_eq!(friends(&mut rosa.browser).await.len(), 2, "expected both friends");
        },
    )
    .await;
}

async fn over(walk: &Walk, rosa: &mut Client, peers: &[Handle]) {
    walk.step(
        "reset: it is done",
        wire("`{confirm: \"erase-all-my-data\"}` → `{success: true, pendingRevocations}`"),
        async {
            let seen = rosa.browser.post(RESET, json!({ "confirm": CONFIRM })).await.body(200);
            expect("success", &seen["success"], true);
            expect("pendingRevocations", &seen["pendingRevocations"], peers.len());
        },
    )
    .await;
    walk.step(
        "reset: everything is gone",
        clients("Keys, blobs, slots and relationships are gone then; passkeys and sessions stay."),
        async {
            let identity = rosa.read("/users/me/identity").await;
            expect("signingKey", &identity["signingKey"], Value::Null);
            expect("encryptionKey", &identity["encryptionKey"], Value::Null);
            expect("blobs", &rosa.read("/me/blobs").await["blobs"], json!([]));
            expect("slots", &rosa.read("/users/me/wrapped-keys").await["slots"], json!([]));
            expect("friends", &rosa.read("/friends").await["friends"], json!([]));
        },
    )
    .await;
    walk.step(
        "reset: who has to be told",
        wire(
            "→ `{revocations: [{id, peerHandle, createdAt, state, attempts, lastError, lastAttemptAt, \
              nextAttemptAt, expiresAt}]}`, oldest first",
        ),
        async {
            let rows = pending(rosa).await;
            assert_eq!(rows.len(), peers.len(), "expected a row for each, seen {rows:?}");
            let members = [
                ("id", Text),
                ("peerHandle", Text),
                ("createdAt", Time),
                ("state", Text),
                ("attempts", Number),
                ("lastError", TextOrNull),
                ("lastAttemptAt", TimeOrNull),
                ("nextAttemptAt", TimeOrNull),
                ("expiresAt", TimeOrNull),
            ];
            for (row, peer) in rows.iter().map(|row| (row, text(row, "peerHandle"))) {
                expect_members(row, &members);
                assert!(peers.iter().any(|handle| handle.as_str() == peer), "expected no {peer}");
            }
        },
    )
    .await;
}

async fn before_the_keys(walk: &Walk, rosa: &mut Client) {
    walk.step(
        "flush: not without keys",
        clients("POST `/users/me/revocations/flush` needs an alias and keys, and is answered 400 without."),
        async {
            let peer = text(&pending(rosa).await[0], "peerHandle").parse().unwrap();
            let fields = rosa.signer().revoke(&peer, now(), &mut rand::rng());
            let items = json!({ "items": [signed(&fields, json!({ "peerHandle": peer }))] });
            rosa.browser.post(FLUSH, items).await.refused(400);
        },
    )
    .await;
    rosa.seed = MasterSeed::generate(&mut rand::rng());
    walk.step(
        "reset: new keys are registered",
        clients("The revocations are signed with the new keys."),
        async {
            rosa.register_keys().await.body(200);
            let (identity, keys) = (rosa.read("/users/me/identity").await, keys_of(&rosa.seed));
            expect("signingKey", &identity["signingKey"], keys["signingKey"].clone());
        },
    )
    .await;
    walk.step(
        "flush: nothing to send",
        clients("A client that has nothing to send flushes `items: []` and is answered 200 with no results."),
        async {
            let seen = rosa.browser.post(FLUSH, json!({ "items": [] })).await.body(200);
            expect("results", &seen["results"], json!([]));
        },
    )
    .await;
}

/// Signs and flushes a revocation for each of these; gives what was signed for the last.
async fn flush(client: &mut Client, peers: &[&Handle]) -> (Value, SignedFields) {
    let fields: Vec<SignedFields> =
        peers.iter().map(|peer| client.signer().revoke(peer, now(), &mut rand::rng())).collect();
    let items: Vec<Value> = peers
        .iter()
        .zip(&fields)
        .map(|(peer, fields)| signed(fields, json!({ "peerHandle": peer })))
        .collect();
    let seen = client.browser.post(FLUSH, json!({ "items": items })).await.body(200);
    (seen["results"].clone(), fields.last().unwrap().clone())
}

/// Gives what was signed for the existing server.
async fn flushed(walk: &Walk, rosa: &mut Client, sven: &Handle, tess: &PeerUser) -> SignedFields {
    let fields = walk
        .step(
            "flush: both are told",
            wire("`{items: [{peerHandle, signature, nonce, timestamp, messageVersion?}]}`"),
            async {
                let (results, fields) = flush(rosa, &[sven, &tess.handle]).await;
                expect("the first", &results[0]["peerHandle"], sven.to_string());
                expect("the second", &results[1]["peerHandle"], tess.handle.to_string());
                fields
            },
        )
        .await;
    walk.step("flush: nothing is pending any more", wire(
            "Vellum takes an envelope for delivered only when the status is 2xx **and** the body is JSON with \
             `\"success\": true`",
        ), async {
        let rosa = Mutex::new(&mut *rosa);
        let probe = || async { pending(&mut **rosa.lock().await).await };
        wait_for("nothing is pending", probe, |pending| pending.is_empty()).await;
    })
    .await;
    fields
}

async fn arrived(
    walk: &Walk,
    scene: &Scene,
    rosa: &mut Client,
    sven: &mut Client,
    tess: &PeerUser,
    to_tess: &SignedFields,
) {
    walk.step(
        "reset: the friend on another node is one no more",
        wire("Ends friendship, invitations in both directions and shares in both directions between the two"),
        async { await_friend(&mut sven.browser, &rosa.handle(), false).await },
    )
    .await;
    walk.step(
        "reset: what was shared with the friend is gone, too",
        wire(
            "and shares in both directions between the two, as far as established at or before the timestamp",
        ),
        async { await_shares(sven, 0).await },
    )
    .await;
    walk.step(
        "reset: the existing server got what was signed",
        wire("The signature is Ed25519, by the user `from`, over the canonical JSON of the eight other members"),
        async {
            let kind = MessageType::RelationshipRevoke;
            let seen = received(scene, kind, &tess.handle).await;
            expect_as_signed(&seen, kind, &rosa.handle(), &tess.handle, to_tess);
        },
    )
    .await;
}

/// The friend on the other node starts over, and this side is told.
async fn the_other_way(walk: &Walk, rosa: &mut Client, sven: &mut Client) {
    walk.step(
        "reset: the two are friends again, with new keys",
        wire("A new friendship replaces an older one with the same handle"),
        async {
            befriend(rosa, sven).await;
            await_friend(&mut sven.browser, &rosa.handle(), true).await;
        },
    )
    .await;
    walk.step(
        "reset: the other node's user starts over",
        wire("A RELATIONSHIP_REVOKE under the new key is carried out: that is what a reset looks like."),
        async {
            sven.browser.post(RESET, json!({ "confirm": CONFIRM })).await.body(200);
            sven.seed = MasterSeed::generate(&mut rand::rng());
            sven.register_keys().await.body(200);
            flush(sven, &[&rosa.handle()]).await;
            await_friend(&mut rosa.browser, &sven.handle(), false).await;
            let sven = Mutex::new(sven);
            let probe = || async { pending(&mut **sven.lock().await).await };
            wait_for("nothing is pending there", probe, |pending| pending.is_empty()).await;
        },
    )
    .await;
}

async fn by_an_existing_server(walk: &Walk, scene: &Scene, rosa: &mut Client, tess: PeerUser) {
    befriend_peer(scene, rosa, &tess).await;
    walk.step(
        "reset: an existing server's user starts over",
        wire("In the answer to a RELATIONSHIP_REVOKE also `\"applied\": true|false` [extension]"),
        async {
            // The node may keep the old document for as long as the protocol allows.
            let tess = scene.peer.renew(&tess);
            let (status, answer) = revoke(scene, &tess, &rosa.handle()).await;
            assert_eq!(status, 202, "expected the status 202, seen it with {answer}");
            expect("success", &answer["success"], true);
            expect("applied", &answer["applied"], true);
            await_friend(&mut rosa.browser, &tess.handle, false).await;
        },
    )
    .await;
}

async fn discarded(walk: &Walk, scene: &Scene, rosa: &mut Client) {
    let uma = scene.peer.user("uma");
    befriend_peer(scene, rosa, &uma).await;
    walk.step(
        "flush: a revocation is given up",
        wire("| DELETE `/users/me/revocations/pending/{peerHandle}` | → `{success: true}`; 404 `not_pending` |"),
        async {
            rosa.browser.delete(&format!("/friends/{}", in_path(&uma.handle))).await.body(200);
            let path = format!("{PENDING}/{}", in_path(&uma.handle));
            expect("success", &rosa.browser.delete(&path).await.body(200)["success"], true);
            assert!(pending(rosa).await.is_empty(), "expected nothing to be pending");
            let code = rosa.browser.delete(&path).await.refused(404);
            assert_eq!(code, "not_pending", "expected this code");
        },
    )
    .await;
}
