//! A message as a receiver takes it: of either version, or nonsense, until it is proven (wire protocol,
//! sections 4 and 5).
//!
//! The steps are separate because their order is part of the protocol: the first failure answers, with
//! words that other implementations show to their users.

use crate::Handle;
use crate::envelope::{MessageType, signable_of_members};
use crate::json::{Json, JsonObject};
use crate::keys::{Signature, SigningKey};
use crate::legacy::legacy_signable;
use crate::nonce::{MalformedNonce, Nonce};
use crate::server_request::PROTOCOL_VERSION;
use crate::timestamp::Timestamp;

/// A body whose members are of the right types; nothing more is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedMessage {
    members: JsonObject,
    payload: JsonObject,
}

/// A member that is missing or of a wrong type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{member} must be {expected}")]
pub struct ShapeError {
    /// Which member.
    pub member: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

/// Why a message is refused. The texts are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Type, sender, recipient or signature are missing or no such thing.
    #[error("Invalid message structure")]
    Structure,
    /// The timestamp cannot be read, or is not of now.
    #[error("Message timestamp outside acceptable skew")]
    Timestamp,
    /// A version that this implementation does not take.
    #[error("Unsupported protocol version")]
    Version,
    /// A message of version 2 without its own members.
    #[error("v2 message missing nonce or message_type")]
    MissingV2,
    /// The nonce of a message of version 2 is none.
    #[error(transparent)]
    MalformedNonce(#[from] MalformedNonce),
    /// A message of version 1 with a payload, which could lay other fields over the signed ones.
    #[error("v1 message with a payload")]
    LegacyPayload,
    /// The signature is not base64 of 64 bytes.
    #[error("Malformed signature input: not base64 of 64 bytes")]
    MalformedSignature,
    /// The signature does not verify.
    #[error("Invalid signature")]
    InvalidSignature,
    /// A type that is not handled.
    #[error("Unsupported message type: {0}")]
    UnsupportedType(String),
}

/// Which form of signature a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeVersion {
    /// The old form: no `protocol_version`.
    One,
    /// The present form.
    Two,
}

const TEXT: &str = "a string";
const NUMBER: &str = "a number";
const OBJECT: &str = "an object";

impl ReceivedMessage {
    /// Takes a body whose members are of the right types. Unknown members are ignored.
    ///
    /// # Errors
    /// [`ShapeError`], naming the first member that is wrong.
    pub fn from_body(body: &Json) -> Result<Self, ShapeError> {
        let members = body.as_object().ok_or(ShapeError { member: "body", expected: OBJECT })?;
        for member in ["from", "to", "timestamp", "signature"] {
            let text = members.get(member).and_then(Json::as_str);
            text.ok_or(ShapeError { member, expected: TEXT })?;
        }
        for member in ["type", "message_type", "nonce"] {
            if members.get(member).is_some_and(|value| value.as_str().is_none()) {
                return Err(ShapeError { member, expected: TEXT });
            }
        }
        for member in ["protocol_version", "message_version"] {
            if members.get(member).is_some_and(|value| value.as_f64().is_none()) {
                return Err(ShapeError { member, expected: NUMBER });
            }
        }
        let payload = match members.get("payload") {
            None => JsonObject::new(),
            Some(payload) => {
                payload.as_object().ok_or(ShapeError { member: "payload", expected: OBJECT })?.clone()
            }
        };
        Ok(Self { members: members.clone(), payload })
    }

    /// The type as written; `message_type` wins over `type`.
    #[must_use]
    pub fn kind_text(&self) -> Option<&str> {
        self.optional("message_type").or_else(|| self.optional("type"))
    }

    /// Who claims to send, as written.
    #[must_use]
    pub fn from(&self) -> &str {
        self.optional("from").unwrap_or_default()
    }

    /// For whom it is, as written.
    #[must_use]
    pub fn to(&self) -> &str {
        self.optional("to").unwrap_or_default()
    }

