//! What existing clients send and read, which were made for another server: each of these kept such
//! a client from getting on.

use reqwest::header::{AUTHORIZATION, ETAG, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::{Method, NameChange, ProfileChange};
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::MessageType;

use crate::sharing::signed_share;
use crate::support::{Peer, Person, TestNode, eventually, now, plain_http, wait_for};

const MIB: usize = 1024 * 1024;

async fn ok(person: &Person, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = person.ask(method.clone(), path, body).await;
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    answer
}

async fn refused(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = person.ask(method, path, body).await;
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

async fn me(person: &Person) -> Value {
    ok(person, Method::GET, "/auth/sessions/current", Value::Null).await["user"].clone()
}

async fn administrator(node: &TestNode) -> Person {
    let mut client = node.client();
    client.set_token(Some(node.token(FIRST_ADMINISTRATOR).await));
    Person::new(client)
}

/// Another session of somebody.
async fn session(node: &TestNode, name: &str) -> Person {
    let mut client = node.client();
    client.set_token(Some(node.token(&format!("{name}@people.example")).await));
    Person::new(client)
}

#[tokio::test]
async fn what_they_ask_for_at_their_start_is_empty_and_can_be_taken_away() {
    let lists = [
        "/integrations/available",
        "/integrations/configured",
        "/vehicles/",
        "/vehicles",
        "/library/layers",
        "/library/layers/groups",
    ];
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    for path in lists {
        assert_eq!(ann.ask(Method::GET, path, Value::Null).await, (200, json!([])), "{path}");
    }
    let config = ann.ask(Method::GET, "/subscriptions/config", Value::Null).await;
    assert_eq!(config, (200, json!({ "enabled": false, "billingEnabled": false })));
    let nobody = node.client();
    for (path, status) in [("/subscriptions/config", 200), ("/integrations/configured", 200)]
        .into_iter()
        .chain([("/integrations/available", 401), ("/vehicles/", 401), ("/library/layers", 401)])
    {
        let answer = nobody.request_json(Method::GET, path, None).await.unwrap();
        assert_eq!(answer.0, status, "{path} without a session: {}", answer.1);
    }

    let node = TestNode::start_with(&[("VELLUM_HTTP__LEGACY_CLIENT_STUBS", "false")]).await;
    let ann = node.user("ann").await;
    for path in lists.into_iter().chain(["/subscriptions/config"]) {
        let refusal = refused(&ann, Method::GET, path, Value::Null).await;
        assert_eq!(refusal, (404, "not_found".into()), "{path}");
    }
}

#[tokio::test]
async fn first_steps_are_noted_once_and_every_user_object_says_when() {
    let node = TestNode::start().await;
    let (ann, ben, admin) = (node.user("ann").await, node.user("ben").await, administrator(&node).await);
    let listed = async |name: &str| {
        let page = ok(&admin, Method::GET, &format!("/users/?q={name}@people"), Value::Null).await;
        page["data"][0].clone()
    };
    for user in [me(&ann).await, listed("ann").await] {
        assert_eq!(
            user.get("onboardingCompletedAt"),
            Some(&Value::Null),
            "asked for until it is set: {user}"
        );
    }
    let new = json!({ "firstName": "Cleo", "lastName": "Test", "email": "cleo@people.example" });
    let made = ok(&admin, Method::POST, "/users/", new).await;
    assert_eq!(made.get("onboardingCompletedAt"), Some(&Value::Null), "{made}");

    let path = "/users/me/onboarding/complete";
    let first = ok(&ann, Method::POST, path, Value::Null).await;
    let at = first["onboardingCompletedAt"].as_str().unwrap().to_owned();
    assert_eq!(ok(&ann, Method::POST, path, json!({})).await, first, "the first time stays");
    assert_eq!(ann.client.complete_onboarding().await.unwrap().as_str(), at);
    for user in [me(&ann).await, listed("ann").await, me(&session(&node, "ann").await).await] {
        assert_eq!(user["onboardingCompletedAt"], at.as_str(), "{user}");
    }
    assert_eq!(me(&ben).await["onboardingCompletedAt"], Value::Null, "others' own");
}

#[tokio::test]
async fn a_picture_is_set_kept_and_cleared_and_peers_are_shown_its_whole_address() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let shown = async || {
        let url = format!("{}/.well-known/user/ann", node.process.origin());
        let document: Value = plain_http().get(url).send().await.unwrap().json().await.unwrap();
        document.get("picture").cloned()
    };
    let change = async |body: Value| ok(&ann, Method::PATCH, "/users/me/profile", body).await;
    let picture = "https://people.example/ann.png?size=1";
    change(json!({ "picture": picture })).await;
    assert_eq!(me(&ann).await["picture"], picture);
    assert_eq!(shown().await, Some(json!(picture)));
    change(json!({ "firstName": "Anna" })).await;
    let user = me(&ann).await;
    assert_eq!(
        (&user["firstName"], &user["picture"]),
        (&json!("Anna"), &json!(picture)),
        "left out: it stays"
    );

    let id = user["id"].as_str().unwrap();
    let avatar = format!("/users/{id}/avatar");
    change(json!({ "picture": avatar })).await;
    assert_eq!(me(&ann).await["picture"], avatar.as_str());
    assert_eq!(shown().await, Some(json!(format!("{}{avatar}", node.process.origin()))));
    let clear = ProfileChange { picture: NameChange::Clear, ..ProfileChange::default() };
    ann.client.change_profile(&clear).await.unwrap();
    assert_eq!((&me(&ann).await["picture"], shown().await), (&Value::Null, None));

    let long = format!("https://people.example/{}", "x".repeat(2000));
    for wrong in [
        "http://people.example/a.png",
        "/users/somebody/avatar",
        "//evil.example",
        "x",
        &long,
        "https:evil.example",
        r"https:\\evil.example",
        " https://evil.example",
        "https://ann:secret@evil.example",
    ] {
        let body = json!({ "firstName": "changed", "picture": wrong });
        let refusal = refused(&ann, Method::PATCH, "/users/me/profile", body).await;
        assert_eq!(refusal, (422, "validation_failed".into()), "{wrong}");
    }
    assert_eq!(me(&ann).await["firstName"], "Anna", "a refused change changes nothing");
    change(json!({ "picture": r"https://People.example\a b.png" })).await;
    assert_eq!(shown().await, Some(json!("https://people.example/a%20b.png")), "in one reading for all");
}

async fn secret(person: &Person, device: &str) -> Value {
    let path = format!("/users/me/devices/{device}/wrap-secret");
    ok(person, Method::GET, &path, Value::Null).await["secret"].clone()
}

#[tokio::test]
async fn who_ends_other_sessions_and_names_a_device_renews_the_secrets_of_all_others() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let devices = ["ann-desk", "ann-phone", "ann-tablet"];
    let secrets = async |person: &Person| {
        let mut all = Vec::new();
        for device in devices {
            all.push(secret(person, device).await);
        }
        all
    };
    let (before, bens) = (secrets(&ann).await, secret(&ben, "ann-phone").await);
    for body in [Value::Null, json!({}), json!({ "deviceId": null }), json!({ "deviceId": "" })] {
        let other = session(&node, "ann").await;
        ok(&ann, Method::DELETE, "/auth/sessions/others", body.clone()).await;
        assert!(other.client.current_session().await.unwrap().is_none(), "{body}: it has ended");
        assert_eq!(secrets(&ann).await, before, "{body}: no secret changes without a device");
    }
    let refusal = refused(&ann, Method::DELETE, "/auth/sessions/others", json!({ "deviceId": 7 })).await;
    assert_eq!(refusal, (422, "validation_failed".into()));

    let other = session(&node, "ann").await;
    ann.client.end_other_sessions(Some("ann-desk")).await.unwrap();
    assert!(other.client.current_session().await.unwrap().is_none());
    let after = secrets(&ann).await;
    assert_eq!(after[0], before[0], "the device that asks keeps its own");
    assert!(after[1] != before[1] && after[2] != before[2], "{before:?}, {after:?}");
    assert_ne!(after[1], after[2]);
    assert_eq!(secret(&ben, "ann-phone").await, bens, "another user's device of the same name");
    assert_eq!(secrets(&ann).await, after, "they stay from then on");
    let (status, trail) = ann.ask(Method::GET, "/users/me/audit", Value::Null).await;
    assert_eq!(status, 200, "{trail}");
    assert_eq!(trail.to_string().matches("wrap_secrets_rotated").count(), 1, "{trail}");
}

