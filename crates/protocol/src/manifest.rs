//! A server's manifest, `/.well-known/parchment-server` (wire protocol, section 5).

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::json::Json;
use crate::keys::{KeyError, SigningKey};
use crate::server_request::PROTOCOL_VERSION;
use crate::{Domain, HandleError};

/// Messages between servers are signed.
pub const SIGNED_SERVER_MESSAGES: &str = "signed-server-messages";
/// Transport nonces are remembered.
pub const REPLAY_PROTECTION: &str = "replay-protection";
/// Revocations are understood.
pub const REVOCATION_PROPAGATION: &str = "revocation-propagation";
/// Names may be sealed.
pub const METADATA_ENCRYPTION: &str = "metadata-encryption-v1";
/// Late revocations are taken; our extension.
pub const DURABLE_REVOCATION: &str = "durable-revocation-v1";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its id: its domain.
    pub server_id: Domain,
    /// What its requests are verified with.
    pub public_key: SigningKey,
    /// The versions it speaks; 2 is among them.
    pub protocol_versions: Vec<u32>,
    /// The oldest version it takes, if it says so.
    pub minimum_protocol_version: Option<u32>,
    /// What else it can do; unknown words are kept.
    pub capabilities: Vec<String>,
    /// How long it takes a late revocation, in seconds; counts only with `durable-revocation-v1`.
    pub revocation_window_seconds: Option<u64>,
}

/// A document that is not a usable manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A member is missing or of a wrong type.
    #[error("the manifest has no usable {0}")]
    Missing(&'static str),
    /// The id is not a domain.
    #[error("the manifest's server_id is unusable: {0}")]
    ServerId(HandleError),
    /// The key cannot be used.
    #[error("the manifest's public_key is unusable: {0}")]
    PublicKey(KeyError),
    /// It does not speak version 2.
    #[error("the server does not speak protocol version 2")]
    OtherVersions,
}

impl Manifest {
    /// The manifest of a node of this kind.
    #[must_use]
    pub fn of_this_node(server_id: Domain, public_key: SigningKey, revocation_window_seconds: u64) -> Self {
        let capabilities = [
            SIGNED_SERVER_MESSAGES,
            REPLAY_PROTECTION,
            REVOCATION_PROPAGATION,
            METADATA_ENCRYPTION,
            DURABLE_REVOCATION,
        ];
        Self {
            server_id,
            public_key,
            protocol_versions: vec![PROTOCOL_VERSION],
            minimum_protocol_version: Some(PROTOCOL_VERSION),
            capabilities: capabilities.map(str::to_owned).to_vec(),
            revocation_window_seconds: Some(revocation_window_seconds),
        }
    }

    /// Reads a manifest; what it may leave out, and what is unknown, is no obstacle.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(json: &Json) -> Result<Self, ManifestError> {
        let text = |name: &'static str| {
            json.get(name)
                .and_then(Json::as_str)
                .filter(|text| !text.is_empty())
                .ok_or(ManifestError::Missing(name))
        };
        let integer = |json: &Json| json.as_u64().and_then(|number| u32::try_from(number).ok());
        let versions = json.get("protocol_versions").and_then(Json::as_array);
        let versions = versions.ok_or(ManifestError::Missing("protocol_versions"))?;
        let protocol_versions: Vec<u32> = versions.iter().filter_map(integer).collect();
        if !protocol_versions.contains(&PROTOCOL_VERSION) {
            return Err(ManifestError::OtherVersions);
        }
        let capabilities = json.get("capabilities").and_then(Json::as_array).unwrap_or_default();
        Ok(Self {
            server_id: Domain::parse(text("server_id")?).map_err(ManifestError::ServerId)?,
            public_key: SigningKey::parse(text("public_key")?).map_err(ManifestError::PublicKey)?,
            protocol_versions,
            minimum_protocol_version: json.get("minimum_protocol_version").and_then(integer),
            capabilities: capabilities.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            revocation_window_seconds: json.get("revocation_window_seconds").and_then(Json::as_u64),
        })
    }

    /// Whether the server lists this capability.
    #[must_use]
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities.iter().any(|listed| listed == name)
    }

    /// How long the server takes a late revocation; `None` for one that takes fresh envelopes only.
    #[must_use]
    pub fn revocation_window(&self) -> Option<Duration> {
        let seconds = self.revocation_window_seconds.filter(|_| self.has_capability(DURABLE_REVOCATION))?;
        Some(Duration::from_secs(seconds))
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Manifest", 7)?;
        document.serialize_field("server_id", &self.server_id)?;
        document.serialize_field("public_key", &self.public_key)?;
        document.serialize_field("protocol_versions", &self.protocol_versions)?;
        document.serialize_field("minimum_protocol_version", &self.minimum_protocol_version)?;
        document.serialize_field("capabilities", &self.capabilities)?;
        document.serialize_field("key_transparency_anchor", &None::<()>)?;
        document.serialize_field("revocation_window_seconds", &self.revocation_window_seconds)?;
        document.end()
    }
}
