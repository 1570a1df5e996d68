//! What a node tells everybody: its manifest, its users' public keys, and whether it is well. No session is
//! needed.

use reqwest::Method;
use vellum_protocol::{Alias, Manifest, UserDocument};

use super::error::ClientError;
use super::node_client::NodeClient;
use super::path::segment;

impl NodeClient {
    /// The node's manifest (wire protocol, section 5).
    ///
    /// # Errors
    /// [`ClientError::UnexpectedAnswer`] for a manifest that cannot be used; otherwise as for every request.
    pub async fn manifest(&self) -> Result<Manifest, ClientError> {
        let path = "/.well-known/parchment-server";
        self.ask(Method::GET, path, None::<&()>).await?.protocol_json(Manifest::parse)
    }

    /// The public document of the user with this alias (wire protocol, section 5).
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 when there is none, or without a signing key; otherwise as
    /// for every request.
    pub async fn user_document(&self, alias: &Alias) -> Result<UserDocument, ClientError> {
        let path = format!("/.well-known/user/{}", segment(alias.as_str()));
        self.ask(Method::GET, &path, None::<&()>).await?.protocol_json(UserDocument::parse)
    }

    /// Whether the node's process answers.
    ///
    /// # Errors
    /// As for every request.
    pub async fn check_live(&self) -> Result<(), ClientError> {
        self.ask(Method::GET, "/health/live", None::<&()>).await.map(drop)
    }

    /// Whether the node can do its work.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it cannot; otherwise as for every request.
    pub async fn check_ready(&self) -> Result<(), ClientError> {
        self.ask(Method::GET, "/health/ready", None::<&()>).await.map(drop)
    }
}
