//! What a client signed, and the check that it did: the node sends nothing in a user's name that does not
//! verify with the user's own key.

use vellum_protocol::timestamp::is_fresh;
use vellum_protocol::{
    Envelope, EnvelopeContent, Handle, JsonObject, MessageType, Nonce, Signature, Timestamp, UnixMillis,
};
use vellum_store::users::User;

use super::NodeContext;
use crate::Error;

/// Longest text of a nonce that is worth verifying. Clients send 24 characters.
const LONGEST_NONCE: usize = 200;

/// The parts of a version 2 envelope that only the client knows (wire protocol, section 7).
#[derive(Debug, Clone)]
pub struct SignedFields {
    /// Base64 signature over the envelope's signable form.
    pub signature: String,
    /// The envelope's nonce.
    pub nonce: String,
    /// The envelope's timestamp, as signed.
    pub timestamp: String,
    /// The envelope's message version.
    pub message_version: u32,
}

impl SignedFields {
    /// The envelope of a type that needs no payload.
    pub(crate) fn envelope(
        &self,
        node: &NodeContext,
        user: &User,
        message_type: MessageType,
        to: &Handle,
        now: UnixMillis,
    ) -> Result<Envelope, Error> {
        self.envelope_with(JsonObject::new(), node, user, message_type, to, now)
    }

    /// Builds the envelope that the client must have signed, from the user's handle to `to`, and verifies
    /// it with the user's key.
    pub(crate) fn envelope_with(
        &self,
        payload: JsonObject,
        node: &NodeContext,
        user: &User,
        message_type: MessageType,
        to: &Handle,
        now: UnixMillis,
    ) -> Result<Envelope, Error> {
        let (Some(alias), Some(keys)) = (&user.identity.alias, &user.identity.keys) else {
            return Err(Error::IdentityIncomplete);
        };
        if self.nonce.is_empty() || self.nonce.len() > LONGEST_NONCE {
            return Err(Error::InvalidNonce);
        }
        let timestamp = Timestamp::parse(&self.timestamp).map_err(|_| Error::StaleTimestamp)?;
        if !is_fresh(timestamp.instant(), now) {
            return Err(Error::StaleTimestamp);
        }
        let content = EnvelopeContent {
            message_type,
            message_version: self.message_version,
            from: node.handle_of(alias),
            to: to.clone(),
            nonce: self.nonce.clone(),
            timestamp,
            payload,
        };
        let signature = Signature::parse(&self.signature).map_err(|_| Error::BadSignature)?;
        let envelope = content.signed_with(signature);
        envelope.verify(&keys.signing).map_err(|_| Error::BadSignature)?;
        // Last: a nonce that somebody altered is a bad signature.
        Nonce::parse(&self.nonce).map_err(|_| Error::InvalidNonce)?;
        Ok(envelope)
    }
}
