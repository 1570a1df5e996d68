//! The safety number: twelve digits that two people compare to know that no node has put its own key
//! between them (wire protocol, section 8). What a client does with a key that changed is not decided here.

use vellum_protocol::SigningKey;

use crate::derivation::derive;

/// The safety number of two people's signing keys, the same whichever comes first: twelve digits in groups
/// of three, such as `251 864 181 311`. (About 40 bits: enough against chance, little against somebody who
/// can search for a key that collides.)
#[must_use]
pub fn safety_number(one: &SigningKey, other: &SigningKey) -> String {
    let (smaller, larger) = ordered(one.as_bytes(), other.as_bytes());
    let bytes = derive(&[smaller.as_slice(), larger].concat(), b"parchment-safety-v1");
    let number = u64::from_be_bytes(*bytes) % 1_000_000_000_000;
    let groups = [1_000_000_000, 1_000_000, 1000, 1].map(|unit| format!("{:03}", number / unit % 1000));
    groups.join(" ")
}

/// Two keys in the order of their bytes, so that both sides derive from the same text.
pub(crate) fn ordered<'a>(one: &'a [u8; 32], other: &'a [u8; 32]) -> (&'a [u8; 32], &'a [u8; 32]) {
    if one <= other { (one, other) } else { (other, one) }
}
