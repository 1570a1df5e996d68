//! A passkey: registered, used to sign in and to unlock the seed, removed.

use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::slot::PasskeySlot;
use vellum_protocol::SigningKey;

use super::browser::PAGE;
use super::client::keys_of;
use super::{
    Browser, Client, Flag, List, Number, Object, Scene, Text, Time, TimeOrNull, Walk, clients, expect,
    expect_members, list, text, wire,
};
use crate::support::Authenticator;

/// HKDF-SHA256 of the text `parchment` with `info` `parchment-prf-salt-v2`, as base64url. The same bytes
/// are in `tests/vectors/keys.json`.
const SALT: &str = "MeCGtrfvVLrwofC6pnJ60BGjMbNpBl-cDomzyalFoHY";
/// What the authenticator makes of the salt.
const PRF: [u8; 32] = [7; 32];
const SLOTS: &str = "/users/me/wrapped-keys";
/// Flags of an authenticator's answer: the passkey may be copied, and a copy is kept.
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut finn = Scene::settle(&scene.one, "finn").await;
    let mut device = Authenticator::at(PAGE);
    registration(walk, &mut finn, &mut device).await;
    slot(walk, &mut finn, &device).await;
    unlocking(walk, scene, &mut finn, &mut device).await;
    variants(walk, scene, &mut finn, &mut device).await;
    end(walk, &mut finn, &device).await;
}

async fn options(browser: &mut Browser, of: &str) -> Value {
    browser.post(&format!("/auth/passkeys/{of}/options"), json!({})).await.body(200)
}

async fn registration(walk: &Walk, finn: &mut Client, device: &mut Authenticator) {
    let wanted = walk
        .step(
            "passkey: what a browser is asked for",
            clients("Options for a registration ask for a resident key, for user verification and for no attestation"),
            async {
                let wanted = options(&mut finn.browser, "register").await;
                let selection = &wanted["authenticatorSelection"];
                expect("residentKey", &selection["residentKey"], "required");
                expect("userVerification", &selection["userVerification"], "required");
                expect("attestation", &wanted["attestation"], "none");
                wanted
            },
        )
        .await;
    walk.step(
        "passkey: for which site",
        clients("The relying party's id is the host of the client's origin without its port."),
        async { expect("rp.id", &wanted["rp"]["id"], "app.example") },
    )
    .await;
    walk.step(
        "passkey: it is registered without a name",
        wire("POST `/auth/passkeys/register/verify` takes an empty `name` for none, and derives one."),
        async {
            let mut made = device.create(&wanted);
            made["name"] = json!("");
            let row = finn.browser.post("/auth/passkeys/register/verify", made).await.body(200);
            assert!(!text(&row, "name").is_empty(), "expected a name, seen {row}");
            expect("id", &row["id"], device.credential_id());
            expect("userId", &row["userId"], finn.user_id.clone());
        },
    )
    .await;
    listed(walk, finn, device).await;
}

async fn listed(walk: &Walk, finn: &mut Client, device: &Authenticator) {
    walk.step(
        "passkey: it is listed",
        clients("answers `{id, name, userId, counter, deviceType, backedUp, transports, createdAt}`."),
        async {
            let all = finn.read("/auth/passkeys").await;
            assert_eq!(all.as_array().map(Vec::len), Some(1), "expected one, seen {all}");
            let members = [
                ("id", Text),
                ("name", Text),
                ("userId", Text),
                ("counter", Number),
                ("deviceType", Text),
                ("backedUp", Flag),
                ("transports", List),
                ("createdAt", Time),
            ];
            expect_members(&all[0], &members);
        },
    )
    .await;
    walk.step(
        "passkey: its public key is not shown",
        clients("GET `/auth/passkeys` lists them without their keys."),
        async {
            let row = finn.read("/auth/passkeys").await[0].clone();
            let keys = ["credential", "publicKey", "credentialPublicKey"];
            assert!(keys.iter().all(|key| row.get(key).is_none()), "expected no key, seen {row}");
        },
    )
    .await;
    walk.step(
        "passkey: the browser does not make a second one",
        clients("and exclude the passkeys that the user has."),
        async {
            let wanted = options(&mut finn.browser, "register").await;
            expect("excluded", &wanted["excludeCredentials"][0]["id"], device.credential_id());
        },
    )
    .await;
    walk.step(
        "passkey: the salt of the secret",
        clients("in `extensions.prf.eval.first`, as base64url."),
        async {
            for of in ["register", "authenticate"] {
                let wanted = options(&mut finn.browser, of).await;
                expect(of, &wanted["extensions"]["prf"]["eval"]["first"], SALT);
            }
        },
    )
    .await;
}

