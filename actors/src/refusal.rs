//! Why an inbound request or its message is refused, in the words of the wire protocol (sections 5
//! and 6): peers show them to their users.

use vellum_protocol::{MessageError, MessageType};

/// Why a request or its message is refused. The text is what the peer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not JSON, or is JSON that this node refuses (wire protocol, section 3).
    #[error("{0}")]
    NotJson(String),
    /// A member of the message is missing or of a wrong type.
    #[error("{0}")]
    Shape(String),
    /// The sending server is not who it says, or its request is stale or repeated.
    #[error("Federation auth failed: {0}")]
    Auth(String),
    /// The message itself is at fault.
    #[error("{0}")]
    Message(String),
    /// The recipient belongs to another server.
    #[error("Recipient is not on this server")]
    RecipientElsewhere,
    /// The recipient's server is this one, but there is no such user.
    #[error("Recipient not found")]
    RecipientNotFound,
    /// The sender belongs to another server than the one that sends.
    #[error("Sender is not on the sending server")]
    ForeignSender,
    /// The message's time is too far from now.
    #[error("Message timestamp outside acceptable skew")]
    Skew,
    /// The sender's keys could not be had.
    #[error("Could not resolve sender")]
    UnresolvedSender,
    /// Another envelope with the same nonce was carried out.
    #[error("Replayed message nonce")]
    Replayed,
    /// This node does not handle such messages.
    #[error("Unsupported message type: {0}")]
    Unsupported(MessageType),
    /// An invitation between the two is open.
    #[error("Invitation already exists")]
    InvitationExists,
    /// The recipient has as many open invitations from the sending server as they may.
    #[error("Too many invitations")]
    TooManyInvitations,
    /// There is no outgoing invitation to accept.
    #[error("Original invitation not found")]
    NoOriginalInvitation,
    /// A share without its resource.
    #[error("Missing resource data")]
    MissingResource,
    /// A share with a text that is too long or has control characters.
    #[error("Invalid resource data: {0}")]
    InvalidResource(&'static str),
    /// The recipient has as many shares, of this sender or of all, as this node keeps.
    #[error("Too many shares")]
    TooManyShares,
    /// A share of something that cannot be shared.
    #[error("Unknown resource type or id")]
    UnknownResource,
    /// A share by somebody who is no friend.
    #[error("Not a friend")]
    NotAFriend,
    /// There is no outgoing invitation to reject.
    #[error("Invitation not found")]
    NoInvitation,
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::Message(error.to_string())
    }
}
