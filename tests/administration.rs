//! Accounts as administrators see them, sessions, and device wrap secrets.

use futures_util::future::join_all;
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

async fn administrator(node: &TestNode) -> Person {
    let mut client = node.client();
    client.set_token(Some(node.token(FIRST_ADMINISTRATOR).await));
    Person::new(client)
}

async fn code(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, problem) = person.ask(method, path, body).await;
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_administrator_lists_and_makes_users_and_nobody_else_does() {
    let node = TestNode::start().await;
    let (admin, ann) = (administrator(&node).await, node.person("ann").await);
    for (method, path) in [
        (Method::GET, "/users/"),
        (Method::GET, "/users"),
        (Method::POST, "/users/"),
        (Method::GET, "/users/roles"),
        (Method::GET, "/users/permissions"),
    ] {
        let body = if method == Method::POST { json!({}) } else { Value::Null };
        assert_eq!(code(&ann, method, path, body).await, (403, "forbidden".into()), "{path}");
    }
    let new = json!({ "firstName": "Ben", "lastName": "B", "email": "Ben@people.example", "role": "alpha" });
    let (status, made) = admin.ask(Method::POST, "/users/", new.clone()).await;
    assert_eq!((status, &made["roles"]), (200, &json!([{ "id": "alpha", "name": "Alpha tester" }])));
    let mut same = new.clone();
    same["email"] = json!("ben@PEOPLE.example");
    assert_eq!(code(&admin, Method::POST, "/users", same).await, (409, "email_taken".into()));
    let old_form = json!({ "email": "carl@people.example", "roles": ["user", "admin"] });
    let (status, made) = admin.ask(Method::POST, "/users/", old_form).await;
    assert_eq!((status, &made["firstName"]), (200, &Value::Null), "existing clients leave the names out");
    assert_eq!(made["roles"].as_array().unwrap().len(), 2);

    let (_, page) = admin.ask(Method::GET, "/users/?limit=2&page=2", Value::Null).await;
    assert_eq!((&page["total"], &page["page"], &page["limit"]), (&json!(4), &json!(2), &json!(2)));
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let (_, found) = admin.ask(Method::GET, "/users/?q=BEN", Value::Null).await;
    assert_eq!(
        (found["data"].as_array().unwrap().len(), &found["data"][0]["email"]),
        (1, &json!("Ben@people.example"))
    );
    assert_eq!(found["total"], 1, "found of all four: {found}");
    let (_, all) = admin.ask(Method::GET, "/users/", Value::Null).await;
    let listed = all["data"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap());
    let oldest_first =
        [FIRST_ADMINISTRATOR, "ann@people.example", "Ben@people.example", "carl@people.example"];
    assert_eq!(listed.collect::<Vec<_>>(), oldest_first);
    let (_, found) = admin.ask(Method::GET, "/users/?q=a_n", Value::Null).await;
    assert_eq!(found["total"], 0, "an underscore is an underscore: {found}");
    let (_, found) = admin.ask(Method::GET, "/users/?q=%25", Value::Null).await;
    assert_eq!(found["total"], 0, "a percent sign is a percent sign");
    let (_, found) = admin.ask(Method::GET, "/users/?q=ann", Value::Null).await;
    assert_eq!(found["data"][0]["sessionCount"], 1);
    for query in ["page=0", "page=x", "limit=0", "limit=101"] {
        let refused = code(&admin, Method::GET, &format!("/users/?{query}"), Value::Null).await;
        assert_eq!(refused, (422, "validation_failed".into()), "{query}");
    }
}

