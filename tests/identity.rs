//! `/users/me/…`: alias, keys, version, profile, reset; and what every path does with bad requests.

use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method;

use crate::support::TestNode;

fn keys_of(seed: &MasterSeed) -> Value {
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

fn seed(byte: u8) -> MasterSeed {
    MasterSeed::from_bytes([byte; 32])
}

#[tokio::test]
async fn a_new_identity_has_nothing_set_and_then_what_was_set() {
    let node = TestNode::start().await;
    let person = node.user("ann").await;
    let (status, identity) = person.ask(Method::GET, "/users/me/identity", Value::Null).await;
    let domain = node.process.domain();
    let expected = json!({
        "alias": null, "handle": null, "signingKey": null, "encryptionKey": null, "domain": domain, "kmVersion": 1,
    });
    assert_eq!((status, identity), (200, expected));

    let set = person.ask(Method::PATCH, "/users/me/alias", json!({ "alias": "Ann_1" })).await;
    assert_eq!(set, (200, json!({ "alias": "Ann_1", "handle": format!("Ann_1@{domain}") })));
    let registered = person.ask(Method::PUT, "/users/me/keys", keys_of(&seed(1))).await;
    assert_eq!(registered, (200, json!({ "success": true, "kmVersion": 1 })));
    let (_, identity) = person.ask(Method::GET, "/users/me/identity", Value::Null).await;
    assert_eq!(identity["signingKey"], keys_of(&seed(1))["signingKey"]);
    assert_eq!(
        person.ask(Method::GET, "/users/me/km-version", Value::Null).await,
        (200, json!({ "kmVersion": 1 }))
    );
}

#[tokio::test]
async fn nobody_without_a_session_gets_or_changes_anything() {
    let node = TestNode::start().await;
    let client = node.client();
    for (method, path) in [
        (Method::GET, "/users/me/identity"),
        (Method::POST, "/users/me/identity/reset"),
        (Method::PATCH, "/users/me/alias"),
        (Method::PUT, "/users/me/keys"),
        (Method::GET, "/users/me/km-version"),
        (Method::PATCH, "/users/me/profile"),
        (Method::GET, "/users/me/revocations/pending"),
        (Method::POST, "/users/me/revocations/flush"),
        (Method::DELETE, "/users/me/revocations/pending/a@b.example"),
        (Method::GET, "/friends"),
        (Method::GET, "/friends/invitations"),
        (Method::POST, "/friends/invite"),
        (Method::POST, "/friends/invitations/x/accept"),
        (Method::POST, "/friends/invitations/x/reject"),
        (Method::DELETE, "/friends/invitations/x"),
        (Method::DELETE, "/friends/a@b.example"),
        (Method::GET, "/friends/resolve/a@b.example"),
        (Method::POST, "/friends/sync-keys"),
        (Method::DELETE, "/auth/sessions/x"),
        (Method::DELETE, "/auth/sessions"),
    ] {
        let (status, problem) = client.request_json(method.clone(), path, Some(&json!({}))).await.unwrap();
        assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")), "{method} {path}");
        assert_eq!(problem["message"], problem["detail"], "existing clients read message");
    }
}

#[tokio::test]
async fn an_alias_is_refused_by_grammar_when_taken_and_when_others_know_the_user_by_the_old_one() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("Ann").await, node.person("ben").await);
    let set = |alias: &str| json!({ "alias": alias });
    for wrong in ["ab", "with space", "ümlaut", "a@b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""] {
        let (status, problem) = ann.ask(Method::PATCH, "/users/me/alias", set(wrong)).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_alias")), "{wrong}");
    }
    for body in [json!({}), json!({ "alias": 7 }), json!({ "alias": null }), json!([])] {
        let (status, problem) = ann.ask(Method::PATCH, "/users/me/alias", body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("validation_failed")), "{body}");
        assert!(!problem["errors"].as_array().unwrap().is_empty());
    }
    let (status, problem) = ben.ask(Method::PATCH, "/users/me/alias", set("ANN")).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("alias_taken")), "compared without case");

    // Nobody knows ann yet, so she may still change it; then ben does.
    ann.ask_for(200, Method::PATCH, "/users/me/alias", set("ann2")).await;
    ann.ask_for(200, Method::PATCH, "/users/me/alias", set("Ann")).await;
    ann.befriend(&ben).await;
    let (status, problem) = ann.ask(Method::PATCH, "/users/me/alias", set("annette")).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("alias_in_use")));
    assert_eq!(
        ann.ask(Method::PATCH, "/users/me/alias", set("Ann")).await.0,
        200,
        "the same again changes nothing"
    );
}

