//! The seed in a device's own storage: sealed under a secret that the node gives to this device only, so
//! that a stolen disk does not open and the node can end a lost device (wire protocol, section 8; HTTP:
//! `/users/me/devices/{deviceId}/wrap-secret`). Where the sealed seed is stored is up to the device.

use std::fmt;

use rand::CryptoRng;
use vellum_protocol::base64;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::binding::Binding;
use crate::sealing::{OpenError, SealError, SealedData, SealingKey};
use crate::seed::MasterSeed;

const WRAP_CONTEXT: &str = "parchment-seed-wrap-v1";

/// The 32 bytes that a node keeps for one device. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct WrapSecret([u8; 32]);

/// Why the seed could not be taken out of a device's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceWrapError {
    /// The node's secret is not base64 of 32 bytes.
    #[error("a wrap secret is the base64 text of 32 bytes")]
    BadSecret,
    /// It does not open: another secret, another device, or damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opens, but what is inside has not 32 bytes.
    #[error("what is sealed there is not a seed")]
    NotASeed,
}

impl WrapSecret {
    /// Takes the 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the base64 text that the node answers.
    ///
    /// # Errors
    /// [`DeviceWrapError::BadSecret`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, DeviceWrapError> {
        base64::decode_exact(text).map(Self).map_err(|_| DeviceWrapError::BadSecret)
    }

    /// The key that seals the seed on the device.
    #[must_use]
    pub fn wrap_key(&self) -> SealingKey {
        SealingKey::derive(&self.0, WRAP_CONTEXT)
    }

    /// Seals the seed's 32 bytes for the storage of this device.
    ///
    /// # Errors
    /// [`SealError`] when the device's id is longer than 65535 bytes.
    pub fn seal(
        &self,
        seed: &MasterSeed,
        device_id: &str,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<SealedData, SealError> {
        self.wrap_key().seal(seed.expose_bytes(), &binding(device_id), rng)
    }

    /// Takes the seed out again.
    ///
    /// # Errors
    /// [`DeviceWrapError::Open`] or [`DeviceWrapError::NotASeed`].
    pub fn open(&self, sealed: &SealedData, device_id: &str) -> Result<MasterSeed, DeviceWrapError> {
        let bytes = self.wrap_key().open(sealed, &binding(device_id))?;
        let seed = bytes.as_slice().try_into().map_err(|_| DeviceWrapError::NotASeed)?;
        Ok(MasterSeed::from_bytes(seed))
    }
}

impl fmt::Debug for WrapSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrapSecret(..)")
    }
}

// The device stands in the place of the user: the storage is its own.
fn binding(device_id: &str) -> Binding<'_> {
    Binding { user_id: device_id, record_type: "seed-wrap", record_id: "local", key_context: WRAP_CONTEXT }
}