#[tokio::test]
async fn secrets_are_renewed_so_often_a_minute_by_whichever_request() {
    let node = TestNode::start_with(&[
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__WRAP_SECRET_ROTATIONS_PER_MINUTE", "2"),
    ])
    .await;
    let ann = node.user("ann").await;
    let others = "/auth/sessions/others";
    ok(&ann, Method::DELETE, others, json!({ "deviceId": "ann-desk" })).await;
    ok(&ann, Method::POST, "/users/me/device-wrap-secrets/rotate", Value::Null).await;
    let refusal = refused(&ann, Method::DELETE, others, json!({ "deviceId": "ann-desk" })).await;
    assert_eq!(refusal.0, 429);
    ok(&ann, Method::DELETE, others, Value::Null).await;
}

#[tokio::test]
async fn every_role_that_came_with_the_node_is_a_default_one_and_nobody_may_give_more_than_before() {
    let node = TestNode::start().await;
    let admin = administrator(&node).await;
    let roles = ok(&admin, Method::GET, "/users/roles", Value::Null).await;
    let roles = roles.as_array().unwrap();
    assert_eq!(roles.len(), 3);
    assert!(roles.iter().all(|role| role["isDefault"] == true), "{roles:?}");
    let new = |email: &str| json!({ "firstName": "New", "lastName": "Test", "email": email });
    let made = ok(&admin, Method::POST, "/users/", new("new@people.example")).await;
    assert_eq!(made["roles"].as_array().unwrap().len(), 1, "a new user has one role: {made}");
    assert_eq!(made["roles"][0]["id"], "user");
}

