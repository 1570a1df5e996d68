//! A device's wrap secret, and a second device.

use serde_json::{Value, json};
use vellum_client::device_wrap::WrapSecret;
use vellum_client::{Binding, MasterSeed, SealedData};

use super::members::expect_base64;
use super::{Browser, Client, Scene, Walk, clients, expect, sign_in, text, wire};

const DESK: &str = "desk-0123-abcd";
const PHONE: &str = "phone-4567-efab";

fn path(device: &str) -> String {
    format!("/users/me/devices/{device}/wrap-secret")
}

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut dora = Scene::settle(&scene.one, "dora").await;
    let desk = first_device(walk, &mut dora).await;
    second_device(walk, scene, &mut dora, &desk).await;
    rotation(walk, &mut dora, &desk).await;
}

async fn first_device(walk: &Walk, dora: &mut Client) -> Value {
    let secret = walk
        .step(
            "device: it reads its wrap secret",
            clients("answers `{secret}`, which is base64 of 32 bytes and the same on every call."),
            async {
                let secret = dora.read(&path(DESK)).await;
                expect_base64(&secret, "secret", 32);
                expect("it a second time", &dora.read(&path(DESK)).await["secret"], secret["secret"].clone());
                secret["secret"].clone()
            },
        )
        .await;
    walk.step(
        "device: the seed stays on it, sealed",
        wire("The seed's 32 bytes, sealed under HKDF(wrap secret, `parchment-seed-wrap-v1`)."),
        async {
            let wrap = |secret: &Value| WrapSecret::parse(secret.as_str().unwrap()).unwrap();
            let kept = wrap(&secret).seal(&dora.seed, DESK, &mut rand::rng()).unwrap();
            let read_again = dora.read(&path(DESK)).await["secret"].clone();
            let opened = wrap(&read_again).open(&kept, DESK).unwrap();
            assert!(opened == dora.seed, "expected the same seed");
        },
    )
    .await;
    walk.step("device: a bad name is refused", clients("A bad `deviceId` is refused with 422."), async {
        for bad in ["short", "has_underscores", &"x".repeat(65)] {
            dora.browser.get(&path(bad)).await.refused(422);
        }
    })
    .await;
    secret
}

async fn second_device(walk: &Walk, scene: &Scene, dora: &mut Client, desk: &Value) {
    let mut phone = sign_in::again(scene, dora).await;
    walk.step("second device: its session is listed first", clients("GET `/auth/sessions` is an array of `{id, userId, createdAt, expiresAt, ipv4, userAgent}`, the newest first."), async {
        let own = text(&phone.get("/auth/sessions/current").await.body(200)["session"], "id");
        let sessions = phone.get("/auth/sessions").await.body(200);
        assert_eq!(sessions.as_array().map(Vec::len), Some(2), "expected two sessions, seen {sessions}");
        expect("the first", &sessions[0]["id"], own);
    })
    .await;
    walk.step(
        "second device: reads its own wrap secret",
        clients("Another device of the same user has another secret."),
        async {
            let secret = phone.get(&path(PHONE)).await.body(200);
            expect_base64(&secret, "secret", 32);
            assert_ne!(secret["secret"], *desk, "expected another secret than the first device's");
        },
    )
    .await;
    walk.step(
        "second device: opens what the first one sealed",
        wire("| personal blob | the user | `personal-blob` | the blob's type | `parchment-personal-v1` |"),
        async { open_on(dora, &mut phone).await },
    )
    .await;
}

/// Seals a blob on the first device, and opens it on the second with the recovery key.
async fn open_on(dora: &mut Client, phone: &mut Browser) {
    let blob = "search-history";
    let binding = Binding::personal_blob(&dora.user_id, blob);
    let sealed = dora.seed.personal_key().seal(b"[\"cafe\"]", &binding, &mut rand::rng()).unwrap();
    let body = json!({ "encryptedBlob": sealed.to_base64() });
    dora.browser.put(&format!("/me/blobs/{blob}"), body).await.body(200);
    let seed = MasterSeed::from_recovery_key(&dora.seed.recovery_key()).unwrap();
    let read = text(&phone.get(&format!("/me/blobs/{blob}")).await.body(200), "encryptedBlob");
    let opened = seed.personal_key().open(&SealedData::parse(&read).unwrap(), &binding).unwrap();
    assert_eq!(opened.as_slice(), b"[\"cafe\"]", "expected what the first device sealed");
}

async fn rotation(walk: &Walk, dora: &mut Client, desk: &Value) {
    walk.step(
        "device: every wrap secret is renewed",
        clients(
            "POST `/users/me/device-wrap-secrets/rotate` renews all of the user's and answers `{ok: true}`",
        ),
        async {
            let seen = dora.browser.post_nothing("/users/me/device-wrap-secrets/rotate").await.body(200);
            expect("ok", &seen["ok"], true);
            let renewed = dora.read(&path(DESK)).await["secret"].clone();
            assert_ne!(renewed, *desk, "expected another secret than before");
        },
    )
    .await;
}
