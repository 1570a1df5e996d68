//! Every case of the vector files. A file may be swapped for a longer one of the same shape.

use serde_json::Value;
use vellum_protocol::envelope::signable_of_members;
use vellum_protocol::keys::judge;
use vellum_protocol::received::EnvelopeVersion;
use vellum_protocol::{
    Alias, EncryptionKey, Envelope, Handle, Json, JsonError, JsonObject, Judgement, KeyError, MessageError,
    ReceivedMessage, ServerRequest, Signature, SigningKey, SigningSecret, base64, legacy_signable,
};

fn file(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The cases under a name; a file without any would prove nothing.
fn cases(file: &Value, name: &str) -> Vec<Value> {
    let cases = file[name].as_array().unwrap_or_else(|| panic!("a list {name}")).clone();
    assert!(!cases.is_empty(), "{name} has cases");
    cases
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("a text {name} in {case}"))
}

fn seed(case: &Value, name: &str) -> [u8; 32] {
    base64::decode_exact(text(case, name)).unwrap()
}

fn object(value: &Value) -> JsonObject {
    Json::parse(value.to_string().as_bytes()).unwrap().as_object().unwrap().clone()
}

#[test]
fn handles_and_aliases_are_what_the_vectors_say() {
    let file = file("handles.json");
    for case in cases(&file, "handles") {
        let parsed = Handle::parse(text(&case, "text")).ok();
        let parts = parsed.as_ref().map(|handle| (handle.alias().as_str(), handle.domain().folded()));
        let expected = case["parsed"].as_object().map(|parsed| {
            (parsed["alias"].as_str().unwrap(), parsed["domain"].as_str().unwrap().to_ascii_lowercase())
        });
        assert_eq!(parts, expected, "{case}");
    }
    for case in cases(&file, "aliases") {
        assert_eq!(Some(Alias::parse(text(&case, "text")).is_ok()), case["valid"].as_bool(), "{case}");
    }
}

/// Whether a document is one of those that may be refused instead of being given a canonical form: it has
/// a key twice or `__proto__`, a lone surrogate, a number that is no double, or too many levels. Judged
/// here from the text and from what the reference made of it, without the code under test.
fn may_be_refused(case: &Value) -> bool {
    let (source, canonical) = (text(case, "text"), text(case, "canonical"));
    let quoted_keys = |text: &str| text.matches("\":").count();
    let digits = |text: &str| {
        let runs = text.split(|c: char| !c.is_ascii_digit());
        runs.map(|run| run.trim_start_matches('0').len()).max().unwrap_or(0)
    };
    let surrogate = canonical.contains("\\ud") && !source.contains("\\\\ud");
    let overflow = canonical.contains("null") && !source.contains("null");
    let depth = source.matches(['[', '{']).count() > 32;
    let lost_key = quoted_keys(source) > quoted_keys(canonical);
    surrogate || overflow || depth || lost_key || digits(source) >= 16
}

#[test]
fn canonical_json_has_the_reference_text_and_hash_or_is_refused_for_a_stated_reason() {
    let file = file("canonical-json.json");
    let mut refused = 0;
    let cases = cases(&file, "cases");
    for case in &cases {
        match Json::parse(text(case, "text").as_bytes()) {
            Ok(json) => {
                assert_eq!(json.canonical(), text(case, "canonical"), "{case}");
                assert_eq!(json.sha256_base64(), text(case, "sha256_base64"), "{case}");
            }
            Err(JsonError::Refused { .. }) if may_be_refused(case) => refused += 1,
            Err(error) => panic!("{error}: {case}"),
        }
    }
    assert!(refused < cases.len() / 2, "most documents are taken");
}

#[test]
fn what_is_not_json_is_refused_and_never_repaired() {
    for case in cases(&file("canonical-json.json"), "not_json") {
        let text = case.as_str().unwrap();
        assert!(matches!(Json::parse(text.as_bytes()), Err(JsonError::NotJson { .. })), "{text:?}");
    }
}

#[test]
fn envelopes_of_version_2_sign_and_verify_as_in_the_vectors() {
    for case in cases(&file("envelopes.json"), "v2") {
        let key = SigningKey::parse(text(&case, "signingKey")).unwrap();
        let message = object(&case["envelope"]);
        let signature = Signature::parse(text(&case["envelope"], "signature")).unwrap();
        assert_eq!(signable_of_members(&message), text(&case, "signable"));
        assert_eq!(verifies(&key, &message, &signature), case["valid"].as_bool().unwrap(), "{case}");
        let received = ReceivedMessage::from_body(&Json::Object(message.clone())).unwrap();
        let known = !matches!(received.verify(&key), Err(MessageError::InvalidSignature));
        assert_eq!(known, case["valid"].as_bool().unwrap(), "{case}");
        for tampered in cases(&case, "tampered") {
            let mut changed = message.clone();
            let value = Json::parse(tampered["value"].to_string().as_bytes()).unwrap();
            changed.insert(text(&tampered, "field"), value);
            assert_eq!(
                verifies(&key, &changed, &signature),
                tampered["valid"].as_bool().unwrap(),
                "{tampered}"
            );
            let taken = ReceivedMessage::from_body(&Json::Object(changed))
                .map(|message| message.verify(&key).is_ok());
            assert_ne!(taken, Ok(true), "a receiver takes no altered message: {tampered}");
        }
        // What our own types make of it is the same text and the same message.
        if let Ok(envelope) = Envelope::parse(&Json::Object(message.clone())) {
            assert_eq!(envelope.content.signable(), text(&case, "signable"));
            assert_eq!(envelope.to_json(), Json::Object(message));
        }
    }
}

