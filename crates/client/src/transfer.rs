//! Moving the seed to a second device: both sides make a key for this once, show the same six digits to the
//! user, and only then does the old device send the seed (wire protocol, section 8). How the parts travel
//! (the node's `/device-transfer`) is not dealt with here.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use vellum_protocol::{EncryptionKey, Signature, SigningKey};

use crate::binding::Binding;
use crate::derivation::derive;
use crate::encryption_secret::{EncryptionSecret, NoSharedSecret};
use crate::safety::ordered;
use crate::sealing::{OpenError, SealError, SealedData, SealingKey};
use crate::seed::MasterSeed;
use crate::signed_text::signed_text;

const KEY_CONTEXT: &str = "parchment-device-transfer-v1";
const DIGITS_CONTEXT: &[u8] = b"parchment-device-sas-v1";

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The sending device does not hold the account's signing key, or speaks of other keys or another session.
    #[error("the transfer is not signed by this account")]
    BadSignature,
    /// The other device's key allows no shared secret.
    #[error(transparent)]
    NoSharedSecret(#[from] NoSharedSecret),
    /// The session's id is too long.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opens, but what is inside is no seed.
    #[error("what was transferred is not a seed")]
    NotASeed,
}

/// What the old device uploads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferUpload {
    /// The old device's key for this transfer.
    pub sender_ephemeral_pub: EncryptionKey,
    /// The sealed seed, base64.
    pub sealed_seed: String,
    /// The account's signature over both keys and the session.
    pub sender_signature: Signature,
}

/// The two keys of a transfer and the session they meet in.
#[derive(Debug, Clone, Copy)]
struct Meeting<'a> {
    session_id: &'a str,
    receiver: &'a EncryptionKey,
    sender: &'a EncryptionKey,
}

impl Meeting<'_> {
    fn digits(&self) -> String {
        let (smaller, larger) = ordered(self.receiver.as_bytes(), self.sender.as_bytes());
        let input = [smaller.as_slice(), larger, self.session_id.as_bytes()].concat();
        let number = u32::from_be_bytes(*derive(&input, DIGITS_CONTEXT)) % 1_000_000;
        format!("{number:06}")
    }

    fn signable(&self) -> String {
        signed_text(
            "device-transfer",
            [
                ("receiverEphemeralPub", &self.receiver.to_base64()),
                ("senderEphemeralPub", &self.sender.to_base64()),
                ("sessionId", self.session_id),
            ],
        )
    }

    fn keys(&self) -> String {
        format!("{}|{}", self.receiver.to_base64(), self.sender.to_base64())
    }
}

fn binding<'a>(session_id: &'a str, keys: &'a str) -> Binding<'a> {
    Binding { user_id: session_id, record_type: "device-transfer", record_id: keys, key_context: KEY_CONTEXT }
}

fn key(own: &EncryptionSecret, other: &EncryptionKey) -> Result<SealingKey, NoSharedSecret> {
    Ok(SealingKey::derive(own.agree(other)?.as_slice(), KEY_CONTEXT))
}

/// The new device's side.
#[derive(Debug)]
pub struct TransferReceiver {
    secret: EncryptionSecret,
}

impl TransferReceiver {
    /// Starts with a new key.
    #[must_use]
    pub fn begin(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::with_secret(EncryptionSecret::generate(rng))
    }

    /// Goes on with a key that was made before.
    #[must_use]
    pub fn with_secret(secret: EncryptionSecret) -> Self {
        Self { secret }
    }

    /// The key to open the session with.
    #[must_use]
    pub fn public(&self) -> EncryptionKey {
        self.secret.public()
    }

    /// The six digits to show, once the old device's key has come.
    #[must_use]
    pub fn digits(&self, session_id: &str, sender: &EncryptionKey) -> String {
        Meeting { session_id, receiver: &self.public(), sender }.digits()
    }

    /// Takes the seed out of what the old device uploaded, after its signature was verified with the
    /// account's signing key.
    ///
    /// # Errors
    /// [`TransferError`]; nothing is opened that the account has not signed.
    pub fn open(
        &self,
        session_id: &str,
        upload: &TransferUpload,
        signing_key: &SigningKey,
    ) -> Result<MasterSeed, TransferError> {
        let sender = &upload.sender_ephemeral_pub;
        let meeting = Meeting { session_id, receiver: &self.public(), sender };
        signing_key
            .verify(meeting.signable().as_bytes(), &upload.sender_signature)
            .map_err(|_| TransferError::BadSignature)?;
        let sealed = SealedData::parse(&upload.sealed_seed)?;
        let text = key(&self.secret, sender)?.open(&sealed, &binding(session_id, &meeting.keys()))?;
        let text = std::str::from_utf8(&text).map_err(|_| TransferError::NotASeed)?;
        MasterSeed::from_recovery_key(text).map_err(|_| TransferError::NotASeed)
    }
}

/// The old device's side.
#[derive(Debug)]
pub struct TransferSender {
    secret: EncryptionSecret,
    session_id: String,
    receiver: EncryptionKey,
}

impl TransferSender {
    /// Answers a session that a new device has opened, with a new key.
    #[must_use]
    pub fn begin(session_id: &str, receiver: EncryptionKey, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self { secret: EncryptionSecret::generate(rng), session_id: session_id.to_owned(), receiver }
    }

    /// This side's key.
    #[must_use]
    pub fn public(&self) -> EncryptionKey {
        self.secret.public()
    }

    /// The six digits to show. The user must see the same ones on the new device before
    /// [`Self::send`] is called: that is what keeps a node from putting itself between the two.
    #[must_use]
    pub fn digits(&self) -> String {
        let sender = &self.public();
        Meeting { session_id: &self.session_id, receiver: &self.receiver, sender }.digits()
    }

    /// Seals the seed for the new device and signs the transfer with the seed's own signing key.
    ///
    /// # Errors
    /// [`TransferError::NoSharedSecret`] or [`TransferError::Seal`].
    pub fn send(
        self,
        seed: &MasterSeed,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<TransferUpload, TransferError> {
        let sender = self.public();
        let meeting = Meeting { session_id: &self.session_id, receiver: &self.receiver, sender: &sender };
        let sealed = key(&self.secret, &self.receiver)?.seal(
            seed.recovery_key().as_bytes(),
            &binding(&self.session_id, &meeting.keys()),
            rng,
        )?;
        let sender_signature = seed.signing_secret().sign(meeting.signable().as_bytes());
        Ok(TransferUpload { sender_ephemeral_pub: sender, sealed_seed: sealed.to_base64(), sender_signature })
    }
}
