//! The attacker has an account and adds members to a body that the documentation does not name: a role, an id, a
//! version of the keys. He would make himself administrator, or another user. What stops him: handlers read the
//! members that they know, one by one.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, TestNode};

#[tokio::test]
async fn members_that_nobody_asked_for_change_nothing() {
    let node = TestNode::start().await;
    let mallory = node.person("mallory").await;
    let more = json!({
        "role": "admin", "roles": ["admin"], "rank": 9, "is_default": 1, "id": "1", "userId": "1", "email": "admin@localhost",
        "kmVersion": 99, "alias": "root", "permissions": ["users:delete"], "createdAt": 0, "__proto__": { "role": "admin" },
    });
    let with = |own: Value| {
        let mut body = more.as_object().unwrap().clone();
        body.extend(own.as_object().unwrap().clone());
        Value::Object(body)
    };
    let who = async || mallory.ask(Method::GET, "/auth/sessions/current", Value::Null).await.1;
    let before = who().await;
    let (status, _) =
        mallory.ask(Method::PATCH, "/users/me/profile", with(json!({ "firstName": "Mal" }))).await;
    assert_eq!(status, 200, "the honest part is done");
    mallory.ask(Method::PUT, "/me/blobs/t", with(json!({ "encryptedBlob": "x", "kmVersion": 1 }))).await;
    mallory.ask(Method::POST, "/auth/sessions", with(json!({ "method": "otp" }))).await;
    let after = who().await;
    for member in ["id", "email", "roles"] {
        assert_eq!(before["user"][member], after["user"][member], "{member}");
    }
    let identity = mallory.ask(Method::GET, "/users/me/identity", Value::Null).await.1;
    assert_eq!((&identity["kmVersion"], &identity["alias"]), (&json!(1), &json!("mallory")));
    assert_eq!(mallory.ask(Method::GET, "/users/", Value::Null).await.0, 403, "still no administrator");
    drop(Database::of(&node).await);
}
