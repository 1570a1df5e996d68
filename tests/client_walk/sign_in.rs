//! Signing in by a code, and the session.

use serde_json::{Value, json};

use super::members::time;
use super::{
    Browser, Client, List, Number, Object, Scene, Text, TextOrNull, Time, Walk, clients, expect,
    expect_members, list, text, wire,
};

pub async fn stage(walk: &Walk, scene: &Scene) {
    let email = Scene::account(&scene.one, "ann", "user").await;
    let mut page = Browser::at(&scene.one);
    before(walk, &mut page).await;
    with_a_code(walk, scene, &mut page, &email).await;
    session(walk, &mut page).await;
    around_the_session(walk, scene, &mut page).await;
}

async fn before(walk: &Walk, page: &mut Browser) {
    walk.step(
        "sign-in: nobody is signed in yet",
        clients("GET `/auth/sessions/current` answers 204 without a body when nobody is signed in"),
        async { page.get("/auth/sessions/current").await.empty(204) },
    )
    .await;
    walk.step(
        "sign-in: what needs a session is refused",
        clients("A request that needs a session is answered 401 without one."),
        async { drop(page.get("/users/me/identity").await.refused(401)) },
    )
    .await;
    walk.step(
        "sign-in: a refusal has words for the page",
        clients("A refusal has a member `message`, which existing clients show"),
        async {
            let refusal = page.get("/users/me/preferences").await.body(401);
            assert!(!text(&refusal, "message").is_empty(), "expected words, seen {refusal}");
        },
    )
    .await;
}

async fn with_a_code(walk: &Walk, scene: &Scene, page: &mut Browser, email: &str) {
    let emails = scene.one.process.letters().len();
    walk.step(
        "sign-in: a code is asked for",
        wire("| POST `/auth/verify` | `{email}` → 201 without a body"),
        async { page.post("/auth/verify", json!({ "email": email })).await.empty(201) },
    )
    .await;
    let code = walk
        .step("sign-in: the email has a code", clients("The code has 8 digits"), async {
            let code = Scene::code(&scene.one, emails).await;
            let right = code.len() == 8 && code.bytes().all(|byte| byte.is_ascii_digit());
            assert!(right, "expected 8 digits, seen {code:?}");
            code
        })
        .await;
    let with = |code: &str| json!({ "method": "otp", "email": email, "token": code });
    walk.step("sign-in: a wrong code is refused", clients("A wrong code is answered 401."), async {
        let wrong = if code == "00000000" { "00000001" } else { "00000000" };
        page.post("/auth/sessions", with(wrong)).await.refused(401);
    })
    .await;
    let answer = page.post("/auth/sessions", with(&code)).await;
    let cookie = answer.cookie("auth_session").unwrap_or_default();
    walk.step(
        "sign-in: the code signs in",
        clients("where `token` is the code, and answers 201 with `{token, user}`."),
        async {
            let body = answer.body(201);
            expect_members(&body, &[("token", Text), ("user", Object)]);
            expect("the address", &body["user"]["email"], email);
        },
    )
    .await;
    walk.step(
        "sign-in: the browser keeps a cookie",
        clients(
            "A sign-in without an `Authorization` header gets the cookie `auth_session` as well as the token.",
        ),
        async {
            let value = cookie.split(';').next().unwrap_or_default();
            assert!(value.len() > "auth_session=".len(), "expected one, seen {cookie:?}");
        },
    )
    .await;
    walk.step(
        "sign-in: the cookie is out of reach of scripts",
        clients("That cookie is `HttpOnly`, has `SameSite=Lax` and `Path=/`."),
        async {
            for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
                let there = cookie.split("; ").any(|attribute| attribute == part);
                assert!(there, "expected {part}, seen {cookie:?}");
            }
        },
    )
    .await;
    walk.step("sign-in: a code is good for once", clients("A code opens one session."), async {
        Browser::at(&scene.one).post("/auth/sessions", with(&code)).await.refused(401);
    })
    .await;
}

