//! The parts of an envelope that clients send along.

use super::shape::{Shape, number, text};

fn members() -> [(&'static str, Shape); 3] {
    [
        (
            "signature",
            text("pH0y…").up_to(4096).described("base64 of the Ed25519 signature of a version 2 envelope"),
        ),
        ("nonce", text("Y2hvc2VuIGJ5IHlvdQ==").up_to(4096)),
        (
            "timestamp",
            text("2026-11-23T10:00:00.000Z").up_to(4096).described("RFC 3339, within 300 s of now"),
        ),
    ]
}

fn message_version() -> (&'static str, Shape) {
    ("messageVersion", number(1).from(0).to(4_294_967_295).optional())
}

/// They must be there.
pub fn signed() -> Vec<(&'static str, Shape)> {
    members().into_iter().chain([message_version()]).collect()
}

/// They may be left out, between users of one node.
pub fn perhaps_signed() -> Vec<(&'static str, Shape)> {
    members().into_iter().map(|(name, shape)| (name, shape.optional())).chain([message_version()]).collect()
}

/// What is refused about them.
pub const REFUSALS: [&str; 5] =
    ["envelope_required", "bad_signature", "stale_timestamp", "invalid_nonce", "identity_incomplete"];
