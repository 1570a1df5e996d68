//! The HTTP client: what it asks for, how it reads answers, and what it makes of refusals.

mod answers;
mod refusals;
mod requests;

use serde_json::{Value, json};
use vellum_client::{MasterSeed, NodeClient, SessionToken, SignedFields, Signer};
use vellum_protocol::{Handle, UnixMillis};

use crate::scripted_node::{Reply, ScriptedNode};
use crate::vectors::rng;

const TOKEN: &str = "s3cr3t-t0ken-of-a-session";

/// A server with these replies, and a signed-in client of it.
async fn node(replies: Vec<Reply>) -> (ScriptedNode, NodeClient) {
    let node = ScriptedNode::start(replies).await;
    let mut client = NodeClient::new(&node.origin).unwrap();
    client.set_token(Some(SessionToken::new(TOKEN.to_owned()).unwrap()));
    (node, client)
}

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

fn signed() -> SignedFields {
    let signer = Signer::new(handle("alice@a.example"), MasterSeed::from_bytes([7; 32]).signing_secret());
    signer.revoke(&handle("bob@b.example:8443"), UnixMillis(1_790_000_000_000), &mut rng(50))
}

fn user() -> Value {
    let seed = MasterSeed::from_bytes([7; 32]);
    json!({
        "id": "u1", "email": "alice@a.example", "firstName": "Alice", "lastName": null, "picture": null,
        "alias": "alice", "signingKey": seed.signing_secret().public().to_base64(),
        "encryptionKey": seed.encryption_key().to_base64(), "kmVersion": 3,
        "createdAt": "2026-11-23T10:00:00.000Z", "updatedAt": "2026-11-23T10:00:01.000Z",
        "roles": [{"id": "user", "name": "User"}], "permissions": ["social:read"],
    })
}

fn invitation() -> Value {
    json!({
        "id": "i1", "fromHandle": "alice@a.example", "toHandle": "bob@b.example:8443", "direction": "outgoing",
        "status": "pending", "originServer": null, "createdAt": "2026-11-23T10:00:00.000Z",
    })
}