async fn session(walk: &Walk, page: &mut Browser) {
    let current = walk
        .step(
            "session: the cookie is enough",
            clients("Otherwise it answers 200 with `{token, user, session, subscription}`."),
            async {
                let current = page.get("/auth/sessions/current").await.body(200);
                let members =
                    [("token", Text), ("user", Object), ("session", Object), ("subscription", Object)];
                expect_members(&current, &members);
                current
            },
        )
        .await;
    walk.step(
        "session: who is signed in",
        clients("`createdAt`, `updatedAt`, roles and permissions."),
        async { user_members(&current["user"]) },
    )
    .await;
    walk.step(
        "session: since when and from where",
        clients("`session` has `id`, `createdAt`, `expiresAt`, `userAgent` and `ip`."),
        async {
            let members = [
                ("id", Text),
                ("createdAt", Time),
                ("expiresAt", Time),
                ("userAgent", TextOrNull),
                ("ip", TextOrNull),
            ];
            expect_members(&current["session"], &members);
        },
    )
    .await;
    walk.step("session: how long", clients("Existing sessions last 30 days."), async {
        let session = &current["session"];
        let minutes = time(session, "expiresAt").since(time(session, "createdAt")) / 60_000;
        assert_eq!(minutes, 30 * 24 * 60, "expected the minutes of 30 days");
    })
    .await;
    walk.step(
        "session: everything is open",
        clients(
            "`{isPremium: true, isBasic: false, hasSubscription: false, tier: \"premium\"}`; clients open \
             their features by it.",
        ),
        async { expect("subscription", &current["subscription"], open_subscription()) },
    )
    .await;
}

async fn around_the_session(walk: &Walk, scene: &Scene, page: &mut Browser) {
    walk.step(
        "session: what the user may do",
        clients(
            "answers `{permissions, subscription, roles}`, where permissions and roles are lists of ids.",
        ),
        async {
            let may = page.get("/auth/sessions/current/permissions").await.body(200);
            for (name, one) in [("permissions", "library:write"), ("roles", "user")] {
                let ids = list(&may, name);
                assert!(ids.iter().all(Value::is_string), "expected ids as {name}, seen {may}");
                assert!(ids.contains(&json!(one)), "expected {one} among {name}, seen {may}");
            }
            expect("subscription", &may["subscription"], open_subscription());
        },
    )
    .await;
    walk.step(
        "session: another site's page changes nothing",
        clients("otherwise it is answered 403 [stricter]."),
        async {
            let ours = std::mem::replace(&mut page.page, "https://evil.example".to_owned());
            let body = json!({ "unitSystem": "imperial" });
            page.put("/users/me/preferences", body).await.refused(403);
            page.page = ours;
        },
    )
    .await;
    walk.step(
        "session: the token is enough",
        clients("A session is shown as `Authorization: Bearer …`, which is looked at first"),
        async {
            let token = text(&page.get("/auth/sessions/current").await.body(200), "token");
            let mut other = Browser::with_bearer(&scene.one, &token);
            let current = other.get("/auth/sessions/current").await.body(200);
            expect("the address", &current["user"]["email"], "ann@people.example");
            Browser::with_bearer(&scene.one, "nonsense").get("/auth/sessions/current").await.empty(204);
        },
    )
    .await;
}

fn open_subscription() -> Value {
    json!({ "isPremium": true, "isBasic": false, "hasSubscription": false, "tier": "premium" })
}

fn user_members(user: &Value) {
    let members = [
        ("id", Text),
        ("email", Text),
        ("firstName", TextOrNull),
        ("lastName", TextOrNull),
        ("picture", TextOrNull),
        ("alias", TextOrNull),
        ("signingKey", TextOrNull),
        ("encryptionKey", TextOrNull),
        ("kmVersion", Number),
        ("createdAt", Time),
        ("updatedAt", Time),
        ("roles", List),
        ("permissions", List),
    ];
    expect_members(user, &members);
}

/// Signs the person of a client in once more, elsewhere.
pub async fn again(scene: &Scene, client: &Client) -> Browser {
    Scene::sign_in(&scene.one, &client.email).await.0
}
