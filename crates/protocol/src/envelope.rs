//! The user's envelope, version 2: what a client signs and nodes carry (wire protocol, section 4).
//!
//! The signed object has exactly eight members. What a *receiver* does with a message that may be of
//! either version, or nonsense, is in `received`.

use std::fmt;

use crate::Handle;
use crate::json::{Json, JsonObject};
use crate::keys::{InvalidSignature, Signature, SigningKey, SigningSecret};
use crate::server_request::PROTOCOL_VERSION;
use crate::timestamp::Timestamp;

/// What a message says (wire protocol, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// An invitation to friendship.
    FriendInvite,
    /// An invitation is accepted.
    FriendAccept,
    /// An invitation is rejected.
    FriendReject,
    /// Everything between the two has ended.
    RelationshipRevoke,
    /// Something is shared.
    ResourceShare,
    /// A sealed location. Not handled by Vellum.
    LocationUpdate,
    /// A question for a location. Not handled by Vellum.
    LocationRequest,
    /// Something to show at once. Not handled by Vellum.
    RealtimeEvent,
}

impl MessageType {
    const ALL: [Self; 8] = [
        Self::FriendInvite,
        Self::FriendAccept,
        Self::FriendReject,
        Self::RelationshipRevoke,
        Self::ResourceShare,
        Self::LocationUpdate,
        Self::LocationRequest,
        Self::RealtimeEvent,
    ];

    /// The type as it is written in envelopes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FriendInvite => "FRIEND_INVITE",
            Self::FriendAccept => "FRIEND_ACCEPT",
            Self::FriendReject => "FRIEND_REJECT",
            Self::RelationshipRevoke => "RELATIONSHIP_REVOKE",
            Self::ResourceShare => "RESOURCE_SHARE",
            Self::LocationUpdate => "LOCATION_UPDATE",
            Self::LocationRequest => "LOCATION_REQUEST",
            Self::RealtimeEvent => "REALTIME_EVENT",
        }
    }

    /// Reads a type; `None` for one that this protocol does not have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an envelope says: everything that is signed, besides the protocol's version.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvelopeContent {
    /// What it says.
    pub message_type: MessageType,
    /// The version of that type.
    pub message_version: u32,
    /// Who says it.
    pub from: Handle,
    /// To whom.
    pub to: Handle,
    /// Unique per sender; clients write base64 of 16 random bytes.
    pub nonce: String,
    /// When; signed as written.
    pub timestamp: Timestamp,
    /// What the type needs.
    pub payload: JsonObject,
}

impl EnvelopeContent {
    /// The text that is signed.
    #[must_use]
    pub fn signable(&self) -> String {
        self.members().canonical()
    }

    /// Signs with the sender's key.
    #[must_use]
    pub fn sign(self, secret: &SigningSecret) -> Envelope {
        let signature = secret.sign(self.signable().as_bytes());
        self.signed_with(signature)
    }

    /// Joins a signature that was made elsewhere; whether it verifies is another question.
    #[must_use]
    pub fn signed_with(self, signature: Signature) -> Envelope {
        Envelope { content: self, signature }
    }

    fn members(&self) -> JsonObject {
        JsonObject::from_iter([
            ("protocol_version", Json::from(PROTOCOL_VERSION)),
            ("message_type", Json::from(self.message_type.as_str())),
            ("message_version", Json::from(self.message_version)),
            ("from", Json::from(self.from.as_str())),
            ("to", Json::from(self.to.as_str())),
            ("nonce", Json::from(self.nonce.as_str())),
            ("timestamp", Json::from(self.timestamp.as_str())),
            ("payload", Json::Object(self.payload.clone())),
        ])
    }
}

/// A signed envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// What it says.
    pub content: EnvelopeContent,
    /// The sender's signature over [`EnvelopeContent::signable`].
    pub signature: Signature,
}

/// A document that is not an envelope of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an envelope of version 2: {0}")]
pub struct EnvelopeError(pub &'static str);

impl Envelope {
    /// Verifies with the sender's key.
    ///
    /// # Errors
    /// [`InvalidSignature`].
    pub fn verify(&self, key: &SigningKey) -> Result<(), InvalidSignature> {
        key.verify(self.content.signable().as_bytes(), &self.signature)
    }

    /// The message as it travels: the nine members and no other (wire protocol, section 5).
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut members = self.content.members();
        members.insert("signature", Json::String(self.signature.to_base64()));
        Json::Object(members)
    }

    /// Reads an envelope that this implementation wrote.
    ///
    /// # Errors
    /// [`EnvelopeError`], naming the member.
    pub fn parse(json: &Json) -> Result<Self, EnvelopeError> {
        let text = |name: &'static str| json.get(name).and_then(Json::as_str).ok_or(EnvelopeError(name));
        let number = |name: &'static str| json.get(name).and_then(Json::as_u64).ok_or(EnvelopeError(name));
        if number("protocol_version")? != u64::from(PROTOCOL_VERSION) {
            return Err(EnvelopeError("protocol_version"));
        }
        let content = EnvelopeContent {
            message_type: MessageType::parse(text("message_type")?).ok_or(EnvelopeError("message_type"))?,
            message_version: u32::try_from(number("message_version")?)
                .map_err(|_| EnvelopeError("message_version"))?,
            from: Handle::parse(text("from")?).map_err(|_| EnvelopeError("from"))?,
            to: Handle::parse(text("to")?).map_err(|_| EnvelopeError("to"))?,
            nonce: text("nonce")?.to_owned(),
            timestamp: Timestamp::parse(text("timestamp")?).map_err(|_| EnvelopeError("timestamp"))?,
            payload: json.get("payload").and_then(Json::as_object).ok_or(EnvelopeError("payload"))?.clone(),
        };
        let signature = Signature::parse(text("signature")?).map_err(|_| EnvelopeError("signature"))?;
        Ok(Self { content, signature })
    }
}

/// The names of the signed members.
const SIGNED: [&str; 8] =
    ["protocol_version", "message_type", "message_version", "from", "to", "nonce", "timestamp", "payload"];

/// The text that is signed for a message with these members: exactly the eight, whatever their values;
/// others are not signed. A missing `payload` counts as `{}`, a missing `message_version` as 1.
#[must_use]
pub fn signable_of_members(message: &JsonObject) -> String {
    let member = |name: &str| match (message.get(name), name) {
        (Some(value), _) => Some(value.clone()),
        (None, "payload") => Some(Json::Object(JsonObject::new())),
        (None, "message_version") => Some(Json::from(1)),
        (None, _) => None,
    };
    SIGNED
        .iter()
        .filter_map(|name| member(name).map(|value| (*name, value)))
        .collect::<JsonObject>()
        .canonical()
}
