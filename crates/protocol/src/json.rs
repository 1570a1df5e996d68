//! JSON as the protocol understands it: parsed values, objects in canonical order, and a strict reader
//! (wire protocol, section 3). How a value is written for signing and hashing is in `canonical`.
//!
//! The reader is our own because ready-made ones guess where guessing is dangerous: they keep one of two
//! equal keys, round integers silently, or stop only when the stack does. What is refused here instead:
//! duplicate keys, integers that a double cannot hold, numbers that overflow, lone surrogates, the key
//! `__proto__`, more than 32 levels, and more than 100,000 values.

mod reader;

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Levels of nesting that are read.
const DEEPEST: usize = 32;
/// Values that a document may have. A value of two bytes takes over a hundred in memory.
pub const MOST_VALUES: usize = 100_000;

/// 2^53 − 1: up to here no two integers share a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

/// A JSON value. Numbers are doubles, as the reference implementation holds them.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(JsonObject),
}

/// A JSON object: unique keys, in the order in which they are signed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JsonObject(BTreeMap<Key, Json>);

/// A text that is not JSON, or is JSON that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("not JSON at byte {at}: {what}")]
    NotJson {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// JSON whose meaning implementations disagree about.
    #[error("JSON that is refused, at byte {at}: {what}")]
    Refused {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A key with its place in canonical order: array indices first, by number; the others by UTF-16 units.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    index: Option<u32>,
    text: String,
}

impl Key {
    fn new(text: &str) -> Self {
        Self { index: array_index(text), text: text.to_owned() }
    }
}

/// The number of a key that is an array index: canonical decimal of 0 to 4294967294.
pub(crate) fn array_index(text: &str) -> Option<u32> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if !canonical || text.is_empty() {
        return None;
    }
    text.parse().ok().filter(|index| *index != u32::MAX)
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.index, other.index) {
            (Some(one), Some(two)) => one.cmp(&two),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // Not the order of bytes or code points: surrogates sort before U+E000 to U+FFFF.
            (None, None) => self.text.encode_utf16().cmp(other.text.encode_utf16()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl JsonObject {
    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a member; gives back the value that was there.
    pub fn insert(&mut self, key: impl AsRef<str>, value: Json) -> Option<Json> {
        self.0.insert(Key::new(key.as_ref()), value)
    }

    /// The member with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(&Key::new(key))
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.0.remove(&Key::new(key))
    }

    /// The members in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.text.as_str(), value))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: AsRef<str>> FromIterator<(K, Json)> for JsonObject {
    fn from_iter<I: IntoIterator<Item = (K, Json)>>(members: I) -> Self {
        Self(members.into_iter().map(|(key, value)| (Key::new(key.as_ref()), value)).collect())
    }
}

impl Json {
    /// Reads a document.
    ///
    /// # Errors
    /// [`JsonError`], with the place.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        reader::read(text)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&JsonObject> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The array, if it is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Json]> {
        if let Self::Array(members) = self { Some(members) } else { None }
    }

    /// The member of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.get(key)
    }

    /// The number as a non-negative integer, if it is one.
    #[must_use]
    pub(crate) fn as_u64(&self) -> Option<u64> {
        exact_integer(self.as_f64()?).and_then(|integer| u64::try_from(integer).ok())
    }
}

/// Whether a document has more than [`MOST_VALUES`] values, told from its bytes before anything is
/// built. Of bytes that are not JSON the answer means nothing.
#[must_use]
pub fn has_too_many_values(text: &[u8]) -> bool {
    let (mut values, mut in_string, mut escaped, mut last) = (1, false, false, b' ');
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => in_string = true,
            // An opener stands for its first member, a comma for every further one.
            b'[' | b'{' | b',' => values += 1,
            // There was no first member.
            b']' | b'}' if matches!(last, b'[' | b'{') => values -= 1,
            _ => {}
        }
        last = byte;
        if values > MOST_VALUES + 1 {
            return true;
        }
    }
    values > MOST_VALUES
}

/// The integer that this double is, if it is one and no neighbouring integer shares the double.
pub(crate) fn exact_integer(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() <= LARGEST_EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be an exact integer")]
    exact.then_some(number as i64)
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<u32> for Json {
    fn from(number: u32) -> Self {
        Self::Number(f64::from(number))
    }
}

/// Fails for integers that a double does not hold exactly.
impl TryFrom<serde_json::Value> for Json {
    type Error = JsonError;

    fn try_from(value: serde_json::Value) -> Result<Self, JsonError> {
        // Through the text, so that the same rules hold as for what is received.
        Self::parse(value.to_string().as_bytes())
    }
}

impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => match exact_integer(number) {
                // As canonical JSON has it: `7`, not `7.0`.
                Some(integer) => Self::from(integer),
                None => Self::from(number),
            },
            Json::String(text) => Self::String(text),
            Json::Array(members) => Self::Array(members.into_iter().map(Self::from).collect()),
            Json::Object(object) => {
                Self::Object(object.0.into_iter().map(|(key, value)| (key.text, Self::from(value))).collect())
            }
        }
    }
}
