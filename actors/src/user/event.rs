//! The audit trail of a user's identity.

use vellum_store::{AuditId, Tx, audit};

use super::Scope;
use crate::Error;

/// Words of the audit trail: what of an identity was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An alias was chosen or changed.
    AliasSet,
    /// Keys were registered.
    KeysRegistered,
    /// Keys were rotated.
    Rotated,
    /// The identity was reset.
    Reset,
    /// A slot was filled.
    SlotPut,
    /// A slot was emptied.
    SlotDeleted,
    /// A passkey was registered.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// One session was ended.
    SessionEnded,
    /// Every other session was ended.
    OtherSessionsEnded,
    /// Every session was ended.
    AllSessionsEnded,
    /// Every device wrap secret was made anew.
    WrapSecretsRotated,
    /// A device was removed, with its wrap secret.
    DeviceRemoved,
}

impl Event {
    /// The word that the database and the API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AliasSet => "alias_set",
            Self::KeysRegistered => "keys_registered",
            Self::Rotated => "rotated",
            Self::Reset => "reset",
            Self::SlotPut => "slot_put",
            Self::SlotDeleted => "slot_deleted",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::SessionEnded => "session_ended",
            Self::OtherSessionsEnded => "other_sessions_ended",
            Self::AllSessionsEnded => "all_sessions_ended",
            Self::WrapSecretsRotated => "wrap_secrets_rotated",
            Self::DeviceRemoved => "device_removed",
        }
    }
}

impl Scope {
    /// Adds a line to the user's audit trail, in the transaction of the change itself.
    pub(super) async fn audit(&self, tx: &mut Tx, event: Event) -> Result<(), Error> {
        let entry = audit::Entry {
            id: AuditId::generate(),
            at: self.now,
            event: event.as_str().to_owned(),
            session_id: self.origin.session.clone(),
            ip: self.origin.ip.clone(),
        };
        Ok(audit::append(tx, &self.user, &entry).await?)
    }
}
