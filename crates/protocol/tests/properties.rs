//! What holds for every input.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use vellum_protocol::envelope::EnvelopeContent;
use vellum_protocol::timestamp::is_fresh;
use vellum_protocol::{
    Alias, Domain, EncryptionKey, Envelope, Handle, Json, JsonObject, Manifest, MessageType, ReceivedMessage,
    ServerRequest, Signature, SigningKey, SigningSecret, Timestamp, UnixMillis, UserDocument, base64,
};

/// Any document that is not refused.
fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(serde_json::Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            btree_map("[0-9]{1,10}|[a-z]{0,3}|\\PC{0,4}", inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same document with the members of every object in another order and with white space.
fn shuffled(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(key, value)| {
                    format!(" {} :\n{}", serde_json::Value::from(key.as_str()), shuffled(value))
                })
                .collect();
            format!("{{{}\t}}", members.join(" ,"))
        }
        serde_json::Value::Array(members) => {
            format!("[ {} ]", members.iter().map(shuffled).collect::<Vec<_>>().join(" , "))
        }
        other => other.to_string(),
    }
}

fn content() -> EnvelopeContent {
    EnvelopeContent {
        message_type: MessageType::ResourceShare,
        message_version: 1,
        from: Handle::parse("alice@a.example").unwrap(),
        to: Handle::parse("bob@b.example:8443").unwrap(),
        nonce: base64::encode(&[9; 16]),
        timestamp: Timestamp::parse("2026-11-23T10:00:00.000Z").unwrap(),
        payload: JsonObject::from_iter([("resourceId", Json::from("r1")), ("n", Json::from(7))]),
    }
}

#[test]
fn every_bit_flipped_in_a_signed_text_or_signature_makes_verification_fail() {
    let secret = SigningSecret::from_seed([3; 32]);
    let (key, envelope) = (secret.public(), content().sign(&secret));
    let signed = envelope.content.signable();
    key.verify(signed.as_bytes(), &envelope.signature).unwrap();
    for bit in 0..signed.len() * 8 {
        let mut bytes = signed.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(key.verify(&bytes, &envelope.signature).is_err(), "bit {bit} of the text");
    }
    for bit in 0..512 {
        let mut bytes = *envelope.signature.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(
            key.verify(signed.as_bytes(), &Signature::from_bytes(bytes)).is_err(),
            "bit {bit} of the signature"
        );
    }
}

