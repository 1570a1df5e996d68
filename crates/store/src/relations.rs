//! What invitations and shares have in common: each of the two sides holds a row of its own, and it stands
//! somewhere.

use crate::row::word;

/// Which side of an invitation or a share its holder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The holder was invited, or is shared with.
    Incoming,
    /// The holder invites, or shares.
    Outgoing,
}

impl Direction {
    /// The word that the database and the API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }

    /// Reads the word that the database and the API use.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Incoming, Self::Outgoing].into_iter().find(|direction| direction.as_str() == word)
    }
}

word!(Direction, Status);

/// Where it stands with its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nobody has said yes yet.
    Pending,
    /// Accepted. An invitation is kept like this only until the inviting node confirms; it becomes pending
    /// again if that never happens.
    Accepted,
}

impl Status {
    /// The word that the database and the API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
        }
    }

    /// Reads the word that the database uses.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Accepted].into_iter().find(|status| status.as_str() == word)
    }
}
