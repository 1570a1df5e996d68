//! The attacker has an account, and knows the id of a thing of somebody else's on the same node. He would read,
//! change or remove it. What stops him: every query names the user of the session beside the id.

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};

use crate::support::{Database, Peer, TestNode};

#[tokio::test]
async fn no_id_of_somebody_elses_opens_anything() {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, mallory) = (node.person("ann").await, node.person("mallory").await);
    let (bob, carol) = (peer.user("bob"), peer.user("carol"));
    peer.invite(&bob, &ann.handle()).await;
    peer.invite(&carol, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    let database = Database::of(&node).await;
    database.add_passkey(&ann, "YW5ucyBrZXk").await;
    ann.ask(Method::PUT, "/me/blobs/profile", json!({ "encryptedBlob": "ann's" })).await;
    let collection = ann.ask(Method::GET, "/library/collections", Value::Null).await.1[0]["id"].clone();
    let sessions = ann.ask(Method::GET, "/auth/sessions", Value::Null).await.1;
    let session = find_id(&sessions);
    let invitation = ann.client.invitations(Direction::Incoming).await.unwrap().remove(0).id;
    let before = database.snapshot().await;

    let (collection, bob) = (collection.as_str().unwrap(), &bob.handle);
    for (method, path, body) in [
        (Method::GET, format!("/library/collections/{collection}"), Value::Null),
        (Method::DELETE, format!("/library/collections/{collection}"), Value::Null),
        (Method::PATCH, format!("/library/collections/{collection}"), json!({ "metadataEncrypted": "x" })),
        (Method::DELETE, format!("/auth/sessions/{session}"), Value::Null),
        (Method::POST, format!("/friends/invitations/{invitation}/accept"), json!({})),
        (Method::POST, format!("/friends/invitations/{invitation}/reject"), json!({})),
        (Method::DELETE, format!("/friends/invitations/{invitation}"), Value::Null),
        (Method::DELETE, format!("/friends/{bob}"), Value::Null),
        (Method::DELETE, format!("/users/me/revocations/pending/{bob}"), Value::Null),
        (Method::DELETE, "/auth/passkeys/YW5ucyBrZXk".to_owned(), Value::Null),
        (Method::DELETE, "/users/me/wrapped-keys/YW5ucyBrZXk".to_owned(), Value::Null),
        (Method::GET, "/users/me/audit?user=ann".to_owned(), Value::Null),
    ] {
        let (status, answer) = mallory.ask(method.clone(), &path, body).await;
        let shown = answer.to_string();
        assert!(!shown.contains("ann's") && !shown.contains(bob.as_str()), "{method:?} {path}: {shown}");
        // What names nothing of one's own: one's own list, and removing what is not there, which is no error.
        let own = ["/users/me/audit", "/users/me/wrapped-keys"];
        let harmless = status == 200 && own.iter().any(|own| path.starts_with(own));
        assert!(harmless || (400..500).contains(&status), "{method:?} {path}: {status} {shown}");
    }
    assert_eq!(before.difference(&database.snapshot().await), Vec::<String>::new());
    let own = ann.ask(Method::GET, &format!("/library/collections/{collection}"), Value::Null).await;
    assert!(own.0 == 200 || own.0 == 405, "its owner is not refused: {own:?}");
    assert_eq!(
        ann.ask(Method::DELETE, &format!("/friends/invitations/{invitation}"), Value::Null).await.0,
        200
    );
}

/// The id of some session in a list, wherever the list has it.
fn find_id(sessions: &Value) -> String {
    let list = sessions.as_array().or_else(|| sessions["sessions"].as_array()).unwrap();
    list[0]["id"].as_str().unwrap().to_owned()
}
