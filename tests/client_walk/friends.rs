//! Friends on one node, with what existing clients send: a signature that nobody can verify.

use serde_json::{Value, json};
use vellum_client::safety_number;
use vellum_protocol::{Handle, SigningKey};

use super::client::in_path;
use super::{
    Browser, Client, Flag, List, Scene, Text, TextOrNull, Time, TimeOrNull, Walk, clients, expect,
    expect_members, list, text, wire,
};

/// Over version 1 and a time that is not transmitted.
pub const BARE: &str =
    "bm9ib2R5IGNhbiB2ZXJpZnkgdGhpcywgc2luY2UgdGhlIHRpbWUgaXMgbm90IHRyYW5zbWl0dGVkLi4uLi4uLi4u";

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut jan = Scene::settle(&scene.one, "jan").await;
    let mut kim = Scene::settle(&scene.one, "kim").await;
    looking_up(walk, &mut jan, &kim).await;
    invitation(walk, &mut jan, &mut kim).await;
    friendship(walk, &mut jan, &mut kim).await;
    end(walk, &mut jan, &mut kim).await;
}

/// The invitations of one direction.
pub async fn invitations(browser: &mut Browser, direction: &str) -> Vec<Value> {
    let all = browser.get(&format!("/friends/invitations?direction={direction}")).await.body(200);
    list(&all, "invitations")
}

/// The handles of all friends.
pub async fn friends(browser: &mut Browser) -> Vec<String> {
    let all = list(&browser.get("/friends").await.body(200), "friends");
    all.iter().map(|friend| text(friend, "friendHandle")).collect()
}

async fn looking_up(walk: &Walk, jan: &mut Client, kim: &Client) {
    walk.step(
        "friends: somebody is looked up",
        wire("| GET `/friends/resolve/{handle}` | → the user document; 404 |"),
        async {
            let path = format!("/friends/resolve/{}", in_path(&kim.handle()));
            let shown = jan.read(&path).await;
            expect("handle", &shown["handle"], kim.handle().to_string());
            let key = kim.seed.signing_secret().public();
            expect("signingKey", &shown["signingKey"], json!(key));
            let nobody = Handle::parse(&kim.handle().to_string().replace("kim", "nobody")).unwrap();
            jan.browser.get(&format!("/friends/resolve/{}", in_path(&nobody))).await.refused(404);
        },
    )
    .await;
}

async fn invite(jan: &mut Client, kim: &Client) -> Value {
    let body = json!({ "handle": kim.handle(), "signature": BARE });
    let answer = jan.browser.post("/friends/invite", body).await.body(200);
    answer["invitation"].clone()
}

async fn invitation(walk: &Walk, jan: &mut Client, kim: &mut Client) {
    walk.step(
        "friends: an invitation with a signature alone",
        clients("That is enough between users of one node."),
        async {
            let made = invite(jan, kim).await;
            expect("status", &made["status"], "pending");
            expect("toHandle", &made["toHandle"], kim.handle().to_string());
        },
    )
    .await;
    walk.step(
        "friends: it is listed on both sides",
        wire(
            "→ `{invitations: [{id, localUserId, fromHandle, toHandle, direction, status, \
             originServer, signature, createdAt, expiresAt",
        ),
        async {
            let members = [
                ("id", Text),
                ("localUserId", Text),
                ("fromHandle", Text),
                ("toHandle", Text),
                ("direction", Text),
                ("status", Text),
                ("originServer", TextOrNull),
                ("signature", TextOrNull),
                ("createdAt", Time),
                ("expiresAt", TimeOrNull),
            ];
            for (side, direction) in [(&mut *jan, "outgoing"), (&mut *kim, "incoming")] {
                let all = invitations(&mut side.browser, direction).await;
                assert_eq!(all.len(), 1, "expected one {direction}, seen {all:?}");
                expect_members(&all[0], &members);
                expect("direction", &all[0]["direction"], direction);
                expect("localUserId", &all[0]["localUserId"], side.user_id.clone());
            }
        },
    )
    .await;
    walk.step(
        "friends: it is rejected without a body",
        clients("A rejection may come without a body."),
        async {
            let id = text(&invitations(&mut kim.browser, "incoming").await[0], "id");
            let path = format!("/friends/invitations/{id}/reject");
            expect("success", &kim.browser.post_nothing(&path).await.body(200)["success"], true);
            assert!(invitations(&mut jan.browser, "outgoing").await.is_empty(), "expected none any more");
        },
    )
    .await;
    walk.step(
        "friends: another one is withdrawn",
        wire("| DELETE `/friends/invitations/{id}` | → `{success: true}`; withdraws or drops, and sends nothing |"),
        async {
            let id = text(&invite(jan, kim).await, "id");
            let ended = jan.browser.delete(&format!("/friends/invitations/{id}")).await.body(200);
            expect("success", &ended["success"], true);
            assert!(invitations(&mut jan.browser, "outgoing").await.is_empty(), "expected none any more");
        },
    )
    .await;
}

