//! A user's sessions: listed, and ended in every way.

use serde_json::{Value, json};

use super::{
    Browser, Scene, Text, TextOrNull, Time, Walk, clients, expect, expect_members, sign_in, text, wire,
};

const HERE: &str = "here-0123-abcd";
const THERE: &str = "there-4567-efab";

async fn secret(browser: &mut Browser, device: &str) -> Value {
    let path = format!("/users/me/devices/{device}/wrap-secret");
    browser.get(&path).await.body(200)["secret"].clone()
}

async fn is_over(browser: &mut Browser) {
    browser.get("/auth/sessions/current").await.empty(204);
}

pub async fn stage(walk: &Walk, scene: &Scene) {
    let mut iris = Scene::arrive(&scene.one, "iris").await;
    let mut second = sign_in::again(scene, &iris).await;
    listed(walk, &mut second).await;

    let secrets = [secret(&mut iris.browser, HERE).await, secret(&mut second, THERE).await];
    walk.step(
        "sessions: all others end, without a device",
        clients("DELETE `/auth/sessions/others` ends all but this one and answers 204."),
        async {
            iris.browser.delete("/auth/sessions/others").await.empty(204);
            is_over(&mut second).await;
            iris.read("/auth/sessions/current").await;
        },
    )
    .await;
    walk.step("sessions: then no secret is renewed", clients("Without a body it renews none."), async {
        expect("this device's", &secret(&mut iris.browser, HERE).await, secrets[0].clone());
        expect("the other one's", &secret(&mut iris.browser, THERE).await, secrets[1].clone());
    })
    .await;
    let mut second = sign_in::again(scene, &iris).await;
    walk.step(
        "sessions: all others end, and their devices know nothing any more",
        wire(
            "DELETE `/auth/sessions/others {deviceId}` also makes the wrap secret of every other device anew",
        ),
        async {
            let body = json!({ "deviceId": HERE });
            iris.browser.delete_with("/auth/sessions/others", body).await.empty(204);
            is_over(&mut second).await;
            expect("this device's", &secret(&mut iris.browser, HERE).await, secrets[0].clone());
            let there = secret(&mut iris.browser, THERE).await;
            assert_ne!(there, secrets[1], "expected another secret for the other device");
        },
    )
    .await;
    endings(walk, scene, &mut iris).await;
}

async fn listed(walk: &Walk, browser: &mut Browser) {
    walk.step(
        "sessions: they are listed",
        clients("GET `/auth/sessions` is an array of `{id, userId, createdAt, expiresAt, ipv4, userAgent}`"),
        async {
            let sessions = browser.get("/auth/sessions").await.body(200);
            assert_eq!(sessions.as_array().map(Vec::len), Some(2), "expected two, seen {sessions}");
            let members = [
                ("id", Text),
                ("userId", Text),
                ("createdAt", Time),
                ("expiresAt", Time),
                ("ipv4", TextOrNull),
                ("userAgent", TextOrNull),
            ];
            expect_members(&sessions[0], &members);
        },
    )
    .await;
    walk.step("sessions: no token is shown", clients("No list of sessions shows a token"), async {
        let token = text(&browser.get("/auth/sessions/current").await.body(200), "token");
        let sessions = browser.get("/auth/sessions").await.body(200).to_string();
        assert!(!sessions.contains(&token), "expected no token, seen one in {sessions}");
    })
    .await;
}

async fn endings(walk: &Walk, scene: &Scene, iris: &mut super::Client) {
    let sentence = "DELETE `/auth/sessions` ends this session, `/auth/sessions/{id}` that one and \
                    `/auth/sessions/all` every one; each answers 204.";
    let mut second = sign_in::again(scene, iris).await;
    walk.step("sessions: one of them ends", clients(sentence), async {
        let id = text(&second.get("/auth/sessions/current").await.body(200)["session"], "id");
        iris.browser.delete(&format!("/auth/sessions/{id}")).await.empty(204);
        is_over(&mut second).await;
        iris.read("/auth/sessions/current").await;
    })
    .await;
    let mut second = sign_in::again(scene, iris).await;
    walk.step("sessions: signing out", clients(sentence), async {
        second.delete("/auth/sessions").await.empty(204);
        is_over(&mut second).await;
        iris.read("/auth/sessions/current").await;
    })
    .await;
    let mut second = sign_in::again(scene, iris).await;
    let before = secret(&mut second, HERE).await;
    walk.step("sessions: signing out everywhere", clients(sentence), async {
        iris.browser.delete("/auth/sessions/all").await.empty(204);
        is_over(&mut iris.browser).await;
        is_over(&mut second).await;
    })
    .await;
    walk.step(
        "sessions: then every secret is renewed",
        clients("`/auth/sessions/all` renews every wrap secret of the user."),
        async {
            let mut back = sign_in::again(scene, iris).await;
            assert_ne!(secret(&mut back, HERE).await, before, "expected another secret");
        },
    )
    .await;
}
