//! Envelopes of users that were carried out: the same one under a new transport is not executed twice.

use vellum_protocol::{Handle, MessageType, UnixMillis};

use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// What is remembered of an envelope that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEnvelope {
    /// Who signed it, as written.
    pub sender_handle: String,
    /// Its nonce: unique per sender.
    pub nonce: String,
    /// Whom it was for, as written.
    pub recipient_handle: String,
    /// Its type.
    pub message_type: String,
    /// Its signature: tells the same envelope from another one with the same nonce.
    pub signature: String,
    /// Whether it changed anything.
    pub applied: bool,
    /// Whether its answer was that the two are friends.
    pub friends: bool,
    /// When it was signed, by its sender's clock; 0 for what was carried out before this was noted.
    pub signed_at: UnixMillis,
    /// When it was carried out.
    pub applied_at: UnixMillis,
}

columns!("applied_envelopes": AppliedEnvelope {
    sender_handle,
    nonce,
    recipient_handle,
    message_type,
    signature,
    applied,
    friends,
    signed_at,
    applied_at
});

/// What was carried out under this sender's nonce, if anything.
pub async fn find(conn: &mut Conn, sender: &str, nonce: &str) -> Result<Option<AppliedEnvelope>, StoreError> {
    let select = Statement::new(
        "select sender_handle, nonce, recipient_handle, message_type, signature, applied, friends, signed_at,
             applied_at from applied_envelopes where sender_handle = $1 and nonce = $2",
    );
    conn.one(select.bind(sender).bind(nonce)).await
}

/// Remembers that an envelope was carried out, until `until`.
///
/// # Errors
/// [`StoreError::Duplicate`] when one with the same sender and nonce was carried out before.
pub async fn insert(tx: &mut Tx, envelope: &AppliedEnvelope, until: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into applied_envelopes (sender_handle, nonce, recipient_handle, message_type, signature, applied,
             friends, signed_at, applied_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    let insert = insert.bind(&envelope.sender_handle).bind(&envelope.nonce).bind(&envelope.recipient_handle);
    let insert =
        insert.bind(&envelope.message_type).bind(&envelope.signature).bind(i64::from(envelope.applied));
    let insert = insert.bind(i64::from(envelope.friends)).bind(envelope.signed_at);
    tx.change(insert.bind(envelope.applied_at).bind(until)).await?;
    Ok(())
}

/// Whether this sender has revoked the relationship with this recipient by an envelope that they signed at or after
/// `signed_at`, by their own clock.
pub async fn revoked_after_signing(
    conn: &mut Conn,
    sender: &Handle,
    recipient: &Handle,
    signed_at: UnixMillis,
) -> Result<bool, StoreError> {
    let count = Statement::new(
        "select count(*) from applied_envelopes
         where sender_handle = $1 and recipient_handle = $2 and message_type = $3 and signed_at >= $4",
    );
    any_revocation(conn, count, sender, recipient, signed_at).await
}

/// Whether a revocation by this sender for this recipient has been carried out here at or after `at`.
pub async fn revoked_since(
    conn: &mut Conn,
    sender: &Handle,
    recipient: &Handle,
    at: UnixMillis,
) -> Result<bool, StoreError> {
    let count = Statement::new(
        "select count(*) from applied_envelopes
         where sender_handle = $1 and recipient_handle = $2 and message_type = $3 and applied_at >= $4",
    );
    any_revocation(conn, count, sender, recipient, at).await
}

async fn any_revocation(
    conn: &mut Conn,
    count: Statement,
    sender: &Handle,
    recipient: &Handle,
    since: UnixMillis,
) -> Result<bool, StoreError> {
    let count = count.bind(sender).bind(recipient).bind(MessageType::RelationshipRevoke.as_str()).bind(since);
    let found: Option<(i64,)> = conn.one(count).await?;
    Ok(found.is_some_and(|(count,)| count > 0))
}

/// When this sender signed, by their own clock, the latest invitation or acceptance for this recipient that is remembered.
pub async fn last_approach(
    conn: &mut Conn,
    sender: &Handle,
    recipient: &Handle,
) -> Result<Option<UnixMillis>, StoreError> {
    let select = Statement::new(
        "select max(signed_at) from applied_envelopes
         where sender_handle = $1 and recipient_handle = $2 and message_type in ($3, $4) and signed_at > 0",
    );
    let select = select.bind(sender).bind(recipient);
    let select = select.bind(MessageType::FriendInvite.as_str()).bind(MessageType::FriendAccept.as_str());
    let row: Option<(Option<i64>,)> = conn.one(select).await?;
    Ok(row.and_then(|(at,)| at).map(UnixMillis))
}

/// Forgets envelopes whose time is over. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from applied_envelopes where expires_at <= $1").bind(now.0)).await
}
