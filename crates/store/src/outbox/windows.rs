//! The ends of windows, after which a peer takes an envelope no more.

use vellum_protocol::{Handle, MessageType, UnixMillis};

use crate::row::columns;
use crate::statement::Statement;
use crate::{StoreError, Tx, UserId};

/// A message other than a revocation that is given up undelivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// Whose message it was.
    pub user_id: UserId,
    /// The recipient.
    pub peer_handle: Handle,
    /// What it was.
    pub message_type: MessageType,
    /// The invitation or share it was about.
    pub subject: String,
    /// Whether the peer may have taken it.
    pub maybe_arrived: bool,
    /// Whether what rests on it has made a revocation void.
    pub voids_revocation: bool,
    /// Why the last attempt failed, if there was one.
    pub last_error: Option<String>,
}

columns!("outbox": Lapsed { user_id, peer_handle, message_type, subject, maybe_arrived, voids_revocation, last_error });

/// Closes windows that end at or before `now`. Revocations wait for a new signature, with their
/// history, or go where the two are friends again, which a new signature would end. Other messages
/// go, and are returned so that what they were part of can be undone.
pub async fn expire(tx: &mut Tx, now: UnixMillis) -> Result<Vec<Lapsed>, StoreError> {
    let drop_void = Statement::new(
        "delete from outbox
         where state = 'queued' and next_attempt_at is not null and expires_at <= $1
           and message_type = 'RELATIONSHIP_REVOKE' and exists (
               select 1 from friendships f where f.user_id = outbox.user_id and f.friend_handle = outbox.peer_handle)",
    );
    tx.change(drop_void.bind(now)).await?;
    let unsign = Statement::new(
        "update outbox set state = 'awaiting_signature', envelope = null, envelope_at = null, expires_at = null,
             next_attempt_at = null
         where state = 'queued' and next_attempt_at is not null and expires_at <= $1
           and message_type = 'RELATIONSHIP_REVOKE'",
    );
    tx.change(unsign.bind(now)).await?;
    let give_up = Statement::new(
        "delete from outbox where state = 'queued' and next_attempt_at is not null and expires_at <= $1
         returning user_id, peer_handle, message_type, subject, maybe_arrived, voids_revocation, last_error",
    );
    tx.change_returning(give_up.bind(now)).await
}

/// Gives the revocations queued for a peer the window that its manifest states: each may be tried
/// until its own timestamp plus `window_millis`.
pub async fn widen_windows(tx: &mut Tx, domain: &str, window_millis: i64) -> Result<(), StoreError> {
    let widen = Statement::new(
        "update outbox set expires_at = envelope_at + $1
         where peer_domain = $2 and message_type = 'RELATIONSHIP_REVOKE' and state in ('queued', 'delivering')
           and expires_at < envelope_at + $1",
    );
    tx.change(widen.bind(window_millis).bind(domain)).await?;
    Ok(())
}
