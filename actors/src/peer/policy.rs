//! With which nodes this one exchanges anything at all: what operators have decided, kept in memory so that a
//! stranger's request is answered before anything is fetched or verified.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use vellum_protocol::Domain;
use vellum_store::peers::{self, PeerPolicy};
use vellum_store::{Conn, StoreError};

/// Whom the node speaks with when nothing was decided about somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everybody who is not blocked.
    #[default]
    BlockList,
    /// Only those that are allowed.
    AllowList,
}

/// The decisions.
#[derive(Debug, Default)]
pub struct Policy {
    mode: Mode,
    standings: RwLock<HashMap<String, PeerPolicy>>,
}

impl Policy {
    /// Nothing decided yet.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, standings: RwLock::default() }
    }

    /// Whether anything is exchanged with this node.
    #[must_use]
    pub fn admits(&self, domain: &Domain) -> bool {
        let standings = self.standings.read().unwrap_or_else(PoisonError::into_inner);
        match standings.get(&key(&domain.folded())) {
            Some(PeerPolicy::Blocked) => false,
            Some(PeerPolicy::Allowed) => true,
            Some(PeerPolicy::Neutral) | None => self.mode == Mode::BlockList,
        }
    }

    /// Reads the decisions anew.
    ///
    /// # Errors
    /// Only what the database says; the decisions known before stand then.
    pub async fn reload(&self, conn: &mut Conn) -> Result<(), StoreError> {
        let decided = peers::with_standing(conn).await?;
        let decided = decided.into_iter().map(|peer| (key(&peer.domain), peer.standing)).collect();
        *self.standings.write().unwrap_or_else(PoisonError::into_inner) = decided;
        Ok(())
    }
}

/// What a decision about a domain is kept under: with and without the port of https it is one
/// server.
fn key(folded: &str) -> String {
    folded.strip_suffix(":443").unwrap_or(folded).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_server_is_blocked_under_both_spellings_of_its_address() {
        let blocked = HashMap::from([(key("evil.example:443"), PeerPolicy::Blocked)]);
        let policy = Policy { mode: Mode::BlockList, standings: RwLock::new(blocked) };
        for (domain, admitted) in [
            ("evil.example", false),
            ("EVIL.example:443", false),
            ("evil.example:8443", true),
            ("good.example", true),
        ] {
            assert_eq!(policy.admits(&Domain::parse(domain).unwrap()), admitted, "{domain}");
        }
    }
}
