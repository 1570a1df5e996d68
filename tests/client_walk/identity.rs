//! Alias, keys, profile, recovery, and what others see of them.

use serde_json::{Value, json};
use vellum_client::MasterSeed;

use super::client::keys_of;
use super::{
    Browser, Client, Number, Scene, Text, TextOrNull, Walk, clients, expect, expect_members, text, wire,
};

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut cleo = Scene::arrive(&scene.one, "cleo").await;
    alias(walk, scene, &mut cleo).await;
    keys(walk, &mut cleo).await;
    shown_to_others(walk, scene, &mut cleo).await;
    profile(walk, &mut cleo).await;
}

async fn alias(walk: &Walk, scene: &Scene, cleo: &mut Client) {
    walk.step(
        "alias: nothing is chosen yet",
        clients(
            "GET `/users/me/identity` answers `{alias, handle, signingKey, encryptionKey, domain, kmVersion}`; \
             what is not set is null.",
        ),
        async {
            let identity = cleo.read("/users/me/identity").await;
            for name in ["alias", "handle", "signingKey", "encryptionKey"] {
                expect_members(&identity, &[(name, TextOrNull)]);
                expect(name, &identity[name], Value::Null);
            }
            expect("domain", &identity["domain"], scene.one.process.domain());
            expect_members(&identity, &[("kmVersion", Number)]);
        },
    )
    .await;
    walk.step(
        "alias: it is free",
        clients("GET `/users/alias/check?alias=` answers `{available}`."),
        async {
            let seen = cleo.read("/users/alias/check?alias=cleo_1").await;
            expect("available", &seen["available"], true);
        },
    )
    .await;
    walk.step(
        "alias: a text that is none is refused",
        clients("A text that is no alias is refused there with 400."),
        async {
            for no_alias in ["no alias", "ab", "ünique"] {
                cleo.browser.patch("/users/me/alias", json!({ "alias": no_alias })).await.refused(400);
            }
        },
    )
    .await;
    walk.step(
        "alias: it is chosen",
        clients("PATCH `/users/me/alias` takes `{alias}` and answers `{alias, handle}`."),
        async {
            let seen = cleo.browser.patch("/users/me/alias", json!({ "alias": "cleo_1" })).await.body(200);
            expect("alias", &seen["alias"], "cleo_1");
            expect("handle", &seen["handle"], format!("cleo_1@{}", scene.one.process.domain()));
        },
    )
    .await;
    walk.step(
        "alias: one's own counts as free",
        clients("It is false for a text that is no alias, and true for one's own."),
        async {
            for (asked, available) in [("no%20alias", false), ("cleo_1", true)] {
                let seen = cleo.read(&format!("/users/alias/check?alias={asked}")).await;
                expect(asked, &seen["available"], available);
            }
        },
    )
    .await;
    cleo.choose("cleo_1").await;
}

async fn keys(walk: &Walk, cleo: &mut Client) {
    let version = walk
        .step(
            "keys: they are registered",
            clients("each base64 of 32 bytes, and answers `{success: true, kmVersion}`."),
            async {
                let seen = cleo.register_keys().await.body(200);
                expect("success", &seen["success"], true);
                expect_members(&seen, &[("kmVersion", Number)]);
                seen["kmVersion"].clone()
            },
        )
        .await;
    walk.step("keys: the same once more", clients("The same pair of keys again changes nothing."), async {
        let seen = cleo.register_keys().await.body(200);
        expect("kmVersion", &seen["kmVersion"], version.clone());
    })
    .await;
    walk.step(
        "keys: the version alone",
        clients("GET `/users/me/km-version` answers `{kmVersion}`."),
        async { expect("kmVersion", &cleo.read("/users/me/km-version").await["kmVersion"], version.clone()) },
    )
    .await;
    walk.step("recovery: what was written down", wire("The recovery key is base64 of the seed."), async {
        let written = cleo.seed.recovery_key();
        let seed = MasterSeed::from_recovery_key(&written).unwrap();
        let (identity, keys) = (cleo.read("/users/me/identity").await, keys_of(&seed));
        for name in ["signingKey", "encryptionKey"] {
            expect(name, &identity[name], keys[name].clone());
        }
    })
    .await;
}