fn resource(id: &str, data: &str, role: ShareRole) -> SharedResource {
    let ciphertext = SharedCiphertext { encrypted_data: data.into(), nonce: "WoyOsQE8QeFAtxhm".into() };
    SharedResource { resource_type: "collection".into(), resource_id: id.into(), ciphertext, role }
}

async fn shares(person: &Person, list: &str) -> Vec<Value> {
    let answer = ok(person, Method::GET, &format!("/sharing/{list}"), Value::Null).await;
    answer["shares"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_share_with_a_friend_elsewhere_is_changed_here_where_there_is_no_signature() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    let shared = resource("c1", "b2xk", ShareRole::Viewer);
    let made = ok(&ann, Method::POST, "/sharing", signed_share(&ann, &ben.handle(), &shared)).await;
    assert_eq!(made.get("delivery"), None, "{made}");
    let path = format!("/sharing/{}", made["id"].as_str().unwrap());

    let changed = ok(&ann, Method::PATCH, &path, json!({ "role": "editor" })).await;
    assert_eq!((&changed["role"], &changed["delivery"]), (&json!("editor"), &json!("unsigned")), "{changed}");
    let same = ["id", "encryptedData", "nonce", "status", "createdAt", "recipientHandle"];
    assert!(same.iter().all(|name| changed[name] == made[name]), "{made}, {changed}");
    let envelope = json!({
        "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": "c1",
        "encryptedData": "bmV3", "nonce": "bm9uY2U=",
    });
    let replaced = ok(&ann, Method::PUT, "/sharing/envelope", envelope.clone()).await;
    assert_eq!((&replaced["encryptedData"], &replaced["nonce"]), (&json!("bmV3"), &json!("bm9uY2U=")));
    assert_eq!((&replaced["role"], &replaced["delivery"]), (&json!("editor"), &json!("unsigned")));

    let outgoing = shares(&ann, "outgoing").await;
    assert_eq!(outgoing.len(), 1);
    assert_eq!((&outgoing[0]["role"], &outgoing[0]["encryptedData"]), (&json!("editor"), &json!("bmV3")));
    let theirs = &shares(&ben, "incoming").await[0];
    assert_eq!(
        (&theirs["role"], &theirs["encryptedData"]),
        (&json!("viewer"), &json!("b2xk")),
        "ben is not told"
    );

    for name in ["encryptedData", "nonce"] {
        let mut empty = envelope.clone();
        empty[name] = json!("");
        let refusal = refused(&ann, Method::PUT, "/sharing/envelope", empty).await;
        assert_eq!(refusal, (400, "payload_required".into()), "an empty {name}");
    }
    assert_eq!(shares(&ann, "outgoing").await[0]["encryptedData"], "bmV3", "the payload stays");

    let mut unknown = envelope;
    unknown["resourceId"] = json!("c2");
    let refusal = refused(&ann, Method::PUT, "/sharing/envelope", unknown).await;
    assert_eq!(refusal, (404, "share_not_found".into()), "this makes no share");
    let mut unsigned = signed_share(&ann, &ben.handle(), &resource("c3", "bmV3", ShareRole::Viewer));
    unsigned["federationSignature"] = Value::Null;
    let refusal = refused(&ann, Method::POST, "/sharing", unsigned).await;
    assert_eq!(refusal, (400, "envelope_required".into()), "nor is one begun without a signature");

    // With a signature, the friend is told as before.
    let newest = resource("c1", "bmV3ZXN0", ShareRole::Editor);
    let told = ok(&ann, Method::PUT, "/sharing/envelope", signed_share(&ann, &ben.handle(), &newest)).await;
    assert_eq!(told.get("delivery"), None, "{told}");
    wait_for(
        "ben has the newest",
        || shares(&ben, "incoming"),
        |seen| seen[0]["encryptedData"] == "bmV3ZXN0",
    )
    .await;
}

#[tokio::test]
async fn a_share_on_one_node_needs_no_signature_and_says_nothing_of_one() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    let bare = json!({ "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": "c1" });
    let made = ok(&ann, Method::POST, "/sharing", bare).await;
    let path = format!("/sharing/{}", made["id"].as_str().unwrap());
    let changed = ok(&ann, Method::PATCH, &path, json!({ "role": "editor" })).await;
    assert_eq!(
        (changed.get("delivery"), &shares(&ben, "incoming").await[0]["role"]),
        (None, &json!("editor"))
    );
}

