//! A row that has been leased.

use vellum_protocol::{Envelope, Handle, Json, UnixMillis};

use crate::row::{columns, read};
use crate::{OutboxId, StoreError, UserId};

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

pub(super) struct LeasedRow {
    pub(super) id: OutboxId,
    pub(super) user_id: UserId,
    peer_handle: String,
    subject: String,
    envelope: String,
    expires_at: i64,
    attempts: i64,
    refusals: i64,
    maybe_arrived: i64,
    voids_revocation: i64,
    trace: Option<String>,
    lease_holder: String,
}

columns!(LeasedRow {
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
    lease_holder
});

impl TryFrom<LeasedRow> for Leased {
    type Error = StoreError;

    fn try_from(row: LeasedRow) -> Result<Self, StoreError> {
        let json = read("outbox.envelope", row.envelope.as_bytes(), Json::parse)?;
        Ok(Self {
            id: row.id,
            user_id: row.user_id,
            peer_handle: read("outbox.peer_handle", row.peer_handle.as_str(), Handle::parse)?,
            subject: row.subject,
            envelope: read("outbox.envelope", &json, Envelope::parse)?,
            expires_at: UnixMillis(row.expires_at),
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            refusals: u32::try_from(row.refusals).unwrap_or(u32::MAX),
            maybe_arrived: row.maybe_arrived != 0,
            voids_revocation: row.voids_revocation != 0,
            trace: row.trace,
            token: row.lease_holder,
        })
    }
}
