//! The nonce of an envelope and of a request (wire protocol, sections 4 and 5).

use std::ops::RangeInclusive;

use crate::base64;

/// Bytes that a nonce has. Clients and servers write 16.
const BYTES: RangeInclusive<usize> = 8..=64;
/// The longest text of a nonce: 64 bytes and some white space.
const LONGEST_TEXT: usize = 200;

/// A nonce: base64 of 8 to 64 bytes, in the one spelling of its bytes.
///
/// What is signed is the text as it was sent; this is what is remembered, so that another spelling
/// of a nonce is no other nonce.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce(String);

/// A text that is no nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Malformed nonce: not base64 of 8 to 64 bytes")]
pub struct MalformedNonce;

impl Nonce {
    /// Reads a nonce.
    ///
    /// # Errors
    /// [`MalformedNonce`] for anything but base64 of 8 to 64 bytes in at most 200 characters.
    pub fn parse(text: &str) -> Result<Self, MalformedNonce> {
        if text.len() > LONGEST_TEXT {
            return Err(MalformedNonce);
        }
        let bytes = base64::decode(text).map_err(|_| MalformedNonce)?;
        if BYTES.contains(&bytes.len()) { Ok(Self(base64::encode(&bytes))) } else { Err(MalformedNonce) }
    }

    /// The nonce in the one spelling of its bytes.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}
