//! The attacker has an account of their own and the ids of somebody else's things: from a log, a screenshot,
//! a shared link. If an id were enough, everything could be read and destroyed. What stops it: every query
//! that takes an id takes the caller's user id too, so somebody else's thing is as absent as one that never
//! was; the answers are the same, word for word, but for device transfers, where the wire protocol has a 403.

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};

use crate::support::{Database, Peer, Person, TestNode};

/// What somebody has, by id.
struct Things {
    collection: String,
    passkey: String,
    session: String,
    transfer: String,
    incoming: String,
    outgoing: String,
    share: String,
    incoming_share: String,
    pending: String,
    friend: String,
}

impl Things {
    /// Ids that nobody's things have, of the same form.
    fn nobodys() -> Self {
        let id = || "0190a6f0-0000-7000-8000-000000000000".to_owned();
        Self {
            collection: id(),
            passkey: "no-passkey".to_owned(),
            session: id(),
            transfer: id(),
            incoming: id(),
            outgoing: id(),
            share: id(),
            incoming_share: id(),
            pending: "nobody%40localhost:1".to_owned(),
            friend: "nobody%40localhost:1".to_owned(),
        }
    }

    /// Every request with an id in its path or body, in an order in which the owner can make all of them.
    fn requests(&self) -> Vec<(Method, String, Value)> {
        let Self { collection, passkey, session, transfer, .. } = self;
        let Self { incoming, outgoing, share, incoming_share, pending, friend, .. } = self;
        let upload =
            json!({ "senderEphemeralPub": "sender", "sealedSeed": "sealed", "senderSignature": "signed" });
        let slot = json!({ "credentialId": passkey, "wrappedKm": "AgE=", "slotSignature": "c2ln" });
        let metadata = json!({ "metadataEncrypted": "bmV3" });
        let none = Value::Null;
        vec![
            (Method::GET, format!("/library/collections/{collection}"), none.clone()),
            (Method::PUT, format!("/library/collections/{collection}"), metadata),
            (Method::DELETE, format!("/library/collections/{collection}"), none.clone()),
            (Method::POST, "/users/me/wrapped-keys".to_owned(), slot),
            (Method::POST, format!("/users/me/wrapped-keys/{passkey}/used"), none.clone()),
            (Method::POST, format!("/auth/passkeys/{passkey}/prf-enroll/options"), none.clone()),
            (Method::PATCH, format!("/auth/passkeys/{passkey}"), json!({ "name": "mine" })),
            (Method::DELETE, format!("/users/me/wrapped-keys/{passkey}"), none.clone()),
            (Method::DELETE, format!("/auth/passkeys/{passkey}"), none.clone()),
            (Method::POST, format!("/device-transfer/{transfer}/upload"), upload),
            (Method::GET, format!("/device-transfer/{transfer}"), none.clone()),
            (Method::DELETE, format!("/device-transfer/{transfer}"), none.clone()),
            (Method::POST, format!("/friends/invitations/{incoming}/accept"), json!({})),
            (Method::DELETE, format!("/friends/invitations/{outgoing}"), none.clone()),
            (Method::PATCH, format!("/sharing/{share}"), json!({ "role": "editor" })),
            (Method::DELETE, format!("/sharing/{share}"), none.clone()),
            (Method::DELETE, format!("/sharing/incoming/{incoming_share}"), none.clone()),
            (Method::DELETE, format!("/users/me/revocations/pending/{pending}"), none.clone()),
            (Method::DELETE, format!("/friends/{friend}"), none.clone()),
            (Method::DELETE, format!("/auth/sessions/{session}"), none),
        ]
    }

    /// More that only others may try, since the owner has done it above already.
    fn more_attacks(&self) -> Vec<(Method, String, Value)> {
        let Self { incoming, outgoing, share, incoming_share, .. } = self;
        let paths = [
            format!("/friends/invitations/{outgoing}/accept"),
            format!("/friends/invitations/{incoming}/reject"),
            format!("/friends/invitations/{outgoing}/reject"),
            format!("/sharing/{share}/revoke"),
            format!("/sharing/{incoming_share}/revoke"),
            format!("/sharing/incoming/{share}/accept"),
            format!("/sharing/incoming/{incoming_share}/accept"),
            format!("/sharing/incoming/{incoming_share}/reject"),
        ];
        let with_body = paths.into_iter().map(|path| (Method::POST, path, json!({})));
        with_body.chain([(Method::DELETE, format!("/friends/invitations/{incoming}"), Value::Null)]).collect()
    }
}

