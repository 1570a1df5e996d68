//! The document's part on `/.well-known`.

use super::operation::Operation;
use super::shape::{Shape, encryption_key, handle, list, null, number, object, signing_key, text};

const TAG: &str = "Federation";

/// A user as the network sees them.
pub fn user_document() -> Shape {
    object(vec![
        ("handle", handle("alice@node.example")),
        ("signingKey", signing_key()),
        ("encryptionKey", encryption_key()),
        ("inbox", text("https://node.example/federation/inbox")),
        ("name", text("Alice Example").at_times()),
        ("picture", text("https://people.example/alice.png").at_times()),
    ])
    .named("UserDocument")
}

pub fn server() -> Operation {
    let manifest = object(vec![
        ("server_id", text("node.example")),
        ("public_key", signing_key()),
        ("protocol_versions", list(number(2))),
        ("minimum_protocol_version", number(2).or_null()),
        ("capabilities", list(text("durable-revocation-v1"))),
        ("key_transparency_anchor", null()),
        ("revocation_window_seconds", number(604_800).or_null()),
    ]);
    Operation::new(
        TAG,
        "manifest",
        "This node, to other nodes",
        "Its id, the key that its requests are verified with, and what it can do.",
    )
    .answer(200, "The manifest.", manifest.named("Manifest"))
    .limited()
}

pub fn user() -> Operation {
    Operation::new(
        TAG,
        "userDocument",
        "A user, to the network",
        "The handle and the two public keys of somebody on this node.",
    )
    .path("alias", "whom; compared without case", text("alice").at_least(1))
    .answer(200, "The user document.", user_document())
    .refused(404, &["not_found"])
    .limited()
}
