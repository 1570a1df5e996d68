//! Keys and signatures (wire protocol, section 2).
//!
//! Verification is *strict*: keys and nonces of small order, non-canonical encodings and unreduced scalars
//! are refused. Other implementations follow the more lenient ZIP-215 rules, under which a small-order key
//! "signs" every message. Honest keys and signatures pass both, so nobody honest is shut out, and nobody
//! can register a key that makes every signature valid.

use std::fmt;

use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::base64::{self, Malformed};

/// Why a text or bytes are not a usable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64 of 32 bytes.
    #[error("not base64 of 32 bytes")]
    Malformed,
    /// Not the canonical encoding of a point of the curve.
    #[error("not a point of the curve")]
    NotAPoint,
    /// A point of small order: signatures with it prove nothing, secrets shared with it are none.
    #[error("a point of low order")]
    LowOrder,
}

/// The signature is well formed and does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct InvalidSignature;

/// A text that is not base64 of 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64 of 64 bytes")]
pub struct MalformedSignature;

/// A public Ed25519 key: what a user's or a server's signatures are verified with.
#[derive(Clone, Copy)]
pub struct SigningKey {
    bytes: [u8; 32],
    /// The point, if it was worked out already.
    point: Option<VerifyingKey>,
}

/// A public X25519 key: what is sealed for a user with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncryptionKey([u8; 32]);

/// An Ed25519 signature. Whether it is a valid one only verifying tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// A private Ed25519 key. Zeroized when dropped, never shown.
#[derive(Clone)]
pub struct SigningSecret(ed25519_dalek::SigningKey);

/// 2^255 − 19 in little-endian bytes: a coordinate must be below.
const FIELD_PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// Whether the coordinate, without the sign bit, is below the field's prime: there is one such encoding.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let mut coordinate = *bytes;
    coordinate[31] &= 0x7f;
    coordinate.iter().rev().lt(FIELD_PRIME.iter().rev())
}

/// The point of an Ed25519 key, if signatures with it prove anything.
fn usable_point(bytes: &[u8; 32]) -> Result<VerifyingKey, KeyError> {
    if !is_canonical(bytes) {
        return Err(KeyError::NotAPoint);
    }
    let point = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
    if point.is_weak() { Err(KeyError::LowOrder) } else { Ok(point) }
}

/// The coordinates of X25519's points of low order, in every encoding of 255 bits: 0, 1, two of order 8, −1, and 0 and 1 with
/// the prime added. Scalars are clamped to multiples of 8, so with these, and only with these, every shared secret is zero.
/// Looking here takes nanoseconds where the multiplication that would show it takes as long as verifying a signature.
#[rustfmt::skip]
const LOW_ORDER: [[u8; 32]; 7] = [
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
    [0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
    [0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00],
    [0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57],
    [0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    [0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    [0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

impl SigningKey {
    /// Reads a key from base64.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&base64::decode_exact(text).map_err(|Malformed| KeyError::Malformed)?)
    }

    /// Takes a key's 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] or [`KeyError::LowOrder`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        usable_point(bytes).map(Self::of)
    }

    /// Reads a key that was checked before, such as one in the node's own database. Only its form
    /// is looked at: working out the point takes longer than reading it from there. The check is
    /// made when it is to verify something; an unusable key verifies nothing.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse_checked(text: &str) -> Result<Self, KeyError> {
        let bytes = base64::decode_exact(text).map_err(|Malformed| KeyError::Malformed)?;
        Ok(Self { bytes, point: None })
    }

    fn of(point: VerifyingKey) -> Self {
        Self { bytes: point.to_bytes(), point: Some(point) }
    }

    /// The key as it travels.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode(self.as_bytes())
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Verifies strictly.
    ///
    /// # Errors
    /// [`InvalidSignature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), InvalidSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        let point = self.point.map_or_else(|| usable_point(&self.bytes), Ok);
        let point = point.map_err(|_| InvalidSignature)?;
        point.verify_strict(message, &signature).map_err(|_| InvalidSignature)
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SigningKey {}

impl std::hash::Hash for SigningKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl EncryptionKey {
    /// Reads a key from base64.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&base64::decode_exact(text).map_err(|Malformed| KeyError::Malformed)?)
    }

    /// Takes a key's 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::LowOrder`] when every secret shared with it is zero.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        // The highest bit is no part of the coordinate (RFC 7748, section 5).
        let mut coordinate = *bytes;
        coordinate[31] &= 0x7f;
        if LOW_ORDER.contains(&coordinate) { Err(KeyError::LowOrder) } else { Ok(Self(*bytes)) }
    }

    /// The key as it travels.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode(&self.0)
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Signature {
    /// Reads a signature from base64.
    ///
    /// # Errors
    /// [`MalformedSignature`].
    pub fn parse(text: &str) -> Result<Self, MalformedSignature> {
        base64::decode_exact(text).map(Self).map_err(|Malformed| MalformedSignature)
    }

    /// Takes a signature's 64 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The signature as it travels.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode(&self.0)
    }

    /// The signature's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl SigningSecret {
    /// Takes the 32-byte private seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> SigningKey {
        SigningKey::of(self.0.verifying_key())
    }

    /// Signs: no prehash, no context (wire protocol, section 2).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The seed, for keeping it in a file. It is wiped from memory when the value goes.
    #[must_use]
    pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

/// How texts that claim to be a signature and a key are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The signature verifies.
    Valid,
    /// Both are well formed, and the signature does not verify.
    Invalid,
    /// One of them is not base64 of the right length.
    Malformed,
}

/// Judges a signature over a message. A key that is not on the curve, or weak, makes it *invalid*, not
/// *malformed* (wire protocol, section 2).
#[must_use]
pub fn judge(message: &[u8], signature: &str, key: &str) -> Judgement {
    let Ok(signature) = Signature::parse(signature) else {
        return Judgement::Malformed;
    };
    match SigningKey::parse(key) {
        Err(KeyError::Malformed) => Judgement::Malformed,
        Err(KeyError::NotAPoint | KeyError::LowOrder) => Judgement::Invalid,
        Ok(key) if key.verify(message, &signature).is_ok() => Judgement::Valid,
        Ok(_) => Judgement::Invalid,
    }
}

macro_rules! base64_type {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_base64())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_base64())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

base64_type!(SigningKey);
base64_type!(EncryptionKey);
base64_type!(Signature);

/// Which generation of a user's keys data is sealed under: 1, and one more with every rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct KmVersion(i64);

impl KmVersion {
    /// The version of a new identity.
    pub const FIRST: Self = Self(1);

    /// A version; `None` below 1.
    #[must_use]
    pub fn new(version: i64) -> Option<Self> {
        (version >= 1).then_some(Self(version))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for KmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for KmVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("a version is 1 or more"))
    }
}
