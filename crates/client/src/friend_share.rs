//! A message that one friend alone can read: sealed to the friend's encryption key under a key that is used
//! once, and signed by the sender (wire protocol, section 8, "Share to a friend"). The older form that
//! collections travel in is in [`collection_share`](crate::collection_share).

use rand::CryptoRng;
use vellum_protocol::{EncryptionKey, Handle, Signature, SigningKey, SigningSecret, base64};

use crate::binding::Binding;
use crate::encryption_secret::{EncryptionSecret, NoSharedSecret};
use crate::sealing::{OpenError, SealError, SealedData, SealingKey};

const KEY_CONTEXT: &str = "parchment-ecies-v1";
const KEY_LENGTH: usize = 32;
const SIGNATURE_LENGTH: usize = 64;

/// Why a message to a friend could not be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FriendShareError {
    /// Not base64, or too short for a key, sealed data and a signature.
    #[error("this is not a message to a friend")]
    Malformed,
    /// The sender has not signed these bytes.
    #[error("the message is not signed by this sender")]
    BadSignature,
    /// The key that came with it, or the friend's, allows no shared secret.
    #[error(transparent)]
    NoSharedSecret(#[from] NoSharedSecret),
    /// A handle or the time is too long to be bound.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It does not open: another recipient, another relationship or time, or damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What such a message is bound to: it opens only for the same two people and the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FriendBinding {
    /// The sender's handle, as written.
    pub sender: String,
    /// The recipient's handle, as written.
    pub recipient: String,
    /// The relationship; see [`relationship_id`].
    pub relationship_id: String,
    /// The time as RFC 3339 text, bound as written. For a location it is the message's `nonce`.
    pub timestamp: String,
}

impl FriendBinding {
    /// The binding of a message between these two at this time.
    #[must_use]
    pub fn new(sender: &Handle, recipient: &Handle, timestamp: &str) -> Self {
        Self {
            sender: sender.as_str().to_owned(),
            recipient: recipient.as_str().to_owned(),
            relationship_id: relationship_id(sender, recipient),
            timestamp: timestamp.to_owned(),
        }
    }

    fn key_context(&self) -> String {
        format!("{KEY_CONTEXT}|from={}|to={}|ts={}", self.sender, self.recipient, self.timestamp)
    }

    fn sealed_binding<'a>(&'a self, key_context: &'a str) -> Binding<'a> {
        Binding {
            user_id: &self.recipient,
            record_type: "friend-share-v2",
            record_id: &self.relationship_id,
            key_context,
        }
    }
}

/// The id of a relationship, the same from both sides: the two handles, in order, joined by `::`.
#[must_use]
pub fn relationship_id(one: &Handle, other: &Handle) -> String {
    // The protocol orders by UTF-16 code units. Handles are ASCII, where bytes give the same order.
    let (first, second) = if one.as_str() <= other.as_str() { (one, other) } else { (other, one) };
    format!("{first}::{second}")
}

/// Makes a message that only `recipient` can read and that shows to be from `sender`: the base64 of a
/// one-time public key, the sealed data, and the signature over both.
///
/// # Errors
/// [`FriendShareError::Seal`] when a part of the binding is too long.
pub fn seal_for_friend(
    plaintext: &[u8],
    sender: &SigningSecret,
    recipient: &EncryptionKey,
    binding: &FriendBinding,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<String, FriendShareError> {
    let one_time = EncryptionSecret::generate(rng);
    let key = SealingKey::derive(one_time.agree(recipient)?.as_slice(), KEY_CONTEXT);
    let sealed = key.seal(plaintext, &binding.sealed_binding(&binding.key_context()), rng)?;
    let mut bytes = one_time.public().as_bytes().to_vec();
    bytes.extend_from_slice(sealed.as_bytes());
    let signature = sender.sign(&bytes);
    bytes.extend_from_slice(signature.as_bytes());
    Ok(base64::encode(&bytes))
}

/// Reads such a message. The signature is verified first, over the bytes.
///
/// # Errors
/// [`FriendShareError`]; nothing is opened that the sender has not signed.
pub fn open_from_friend(
    message: &str,
    sender: &SigningKey,
    recipient: &EncryptionSecret,
    binding: &FriendBinding,
) -> Result<zeroize::Zeroizing<Vec<u8>>, FriendShareError> {
    let bytes = base64::decode(message).map_err(|_| FriendShareError::Malformed)?;
    let (signed, signature) =
        bytes.split_last_chunk::<SIGNATURE_LENGTH>().ok_or(FriendShareError::Malformed)?;
    let (one_time, sealed) = signed.split_first_chunk::<KEY_LENGTH>().ok_or(FriendShareError::Malformed)?;
    sender.verify(signed, &Signature::from_bytes(*signature)).map_err(|_| FriendShareError::BadSignature)?;
    let one_time = EncryptionKey::from_bytes(one_time).map_err(|_| NoSharedSecret)?;
    let sealed = SealedData::from_bytes(sealed.to_vec())?;
    let key = SealingKey::derive(recipient.agree(&one_time)?.as_slice(), KEY_CONTEXT);
    Ok(key.open(&sealed, &binding.sealed_binding(&binding.key_context()))?)
}
