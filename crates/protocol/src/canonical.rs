//! The canonical text of a JSON value: what is signed and hashed (wire protocol, section 3).
//!
//! It is the text that `JSON.stringify` gives for the parsed value after the keys of every object were
//! sorted. [`JsonObject`] keeps its members in that order already; here they are written.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::json::{Json, JsonObject, exact_integer};

impl Json {
    /// The canonical text.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_value(&mut text, self);
        text
    }

    /// Base64 of the SHA-256 of the canonical text in UTF-8.
    #[must_use]
    pub fn sha256_base64(&self) -> String {
        base64::encode(&Sha256::digest(self.canonical().as_bytes()))
    }
}

impl JsonObject {
    /// The canonical text.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_object(&mut text, self.iter());
        text
    }
}

fn write_value(text: &mut String, value: &Json) {
    match value {
        Json::Null => text.push_str("null"),
        Json::Bool(true) => text.push_str("true"),
        Json::Bool(false) => text.push_str("false"),
        Json::Number(number) => write_number(text, *number),
        Json::String(string) => write_string(text, string),
        Json::Array(members) => {
            text.push('[');
            for (place, member) in members.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write_value(text, member);
            }
            text.push(']');
        }
        Json::Object(object) => write_object(text, object.iter()),
    }
}

/// Writes members in the order in which they come.
pub(crate) fn write_object<'a>(text: &mut String, members: impl Iterator<Item = (&'a str, &'a Json)>) {
    text.push('{');
    for (place, (key, value)) in members.enumerate() {
        if place > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// As ECMAScript writes numbers; what is not finite as `null`.
fn write_number(text: &mut String, number: f64) {
    if number.is_finite() {
        text.push_str(ryu_js::Buffer::new().format_finite(number));
    } else {
        text.push_str("null");
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => match exact_integer(*number) {
                // As canonical JSON has it: `7`, not `7.0`.
                Some(integer) => serializer.serialize_i64(integer),
                None => serializer.serialize_f64(*number),
            },
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(members) => {
                let mut sequence = serializer.serialize_seq(Some(members.len()))?;
                for member in members {
                    sequence.serialize_element(member)?;
                }
                sequence.end()
            }
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
