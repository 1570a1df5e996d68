//! How many invitations may be open, and for how long.
//!
//! An invitation is open while its status is `pending` and it has not expired. What has expired is
//! removed in the transaction that would otherwise find it, and by the housekeeping; lists leave it
//! out until then.

use vellum_protocol::UnixMillis;
use vellum_store::invitations;
use vellum_store::{Tx, UserId};

use crate::Error;

/// Bounds of open invitations.
#[derive(Debug, Clone, Copy)]
pub struct InvitationLimits {
    /// Incoming ones per recipient and sending server.
    pub per_server: u32,
    /// Incoming ones per recipient.
    pub per_recipient: u32,
    /// How long one stays open, in milliseconds.
    pub lifetime_millis: i64,
}

impl Default for InvitationLimits {
    fn default() -> Self {
        Self { per_server: 20, per_recipient: 100, lifetime_millis: 90 * 86_400_000 }
    }
}

impl InvitationLimits {
    /// Invitations that were made at this time or before have expired.
    #[must_use]
    pub fn expired_until(&self, now: UnixMillis) -> UnixMillis {
        now.plus_millis(-self.lifetime_millis)
    }

    /// When an invitation expires.
    #[must_use]
    pub fn expires_at(&self, created_at: UnixMillis) -> UnixMillis {
        created_at.plus_millis(self.lifetime_millis)
    }

    /// Makes room for one more invitation to `recipient` from `server` (in lower case). Where the
    /// recipient has as many as they may, the oldest of the server that has most gives way; nobody
    /// is told. Tells whether there is room: not when this server has as many as it may.
    ///
    /// # Errors
    /// Only what the database says.
    pub(crate) async fn make_room(
        &self,
        tx: &mut Tx,
        recipient: &UserId,
        server: &str,
    ) -> Result<bool, Error> {
        let open = invitations::count_incoming(tx, recipient, server).await?;
        if open.of_server >= u64::from(self.per_server) {
            return Ok(false);
        }
        let above = (open.all + 1).saturating_sub(u64::from(self.per_recipient));
        if above > 0 {
            invitations::displace_incoming(tx, recipient, above).await?;
        }
        Ok(true)
    }
}
