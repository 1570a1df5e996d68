//! Collections that others have shared with the user (`/library/collections/shared-with-me`).

use serde::Deserialize;
use vellum_protocol::{Handle, KmVersion};

use super::error::ClientError;
use super::node_client::NodeClient;

/// A collection of somebody else on the node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedCollection {
    /// The collection's id.
    pub id: String,
    /// The owner's id on this node.
    pub user_id: String,
    /// The metadata, sealed under the owner's keys.
    pub metadata_encrypted: Option<String>,
    /// The version of the collection's own key.
    pub metadata_key_version: i64,
    /// The version of the owner's keys that it is sealed under.
    pub km_version: KmVersion,
    /// What the user may do with it: `viewer` or `editor`.
    pub role: String,
    /// What the owner has sealed for the user.
    pub share_envelope: ShareEnvelope,
    /// The owner.
    pub sender_handle: Handle,
    /// Whether the user has yet to confirm the owner's key.
    pub key_changed: bool,
}

/// What the owner of a collection has sealed for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareEnvelope {
    /// The ciphertext, if there is any.
    pub encrypted_data: Option<String>,
    /// Its nonce.
    pub nonce: Option<String>,
}

impl NodeClient {
    /// The collections that others on the node have shared with the user.
    ///
    /// # Errors
    /// As for every request.
    pub async fn shared_collections(&self) -> Result<Vec<SharedCollection>, ClientError> {
        self.get("/library/collections/shared-with-me").await
    }
}
