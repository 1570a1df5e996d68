//! No attacker is needed: somebody has two devices, and one of them was asleep while the other
//! changed the keys. What it still holds is sealed under the old keys, which nobody will have any
//! more. If that overwrote what the other device has sealed anew, and were said to be sealed under
//! the new keys, the data would be lost. What stops it: the node counts generations of keys, and
//! every session knows the newest that it was shown; one that was shown an older one writes nothing
//! that is sealed until it has read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, COOKIE, ORIGIN};
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method;

use crate::support::{Database, Person, Replicas, TestNode, plain_http};

const IDENTITY: &str = "/users/me/identity";
const VERSION: &str = "/users/me/km-version";
const COMMIT: &str = "/users/me/km-version/commit";
const COLLECTIONS: &str = "/library/collections";
const SLOTS: &str = "/users/me/wrapped-keys";
const CREDENTIAL: &str = "c3RhbGUtZGV2aWNl";

fn keys(number: u64) -> Value {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let seed = MasterSeed::from_bytes(bytes);
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

fn keys_with(number: u64, name: &str, value: Value) -> Value {
    let mut body = keys(number);
    body[name] = value;
    body
}

/// Another device of somebody: it signs in by itself.
async fn another_device(node: &TestNode, person: &Person) -> Person {
    let email = format!("{}@people.example", person.handle().alias().as_str());
    let mut client = node.client();
    client.set_token(Some(node.token(&email).await));
    person.seen_through(client)
}

async fn code(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = person.ask(method, path, body).await;
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

async fn ok(person: &Person, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = person.ask(method.clone(), path, body).await;
    assert!((200..300).contains(&status), "{method} {path} was to be done: {status} {answer}");
    answer
}

async fn put_blob(person: &Person, text: &str) -> (u16, String) {
    code(person, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": text, "kmVersion": 1 })).await
}

/// One node, somebody with two devices, and one of everything that is sealed.
struct Scene {
    node: TestNode,
    a: Person,
    b: Person,
    collection: String,
    database: Database,
}

impl Scene {
    async fn new() -> Self {
        let node = TestNode::start().await;
        let a = node.person("ann").await;
        let b = another_device(&node, &a).await;
        let database = Database::of(&node).await;
        database.add_passkey(&a, CREDENTIAL).await;
        let mut scene = Self { node, a, b, collection: String::new(), database };
        scene.seal("bm90ZXM=").await;
        scene
    }

    /// Puts one of everything there by the first device.
    async fn seal(&mut self, text: &str) {
        let made = ok(&self.a, Method::POST, COLLECTIONS, json!({ "metadataEncrypted": text })).await;
        self.collection = made["id"].as_str().unwrap().to_owned();
        ok(&self.a, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": text })).await;
        ok(&self.a, Method::POST, SLOTS, slot(text)).await;
    }

    /// The first device rotates from version 1, with everything sealed anew.
    async fn rotate(&self) {
        let mut body = keys_with(2, "expectedCurrent", json!(1));
        body["blobs"] = json!([{ "blobType": "notes", "encryptedBlob": "YW5ldw==" }]);
        body["collections"] = json!([{ "id": self.collection, "metadataEncrypted": "YW5ldw==" }]);
        body["slots"] = json!([slot("YW5ldw==")]);
        assert_eq!(ok(&self.a, Method::POST, COMMIT, body).await["kmVersion"], 2);
    }

    async fn reset(&self) {
        ok(&self.a, Method::POST, "/users/me/identity/reset", json!({ "confirm": "erase-all-my-data" }))
            .await;
    }

    fn collection(&self) -> String {
        format!("{COLLECTIONS}/{}", self.collection)
    }

    /// Every write of what is sealed.
    fn writes(&self, text: &str) -> Vec<(Method, String, Value)> {
        vec![
            (Method::PUT, "/me/blobs/notes".into(), json!({ "encryptedBlob": text, "kmVersion": 1 })),
            (Method::PUT, "/me/blobs/more".into(), json!({ "encryptedBlob": text })),
            (Method::POST, COLLECTIONS.into(), json!({ "metadataEncrypted": "" })),
            (Method::PUT, self.collection(), json!({ "metadataEncrypted": text })),
            (Method::PUT, self.collection(), json!({ "metadataKeyVersion": 2 })),
            (Method::POST, SLOTS.into(), slot(text)),
            (Method::DELETE, "/me/blobs/notes".into(), Value::Null),
            (Method::DELETE, self.collection(), Value::Null),
            (Method::DELETE, format!("{SLOTS}/{CREDENTIAL}"), Value::Null),
        ]
    }

    /// Every write of the second device is refused, and nothing changes.
    async fn second_device_writes_nothing(&self, version: i64) {
        let before = self.database.snapshot().await;
        for (method, path, body) in self.writes("b2xk") {
            let (status, problem) = self.b.ask(method.clone(), &path, body).await;
            let seen = (status, &problem["code"], &problem["currentKmVersion"]);
            assert_eq!(
                seen,
                (409, &json!("stale_km_version"), &json!(version)),
                "{method} {path}: {problem}"
            );
        }
        assert_eq!(before.difference(&self.database.snapshot().await), Vec::<String>::new());
    }

    /// A request with the second device's session, as a browser sends it.
    async fn by_cookie(&self, method: Method, path: &str, header: Option<(&str, &str)>) -> u16 {
        let cookie = format!("auth_session={}", self.b.client.token().unwrap().expose());
        let request = plain_http().request(method, format!("{}{path}", self.node.process.origin()));
        let request = request.header(COOKIE, cookie);
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    }

    async fn is_stale(&self, why: &str) {
        assert_eq!(put_blob(&self.b, "b2xk").await, (409, "stale_km_version".into()), "{why}");
    }

    async fn is_current(&self, why: &str) {
        assert_eq!(put_blob(&self.b, "bmV3").await, (200, String::new()), "{why}");
    }
}

fn slot(text: &str) -> Value {
    json!({ "credentialId": CREDENTIAL, "wrappedKm": text, "slotSignature": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_missed_a_rotation_overwrites_nothing_until_it_has_read_again() {
    let scene = Scene::new().await;
    scene.is_current("nothing has happened yet").await;
    scene.rotate().await;
    scene.second_device_writes_nothing(2).await;
    let public = json!({ "isPublic": true });
    assert_eq!(ok(&scene.b, Method::PUT, &scene.collection(), public).await["metadataEncrypted"], "YW5ldw==");

    assert_eq!(ok(&scene.b, Method::GET, IDENTITY, Value::Null).await["kmVersion"], 2);
    for (method, path, body) in scene.writes("bmV3").into_iter().take(6) {
        ok(&scene.b, method, &path, body).await;
    }
    let blobs = ok(&scene.a, Method::GET, "/me/blobs", Value::Null).await;
    let versions: Vec<&Value> =
        blobs["blobs"].as_array().unwrap().iter().map(|blob| &blob["kmVersion"]).collect();
    assert_eq!(versions, [&json!(2), &json!(2)], "both are tagged with the version that was shown: {blobs}");
    let collection = ok(&scene.a, Method::GET, &scene.collection(), Value::Null).await;
    assert_eq!((&collection["metadataEncrypted"], &collection["kmVersion"]), (&json!("bmV3"), &json!(2)));
    let slots = ok(&scene.a, Method::GET, SLOTS, Value::Null).await;
    assert_eq!(slots["slots"][0]["kmVersion"], 2);
    for (method, path, body) in scene.writes("").into_iter().skip(6) {
        ok(&scene.b, method, &path, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_anew_for_a_friend_is_not_replaced_either() {
    let scene = Scene::new().await;
    let ben = scene.node.person("ben").await;
    scene.a.befriend(&ben).await;
    let share = |data: &str| {
        json!({ "recipientHandle": ben.handle(), "resourceType": "collection", "resourceId": "r1",
                "encryptedData": data, "nonce": "bm9uY2U=" })
    };
    let seen_by_ben = async || {
        let incoming = ok(&ben, Method::GET, "/sharing/incoming", Value::Null).await;
        incoming["shares"][0]["encryptedData"].clone()
    };
    ok(&scene.b, Method::POST, "/sharing", share("b2xk")).await;
    scene.rotate().await;
    ok(&scene.a, Method::PUT, "/sharing/envelope", share("YW5ldw==")).await;
    for (method, path) in [(Method::POST, "/sharing"), (Method::PUT, "/sharing/envelope")] {
        let refused = code(&scene.b, method.clone(), path, share("b2xk")).await;
        assert_eq!(refused, (409, "stale_km_version".into()), "{method} {path}");
    }
    assert_eq!(seen_by_ben().await, "YW5ldw==");
    ok(&scene.b, Method::GET, IDENTITY, Value::Null).await;
    ok(&scene.b, Method::PUT, "/sharing/envelope", share("bmV3")).await;
    assert_eq!(seen_by_ben().await, "bmV3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_missed_a_reset_is_stopped_although_versions_begin_at_1_again() {
    let mut scene = Scene::new().await;
    scene.reset().await;
    scene.second_device_writes_nothing(1).await;
    ok(&scene.a, Method::PUT, "/users/me/keys", keys(3)).await;
    scene.seal("YW5ldw==").await;
    scene.second_device_writes_nothing(1).await;

    let before = scene.database.snapshot().await;
    let mut rotation = keys_with(4, "expectedCurrent", json!(1));
    rotation["blobs"] = json!([{ "blobType": "notes", "encryptedBlob": "b2xk" }]);
    let registration = keys_with(4, "expectedKmVersion", json!(1));
    for (method, path, body) in
        [(Method::POST, COMMIT, rotation.clone()), (Method::PUT, "/users/me/keys", registration)]
    {
        let (status, problem) = scene.b.ask(method, path, body).await;
        let seen = (status, &problem["code"], &problem["currentKmVersion"]);
        assert_eq!(seen, (409, &json!("rotation_conflict"), &json!(1)), "{path}: {problem}");
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());

    ok(&scene.b, Method::GET, VERSION, Value::Null).await;
    assert_eq!(ok(&scene.b, Method::POST, COMMIT, rotation).await["kmVersion"], 2, "now it knows");
    scene.is_current("its own rotation counts").await;
    let missed = code(&scene.a, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": "b2xk" })).await;
    assert_eq!(missed, (409, "stale_km_version".into()), "and now the first one has missed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_polls_what_a_foreign_page_asks_and_head_show_nothing() {
    let scene = Scene::new().await;
    scene.rotate().await;
    let polled = ok(&scene.b, Method::GET, "/auth/sessions/current", Value::Null).await;
    assert_eq!(polled["user"]["kmVersion"], 2);
    ok(&scene.b, Method::GET, "/me/blobs", Value::Null).await;
    scene.is_stale("clients poll the present session, and do not look at the version there").await;
    for path in [IDENTITY, VERSION] {
        let bearer = format!("Bearer {}", scene.b.client.token().unwrap().expose());
        let url = format!("{}{path}", scene.node.process.origin());
        let head = plain_http().head(url).header(AUTHORIZATION, bearer).send().await.unwrap();
        assert_eq!(head.status(), 200);
        scene.is_stale(&format!("HEAD {path} shows nothing")).await;
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            (ORIGIN.as_str(), "https://evil.example"),
            (ORIGIN.as_str(), "null"),
        ] {
            scene.by_cookie(Method::GET, path, Some((name, value))).await;
            scene.is_stale(&format!("GET {path} with {name}: {value} is not the client's own")).await;
        }
    }
    let own = Some(("sec-fetch-site", "same-origin"));
    assert_eq!(scene.by_cookie(Method::GET, IDENTITY, own).await, 200);
    scene.is_current("a page of the node has read it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_knows_the_keys_that_it_has_set_itself() {
    let scene = Scene::new().await;
    for round in 0..3 {
        scene.reset().await;
        ok(&scene.a, Method::PUT, "/users/me/keys", keys(10 * round)).await;
        ok(&scene.a, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": "YQ==" })).await;
        for version in 1..3 {
            let body = keys_with(10 * round + version, "expectedCurrent", json!(version));
            ok(&scene.a, Method::POST, COMMIT, body).await;
            ok(&scene.a, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": "YQ==", "kmVersion": 1 }))
                .await;
            let read = ok(&scene.a, Method::GET, "/me/blobs/notes", Value::Null).await;
            assert_eq!(read["kmVersion"], version + 1, "whatever old clients send");
        }
        let update = keys_with(10 * round + 5, "expectedKmVersion", json!(3));
        assert_eq!(ok(&scene.a, Method::PUT, "/users/me/keys", update).await["kmVersion"], 4);
        ok(&scene.a, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": "YQ==" })).await;
    }
    scene.is_stale("it has missed all of that").await;
    let wrong = keys_with(99, "expectedKmVersion", json!(4));
    assert_eq!(code(&scene.b, Method::PUT, "/users/me/keys", wrong).await, (409, "rotation_conflict".into()));
    assert_eq!(
        code(&scene.b, Method::PUT, "/users/me/keys", keys(99)).await,
        (409, "rotation_required".into())
    );
    scene.is_stale("a refused change shows nothing").await;
    ok(&scene.b, Method::PUT, "/users/me/keys", keys(25)).await;
    scene.is_current("whoever registers the present keys again has them").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_keys_of_another_device_have_to_be_read_and_signing_in_shows_them() {
    let node = TestNode::start().await;
    let mut ann = node.user("ann").await;
    let mut client = node.client();
    client.set_token(Some(node.token("ann@people.example").await));
    let before = Person::new(client);
    ok(&before, Method::PUT, "/me/blobs/notes", json!({ "encryptedBlob": "YQ==" })).await;
    ok(&before, Method::DELETE, "/me/blobs/notes", Value::Null).await;
    ann.set_up("ann").await;
    assert_eq!(put_blob(&before, "YQ==").await, (409, "stale_km_version".into()), "there were no keys then");
    let after = another_device(&node, &ann).await;
    assert_eq!(put_blob(&after, "YQ==").await.0, 200, "it has signed in since");
    ok(&before, Method::GET, IDENTITY, Value::Null).await;
    assert_eq!(put_blob(&before, "YQ==").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_old_keys_have_sealed_is_ever_tagged_as_of_the_new_ones() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut devices = Vec::new();
    for _ in 0..4 {
        devices.push(another_device(&node, &ann).await);
    }
    tags_are_true(ann, devices).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_with_the_devices_spread_over_three_nodes_on_one_database() {
    let Some(server) = vellum_test_database::shared_server() else { return };
    let replicas = Replicas::start(server, 3, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    let mut devices = Vec::new();
    for n in 0..4 {
        devices.push(replicas.through(n % 3, &another_device(&replicas.nodes[0], &ann).await));
    }
    tags_are_true(ann, devices).await;
}

/// What a blob says of itself, in the place of ciphertext: the keys that it is sealed under.
fn sealed_under(identity: &Value) -> String {
    format!("sealed under {} {}", identity["signingKey"].as_str().unwrap_or("nothing"), identity["kmVersion"])
}

/// One device changes the keys again and again, by rotations and resets, while the others read
/// which keys there are and write what they seal under those. What says that it is of the present
/// version always is of the present keys.
async fn tags_are_true(changing: Person, writing: Vec<Person>) {
    let done = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let refused = Arc::new(AtomicU64::new(0));
    let writers = writing.into_iter().enumerate().map(|(n, device)| {
        let (done, written, refused) = (Arc::clone(&done), Arc::clone(&written), Arc::clone(&refused));
        tokio::spawn(async move {
            let path = format!("/me/blobs/of-{n}");
            while !done.load(Ordering::SeqCst) {
                let identity = ok(&device, Method::GET, IDENTITY, Value::Null).await;
                if identity["signingKey"].is_null() {
                    // Nothing can be sealed between a reset and the new keys.
                    continue;
                }
                // Again and again from what was read once: the keys change in between.
                for _ in 0..4 {
                    let body = json!({ "encryptedBlob": sealed_under(&identity), "kmVersion": 1 });
                    match code(&device, Method::PUT, &path, body).await {
                        (200, _) => written.fetch_add(1, Ordering::SeqCst),
                        (409, code) if code == "stale_km_version" => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("a write is done or stale, not {other:?}"),
                    };
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut version = 1;
    for round in 0..40 {
        if round % 8 == 7 {
            let confirm = json!({ "confirm": "erase-all-my-data" });
            ok(&changing, Method::POST, "/users/me/identity/reset", confirm).await;
            ok(&changing, Method::PUT, "/users/me/keys", keys(1000 + round)).await;
            version = 1;
        } else {
            let body = keys_with(1000 + round, "expectedCurrent", json!(version));
            version = ok(&changing, Method::POST, COMMIT, body).await["kmVersion"].as_i64().unwrap();
        }
        let identity = ok(&changing, Method::GET, IDENTITY, Value::Null).await;
        assert_eq!(identity["kmVersion"], version, "only this device changes the keys");
        let seen = (written.load(Ordering::SeqCst), tokio::time::Instant::now());
        // Let the writers write under these keys before the next ones come.
        while written.load(Ordering::SeqCst) < seen.0 + 3 && seen.1.elapsed().as_secs() < 20 {
            tokio::task::yield_now().await;
        }
        for blob in join_all((0..4).map(|n| read_blob(&changing, n))).await.into_iter().flatten() {
            if blob["kmVersion"] == version {
                assert_eq!(blob["encryptedBlob"], sealed_under(&identity), "round {round}: {blob}");
            }
        }
    }
    done.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let (written, refused) = (written.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    assert!(written > 40 && refused > 0, "{written} writes were done and {refused} refused as stale");
}

async fn read_blob(person: &Person, n: usize) -> Option<Value> {
    let (status, blob) = person.ask(Method::GET, &format!("/me/blobs/of-{n}"), Value::Null).await;
    (status == 200).then_some(blob)
}
