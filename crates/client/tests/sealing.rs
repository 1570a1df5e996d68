//! Sealed data: the vectors, the way there and back, and that no changed bit goes unnoticed.

use proptest::prelude::*;
use vellum_client::sealing::{OpenError, SealError, UnboundSealed};
use vellum_client::{Binding, MasterSeed, SealedData, SealingKey};
use vellum_protocol::base64;

use crate::vectors::{binding, each, rng, sealing_key, seed, text};

/// Seals anew and opens what came out.
fn there_and_back(key: &SealingKey, plaintext: &[u8], binding: &Binding<'_>) {
    let sealed = key.seal(plaintext, binding, &mut rng(4)).unwrap();
    let again = SealedData::parse(&sealed.to_base64()).unwrap();
    assert_eq!(key.open(&again, binding).unwrap().as_slice(), plaintext);
}

#[test]
fn sealed_data_opens() {
    each("sealed", |case| {
        let (key, binding) = (sealing_key(case, "key"), binding(case));
        assert_eq!(base64::encode(&binding.to_bytes().unwrap()), text(case, "aadBytes"));
        let sealed = SealedData::parse(text(case, "envelope")).unwrap();
        let plaintext = text(case, "plaintext").as_bytes();
        assert_eq!(key.open(&sealed, &binding).unwrap().as_slice(), plaintext);
        there_and_back(&key, plaintext, &binding);
    });
}

#[test]
fn what_must_not_open_does_not() {
    each("sealedInvalid", |case| {
        let key = sealing_key(case, "key");
        let opened =
            SealedData::parse(text(case, "envelope")).and_then(|sealed| key.open(&sealed, &binding(case)));
        assert!(opened.is_err(), "{}", text(case, "name"));
    });
}

#[test]
fn metadata_of_a_collection_opens() {
    each("collections", |case| {
        let key = seed(case, "seed").collection_key(text(case, "collectionId"), 1);
        assert_eq!(key, sealing_key(case, "key"));
        let named = Binding::collection_metadata(text(case, "userId"), text(case, "collectionId"));
        assert_eq!(named, binding(case));
        let sealed = SealedData::parse(text(case, "envelope")).unwrap();
        let plaintext = text(case, "plaintext").as_bytes();
        assert_eq!(key.open(&sealed, &named).unwrap().as_slice(), plaintext);
        there_and_back(&key, plaintext, &named);
    });
}

#[test]
fn a_field_of_the_profile_opens() {
    each("metadata", |case| {
        let key = seed(case, "seed").metadata_key();
        let named = Binding::user_metadata(text(case, "userId"), text(case, "fieldName"));
        let sealed = SealedData::parse(text(case, "envelope")).unwrap();
        let plaintext = text(case, "plaintext").as_bytes();
        assert_eq!(key.open(&sealed, &named).unwrap().as_slice(), plaintext);
        there_and_back(&key, plaintext, &named);
    });
}

#[test]
fn the_older_form_opens_and_notices_changes() {
    // A shared collection's ciphertext has no additional data either: it is the older form by another name.
    each("friendShare", |case| {
        let key = sealing_key(case, "key");
        let mut sealed = UnboundSealed {
            ciphertext: text(case, "encryptedData").to_owned(),
            nonce: text(case, "nonce").to_owned(),
        };
        assert_eq!(key.open_unbound(&sealed).unwrap().as_slice(), text(case, "plaintext").as_bytes());
        sealed.nonce = base64::encode(&[0; 12]);
        assert_eq!(key.open_unbound(&sealed), Err(OpenError::Refused));
        sealed.nonce = base64::encode(&[0; 11]);
        assert_eq!(key.open_unbound(&sealed), Err(OpenError::NonceLength(11)));
    });
}

#[test]
fn a_binding_has_a_longest_field() {
    let longest = "x".repeat(65535);
    let too_long = format!("{longest}x");
    assert!(Binding::personal_blob("u", &longest).to_bytes().is_ok());
    let refused = Err(SealError::FieldTooLong { field: "record_id", length: 65536 });
    assert_eq!(Binding::personal_blob("u", &too_long).to_bytes(), refused);
    let key = SealingKey::from_bytes([1; 32]);
    assert!(key.seal(b"", &Binding::personal_blob(&too_long, "b"), &mut rng(5)).is_err());
}

#[test]
fn another_key_does_not_open() {
    let mut rng = rng(6);
    let binding = Binding::personal_blob("u", "b");
    let sealed = MasterSeed::generate(&mut rng).personal_key().seal(b"x", &binding, &mut rng).unwrap();
    let other = MasterSeed::generate(&mut rng);
    assert_eq!(other.personal_key().open(&sealed, &binding), Err(OpenError::Refused));
}

#[test]
fn the_same_text_is_sealed_differently_every_time() {
    let mut rng = rng(7);
    let key = SealingKey::from_bytes([1; 32]);
    let binding = Binding::personal_blob("u", "b");
    let first = key.seal(b"x", &binding, &mut rng).unwrap();
    assert_ne!(first, key.seal(b"x", &binding, &mut rng).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_opens(
        key: [u8; 32], plaintext: Vec<u8>, fields: [String; 4], random: u64
    ) {
        let [user_id, record_type, record_id, key_context] = &fields;
        let key = SealingKey::from_bytes(key);
        let binding = Binding { user_id, record_type, record_id, key_context };
        let sealed = key.seal(&plaintext, &binding, &mut rng(random)).unwrap();
        let opened = key.open(&SealedData::parse(&sealed.to_base64()).unwrap(), &binding).unwrap();
        prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
    }

    #[test]
    fn no_changed_bit_goes_unnoticed(plaintext: Vec<u8>, at: prop::sample::Index, bit in 0..8_u32) {
        let key = SealingKey::from_bytes([9; 32]);
        let binding = Binding::personal_blob("user", "search-history");
        let mut bytes = key.seal(&plaintext, &binding, &mut rng(8)).unwrap().as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let opened = SealedData::from_bytes(bytes).and_then(|sealed| key.open(&sealed, &binding));
        prop_assert!(opened.is_err());
    }

    #[test]
    fn no_changed_binding_goes_unnoticed(
        fields: [String; 4], which in 0..4_usize, at: prop::sample::Index, other: char
    ) {
        let key = SealingKey::from_bytes([9; 32]);
        let mut changed = fields.clone();
        let mut characters: Vec<char> = changed[which].chars().collect();
        if characters.is_empty() {
            characters.push(other);
        } else {
            let at = at.index(characters.len());
            prop_assume!(characters[at] != other);
            characters[at] = other;
        }
        changed[which] = characters.into_iter().collect();
        let sealed = key.seal(b"x", &of(&fields), &mut rng(9)).unwrap();
        prop_assert_eq!(key.open(&sealed, &of(&changed)), Err(OpenError::Refused));
    }

    #[test]
    fn no_moved_border_between_fields_goes_unnoticed(text in "[a-z]{2,20}", at: prop::sample::Index) {
        let key = SealingKey::from_bytes([9; 32]);
        let at = at.index(text.len() - 1);
        let parts = |at: usize| Binding {
            user_id: &text[..at], record_type: &text[at..], record_id: "", key_context: ""
        };
        let sealed = key.seal(b"x", &parts(at), &mut rng(10)).unwrap();
        prop_assert!(key.open(&sealed, &parts(at)).is_ok());
        prop_assert_eq!(key.open(&sealed, &parts(at + 1)), Err(OpenError::Refused));
    }
}

fn of(fields: &[String; 4]) -> Binding<'_> {
    let [user_id, record_type, record_id, key_context] = fields;
    Binding { user_id, record_type, record_id, key_context }
}
