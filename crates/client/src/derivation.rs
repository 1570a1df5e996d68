//! The one way in which secrets follow from other secrets: HKDF-SHA256 without salt (wire protocol,
//! section 8). The labels (`info`) stand with what they are for, not here.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Derives `N` bytes from `input` under the label `info`.
pub(crate) fn derive<const N: usize>(input: &[u8], info: &[u8]) -> Zeroizing<[u8; N]> {
    const {
        assert!(N <= 255 * 32, "HKDF-SHA256 gives no more than 255 blocks of 32 bytes");
    };
    let mut output = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(None, input)
        .expand(info, output.as_mut_slice())
        .expect("the length was checked when this was compiled");
    output
}