fn verifies(key: &SigningKey, message: &JsonObject, signature: &Signature) -> bool {
    key.verify(signable_of_members(message).as_bytes(), signature).is_ok()
}

#[test]
fn texts_of_version_1_are_signed_as_in_the_vectors() {
    for case in cases(&file("envelopes.json"), "v1") {
        let signable = legacy_signable(text(&case, "type"), &object(&case["fields"]));
        assert_eq!(signable, text(&case, "signable"));
        let key = SigningKey::parse(text(&case, "signingKey")).unwrap();
        let signature = Signature::parse(text(&case, "signature")).unwrap();
        key.verify(signable.as_bytes(), &signature).unwrap();
        let secret = SigningSecret::from_seed(signing_seed(&case));
        if secret.public() == key {
            assert_eq!(secret.sign(signable.as_bytes()).to_base64(), text(&case, "signature"));
        }
    }
}

/// Vectors give the master seed; where the private seed is given instead, this is it.
fn signing_seed(case: &Value) -> [u8; 32] {
    seed(case, "seed")
}

#[test]
fn a_version_1_message_whose_payload_lies_over_its_fields_is_refused_before_its_signature_is_looked_at() {
    for case in cases(&file("envelopes.json"), "v1_substitution") {
        assert_eq!(text(&case, "must"), "refuse");
        let body = Json::parse(case["message"].to_string().as_bytes()).unwrap();
        let key = SigningKey::parse(text(&case, "signingKey")).unwrap();
        let message = ReceivedMessage::from_body(&body).unwrap();
        assert_eq!(message.version(), Ok(EnvelopeVersion::One));
        assert_eq!(message.verify(&key), Err(MessageError::LegacyPayload), "{case}");
    }
}

#[test]
fn signatures_and_keys_are_judged_strictly_and_read_leniently() {
    let file = file("envelopes.json");
    let judged = |case: &Value| match judge(
        text(case, "message").as_bytes(),
        text(case, "signature"),
        text(case, "key"),
    ) {
        Judgement::Valid => "valid",
        Judgement::Invalid => "invalid",
        Judgement::Malformed => "malformed",
    };
    for case in cases(&file, "encodings") {
        assert_eq!(judged(&case), text(&case, "result"), "{case}");
    }
    for case in cases(&file, "strictness") {
        let allowed: Vec<&str> = text(&case, "strict").split("-or-").collect();
        assert!(allowed.contains(&judged(&case)), "{}: {case}", judged(&case));
    }
}

#[test]
fn server_requests_are_hashed_signed_and_verified_as_in_the_vectors() {
    for case in cases(&file("server-wrapper.json"), "cases") {
        let secret = SigningSecret::from_seed(seed(&case, "serverSeed"));
        assert_eq!(secret.public().to_base64(), text(&case, "publicKey"));
        let body = Json::parse(text(&case, "body_received").as_bytes()).unwrap();
        assert_eq!(body.canonical(), text(&case, "canonical_body"));
        assert_eq!(body.sha256_base64(), text(&case, "body_hash"));
        let headers = &case["headers"];
        let request = ServerRequest {
            method: text(&case, "method"),
            path: "/federation/inbox",
            body_hash: &body.sha256_base64(),
            nonce: text(headers, "X-Parchment-Nonce"),
            timestamp: text(headers, "X-Parchment-Timestamp"),
            peer_server_id: text(&case, "peer_server_id"),
            sender_server_id: text(headers, "X-Parchment-Server-Id"),
            protocol_version: 2,
        };
        assert_eq!(request.signable(), text(&case, "signable"));
        let signature = Signature::parse(text(headers, "X-Parchment-Server-Signature")).unwrap();
        let valid = request.verify(&secret.public(), &signature).is_ok();
        assert_eq!(valid, case["valid"].as_bool().unwrap(), "{case}");
        if valid {
            assert_eq!(request.sign(&secret), signature);
        }
    }
}

#[test]
fn encryption_keys_that_share_no_secret_are_refused() {
    for case in cases(&file("keys.json"), "x25519Refused") {
        assert_eq!(EncryptionKey::parse(text(&case, "publicKey")), Err(KeyError::LowOrder), "{case}");
    }
}
