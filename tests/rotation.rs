//! Rotating the keys: one of many wins, and no crash leaves half of it.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::{Direction, FlushItem, Method, RevocationState};
use vellum_protocol::{Json, MessageType};

use crate::support::{Database, Mood, Peer, Person, Replicas, TestNode, wait_for};

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

/// The collection and the slot that a rotation seals anew, beside the blobs.
struct Sealed {
    collection: String,
    slot: &'static str,
}

impl Sealed {
    /// What a new person has: the first collection, and a passkey that the database is told of.
    async fn of(node: &TestNode, person: &Person) -> Self {
        let slot = "cm90YXRpb24";
        Database::of(node).await.add_passkey(person, slot).await;
        Self { collection: collection_of(person).await, slot }
    }

    /// A commit whose every part says who made it.
    fn commit(&self, expected: i64, number: u64, blobs: usize) -> Value {
        let mark = mark(number);
        let blobs: Vec<Value> =
            (0..blobs).map(|n| json!({ "blobType": format!("t{n}"), "encryptedBlob": mark })).collect();
        let mut body = keys(number);
        body["expectedCurrent"] = json!(expected);
        body["blobs"] = json!(blobs);
        body["collections"] = json!([{ "id": self.collection, "metadataEncrypted": mark }]);
        body["slots"] = json!([{ "credentialId": self.slot, "wrappedKm": mark, "slotSignature": mark }]);
        body
    }
}

fn mark(number: u64) -> String {
    format!("sealed by {number}")
}

async fn read(person: &Person, path: &str) -> Value {
    let (status, body) = person.ask(Method::GET, path, Value::Null).await;
    assert!(status == 200 || status == 204, "{path}: {status} {body}");
    body
}

async fn collection_of(person: &Person) -> String {
    read(person, "/library/collections").await[0]["id"].as_str().unwrap().to_owned()
}

/// What the account shows: the version, the keys, and every different mark on what is sealed, with the
/// version that it carries.
#[derive(Debug, PartialEq, Eq)]
struct State {
    version: i64,
    keys: Value,
    marks: BTreeSet<(String, i64)>,
}

impl State {
    async fn of(person: &Person, blobs: usize) -> Self {
        let identity = read(person, "/users/me/identity").await;
        let blobs = join_all((0..blobs).map(async |n| read(person, &format!("/me/blobs/t{n}")).await)).await;
        let mut marks: BTreeSet<(String, i64)> =
            blobs.iter().map(|blob| Self::mark(blob, "encryptedBlob")).collect();
        for collection in read(person, "/library/collections").await.as_array().unwrap() {
            marks.insert(Self::mark(collection, "metadataEncrypted"));
        }
        let slots = read(person, "/users/me/wrapped-keys").await;
        assert_eq!(slots["slots"].as_array().unwrap().len(), 1);
        for text in ["wrappedKm", "slotSignature"] {
            marks.insert(Self::mark(&slots["slots"][0], text));
        }
        let keys =
            json!({ "signingKey": identity["signingKey"], "encryptionKey": identity["encryptionKey"] });
        Self { version: identity["kmVersion"].as_i64().unwrap(), keys, marks }
    }

    fn mark(row: &Value, text: &str) -> (String, i64) {
        (row[text].as_str().unwrap_or("nothing").to_owned(), row["kmVersion"].as_i64().unwrap_or(0))
    }

