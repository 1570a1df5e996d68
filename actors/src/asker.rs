//! Who asks for a change: a user, and where the request came from. Kept with the change, in the user's
//! audit trail.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

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
    /// What its command takes from others while it waits and runs.
    pub held: Held,
}

/// Something that is let go when a command is done, though its caller may be gone long before: what
/// the command holds, such as the memory of a long body, is counted for as long.
#[derive(Clone, Default)]
pub struct Held(Option<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// Keeps this.
    #[must_use]
    pub fn new(thing: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(thing))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.0.is_some()).finish()
    }
}

/// It says nothing about who asks.
impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Held {}

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