async fn shown_to_others(walk: &Walk, scene: &Scene, cleo: &mut Client) {
    let mut anybody = Browser::at(&scene.two);
    let origin = scene.one.process.origin();
    let mut at_home = Browser::at(&scene.one);
    walk.step(
        "manifest: the node says who it is",
        wire(
            "It is usable when `server_id` and `public_key` are what they should be and `protocol_versions` \
             contains 2.",
        ),
        async {
            for (page, node) in [(&mut at_home, &scene.one), (&mut anybody, &scene.two)] {
                let manifest = page.get("/.well-known/parchment-server").await.body(200);
                expect("server_id", &manifest["server_id"], node.process.domain());
                super::members::expect_base64(&manifest, "public_key", 32);
                let versions = super::list(&manifest, "protocol_versions");
                assert!(versions.contains(&json!(2)), "expected a 2, seen {versions:?}");
            }
        },
    )
    .await;
    walk.step(
        "user document: handle and keys",
        wire("The `inbox` must be `{scheme}://{domain of the handle}/federation/inbox`"),
        async {
            let shown = at_home.get("/.well-known/user/cleo_1").await.body(200);
            expect("handle", &shown["handle"], cleo.handle().to_string());
            expect("inbox", &shown["inbox"], format!("{origin}/federation/inbox"));
            let keys = keys_of(&cleo.seed);
            expect("signingKey", &shown["signingKey"], keys["signingKey"].clone());
            expect("encryptionKey", &shown["encryptionKey"], keys["encryptionKey"].clone());
        },
    )
    .await;
    walk.step(
        "user document: nobody",
        wire("404 with `message` when there is no such user or the user has no signing key."),
        async { drop(at_home.get("/.well-known/user/nobody_here").await.refused(404)) },
    )
    .await;
}

async fn profile(walk: &Walk, cleo: &mut Client) {
    let path = "/users/me/profile";
    walk.step(
        "profile: the names",
        clients(
            "PATCH `/users/me/profile` takes `firstName`, `lastName` and `picture`; what is left out stays",
        ),
        async {
            cleo.browser.patch(path, json!({ "firstName": "Zoë" })).await.body(200);
            let user = cleo.read("/auth/sessions/current").await["user"].clone();
            expect("firstName", &user["firstName"], "Zoë");
            expect("lastName", &user["lastName"], "Test");
        },
    )
    .await;
    walk.step("profile: a name is cleared", clients("stays, and null clears it."), async {
        cleo.browser.patch(path, json!({ "lastName": null })).await.body(200);
        let user = cleo.read("/auth/sessions/current").await["user"].clone();
        expect("lastName", &user["lastName"], Value::Null);
        expect("firstName", &user["firstName"], "Zoë");
    })
    .await;
    walk.step(
        "profile: a picture",
        wire("takes `picture`: an https URL, or the path of one's own avatar; null clears."),
        async {
            let picture = "https://pictures.example/zoe.png";
            cleo.browser.patch(path, json!({ "picture": picture })).await.body(200);
            let user = cleo.read("/auth/sessions/current").await["user"].clone();
            expect_members(&user, &[("picture", Text)]);
            assert_eq!(text(&user, "picture"), picture);
            let odd = cleo.browser.patch(path, json!({ "picture": "javascript:alert(1)" })).await.status;
            assert!((400..500).contains(&odd), "expected a refusal, seen {odd}");
            cleo.browser.patch(path, json!({ "picture": null })).await.body(200);
            let user = cleo.read("/auth/sessions/current").await["user"].clone();
            expect("picture", &user["picture"], Value::Null);
        },
    )
    .await;
}