    /// Everything by one: what a commit leaves behind.
    fn whole(version: i64, number: u64) -> Self {
        Self { version, keys: keys(number), marks: BTreeSet::from([(mark(number), version)]) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_commits_with_one_expectation_exactly_one_wins_and_everything_is_the_winners() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let sealed = Sealed::of(&node, &ann).await;
    one_of_sixteen_wins(&[ann], &sealed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_with_the_commits_spread_over_three_nodes_on_one_database() {
    let Some(server) = vellum_test_database::shared_server() else { return };
    let replicas = Replicas::start(server, 3, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    let sealed = Sealed::of(&replicas.nodes[0], &ann).await;
    let everywhere: Vec<Person> = (0..3).map(|node| replicas.through(node, &ann)).collect();
    one_of_sixteen_wins(&everywhere, &sealed).await;
}

/// Two hundred rounds of sixteen commits with one expectation, handed to one person's connections in turn.
async fn one_of_sixteen_wins(connections: &[Person], sealed: &Sealed) {
    for round in 0..200_u64 {
        let version = i64::try_from(round).unwrap() + 1;
        let numbers = round * 16..round * 16 + 16;
        let sent = numbers.clone().map(|number| {
            let body = sealed.commit(version, number, 3);
            connections[usize::try_from(number).unwrap() % connections.len()].ask(Method::POST, COMMIT, body)
        });
        let answers = join_all(sent).await;
        let winners: Vec<u64> = numbers
            .zip(&answers)
            .filter(|(_, (status, _))| *status == 200)
            .map(|(number, _)| number)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        for (status, problem) in answers.iter().filter(|(status, _)| *status != 200) {
            assert_eq!((*status, &problem["code"]), (409, &json!("rotation_conflict")));
            assert_eq!(problem["currentKmVersion"], version + 1);
        }
        for seen in connections {
            assert_eq!(State::of(seen, 3).await, State::whole(version + 1, winners[0]), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_during_a_commit_of_two_hundred_blobs_shows_the_old_state_or_the_new_one() {
    let mut node = TestNode::start().await;
    let ann = node.person("ann").await;
    let sealed = Sealed::of(&node, &ann).await;
    let begun = Instant::now();
    let (status, answer) = ann.ask(Method::POST, COMMIT, sealed.commit(1, 1, 200)).await;
    assert_eq!(status, 200, "{answer}");
    // From before the request has arrived to well after the answer: most kills hit the commit itself.
    let step = begun.elapsed() / 25;
    let (mut version, mut number) = (2, 1_u64);
    let (mut kept, mut lost) = (0, 0);
    for round in 0..50_u32 {
        let (client, body) = (ann.client.clone(), sealed.commit(version, number + 1, 200));
        let sent = tokio::spawn(async move { client.request_json(Method::POST, COMMIT, Some(&body)).await });
        tokio::time::sleep(step * round).await;
        node.process.kill().await.unwrap();
        let acknowledged = matches!(sent.await.unwrap(), Ok((200, _)));
        node.process.start().await.unwrap();
        let shown = State::of(&ann, 200).await;
        if shown.version == version + 1 {
            (version, number, kept) = (version + 1, number + 1, kept + 1);
        } else {
            assert!(!acknowledged, "round {round}: an acknowledged commit is gone");
            lost += 1;
        }
        assert_eq!(shown, State::whole(version, number), "round {round}");
    }
    assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost: kills came before the commit and after it");
}

#[tokio::test]
async fn a_commit_is_refused_for_its_keys_its_shape_and_what_a_strict_one_leaves_out() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let sealed = Sealed::of(&node, &ann).await;
    ann.ask(Method::PUT, "/me/blobs/t0", json!({ "encryptedBlob": "old" })).await;
    ann.ask(Method::PUT, "/me/blobs/left", json!({ "encryptedBlob": "old" })).await;
    let good = sealed.commit(1, 5, 1);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let database = Database::of(&node).await;
    let before = database.snapshot().await;
    let twice = json!([{ "blobType": "t", "encryptedBlob": "" }, { "blobType": "t", "encryptedBlob": "" }]);
    for (body, status, code) in [
        (with("expectedCurrent", Value::Null), 422, "validation_failed"),
        (with("expectedCurrent", json!("1")), 422, "validation_failed"),
        (with("expectedCurrent", json!(0)), 422, "validation_failed"),
        (with("blobs", json!({})), 422, "validation_failed"),
        (with("blobs", json!([{ "blobType": "a b", "encryptedBlob": "" }])), 422, "validation_failed"),
        (with("blobs", twice), 422, "validation_failed"),
        (with("collections", json!([{ "id": sealed.collection }])), 422, "validation_failed"),
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
    assert_eq!(before.difference(&database.snapshot().await), Vec::<String>::new(), "nothing was written");

    let mut body = good.clone();
    body["collections"].as_array_mut().unwrap().push(json!({ "id": "notmine", "metadataEncrypted": "" }));
    let (status, answer) = ann.ask(Method::POST, COMMIT, body).await;
    assert_eq!((status, answer), (200, json!({ "kmVersion": 2, "ignored": { "collections": ["notmine"] } })));
    let left = ann.ask(Method::GET, "/me/blobs/left", Value::Null).await.1;
    assert_eq!(left["kmVersion"], 1, "what was left out keeps its tag");
}

/// Something that is sealed under somebody's keys, put there by them.
async fn seal(node: &TestNode, person: &Person, what: &str) {
    let (method, path, body) = match what {
        "a blob" => (Method::PUT, "/me/blobs/t0".to_owned(), json!({ "encryptedBlob": "old" })),
        "a slot" => {
            Database::of(node).await.add_passkey(person, "cm90YXRpb24").await;
            let slot = json!({ "credentialId": "cm90YXRpb24", "wrappedKm": "old", "slotSignature": "old" });
            (Method::POST, "/users/me/wrapped-keys".to_owned(), slot)
        }
        "a collection" => {
            let path = format!("/library/collections/{}", collection_of(person).await);
            (Method::PUT, path, json!({ "metadataEncrypted": "old" }))
        }
        _ => unreachable!("{what}"),
    };
    let (status, answer) = person.ask(method, &path, body).await;
    assert!(status < 300, "{what}: {status} {answer}");
}

/// Whoever does not know the version cannot replace the keys once nothing but this is sealed.
async fn keys_are_bound_by(what: &str) {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let put_keys = async |number: u64, expected: Option<i64>| {
        let mut body = keys(number);
        if let Some(expected) = expected {
            body["expectedKmVersion"] = json!(expected);
        }
        let (status, answer) = ann.ask(Method::PUT, "/users/me/keys", body).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned(), answer["kmVersion"].as_i64())
    };
    let replaced = put_keys(8, None).await;
    assert_eq!(replaced, (200, String::new(), Some(1)), "keys are free while nothing is sealed");
    seal(&node, &ann, what).await;
    let blind = put_keys(9, None).await;
    assert_eq!((blind.0, blind.1.as_str()), (409, "rotation_required"), "{what} is sealed under the keys");
    let kept = read(&ann, "/users/me/identity").await;
    assert_eq!(kept["signingKey"], keys(8)["signingKey"], "the keys that {what} is sealed under stay");
    let informed = put_keys(9, Some(1)).await;
    assert_eq!(informed, (200, String::new(), Some(2)), "{what}, and the version is known");
    let stale = put_keys(10, Some(1)).await;
    assert_eq!((stale.0, stale.1.as_str()), (409, "rotation_conflict"), "{what}, and the version is old");
}

#[tokio::test]
async fn keys_cannot_be_replaced_past_a_blob_by_a_device_that_does_not_know_the_version() {
    keys_are_bound_by("a blob").await;
}

#[tokio::test]
async fn keys_cannot_be_replaced_past_a_slot_by_a_device_that_does_not_know_the_version() {
    keys_are_bound_by("a slot").await;
}

#[tokio::test]
async fn keys_cannot_be_replaced_past_a_collections_metadata_by_a_device_that_does_not_know_the_version() {
    keys_are_bound_by("a collection").await;
}

/// A node that gives up waiting for outcomes soon, and a peer that takes nothing.
async fn with_a_peer_that_is_out_of_order() -> (TestNode, Person, Peer) {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    (node, ann, peer)
}

#[tokio::test]
async fn a_rotation_withdraws_revocations_that_were_signed_with_the_old_key() {
    let (node, mut ann, peer) = with_a_peer_that_is_out_of_order().await;
    let bob = peer.friend_of(&ann, "bob").await;
    peer.set_mood(Mood::Answers(503, String::new()));
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let queued = ann.pending().await;
    assert_eq!(queued.len(), 1, "one is to be delivered: {queued:?}");
    assert_ne!(queued[0].state, RevocationState::AwaitingSignature, "it is signed: {queued:?}");

    ann.rotate(1).await;
    let withdrawn = ann.pending().await;
    assert_eq!(
        withdrawn.iter().map(|row| row.state).collect::<Vec<_>>(),
        [RevocationState::AwaitingSignature],
        "what the old key signed verifies nowhere any more: {withdrawn:?}"
    );
    let attempts = peer.received_of(MessageType::RelationshipRevoke).len();
    peer.set_mood(Mood::Well);
    node.process.run(&["queue", "retry"]).await.unwrap();
    let signed = ann.revocation(&bob.handle);
    let items = [FlushItem { peer_handle: bob.handle.clone(), signed: signed.clone() }];
    ann.client.flush_revocations(&items).await.unwrap();
    wait_for("the new signature is delivered", || ann.pending(), |pending| pending.is_empty()).await;
    for late in &peer.received_of(MessageType::RelationshipRevoke)[attempts..] {
        let nonce = late.get("nonce").and_then(Json::as_str);
        assert_eq!(nonce, Some(signed.nonce.as_str()), "sent after the rotation: {}", late.canonical());
    }
}

#[tokio::test]
async fn a_rotation_undoes_an_invitation_that_never_arrived_so_that_it_can_be_made_again() {
    let (_node, mut ann, peer) = with_a_peer_that_is_out_of_order().await;
    let bob = peer.user("bob");
    peer.set_mood(Mood::Answers(503, String::new()));
    ann.invite(&bob.handle).await;
    ann.rotate(1).await;
    let left = ann.client.invitations(Direction::Outgoing).await.unwrap();
    assert!(left.is_empty(), "the old key signed it, and bob never had it: {left:?}");
    peer.set_mood(Mood::Well);
    ann.invite(&bob.handle).await;
    let again = ann.client.invitations(Direction::Outgoing).await.unwrap();
    assert_eq!(again.len(), 1, "made again: {again:?}");
}
