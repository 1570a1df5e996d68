//! The attacker has an account, and would fill the node's disk: with ever more types of blobs,
//! collections and shares, or with longer and longer ones. What stops him: quotas of each user,
//! counted in the transaction that writes. They stop nobody from changing their keys.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method;
use vellum_protocol::{Json, JsonObject, MessageType};

use crate::support::{Database, Peer, Person, Replicas, TestNode, now};

const COLLECTIONS: &str = "/library/collections";
const SLOTS: &str = "/users/me/wrapped-keys";
const COMMIT: &str = "/users/me/km-version/commit";

const TIGHT: [(&str, &str); 5] = [
    ("VELLUM_QUOTAS__BYTES", "1000"),
    ("VELLUM_QUOTAS__BLOBS", "3"),
    ("VELLUM_QUOTAS__COLLECTIONS", "2"),
    ("VELLUM_QUOTAS__SLOTS", "2"),
    ("VELLUM_QUOTAS__SHARES", "2"),
];

async fn put(person: &Person, blob: &str, bytes: usize) -> (u16, Value) {
    let body = json!({ "encryptedBlob": "x".repeat(bytes) });
    person.ask(Method::PUT, &format!("/me/blobs/{blob}"), body).await
}

/// Fails unless it is an answer that says which quota is exceeded.
#[track_caller]
fn is_over((status, problem): (u16, Value), quota: &str, used: u64, limit: u64) {
    let seen = (status, &problem["code"], &problem["quota"], &problem["used"], &problem["limit"]);
    let expected = (413, &json!("quota_exceeded"), &json!(quota), &json!(used), &json!(limit));
    assert_eq!(seen, expected, "{problem}");
}

#[track_caller]
fn is_done((status, answer): (u16, Value), why: &str) {
    assert!((200..300).contains(&status), "{why}: {status} {answer}");
}

async fn usage(person: &Person) -> BTreeMap<String, (u64, u64)> {
    let (status, usage) = person.ask(Method::GET, "/users/me/usage", Value::Null).await;
    assert_eq!(status, 200, "{usage}");
    let one = |of: &Value| (of["used"].as_u64().unwrap(), of["limit"].as_u64().unwrap());
    usage.as_object().unwrap().iter().map(|(name, of)| (name.clone(), one(of))).collect()
}

async fn used(person: &Person, quota: &str) -> u64 {
    usage(person).await[quota].0
}

fn rotation(from: i64) -> Value {
    let seed = MasterSeed::generate(&mut rand::rng());
    json!({
        "expectedCurrent": from,
        "signingKey": seed.signing_secret().public(),
        "encryptionKey": seed.encryption_key(),
    })
}

fn slot(credential: &str, bytes: usize) -> Value {
    json!({ "credentialId": credential, "wrappedKm": "x".repeat(bytes), "slotSignature": "c2ln" })
}

