//! What one message costs before it is on the wire and after it has arrived: canonical JSON, signatures, and the
//! wrapper that a server puts around what its users sign.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vellum_protocol::server_request::{INBOX_PATH, PROTOCOL_VERSION};
use vellum_protocol::{
    Envelope, EnvelopeContent, Handle, Json, JsonObject, MessageType, ServerRequest, SigningSecret,
    Timestamp, UnixMillis,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const NONCE: &str = "WsIvvK2mOh/1RfevNmaVKQ==";

fn content() -> EnvelopeContent {
    EnvelopeContent {
        message_type: MessageType::RelationshipRevoke,
        message_version: 1,
        from: Handle::parse("alice@home.example").unwrap(),
        to: Handle::parse("bob@away.example").unwrap(),
        nonce: NONCE.into(),
        timestamp: Timestamp::at(NOW),
        payload: JsonObject::new(),
    }
}

fn envelope() -> Envelope {
    content().sign(&SigningSecret::from_seed([1; 32]))
}

/// What a sending server does for every attempt: the body, its hash, and its own signature over both.
fn wrapper(envelope: &Envelope, timestamp: &Timestamp, secret: &SigningSecret) -> (String, String) {
    let body = envelope.to_json();
    let hash = body.sha256_base64();
    let request = ServerRequest {
        method: "POST",
        path: INBOX_PATH,
        body_hash: &hash,
        nonce: NONCE,
        timestamp: timestamp.as_str(),
        peer_server_id: "away.example",
        sender_server_id: "home.example",
        protocol_version: PROTOCOL_VERSION,
    };
    (body.canonical(), request.sign(secret).to_base64())
}

fn messages(criterion: &mut Criterion) {
    let secret = SigningSecret::from_seed([1; 32]);
    let (key, envelope, timestamp) = (secret.public(), envelope(), Timestamp::at(NOW));
    let json = envelope.to_json();
    let text = json.canonical();
    let signature = secret.sign(text.as_bytes());

    criterion.bench_function("parse the JSON of an envelope", |bencher| {
        bencher.iter(|| Json::parse(black_box(text.as_bytes())));
    });
    criterion.bench_function("write it in canonical form", |bencher| {
        bencher.iter(|| black_box(&json).canonical());
    });
    criterion.bench_function("sign a text of its length", |bencher| {
        bencher.iter(|| secret.sign(black_box(text.as_bytes())));
    });
    criterion.bench_function("verify the signature of such a text", |bencher| {
        bencher.iter(|| key.verify(black_box(text.as_bytes()), &signature));
    });
    criterion.bench_function("sign an envelope", |bencher| {
        bencher.iter_with_large_drop(|| black_box(content()).sign(&secret));
    });
    criterion.bench_function("verify an envelope", |bencher| {
        bencher.iter(|| black_box(&envelope).verify(&key));
    });
    criterion.bench_function("build the wrapper of a server", |bencher| {
        bencher.iter(|| wrapper(black_box(&envelope), &timestamp, &secret));
    });
}

criterion_group!(benches, messages);
criterion_main!(benches);
