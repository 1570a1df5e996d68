//! A row that has been leased, and the lease on it.

use vellum_protocol::{Envelope, Handle, Json, UnixMillis};

use crate::row::{column, columns};
use crate::{OutboxId, UserId};

/// The right to make an attempt with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Lease token, prefixed with the holder's name.
    pub holder: String,
    /// When it ends.
    pub until: UnixMillis,
}

impl Lease {
    /// The name of the node that holds it.
    #[must_use]
    pub fn node(&self) -> &str {
        self.holder.split_once(':').map_or(&self.holder, |(node, _)| node)
    }
}

/// A row that this node may send now, until its lease ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// The row.
    pub id: OutboxId,
    /// Whose envelope it is.
    pub user_id: UserId,
    /// Whom it is for.
    pub peer_handle: Handle,
    /// Invitation or share it is about; empty for a revocation.
    pub subject: String,
    /// The envelope as the user signed it.
    pub envelope: Envelope,
    /// When the peer stops taking it.
    pub expires_at: UnixMillis,
    /// Attempts made before this one.
    pub attempts: u32,
    /// How many of them the peer has refused; the others did not reach it.
    pub refusals: u32,
    /// Whether an earlier attempt may have been carried out without our hearing of it.
    pub maybe_arrived: bool,
    /// Whether what rests on it has made a revocation void.
    pub voids_revocation: bool,
    /// Where in a trace the request stood that put the envelope here (W3C Trace Context).
    pub trace: Option<String>,
    /// The lease token; every outcome names it.
    pub token: String,
}

columns!("displaced_leases": Lease { holder, until });
columns!("outbox": Leased {
    id,
    user_id,
    peer_handle,
    subject,
    envelope,
    expires_at,
    attempts,
    refusals,
    maybe_arrived,
    voids_revocation,
    trace,
    token: lease_holder
});

column! {
    Envelope: String => |text| {
        let json = Json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Self::parse(&json).map_err(|error| error.to_string())
    };
}