struct Scene {
    node: TestNode,
    // What is pending is for somebody there.
    _peer: Peer,
    ann: Person,
    mallory: Person,
    database: Database,
    things: Things,
}

fn id(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("{name} in {answer}")).to_owned()
}

fn in_path(handle: &vellum_protocol::Handle) -> String {
    handle.as_str().replace('@', "%40")
}

async fn scene() -> Scene {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let database = Database::of(&node).await;
    let (ann, mallory) = (node.person("ann").await, node.person("mallory").await);
    let (ben, cara, dora) = (node.person("ben").await, node.person("cara").await, node.person("dora").await);
    let ask = async |who: &Person, method, path: &str, body| {
        let (status, answer) = who.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    };
    let made = ask(&ann, Method::POST, "/library/collections", json!({ "metadataEncrypted": "" })).await;
    let begun = json!({ "receiverEphemeralPub": "receiver" });
    let transfer = ask(&ann, Method::POST, "/device-transfer", begun).await;
    database.add_passkey(&ann, "anns-passkey").await;
    ann.befriend(&ben).await;
    let share = |who: &Person| json!({ "recipientHandle": who.handle(), "resourceType": "collection", "resourceId": "c1" });
    let outgoing_share = ask(&ann, Method::POST, "/sharing", share(&ben)).await;
    ask(&ben, Method::POST, "/sharing", share(&ann)).await;
    let incoming_shares = ask(&ann, Method::GET, "/sharing/incoming", Value::Null).await;
    cara.invite(&ann.handle()).await;
    ann.invite(&dora.handle()).await;
    let outgoing = ann.client.invitations(Direction::Outgoing).await.unwrap();
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.client.remove_friend(&bob.handle, None).await.unwrap();
    let mut another = node.client();
    another.set_token(Some(node.token("ann@people.example").await));
    let things = Things {
        collection: id(&made, "id"),
        passkey: "anns-passkey".to_owned(),
        session: another.current_session().await.unwrap().unwrap().session.id,
        transfer: id(&transfer, "sessionId"),
        incoming: ann.invitation_from(&cara.handle()).await.id,
        outgoing: outgoing.iter().find(|one| one.to_handle == dora.handle()).unwrap().id.clone(),
        share: id(&outgoing_share, "id"),
        incoming_share: id(&incoming_shares["shares"][0], "id"),
        pending: in_path(&bob.handle),
        friend: in_path(&ben.handle()),
    };
    Scene { node, _peer: peer, ann, mallory, database, things }
}

