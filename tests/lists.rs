//! Lists: whole as existing clients expect, or a part of them, and always how many there are.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, Peer, Person, TestNode, plain_http};

/// A list, the member that it is in (none: the answer is the list), and what its members are told
/// apart by.
struct List {
    path: &'static str,
    member: Option<&'static str>,
    key: &'static str,
    length: usize,
}

const fn list(path: &'static str, member: Option<&'static str>, key: &'static str, length: usize) -> List {
    List { path, member, key, length }
}

const LISTS: [List; 15] = [
    list("/friends", Some("friends"), "id", 3),
    list("/friends/invitations", Some("invitations"), "id", 3),
    list("/friends/invitations?direction=outgoing", Some("invitations"), "id", 1),
    list("/sharing/outgoing", Some("shares"), "id", 3),
    list("/sharing/outgoing/map/m", Some("shares"), "id", 3),
    list("/sharing/incoming", Some("shares"), "id", 3),
    list("/sharing/incoming/pending", Some("shares"), "id", 2),
    list("/users/me/revocations/pending", Some("revocations"), "id", 3),
    list("/me/blobs", Some("blobs"), "blobType", 3),
    list("/users/me/wrapped-keys", Some("slots"), "credentialId", 3),
    list("/users/me/devices", Some("devices"), "deviceId", 3),
    list("/library/collections", None, "id", 3),
    list("/auth/sessions", None, "id", 3),
    list("/auth/passkeys", None, "id", 3),
    list("/users/roles", None, "id", 3),
];

struct Scene {
    node: TestNode,
    ann: Person,
}

/// The status, the `X-Total-Count` and the body.
async fn get(scene: &Scene, path: &str) -> (u16, Option<String>, Value) {
    let answer = plain_http()
        .get(format!("{}{path}", scene.node.process.origin()))
        .header("authorization", format!("Bearer {}", scene.ann.client.token().unwrap().expose()))
        .send()
        .await
        .unwrap();
    let total = answer.headers().get("x-total-count").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), total, answer.json().await.unwrap())
}

async fn scene() -> Scene {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let create = [
        "user",
        "create",
        "--email",
        "ann@people.example",
        "--first-name",
        "Ann",
        "--last-name",
        "T",
        "--role",
        "admin",
    ];
    node.process.run(&create).await.unwrap();
    let mut client = node.client();
    client.set_token(Some(node.token("ann@people.example").await));
    let mut ann = Person::new(client);
    ann.set_up("ann").await;
    let (ben, cat) = (node.person("ben").await, node.person("cat").await);
    for person in [&ben, &cat] {
        ann.befriend(person).await;
    }
    let bob = peer.friend_of(&ann, "bob").await;
    ann.invite(&node.person("dot").await.handle()).await;
    for name in ["eve", "fay"] {
        node.person(name).await.invite(&ann.handle()).await;
    }
    fill_shares(&ann, &[&ben, &cat], &peer, &bob).await;
    for name in ["gil", "hal", "ian"] {
        let gone = peer.friend_of(&ann, name).await;
        ann.client.remove_friend(&gone.handle, None).await.unwrap();
    }
    for name in ["one", "two", "three"] {
        let device = format!("/users/me/devices/device-{name}/wrap-secret");
        ann.ask_for(200, Method::GET, &device, Value::Null).await;
        let blob = json!({ "encryptedBlob": "v7B/", "nonce": "" });
        ann.ask_for(200, Method::PUT, &format!("/me/blobs/{name}"), blob).await;
        let credential = format!("credential-{name}");
        Database::of(&node).await.add_passkey(&ann, &credential).await;
        let slot = json!({ "credentialId": credential, "wrappedKm": "v7B/", "slotSignature": "v7B/" });
        ann.ask_for(201, Method::POST, "/users/me/wrapped-keys", slot).await;
    }
    for _ in 0..2 {
        let made = ann.ask(Method::POST, "/library/collections", json!({ "metadataEncrypted": "" })).await;
        assert_eq!(made.0, 200);
        node.token("ann@people.example").await;
    }
    Scene { node, ann }
}

