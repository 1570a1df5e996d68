//! Every case of the vector files. A file may be swapped for a longer one of the same shape.

use serde_json::Value;
use sha2::{Digest, Sha256};
use vellum_protocol::envelope::signable_of_members;
use vellum_protocol::keys::judge;
use vellum_protocol::received::EnvelopeVersion;
use vellum_protocol::{
    Alias, EncryptionKey, Envelope, Handle, Json, JsonError, JsonObject, Judgement, KeyError, MessageError,
    ReceivedMessage, ServerRequest, Signature, SigningKey, SigningSecret, base64, legacy_signable,
};

use crate::refusal::must_be_refused;

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

/// The document, or nothing where the protocol says to refuse it; the reader must think the same.
fn read_unless_refused(document: &str) -> Option<Json> {
    match Json::parse(document.as_bytes()) {
        Ok(json) => {
            assert!(!must_be_refused(document), "{document}");
            Some(json)
        }
        Err(JsonError::Refused { .. }) if must_be_refused(document) => None,
        Err(error) => panic!("{error}: {document}"),
    }
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

#[test]
fn canonical_json_has_the_reference_text_and_hash_or_is_refused_for_a_stated_reason() {
    let cases = cases(&file("canonical-json.json"), "cases");
    let mut refused = 0;
    for case in &cases {
        if let Some(json) = read_unless_refused(text(case, "text")) {
            assert_eq!(json.canonical(), text(case, "canonical"), "{case}");
            assert_eq!(json.sha256_base64(), text(case, "sha256_base64"), "{case}");
        } else {
            refused += 1;
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
        let valid = case["valid"].as_bool().unwrap();
        let Some(body) = read_unless_refused(&case["envelope"].to_string()) else { continue };
        let message = body.as_object().unwrap();
        assert_eq!(signable_of_members(message), text(&case, "signable"));
        assert_eq!(verifies(&case, message), valid, "{case}");
        assert_eq!(a_receiver_finds_it_signed(&case, message), valid, "{case}");
        for tampered in cases(&case, "tampered") {
            let Some(value) = read_unless_refused(&tampered["value"].to_string()) else { continue };
            let mut changed = message.clone();
            changed.insert(text(&tampered, "field"), value);
            let valid = tampered["valid"].as_bool().unwrap();
            assert_eq!(verifies(&case, &changed), valid, "{tampered}");
            assert!(valid || !a_receiver_finds_it_signed(&case, &changed), "{tampered}");
        }
        // What our own types make of it is the same text, the same message and the same signature.
        if let Ok(envelope) = Envelope::parse(&body) {
            assert_eq!(envelope.content.signable(), text(&case, "signable"));
            assert_eq!(envelope.to_json().get("payload"), body.get("payload"));
            let again = envelope.content.clone().sign(&secret_of(&case));
            assert_eq!(again.signature == envelope.signature, valid);
        }
    }
}

/// Whether the signature that the message carries is the case's user's.
fn verifies(case: &Value, message: &JsonObject) -> bool {
    let signature = message.get("signature").and_then(Json::as_str).unwrap();
    let signable = signable_of_members(message);
    judge(signable.as_bytes(), signature, text(case, "signingKey")) == Judgement::Valid
}

/// Whether a receiver gets as far as the type, which it looks at last.
fn a_receiver_finds_it_signed(case: &Value, message: &JsonObject) -> bool {
    let key = SigningKey::parse(text(case, "signingKey")).unwrap();
    let Ok(received) = ReceivedMessage::from_body(&Json::Object(message.clone())) else { return false };
    matches!(received.verify(&key), Ok(_) | Err(MessageError::UnsupportedType(_)))
}

#[test]
fn texts_of_version_1_are_signed_as_in_the_vectors() {
    for case in cases(&file("envelopes.json"), "v1") {
        let Some(fields) = read_unless_refused(&case["fields"].to_string()) else { continue };
        let signable = legacy_signable(text(&case, "type"), fields.as_object().unwrap());
        assert_eq!(signable, text(&case, "signable"));
        let key = SigningKey::parse(text(&case, "signingKey")).unwrap();
        let signature = Signature::parse(text(&case, "signature")).unwrap();
        key.verify(signable.as_bytes(), &signature).unwrap();
        assert_eq!(secret_of(&case).sign(signable.as_bytes()), signature);
    }
}

/// The user's private key. The vectors give the master seed, from which clients derive it with
/// HKDF-SHA256 (wire protocol, section 8): no salt, one block of output.
fn secret_of(case: &Value) -> SigningSecret {
    let extracted = hmac(&[0; 32], &[&seed(case, "seed")]);
    let secret = SigningSecret::from_seed(hmac(&extracted, &[b"parchment-signing-v1", &[1]]));
    assert_eq!(secret.public().to_base64(), text(case, "signingKey"));
    secret
}

fn hmac(key: &[u8; 32], message: &[&[u8]]) -> [u8; 32] {
    let mut padded = [0; 64];
    padded[..32].copy_from_slice(key);
    let hash = |pad: u8, parts: &[&[u8]]| {
        let mut hash = Sha256::new();
        hash.update(padded.map(|byte| byte ^ pad));
        parts.iter().for_each(|part| hash.update(part));
        <[u8; 32]>::from(hash.finalize())
    };
    hash(0x5c, &[&hash(0x36, message)])
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
        let Some(body) = read_unless_refused(text(&case, "body_received")) else { continue };
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
