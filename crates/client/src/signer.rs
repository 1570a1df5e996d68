//! Signing the messages between people: version 2 envelopes (wire protocol, sections 4 and 6). The client
//! sends the node what it signed; the node puts the envelope together again and carries it (section 7).

use rand::CryptoRng;
use serde::Serialize;
use vellum_protocol::{
    Envelope, EnvelopeContent, Handle, Json, JsonObject, MessageType, Signature, SigningSecret, Timestamp,
    UnixMillis, base64,
};

use crate::collection_share::SharedCiphertext;

/// The version of every message that is signed here.
pub const MESSAGE_VERSION: u32 = 1;

/// The parts of a signed envelope that the node cannot know by itself. In JSON `signature`, `nonce`,
/// `timestamp`, `messageVersion`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedFields {
    /// Over the envelope's signable form.
    pub signature: Signature,
    /// Base64 of 16 random bytes.
    pub nonce: String,
    /// When it was signed, as written in the envelope.
    pub timestamp: Timestamp,
    /// The envelope's message version.
    pub message_version: u32,
}

impl From<Envelope> for SignedFields {
    fn from(envelope: Envelope) -> Self {
        let Envelope { content, signature } = envelope;
        Self {
            signature,
            nonce: content.nonce,
            timestamp: content.timestamp,
            message_version: content.message_version,
        }
    }
}

/// What a friend may do with a shared resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareRole {
    /// Read it.
    Viewer,
    /// Change it.
    Editor,
}

impl ShareRole {
    /// The role as the protocol spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
        }
    }
}

/// A resource that is shared: the payload of a RESOURCE_SHARE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedResource {
    /// `collection`, `route`, `map` or `layer`.
    pub resource_type: String,
    /// The resource's id on the owner's node.
    pub resource_id: String,
    /// What the friend gets to read.
    pub ciphertext: SharedCiphertext,
    /// What the friend may do.
    pub role: ShareRole,
}

impl SharedResource {
    /// The payload that is signed: these five members and no other.
    #[must_use]
    pub fn payload(&self) -> JsonObject {
        [
            ("resourceType", self.resource_type.as_str()),
            ("resourceId", &self.resource_id),
            ("encryptedData", &self.ciphertext.encrypted_data),
            ("nonce", &self.ciphertext.nonce),
            ("role", self.role.as_str()),
        ]
        .into_iter()
        .map(|(name, text)| (name, Json::from(text)))
        .collect()
    }
}

/// Signs in one person's name. `Debug` shows the handle only.
#[derive(Clone)]
pub struct Signer {
    handle: Handle,
    secret: SigningSecret,
}

impl Signer {
    /// Signs as this handle, which has to be spelled as the person's node spells it, with this secret.
    #[must_use]
    pub fn new(handle: Handle, secret: SigningSecret) -> Self {
        Self { handle, secret }
    }

    /// Whose name this is.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Asks `to` to be friends.
    #[must_use]
    pub fn invite(&self, to: &Handle, at: UnixMillis, rng: &mut (impl CryptoRng + ?Sized)) -> SignedFields {
        self.without_payload(MessageType::FriendInvite, to, at, rng)
    }

    /// Accepts the invitation of `to`.
    #[must_use]
    pub fn accept(&self, to: &Handle, at: UnixMillis, rng: &mut (impl CryptoRng + ?Sized)) -> SignedFields {
        self.without_payload(MessageType::FriendAccept, to, at, rng)
    }

    /// Declines the invitation of `to`.
    #[must_use]
    pub fn reject(&self, to: &Handle, at: UnixMillis, rng: &mut (impl CryptoRng + ?Sized)) -> SignedFields {
        self.without_payload(MessageType::FriendReject, to, at, rng)
    }

    /// Ends whatever there is with `to`, as far as it began at or before `at`.
    #[must_use]
    pub fn revoke(&self, to: &Handle, at: UnixMillis, rng: &mut (impl CryptoRng + ?Sized)) -> SignedFields {
        self.without_payload(MessageType::RelationshipRevoke, to, at, rng)
    }

    /// Shares a resource with `to`.
    #[must_use]
    pub fn share(
        &self,
        to: &Handle,
        resource: &SharedResource,
        at: UnixMillis,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> SignedFields {
        self.envelope(MessageType::ResourceShare, to, resource.payload(), at, rng).into()
    }

    /// A whole signed envelope. The node wants [`SignedFields`] only; this is for those who carry
    /// the message themselves.
    #[must_use]
    pub fn envelope(
        &self,
        message_type: MessageType,
        to: &Handle,
        payload: JsonObject,
        at: UnixMillis,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Envelope {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        let content = EnvelopeContent {
            message_type,
            message_version: MESSAGE_VERSION,
            from: self.handle.clone(),
            to: to.clone(),
            nonce: base64::encode(&nonce),
            timestamp: Timestamp::at(at),
            payload,
        };
        content.sign(&self.secret)
    }

    fn without_payload(
        &self,
        message_type: MessageType,
        to: &Handle,
        at: UnixMillis,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> SignedFields {
        self.envelope(message_type, to, JsonObject::new(), at, rng).into()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("handle", &self.handle).finish_non_exhaustive()
    }
}
