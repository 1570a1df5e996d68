//! Version 1 of the signed text (wire protocol, section 4): the object's first member is `type`, followed
//! by the other fields in canonical order. Passkey slots and device transfers are still signed this way.

use crate::canonical::write_object;
use crate::json::{Json, JsonObject, array_index};

/// The text that version 1 signs for a message of this kind with these fields. A field named `type` gives
/// way to the kind; keys that are array indices print even before `type`.
#[must_use]
pub fn legacy_signable(kind: &str, fields: &JsonObject) -> String {
    let kind = Json::from(kind);
    let others = || fields.iter().filter(|(key, _)| *key != "type");
    let is_index = |key: &str| array_index(key).is_some();
    let indices = others().take_while(|(key, _)| is_index(key));
    let rest = others().skip_while(|(key, _)| is_index(key));
    let mut text = String::new();
    write_object(&mut text, indices.chain(std::iter::once(("type", &kind))).chain(rest));
    text
}
