//! The texts that a device signs about its own keys: the version 1 form of messages, with a type of its own
//! (wire protocol, sections 4 and 8). Messages between people are version 2 and stand in `signer`.

use vellum_protocol::{Json, JsonObject, legacy_signable};

/// The text for a statement of this kind about these members.
pub(crate) fn signed_text<const N: usize>(kind: &str, members: [(&str, &str); N]) -> String {
    let object: JsonObject = members.into_iter().map(|(name, text)| (name, Json::from(text))).collect();
    legacy_signable(kind, &object)
}