#[tokio::test]
async fn making_a_user_is_refused_for_what_is_missing_or_wrong() {
    let node = TestNode::start().await;
    let admin = administrator(&node).await;
    let good = json!({ "firstName": "A", "lastName": "B", "email": "a@people.example" });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for body in [
        json!({}),
        with("email", json!("no address")),
        with("email", json!(format!("{}@people.example", "x".repeat(250)))),
        with("email", Value::Null),
        with("firstName", json!(1)),
        with("firstName", json!("x".repeat(201))),
        with("lastName", Value::Null),
        with("picture", json!(7)),
        with("role", json!(["user"])),
    ] {
        assert_eq!(
            code(&admin, Method::POST, "/users/", body.clone()).await,
            (422, "validation_failed".into()),
            "{body}"
        );
    }
    assert_eq!(
        code(&admin, Method::POST, "/users/", with("role", json!("king"))).await,
        (400, "unknown_role".into())
    );
    assert_eq!(admin.ask(Method::GET, "/users/", Value::Null).await.1["total"], 1, "nobody was made");
    let (_, roles) = admin.ask(Method::GET, "/users/roles", Value::Null).await;
    let ids: Vec<&str> = roles.as_array().unwrap().iter().map(|role| role["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["user", "alpha", "admin"]);
    let (_, permissions) = admin.ask(Method::GET, "/users/permissions", Value::Null).await;
    assert!(permissions.as_array().unwrap().iter().any(|one| one["id"] == "users:create"));
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_the_others_or_all() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut client = node.client();
        client.set_token(Some(node.token("ann@people.example").await));
        others.push(Person::new(client));
    }
    let (_, list) = ann.ask(Method::GET, "/auth/sessions", Value::Null).await;
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 4);
    assert!(list.iter().all(|session| session.get("token").is_none() && session["userId"].is_string()));
    assert_eq!(list.iter().filter(|session| session["current"] == true).count(), 1);
    ann.ask_for(204, Method::DELETE, "/auth/sessions/others", json!({ "deviceId": "x" })).await;
    assert!(ann.client.current_session().await.unwrap().is_some());
    for other in &others {
        assert!(other.client.current_session().await.unwrap().is_none());
    }
    let path = "/users/me/devices/device-1/wrap-secret";
    let before = ann.ask(Method::GET, path, Value::Null).await.1;
    ann.ask_for(204, Method::DELETE, "/auth/sessions/all", Value::Null).await;
    assert!(ann.client.current_session().await.unwrap().is_none());
    let mut client = node.client();
    client.set_token(Some(node.token("ann@people.example").await));
    let again = Person::new(client);
    assert_ne!(again.ask(Method::GET, path, Value::Null).await.1, before, "wrap secrets are new");
    let (_, trail) = again.ask(Method::GET, "/users/me/audit?limit=2", Value::Null).await;
    assert_eq!(trail["data"][0]["event"], "all_sessions_ended");
    assert_eq!(trail["data"][1]["event"], "other_sessions_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_the_same_secret_on_every_and_every_racing_call() {
    let mut node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let path = "/users/me/devices/device-1/wrap-secret";
    let answers = join_all((0..32).map(|_| ann.ask(Method::GET, path, Value::Null))).await;
    let secret = answers[0].1["secret"].as_str().unwrap().to_owned();
    assert_eq!(vellum_protocol::base64::decode(&secret).unwrap().len(), 32);
    assert!(answers.iter().all(|(status, body)| *status == 200 && body["secret"] == secret.as_str()));
    assert_ne!(ben.ask(Method::GET, path, Value::Null).await.1["secret"], secret.as_str());
    for wrong in ["short", "with_underscore", &"x".repeat(65)] {
        let path = format!("/users/me/devices/{wrong}/wrap-secret");
        assert_eq!(
            code(&ann, Method::GET, &path, Value::Null).await,
            (422, "validation_failed".into()),
            "{wrong}"
        );
    }

    // New keys at rest, beside the running node: nothing that people see changes.
    let told = node.process.run(&["--json", "secrets", "rotate"]).await.unwrap();
    assert_eq!(told, json!({ "renewed": 2 }).to_string());
    assert_eq!(ann.ask(Method::GET, path, Value::Null).await.1["secret"], secret.as_str());
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    assert_eq!(ann.ask(Method::GET, path, Value::Null).await.1["secret"], secret.as_str());

    let rotated = ann.ask(Method::POST, "/users/me/device-wrap-secrets/rotate", Value::Null).await;
    assert_eq!(rotated, (200, json!({ "success": true, "ok": true, "rotated": 1 })));
    assert_ne!(ann.ask(Method::GET, path, Value::Null).await.1["secret"], secret.as_str());
    for n in 1..100 {
        ben.ask_for(200, Method::GET, &format!("/users/me/devices/device-x{n}/wrap-secret"), Value::Null)
            .await;
    }
    let one_more = code(&ben, Method::GET, "/users/me/devices/device-more/wrap-secret", Value::Null).await;
    assert_eq!(one_more, (409, "too_many_devices".into()));
}
