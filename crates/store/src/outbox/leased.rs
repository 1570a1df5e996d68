//! A row that has been leased: as the database gave it, and as it is sent.

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
    id: OutboxId,
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

/// A leased row as the database gave it. It is read after the transaction, in which others wait for the writer.
pub struct Unread(pub(super) LeasedRow);

/// A leased row that cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The row.
    pub id: OutboxId,
    /// The lease token.
    pub token: String,
    /// What is wrong with it.
    pub error: StoreError,
}

impl Unread {
    /// The row.
    ///
    /// # Errors
    /// What to [set aside](super::set_aside), since nobody could send it.
    pub fn read(self) -> Result<Leased, Unreadable> {
        let (id, token) = (self.0.id.clone(), self.0.lease_holder.clone());
        Leased::try_from(self.0).map_err(|error| Unreadable { id, token, error })
    }
}
