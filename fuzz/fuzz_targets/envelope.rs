//! The five header fields and a body, as lines, read as the inbox reads them: keys, signatures, times, message. Nothing
//! made of them may verify under a key whose owner has signed nothing; and what is read as an envelope and written again
//! is the same to its signature.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum_protocol::{
    Domain, Envelope, Json, Manifest, ReceivedMessage, ServerRequest, Signature, SigningKey, SigningSecret,
    Timestamp, UserDocument, base64,
};

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(6, |byte| *byte == b'\n');
    let mut header = || std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let (server_id, version, nonce, time, signature) = (header(), header(), header(), header(), header());
    let body = lines.next().unwrap_or_default();
    // Nobody has ever signed with it.
    let key = SigningSecret::from_seed([1; 32]).public();
    for text in [server_id, version, nonce, time, signature] {
        texts(text);
    }
    let Ok(body) = Json::parse(body) else { return };
    let (_, _) =
        (Manifest::parse(&body).map(|manifest| manifest.revocation_window()), UserDocument::parse(&body));
    if let Ok(signature) = Signature::parse(signature) {
        let request = ServerRequest {
            method: "POST",
            path: "/federation/inbox",
            body_hash: &body.sha256_base64(),
            nonce,
            timestamp: time,
            peer_server_id: "here.example",
            sender_server_id: server_id,
            protocol_version: 2,
        };
        assert!(request.verify(&key, &signature).is_err(), "nobody has signed it");
    }
    if let Ok(envelope) = Envelope::parse(&body) {
        assert!(envelope.verify(&key).is_err(), "nobody has signed it");
        let again = Envelope::parse(&envelope.to_json()).expect("what was written is read again");
        assert_eq!(again.content.signable(), envelope.content.signable());
    }
    if let Ok(message) = ReceivedMessage::from_body(&body) {
        let _ = (
            message.check_structure(),
            message.sender(),
            message.recipient(),
            message.timestamp(),
            message.version(),
        );
        assert!(message.verify(&key).is_err(), "nobody has signed it");
    }
});

/// What each text alone may be.
fn texts(text: &str) {
    if let Ok(bytes) = base64::decode(text) {
        let canonical = base64::encode(&bytes);
        assert_eq!(base64::decode(&canonical).expect("our own"), bytes);
    }
    if let Ok(time) = Timestamp::parse(text) {
        assert_eq!(time.as_str(), text, "a time is signed as it is written");
        let _ = time.instant().to_rfc3339();
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(SigningKey::parse(&key.to_base64()).expect("our own"), key);
    }
    let _ = Domain::parse(text).map(|domain| domain.port());
}