#[tokio::test(flavor = "multi_thread")]
async fn without_other_settings_a_user_has_these_quotas_and_sees_what_is_used() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let expected = [
        ("blobs", (0, 200)),
        ("bytes", (0, 67_108_864)),
        ("collections", (1, 1000)),
        ("shares", (0, 2000)),
        ("slots", (0, 100)),
    ];
    assert_eq!(usage(&ann).await, expected.map(|(name, of)| (name.to_owned(), of)).into());
    is_done(put(&ann, "one", 100).await, "a blob");
    is_done(put(&ann, "two", 50).await, "another one");
    is_done(put(&ann, "two", 20).await, "a shorter one in its place");
    assert_eq!((used(&ann, "blobs").await, used(&ann, "bytes").await), (2, 120));
    let (_, made) = ann.ask(Method::POST, COLLECTIONS, json!({ "metadataEncrypted": "x".repeat(30) })).await;
    assert_eq!((used(&ann, "collections").await, used(&ann, "bytes").await), (2, 150));
    Database::of(&node).await.add_passkey(&ann, "c2xvdA").await;
    is_done(ann.ask(Method::POST, SLOTS, slot("c2xvdA", 7)).await, "a slot");
    assert_eq!((used(&ann, "slots").await, used(&ann, "bytes").await), (1, 157));
    for path in [
        "/me/blobs/one".to_owned(),
        format!("{COLLECTIONS}/{}", made["id"].as_str().unwrap()),
        format!("{SLOTS}/c2xvdA"),
    ] {
        is_done(ann.ask(Method::DELETE, &path, Value::Null).await, &path);
    }
    assert_eq!(used(&ann, "bytes").await, 20, "what is gone does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_types_of_blobs_end_at_two_hundred() {
    let node = TestNode::start().await;
    let mallory = node.person("mallory").await;
    let mut done = 0;
    for n in 0..300 {
        match put(&mallory, &format!("t{n}"), 10).await {
            (200, _) => done += 1,
            refused => is_over(refused, "blobs", 200, 200),
        }
    }
    assert_eq!((done, used(&mallory, "blobs").await), (200, 200));
    is_done(put(&mallory, "t7", 11).await, "one that is there may be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_quota_refuses_what_would_exceed_it_and_nothing_is_written() {
    let node = TestNode::start_with(&TIGHT).await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let database = Database::of(&node).await;
    for blob in ["one", "two", "three"] {
        is_done(put(&ann, blob, 100).await, blob);
    }
    for credential in ["c2xvdDE", "c2xvdDI", "c2xvdDM"] {
        database.add_passkey(&ann, credential).await;
    }
    is_done(ann.ask(Method::POST, SLOTS, slot("c2xvdDE", 100)).await, "a slot");
    is_done(ann.ask(Method::POST, SLOTS, slot("c2xvdDI", 100)).await, "another slot");
    let (status, made) = ann.ask(Method::POST, COLLECTIONS, json!({ "metadataEncrypted": "" })).await;
    assert_eq!(status, 200);
    let collection = format!("{COLLECTIONS}/{}", made["id"].as_str().unwrap());
    ann.befriend(&ben).await;
    let share = |resource: &str, bytes: usize| {
        json!({ "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": resource,
                "encryptedData": "x".repeat(bytes), "nonce": "bm9uY2U=" })
    };
    is_done(ann.ask(Method::POST, "/sharing", share("one", 100)).await, "a share");
    is_done(ann.ask(Method::POST, "/sharing", share("two", 100)).await, "another share");
    assert_eq!(used(&ann, "bytes").await, 700);

    let before = database.snapshot().await;
    is_over(put(&ann, "four", 1).await, "blobs", 3, 3);
    is_over(put(&ann, "one", 401).await, "bytes", 700, 1000);
    is_over(
        ann.ask(Method::POST, COLLECTIONS, json!({ "metadataEncrypted": "" })).await,
        "collections",
        2,
        2,
    );
    let long = json!({ "metadataEncrypted": "x".repeat(301) });
    is_over(ann.ask(Method::PUT, &collection, long).await, "bytes", 700, 1000);
    is_over(ann.ask(Method::POST, SLOTS, slot("c2xvdDM", 1)).await, "slots", 2, 2);
    is_over(ann.ask(Method::POST, SLOTS, slot("c2xvdDE", 401)).await, "bytes", 700, 1000);
    is_over(ann.ask(Method::POST, "/sharing", share("three", 1)).await, "shares", 2, 2);
    is_over(ann.ask(Method::POST, "/sharing", share("one", 401)).await, "bytes", 700, 1000);
    let mut grown = rotation(1);
    grown["blobs"] = json!([{ "blobType": "four", "encryptedBlob": "x" }]);
    is_over(ann.ask(Method::POST, COMMIT, grown).await, "blobs", 3, 3);
    let mut grown = rotation(1);
    grown["slots"] = json!([slot("c2xvdDM", 1)]);
    is_over(ann.ask(Method::POST, COMMIT, grown.clone()).await, "slots", 2, 2);
    assert_eq!(before.difference(&database.snapshot().await), Vec::<String>::new());

    is_done(put(&ann, "one", 400).await, "exactly as much as there may be");
    assert_eq!(used(&ann, "bytes").await, 1000);
    assert_eq!(usage(&ben).await["bytes"].0, 0, "what others share with somebody is theirs");
    grown["dropSlots"] = json!(["c2xvdDI"]);
    is_done(ann.ask(Method::POST, COMMIT, grown).await, "one slot for another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_adds_nothing_is_not_refused_though_its_ciphertexts_are_longer() {
    let node = TestNode::start_with(&TIGHT).await;
    let ann = node.person("ann").await;
    for blob in ["one", "two"] {
        is_done(put(&ann, blob, 500).await, blob);
    }
    let sealed_anew = |from: i64, bytes: usize| {
        let mut body = rotation(from);
        body["blobs"] = json!(
            ["one", "two"].map(|blob| { json!({ "blobType": blob, "encryptedBlob": "x".repeat(bytes) }) })
        );
        body
    };
    is_done(ann.ask(Method::POST, COMMIT, sealed_anew(1, 600)).await, "it adds nothing");
    assert_eq!(used(&ann, "bytes").await, 1200);
    is_over(put(&ann, "one", 601).await, "bytes", 1200, 1000);
    is_over(put(&ann, "three", 1).await, "bytes", 1200, 1000);
    is_done(put(&ann, "one", 590).await, "shorter, though still more than there may be");
    is_done(ann.ask(Method::POST, COMMIT, sealed_anew(2, 610)).await, "and again");
    let mut more = sealed_anew(3, 610);
    let third = json!({ "blobType": "three", "encryptedBlob": "x" });
    more["blobs"].as_array_mut().unwrap().push(third);
    is_over(ann.ask(Method::POST, COMMIT, more).await, "bytes", 1220, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_no_way_round_the_quota() {
    let node = TestNode::start_with(&TIGHT).await;
    let mallory = node.person("mallory").await;
    is_done(put(&mallory, "one", 10).await, "a blob");
    is_done(put(&mallory, "two", 10).await, "another one");
    let mut version = 1;
    let mut refused = None;
    // Each of them grows one of the two by 9 MB.
    for blob in ["one", "two", "one", "two"] {
        let mut body = rotation(version);
        body["blobs"] = json!([{ "blobType": blob, "encryptedBlob": "x".repeat(9_000_000) }]);
        match mallory.ask(Method::POST, COMMIT, body).await {
            (200, _) => version += 1,
            other => refused = Some(other),
        }
    }
    is_over(refused.expect("the second one is too much"), "bytes", 9_000_010, 1000);
    assert_eq!(used(&mallory, "bytes").await, 9_000_010);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_more_than_the_limit_keeps_it_and_may_shrink_delete_and_rotate_but_not_grow() {
    let mut node = TestNode::prepared(&[]);
    node.process.start().await.unwrap();
    let ann = node.person("ann").await;
    for n in 0..5 {
        is_done(put(&ann, &format!("t{n}"), 400).await, "there is room");
        is_done(ann.ask(Method::POST, COLLECTIONS, json!({ "metadataEncrypted": "" })).await, "a collection");
    }
    node.process.stop().await.unwrap();
    for (name, value) in TIGHT {
        node.process.set(name, value);
    }
    node.process.start().await.unwrap();
    let mut client = node.client();
    client.set_token(ann.client.token().cloned());
    let ann = ann.seen_through(client);
    let now = usage(&ann).await;
    assert_eq!((now["blobs"], now["bytes"], now["collections"]), ((5, 3), (2000, 1000), (6, 2)));

    is_over(put(&ann, "t9", 1).await, "blobs", 5, 3);
    is_over(put(&ann, "t0", 401).await, "bytes", 2000, 1000);
    is_over(
        ann.ask(Method::POST, COLLECTIONS, json!({ "metadataEncrypted": "" })).await,
        "collections",
        6,
        2,
    );
    is_done(put(&ann, "t0", 400).await, "as long as before");
    is_done(put(&ann, "t0", 300).await, "shorter");
    let mut body = rotation(1);
    body["blobs"] =
        (0..5).map(|n| json!({ "blobType": format!("t{n}"), "encryptedBlob": "x".repeat(410) })).collect();
    is_done(ann.ask(Method::POST, COMMIT, body).await, "a rotation");
    for n in 0..3 {
        is_done(ann.ask(Method::DELETE, &format!("/me/blobs/t{n}"), Value::Null).await, "a removal");
    }
    is_done(put(&ann, "t9", 100).await, "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_at_the_same_time_on_three_nodes_do_not_exceed_a_quota_together() {
    let Some(server) = vellum_test_database::shared_server() else { return };
    let replicas = Replicas::start(server, 3, &TIGHT).await;
    let ann = replicas.nodes[0].person("ann").await;
    let everywhere: Vec<Person> = (0..3).map(|node| replicas.through(node, &ann)).collect();
    let writes = (0..12).map(|n| {
        let person = &everywhere[n % 3];
        async move { put(person, &format!("t{n}"), 300).await }
    });
    let answers = join_all(writes).await;
    let done = answers.iter().filter(|(status, _)| *status == 200).count();
    let over =
        answers.iter().filter(|(status, problem)| *status == 413 && problem["code"] == "quota_exceeded");
    assert_eq!((done, over.count()), (3, 9), "{answers:?}");
    assert_eq!(used(&ann, "blobs").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_on_other_nodes_cannot_fill_the_disk_with_shares_either() {
    let quotas = [("VELLUM_QUOTAS__SHARES", "12"), ("VELLUM_QUOTAS__BYTES", "4000")];
    let (node, peer) = (TestNode::start_with(&quotas).await, Peer::start().await);
    let ann = node.person("ann").await;
    let (bob, carol) = (peer.user("bob"), peer.user("carol"));
    for friend in [&bob, &carol] {
        peer.invite(friend, &ann.handle()).await;
        ann.accept(&friend.handle).await;
    }
    let share = async |from: &crate::support::PeerUser, id: &str, bytes: usize| {
        let mut payload = JsonObject::new();
        for (name, value) in [
            ("resourceType", "collection"),
            ("resourceId", id),
            ("encryptedData", "A".repeat(bytes).as_str()),
            ("nonce", "WoyOsQE8QeFAtxhm"),
            ("role", "viewer"),
        ] {
            payload.insert(name, Json::from(value));
        }
        let kind = MessageType::ResourceShare;
        let envelope = from.signer.envelope(kind, &ann.handle(), payload, now(), &mut rand::rng());
        let (status, answer) = peer.send(&envelope).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let refused = (400, "Too many shares".to_owned());
    for id in ["a", "b", "c"] {
        assert_eq!(share(&bob, id, 100).await.0, 202, "{id}");
    }
    assert_eq!(share(&bob, "d", 100).await, refused, "a sender has a quarter of 12");
    assert_eq!(share(&bob, "a", 104).await.0, 202, "what is there may be brought anew");
    assert_eq!(share(&bob, "a", 1000).await, refused, "and a quarter of the bytes");
    assert_eq!(share(&carol, "a", 100).await.0, 202, "others have their own part");
    let (_, incoming) = ann.ask(Method::GET, "/sharing/incoming", Value::Null).await;
    assert_eq!(incoming["total"], 4, "{incoming}");
}
