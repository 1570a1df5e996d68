//! What small values show of themselves: to comparisons, to maps, to whoever prints or stores them.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::json;
use vellum_protocol::{
    Alias, EncryptionKey, Json, KmVersion, Manifest, ReceivedMessage, Signature, SigningSecret, Timestamp,
};

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn an_alias_is_found_in_any_case_and_shown_as_it_was_typed() {
    let alias = Alias::parse("Ann_B3").unwrap();
    assert_eq!((alias.folded().as_str(), alias.as_str()), ("ann_b3", "Ann_B3"));
}

#[test]
fn a_truth_value_is_told_and_nothing_else_is_taken_for_one() {
    let of = |text: &str| Json::parse(text.as_bytes()).unwrap().as_bool();
    assert_eq!((of("true"), of("false")), (Some(true), Some(false)));
    assert_eq!((of("1"), of("null"), of("\"true\"")), (None, None, None));
}

#[test]
fn two_signing_keys_are_equal_by_their_bytes_and_so_are_their_hashes() {
    let key = |seed: u8| SigningSecret::from_seed([seed; 32]).public();
    assert_eq!(key(1), key(1));
    assert_ne!(key(1), key(2));
    assert_eq!(hash(&key(1)), hash(&key(1)));
    assert_ne!(hash(&key(1)), hash(&key(2)), "equal hashes for all would make a list of every map");
}

#[test]
fn keys_and_signatures_give_back_the_bytes_that_they_were_made_of() {
    assert_eq!(EncryptionKey::from_bytes(&[9; 32]).unwrap().as_bytes(), &[9; 32]);
    let bytes: [u8; 64] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert_eq!(Signature::from_bytes(bytes).as_bytes(), &bytes);
}

#[test]
fn versions_and_times_are_printed_as_what_they_are() {
    assert_eq!(KmVersion::new(42).unwrap().to_string(), "42");
    let time = Timestamp::parse("2026-09-21T14:13:20.000Z").unwrap();
    assert_eq!(format!("{time:?}"), "2026-09-21T14:13:20.000Z");
}

#[test]
fn a_manifest_has_the_capabilities_that_it_lists_and_no_others() {
    let manifest = |capabilities: serde_json::Value| {
        let key = SigningSecret::from_seed([1; 32]).public();
        let json = json!({
            "server_id": "a.example", "public_key": key, "protocol_versions": [2], "capabilities": capabilities,
        });
        Manifest::parse(&Json::try_from(json).unwrap()).unwrap()
    };
    assert!(manifest(json!(["replay-protection"])).has_capability("replay-protection"));
    assert!(!manifest(json!(["replay-protection"])).has_capability("durable-revocation-v1"));
    assert!(!manifest(json!([])).has_capability("replay-protection"));
}

#[test]
fn a_message_has_the_payload_that_was_sent_and_an_empty_one_if_there_was_none() {
    let message = |payload: Option<serde_json::Value>| {
        let mut json = json!({
            "message_type": "RESOURCE_SHARE", "from": "ann@a.example", "to": "bob@b.example",
            "timestamp": "2026-09-21T14:13:20.000Z", "signature": "AAAA",
        });
        if let Some(payload) = payload {
            json["payload"] = payload;
        }
        ReceivedMessage::from_body(&Json::try_from(json).unwrap()).unwrap()
    };
    let sent = message(Some(json!({ "role": "editor" })));
    assert_eq!(sent.payload().get("role").and_then(Json::as_str), Some("editor"));
    assert!(message(None).payload().is_empty());
}
