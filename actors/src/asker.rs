//! Who asks for a change: a user, and where the request came from. Kept with the change, in the user's
//! audit trail.

use vellum_store::{SessionId, UserId};

use crate::trace::TraceParent;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Whose affairs are to be changed.
    pub user: UserId,
    /// Where the request came from.
    pub origin: Origin,
}

/// Where a request came from. Empty for what no session asked for, such as a message from another node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The session.
    pub session: Option<SessionId>,
    /// The client's address.
    pub ip: Option<String>,
    /// Its place in a trace.
    pub trace: Option<TraceParent>,
}

impl From<&UserId> for Asker {
    fn from(user: &UserId) -> Self {
        Self { user: user.clone(), origin: Origin::default() }
    }
}

impl From<&Asker> for Asker {
    fn from(asker: &Asker) -> Self {
        asker.clone()
    }
}