async fn friendship(walk: &Walk, jan: &mut Client, kim: &mut Client) {
    invite(jan, kim).await;
    walk.step(
        "friends: it is accepted",
        wire("| POST `/friends/invitations/{id}/accept` | `{signed parts}` → `{success: true}` |"),
        async {
            let all = invitations(&mut kim.browser, "incoming").await;
            let id = text(all.last().unwrap(), "id");
            let path = format!("/friends/invitations/{id}/accept");
            let seen = kim.browser.post(&path, json!({ "signature": BARE })).await.body(200);
            expect("success", &seen["success"], true);
        },
    )
    .await;
    let row = walk
        .step(
            "friends: both are listed",
            wire(
                "→ `{friends: [{id, userId, friendHandle, friendSigningKey, friendEncryptionKey, friendName, \
                  friendPicture, status, keysChangedAt, establishedAt, revokedAt, createdAt}]}`",
            ),
            async {
                let members = [
                    ("id", Text),
                    ("userId", Text),
                    ("friendHandle", Text),
                    ("friendSigningKey", Text),
                    ("friendEncryptionKey", TextOrNull),
                    ("friendName", TextOrNull),
                    ("friendPicture", TextOrNull),
                    ("status", Text),
                    ("keysChangedAt", TimeOrNull),
                    ("establishedAt", Time),
                    ("revokedAt", TimeOrNull),
                    ("createdAt", Time),
                ];
                let all = list(&jan.read("/friends").await, "friends");
                expect_members(&all[0], &members);
                expect("status", &all[0]["status"], "accepted");
                expect("friendHandle", &all[0]["friendHandle"], kim.handle().to_string());
                assert_eq!(friends(&mut kim.browser).await, [jan.handle().to_string()], "expected jan");
                all[0].clone()
            },
        )
        .await;
    safety(walk, jan, kim, &row).await;
}

async fn safety(walk: &Walk, jan: &mut Client, kim: &mut Client, row: &Value) {
    walk.step(
        "friends: the safety number is the same for both",
        wire("as twelve digits in groups of three."),
        async {
            let key = |text: &str| SigningKey::parse(text).unwrap();
            let own = jan.seed.signing_secret().public();
            let shown = safety_number(&own, &key(&text(row, "friendSigningKey")));
            let other = list(&kim.read("/friends").await, "friends")[0].clone();
            let kims = kim.seed.signing_secret().public();
            assert_eq!(shown, safety_number(&kims, &key(&text(&other, "friendSigningKey"))));
            let digits = shown.bytes().filter(u8::is_ascii_digit).count();
            assert_eq!((shown.len(), digits), (15, 12), "expected four groups, seen {shown:?}");
        },
    )
    .await;
    walk.step(
        "friends: their keys are asked for again",
        wire("| POST `/friends/sync-keys` | → `{results: [{handle, updated, error?}]}`"),
        async {
            let seen = jan.browser.post_nothing("/friends/sync-keys").await.body(200);
            let results = list(&seen, "results");
            assert_eq!(results.len(), 1, "expected one result, seen {seen}");
            expect("handle", &results[0]["handle"], kim.handle().to_string());
            expect_members(&results[0], &[("updated", Flag)]);
            expect("updated", &results[0]["updated"], false);
        },
    )
    .await;
}

async fn end(walk: &Walk, jan: &mut Client, kim: &mut Client) {
    walk.step(
        "friends: nobody is invited twice",
        wire("Refusals carry `code`: `invalid_handle`, `self`, `already_friends`, `already_invited`"),
        async {
            let invite = |handle: String| json!({ "handle": handle, "signature": BARE });
            for (handle, code) in [
                (kim.handle().to_string(), "already_friends"),
                (jan.handle().to_string(), "self"),
                ("no handle".to_owned(), "invalid_handle"),
            ] {
                let seen = jan.browser.post("/friends/invite", invite(handle.clone())).await.refused(400);
                assert_eq!(seen, code, "expected this code for {handle}");
            }
        },
    )
    .await;
    walk.step(
        "friends: one is removed",
        clients("A friend is removed without a signature, with neither query nor body."),
        async {
            let path = format!("/friends/{}", in_path(&kim.handle()));
            let seen = jan.browser.delete(&path).await.body(200);
            expect("success", &seen["success"], true);
            expect("delivery", &seen["delivery"], "local");
            for side in [&mut jan.browser, &mut kim.browser] {
                expect_members(&side.get("/friends").await.body(200), &[("friends", List)]);
                assert!(friends(side).await.is_empty(), "expected no friend on either side");
            }
        },
    )
    .await;
}
