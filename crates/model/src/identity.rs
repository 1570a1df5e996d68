//! The user's keys at their own node, what is sealed under them, and the devices that change them. A device
//! acts on what it has read, however old. The rule of this module: a version names one key and no other, and
//! keys change only where the version is still the one that the device has read. Signatures are in
//! `envelope`.

use crate::{Defect, Key};

/// The version of a user's keys.
pub type Version = u8;

/// Data, the key it is sealed under, and the version that it says it is sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sealed {
    /// What it says.
    pub version: Version,
    /// What is so.
    pub key: Key,
}

/// The user's identity in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The version of the keys.
    pub version: Version,
    /// The keys; none after a reset.
    pub key: Option<Key>,
    /// What is sealed; none after a reset.
    pub data: Option<Sealed>,
}

/// A device of the user: what it has read, or has been told, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The version that it believes in.
    pub version: Version,
    /// The key that it believes in.
    pub key: Option<Key>,
    /// Its last commit was refused since the version was another one.
    pub refused: bool,
}

impl Identity {
    pub(crate) const FIRST: Self =
        Self { version: 1, key: Some(0), data: Some(Sealed { version: 1, key: 0 }) };

    /// What a device sees that looks now.
    pub(crate) fn seen(&self) -> Device {
        Device { version: self.version, key: self.key, refused: false }
    }

    /// The compare of compare-and-swap.
    pub(crate) fn accepts(&self, device: &Device, defect: Defect) -> bool {
        device.version == self.version || defect == Defect::NoCompareAndSwap
    }

    /// The version that keys get which replace the ones that `device` has seen.
    pub(crate) fn version_after(&self, device: &Device, defect: Defect) -> Version {
        if defect == Defect::RegistrationKeepsVersion && self.data.is_none() {
            return self.version;
        }
        device.version + 1
    }

    /// The version after a reset.
    pub(crate) fn version_after_reset(&self, defect: Defect) -> Version {
        if defect == Defect::VersionRestartsAtReset { 1 } else { self.version + 1 }
    }

    /// Data that says it is sealed under the present keys, and is not.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        self.data.is_some_and(|data| data.version == self.version && self.key != Some(data.key))
    }
}
