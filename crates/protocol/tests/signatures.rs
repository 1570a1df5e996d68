//! What a signature covers: every bit of every signed member.

use vellum_protocol::envelope::EnvelopeContent;
use vellum_protocol::{
    Envelope, Handle, Json, JsonObject, MessageType, ReceivedMessage, ServerRequest, Signature,
    SigningSecret, Timestamp, base64,
};

fn envelope(secret: &SigningSecret) -> Envelope {
    let content = EnvelopeContent {
        message_type: MessageType::ResourceShare,
        message_version: 1,
        from: Handle::parse("alice@a.example").unwrap(),
        to: Handle::parse("bob@b.example:8443").unwrap(),
        nonce: base64::encode(&[9; 16]),
        timestamp: Timestamp::parse("2026-11-23T10:00:00.000Z").unwrap(),
        payload: JsonObject::from_iter([("resourceId", Json::from("r1")), ("n", Json::from(7))]),
    };
    content.sign(secret)
}

/// Every text that differs from this one in a single bit; where the result is no text, nobody could send it.
fn one_bit_off(text: &str) -> impl Iterator<Item = String> {
    (0..text.len() * 8).filter_map(move |bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

/// Every value whose canonical text differs from this one's in a single bit and still means something else.
fn values_one_bit_off(value: &Json) -> Vec<Json> {
    let others: Vec<Json> = match value {
        Json::String(text) => one_bit_off(text).map(Json::String).collect(),
        Json::Number(number) => (0..64)
            .map(|bit| f64::from_bits(number.to_bits() ^ (1 << bit)))
            .filter(|number| number.is_finite())
            .map(Json::Number)
            .collect(),
        other => {
            let texts = one_bit_off(&other.canonical()).collect::<Vec<_>>();
            texts.iter().filter_map(|text| Json::parse(text.as_bytes()).ok()).collect()
        }
    };
    others.into_iter().filter(|other| other != value).collect()
}

#[test]
fn a_bit_flipped_in_any_signed_member_of_an_envelope_makes_verification_fail() {
    let secret = SigningSecret::from_seed([4; 32]);
    let message = envelope(&secret).to_json().as_object().unwrap().clone();
    let taken = |message: &JsonObject| {
        let by_a_receiver = ReceivedMessage::from_body(&Json::Object(message.clone()))
            .is_ok_and(|received| received.verify(&secret.public()).is_ok());
        let as_ones_own = Envelope::parse(&Json::Object(message.clone()))
            .is_ok_and(|envelope| envelope.verify(&secret.public()).is_ok());
        by_a_receiver || as_ones_own
    };
    assert!(taken(&message));
    let signed = message.iter().filter(|(member, _)| *member != "signature");
    let mut members = 0;
    for (member, value) in signed {
        let others = values_one_bit_off(value);
        assert!(others.len() > 20, "{member} was tried in earnest");
        for other in others {
            let mut changed = message.clone();
            changed.insert(member, other);
            assert!(!taken(&changed), "{changed:?}");
        }
        members += 1;
    }
    assert_eq!(members, 8);
}

#[test]
fn a_bit_flipped_in_a_signature_makes_verification_fail() {
    let secret = SigningSecret::from_seed([3; 32]);
    let envelope = envelope(&secret);
    envelope.verify(&secret.public()).unwrap();
    for bit in 0..512 {
        let mut bytes = *envelope.signature.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let other = envelope.content.clone().signed_with(Signature::from_bytes(bytes));
        assert!(other.verify(&secret.public()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_bit_flipped_in_any_part_of_a_server_request_makes_verification_fail() {
    let secret = SigningSecret::from_seed([5; 32]);
    let good = ServerRequest {
        method: "POST",
        path: "/federation/inbox",
        body_hash: "aGFzaA==",
        nonce: "bm9uY2U=",
        timestamp: "2026-11-23T10:00:00.000Z",
        peer_server_id: "b.example",
        sender_server_id: "a.example",
        protocol_version: 2,
    };
    let signature = good.sign(&secret);
    let verifies = |request: &ServerRequest<'_>| request.verify(&secret.public(), &signature).is_ok();
    assert!(verifies(&good));
    assert!(verifies(&ServerRequest { method: "post", ..good }), "the method is signed in upper case");
    for bit in 0..32 {
        assert!(!verifies(&ServerRequest { protocol_version: 2 ^ (1 << bit), ..good }), "version, bit {bit}");
    }
    let changed = |part: usize, text: &str| match part {
        0 => verifies(&ServerRequest { method: text, ..good }),
        1 => verifies(&ServerRequest { path: text, ..good }),
        2 => verifies(&ServerRequest { body_hash: text, ..good }),
        3 => verifies(&ServerRequest { nonce: text, ..good }),
        4 => verifies(&ServerRequest { timestamp: text, ..good }),
        5 => verifies(&ServerRequest { peer_server_id: text, ..good }),
        _ => verifies(&ServerRequest { sender_server_id: text, ..good }),
    };
    let parts = [
        good.method,
        good.path,
        good.body_hash,
        good.nonce,
        good.timestamp,
        good.peer_server_id,
        good.sender_server_id,
    ];
    for (part, text) in parts.into_iter().enumerate() {
        // One bit is the case of a letter, which does not count in the method.
        for other in one_bit_off(text).filter(|other| part != 0 || !other.eq_ignore_ascii_case(text)) {
            assert!(!changed(part, &other), "{text} as {other:?}");
        }
    }
}
