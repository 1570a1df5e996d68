//! `/auth`: signing in with a code, sessions.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::{Value, json};
use vellum_client::http::Method as ClientMethod;

use crate::rows::row::{Given, Row, row, short, text};

const USER: [&str; 14] = [
    "id",
    "email",
    "firstName",
    "lastName",
    "picture",
    "alias",
    "signingKey",
    "encryptionKey",
    "kmVersion",
    "onboardingCompletedAt",
    "createdAt",
    "updatedAt",
    "roles",
    "permissions",
];
const SUBSCRIPTION: [&str; 4] = ["isPremium", "isBasic", "hasSubscription", "tier"];

pub fn rows() -> Vec<Row> {
    [signing_in(), current(), others()].into_iter().flatten().collect()
}

fn signing_in() -> Vec<Row> {
    vec![
        row(Method::POST, "/auth/verify")
            .anyone()
            .given(|stage| async move { Given::default().body(json!({ "email": stage.email })) }.boxed())
            .body(&[short("email", 254)])
            .refuses_field("email", json!("no address"), 422, "validation_failed")
            .refuses_field("email", json!(""), 422, "validation_failed")
            .answers(201, &[]),
        row(Method::POST, "/auth/sessions")
            .anyone()
            .given(|stage| {
                async move {
                    let process = &stage.scene.node.process;
                    let known = process.letters().len();
                    stage.me.client.request_code(&stage.email).await.unwrap();
                    let code = process.newest_code(known).await.unwrap();
                    let body = json!({ "method": "otp", "email": stage.email, "token": code });
                    Given::default().body(body)
                }
                .boxed()
            })
            .body(&[short("email", 254), text("token"), short("deviceId", 64).optional()])
            .refuses_field("deviceId", json!("seven77"), 422, "validation_failed")
            .refuses_field("deviceId", json!("under_score"), 422, "validation_failed")
            .refuses_field("email", json!("no address"), 422, "validation_failed")
            .refuses_field("email", json!("nobody@people.example"), 401, "wrong_code")
            .answers(201, &["token", "user"])
            .shows("/user", &USER)
            .shows("/user/roles/0", &["id", "name"]),
    ]
}

fn current() -> Vec<Row> {
    let session = ["id", "createdAt", "expiresAt", "userAgent", "ip"];
    vec![
        // Nobody signed in is not refused: see `public`.
        row(Method::GET, "/auth/sessions/current/permissions")
            .answers(200, &["permissions", "roles", "subscription"])
            .shows("/subscription", &SUBSCRIPTION),
        row(Method::GET, "/auth/sessions")
            .answers(200, &[])
            .shows("/0", &["id", "userId", "createdAt", "expiresAt", "ipv4", "userAgent", "current"]),
        row(Method::GET, "/auth/sessions/current")
            .number(1)
            .session_if_any()
            .answers(200, &["token", "user", "session", "subscription"])
            .shows("/user", &USER)
            .shows("/session", &session)
            .shows("/subscription", &SUBSCRIPTION),
    ]
}

fn others() -> Vec<Row> {
    vec![
        row(Method::DELETE, "/auth/sessions").answers(204, &[]),
        row(Method::DELETE, "/auth/sessions/others")
            .given(|stage| {
                async move {
                    stage.scene.node.token(&stage.email).await;
                    Given::default()
                }
                .boxed()
            })
            .optional_body(&[text("deviceId").optional()])
            .answers(204, &[]),
        row(Method::DELETE, "/auth/sessions/all").answers(204, &[]),
        row(Method::DELETE, "/auth/sessions/{id}")
            .given(|stage| {
                async move {
                    stage.scene.node.token(&stage.email).await;
                    let list = stage.done(&stage.me, ClientMethod::GET, "/auth/sessions", Value::Null).await;
                    let other = list.as_array().unwrap().iter().find(|one| one["current"] == false).unwrap();
                    Given::default().path("id", other["id"].as_str().unwrap())
                }
                .boxed()
            })
            .refuses_path("id", "unknown", 404, "session_not_found")
            .answers(204, &[]),
    ]
}
