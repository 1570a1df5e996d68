//! `/users`: everybody's accounts.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::json;

use crate::rows::row::{Given, Row, row, short, text, texts};

const LISTED: [&str; 10] = [
    "id",
    "email",
    "firstName",
    "lastName",
    "alias",
    "picture",
    "onboardingCompletedAt",
    "createdAt",
    "roles",
    "sessionCount",
];
const PAGE: [&str; 4] = ["data", "total", "page", "limit"];

pub fn rows() -> Vec<Row> {
    ["/users/", "/users"].into_iter().flat_map(of_all).chain(of_roles()).collect()
}

fn of_all(path: &'static str) -> Vec<Row> {
    let list = row(Method::GET, path)
        .number(2)
        .may("users:read")
        .refuses_query("page=0")
        .refuses_query("page=-1")
        .refuses_query("page=x")
        .refuses_query("page=1.5")
        .refuses_query("page=99999999999999999999")
        .refuses_query("limit=0")
        .refuses_query("limit=101")
        .refuses_query("limit=")
        .refuses_query("page=1&page=2")
        .refuses_query("q=a%00b")
        .refuses_query(concat!("q=", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"))
        .answers(200, &PAGE)
        .shows("/data/0", &LISTED)
        .shows("/data/0/roles/0", &["id", "name"]);
    let create = row(Method::POST, path)
        .number(3)
        .may("users:create")
        .given(|_| {
            async {
                let email = format!("{}@people.example", uuid::Uuid::now_v7());
                Given::default().body(json!({ "firstName": "Ann", "lastName": "Other", "email": email }))
            }
            .boxed()
        })
        .body(&[
            short("firstName", 200),
            short("lastName", 200),
            short("email", 254),
            short("picture", 2000).optional(),
            text("role").optional(),
            texts("roles"),
        ])
        .refuses_field("email", json!("no address"), 422, "validation_failed")
        .refuses_field("email", json!("admin@localhost"), 409, "email_taken")
        .refuses_field("email", json!("ADMIN@localhost"), 409, "email_taken")
        .refuses_field("firstName", json!(""), 422, "validation_failed")
        .refuses_field("role", json!("king"), 400, "unknown_role")
        .refuses_field("roles", json!(["user", "king"]), 400, "unknown_role")
        .refuses_field("roles", json!(vec!["user"; 11]), 422, "validation_failed")
        .answers(200, &LISTED[..9])
        .shows("/roles/0", &["id", "name"]);
    vec![list, create]
}

fn of_roles() -> Vec<Row> {
    vec![
        row(Method::GET, "/users/roles")
            .number(4)
            .may("roles:read")
            .answers(200, &[])
            .shows("/0", &["id", "name", "description", "isDefault"]),
        row(Method::GET, "/users/permissions")
            .number(5)
            .may("permissions:read")
            .answers(200, &[])
            .shows("/0", &["id", "name"]),
        row(Method::GET, "/users/alias/check").refuses_query("alias=a&alias=b").answers(200, &["available"]),
    ]
}
