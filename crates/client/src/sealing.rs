//! Sealed data: AES-256-GCM ciphertext that opens only with its key and only in the place it was made for
//! (wire protocol, section 8). Which key belongs to what is said in [`seed`](crate::seed) and in the modules
//! that make keys of their own.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use vellum_protocol::base64;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::binding::Binding;
use crate::derivation::derive;
pub use crate::seal_error::SealError;

const VERSION: u8 = 2;
const AES_256_GCM: u8 = 1;
const HEADER_LENGTH: usize = 2;
const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;
const SHORTEST: usize = HEADER_LENGTH + NONCE_LENGTH + TAG_LENGTH;

/// Why sealed data did not open. Nothing of the plaintext is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not base64.
    #[error("sealed data is not base64")]
    NotBase64,
    /// Shorter than header, nonce and tag.
    #[error("sealed data has {0} bytes; at least {SHORTEST} are needed")]
    TooShort(usize),
    /// Another version or algorithm than 2 and 1.
    #[error("sealed data of version {version}, algorithm {algorithm} is not known")]
    UnknownFormat {
        /// The first byte.
        version: u8,
        /// The second byte.
        algorithm: u8,
    },
    /// A field of the binding is too long, so nothing can have been sealed with it.
    #[error(transparent)]
    Binding(#[from] SealError),
    /// The nonce of the older form does not have 12 bytes.
    #[error("the nonce has {0} bytes; it must have {NONCE_LENGTH}")]
    NonceLength(usize),
    /// Another key, another binding, or changed on the way: which one cannot be told.
    #[error("sealed data does not open with this key in this place")]
    Refused,
}

/// Sealed data of version 2: two bytes of header, a nonce of 12, ciphertext and tag. It has been looked at
/// from outside only; whether it opens is another matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedData(Vec<u8>);

impl SealedData {
    /// Reads the base64 text.
    ///
    /// # Errors
    /// [`OpenError`] when it is no base64, too short, or of an unknown version or algorithm.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        Self::from_bytes(base64::decode(text).map_err(|_| OpenError::NotBase64)?)
    }

    /// Takes the bytes.
    ///
    /// # Errors
    /// [`OpenError`] when they are too few, or of an unknown version or algorithm.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, OpenError> {
        if bytes.len() < SHORTEST {
            return Err(OpenError::TooShort(bytes.len()));
        }
        let (version, algorithm) = (bytes[0], bytes[1]);
        if (version, algorithm) != (VERSION, AES_256_GCM) {
            return Err(OpenError::UnknownFormat { version, algorithm });
        }
        Ok(Self(bytes))
    }

    /// The bytes, header and all.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The base64 text that goes into JSON.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode(&self.0)
    }
}

/// The older form of sealed data: no header, nothing bound. It can be read, not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnboundSealed {
    /// Base64 of ciphertext and tag.
    pub ciphertext: String,
    /// Base64 of the 12-byte nonce.
    pub nonce: String,
}

/// A key of 32 bytes that seals and opens. It is wiped from memory when dropped, compared in constant time,
/// and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// Takes the 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn derive(input: &[u8], info: &str) -> Self {
        Self(*derive(input, info.as_bytes()))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `plaintext` for the place that `binding` names, under a fresh random nonce.
    ///
    /// # Errors
    /// [`SealError`] when a field of the binding or the plaintext is too long.
    pub fn seal(
        &self,
        plaintext: &[u8],
        binding: &Binding<'_>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<SealedData, SealError> {
        let (nonce, ciphertext) = self.encrypt(plaintext, &binding.to_bytes()?, rng)?;
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + NONCE_LENGTH + ciphertext.len());
        bytes.extend_from_slice(&[VERSION, AES_256_GCM]);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&ciphertext);
        Ok(SealedData(bytes))
    }

    /// Opens what was sealed with this key for the same place.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when key or place differ or a bit was changed; [`OpenError::Binding`] when the
    /// binding cannot be one.
    pub fn open(&self, sealed: &SealedData, binding: &Binding<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let additional = binding.to_bytes()?;
        let (nonce, ciphertext) = sealed.0[HEADER_LENGTH..]
            .split_first_chunk::<NONCE_LENGTH>()
            .ok_or(OpenError::TooShort(sealed.0.len()))?;
        self.decrypt(nonce, ciphertext, &additional)
    }

    /// Opens the older form, which is bound to nothing: whoever kept it may have put it in another place.
    ///
    /// # Errors
    /// [`OpenError`] when a part is no base64, the nonce has not 12 bytes, or it does not open.
    pub fn open_unbound(&self, sealed: &UnboundSealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let ciphertext = base64::decode(&sealed.ciphertext).map_err(|_| OpenError::NotBase64)?;
        let nonce = base64::decode(&sealed.nonce).map_err(|_| OpenError::NotBase64)?;
        let nonce: &[u8; NONCE_LENGTH] =
            nonce.as_slice().try_into().map_err(|_| OpenError::NonceLength(nonce.len()))?;
        self.decrypt(nonce, &ciphertext, &[])
    }

    /// AES-256-GCM under a fresh nonce: the nonce, and the ciphertext with its tag.
    pub(crate) fn encrypt(
        &self,
        plaintext: &[u8],
        additional: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<([u8; NONCE_LENGTH], Vec<u8>), SealError> {
        let mut nonce = [0; NONCE_LENGTH];
        rng.fill_bytes(&mut nonce);
        let ciphertext = Aes256Gcm::new((&self.0).into())
            .encrypt((&nonce).into(), Payload { msg: plaintext, aad: additional })
            .map_err(|_| SealError::PlaintextTooLong)?;
        Ok((nonce, ciphertext))
    }

    fn decrypt(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        ciphertext: &[u8],
        additional: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        Aes256Gcm::new((&self.0).into())
            .decrypt(nonce.into(), Payload { msg: ciphertext, aad: additional })
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Refused)
    }
}

impl PartialEq for SealingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SealingKey {}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}
