//! What a RESOURCE_SHARE carries for a collection: ciphertext under a key that the two friends' long-lived
//! keys agree on (wire protocol, section 8, `friendShare`). It is the older form: the key is always the same
//! between two people and nothing is bound, so only the signature of the message around it says what it is.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use vellum_protocol::{EncryptionKey, base64};
use zeroize::Zeroizing;

use crate::encryption_secret::{EncryptionSecret, NoSharedSecret};
use crate::sealing::{OpenError, SealError, SealingKey, UnboundSealed};

/// The label of the key for collections.
pub const COLLECTION_CONTEXT: &str = "parchment-share-collection-v1";

/// Why a shared collection could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CollectionShareError {
    /// The friend's key allows no shared secret.
    #[error(transparent)]
    NoSharedSecret(#[from] NoSharedSecret),
    /// The plaintext is too long.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It does not open: other keys, or damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The two members of a RESOURCE_SHARE's payload that are ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedCiphertext {
    /// Base64 of ciphertext and tag.
    pub encrypted_data: String,
    /// Base64 of the 12-byte nonce. It has nothing to do with the nonce of the message around it.
    pub nonce: String,
}

/// The key that two friends share for this context, the same from both sides.
///
/// # Errors
/// [`NoSharedSecret`] when the keys agree on nothing.
pub fn share_key(
    own: &EncryptionSecret,
    friend: &EncryptionKey,
    context: &str,
) -> Result<SealingKey, NoSharedSecret> {
    Ok(SealingKey::derive(own.agree(friend)?.as_slice(), context))
}

/// Encrypts what is shared of a collection for a friend.
///
/// # Errors
/// [`CollectionShareError::NoSharedSecret`] or [`CollectionShareError::Seal`].
pub fn seal_collection_share(
    plaintext: &[u8],
    own: &EncryptionSecret,
    friend: &EncryptionKey,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<SharedCiphertext, CollectionShareError> {
    let (nonce, ciphertext) = share_key(own, friend, COLLECTION_CONTEXT)?.encrypt(plaintext, &[], rng)?;
    Ok(SharedCiphertext { encrypted_data: base64::encode(&ciphertext), nonce: base64::encode(&nonce) })
}

/// Reads what a friend shared of a collection.
///
/// # Errors
/// [`CollectionShareError::NoSharedSecret`] or [`CollectionShareError::Open`].
pub fn open_collection_share(
    share: &SharedCiphertext,
    own: &EncryptionSecret,
    friend: &EncryptionKey,
) -> Result<Zeroizing<Vec<u8>>, CollectionShareError> {
    let key = share_key(own, friend, COLLECTION_CONTEXT)?;
    let sealed = UnboundSealed { ciphertext: share.encrypted_data.clone(), nonce: share.nonce.clone() };
    Ok(key.open_unbound(&sealed)?)
}
