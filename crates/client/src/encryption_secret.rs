//! The private half of an X25519 key and the agreement on a shared secret (wire protocol, sections 2 and 8).
//! What is then encrypted under the shared secret, and how, is the business of the modules that use it.

use std::fmt;

use rand::CryptoRng;
use vellum_protocol::EncryptionKey;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A private X25519 key. It is wiped from memory when dropped; `Debug` shows only the public key.
#[derive(Clone)]
pub struct EncryptionSecret(StaticSecret);

/// Two keys agree on nothing: the shared secret would be all zeros, and so known to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no shared secret can be made with this public key")]
pub struct NoSharedSecret;

impl EncryptionSecret {
    /// Takes the 32 private bytes as they are; clamping happens on use.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// A new key, as for one device transfer.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(StaticSecret::random_from_rng(rng))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> EncryptionKey {
        EncryptionKey::from_bytes(PublicKey::from(&self.0).as_bytes())
            .expect("a clamped scalar is no multiple of the group's order, so its point is not of low order")
    }

    /// The 32 private bytes.
    #[must_use]
    pub fn expose_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The secret that this key and the other one's private half agree on: 32 bytes that have yet to go
    /// through HKDF.
    ///
    /// # Errors
    /// [`NoSharedSecret`] when it would be all zeros (wire protocol, section 2). [`EncryptionKey`] refuses
    /// such keys already; the result is looked at all the same, because everything hangs on it.
    pub fn agree(&self, other: &EncryptionKey) -> Result<Zeroizing<[u8; 32]>, NoSharedSecret> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*other.as_bytes()));
        if !shared.was_contributory() {
            return Err(NoSharedSecret);
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for EncryptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionSecret").field("public", &self.public()).finish_non_exhaustive()
    }
}
