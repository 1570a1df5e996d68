//! Rotating the keys: one of many wins, and no crash leaves half of it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

const COMMIT: &str = "/users/me/km-version/commit";

fn seed(number: u64) -> MasterSeed {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    MasterSeed::from_bytes(bytes)
}

fn keys(number: u64) -> Value {
    let seed = seed(number);
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

/// A commit whose every part says who made it.
fn commit(expected: i64, number: u64, blobs: usize, collection: &str) -> Value {
    let mark = format!("sealed by {number}");
    let blobs: Vec<Value> =
        (0..blobs).map(|n| json!({ "blobType": format!("t{n}"), "encryptedBlob": mark })).collect();
    let mut body = keys(number);
    body["expectedCurrent"] = json!(expected);
    body["blobs"] = json!(blobs);
    body["collections"] = json!([{ "id": collection, "metadataEncrypted": mark }]);
    body
}

async fn collection_of(person: &Person) -> String {
    person.ask(Method::GET, "/library/collections", Value::Null).await.1[0]["id"].as_str().unwrap().to_owned()
}

/// What the account shows: the version, the signing key, and the marks on everything sealed.
async fn state(person: &Person, blobs: usize) -> (i64, Value, Vec<(String, i64)>) {
    let identity = person.ask(Method::GET, "/users/me/identity", Value::Null).await.1;
    let mut marks = Vec::new();
    for n in 0..blobs {
        let blob = person.ask(Method::GET, &format!("/me/blobs/t{n}"), Value::Null).await.1;
        marks.push((
            blob["encryptedBlob"].as_str().unwrap_or_default().to_owned(),
            blob["kmVersion"].as_i64().unwrap_or(0),
        ));
    }
    let collection = &person.ask(Method::GET, "/library/collections", Value::Null).await.1[0];
    marks.push((
        collection["metadataEncrypted"].as_str().unwrap_or_default().to_owned(),
        collection["kmVersion"].as_i64().unwrap(),
    ));
    (identity["kmVersion"].as_i64().unwrap(), identity["signingKey"].clone(), marks)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_commits_with_one_expectation_exactly_one_wins_and_everything_is_the_winners() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let collection = collection_of(&ann).await;
    for round in 0..50_i64 {
        let numbers: Vec<u64> = (0..16).map(|n| u64::try_from(round).unwrap() * 16 + n).collect();
        let sent = numbers.iter().map(|number| {
            let body = commit(round + 1, *number, 3, &collection);
            ann.ask(Method::POST, COMMIT, body)
        });
        let answers = join_all(sent).await;
        let winners: Vec<u64> = numbers
            .iter()
            .zip(&answers)
            .filter(|(_, (status, _))| *status == 200)
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        for (_, problem) in answers.iter().filter(|(status, _)| *status != 200) {
            assert_eq!(problem["code"], "rotation_conflict");
            assert_eq!(problem["currentKmVersion"], round + 2);
        }
        let (version, key, marks) = state(&ann, 3).await;
        assert_eq!((version, &key), (round + 2, &keys(winners[0])["signingKey"]));
        let expected = (format!("sealed by {}", winners[0]), round + 2);
        assert!(marks.iter().all(|mark| *mark == expected), "round {round}: {marks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_during_a_commit_of_two_hundred_blobs_shows_the_old_state_or_the_new_one() {
    let mut node = TestNode::start().await;
    let ann = node.person("ann").await;
    let collection = collection_of(&ann).await;
    let (status, answer) = ann.ask(Method::POST, COMMIT, commit(1, 1, 200, &collection)).await;
    assert_eq!(status, 200, "{answer}");
    let (mut version, mut number) = (2, 1_u64);
    let (mut kept, mut lost) = (0, 0);
    for round in 0..20_u64 {
        let (client, body) = (ann.client.clone(), commit(version, number + 1, 200, &collection));
        let sent = tokio::spawn(async move { client.request_json(Method::POST, COMMIT, Some(&body)).await });
        tokio::time::sleep(std::time::Duration::from_micros(700 * round)).await;
        node.process.kill().await.unwrap();
        let acknowledged = matches!(sent.await.unwrap(), Ok((200, _)));
        node.process.start().await.unwrap();
        let (now, key, marks) = state(&ann, 200).await;
        if now == version + 1 {
            (version, number, kept) = (version + 1, number + 1, kept + 1);
        } else {
            assert!(!acknowledged, "round {round}: an acknowledged commit is gone");
            lost += 1;
        }
        assert_eq!((now, &key), (version, &keys(number)["signingKey"]), "round {round}");
        let expected = (format!("sealed by {number}"), version);
        assert!(marks.iter().all(|mark| *mark == expected), "round {round}: mixed");
    }
    assert!(kept + lost == 20 && lost > 0, "{kept} kept, {lost} lost: some kills came before the commit");
}

#[tokio::test]
async fn a_commit_is_refused_for_its_keys_its_shape_and_what_a_strict_one_leaves_out() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let collection = collection_of(&ann).await;
    ann.ask(Method::PUT, "/me/blobs/t0", json!({ "encryptedBlob": "old" })).await;
    ann.ask(Method::PUT, "/me/blobs/left", json!({ "encryptedBlob": "old" })).await;
    let good = commit(1, 5, 1, &collection);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let twice = json!([{ "blobType": "t", "encryptedBlob": "" }, { "blobType": "t", "encryptedBlob": "" }]);
    for (body, status, code) in [
        (with("expectedCurrent", Value::Null), 422, "validation_failed"),
        (with("expectedCurrent", json!("1")), 422, "validation_failed"),
        (with("expectedCurrent", json!(0)), 422, "validation_failed"),
        (with("blobs", json!({})), 422, "validation_failed"),
        (with("blobs", json!([{ "blobType": "a b", "encryptedBlob": "" }])), 422, "validation_failed"),
        (with("blobs", twice), 422, "validation_failed"),
        (with("collections", json!([{ "id": collection }])), 422, "validation_failed"),
        (with("slots", json!([{ "credentialId": "x" }])), 422, "validation_failed"),
        (with("signingKey", json!("AAAA")), 400, "invalid_key"),
        (with("encryptionKey", good["signingKey"].clone()), 400, "invalid_key"),
        (with("expectedCurrent", json!(7)), 409, "rotation_conflict"),
        (with("requireComplete", json!(true)), 409, "incomplete_rotation"),
    ] {
        let (was, problem) = ann.ask(Method::POST, COMMIT, body).await;
        assert_eq!((was, problem["code"].as_str()), (status, Some(code)), "{problem}");
        if code == "incomplete_rotation" {
            assert_eq!(problem["missing"], json!({ "blobs": ["left"], "collections": [], "slots": [] }));
        }
    }
    let blob = ann.ask(Method::GET, "/me/blobs/t0", Value::Null).await.1;
    assert_eq!(
        (&blob["encryptedBlob"], &blob["kmVersion"]),
        (&json!("old"), &json!(1)),
        "nothing was written"
    );

    let mut body = good.clone();
    body["collections"].as_array_mut().unwrap().push(json!({ "id": "notmine", "metadataEncrypted": "" }));
    let (status, answer) = ann.ask(Method::POST, COMMIT, body).await;
    assert_eq!((status, answer), (200, json!({ "kmVersion": 2, "ignored": { "collections": ["notmine"] } })));
    let left = ann.ask(Method::GET, "/me/blobs/left", Value::Null).await.1;
    assert_eq!(left["kmVersion"], 1, "what was left out keeps its tag");
}

#[tokio::test]
async fn keys_cannot_be_replaced_past_sealed_data_by_a_device_that_does_not_know_the_version() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    ann.ask(Method::PUT, "/me/blobs/t0", json!({ "encryptedBlob": "old" })).await;
    let (status, problem) = ann.ask(Method::PUT, "/users/me/keys", keys(9)).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("rotation_required")));
    let mut informed = keys(9);
    informed["expectedKmVersion"] = json!(1);
    assert_eq!(
        ann.ask(Method::PUT, "/users/me/keys", informed.clone()).await,
        (200, json!({ "success": true, "kmVersion": 2 }))
    );
    let mut stale = keys(10);
    stale["expectedKmVersion"] = json!(1);
    let (status, problem) = ann.ask(Method::PUT, "/users/me/keys", stale).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("rotation_conflict")));
}