#[tokio::test]
async fn keys_are_refused_unless_they_are_two_different_honest_points() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let good = keys_of(&seed(1));
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    // The first is a point of order 8, the second not on the curve, the third not canonical.
    let small = "JuiVj8KyJ7BFw/SJ8u+Y8NXfrAXTxjM5sTgCiG1T/AU=";
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let not_canonical = "7v///////////////////////////////////////38=";
    for body in [
        with("signingKey", json!(small)),
        with("signingKey", json!(not_canonical)),
        with("signingKey", json!(zero)),
        with("signingKey", json!("c2hvcnQ=")),
        with("signingKey", json!("***")),
        with("encryptionKey", json!(zero)),
        with("encryptionKey", json!("c2hvcnQ=")),
        json!({ "signingKey": good["signingKey"], "encryptionKey": good["signingKey"] }),
    ] {
        let (status, problem) = ann.ask(Method::PUT, "/users/me/keys", body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_key")), "{body}");
    }
    for body in [
        json!({}),
        with("signingKey", Value::Null),
        with("encryptionKey", json!(1)),
        with("expectedKmVersion", json!("1")),
    ] {
        let (status, problem) = ann.ask(Method::PUT, "/users/me/keys", body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("validation_failed")), "{body}");
    }
    let (_, identity) = ann.ask(Method::GET, "/users/me/identity", Value::Null).await;
    assert_eq!(identity["signingKey"], Value::Null, "nothing was registered");

    ann.ask_for(200, Method::PUT, "/users/me/keys", good.clone()).await;
    assert_eq!(ann.ask(Method::PUT, "/users/me/keys", good).await.0, 200, "the same pair again");
    let (status, problem) = ann
        .ask(Method::PUT, "/users/me/keys", {
            let mut other = keys_of(&seed(2));
            other["expectedKmVersion"] = json!(9);
            other
        })
        .await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("rotation_conflict")));
    assert_eq!(problem["currentKmVersion"], 1);
    assert_eq!(
        ann.ask(Method::PUT, "/users/me/keys", keys_of(&seed(2))).await.0,
        200,
        "nothing is sealed yet"
    );
}

#[tokio::test]
async fn a_reset_needs_the_exact_words_and_keeps_alias_and_session() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    for body in [
        json!({}),
        json!({ "confirm": "yes" }),
        json!({ "confirm": "Erase-all-my-data" }),
        json!({ "confirm": 1 }),
    ] {
        let (status, problem) = ann.ask(Method::POST, "/users/me/identity/reset", body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("validation_failed")), "{body}");
    }
    assert_eq!(ann.friends().await, [ben.handle()], "nothing was touched");

    let (status, answer) =
        ann.ask(Method::POST, "/users/me/identity/reset", json!({ "confirm": "erase-all-my-data" })).await;
    assert_eq!((status, answer), (200, json!({ "success": true, "pendingRevocations": 1 })));
    assert!(ann.friends().await.is_empty());
    let identity = ann.client.identity().await.unwrap();
    assert_eq!(identity.handle, Some(ann.handle()));
    assert!(identity.signing_key.is_none() && identity.encryption_key.is_none());
    assert_eq!(ann.pending().await[0].peer_handle, ben.handle());
}

#[tokio::test]
async fn names_can_be_changed_one_by_one_and_cleared() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let change = |body: Value| ann.ask(Method::PATCH, "/users/me/profile", body);
    let names = |first: Value, last: Value| json!({ "success": true, "firstName": first, "lastName": last });
    assert_eq!(change(json!({ "lastName": "Lee" })).await, (200, names(json!("ann"), json!("Lee"))));
    assert_eq!(change(json!({ "firstName": null })).await, (200, names(Value::Null, json!("Lee"))));
    assert_eq!(change(json!({ "firstName": 5 })).await.0, 422);
    assert_eq!(change(json!({ "firstName": "x".repeat(201) })).await.0, 422);
    assert_eq!(change(json!({})).await, (200, names(Value::Null, json!("Lee"))));
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_long_bodies_get_the_one_error_shape() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let (status, problem) = ann.ask(Method::GET, "/nowhere", Value::Null).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")));
    let (status, problem) = ann.ask(Method::PUT, "/users/me/identity", json!({})).await;
    assert_eq!((status, problem["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(problem["detail"].as_str().unwrap().contains("GET"));
    let long = json!({ "alias": "x".repeat(70_000) });
    let (status, problem) = ann.ask(Method::PATCH, "/users/me/alias", long).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("body_too_large")));
    for problem in [problem] {
        for member in ["type", "title", "status", "detail", "message", "code"] {
            assert!(problem.get(member).is_some(), "{member}");
        }
    }
}

#[tokio::test]
async fn an_alias_can_be_checked_before_it_is_chosen() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    for (person, alias, available) in [
        (&ann, "free", true),
        (&ann, "Ann", true),
        (&ben, "ANN", false),
        (&ann, "a", false),
        (&ann, "", false),
    ] {
        let path = format!("/users/alias/check?alias={alias}");
        assert_eq!(
            person.ask(Method::GET, &path, Value::Null).await,
            (200, json!({ "available": available })),
            "{alias}"
        );
    }
}
