//! What one server signs when it sends to another (wire protocol, section 5).

use crate::json::{Json, JsonObject};
use crate::keys::{InvalidSignature, Signature, SigningKey, SigningSecret};

/// The sending server's id.
pub const HEADER_SERVER_ID: &str = "X-Parchment-Server-Id";
/// The protocol's version.
pub const HEADER_PROTOCOL_VERSION: &str = "X-Parchment-Protocol-Version";
/// Base64 of 16 random bytes, fresh for every attempt.
pub const HEADER_NONCE: &str = "X-Parchment-Nonce";
/// When the request was made.
pub const HEADER_TIMESTAMP: &str = "X-Parchment-Timestamp";
/// The sending server's signature.
pub const HEADER_SIGNATURE: &str = "X-Parchment-Server-Signature";
/// Where envelopes are posted: the one path that receivers put into the signed text.
pub const INBOX_PATH: &str = "/federation/inbox";
/// The version that this implementation speaks.
pub const PROTOCOL_VERSION: u32 = 2;

/// The parts of a request that its server signature covers.
#[derive(Debug, Clone, Copy)]
pub struct ServerRequest<'a> {
    /// The HTTP method, in any case; it is signed in upper case.
    pub method: &'a str,
    /// The path, without host or query.
    pub path: &'a str,
    /// Base64 SHA-256 of the body's canonical JSON.
    pub body_hash: &'a str,
    /// The transport's nonce, not the envelope's.
    pub nonce: &'a str,
    /// The transport's time, not the envelope's.
    pub timestamp: &'a str,
    /// The receiving server's id.
    pub peer_server_id: &'a str,
    /// The sending server's id.
    pub sender_server_id: &'a str,
    /// The protocol's version, signed as a number.
    pub protocol_version: u32,
}

impl ServerRequest<'_> {
    /// The text that is signed.
    #[must_use]
    pub fn signable(&self) -> String {
        JsonObject::from_iter([
            ("method", Json::String(self.method.to_ascii_uppercase())),
            ("path", Json::from(self.path)),
            ("body_hash", Json::from(self.body_hash)),
            ("nonce", Json::from(self.nonce)),
            ("timestamp", Json::from(self.timestamp)),
            ("peer_server_id", Json::from(self.peer_server_id)),
            ("sender_server_id", Json::from(self.sender_server_id)),
            ("protocol_version", Json::from(self.protocol_version)),
        ])
        .canonical()
    }

    /// The headers of the request, signed with the sending server's key.
    #[must_use]
    pub fn headers(&self, secret: &SigningSecret) -> [(&'static str, String); 5] {
        [
            (HEADER_SERVER_ID, self.sender_server_id.to_owned()),
            (HEADER_PROTOCOL_VERSION, self.protocol_version.to_string()),
            (HEADER_NONCE, self.nonce.to_owned()),
            (HEADER_TIMESTAMP, self.timestamp.to_owned()),
            (HEADER_SIGNATURE, self.sign(secret).to_base64()),
        ]
    }

    /// Signs with the sending server's key.
    #[must_use]
    pub fn sign(&self, secret: &SigningSecret) -> Signature {
        secret.sign(self.signable().as_bytes())
    }

    /// Verifies with the sending server's key.
    ///
    /// # Errors
    /// [`InvalidSignature`].
    pub fn verify(&self, key: &SigningKey, signature: &Signature) -> Result<(), InvalidSignature> {
        key.verify(self.signable().as_bytes(), signature)
    }
}
