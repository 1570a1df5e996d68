//! What holds for every input.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use vellum_protocol::keys::judge;
use vellum_protocol::timestamp::is_fresh;
use vellum_protocol::{
    Alias, Domain, EncryptionKey, Envelope, Handle, Json, JsonError, Manifest, ReceivedMessage, Signature,
    SigningKey, SigningSecret, Timestamp, UnixMillis, UserDocument, base64,
};

use crate::documents::{damaged, documents, objects_like, shuffled};
use crate::refusal::must_be_refused;

const YEAR_0: i64 = -62_167_219_200_000;
const YEAR_9999_END: i64 = 253_402_300_799_999;

/// Whether our reading and another's are the same values; numbers to the last bit.
fn same(ours: &Json, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(one), Value::Bool(two)) => one == two,
        (Json::String(one), Value::String(two)) => one == two,
        (Json::Number(one), Value::Number(two)) => Some(*one) == two.as_f64(),
        (Json::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Json::Object(one), Value::Object(two)) => {
            one.len() == two.len()
                && two.iter().all(|(key, two)| one.get(key).is_some_and(|one| same(one, two)))
        }
        _ => false,
    }
}

fn public_key() -> String {
    SigningSecret::from_seed([1; 32]).public().to_base64()
}

fn judge_object(json: &Json) {
    let _ = Manifest::parse(json).map(|manifest| manifest.revocation_window());
    let _ = UserDocument::parse(json);
    let _ = Envelope::parse(json);
    if let Ok(message) = ReceivedMessage::from_body(json) {
        let _ = (message.check_structure(), message.timestamp(), message.version());
        let _ = (message.sender(), message.recipient(), message.kind_text());
        let _ = message.verify(&SigningSecret::from_seed([1; 32]).public());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn documents_are_read_as_the_values_they_are(document in documents()) {
        let ours = Json::parse(document.to_string().as_bytes()).unwrap();
        prop_assert!(same(&ours, &document), "{ours:?}");
        prop_assert!(same(&ours, &Value::from(ours.clone())));
        let serialized = serde_json::to_string(&ours).unwrap();
        prop_assert_eq!(Json::parse(serialized.as_bytes()).unwrap(), ours);
    }

    #[test]
    fn canonical_form_is_stable_under_reordering_and_parsing_again(document in documents()) {
        let canonical = Json::parse(document.to_string().as_bytes()).unwrap().canonical();
        prop_assert_eq!(&Json::parse(shuffled(&document).as_bytes()).unwrap().canonical(), &canonical);
        match Json::parse(canonical.as_bytes()) {
            Ok(again) => prop_assert_eq!(again.canonical(), canonical),
            // A large double prints as an integer (1e20 as 21 digits), and such an integer is refused.
            Err(JsonError::Refused { .. }) => prop_assert!(must_be_refused(&canonical)),
            Err(error) => prop_assert!(false, "{error}: {canonical}"),
        }
    }

    #[test]
    fn a_damaged_document_is_taken_exactly_when_another_reader_takes_it_and_nothing_is_to_be_refused(
        document in documents(),
        place in any::<usize>(),
        by in prop::option::of(prop::sample::select("\"\\{}[]:,-+.eE019u= \u{a0}\t\n/".chars().collect::<Vec<_>>())),
    ) {
        let text = damaged(&document.to_string(), place, by);
        let theirs = serde_json::from_str::<Value>(&text);
        match (Json::parse(text.as_bytes()), theirs) {
            (Ok(_), Ok(_)) => prop_assert!(!must_be_refused(&text), "{text:?}"),
            (Ok(_), Err(error)) => prop_assert!(false, "taken, but {error}: {text:?}"),
            (Err(JsonError::Refused { .. }), Ok(_)) => prop_assert!(must_be_refused(&text), "{text:?}"),
            (Err(error), Ok(_)) => prop_assert!(false, "{error}: {text:?}"),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn no_parser_panics_on_any_text(text in any::<String>()) {
        let _ = Alias::parse(&text);
        let _ = Domain::parse(&text).map(|domain| (domain.port().is_ok(), domain.host().len()));
        let _ = Handle::parse(&text);
        let _ = base64::decode(&text);
        let _ = Timestamp::parse(&text);
        let _ = SigningKey::parse(&text);
        let _ = EncryptionKey::parse(&text);
        let _ = Signature::parse(&text);
        let _ = judge(text.as_bytes(), &text, &text);
        let _ = Json::parse(text.as_bytes());
    }

    #[test]
    fn no_parser_panics_on_any_bytes(bytes in vec(any::<u8>(), 0..400), key in any::<[u8; 32]>()) {
        let _ = Json::parse(&bytes);
        let signature = base64::encode(&bytes);
        let _ = judge(&bytes, &signature, &base64::encode(&key));
        if let Ok(key) = SigningKey::from_bytes(&key) {
            prop_assert_eq!(SigningKey::parse(&key.to_base64()), Ok(key));
            let _ = key.verify(&bytes, &Signature::from_bytes([7; 64]));
        }
        if let Ok(key) = EncryptionKey::from_bytes(&key) {
            prop_assert_eq!(EncryptionKey::parse(&key.to_base64()), Ok(key));
        }
    }

    #[test]
    fn names_are_kept_as_written(text in "[A-Za-z0-9_]{2,31}@{1,2}[A-Za-z0-9.-]{1,12}(:[0-9]{0,6})?") {
        if let Ok(handle) = Handle::parse(&text) {
            prop_assert_eq!(handle.as_str(), &text);
            prop_assert!(handle.domain().as_str().starts_with(handle.domain().host()));
            let _ = handle.domain().port();
            prop_assert_eq!(Handle::new(handle.alias().clone(), handle.domain().clone()), handle);
        }
    }

    #[test]
    fn almost_times_never_panic_and_keep_their_text(
        text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,24})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])?",
    ) {
        if let Ok(time) = Timestamp::parse(&text) {
            prop_assert_eq!(time.as_str(), &text);
            let again = Timestamp::at(time.instant());
            if (YEAR_0..=YEAR_9999_END).contains(&time.instant().0) {
                prop_assert_eq!(Timestamp::parse(again.as_str()).unwrap().instant(), time.instant());
            }
        }
    }

    #[test]
    fn no_document_of_any_shape_makes_a_reader_panic(document in documents()) {
        judge_object(&Json::parse(document.to_string().as_bytes()).unwrap());
    }

    #[test]
    fn no_document_that_is_almost_right_makes_a_reader_panic(
        manifest in objects_like(json!({
            "server_id": "a.example", "public_key": public_key(), "protocol_versions": [2],
            "minimum_protocol_version": 2, "capabilities": ["durable-revocation-v1"],
            "revocation_window_seconds": 60,
        })),
        user in objects_like(json!({
            "handle": "alice@a.example", "signingKey": public_key(), "encryptionKey": public_key(),
            "inbox": "https://a.example/federation/inbox", "name": "A", "picture": "p",
        })),
        message in objects_like(json!({
            "protocol_version": 2, "message_type": "FRIEND_INVITE", "message_version": 1, "type": "FRIEND_INVITE",
            "from": "alice@a.example", "to": "bob@b.example", "nonce": "n", "payload": {},
            "timestamp": "2026-11-23T10:00:00.000Z", "signature": base64::encode(&[0; 64]),
        })),
    ) {
        for document in [manifest, user, message] {
            judge_object(&Json::parse(document.to_string().as_bytes()).unwrap());
        }
    }

    #[test]
    fn base64_reads_what_it_writes(bytes in vec(any::<u8>(), 0..100)) {
        let text = base64::encode(&bytes);
        prop_assert_eq!(&base64::decode(&text).unwrap(), &bytes);
        prop_assert_eq!(&base64::decode(text.trim_end_matches('=')).unwrap(), &bytes);
    }

    #[test]
    fn times_read_as_they_are_written_and_keep_their_order(
        one in YEAR_0..=YEAR_9999_END,
        two in YEAR_0..=YEAR_9999_END,
    ) {
        let (a, b) = (Timestamp::at(UnixMillis(one)), Timestamp::at(UnixMillis(two)));
        prop_assert_eq!(Timestamp::parse(a.as_str()).unwrap().instant(), UnixMillis(one));
        prop_assert_eq!(a.as_str().cmp(b.as_str()), one.cmp(&two));
    }

    #[test]
    fn freshness_is_symmetric_and_never_overflows(at in any::<i64>(), near in -400_000_i64..400_000, far in any::<i64>()) {
        for now in [at.saturating_add(near), far] {
            let fresh = is_fresh(UnixMillis(at), UnixMillis(now));
            prop_assert_eq!(fresh, is_fresh(UnixMillis(now), UnixMillis(at)));
            prop_assert_eq!(fresh, (i128::from(at) - i128::from(now)).abs() <= 300_000);
        }
    }

    #[test]
    fn an_encryption_key_is_refused_if_and_only_if_what_is_shared_with_it_is_zero(
        mut bytes in any::<[u8; 32]>(),
        near in prop_oneof![Just(None), (0..12_u8, any::<bool>()).prop_map(Some)],
    ) {
        // Most low points are near zero or near the prime, which is all ones but for its last bits.
        if let Some((last, is_high)) = near {
            bytes = [if is_high { 0xff } else { 0 }; 32];
            bytes[0] = if is_high { 0xe8 + last } else { last };
            bytes[31] ^= if last % 2 == 0 { 0x80 } else { 0 };
        }
        let shared = x25519_dalek::x25519([1; 32], bytes);
        prop_assert_eq!(EncryptionKey::from_bytes(&bytes).is_err(), shared == [0; 32]);
    }
}

#[test]
fn the_two_points_of_order_8_are_no_encryption_keys() {
    for text in
        ["4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=", "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc="]
    {
        assert!(EncryptionKey::parse(text).is_err());
        let mut bytes: [u8; 32] = base64::decode_exact(text).unwrap();
        assert_eq!(x25519_dalek::x25519([1; 32], bytes), [0; 32]);
        bytes[31] |= 0x80;
        assert!(EncryptionKey::from_bytes(&bytes).is_err(), "the highest bit does not count");
    }
}