#[tokio::test]
async fn somebody_elses_id_is_answered_as_one_that_never_was_and_the_owners_request_works() {
    let scene = scene().await;
    let before = scene.database.snapshot().await;
    let nobodys = Things::nobodys();
    let attacks = scene.things.requests().into_iter().chain(scene.things.more_attacks());
    let absent = nobodys.requests().into_iter().chain(nobodys.more_attacks());
    for ((method, path, body), (_, other_path, other_body)) in attacks.zip(absent) {
        let attack = scene.mallory.ask(method.clone(), &path, body).await;
        let empty = scene.mallory.ask(method.clone(), &other_path, other_body).await;
        // To empty a slot that one does not have, or to have used it, is a success, and does nothing.
        let harmless = path.starts_with("/users/me/wrapped-keys/");
        assert!(harmless || (400..=404).contains(&attack.0), "{method} {path}: {attack:?}");
        // A transfer's answers are the wire protocol's: it says that it is another's. Its id is of no use.
        if path.starts_with("/device-transfer/") {
            assert!(matches!(attack.0, 403 | 404), "{method} {path}: {attack:?}");
            continue;
        }
        assert_eq!(attack, empty, "{method} {path}: it tells whether the thing is there");
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
    for (method, path, body) in scene.things.requests() {
        let (status, answer) = scene.ann.ask(method.clone(), &path, body).await;
        assert!((200..300).contains(&status), "{method} {path} by its owner: {status} {answer}");
    }
}

#[tokio::test]
async fn names_that_two_users_give_their_things_are_two_things() {
    let scene = scene().await;
    let (ann, mallory) = (&scene.ann, &scene.mallory);
    let put = async |who: &Person, blob: &str| {
        who.ask(Method::PUT, "/me/blobs/profile", json!({ "encryptedBlob": blob })).await.0
    };
    let get = async |who: &Person, path: &str| who.ask(Method::GET, path, Value::Null).await;
    assert_eq!(put(ann, "YW5u").await, 200);
    assert_eq!(get(mallory, "/me/blobs/profile").await, (204, Value::Null));
    assert_eq!(put(mallory, "bWFs").await, 200);
    mallory.ask(Method::DELETE, "/me/blobs/profile", Value::Null).await;
    assert_eq!(get(ann, "/me/blobs/profile").await.1["encryptedBlob"], "YW5u");
    let device = "/users/me/devices/the-same-device/wrap-secret";
    let (anns, mallorys) = (get(ann, device).await.1, get(mallory, device).await.1);
    assert!(anns["secret"].is_string());
    assert_ne!(anns["secret"], mallorys["secret"]);
    mallory.ask(Method::POST, "/users/me/device-wrap-secrets/rotate", Value::Null).await;
    assert_eq!(get(ann, device).await.1, anns);
    assert_eq!(get(mallory, "/sharing/outgoing/collection/c1").await.1, json!({ "shares": [] }));
    assert_eq!(get(ann, "/sharing/outgoing/collection/c1").await.1["shares"][0]["resourceId"], "c1");
}

#[tokio::test]
async fn a_rotation_that_names_somebody_elses_things_changes_only_ones_own() {
    let scene = scene().await;
    let slot = json!({ "credentialId": scene.things.passkey, "wrappedKm": "AgE=", "slotSignature": "c2ln" });
    assert_eq!(scene.ann.ask(Method::POST, "/users/me/wrapped-keys", slot).await.0, 201);
    let anns = async || {
        let mut seen = Vec::new();
        for path in ["/library/collections", "/users/me/wrapped-keys", "/users/me/identity"] {
            seen.push(scene.ann.ask(Method::GET, path, Value::Null).await.1);
        }
        seen
    };
    let before = anns().await;
    let seed = vellum_client::MasterSeed::from_bytes([7; 32]);
    let commit = |version: u32, collection: &str, slots: Value| {
        json!({
            "expectedCurrent": version,
            "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key(),
            "collections": [{ "id": collection, "metadataEncrypted": "bWFsbG9yeQ==" }],
            "slots": slots,
        })
    };
    let foreign =
        json!([{ "credentialId": scene.things.passkey, "wrappedKm": "bWFs", "slotSignature": "c2ln" }]);
    let path = "/users/me/km-version/commit";
    let mut attack = commit(1, &scene.things.collection, foreign);
    attack["dropSlots"] = json!([scene.things.passkey]);
    scene.mallory.ask(Method::POST, path, attack).await;
    let alone = commit(1, &scene.things.collection, json!([]));
    scene.mallory.ask(Method::POST, path, alone).await;
    assert_eq!(anns().await, before);
    let version =
        scene.mallory.ask(Method::GET, "/users/me/km-version", Value::Null).await.1["kmVersion"].clone();
    let own = scene.mallory.ask(Method::GET, "/library/collections", Value::Null).await.1;
    let honest = commit(u32::try_from(version.as_u64().unwrap()).unwrap(), &id(&own[0], "id"), json!([]));
    assert_eq!(scene.mallory.ask(Method::POST, path, honest).await.0, 200);
    let own = scene.mallory.ask(Method::GET, "/library/collections", Value::Null).await.1;
    assert_eq!(own[0]["metadataEncrypted"], "bWFsbG9yeQ==");
}

#[tokio::test]
async fn the_queue_of_everybody_is_not_for_its_rows_owner() {
    let scene = scene().await;
    let row = scene.database.add_waiting_message(&scene.ann).await;
    let mut client = scene.node.client();
    client.set_token(Some(scene.node.token(vellum::node::FIRST_ADMINISTRATOR).await));
    let administrator = Person::new(client);
    let before = scene.database.snapshot().await;
    let dropped = format!("/admin/queue/{row}");
    for who in [&scene.ann, &scene.mallory] {
        for (method, path) in [(Method::GET, "/admin/queue"), (Method::DELETE, dropped.as_str())] {
            assert_eq!(who.ask(method, path, Value::Null).await.0, 403, "{path}");
        }
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
    assert_eq!(administrator.ask(Method::GET, "/admin/queue", Value::Null).await.0, 200);
    assert_eq!(administrator.ask(Method::DELETE, &dropped, Value::Null).await.0, 200);
}
