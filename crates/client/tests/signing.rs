//! What a signer makes is what the protocol wants, down to the vectors' bytes.

use serde_json::{Value, json};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_client::{MasterSeed, SignedFields, Signer};
use vellum_protocol::{Envelope, EnvelopeContent, Handle, Json, JsonObject, MessageType, UnixMillis, base64};

use crate::vectors::{rng, seed, signing_key, text};

const AT: UnixMillis = UnixMillis(1_790_000_000_000);

fn alice() -> Signer {
    let handle = Handle::parse("alice@a.example").unwrap();
    Signer::new(handle, MasterSeed::from_bytes([7; 32]).signing_secret())
}

/// The envelope that a node puts together from what it knows and what the client sent.
fn put_together(
    signer: &Signer,
    to: &Handle,
    message_type: MessageType,
    payload: JsonObject,
    signed: &SignedFields,
) -> Envelope {
    let content = EnvelopeContent {
        message_type,
        message_version: signed.message_version,
        from: signer.handle().clone(),
        to: to.clone(),
        nonce: signed.nonce.clone(),
        timestamp: signed.timestamp.clone(),
        payload,
    };
    content.signed_with(signed.signature)
}

#[test]
fn a_node_can_put_every_message_together_again() {
    let (signer, mut rng) = (alice(), rng(40));
    let to = Handle::parse("Bob@b.example:8443").unwrap();
    let key = MasterSeed::from_bytes([7; 32]).signing_secret().public();
    let made = [
        (MessageType::FriendInvite, signer.invite(&to, AT, &mut rng)),
        (MessageType::FriendAccept, signer.accept(&to, AT, &mut rng)),
        (MessageType::FriendReject, signer.reject(&to, AT, &mut rng)),
        (MessageType::RelationshipRevoke, signer.revoke(&to, AT, &mut rng)),
    ];
    for (message_type, signed) in &made {
        let envelope = put_together(&signer, &to, *message_type, JsonObject::new(), signed);
        assert!(envelope.verify(&key).is_ok(), "{message_type}");
        assert_eq!(base64::decode(&signed.nonce).unwrap().len(), 16);
        assert_eq!(signed.timestamp.as_str(), "2026-09-21T14:13:20.000Z");
        for other in &made {
            let wrong = put_together(&signer, &to, other.0, JsonObject::new(), signed);
            assert_eq!(wrong.verify(&key).is_ok(), other.0 == *message_type);
        }
    }
    assert_ne!(made[0].1.nonce, made[1].1.nonce);
}

#[test]
fn a_share_is_signed_with_its_payload() {
    let (signer, mut rng) = (alice(), rng(41));
    let to = Handle::parse("bob@b.example").unwrap();
    let resource = SharedResource {
        resource_type: "collection".into(),
        resource_id: "Cf3GBR5KxlRU3".into(),
        ciphertext: SharedCiphertext { encrypted_data: "v7B/".into(), nonce: "WoyOsQE8QeFAtxhm".into() },
        role: ShareRole::Viewer,
    };
    assert_eq!(
        resource.payload().canonical(),
        r#"{"encryptedData":"v7B/","nonce":"WoyOsQE8QeFAtxhm","resourceId":"Cf3GBR5KxlRU3","resourceType":"collection","role":"viewer"}"#
    );
    let signed = signer.share(&to, &resource, AT, &mut rng);
    let key = MasterSeed::from_bytes([7; 32]).signing_secret().public();
    let envelope = put_together(&signer, &to, MessageType::ResourceShare, resource.payload(), &signed);
    assert!(envelope.verify(&key).is_ok());
    let raised = SharedResource { role: ShareRole::Editor, ..resource };
    let envelope = put_together(&signer, &to, MessageType::ResourceShare, raised.payload(), &signed);
    assert!(envelope.verify(&key).is_err());
}

#[test]
fn signed_fields_are_named_as_the_node_reads_them() {
    let to = Handle::parse("bob@b.example").unwrap();
    let signed = alice().invite(&to, AT, &mut rng(42));
    let json = serde_json::to_value(&signed).unwrap();
    assert_eq!(
        json,
        json!({
            "signature": signed.signature.to_base64(),
            "nonce": signed.nonce,
            "timestamp": "2026-09-21T14:13:20.000Z",
            "messageVersion": 1,
        })
    );
}

#[test]
fn a_signer_signs_what_the_vectors_sign() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/envelopes.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let valid = vectors["v2"].as_array().unwrap().iter().filter(|case| case["valid"] == true);
    let mut compared = 0;
    for case in valid {
        let secret = seed(case, "seed").signing_secret();
        assert_eq!(secret.public(), signing_key(case, "signingKey"));
        let mut sent = case["envelope"].clone();
        // A vector may leave these two out; that counts as these values.
        let members = sent.as_object_mut().unwrap();
        members.entry("message_version").or_insert(1.into());
        members.entry("payload").or_insert(json!({}));
        let wanted = Envelope::parse(&Json::try_from(sent.clone()).unwrap()).unwrap();
        let EnvelopeContent { message_type, from, to, payload, timestamp, .. } = wanted.content.clone();
        let signer = Signer::new(from, secret.clone());
        let made = signer.envelope(message_type, &to, payload, timestamp.instant(), &mut rng(43)).content;
        // The signer takes a nonce of its own and writes the time in its own way; with those of the vector
        // it must be the vector.
        let EnvelopeContent { nonce, message_version, .. } = wanted.content;
        let same = EnvelopeContent { nonce, message_version, timestamp, ..made };
        assert_eq!(same.signable(), text(case, "signable"));
        assert_eq!(same.sign(&secret).signature.to_base64(), text(&sent, "signature"));
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn a_signer_does_not_print_its_secret() {
    let shown = format!("{:?}", alice());
    assert!(shown.contains("alice@a.example"));
    let seed = *MasterSeed::from_bytes([7; 32]).signing_secret().expose_seed();
    assert!(!shown.contains(&format!("{:?}", &seed[..4])) && !shown.contains(&base64::encode(&seed)));
}
