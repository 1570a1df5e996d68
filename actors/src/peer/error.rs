//! Why a peer cannot be asked, and what that means for the caller.

use std::time::Duration;

use vellum_protocol::Domain;
use vellum_store::StoreError;

use super::transport::TransportError;
use crate::Error;

/// Why a peer cannot be trusted or understood right now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It answered, but not with the document asked for.
    #[error("{reason}")]
    Unusable {
        /// What it did instead.
        reason: String,
        /// The HTTP status, where that was what made it unusable.
        status: Option<u16>,
        /// The pause that it asked for.
        pause: Option<Duration>,
    },
    /// It shows another key than the one pinned at first contact.
    #[error("the key of {0} has changed since it was first met; an operator has to decide")]
    PinMismatch(Domain),
    /// An operator has decided that nothing is exchanged with it.
    #[error("this node does not federate with {0}")]
    NotAdmitted(Domain),
    /// Nobody here has met it, and too many such nodes are asked who they are already.
    #[error("too many unknown nodes introduce themselves at once")]
    TooManyUnknownPeers,
    /// Users have had it asked as often as this node asks it.
    #[error("it was asked often enough for now")]
    Limited {
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// It is asked for a user that it does not have.
    #[error("there is no such user at that node")]
    NoSuchUser,
    /// Our own database failed.
    #[error(transparent)]
    Store(StoreError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// When to ask again where nobody has said so.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The same for a peer that says that it is asked too often; and the longest wait that is passed
/// on.
const LIMITED: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl PeerError {
    pub(super) fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable { reason: reason.into(), status: None, pause: None }
    }

    /// Whether the peer says that it cannot answer now.
    pub(super) fn is_peers_refusal(&self) -> bool {
        matches!(self, Self::Unusable { status: Some(429 | 500..), .. })
    }

    /// The answer to a message whose sender could not be looked up for a reason that will pass and
    /// is no fault of the message; `None` where it says something of the sender.
    pub(crate) fn passing(&self) -> Option<Error> {
        Some(match self {
            Self::Transport(
                TransportError::TimedOut(_)
                | TransportError::ConnectTimedOut(_)
                | TransportError::Unreachable(_)
                | TransportError::Broken(_)
                | TransportError::Tls(_),
            ) => Error::SenderUnavailable { retry_after: RETRY_AFTER },
            Self::Unusable { status: Some(429), pause, .. } => {
                Error::LookupLimited { retry_after: limited(*pause) }
            }
            Self::Unusable { status: Some(500..), pause, .. } => {
                Error::SenderUnavailable { retry_after: pause.unwrap_or(RETRY_AFTER).min(LONGEST_WAIT) }
            }
            other => return other.ours(),
        })
    }

    /// The same where the reason is this node's own.
    pub(crate) fn ours(&self) -> Option<Error> {
        Some(match self {
            Self::Transport(TransportError::Busy) => Error::TooManyLookups { retry_after: RETRY_AFTER },
            Self::Limited { retry_after } => Error::LookupLimited { retry_after: *retry_after },
            Self::TooManyUnknownPeers => Error::TooManyUnknownPeers,
            Self::Store(error) => Error::Store(error.clone()),
            Self::Stopping => Error::Stopping,
            _ => return None,
        })
    }

    /// What a user is told of a peer that could not be asked: one sentence for whatever kept it
    /// from answering, since the user has chosen its name.
    fn for_users(&self) -> String {
        match self {
            Self::Transport(error @ (TransportError::TooLong(_) | TransportError::Packed(_))) => {
                error.to_string()
            }
            Self::Transport(_) => "it does not answer".into(),
            other => other.to_string(),
        }
    }
}

fn limited(pause: Option<Duration>) -> Duration {
    pause.unwrap_or(LIMITED).min(LONGEST_WAIT)
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::NoSuchUser => Self::UserNotFound,
            PeerError::NotAdmitted(domain) => Self::PeerNotAdmitted(domain),
            PeerError::Unusable { status: Some(429), pause, .. } => {
                Self::LookupLimited { retry_after: limited(pause) }
            }
            other => other.ours().unwrap_or_else(|| Self::PeerUnreachable(other.for_users())),
        }
    }
}
