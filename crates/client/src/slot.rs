//! Passkey slots: the seed sealed under what a passkey's PRF extension gives out, and signed by the user, so
//! that a node can keep it (wire protocol, section 8). The ceremony with the passkey happens elsewhere.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use vellum_protocol::{Signature, SigningKey};

use crate::binding::Binding;
use crate::sealing::{OpenError, SealError, SealedData, SealingKey};
use crate::seed::MasterSeed;
use crate::signed_text::signed_text;

pub use vellum_protocol::PRF_SALT;

/// The only way of wrapping there is.
pub const WRAP_ALGORITHM: &str = "aes-256-gcm-prf-v1";

const WRAP_CONTEXT: &str = "parchment-prf-wrap-v1";
const SHORTEST_PRF_OUTPUT: usize = 16;

/// Why a slot could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// What came out of the passkey is too short to be a PRF output.
    #[error("the PRF output has {0} bytes; at least {SHORTEST_PRF_OUTPUT} are needed")]
    PrfTooShort(usize),
    /// Another algorithm than [`WRAP_ALGORITHM`].
    #[error("the slot is wrapped in a way that is not known here")]
    UnknownAlgorithm,
    /// The slot was not made by the holder of the signing key, or not for this user.
    #[error("the slot's signature is not the user's")]
    BadSignature,
    /// A field is too long.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It does not open: another passkey, another user or credential, or damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opens, but what is inside is no seed.
    #[error("what is in the slot is not a seed")]
    NotASeed,
}

/// A slot as a node keeps it. No time is bound: a node can hand out an older slot of the same passkey again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasskeySlot {
    /// The passkey, base64url.
    pub credential_id: String,
    /// The sealed seed, base64.
    pub wrapped_km: String,
    /// How it is wrapped.
    pub wrap_algo: String,
    /// The user's signature over [`Self::signable`], base64.
    pub slot_signature: String,
}

/// The key that wraps the seed, from what the passkey gave out for [`PRF_SALT`].
///
/// # Errors
/// [`SlotError::PrfTooShort`] below 16 bytes.
pub fn wrap_key(prf_output: &[u8]) -> Result<SealingKey, SlotError> {
    if prf_output.len() < SHORTEST_PRF_OUTPUT {
        return Err(SlotError::PrfTooShort(prf_output.len()));
    }
    Ok(SealingKey::derive(prf_output, WRAP_CONTEXT))
}

impl PasskeySlot {
    /// Seals the seed for this user's passkey and signs the slot with the seed's own signing key.
    ///
    /// # Errors
    /// [`SlotError::PrfTooShort`], or [`SlotError::Seal`] when an id is longer than 65535 bytes.
    pub fn seal(
        seed: &MasterSeed,
        user_id: &str,
        credential_id: &str,
        prf_output: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, SlotError> {
        let wrapped = wrap_key(prf_output)?.seal(
            seed.recovery_key().as_bytes(),
            &binding(user_id, credential_id),
            rng,
        )?;
        let mut slot = Self {
            credential_id: credential_id.to_owned(),
            wrapped_km: wrapped.to_base64(),
            wrap_algo: WRAP_ALGORITHM.to_owned(),
            slot_signature: String::new(),
        };
        slot.slot_signature = seed.signing_secret().sign(slot.signable(user_id).as_bytes()).to_base64();
        Ok(slot)
    }

    /// The text that the slot's signature is over.
    #[must_use]
    pub fn signable(&self, user_id: &str) -> String {
        signed_text(
            "wrapped-km-slot",
            [
                ("credentialId", &self.credential_id),
                ("userId", user_id),
                ("wrapAlgo", &self.wrap_algo),
                ("wrappedKm", &self.wrapped_km),
            ],
        )
    }

    /// Opens the slot, after its signature was verified with the user's signing key.
    ///
    /// # Errors
    /// [`SlotError`]; nothing is opened that the user has not signed.
    pub fn open(
        &self,
        user_id: &str,
        prf_output: &[u8],
        signing_key: &SigningKey,
    ) -> Result<MasterSeed, SlotError> {
        let signature = Signature::parse(&self.slot_signature).map_err(|_| SlotError::BadSignature)?;
        signing_key
            .verify(self.signable(user_id).as_bytes(), &signature)
            .map_err(|_| SlotError::BadSignature)?;
        if self.wrap_algo != WRAP_ALGORITHM {
            return Err(SlotError::UnknownAlgorithm);
        }
        let sealed = SealedData::parse(&self.wrapped_km)?;
        let text = wrap_key(prf_output)?.open(&sealed, &binding(user_id, &self.credential_id))?;
        let text = std::str::from_utf8(&text).map_err(|_| SlotError::NotASeed)?;
        MasterSeed::from_recovery_key(text).map_err(|_| SlotError::NotASeed)
    }
}

fn binding<'a>(user_id: &'a str, credential_id: &'a str) -> Binding<'a> {
    Binding {
        user_id,
        record_type: "wrapped-master-key",
        record_id: credential_id,
        key_context: WRAP_CONTEXT,
    }
}