/// Flips one bit of one member of a message, where the result is still text.
fn with_flipped_bit(message: &JsonObject, member: &str, bit: usize) -> Option<JsonObject> {
    let mut bytes = message.get(member)?.as_str()?.as_bytes().to_vec();
    let place = bit / 8 % bytes.len();
    bytes[place] ^= 1 << (bit % 8);
    let mut changed = message.clone();
    changed.insert(member, Json::String(String::from_utf8(bytes).ok()?));
    Some(changed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn canonical_form_is_stable_under_reordering_and_parsing_again(document in documents()) {
        let read = Json::parse(document.to_string().as_bytes());
        prop_assume!(read.is_ok());
        let canonical = read.unwrap().canonical();
        prop_assert_eq!(&Json::parse(shuffled(&document).as_bytes()).unwrap().canonical(), &canonical);
        // Printed integers beyond 2^53 read as refused; anything else reads as itself.
        if let Ok(again) = Json::parse(canonical.as_bytes()) {
            prop_assert_eq!(again.canonical(), canonical);
        }
    }

    #[test]
    fn canonical_text_is_json_with_the_same_values(document in documents()) {
        let Ok(read) = Json::parse(document.to_string().as_bytes()) else { return Ok(()) };
        let other: serde_json::Value = serde_json::from_str(&read.canonical()).unwrap();
        prop_assert_eq!(shape(&other), shape(&document));
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
    }

    #[test]
    fn no_parser_panics_on_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Json::parse(&bytes);
    }

    #[test]
    fn nearly_json_never_panics_and_never_means_two_things(text in "[\\[\\]{}\":,0-9eE.+\\-\\\\udtrufalsn ]{0,60}") {
        let ours = Json::parse(text.as_bytes());
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
        if let (Ok(_), Err(error)) = (&ours, &theirs) {
            prop_assert!(false, "we took {text:?}, which another reader refuses: {error}");
        }
    }

    #[test]
    fn documents_of_any_shape_are_judged_and_never_panic(document in documents()) {
        if let Ok(json) = Json::parse(document.to_string().as_bytes()) {
            let _ = Manifest::parse(&json);
            let _ = UserDocument::parse(&json);
            let _ = Envelope::parse(&json);
            if let Ok(message) = ReceivedMessage::from_body(&json) {
                let _ = (message.check_structure(), message.timestamp(), message.version());
                let _ = message.verify(&SigningSecret::from_seed([1; 32]).public());
            }
        }
    }

    #[test]
    fn base64_reads_what_it_writes(bytes in vec(any::<u8>(), 0..100)) {
        let text = base64::encode(&bytes);
        prop_assert_eq!(&base64::decode(&text).unwrap(), &bytes);
        prop_assert_eq!(&base64::decode(text.trim_end_matches('=')).unwrap(), &bytes);
    }

    #[test]
    fn times_read_as_they_are_written_and_keep_their_order(one in 0_i64..253_402_300_799_999, two in 0_i64..253_402_300_799_999) {
        let (a, b) = (Timestamp::at(UnixMillis(one)), Timestamp::at(UnixMillis(two)));
        prop_assert_eq!(Timestamp::parse(a.as_str()).unwrap().instant(), UnixMillis(one));
        prop_assert_eq!(a.as_str().cmp(b.as_str()), one.cmp(&two));
    }

    #[test]
    fn freshness_is_symmetric_and_never_overflows(at in any::<i64>(), now in any::<i64>()) {
        let fresh = is_fresh(UnixMillis(at), UnixMillis(now));
        prop_assert_eq!(fresh, is_fresh(UnixMillis(now), UnixMillis(at)));
        prop_assert_eq!(fresh, (i128::from(at) - i128::from(now)).abs() <= 300_000);
    }

    #[test]
    fn a_bit_flipped_in_any_member_of_a_message_makes_a_receiver_refuse_it(
        member in prop::sample::select(vec!["message_type", "from", "to", "nonce", "timestamp", "signature"]),
        bit in 0_usize..2000,
    ) {
        let secret = SigningSecret::from_seed([4; 32]);
        let message = content().sign(&secret).to_json().as_object().unwrap().clone();
        let Some(changed) = with_flipped_bit(&message, member, bit) else { return Ok(()) };
        // Base64 ignores white space and trailing bits: a text that reads as the same bytes is the same.
        let same = |text: &JsonObject| text.get("signature").and_then(Json::as_str).and_then(|text| base64::decode(text).ok());
        prop_assume!(member != "signature" || same(&changed) != same(&message));
        let received = ReceivedMessage::from_body(&Json::Object(changed)).unwrap();
        prop_assert!(received.verify(&secret.public()).is_err());
    }

    #[test]
    fn a_server_signature_covers_every_part_of_the_request(part in 0_usize..7, bit in 0_usize..400) {
        let secret = SigningSecret::from_seed([5; 32]);
        let parts = ["POST", "/federation/inbox", "aGFzaA==", "bm9uY2U=", "2026-11-23T10:00:00.000Z", "b.example", "a.example"];
        let request = |parts: &[String; 7]| {
            let [method, path, body_hash, nonce, timestamp, peer, sender] = parts;
            ServerRequest {
                method, path, body_hash, nonce, timestamp, peer_server_id: peer, sender_server_id: sender, protocol_version: 2,
            }.signable()
        };
        let good = parts.map(str::to_owned);
        let signature = secret.sign(request(&good).as_bytes());
        let mut bytes = good[part].clone().into_bytes();
        let place = bit / 8 % bytes.len();
        bytes[place] ^= 1 << (bit % 8);
        let mut changed = good.clone();
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        // The method is signed in upper case, whatever it was.
        prop_assume!(!text.eq_ignore_ascii_case(&good[part]) || part != 0);
        changed[part] = text;
        prop_assert!(secret.public().verify(request(&changed).as_bytes(), &signature).is_err());
    }
}

/// What is left of a document when numbers are reduced to their being numbers: printing may not change it.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(_) => serde_json::Value::from("a number"),
        serde_json::Value::Array(members) => members.iter().map(shape).collect(),
        serde_json::Value::Object(members) => serde_json::Value::Object(
            members.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        ),
        other => other.clone(),
    }
}
