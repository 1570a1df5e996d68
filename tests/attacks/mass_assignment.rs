//! The attacker has an ordinary account and adds fields to honest bodies: a role, somebody else's id, a
//! version, a state that only the other side may set. A node that copied bodies into rows would make them an
//! administrator, or an accepted friend. What stops it: every handler reads the fields that it knows, one by
//! one, and nothing else of the body goes anywhere.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, Person, TestNode};

/// Everything that an attacker would like to say.
fn extras() -> Value {
    json!({
        "id": "0190a6f0-0000-7000-8000-000000000000", "userId": "0190a6f0-0000-7000-8000-000000000001",
        "user_id": "0190a6f0-0000-7000-8000-000000000001", "ownerId": "0190a6f0-0000-7000-8000-000000000001",
        "localUserId": "0190a6f0-0000-7000-8000-000000000001", "role": "admin", "roles": ["admin"],
        "permissions": ["users:read", "users:create"], "isAdmin": true, "admin": true, "email": "root@people.example",
        "alias": "root", "handle": "root@localhost", "kmVersion": 99, "km_version": 99, "status": "accepted",
        "state": "accepted", "direction": "incoming", "createdAt": "2001-01-01T00:00:00.000Z",
        "establishedAt": "2001-01-01T00:00:00.000Z", "acceptedAt": "2001-01-01T00:00:00.000Z",
        "expiresAt": "2999-01-01T00:00:00.000Z", "revision": 99, "counter": 99, "isPremium": true,
        "subscription": { "tier": "gold" }, "constructor": { "prototype": { "role": "admin" } },
    })
}

/// An honest body and every extra that it does not use itself.
fn overloaded(honest: &Value) -> Value {
    let mut body = extras();
    for (name, value) in honest.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn done(person: &Person, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = person.ask(method, path, body).await;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

/// Who somebody is to the node: nothing of this may be changed by what they say on the side.
async fn standing(person: &Person) -> Value {
    let mut user = person.ask(Method::GET, "/auth/sessions/current", Value::Null).await.1["user"].clone();
    for changed in ["alias", "firstName", "lastName", "signingKey", "encryptionKey", "updatedAt"] {
        user.as_object_mut().unwrap().remove(changed);
    }
    user
}

#[tokio::test]
async fn what_is_added_to_a_body_about_oneself_changes_nothing_of_who_one_is() {
    let node = TestNode::start().await;
    let mallory = node.user("mallory").await;
    let before = standing(&mallory).await;
    assert_eq!((&before["roles"][0]["id"], &before["kmVersion"]), (&json!("user"), &json!(1)));
    let seed = vellum_client::MasterSeed::from_bytes([7; 32]);
    let keys =
        json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() });
    for (method, path, honest) in [
        (Method::PATCH, "/users/me/profile", json!({ "firstName": "Mal" })),
        (Method::PATCH, "/users/me/alias", json!({ "alias": "mallory" })),
        (Method::PUT, "/users/me/keys", keys),
        (Method::PUT, "/users/me/preferences", json!({ "unitSystem": "imperial" })),
        (Method::POST, "/device-transfer", json!({ "receiverEphemeralPub": "receiver" })),
        (Method::POST, "/library/collections", json!({ "metadataEncrypted": "" })),
    ] {
        done(&mallory, method, path, overloaded(&honest)).await;
        assert_eq!(standing(&mallory).await, before, "{path}");
    }
    let now = done(&mallory, Method::GET, "/users/me/identity", Value::Null).await;
    assert_eq!(now["alias"], "mallory", "the honest field counts");
    mallory.ask_for(403, Method::GET, "/users", Value::Null).await;
    let kept = done(&mallory, Method::GET, "/users/me/preferences", Value::Null).await;
    assert_eq!(kept, json!({ "language": "en-US", "unitSystem": "imperial" }));
}

