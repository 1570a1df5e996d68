//! Reading a body field by field, so that one answer can name everything that is wrong with it.
//!
//! No text that is read here has control characters (`vellum_protocol::text`). Base64 may have
//! white space, as it may everywhere; what is read then is its canonical form.
//!
//! Unknown fields are ignored. A field that is missing, null or of a wrong type is noted, and the reader
//! goes on; [`Fields::finish`] gives the whole list.

use ::base64::Engine;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use vellum_protocol::text::has_control_characters;
use vellum_protocol::{KmVersion, base64, json};

use super::error::{FieldError, Problem};

/// The longest text of a field that states no other limit.
pub const LONGEST_TEXT: usize = 4096;

/// base64url as generously as it can be read: with padding or without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The largest whole number up to which floats know all of them: 2^53.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;
/// What is said of a text with control characters.
pub const NO_CONTROL_CHARACTERS: &str = "must not contain control characters";

/// A body that is being read.
pub struct Fields {
    object: Map<String, Value>,
    /// What comes before a field's name in messages: `items[3].`
    prefix: String,
    /// In a query every value is a text, numbers too.
    from_query: bool,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a body that must be a JSON object.
    ///
    /// # Errors
    /// 413 when it has too many values, 422 when it is not.
    pub fn of_body(body: &[u8]) -> Result<Self, Problem> {
        if json::has_too_many_values(body) {
            return Err(Problem::too_many_values(json::MOST_VALUES));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self::of_object(object, String::new())),
            Ok(_) => Err(body_error("must be a JSON object")),
            Err(error) => Err(body_error(format!("is not JSON: {error}"))),
        }
    }

    /// Reads a body that may be left out: an empty one counts as an empty object.
    ///
    /// # Errors
    /// 413 when it has too many values, 422 when there is a body and it is not an object.
    pub fn of_optional_body(body: &[u8]) -> Result<Self, Problem> {
        if body.trim_ascii().is_empty() {
            Ok(Self::of_object(Map::new(), String::new()))
        } else {
            Self::of_body(body)
        }
    }

    /// Reads a query string.
    #[must_use]
    pub fn of_query(query: Map<String, Value>) -> Self {
        Self { from_query: true, ..Self::of_object(query, String::new()) }
    }

    /// Takes a field that has another name for some clients.
    pub fn rename(&mut self, from: &str, to: &str) {
        if !self.has(to)
            && let Some(value) = self.object.remove(from)
        {
            self.object.insert(to.to_owned(), value);
        }
    }

    fn of_object(object: Map<String, Value>, prefix: String) -> Self {
        Self { object, prefix, from_query: false, errors: Vec::new() }
    }

    /// Notes that a field is wrong.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: format!("{}{name}", self.prefix), message: message.into() });
    }

    /// Whether the field is there, be it null.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// Whether the field is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether the field is there and a text.
    #[must_use]
    pub fn has_text(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(Value::is_string)
    }

    /// A text that must be there. Gives the empty text when it is not, which [`Fields::finish`] refuses.
    pub fn text(&mut self, name: &str) -> String {
        if !self.has(name) {
            self.wrong(name, "is required");
            return String::new();
        }
        self.optional_text(name).unwrap_or_default()
    }

    /// A text that may be left out or null.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        self.optional(name, Characters::Text)
    }

    /// Base64 that may be left out or null, in its canonical form: a key, a signature, something
    /// short that is sealed. An opaque text is taken, too.
    pub fn optional_base64(&mut self, name: &str) -> Option<String> {
        self.optional(name, Characters::Base64)
    }

    /// The same as it was sent: a part of what the client has signed.
    pub fn optional_signed_base64(&mut self, name: &str) -> Option<String> {
        self.optional(name, Characters::SignedBase64)
    }

    /// Base64 that must be there, in its canonical form.
    pub fn base64(&mut self, name: &str) -> String {
        if !self.has(name) {
            self.wrong(name, "is required");
            return String::new();
        }
        self.optional_base64(name).unwrap_or_default()
    }

    fn optional(&mut self, name: &str, characters: Characters) -> Option<String> {
        let refusal = match self.object.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.chars().count() > LONGEST_TEXT => {
                format!("must have at most {LONGEST_TEXT} characters")
            }
            Some(Value::String(text)) => match characters.read(text.clone()) {
                Ok(text) => return Some(text),
                Err(_) => NO_CONTROL_CHARACTERS.to_owned(),
            },
            Some(_) => "must be a string".to_owned(),
        };
        self.wrong(name, refusal);
        None
    }

    /// A whole number that may be left out or null.
    pub fn optional_integer(&mut self, name: &str) -> Option<i64> {
        match self.object.get(name) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let number = match value {
                    Value::String(text) if self.from_query => text.parse().ok(),
                    other => whole_number(other),
                };
                if number.is_none() {
                    self.wrong(name, "must be an integer");
                }
                number
            }
        }
    }

    /// A text of any length that the body's own limit allows, which must be there: ciphertext.
    pub fn ciphertext(&mut self, name: &str) -> String {
        self.optional_ciphertext(name).unwrap_or_else(|| {
            if !self.has(name) {
                self.wrong(name, "is required");
            }
            String::new()
        })
    }

    /// A text of any length that the body's own limit allows, which may be left out or null.
    pub fn optional_ciphertext(&mut self, name: &str) -> Option<String> {
        self.long(name, Characters::Base64)
    }

    /// The same as it was sent: a part of what the client has signed.
    pub fn optional_signed_ciphertext(&mut self, name: &str) -> Option<String> {
        self.long(name, Characters::SignedBase64)
    }

    fn long(&mut self, name: &str, characters: Characters) -> Option<String> {
        let (kept, refusal) = match self.object.remove(name) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) => match characters.read(text) {
                Ok(text) => return Some(text),
                Err(text) => (Value::String(text), NO_CONTROL_CHARACTERS),
            },
            Some(other) => (other, "must be a string"),
        };
        self.wrong(name, refusal);
        self.object.insert(name.to_owned(), kept);
        None
    }

    /// A text of at most so many characters that must be there and not be empty.
    pub fn short_text(&mut self, name: &str, longest: usize) -> String {
        let text = self.text(name);
        self.require_length(name, &text, longest);
        text
    }

    /// Base64 of at most so many characters that must be there and not be empty, in its canonical
    /// form.
    pub fn short_base64(&mut self, name: &str, longest: usize) -> String {
        let text = self.base64(name);
        self.require_length(name, &text, longest);
        text
    }

    fn require_length(&mut self, name: &str, text: &str, longest: usize) {
        if self.has(name) && !(1..=longest).contains(&text.chars().count()) {
            self.wrong(name, format!("must have 1 to {longest} characters"));
        }
    }

    /// Bytes as WebAuthn writes them (base64url, no padding), which must be there and not be empty.
    pub fn base64url(&mut self, name: &str) -> Vec<u8> {
        let Some(text) = self.optional_signed_ciphertext(name) else {
            if !self.has(name) {
                self.wrong(name, "is required");
            }
            return Vec::new();
        };
        let bytes = Self::decode_base64url(&text).filter(|bytes| !bytes.is_empty());
        if bytes.is_none() {
            self.wrong(name, "must be base64url");
        }
        bytes.unwrap_or_default()
    }

    /// Bytes as WebAuthn writes them. Padding, which some clients add, is taken too.
    #[must_use]
    pub fn decode_base64url(text: &str) -> Option<Vec<u8>> {
        BASE64URL.decode(text).ok()
    }

    /// The text under this name, if there is one; anything else is not complained about.
    #[must_use]
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        match self.object.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether anything was found wrong so far.
    #[must_use]
    pub fn any_wrong(&self) -> bool {
        !self.errors.is_empty()
    }

    /// An object that must be there, read by `read`.
    pub fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields) -> T) -> T {
        let object = match self.object.remove(name) {
            Some(Value::Object(object)) => object,
            other => {
                self.wrong(name, if other.is_some() { "must be an object" } else { "is required" });
                // What it should hold is not complained about as well.
                let mut empty = Fields::of_object(Map::new(), String::new());
                return read(&mut empty);
            }
        };
        let mut fields = Fields::of_object(object, format!("{}{name}.", self.prefix));
        let result = read(&mut fields);
        self.errors.append(&mut fields.errors);
        result
    }

    /// A truth value that may be left out or null.
    pub fn optional_bool(&mut self, name: &str) -> Option<bool> {
        match self.object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(_) => {
                self.wrong(name, "must be true or false");
                None
            }
        }
    }

    /// A version of keys that may be left out or null.
    pub fn optional_km_version(&mut self, name: &str) -> Option<KmVersion> {
        let number = self.optional_integer(name)?;
        let version = KmVersion::new(number);
        if version.is_none() {
            self.wrong(name, "must be 1 or more");
        }
        version
    }

    /// An array of texts that may be left out.
    pub fn optional_texts(&mut self, name: &str, most: usize) -> Vec<String> {
        let Some(value) = self.object.get(name).filter(|value| !value.is_null()) else { return Vec::new() };
        let texts: Option<Vec<String>> = value
            .as_array()
            .and_then(|members| members.iter().map(|one| one.as_str().map(str::to_owned)).collect());
        match texts {
            Some(texts) if texts.len() <= most => {
                if let Some(refusal) = texts.iter().find_map(|text| text_refusal(text)) {
                    self.wrong(name, format!("holds a text that {refusal}"));
                }
                texts
            }
            _ => {
                self.wrong(name, format!("must be an array of at most {most} strings"));
                Vec::new()
            }
        }
    }

    /// An array of objects that may be left out.
    pub fn optional_objects<T>(
        &mut self,
        name: &str,
        most: usize,
        read: impl FnMut(&mut Fields) -> T,
    ) -> Vec<T> {
        if self.has(name) { self.objects(name, 0..=most, read) } else { Vec::new() }
    }

    /// An array of objects that must be there, with as many members as `range` allows; each is read by
    /// `read`.
    pub fn objects<T>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        mut read: impl FnMut(&mut Fields) -> T,
    ) -> Vec<T> {
        let Some(value) = self.object.remove(name) else {
            self.wrong(name, "is required");
            return Vec::new();
        };
        let Value::Array(members) = value else {
            self.wrong(name, "must be an array");
            return Vec::new();
        };
        if !range.contains(&members.len()) {
            self.wrong(name, format!("must have {} to {} members", range.start(), range.end()));
            return Vec::new();
        }
        let mut results = Vec::with_capacity(members.len());
        for (index, member) in members.into_iter().enumerate() {
            let Value::Object(object) = member else {
                self.wrong(&format!("{name}[{index}]"), "must be an object");
                continue;
            };
            let mut fields = Fields::of_object(object, format!("{}{name}[{index}].", self.prefix));
            results.push(read(&mut fields));
            self.errors.append(&mut fields.errors);
        }
        results
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 422 with every field that was noted.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }
}

