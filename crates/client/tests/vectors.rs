//! Reading the vectors, and the random numbers of the tests.

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use vellum_client::{Binding, MasterSeed, SealingKey};
use vellum_protocol::{EncryptionKey, SigningKey, base64};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/keys.json");

/// Random numbers that are the same on every run.
pub fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// The vectors of keys.
pub fn keys() -> Value {
    serde_json::from_slice(&std::fs::read(KEYS).unwrap()).unwrap()
}

/// Runs `check` on every case of one list of the vectors of keys. An empty list is an error: a test that
/// looks at nothing proves nothing.
pub fn each(list: &str, mut check: impl FnMut(&Value)) {
    let vectors = keys();
    let cases = vectors[list].as_array().unwrap_or_else(|| panic!("there is no list {list}"));
    assert!(!cases.is_empty(), "the list {list} is empty");
    for case in cases {
        check(case);
    }
}

/// A member that is text.
pub fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {case}"))
}

/// A member that is 32 bytes in base64.
pub fn bytes32(case: &Value, name: &str) -> [u8; 32] {
    base64::decode_exact(text(case, name)).unwrap_or_else(|_| panic!("{name} is not 32 bytes in {case}"))
}

/// A member that is a seed.
pub fn seed(case: &Value, name: &str) -> MasterSeed {
    MasterSeed::from_bytes(bytes32(case, name))
}

/// A member that is a sealing key.
pub fn sealing_key(case: &Value, name: &str) -> SealingKey {
    SealingKey::from_bytes(bytes32(case, name))
}

/// A member that is a public signing key.
pub fn signing_key(case: &Value, name: &str) -> SigningKey {
    SigningKey::parse(text(case, name)).unwrap()
}

/// A member that is a public encryption key.
pub fn encryption_key(case: &Value, name: &str) -> EncryptionKey {
    EncryptionKey::parse(text(case, name)).unwrap()
}

/// The member `aad`.
pub fn binding(case: &Value) -> Binding<'_> {
    let aad = &case["aad"];
    Binding {
        user_id: text(aad, "userId"),
        record_type: text(aad, "recordType"),
        record_id: text(aad, "recordId"),
        key_context: text(aad, "keyContext"),
    }
}

/// Whether a case must succeed; one that does not say must.
pub fn is_valid(case: &Value) -> bool {
    case["valid"].as_bool().unwrap_or(true)
}
