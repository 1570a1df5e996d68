//! Whatever arrives, reading it ends in an answer or an error, never in a panic.

use proptest::prelude::*;
use vellum_client::friend_share::{FriendBinding, open_from_friend};
use vellum_client::sealing::UnboundSealed;
use vellum_client::slot::PasskeySlot;
use vellum_client::{Binding, MasterSeed, SealedData, SealingKey, SessionToken};
use vellum_protocol::base64;

/// Texts of every kind: noise, base64 of noise, and base64 that begins as sealed data does.
fn arrivals() -> impl Strategy<Value = String> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        any::<String>(),
        noise.clone().prop_map(|bytes| base64::encode(&bytes)),
        noise.prop_map(|bytes| base64::encode(&[&[2, 1], bytes.as_slice()].concat())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sealed_data(text in arrivals(), other in arrivals()) {
        let key = SealingKey::from_bytes([1; 32]);
        if let Ok(sealed) = SealedData::parse(&text) {
            prop_assert!(key.open(&sealed, &Binding::personal_blob("u", "b")).is_err());
            prop_assert_eq!(SealedData::parse(&sealed.to_base64()), Ok(sealed));
        }
        let unbound = UnboundSealed { ciphertext: text, nonce: other };
        prop_assert!(key.open_unbound(&unbound).is_err());
    }

    #[test]
    fn messages_from_friends(text in arrivals()) {
        let seed = MasterSeed::from_bytes([1; 32]);
        let binding = FriendBinding {
            sender: "a".into(), recipient: "b".into(), relationship_id: "c".into(), timestamp: "d".into()
        };
        let key = seed.signing_secret().public();
        prop_assert!(open_from_friend(&text, &key, &seed.encryption_secret(), &binding).is_err());
    }

    #[test]
    fn slots(wrapped_km in arrivals(), slot_signature in arrivals()) {
        let seed = MasterSeed::from_bytes([1; 32]);
        let key = seed.signing_secret().public();
        let slot = PasskeySlot {
            credential_id: "c".into(), wrapped_km, wrap_algo: "aes-256-gcm-prf-v1".into(), slot_signature
        };
        prop_assert!(slot.open("u", &[1; 32], &key).is_err());
        // Signed noise gets past the signature; what is inside is read then.
        let slot_signature = seed.signing_secret().sign(slot.signable("u").as_bytes()).to_base64();
        let slot = PasskeySlot { slot_signature, ..slot };
        prop_assert!(slot.open("u", &[1; 32], &key).is_err());
    }

    #[test]
    fn recovery_keys_and_tokens(text: String) {
        let _ = MasterSeed::from_recovery_key(&text);
        if let Ok(token) = SessionToken::new(text.clone()) {
            prop_assert_eq!(token.expose(), text.as_str());
        }
    }
}