/// The whole number in a value. `1.0` is one, too: JSON has one kind of number.
fn whole_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= MOST_EXACT)?;
        // Exact: an integer within the range in which floats are.
        #[expect(clippy::cast_possible_truncation, reason = "a whole number far below i64's limit")]
        Some(number as i64)
    })
}

/// What a text may be made of.
#[derive(Debug, Clone, Copy)]
enum Characters {
    /// Anything but control characters.
    Text,
    /// The same, or base64 with white space; read in its canonical form.
    Base64,
    /// The same, read as it was sent.
    SignedBase64,
}

impl Characters {
    /// Reads a text, or gives back one that is refused.
    fn read(self, text: String) -> Result<String, String> {
        let refuse = |text: String| if has_control_characters(&text) { Err(text) } else { Ok(text) };
        match self {
            Self::Text => refuse(text),
            Self::Base64 => refuse(base64::canonical(text)),
            Self::SignedBase64 => match refuse(base64::canonical(text.clone())) {
                Ok(_) => Ok(text),
                Err(_) => Err(text),
            },
        }
    }
}

/// Why a text is not taken.
fn text_refusal(text: &str) -> Option<String> {
    if has_control_characters(text) {
        return Some(NO_CONTROL_CHARACTERS.to_owned());
    }
    (text.chars().count() > LONGEST_TEXT).then(|| format!("must have at most {LONGEST_TEXT} characters"))
}

fn body_error(message: impl Into<String>) -> Problem {
    Problem::validation(vec![FieldError { field: "body".into(), message: message.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let body = br#"{"a": 1, "items": [{"n": "x"}, 7, {}], "count": "many"}"#;
        let mut fields = Fields::of_body(body).unwrap();
        fields.text("a");
        fields.text("b");
        fields.optional_integer("count");
        fields.objects("items", 1..=10, |item| item.text("n"));
        let told = fields.finish().unwrap_err().to_string();
        for name in ["a", "b", "count", "items[1]", "items[2].n"] {
            assert!(told.contains(name), "{name} in {told}");
        }
        assert!(!told.contains("items[0]"));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_and_an_empty_one_may_be_left_out() {
        for body in [&b"[]"[..], b"7", b"", b"{", b"\xff"] {
            assert!(Fields::of_body(body).is_err());
        }
        assert!(Fields::of_optional_body(b" ").unwrap().finish().is_ok());
    }
}
