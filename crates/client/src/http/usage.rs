//! What the user stores, and how much they may (`/users/me/usage`).

use serde::Deserialize;

use super::error::ClientError;
use super::node_client::NodeClient;

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Quota {
    /// What is used.
    pub used: u64,
    /// What may be.
    pub limit: u64,
}

/// What the user stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Bytes of sealed data.
    pub bytes: Quota,
    /// Types of blobs.
    pub blobs: Quota,
    /// Collections.
    pub collections: Quota,
    /// Slots of passkeys.
    pub slots: Quota,
    /// Shares that the user has made.
    pub shares: Quota,
}

impl NodeClient {
    /// What the user stores, and how much they may.
    ///
    /// # Errors
    /// As for every request.
    pub async fn usage(&self) -> Result<Usage, ClientError> {
        self.get("/users/me/usage").await
    }
}
