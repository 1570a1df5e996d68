//! Base64 as the protocol reads and writes it (wire protocol, section 2): the standard alphabet, padded on
//! the way out, lenient on the way in. The URL alphabet is not read here; only WebAuthn uses it.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is all there or all missing, which `decode` checks itself; bits beyond the last byte are ignored.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an encoder writes, with or without its padding: a bit beyond the last byte is an error.
const STRICT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A text that is not base64, or not of the length that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64 of the right length")]
pub struct Malformed;

/// Writes bytes in the standard alphabet, with padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')
}

/// Base64 without its white space, for keeping. Any other text is given back as it is: what users
/// seal need not be base64. A text with spaces, and nothing else of white space, is taken for
/// base64 only if it ends with padding, so that words stay words.
#[must_use]
pub fn canonical(text: String) -> String {
    // All that existing clients send: megabytes that need not be decoded.
    if !text.bytes().any(is_white_space) {
        return text;
    }
    let compact: Vec<u8> = text.bytes().filter(|byte| !is_white_space(*byte)).collect();
    let may_be_words = !text.contains(['\t', '\n', '\x0c', '\r']) && !compact.ends_with(b"=");
    if may_be_words {
        return text;
    }
    STRICT.decode(compact).map_or(text, |bytes| encode(&bytes))
}

/// Reads base64: white space (space, tab, LF, FF, CR) is skipped, padding is whole or absent, trailing
/// bits are ignored.
///
/// # Errors
/// [`Malformed`] for anything else.
pub fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    let compact: Vec<u8> = text.bytes().filter(|byte| !is_white_space(*byte)).collect();
    let bare = compact.iter().position(|byte| *byte == b'=').unwrap_or(compact.len());
    let padding = compact.len() - bare;
    if padding > 0
        && (compact[bare..].iter().any(|byte| *byte != b'=')
            || !compact.len().is_multiple_of(4)
            || padding > 2)
    {
        return Err(Malformed);
    }
    LENIENT.decode(&compact[..bare]).map_err(|_| Malformed)
}

/// Reads base64 of exactly `N` bytes.
///
/// # Errors
/// [`Malformed`] for anything else.
pub fn decode_exact<const N: usize>(text: &str) -> Result<[u8; N], Malformed> {
    decode(text)?.try_into().map_err(|_| Malformed)
}