#[tokio::test]
async fn who_signs_in_for_the_first_time_does_not_choose_a_role() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__REGISTRATION", "open")]).await;
    let email = "mallory@people.example";
    let asked = overloaded(&json!({ "email": email }));
    let answer = node.client().request_json(Method::POST, "/auth/verify", Some(&asked)).await.unwrap();
    assert_eq!(answer.0, 201);
    let code = node.process.newest_code(0).await.unwrap();
    let body = overloaded(&json!({ "method": "otp", "email": email, "token": code }));
    let (status, opened) =
        node.client().request_json(Method::POST, "/auth/sessions", Some(&body)).await.unwrap();
    assert_eq!((status, &opened["user"]["email"]), (201, &json!(email)));
    assert_eq!(
        opened["user"]["roles"],
        json!([{ "id": "user", "name": opened["user"]["roles"][0]["name"] }])
    );
    assert!(!opened["user"]["permissions"].to_string().contains("users:"));
    assert_ne!(opened["user"]["id"], extras()["id"]);
}

#[tokio::test]
async fn what_is_made_has_the_id_the_owner_and_the_state_that_the_node_gives_it() {
    let node = TestNode::start().await;
    let (mallory, ann) = (node.person("mallory").await, node.person("ann").await);
    let honest = json!({ "metadataEncrypted": "bWFs" });
    let collection = done(&mallory, Method::POST, "/library/collections", overloaded(&honest)).await;
    assert_eq!(collection["metadataEncrypted"], "bWFs");
    assert_ne!(collection["id"], extras()["id"]);
    assert_eq!(collection["kmVersion"], 1);
    let path = format!("/library/collections/{}", collection["id"].as_str().unwrap());
    let updated = done(&mallory, Method::PUT, &path, overloaded(&honest)).await;
    assert_eq!((&updated["id"], &updated["kmVersion"]), (&collection["id"], &json!(1)));
    ann.ask_for(404, Method::GET, &path, Value::Null).await;

    Database::of(&node).await.add_passkey(&mallory, "mallorys").await;
    let slot = json!({ "credentialId": "mallorys", "wrappedKm": "AgE=", "slotSignature": "c2ln" });
    done(&mallory, Method::POST, "/users/me/wrapped-keys", overloaded(&slot)).await;
    let slots = done(&mallory, Method::GET, "/users/me/wrapped-keys", Value::Null).await;
    assert_eq!((slots["slots"].as_array().unwrap().len(), &slots["slots"][0]["kmVersion"]), (1, &json!(1)));
    let renamed = overloaded(&json!({ "name": "laptop" }));
    let passkey = done(&mallory, Method::PATCH, "/auth/passkeys/mallorys", renamed).await;
    assert_eq!((&passkey["name"], &passkey["counter"]), (&json!("laptop"), &json!(0)));
    assert_eq!(passkey["id"], "mallorys");
}

#[tokio::test]
async fn an_invitation_is_not_accepted_by_who_sends_it_and_a_share_is_not_widened() {
    let node = TestNode::start().await;
    let (mallory, ann) = (node.person("mallory").await, node.person("ann").await);
    let invite = overloaded(&json!({ "handle": ann.handle() }));
    let invitation = done(&mallory, Method::POST, "/friends/invite", invite).await["invitation"].clone();
    assert_eq!((&invitation["status"], &invitation["direction"]), (&json!("pending"), &json!("outgoing")));
    assert!(mallory.friends().await.is_empty() && ann.friends().await.is_empty());
    let share = json!({ "recipientHandle": ann.handle(), "resourceType": "collection", "resourceId": "c1" });
    let refused = mallory.ask(Method::POST, "/sharing", share.clone()).await;
    assert_eq!((refused.0, &refused.1["code"]), (400, &json!("not_a_friend")));
    ann.accept(&mallory.handle()).await;
    mallory.await_friends(&[&ann.handle()]).await;

    let mut share = overloaded(&share);
    assert_eq!(mallory.ask(Method::POST, "/sharing", share.clone()).await.0, 422, "no such role in sharing");
    share["role"] = json!("viewer");
    let made = done(&mallory, Method::POST, "/sharing", share).await;
    assert_eq!((&made["role"], &made["expiresAt"]), (&json!("viewer"), &Value::Null));
    assert_ne!(made["id"], extras()["id"]);
    let me = mallory.client.current_session().await.unwrap().unwrap().user.id;
    assert_eq!(made["userId"], me.as_str());
}
