//! What a client reads before it shows its first page.

use serde_json::json;

use super::{Client, Scene, Time, Walk, clients, expect, expect_members};

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut ben = Scene::arrive(&scene.one, "ben").await;
    preferences(walk, &mut ben).await;
    onboarding(walk, &mut ben).await;
    nothing_to_show(walk, &mut ben).await;
}

async fn preferences(walk: &Walk, ben: &mut Client) {
    let path = "/users/me/preferences";
    walk.step(
        "preferences: as they are at first",
        clients(
            "GET `/users/me/preferences` answers `{language, unitSystem}`, at first `en-US` and `metric`.",
        ),
        async {
            let seen = ben.read(path).await;
            expect("language", &seen["language"], "en-US");
            expect("unitSystem", &seen["unitSystem"], "metric");
        },
    )
    .await;
    walk.step(
        "preferences: one is changed, and both are answered",
        clients("PUT `/users/me/preferences` takes either and answers both."),
        async {
            let seen = ben.browser.put(path, json!({ "unitSystem": "imperial" })).await.body(200);
            expect("language", &seen["language"], "en-US");
            expect("unitSystem", &seen["unitSystem"], "imperial");
        },
    )
    .await;
    walk.step(
        "preferences: every language that clients have",
        clients("Languages are `en-US`, `es-ES`, `en` and `es`; a unit system is `metric` or `imperial`."),
        async {
            for language in ["es-ES", "en", "es", "en-US"] {
                ben.browser.put(path, json!({ "language": language })).await.body(200);
                expect("language", &ben.read(path).await["language"], language);
            }
            ben.browser.put(path, json!({ "unitSystem": "nautical" })).await.refused(422);
        },
    )
    .await;
    walk.step(
        "preferences: a newer client knows more of them",
        clients("A member of a body that a node does not know is ignored."),
        async {
            let seen = ben.browser.put(path, json!({ "unitSystem": "metric", "theme": "dark" })).await;
            expect("unitSystem", &seen.body(200)["unitSystem"], "metric");
        },
    )
    .await;
}

async fn onboarding(walk: &Walk, ben: &mut Client) {
    walk.step(
        "onboarding: it is not done yet",
        clients(
            "A user object has `onboardingCompletedAt`, which is null until the user has been through it",
        ),
        async {
            let user = ben.read("/auth/sessions/current").await["user"].clone();
            let seen = user.get("onboardingCompletedAt");
            assert!(seen.is_some_and(serde_json::Value::is_null), "expected a null, seen {user}");
        },
    )
    .await;
    walk.step(
        "onboarding: it is done",
        clients("POST `/users/me/onboarding/complete` answers `{onboardingCompletedAt}`."),
        async {
            let done = ben.browser.post("/users/me/onboarding/complete", json!({})).await.body(200);
            expect_members(&done, &[("onboardingCompletedAt", Time)]);
            let user = ben.read("/auth/sessions/current").await["user"].clone();
            expect_members(&user, &[("onboardingCompletedAt", Time)]);
        },
    )
    .await;
}

async fn nothing_to_show(walk: &Walk, ben: &mut Client) {
    for (name, path, sentence) in [
        (
            "start: which integrations there are",
            "/integrations/available",
            "GET `/integrations/available` answers `[]`.",
        ),
        (
            "start: which integrations are set up",
            "/integrations/configured",
            "GET `/integrations/configured` answers `[]`.",
        ),
        ("start: the user's vehicles", "/vehicles/", "GET `/vehicles/` answers `[]`."),
        (
            "start: the map's layers",
            "/library/layers",
            "GET `/library/layers` and `/library/layers/groups` answer `[]`.",
        ),
        (
            "start: groups of layers",
            "/library/layers/groups",
            "GET `/library/layers` and `/library/layers/groups` answer `[]`.",
        ),
    ] {
        walk.step(name, clients(sentence), async { expect(path, &ben.read(path).await, json!([])) }).await;
    }
    walk.step(
        "start: whether anything is billed",
        clients("GET `/subscriptions/config` answers that nothing is billed."),
        async {
            let config = ben.read("/subscriptions/config").await;
            let members = config.as_object().unwrap_or_else(|| panic!("expected an object, seen {config}"));
            let off = !members.is_empty() && members.values().all(|member| *member == json!(false));
            assert!(off, "expected nothing but false, seen {config}");
        },
    )
    .await;
}