    /// The signature, as written.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.optional("signature").unwrap_or_default()
    }

    /// The envelope's nonce, as written.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.optional("nonce")
    }

    /// What tells this message from every other of its sender: the nonce, in the one spelling of
    /// its bytes. Version 1 has no nonce that is signed; there the signature, which covers the
    /// time, serves as one.
    ///
    /// # Errors
    /// [`MessageError`], when nonce, signature or version are none.
    pub fn replay_key(&self) -> Result<String, MessageError> {
        match self.version()? {
            EnvelopeVersion::Two => {
                Ok(Nonce::parse(self.nonce().ok_or(MessageError::MissingV2)?)?.into_text())
            }
            EnvelopeVersion::One => {
                let signature =
                    Signature::parse(self.signature()).map_err(|_| MessageError::MalformedSignature)?;
                Ok(format!("v1:{}", signature.to_base64()))
            }
        }
    }

    /// What the type needs. Never look for it in the message's own members: those are not all signed.
    #[must_use]
    pub fn payload(&self) -> &JsonObject {
        &self.payload
    }

    /// Type, sender, recipient and signature are there, and the two are handles.
    ///
    /// # Errors
    /// [`MessageError::Structure`].
    pub fn check_structure(&self) -> Result<(), MessageError> {
        let complete = self.kind_text().is_some() && !self.signature().is_empty();
        if !complete {
            return Err(MessageError::Structure);
        }
        self.sender()?;
        self.recipient()?;
        Ok(())
    }

    /// Who claims to send.
    ///
    /// # Errors
    /// [`MessageError::Structure`].
    pub fn sender(&self) -> Result<Handle, MessageError> {
        Handle::parse(self.from()).map_err(|_| MessageError::Structure)
    }

    /// For whom it is.
    ///
    /// # Errors
    /// [`MessageError::Structure`].
    pub fn recipient(&self) -> Result<Handle, MessageError> {
        Handle::parse(self.to()).map_err(|_| MessageError::Structure)
    }

    /// When it was signed.
    ///
    /// # Errors
    /// [`MessageError::Timestamp`].
    pub fn timestamp(&self) -> Result<Timestamp, MessageError> {
        Timestamp::parse(self.optional("timestamp").unwrap_or_default()).map_err(|_| MessageError::Timestamp)
    }

    /// Which form of signature it has: exactly 2, or no version at all for 1.
    ///
    /// # Errors
    /// [`MessageError::Version`].
    pub fn version(&self) -> Result<EnvelopeVersion, MessageError> {
        match self.members.get("protocol_version").map(Json::as_u64) {
            None => Ok(EnvelopeVersion::One),
            Some(Some(version)) if version == u64::from(PROTOCOL_VERSION) => Ok(EnvelopeVersion::Two),
            Some(_) => Err(MessageError::Version),
        }
    }

    /// Verifies with the sender's key. An unknown type is told only to somebody with a good signature.
    ///
    /// # Errors
    /// [`MessageError`], in the order in which the protocol checks.
    pub fn verify(&self, key: &SigningKey) -> Result<MessageType, MessageError> {
        let (kind, signable) = match self.version()? {
            EnvelopeVersion::Two => self.signable_v2()?,
            EnvelopeVersion::One => self.signable_v1()?,
        };
        let signature = Signature::parse(self.signature()).map_err(|_| MessageError::MalformedSignature)?;
        key.verify(signable.as_bytes(), &signature).map_err(|_| MessageError::InvalidSignature)?;
        let known = MessageType::parse(kind).filter(|known| self.is_taken_in_its_version(*known));
        known.ok_or_else(|| MessageError::UnsupportedType(kind.to_owned()))
    }

    fn signable_v2(&self) -> Result<(&str, String), MessageError> {
        let kind = self.optional("message_type").ok_or(MessageError::MissingV2)?;
        self.nonce().ok_or(MessageError::MissingV2)?;
        Ok((kind, signable_of_members(&self.members)))
    }

    /// Version 1 lays the members of `payload` over the others in the text that is verified, so one old
    /// signature could authorize anything. The types that are taken in version 1 have no payload.
    fn signable_v1(&self) -> Result<(&str, String), MessageError> {
        if !self.payload.is_empty() {
            return Err(MessageError::LegacyPayload);
        }
        let kind = self.kind_text().ok_or(MessageError::Structure)?;
        let fields = ["from", "to", "timestamp"].into_iter();
        let fields: JsonObject =
            fields.filter_map(|name| Some((name, self.members.get(name)?.clone()))).collect();
        Ok((kind, legacy_signable(kind, &fields)))
    }

    fn is_taken_in_its_version(&self, kind: MessageType) -> bool {
        let in_both = [MessageType::FriendInvite, MessageType::FriendAccept, MessageType::FriendReject];
        self.members.get("protocol_version").is_some() || in_both.contains(&kind)
    }

    fn optional(&self, member: &str) -> Option<&str> {
        self.members.get(member).and_then(Json::as_str).filter(|text| !text.is_empty())
    }
}
