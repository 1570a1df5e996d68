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

/// A text that is not base64, or not of the length that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64 of the right length")]
pub struct Malformed;

/// Writes bytes in the standard alphabet, with padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads base64: white space (space, tab, LF, FF, CR) is skipped, padding is whole or absent, trailing
/// bits are ignored.
///
/// # Errors
/// [`Malformed`] for anything else.
pub fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    let compact: Vec<u8> =
        text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')).collect();
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