async fn slot(walk: &Walk, finn: &mut Client, device: &Authenticator) {
    let id = device.credential_id();
    walk.step(
        "slot: options to enrol the passkey",
        clients(
            "POST `/auth/passkeys/{credentialId}/prf-enroll/options` gives options for that one, and 404 for \
             one that is not the user's.",
        ),
        async {
            let enrol = |id: &str| format!("/auth/passkeys/{id}/prf-enroll/options");
            let wanted = finn.browser.post(&enrol(&id), json!({})).await.body(200);
            expect("the passkey", &wanted["allowCredentials"][0]["id"], id.clone());
            expect("the salt", &wanted["extensions"]["prf"]["eval"]["first"], SALT);
            finn.browser.post(&enrol("AAAAAAAAAAAAAAAAAAAAAA"), json!({})).await.refused(404);
        },
    )
    .await;
    let sealed = PasskeySlot::seal(&finn.seed, &finn.user_id, &id, &PRF, &mut rand::rng()).unwrap();
    walk.step(
        "slot: the seed is kept for the passkey",
        clients("takes `{credentialId, wrappedKm, slotSignature, wrapAlgo?}` and answers 201."),
        async {
            let mut body = serde_json::to_value(&sealed).unwrap();
            body.as_object_mut().unwrap().remove("wrapAlgo");
            finn.browser.post(SLOTS, body).await.body(201);
        },
    )
    .await;
    walk.step(
        "slot: how it is wrapped",
        clients("The `wrapAlgo` that is left out is `aes-256-gcm-prf-v1`."),
        async {
            let slots = list(&finn.read(SLOTS).await, "slots");
            assert_eq!(slots.len(), 1, "expected one slot, seen {slots:?}");
            expect("wrapAlgo", &slots[0]["wrapAlgo"], "aes-256-gcm-prf-v1");
        },
    )
    .await;
    walk.step(
        "slot: what is listed of it",
        clients("`slotSignature`, `createdAt`, `lastUsedAt` and `kmVersion`."),
        async {
            let row = list(&finn.read(SLOTS).await, "slots")[0].clone();
            for (name, value) in [
                ("credentialId", json!(id)),
                ("wrappedKm", json!(sealed.wrapped_km)),
                ("slotSignature", json!(sealed.slot_signature)),
            ] {
                expect(name, &row[name], value);
            }
            expect_members(&row, &[("createdAt", Time), ("lastUsedAt", TimeOrNull), ("kmVersion", Number)]);
        },
    )
    .await;
    walk.step(
        "slot: it belongs to a passkey of the user",
        clients("A slot belongs to a passkey that the user has registered, and goes with it."),
        async {
            let mut body = serde_json::to_value(&sealed).unwrap();
            body["credentialId"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
            let status = finn.browser.post(SLOTS, body).await.status;
            assert!((400..500).contains(&status), "expected a refusal, seen {status}");
        },
    )
    .await;
}

async fn unlocking(walk: &Walk, scene: &Scene, finn: &mut Client, device: &mut Authenticator) {
    let mut fresh = Browser::at(&scene.one);
    let user = walk
        .step(
            "unlock: the passkey signs in",
            clients("POST `/auth/passkeys/authenticate/verify` answers 201 with `{token, user}`."),
            async {
                let wanted = options(&mut fresh, "authenticate").await;
                let answer = device.get(&wanted);
                let body = fresh.post("/auth/passkeys/authenticate/verify", answer).await.body(201);
                expect_members(&body, &[("token", Text), ("user", Object)]);
                expect("id", &body["user"]["id"], finn.user_id.clone());
                body["user"].clone()
            },
        )
        .await;
    walk.step(
        "unlock: options for a passkey with a slot",
        clients("POST `/auth/passkeys/prf-assert/options` gives options for the passkeys that have a slot."),
        async {
            let wanted = fresh.post("/auth/passkeys/prf-assert/options", json!({})).await.body(200);
            expect("the passkey", &wanted["allowCredentials"][0]["id"], device.credential_id());
            expect("the salt", &wanted["extensions"]["prf"]["eval"]["first"], SALT);
        },
    )
    .await;
    walk.step("unlock: the slot opens", wire("and is verified before the slot is opened."), async {
        let rows = fresh.get(SLOTS).await.body(200);
        let slot: PasskeySlot = serde_json::from_value(list(&rows, "slots")[0].clone()).unwrap();
        let seed = slot.open(&text(&user, "id"), &PRF, &signing_key(&user)).unwrap();
        assert!(seed == finn.seed, "expected the seed that was kept");
    })
    .await;
    walk.step(
        "unlock: the slot was used",
        clients("POST `/users/me/wrapped-keys/{credentialId}/used` notes that the slot was used."),
        async {
            let used = format!("{SLOTS}/{}/used", device.credential_id());
            expect("success", &fresh.post_nothing(&used).await.body(200)["success"], true);
            expect_members(&list(&fresh.get(SLOTS).await.body(200), "slots")[0], &[("lastUsedAt", Time)]);
        },
    )
    .await;
    walk.step(
        "slot: one that is not there",
        clients("It and the DELETE of a slot answer `{success: true}` even when there is no such slot."),
        async {
            let none = format!("{SLOTS}/AAAAAAAAAAAAAAAAAAAAAA");
            let used = fresh.post_nothing(&format!("{none}/used")).await.body(200);
            expect("success", &used["success"], true);
            expect("success", &fresh.delete(&none).await.body(200)["success"], true);
        },
    )
    .await;
}

async fn variants(walk: &Walk, scene: &Scene, finn: &mut Client, device: &mut Authenticator) {
    let verify = "/auth/passkeys/authenticate/verify";
    walk.step(
        "passkey: an answer that leaves something out",
        clients("An answer without `response.userHandle` or `authenticatorAttachment` is refused with 401."),
        async {
            let mut fresh = Browser::at(&scene.one);
            for path in ["/response/userHandle", "/authenticatorAttachment"] {
                let mut answer = device.get(&options(&mut fresh, "authenticate").await);
                *answer.pointer_mut(path).unwrap() = Value::Null;
                fresh.post(verify, answer).await.refused(401);
            }
        },
    )
    .await;
    walk.step(
        "passkey: two tabs at the same time",
        clients("Two tabs may be in the middle of a ceremony at the same time."),
        async {
            let mut fresh = Browser::at(&scene.one);
            let first = options(&mut fresh, "authenticate").await;
            let second = options(&mut fresh, "authenticate").await;
            for tab in [&first, &second] {
                fresh.post(verify, device.get(tab)).await.body(201);
            }
        },
    )
    .await;
    walk.step(
        "passkey: its manager begins to keep a copy",
        clients("A passkey stays usable when its manager begins to keep a copy of it."),
        async {
            device.flags |= BACKUP_ELIGIBLE | BACKED_UP;
            let mut fresh = Browser::at(&scene.one);
            let answer = device.get(&options(&mut fresh, "authenticate").await);
            fresh.post(verify, answer).await.body(201);
            expect("backedUp", &finn.read("/auth/passkeys").await[0]["backedUp"], true);
        },
    )
    .await;
}

async fn end(walk: &Walk, finn: &mut Client, device: &Authenticator) {
    walk.step(
        "passkey: it is removed, and its slot with it",
        clients("A slot belongs to a passkey that the user has registered, and goes with it."),
        async {
            let path = format!("/auth/passkeys/{}", device.credential_id());
            let status = finn.browser.delete(&path).await.status;
            assert!((200..300).contains(&status), "expected a success, seen {status}");
            expect("passkeys", &finn.read("/auth/passkeys").await, json!([]));
            let slots = list(&finn.read(SLOTS).await, "slots");
            assert!(slots.is_empty(), "expected no slot, seen {slots:?}");
        },
    )
    .await;
}

/// A passkey of somebody's, with a slot for their seed.
pub async fn with_slot(client: &mut Client) -> Authenticator {
    let mut device = Authenticator::at(PAGE);
    let wanted = options(&mut client.browser, "register").await;
    let mut made = device.create(&wanted);
    made["name"] = json!("desk");
    client.browser.post("/auth/passkeys/register/verify", made).await.body(200);
    let slot = slot_of(client, &device, &client.seed);
    client.browser.post(SLOTS, slot).await.body(201);
    device
}

/// The slot of a passkey, for a seed.
pub fn slot_of(client: &Client, device: &Authenticator, seed: &MasterSeed) -> Value {
    let id = device.credential_id();
    let slot = PasskeySlot::seal(seed, &client.user_id, &id, &PRF, &mut rand::rng()).unwrap();
    serde_json::to_value(&slot).unwrap()
}

/// Opens a slot that was listed.
pub fn open(client: &Client, row: &Value, seed: &MasterSeed) -> MasterSeed {
    let slot: PasskeySlot = serde_json::from_value(row.clone()).unwrap();
    slot.open(&client.user_id, &PRF, &signing_key(&keys_of(seed))).unwrap()
}

fn signing_key(value: &Value) -> SigningKey {
    SigningKey::parse(&text(value, "signingKey")).unwrap()
}
