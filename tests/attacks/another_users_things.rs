//! The attacker has an account, and knows the id of a thing of somebody else's on the same node. He would read,
//! change or remove it. What stops him: every query names the user of the session beside the id.
//!
//! Every operation of the node's own document whose path has a parameter is tried; one that the table here does not know
//! fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};

use crate::support::{Database, Peer, Person, TestNode, plain_http};

/// What ann has, by the parameter and the beginning of the path that lead to it.
struct Things(Vec<(&'static str, String)>);

/// Operations whose parameter names nothing that belongs to somebody: documents for everybody, and whom one asks
/// another node for.
const FOR_EVERYBODY: [&str; 3] = ["/.well-known/user/{alias}", "/docs/{file}", "/friends/resolve/{handle}"];
/// Where everybody has one of their own under the same name: it answers, with the caller's.
const OWN_UNDER_ANY_NAME: [&str; 3] =
    ["/me/blobs/{type}", "/users/me/devices/{deviceId}/wrap-secret", "/sharing/outgoing/{type}/{id}"];
/// What an answer to anybody but ann would give away.
const SECRET: &str = "annssecret";

/// Ann has one of everything that has an id.
async fn endowed(peer: &Peer, ann: &Person, dora: &Person, database: &Database) -> Things {
    let (bob, carol) = (peer.user("bob"), peer.user("carol"));
    peer.invite(&bob, &ann.handle()).await;
    peer.invite(&carol, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.befriend(dora).await;
    database.add_passkey(ann, "YW5ucyBrZXk").await;
    let done = async |method, path: &str, body| {
        let (status, answer) = ann.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    };
    let slot = json!({ "credentialId": "YW5ucyBrZXk", "wrappedKm": "AgE=", "slotSignature": "c2ln" });
    done(Method::POST, "/users/me/wrapped-keys", slot).await;
    done(Method::PUT, "/me/blobs/friends", json!({ "encryptedBlob": SECRET })).await;
    done(Method::GET, "/users/me/devices/anns-device/wrap-secret", Value::Null).await;
    let collection = done(Method::POST, "/library/collections", json!({ "metadataEncrypted": SECRET })).await;
    let transfer = done(Method::POST, "/device-transfer", json!({ "receiverEphemeralPub": SECRET })).await;
    let sessions = done(Method::GET, "/auth/sessions", Value::Null).await;
    let share = |to: &Person| json!({ "recipientHandle": to.handle(), "resourceType": "collection", "resourceId": SECRET });
    let outgoing = done(Method::POST, "/sharing", share(dora)).await;
    dora.ask(Method::POST, "/sharing", share(ann)).await;
    let incoming = done(Method::GET, "/sharing/incoming", Value::Null).await["shares"][0]["id"].clone();
    let invitation = ann.client.invitations(Direction::Incoming).await.unwrap().remove(0).id;
    let waiting = database.add_waiting_message(ann).await;
    let pending = ann.pending().await.remove(0).peer_handle.to_string();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Things(vec![
        ("/admin/peers/", peer.domain().to_string()),
        ("/admin/queue/", waiting),
        ("/auth/passkeys/", "YW5ucyBrZXk".into()),
        ("/auth/sessions/", text(&sessions[0]["id"])),
        ("/device-transfer/", text(&transfer["sessionId"])),
        ("/friends/invitations/", invitation.to_string()),
        ("/friends/", bob.handle.to_string()),
        ("/library/collections/", text(&collection["id"])),
        ("/me/blobs/", "friends".into()),
        ("/sharing/incoming/", text(&incoming)),
        ("/sharing/outgoing/", format!("collection/{SECRET}")),
        ("/sharing/", text(&outgoing["id"])),
        ("/users/me/devices/", "anns-device".into()),
        ("/users/me/revocations/pending/", pending),
        ("/users/me/wrapped-keys/", "YW5ucyBrZXk".into()),
    ])
}

impl Things {
    /// The path of a document with ann's thing in place of its parameters.
    fn fill(&self, path: &str) -> String {
        let known = self.0.iter().filter(|(begin, _)| path.starts_with(&format!("{begin}{{")));
        let (begin, id) = known.max_by_key(|(begin, _)| begin.len()).unwrap_or_else(|| {
            panic!("{path} has a parameter and no thing of ann's here: add one, or say why it needs none")
        });
        let rest = path[begin.len()..].split('/').skip_while(|part| part.starts_with('{'));
        let rest: String = rest.map(|part| format!("/{part}")).collect();
        format!("{begin}{id}{rest}")
    }
}

/// All operations of the document whose path has a parameter.
async fn operations(node: &TestNode) -> Vec<(Method, String)> {
    let url = format!("{}/openapi.json", node.process.origin());
    let document: Value = plain_http().get(url).send().await.unwrap().json().await.unwrap();
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|_| path.contains('{')) {
            if let Ok(method @ (Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE)) =
                Method::from_bytes(method.to_uppercase().as_bytes())
            {
                found.push((method, path.clone()));
            }
        }
    }
    found
}

/// A body that is right for every operation at once, each of which reads what it knows.
fn any_body(method: &Method) -> Value {
    if *method == Method::GET || *method == Method::DELETE {
        return Value::Null;
    }
    json!({
        "name": "mallory's", "metadataEncrypted": "bWFs", "encryptedBlob": "bWFs", "role": "editor",
        "senderEphemeralPub": "mallory", "sealedSeed": "mallory", "senderSignature": "mallory",
        "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_id_of_somebody_elses_opens_anything_on_any_path() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, dora, mallory) =
        (node.person("ann").await, node.person("dora").await, node.person("mallory").await);
    let database = Database::of(&node).await;
    let things = endowed(&peer, &ann, &dora, &database).await;
    let all = operations(&node).await;
    assert!(all.len() > 35, "{}", all.len());
    let mallorys = mallory.client.current_session().await.unwrap().unwrap().user.id;
    let before = database.snapshot().await;
    let mut answered = BTreeSet::new();
    for (method, path) in all.iter().filter(|(_, path)| !FOR_EVERYBODY.contains(&path.as_str())) {
        let filled = things.fill(path);
        let (status, answer) = mallory.ask(method.clone(), &filled, any_body(method)).await;
        assert!(!answer.to_string().contains(SECRET), "{method} {filled}: {answer}");
        if OWN_UNDER_ANY_NAME.contains(&path.as_str()) && status < 300 {
            answered.insert(path.as_str());
            continue;
        }
        // Removing or noting what one has not is no error there, and says nothing.
        let says_nothing = status == 200 && answer == json!({ "success": true });
        assert!(says_nothing || (400..500).contains(&status), "{method} {filled}: {status} {answer}");
        assert_ne!(status, 422, "{method} {filled} was refused for its form: {answer}");
    }
    assert_eq!(answered, OWN_UNDER_ANY_NAME.into(), "these have something of mallory's own");
    let changes = before.difference(&database.snapshot().await);
    let not_his: Vec<&String> = changes.iter().filter(|change| !change.contains(&mallorys)).collect();
    assert_eq!(not_his, Vec::<&String>::new(), "only what is mallory's has changed");
    assert!(!changes.is_empty(), "his own blob and device secret are new");
}

#[tokio::test(flavor = "multi_thread")]
async fn their_owner_is_let_to_all_of_them() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, dora) = (node.person("ann").await, node.person("dora").await);
    let database = Database::of(&node).await;
    let things = endowed(&peer, &ann, &dora, &database).await;
    // So that the attack does not fail because the ids are wrong. What removes comes last.
    let mut all = operations(&node).await;
    let theirs = |path: &str| !FOR_EVERYBODY.contains(&path) && !path.starts_with("/admin/");
    all.retain(|(_, path)| theirs(path));
    all.sort_by_key(|(method, _)| *method == Method::DELETE);
    for (method, path) in all {
        let filled = things.fill(&path);
        let (status, answer) = ann.ask(method.clone(), &filled, any_body(&method)).await;
        assert!(![401, 403].contains(&status), "{method} {filled}: {status} {answer}");
        let gone_already =
            ["/friends/invitations", "/sharing", "/device-transfer", "/auth", "/users/me/wrapped-keys"];
        let may_be_gone = gone_already.iter().any(|begin| path.starts_with(begin));
        assert!(status != 404 || may_be_gone, "{method} {filled}: {status} {answer}");
        if path == "/auth/sessions/{id}" {
            break;
        }
    }
}
