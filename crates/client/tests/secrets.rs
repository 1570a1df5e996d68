//! What follows from the seed, and that nothing prints it.

use vellum_client::{EncryptionSecret, MasterSeed, SealingKey, safety_number};
use vellum_protocol::{EncryptionKey, base64};

use crate::vectors::{bytes32, each, encryption_key, rng, sealing_key, seed, signing_key, text};

#[test]
fn every_key_follows_from_the_seed() {
    each("keys", |case| {
        let seed = seed(case, "seed");
        assert_eq!(*seed.recovery_key(), text(case, "recoveryKey"));
        assert_eq!(MasterSeed::from_recovery_key(text(case, "recoveryKey")), Ok(seed.clone()));
        assert_eq!(*seed.signing_secret().expose_seed(), bytes32(case, "signingPrivate"));
        assert_eq!(seed.signing_secret().public(), signing_key(case, "signingKey"));
        assert_eq!(*seed.encryption_secret().expose_bytes(), bytes32(case, "encryptionPrivate"));
        assert_eq!(seed.encryption_key(), encryption_key(case, "encryptionKey"));
        assert_eq!(seed.personal_key(), sealing_key(case, "personalKey"));
        assert_eq!(seed.metadata_key(), sealing_key(case, "metadataKey"));
        assert_eq!(seed.collection_key(text(case, "collectionId"), 1), sealing_key(case, "collectionKey"));
    });
}

#[test]
fn a_collection_has_a_key_per_version() {
    each("collectionKeys", |case| {
        let version = u32::try_from(case["keyVersion"].as_u64().unwrap()).unwrap();
        let key = seed(case, "seed").collection_key(text(case, "collectionId"), version);
        assert_eq!(key, sealing_key(case, "key"), "version {version}");
    });
}

#[test]
fn the_safety_number_is_the_same_from_both_sides() {
    each("safety", |case| {
        let (a, b) = (signing_key(case, "a"), signing_key(case, "b"));
        assert_eq!(safety_number(&a, &b), text(case, "number"));
        assert_eq!(safety_number(&b, &a), text(case, "reversed"));
    });
}

#[test]
fn no_shared_secret_is_made_with_a_key_of_low_order() {
    each("x25519Refused", |case| {
        assert!(EncryptionKey::parse(text(case, "publicKey")).is_err(), "{case}");
    });
}

#[test]
fn two_sides_agree() {
    let mut rng = rng(1);
    let (one, other) = (EncryptionSecret::generate(&mut rng), EncryptionSecret::generate(&mut rng));
    assert_eq!(one.agree(&other.public()).unwrap(), other.agree(&one.public()).unwrap());
    let third = EncryptionSecret::from_bytes(*one.expose_bytes());
    assert_eq!(third.public(), one.public());
}

#[test]
fn a_recovery_key_survives_being_written_down() {
    let seed = MasterSeed::generate(&mut rng(2));
    let written = format!(" {} \n {}\t", &seed.recovery_key()[..20], &seed.recovery_key()[20..]);
    assert_eq!(MasterSeed::from_recovery_key(&written), Ok(seed));
}

#[test]
fn what_is_no_recovery_key_is_refused() {
    for text in ["", "AAAA", "hello", &base64::encode(&[7; 31]), &base64::encode(&[7; 33])] {
        let error = MasterSeed::from_recovery_key(text).unwrap_err();
        assert!(text.is_empty() || !error.to_string().contains(text));
    }
}

#[test]
fn two_seeds_differ() {
    let mut rng = rng(3);
    assert_ne!(MasterSeed::generate(&mut rng), MasterSeed::generate(&mut rng));
}

#[test]
fn nothing_prints_a_secret() {
    let seed = MasterSeed::from_bytes([0xab; 32]);
    let secret = EncryptionSecret::from_bytes([0xab; 32]);
    let shown = format!("{seed:?} {:?} {secret:?}", SealingKey::from_bytes([0xab; 32]));
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
    assert!(!shown.contains(&seed.recovery_key()[..8]), "{shown}");
}