/// Three shares out and three in.
async fn fill_shares(ann: &Person, local: &[&Person], peer: &Peer, bob: &crate::support::PeerUser) {
    use vellum_client::collection_share::SharedCiphertext;
    use vellum_client::signer::{ShareRole, SharedResource};
    use vellum_protocol::MessageType;
    let shared = |id: &str| SharedResource {
        resource_type: "map".into(),
        resource_id: id.into(),
        ciphertext: SharedCiphertext { encrypted_data: "v7B/".into(), nonce: "WoyOsQE8QeFAtxhm".into() },
        role: ShareRole::Viewer,
    };
    let bare = |to: &Value| json!({ "recipientHandle": to, "resourceType": "map", "resourceId": "m" });
    for person in local {
        ann.ask_for(200, Method::POST, "/sharing", bare(&json!(person.handle()))).await;
    }
    let signed = ann.signer().share(&bob.handle, &shared("m"), crate::support::now(), &mut rand::rng());
    let mut body = bare(&json!(bob.handle));
    body["encryptedData"] = json!("v7B/");
    body["nonce"] = json!("WoyOsQE8QeFAtxhm");
    body["role"] = json!("viewer");
    body["federationSignature"] = json!(signed.signature);
    body["federationNonce"] = json!(signed.nonce);
    body["federationTimestamp"] = json!(signed.timestamp);
    ann.ask_for(200, Method::POST, "/sharing", body).await;
    local[0].ask_for(200, Method::POST, "/sharing", bare(&json!(ann.handle()))).await;
    for id in ["x", "y"] {
        let kind = MessageType::ResourceShare;
        let payload = shared(id).payload();
        let at = crate::support::now();
        let envelope = bob.signer.envelope(kind, &ann.handle(), payload, at, &mut rand::rng());
        assert_eq!(peer.send(&envelope).await.0, 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_whole_or_a_part_and_tells_how_many_there_are() {
    let scene = scene().await;
    for List { path, member, key, length } in LISTS {
        let joined = if path.contains('?') { '&' } else { '?' };
        let keys = async |query: &str| -> Vec<String> {
            let path = if query.is_empty() { path.to_owned() } else { format!("{path}{joined}{query}") };
            let (status, header, body) = get(&scene, &path).await;
            assert_eq!(status, 200, "{path}: {body}");
            let (rows, total) = match member {
                Some(member) => (&body[member], body["total"].as_u64()),
                None => (&body, header.and_then(|total| total.parse().ok())),
            };
            assert_eq!(total, Some(length as u64), "{path}: {body}");
            let rows = rows.as_array().unwrap_or_else(|| panic!("{path}: {body}"));
            rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
        };
        let whole = keys("").await;
        assert_eq!(whole.len(), length, "{path}");
        assert_eq!(keys("limit=2").await, whole[..length.min(2)], "{path}");
        assert_eq!(
            keys("limit=1&offset=1").await,
            whole[1..].iter().take(1).cloned().collect::<Vec<_>>(),
            "{path}"
        );
        assert_eq!(keys("offset=2").await, whole[length.min(2)..], "{path}");
        assert_eq!(keys("offset=1000&limit=1000").await, [""; 0], "{path}: behind the end");
        for wrong in ["limit=0", "limit=1001", "limit=x", "offset=-1", "limit=1&limit=2"] {
            let (status, _, problem) = get(&scene, &format!("{path}{joined}{wrong}")).await;
            let code = problem["code"].as_str();
            assert_eq!((status, code), (422, Some("validation_failed")), "{path}, {wrong}: {problem}");
        }
    }
    for path in ["/admin/queue", "/admin/peers", "/users", "/users/me/audit"] {
        let (status, _, body) = get(&scene, path).await;
        let data = body["data"].as_array().unwrap_or_else(|| panic!("{path}: {status} {body}"));
        assert_eq!(body["total"].as_u64(), Some(data.len() as u64), "{path}: {body}");
    }
}
