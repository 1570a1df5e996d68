//! The attacker is a node, or has an account, and sends texts that are no texts: U+0000, which one
//! database keeps and the other does not; escape codes for terminals; characters that turn the
//! direction of what is read; names and addresses of 62 kilobytes. He would break the move to
//! another database for good, or show people something else than is there. What stops him: control
//! characters are refused in identifiers and data and removed from names and words of peers, and
//! every text has a length, on either database alike.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::Method;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::{Json, JsonObject, MessageType};
use vellum_test_database::{Engine, engine, shared_server};

use crate::support::{Database, Mood, Peer, PeerUser, Person, TestNode, now, plain_http, wait_for};

/// One of each kind: what PostgreSQL does not keep, what terminals obey, of C0 and C1.
const HOSTILE: [&str; 4] = ["\0", "\u{1b}[2J", "\u{7f}", "\u{85}"];

/// The friend of somebody, as that person is shown it.
async fn shown_friend(ann: &Person, bob: &PeerUser) -> Value {
    let (status, answer) = ann.ask(Method::GET, "/friends", Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    let friends = answer["friends"].as_array().unwrap();
    friends.iter().find(|friend| friend["friendHandle"] == json!(bob.handle)).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_pictures_of_peers_are_short_and_clean_or_left_out() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let https = |length: usize| format!("https://p.example/{}", "a".repeat(length - 18));
    let cases = [
        (json!({ "name": "Bob B.", "picture": https(2000) }), json!("Bob B."), json!(https(2000))),
        (json!({ "name": "n".repeat(200), "picture": https(2001) }), json!("n".repeat(200)), Value::Null),
        (json!({ "name": "é".repeat(200), "picture": "" }), json!("é".repeat(200)), Value::Null),
        (json!({ "name": "n".repeat(201), "picture": "http://p.example/a" }), Value::Null, Value::Null),
        (json!({ "name": "n".repeat(30_000), "picture": https(30_000) }), Value::Null, Value::Null),
        (
            json!({ "name": "B\0o\u{1b}b\u{202e}", "picture": "javascript:alert(1)" }),
            json!("Bob"),
            Value::Null,
        ),
        (json!({ "name": "Bob\nB.", "picture": "data:image/png;base64,AAAA" }), json!("Bob B."), Value::Null),
        (json!({ "name": "\0\u{1}", "picture": "https://p.example/\0" }), Value::Null, Value::Null),
        (json!({ "name": 7, "picture": ["https://p.example/"] }), Value::Null, Value::Null),
    ];
    for (number, (document, name, picture)) in cases.into_iter().enumerate() {
        let alias = format!("bob{number}");
        let bob = peer.user(&alias);
        peer.show(&alias, document.clone());
        peer.invite(&bob, &ann.handle()).await;
        ann.accept(&bob.handle).await;
        let friend = shown_friend(&ann, &bob).await;
        let what: String = document.to_string().chars().take(80).collect();
        assert_eq!((&friend["friendName"], &friend["friendPicture"]), (&name, &picture), "{what}");
        let resolve = format!("/friends/resolve/{}", bob.handle);
        let (status, found) = ann.ask(Method::GET, &resolve, Value::Null).await;
        assert_eq!(status, 200, "{what}: {found}");
        assert_eq!((&found["name"], &found["picture"]), (&name, &picture), "{what}");
    }
}

fn share_of(bob: &PeerUser, ann: &Person, members: &[(&str, String)]) -> vellum_protocol::Envelope {
    let mut payload = JsonObject::new();
    for (name, value) in
        [("resourceType", "map"), ("resourceId", "m1"), ("encryptedData", "AgEA"), ("nonce", "AAAA")]
    {
        payload.insert(name, Json::from(value));
    }
    for (name, value) in members {
        payload.insert(name, Json::from(value.as_str()));
    }
    bob.signer.envelope(MessageType::ResourceShare, &ann.handle(), payload, now(), &mut rand::rng())
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_peers_with_control_characters_are_refused_and_base64_is_kept_in_its_canonical_form() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.friend_of(&ann, "bob").await;
    let database = Database::of(&node).await;
    let before = database.snapshot().await;
    for hostile in HOSTILE {
        for name in ["resourceType", "resourceId", "encryptedData", "nonce"] {
            let envelope = share_of(&bob, &ann, &[(name, format!("m{hostile}1"))]);
            let (status, answer) = peer.send(&envelope).await;
            assert_eq!(status, 400, "{name} with {hostile:?}: {answer}");
        }
    }
    let (status, answer) = peer.send(&share_of(&bob, &ann, &[("nonce", "A".repeat(40_000))])).await;
    assert_eq!(status, 400, "a nonce of 40 kB: {answer}");
    let kept = before.difference(&database.snapshot().await);
    let kept: Vec<&String> = kept.iter().filter(|change| change.contains("shares")).collect();
    assert!(kept.is_empty(), "nothing is kept: {kept:?}");

    let spaced = [("encryptedData", "AgEA\r\nAgEA\t AgE".to_owned()), ("nonce", " AAAA\n".to_owned())];
    let (status, answer) = peer.send(&share_of(&bob, &ann, &spaced)).await;
    assert_eq!(status, 202, "base64 may have white space: {answer}");
    let (_, answer) = ann.ask(Method::GET, "/sharing/incoming", Value::Null).await;
    let share = &answer["shares"][0];
    assert_eq!((&share["encryptedData"], &share["nonce"]), (&json!("AgEAAgEAAgE="), &json!("AAAA")));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_peers_are_short_and_clean() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.friend_of(&ann, "bob").await;
    let words = format!("No\0t \u{1b}no\u{202e}w{}", "x".repeat(20_000));
    peer.set_mood(Mood::Answers(400, json!({ "message": words }).to_string()));
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let pending =
        wait_for("the refusal is told", || ann.pending(), |pending| pending[0].last_error.is_some()).await;
    let told = pending[0].last_error.clone().unwrap();
    assert!(told.contains("Not nowxxx"), "{told:?}");
    assert!(told.chars().count() < 400, "{} characters", told.chars().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_client_in_the_list_of_sessions_is_short_and_clean() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let known = node.process.letters().len();
    node.client().request_code("ann@people.example").await.unwrap();
    let code = node.process.newest_code(known).await.unwrap();
    let body = json!({ "method": "otp", "email": "ann@people.example", "token": code });
    let request = plain_http().post(format!("{}/auth/sessions", node.process.origin())).json(&body);
    let agent = format!("Browser\t{}", "x".repeat(6_000));
    assert_eq!(request.header("user-agent", agent).send().await.unwrap().status(), 201);
    let (_, sessions) = ann.ask(Method::GET, "/auth/sessions", Value::Null).await;
    let shown: Vec<&str> =
        sessions.as_array().unwrap().iter().filter_map(|one| one["userAgent"].as_str()).collect();
    let shown = shown.iter().find(|name| name.starts_with("Browser ")).expect("it is listed");
    assert!(shown.chars().count() <= 500, "{} characters", shown.chars().count());
}

/// Requests of a signed-in client with a hostile text in one of its fields, and how the answer
/// names that.
fn requests(ben: &Person, text: &str) -> Vec<(Method, &'static str, Value, &'static str)> {
    let keys = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let share = |name: &str| {
        let mut body = json!({
            "recipientHandle": ben.handle(), "resourceType": "map", "resourceId": "m", "encryptedData": "AgE=",
            "nonce": "AAAA",
        });
        body[name] = json!(text);
        body
    };
    let slot = |name: &str| {
        let mut body = json!({ "credentialId": "c", "wrappedKm": "AgE=", "slotSignature": "AAAA" });
        body[name] = json!(text);
        body
    };
    let commit = |name: &str, value: Value| {
        let mut body = json!({ "expectedCurrent": 1, "signingKey": keys, "encryptionKey": keys });
        body[name] = value;
        body
    };
    let item = json!({ "peerHandle": text, "signature": "AAAA", "nonce": "AAAA", "timestamp": "t" });
    let (get, post, put, patch) = (Method::GET, Method::POST, Method::PUT, Method::PATCH);
    vec![
        (post.clone(), "/sharing", share("resourceId"), "resourceId"),
        (post.clone(), "/sharing", share("resourceType"), "resourceType"),
        (post.clone(), "/sharing", share("encryptedData"), "encryptedData"),
        (post.clone(), "/sharing", share("nonce"), "nonce"),
        (post.clone(), "/sharing", share("recipientHandle"), "recipientHandle"),
        (post.clone(), "/sharing", share("federationNonce"), "federationNonce"),
        (post.clone(), "/friends/invite", json!({ "handle": text }), "handle"),
        (put.clone(), "/me/blobs/t", json!({ "encryptedBlob": text }), "encryptedBlob"),
        (put.clone(), "/me/blobs/t", json!({ "encryptedBlob": "AgE=", "nonce": text }), "nonce"),
        (post.clone(), "/library/collections", json!({ "metadataEncrypted": text }), "metadataEncrypted"),
        (post.clone(), "/users/me/wrapped-keys", slot("credentialId"), "credentialId"),
        (post.clone(), "/users/me/wrapped-keys", slot("wrappedKm"), "wrappedKm"),
        (post.clone(), "/users/me/wrapped-keys", slot("slotSignature"), "slotSignature"),
        (post.clone(), "/users/me/wrapped-keys", slot("wrapAlgo"), "wrapAlgo"),
        (post.clone(), "/device-transfer", json!({ "receiverEphemeralPub": text }), "receiverEphemeralPub"),
        (patch.clone(), "/users/me/profile", json!({ "firstName": text }), "firstName"),
        (patch, "/users/me/alias", json!({ "alias": text }), "alias"),
        (put, "/users/me/preferences", json!({ "language": text }), "language"),
        (
            post.clone(),
            "/users/me/km-version/commit",
            commit("blobs", json!([{ "blobType": "t", "encryptedBlob": text }])),
            "blobs[0].encryptedBlob",
        ),
        (post.clone(), "/users/me/km-version/commit", commit("dropSlots", json!([text])), "dropSlots"),
        (post.clone(), "/users/me/revocations/flush", json!({ "items": [item] }), "items[0].peerHandle"),
        (
            post.clone(),
            "/users",
            json!({ "email": "x@people.example", "firstName": text, "lastName": "x" }),
            "firstName",
        ),
        (post.clone(), "/users", json!({ "email": text, "firstName": "x", "lastName": "x" }), "email"),
        (post, "/auth/verify", json!({ "email": format!("a{text}@people.example") }), "email"),
        (get, "/users?q=", json!(text), "q"),
    ]
}

/// All bytes of a text as a path or a query has them.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn administrator(node: &TestNode) -> Person {
    let email = "root@people.example";
    let create =
        ["user", "create", "--email", email, "--first-name", "R", "--last-name", "T", "--role", "admin"];
    node.process.run(&create).await.unwrap();
    let mut client = node.client();
    client.set_token(Some(node.token(email).await));
    Person::new(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_clients_with_control_characters_are_refused_by_name_and_change_nothing() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let root = administrator(&node).await;
    ann.befriend(&ben).await;
    let database = Database::of(&node).await;
    let before = database.snapshot().await;
    for hostile in HOSTILE.into_iter().chain(["\n", "\t"]) {
        // No base64, even without white space.
        let text = format!("a_{hostile}b");
        for (method, path, body, field) in requests(&ben, &text) {
            // The one path here that needs an administrator.
            let asking = if path.starts_with("/users?") || path == "/users" { &root } else { &ann };
            let (path, body) = match method {
                Method::GET => (format!("{path}{}", encoded(&text)), Value::Null),
                _ => (path.to_owned(), body),
            };
            let (status, answer) = asking.ask(method.clone(), &path, body).await;
            let named = answer["errors"].as_array().into_iter().flatten();
            let named: Vec<&str> = named.filter_map(|error| error["field"].as_str()).collect();
            assert_eq!(status, 422, "{method} {path} with {hostile:?} in {field}: {answer}");
            assert!(named.contains(&field), "{method} {path}: {field} is not among {named:?}");
        }
        for (method, path) in [
            (Method::DELETE, "/users/me/wrapped-keys/"),
            (Method::DELETE, "/library/collections/"),
            (Method::POST, "/friends/invitations/"),
            (Method::DELETE, "/auth/sessions/"),
            (Method::GET, "/sharing/outgoing/map/"),
            (Method::GET, "/.well-known/user/"),
        ] {
            let tail = if path.ends_with("invitations/") { "/accept" } else { "" };
            let (status, answer) =
                ann.ask(method.clone(), &format!("{path}{}{tail}", encoded(&text)), Value::Null).await;
            assert_eq!((status, &answer["code"]), (404, &json!("not_found")), "{path} {hostile:?}: {answer}");
        }
    }
    let changes = before.difference(&database.snapshot().await);
    assert_eq!(changes, Vec::<String>::new(), "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_of_clients_is_kept_without_white_space_and_what_is_signed_goes_out_as_it_was() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let ann = node.person("ann").await;
    let bob = peer.friend_of(&ann, "bob").await;
    let (spaced, plain) = ("AgEA\r\nAg EA\tAgE", json!("AgEAAgEAAgE="));
    let ok = async |method, path: &str, body| {
        let (status, answer) = ann.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    };
    ok(Method::PUT, "/me/blobs/t", json!({ "encryptedBlob": spaced, "nonce": spaced })).await;
    let blob = ok(Method::GET, "/me/blobs/t", Value::Null).await;
    assert_eq!((&blob["encryptedBlob"], &blob["nonce"]), (&plain, &plain));
    let made = ok(Method::POST, "/library/collections", json!({ "metadataEncrypted": spaced })).await;
    assert_eq!(made["metadataEncrypted"], plain);
    let made = ok(Method::POST, "/library/collections", json!({ "metadataEncrypted": "" })).await;
    assert_eq!(made["metadataEncrypted"], "", "it may be the empty text");
    let database = Database::of(&node).await;
    database.add_passkey(&ann, "YW5ucyBrZXk").await;
    let slot = json!({ "credentialId": "YW5ucyBrZXk", "wrappedKm": spaced, "slotSignature": spaced });
    ok(Method::POST, "/users/me/wrapped-keys", slot).await;
    let slots = ok(Method::GET, "/users/me/wrapped-keys", Value::Null).await;
    let slot = &slots["slots"][0];
    assert_eq!((&slot["wrappedKm"], &slot["slotSignature"]), (&plain, &plain));
    // Opaque texts are kept as they are.
    for opaque in ["sealed", "sealed anew", "sealed by 1008", "new", "ümläut", "AAA=A", "{\"v\": 1}"] {
        ok(Method::PUT, "/me/blobs/o", json!({ "encryptedBlob": opaque })).await;
        assert_eq!(ok(Method::GET, "/me/blobs/o", Value::Null).await["encryptedBlob"], opaque);
    }

    let ciphertext = SharedCiphertext { encrypted_data: spaced.into(), nonce: "AAAA\nAAAA".into() };
    let shared = SharedResource {
        resource_type: "map".into(),
        resource_id: "m".into(),
        ciphertext,
        role: ShareRole::Viewer,
    };
    let signed = ann.signer().share(&bob.handle, &shared, now(), &mut rand::rng());
    let body = json!({
        "recipientHandle": bob.handle, "resourceType": "map", "resourceId": "m", "encryptedData": spaced,
        "nonce": "AAAA\nAAAA", "role": "viewer", "federationSignature": signed.signature,
        "federationNonce": signed.nonce, "federationTimestamp": signed.timestamp,
    });
    let row = ok(Method::POST, "/sharing", body).await;
    assert_eq!((&row["encryptedData"], &row["nonce"]), (&plain, &json!("AAAAAAAA")));
    let sent = peer.received_of(MessageType::ResourceShare).remove(0);
    let sent = sent.get("payload").unwrap();
    let text = |name: &str| sent.get(name).and_then(Json::as_str).unwrap().to_owned();
    assert_eq!((text("encryptedData"), text("nonce")), (spaced.to_owned(), "AAAA\nAAAA".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_of_it_the_database_can_be_copied_to_postgresql() {
    let Some(server) = shared_server() else { return };
    if engine() == Engine::Postgres {
        // Whatever got in is in PostgreSQL already.
        return;
    }
    let (mut node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    ann.befriend(&ben).await;
    for (number, hostile) in HOSTILE.into_iter().enumerate() {
        let alias = format!("bob{number}");
        peer.show(
            &alias,
            json!({ "name": format!("B{hostile}ob"), "picture": format!("https://p.example/{hostile}") }),
        );
        let bob = peer.friend_of(&ann, &alias).await;
        for name in ["resourceType", "resourceId", "encryptedData", "nonce", "role", "else"] {
            peer.send(&share_of(&bob, &ann, &[(name, format!("m{hostile}1"))])).await;
        }
        peer.set_mood(Mood::Answers(400, json!({ "message": hostile }).to_string()));
        ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
        for nonce in [format!("AAAAAAAAAAAAAAAA{hostile}"), hostile.to_owned()] {
            let kind = MessageType::RelationshipRevoke;
            peer.send(&bob.envelope(kind, &ann.handle(), JsonObject::new(), &nonce)).await;
        }
        peer.set_mood(Mood::Well);
        for (method, path, body, _) in requests(&ben, &format!("a_{hostile}b")) {
            if method != Method::GET {
                ann.ask(method, path, body).await;
            }
        }
    }
    node.process.stop().await.unwrap();
    let from = format!("sqlite://{}", node.process.folder().join("vellum.db").display());
    let copied = Command::new(env!("CARGO_BIN_EXE_vellum"))
        .args(["db", "copy", "--from", &from, "--to", &server.new_database()])
        .env("VELLUM_DATA_DIR", node.process.folder())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&[copied.stdout.as_slice(), &copied.stderr].concat()).into_owned();
    assert!(copied.status.success(), "{told}");
}
