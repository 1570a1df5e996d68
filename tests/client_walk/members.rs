//! What an answer has to hold: members by name and type. Members beyond them do no harm.

use serde_json::Value;
use vellum_protocol::{UnixMillis, base64};

/// What a member is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    TextOrNull,
    Number,
    Flag,
    /// `2026-11-23T10:00:00.000Z`
    Time,
    TimeOrNull,
    List,
    Object,
}

use Kind::{Flag, List, Number, Object, Text, TextOrNull, Time, TimeOrNull};

impl Kind {
    fn holds(self, value: &Value) -> bool {
        match self {
            Text => value.is_string(),
            TextOrNull => value.is_string() || value.is_null(),
            Number => value.is_i64(),
            Flag => value.is_boolean(),
            Time => value.as_str().is_some_and(is_time),
            TimeOrNull => value.is_null() || Time.holds(value),
            List => value.is_array(),
            Object => value.is_object(),
        }
    }
}

/// UTC with milliseconds, and nothing else that RFC 3339 allows.
fn is_time(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000Z";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(is, form)| match form {
            b'0' => is.is_ascii_digit(),
            other => is == other,
        })
}

/// Fails unless every one of these members is there and is what it should be.
#[track_caller]
pub fn expect_members(value: &Value, members: &[(&str, Kind)]) {
    for (name, kind) in members {
        match value.get(name) {
            None => panic!("expected a member {name}, seen {value}"),
            Some(member) => assert!(kind.holds(member), "expected {name} as {kind:?}, seen {member}"),
        }
    }
}

/// Fails unless the two are the same.
#[track_caller]
pub fn expect(what: &str, seen: &Value, expected: impl Into<Value>) {
    let expected = expected.into();
    assert!(*seen == expected, "expected {what} to be {expected}, seen {seen}");
}

/// A member that is a text.
#[track_caller]
pub fn text(value: &Value, name: &str) -> String {
    expect_members(value, &[(name, Text)]);
    value[name].as_str().unwrap_or_default().to_owned()
}

/// A member that is a list.
#[track_caller]
pub fn list(value: &Value, name: &str) -> Vec<Value> {
    expect_members(value, &[(name, List)]);
    value[name].as_array().cloned().unwrap_or_default()
}

/// A member that is a time, in milliseconds.
#[track_caller]
pub fn time(value: &Value, name: &str) -> UnixMillis {
    expect_members(value, &[(name, Time)]);
    vellum_protocol::Timestamp::parse(&text(value, name)).unwrap().instant()
}

/// A member that is base64 of just so many bytes, as it is written: with padding, without white space.
#[track_caller]
pub fn expect_base64(value: &Value, name: &str, bytes: usize) {
    let text = text(value, name);
    let decoded = base64::decode(&text).unwrap_or_default();
    let right = decoded.len() == bytes && base64::encode(&decoded) == text;
    assert!(right, "expected {name} as base64 of {bytes} bytes, seen {text:?}");
}
