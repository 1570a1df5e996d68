//! The master seed and the keys that follow from it (wire protocol, section 8). How the seed travels
//! (passkey slots, device storage, a second device) has modules of its own.

use std::fmt;

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use vellum_protocol::{EncryptionKey, SigningSecret, base64};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::binding::{METADATA_CONTEXT, PERSONAL_CONTEXT};
use crate::derivation::derive;
use crate::encryption_secret::EncryptionSecret;
use crate::sealing::SealingKey;

/// The 32 bytes from which every key of a user follows. Whoever has them is the user.
///
/// They are wiped from memory when dropped, compared in constant time, and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterSeed([u8; 32]);

/// A recovery key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recovery key is the base64 text of 32 bytes (44 characters)")]
pub struct BadRecoveryKey;

impl MasterSeed {
    /// A new seed.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut seed = Self([0; 32]);
        rng.fill_bytes(&mut seed.0);
        seed
    }

    /// Takes the 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads what the user wrote down: base64, in which white space does not count.
    ///
    /// # Errors
    /// [`BadRecoveryKey`], which does not repeat the text.
    pub fn from_recovery_key(text: &str) -> Result<Self, BadRecoveryKey> {
        base64::decode_exact(text).map(Self).map_err(|_| BadRecoveryKey)
    }

    /// What the user should write down: the base64 text of the seed.
    #[must_use]
    pub fn recovery_key(&self) -> Zeroizing<String> {
        Zeroizing::new(base64::encode(&self.0))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The Ed25519 key that signs in the user's name.
    #[must_use]
    pub fn signing_secret(&self) -> SigningSecret {
        SigningSecret::from_seed(*derive(&self.0, b"parchment-signing-v1"))
    }

    /// The X25519 key with which friends share.
    #[must_use]
    pub fn encryption_secret(&self) -> EncryptionSecret {
        EncryptionSecret::from_bytes(*derive(&self.0, b"parchment-encryption-v1"))
    }

    /// The public half of [`Self::encryption_secret`].
    #[must_use]
    pub fn encryption_key(&self) -> EncryptionKey {
        self.encryption_secret().public()
    }

    /// The key of personal blobs; see [`Binding::personal_blob`](crate::Binding::personal_blob).
    #[must_use]
    pub fn personal_key(&self) -> SealingKey {
        SealingKey::derive(&self.0, PERSONAL_CONTEXT)
    }

    /// The key of sealed profile fields; see [`Binding::user_metadata`](crate::Binding::user_metadata).
    #[must_use]
    pub fn metadata_key(&self) -> SealingKey {
        SealingKey::derive(&self.0, METADATA_CONTEXT)
    }

    /// The key of the collection with this id, at this version of the collection's key. Versions count from
    /// 1; 0 is taken for 1, as existing clients do.
    #[must_use]
    pub fn collection_key(&self, id: &str, version: u32) -> SealingKey {
        // The first version came before there were versions, so its label has none.
        let label = match version {
            0 | 1 => format!("parchment-collection-{id}"),
            later => format!("parchment-collection-{id}-v{later}"),
        };
        SealingKey::derive(&self.0, &label)
    }
}

impl PartialEq for MasterSeed {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for MasterSeed {}

impl fmt::Debug for MasterSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSeed(..)")
    }
}
