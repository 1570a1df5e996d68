//! The document's part on the inbox.

use serde_json::json;
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP,
};

use super::operation::Operation;
use super::shape::{foreign_object, success, text, truth};

pub fn receive() -> Operation {
    let envelope = foreign_object(json!({
        "protocol_version": 2,
        "message_type": "RELATIONSHIP_REVOKE",
        "message_version": 1,
        "from": "alice@node.example",
        "to": "bob@peer.example",
        "nonce": "Y2hvc2VuIGJ5IGFsaWNl",
        "timestamp": "2026-11-23T10:00:00.000Z",
        "payload": {},
        "signature": "pH0y…",
    }));
    Operation::new(
        "Federation",
        "inbox",
        "Receive an envelope from another node",
        "The body is what a user has signed; the header fields are what their node signs, fresh for every attempt. A repeated envelope is answered as a success again.",
    )
    .required_header(HEADER_SERVER_ID, "the sending node", text("node.example"))
    .required_header(HEADER_PROTOCOL_VERSION, "always 2", text("2"))
    .required_header(HEADER_NONCE, "never used before", text("q83vEjRWeJCrze8SNFZ4kA=="))
    .required_header(HEADER_TIMESTAMP, "RFC 3339, within 300 s of now", text("2026-11-23T10:00:00.000Z"))
    .required_header(HEADER_SIGNATURE, "the sending node's signature", text("pH0yXw=="))
    .body(envelope)
    .answer(
        202,
        "It was carried out, or had been before.",
        success().and(vec![
            ("applied", truth(true).described("whether a revocation ended anything").at_times()),
            ("friends", truth(true).described("the invitation met one that crossed it").at_times()),
        ]),
    )
    .refused(400, &["not_json", "message_refused"])
    .refused(401, &["federation_auth_failed"])
    .limited()
}