#[tokio::test]
async fn a_change_that_nobody_is_told_of_makes_no_share_outlive_a_revocation() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    let shared = resource("c1", "b2xk", ShareRole::Viewer);
    let made = ok(&ann, Method::POST, "/sharing", signed_share(&ann, &bob.handle, &shared)).await;
    let after = |at| eventually("the clock goes on", move || async move { (now() > at).then_some(()) });
    after(now()).await;
    let signed = now();
    let revoke = bob.signer.envelope(
        MessageType::RelationshipRevoke,
        &ann.handle(),
        vellum_protocol::JsonObject::new(),
        signed,
        &mut rand::rng(),
    );
    after(signed).await;
    let path = format!("/sharing/{}", made["id"].as_str().unwrap());
    ok(&ann, Method::PATCH, &path, json!({ "role": "editor" })).await;
    assert_eq!(peer.send(&revoke).await.0, 202);
    assert_eq!(shares(&ann, "outgoing").await, Vec::<Value>::new(), "bob signed this after it was shared");
}

#[tokio::test]
async fn a_collection_is_read_by_whom_its_owner_has_shared_it_with() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, ben, cleo) = (node.person("ann").await, node.person("ben").await, node.person("cleo").await);
    ann.befriend(&ben).await;
    let new = json!({ "metadataEncrypted": "c2VhbGVk" });
    let made = ok(&ann, Method::POST, "/library/collections", new).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let (path, list) = (format!("/library/collections/{id}"), "/library/collections/shared-with-me");
    assert_eq!(refused(&ben, Method::GET, &path, Value::Null).await.0, 404, "not shared yet");
    assert_eq!(ok(&ben, Method::GET, list, Value::Null).await, json!([]));

    let share = json!({
        "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": id,
        "encryptedData": "Zm9yIGJlbg==", "nonce": "bm9uY2U=", "role": "editor",
    });
    let share = ok(&ann, Method::POST, "/sharing", share).await;
    let read = ok(&ben, Method::GET, &path, Value::Null).await;
    for (name, value) in [
        ("id", json!(id)),
        ("userId", made["userId"].clone()),
        ("metadataEncrypted", json!("c2VhbGVk")),
        ("role", json!("editor")),
        ("shareEnvelope", json!({ "encryptedData": "Zm9yIGJlbg==", "nonce": "bm9uY2U=" })),
        ("senderHandle", json!(ann.handle())),
        ("keyChanged", json!(false)),
        ("bookmarks", json!([])),
    ] {
        assert_eq!(read[name], value, "{name}: {read}");
    }
    let listed = ok(&ben, Method::GET, list, Value::Null).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["shareEnvelope"]), (1, &read["shareEnvelope"]));
    assert_eq!((&listed[0]["id"], &listed[0]["role"]), (&read["id"], &read["role"]));
    let metadata = listed[0].get("metadataEncrypted");
    assert_eq!(metadata, Some(&Value::Null), "a list does not carry what opens for its owner alone");
    let typed = ben.client.shared_collections().await.unwrap();
    assert_eq!((typed.len(), &typed[0].id, &typed[0].sender_handle), (1, &id, &ann.handle()));
    let own = ok(&ann, Method::GET, &path, Value::Null).await;
    assert_eq!(
        (&own["role"], own.get("shareEnvelope")),
        (&json!("owner"), None),
        "the owner's view is as it was"
    );

    // Reading is all: a share is no key.
    for (method, body) in [(Method::PUT, json!({ "metadataEncrypted": "x" })), (Method::DELETE, Value::Null)]
    {
        assert_eq!(refused(&ben, method, &path, body).await, (404, "collection_not_found".into()));
    }
    let mine = ok(&ben, Method::GET, "/library/collections", Value::Null).await;
    assert!(mine.as_array().unwrap().iter().all(|one| one["id"] != id.as_str()), "it is not ben's own");

    // Somebody else who names its id, here or on another node, shares nothing by it.
    cleo.befriend(&ben).await;
    let dan = peer.user("dan");
    peer.invite(&dan, &cleo.handle()).await;
    cleo.accept(&dan.handle).await;
    let letter = resource(&id, "AA==", ShareRole::Editor);
    let share_of_dan = dan.signer.envelope(
        MessageType::ResourceShare,
        &cleo.handle(),
        letter.payload(),
        now(),
        &mut rand::rng(),
    );
    assert_eq!(peer.send(&share_of_dan).await.0, 202);
    let of_ben = json!({ "recipientHandle": cleo.handle(), "resourceType": "collection", "resourceId": id });
    ok(&ben, Method::POST, "/sharing", of_ben).await;
    assert_eq!(shares(&cleo, "incoming").await.len(), 2, "both letters have come");
    assert_eq!(refused(&cleo, Method::GET, &path, Value::Null).await.0, 404);
    assert_eq!(ok(&cleo, Method::GET, list, Value::Null).await, json!([]));

    ok(&ann, Method::DELETE, &format!("/sharing/{}", share["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(refused(&ben, Method::GET, &path, Value::Null).await.0, 404, "no longer shared");
    assert_eq!(ok(&ben, Method::GET, list, Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_share_of_another_kind_opens_no_collection_of_the_same_id() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    let new = json!({ "metadataEncrypted": "c2VhbGVk" });
    let id = ok(&ann, Method::POST, "/library/collections", new).await["id"].clone();
    let share = json!({ "recipientHandle": ben.handle(), "resourceType": "map", "resourceId": id });
    ok(&ann, Method::POST, "/sharing", share).await;
    let path = format!("/library/collections/{}", id.as_str().unwrap());
    let read = refused(&ben, Method::GET, &path, Value::Null).await;
    assert_eq!(read.0, 404, "a map was shared, and no collection: {read:?}");
    let listed = ok(&ben, Method::GET, "/library/collections/shared-with-me", Value::Null).await;
    assert_eq!(listed, json!([]), "shared collections");
}

#[tokio::test]
async fn a_flush_of_nothing_has_no_results() {
    let node = TestNode::start().await;
    let (ann, new) = (node.person("ann").await, node.user("new").await);
    for person in [&ann, &new] {
        assert_eq!(person.flush_raw(json!([])).await, (200, json!({ "results": [] })));
    }
    assert_eq!(ann.client.flush_revocations(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_collections_metadata_may_have_a_mebibyte_within_the_quota() {
    let node = TestNode::start_with(&[("VELLUM_QUOTAS__BYTES", "3000000")]).await;
    let ann = node.person("ann").await;
    let of = |bytes: usize| json!({ "metadataEncrypted": "A".repeat(bytes) });
    let made = ok(&ann, Method::POST, "/library/collections", of(MIB)).await;
    let path = format!("/library/collections/{}", made["id"].as_str().unwrap());
    assert_eq!(made["metadataEncrypted"].as_str().unwrap().len(), MIB);
    ok(&ann, Method::PUT, &path, of(MIB - 4)).await;
    ok(&ann, Method::PUT, &path, of(MIB)).await;
    for (method, path) in [(Method::POST, "/library/collections"), (Method::PUT, path.as_str())] {
        let refusal = refused(&ann, method.clone(), path, of(MIB + 4)).await;
        assert_eq!(refusal, (422, "validation_failed".into()), "{method}");
        assert_eq!(refused(&ann, method, path, of(MIB + 8192)).await, (413, "body_too_large".into()));
    }
    ok(&ann, Method::POST, "/library/collections", of(MIB)).await;
    let over = refused(&ann, Method::POST, "/library/collections", of(MIB)).await;
    assert_eq!(over, (413, "quota_exceeded".into()), "quotas hold as before");
    let usage = ann.client.usage().await.unwrap();
    assert_eq!(usage.bytes.used, 2 * MIB as u64, "{usage:?}");
}

#[tokio::test]
async fn preconditions_take_lists_and_the_weak_tags_that_proxies_make() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let url = format!("{}/me/blobs/notes", node.process.origin());
    let bearer = format!("Bearer {}", ann.client.token().unwrap().expose());
    let http = plain_http();
    let put = async |conditions: &[(reqwest::header::HeaderName, String)]| {
        let request = http.put(&url).header(AUTHORIZATION, &bearer).json(&json!({ "encryptedBlob": "AgE=" }));
        let request = conditions.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await.unwrap();
        let tag = answer.headers().get(ETAG).map(|tag| tag.to_str().unwrap().to_owned());
        (answer.status().as_u16(), tag)
    };
    let (_, tag) = put(&[]).await;
    let mut tag = tag.unwrap();
    for form in
        ["W/{}", "\"999\", {}", "{},\"999\"", "\"999\", W/{} ,\"998\"", "\"of-another-server\", {}", "*"]
    {
        let (status, next) = put(&[(IF_MATCH, form.replace("{}", &tag))]).await;
        assert_eq!(status, 200, "If-Match: {form}");
        let stale = put(&[(IF_MATCH, form.replace("{}", &tag))]).await.0;
        assert_eq!(stale, if form == "*" { 200 } else { 412 }, "If-Match: {form} of before");
        tag = if form == "*" { put(&[]).await.1.unwrap() } else { next.unwrap() };
    }
    let (status, next) = put(&[(IF_MATCH, "\"999\"".into()), (IF_MATCH, tag.clone())]).await;
    assert_eq!(status, 200, "a list in two lines");
    tag = next.unwrap();
    assert_eq!(put(&[(IF_MATCH, "\"999\", W/\"998\"".into())]).await.0, 412);
    assert_eq!(put(&[(IF_MATCH, "\"of-another-server\"".into())]).await.0, 412);

    for form in ["{}", "W/{}", "\"999\", W/{}", "*"] {
        assert_eq!(put(&[(IF_NONE_MATCH, form.replace("{}", &tag))]).await.0, 412, "If-None-Match: {form}");
    }
    let (status, next) = put(&[(IF_NONE_MATCH, "\"999\", W/\"998\"".into())]).await;
    assert_eq!(status, 200, "the blob has neither");
    for nonsense in ["", "7", "W/x", "W/", "\"", ","] {
        for name in [IF_MATCH, IF_NONE_MATCH] {
            assert_eq!(put(&[(name.clone(), nonsense.into())]).await.0, 400, "{name}: {nonsense}");
        }
    }
    let both = [(IF_MATCH, next.clone().unwrap()), (IF_NONE_MATCH, "\"999\"".into())];
    assert_eq!(put(&both).await.0, 400, "either, not both");
    let delete = http.delete(&url).header(AUTHORIZATION, &bearer);
    let stale = delete.try_clone().unwrap().header(IF_MATCH, "W/\"1\", W/\"999\"").send().await.unwrap();
    assert_eq!(stale.status(), 412);
    let gone = delete.header(IF_MATCH, format!("W/\"999\", W/{}", next.unwrap())).send().await.unwrap();
    assert_eq!(gone.status(), 200);
}
