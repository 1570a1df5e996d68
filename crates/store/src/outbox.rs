//! The outbox: envelopes on their way to other nodes, and revocations that wait for their signature.
//!
//! ```text
//!   awaiting_signature ──queue──▶ queued ◀──postpone── delivering ──delivered──▶ (gone)
//!           ▲                       │  └─────lease───────▶ │  └──reject──▶ rejected
//!           └────── expire ─────────┘                      │
//!           └────── (a reset takes the old signature back) ┘
//! ```
//!
//! A row is leased before it is sent. Every lease has a token of its own, and an outcome is
//! recorded only where that token still stands. So an outcome that comes late, for a row that was
//! discarded, signed anew or leased again, changes nothing.
//!
//! This file holds the owner's side: what is pending, signing, discarding. `outbox/leasing.rs`
//! holds the delivery's side, `outbox/leased.rs` the row that it takes, `outbox/outcome.rs` what
//! becomes of it, `outbox/windows.rs` until when it may be sent, `outbox/correcting.rs` what a
//! wrong clock has stored.

mod correcting;
mod leased;
mod leasing;
mod outcome;
pub mod overview;
mod windows;

pub use correcting::{LatestTimes, WrongTimes, correct_times, wrong_times};
pub use leased::{Lease, Leased};
pub use leasing::{
    PeerQueue, Wanted, expire_leases, hand_back, is_leased, lease_due, next_due, next_due_after, next_end,
    queue_of, queues, release_leases,
};
pub use outcome::{FailureScope, Outcome, Retry, record_outcome};
pub use windows::{Lapsed, expire, widen_windows};

use vellum_protocol::{Envelope, Handle, MessageType, UnixMillis};

use crate::row::{Columns, FromRow, columns, word};
use crate::statement::Statement;
use crate::{Conn, InvitationId, OutboxId, StoreError, Tx, UserId, displaced_leases};

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The owner has yet to sign, for the first time or again.
    AwaitingSignature,
    /// Signed; an attempt is due at some time.
    Queued,
    /// An attempt is under way.
    Delivering,
    /// The peer refuses for good.
    Rejected,
}

impl State {
    /// The word that the database and the API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingSignature => "awaiting_signature",
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::AwaitingSignature, Self::Queued, Self::Delivering, Self::Rejected]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

word!(State);

/// A revocation that its peer has not confirmed yet, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRevocation {
    /// The row's name.
    pub id: OutboxId,
    /// Whom it is for.
    pub peer_handle: Handle,
    /// Since when it is pending.
    pub created_at: UnixMillis,
    /// Where it stands.
    pub state: State,
    /// Attempts with the present signature.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When the last attempt was made.
    pub last_attempt_at: Option<UnixMillis>,
    /// When the next one is due; `None` unless queued.
    pub next_attempt_at: Option<UnixMillis>,
    /// When the peer stops taking the present signature; `None` while unsigned.
    pub expires_at: Option<UnixMillis>,
}

impl FromRow for PendingRevocation {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let mut pending = Self {
            id: columns.field("outbox.id")?,
            peer_handle: columns.field("outbox.peer_handle")?,
            created_at: columns.field("outbox.created_at")?,
            state: columns.field("outbox.state")?,
            attempts: columns.field("outbox.attempts")?,
            last_error: columns.field("outbox.last_error")?,
            last_attempt_at: columns.field("outbox.last_attempt_at")?,
            next_attempt_at: columns.field("outbox.next_attempt_at")?,
            expires_at: columns.field("outbox.expires_at")?,
        };
        // A row is due only when its peer is: what the owner sees is the later of the two.
        let retry_at: Option<UnixMillis> = columns.field("peers.retry_at")?;
        pending.next_attempt_at = match (pending.state, pending.next_attempt_at) {
            (State::Queued, Some(at)) => Some(at.max(retry_at.unwrap_or(at))),
            _ => None,
        };
        Ok(pending)
    }
}

macro_rules! select_pending {
    ($rest:literal) => {
        concat!(
            "select o.id, o.peer_handle, o.created_at, o.state, o.attempts, o.last_error, o.last_attempt_at, ",
            "o.next_attempt_at, o.expires_at, ",
            "case when p.pause_until > p.retry_at then p.pause_until else p.retry_at end as retry_at ",
            "from outbox o left join peers p on p.domain = o.peer_domain ",
            "where o.user_id = $1 and o.message_type = 'RELATIONSHIP_REVOKE' ",
            $rest
        )
    };
}

/// The user's pending revocations in every state, oldest first.
pub async fn pending_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<PendingRevocation>, StoreError> {
    conn.all(Statement::new(select_pending!("order by o.created_at, o.id")).bind(user)).await
}

/// The user's pending revocation for exactly this peer.
pub async fn pending_for_peer(
    conn: &mut Conn,
    user: &UserId,
    peer: &Handle,
) -> Result<Option<PendingRevocation>, StoreError> {
    conn.one(Statement::new(select_pending!("and o.peer_handle = $2")).bind(user).bind(peer.as_str())).await
}

/// How many revocations of the user are pending, in whatever state.
pub async fn count_pending(conn: &mut Conn, user: &UserId) -> Result<u64, StoreError> {
    let (count,): (u64,) = conn
        .row(
            Statement::new(
                "select count(*) from outbox where user_id = $1 and message_type = 'RELATIONSHIP_REVOKE'",
            )
            .bind(user),
        )
        .await?;
    Ok(count)
}

/// Every handle that the user has a friendship, an invitation or a share with, in either direction. An
/// invitation's peer is told by its direction, so one whose alias is the user's own is not left out.
pub async fn peers_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<Handle>, StoreError> {
    let rows: Vec<(Handle,)> = conn
        .all(
            Statement::new(
                "select friend_handle from friendships where user_id = $1
         union select case direction when 'incoming' then from_handle else to_handle end
               from invitations where local_user_id = $1 and delivery_error is null
         union select peer_handle from shares where user_id = $1
         order by 1",
            )
            .bind(user),
        )
        .await?;
    Ok(rows.into_iter().map(|(handle,)| handle).collect())
}

/// Makes a revocation pending for this peer. One that is pending already is unsigned again: what it
/// carried was signed with keys that are gone.
pub async fn await_signature(
    tx: &mut Tx,
    user: &UserId,
    peer: &Handle,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let revoke = MessageType::RelationshipRevoke.as_str();
    displaced_leases::note(tx, user, Some((peer.as_str(), revoke, ""))).await?;
    tx.change(Statement::new("insert into outbox (id, user_id, peer_handle, peer_domain, message_type, subject, state, created_at)
         values ($1, $2, $3, $4, 'RELATIONSHIP_REVOKE', '', 'awaiting_signature', $5)
         on conflict (user_id, peer_handle, message_type, subject) do update set
             state = 'awaiting_signature', envelope = null, envelope_at = null, expires_at = null,
             next_attempt_at = null, lease_holder = null, lease_until = null")
        .bind(&OutboxId::generate())
        .bind(user)
        .bind(peer.as_str())
        .bind(peer.domain().folded())
        .bind(now.0)).await?;
    Ok(())
}

/// Takes back every signature of the user that has not been delivered: revocations wait to be signed
/// anew (but not by somebody who is a friend of their recipient again: a signature of now would end that),
/// other messages go and are returned, so that what rested on them can be undone. Part of a reset
/// and of a change of keys, since what the old keys signed no longer verifies.
pub async fn withdraw_signatures(tx: &mut Tx, user: &UserId) -> Result<Vec<Lapsed>, StoreError> {
    displaced_leases::note(tx, user, None).await?;
    tx.change(Statement::new("delete from outbox where user_id = $1 and state <> 'awaiting_signature'
           and message_type = 'RELATIONSHIP_REVOKE' and exists (
               select 1 from friendships f where f.user_id = outbox.user_id and f.friend_handle = outbox.peer_handle)")
        .bind(user)).await?;
    tx.change(Statement::new("update outbox set state = 'awaiting_signature', envelope = null, envelope_at = null, expires_at = null,
             next_attempt_at = null, lease_holder = null, lease_until = null
         where user_id = $1 and state <> 'awaiting_signature' and message_type = 'RELATIONSHIP_REVOKE'")
        .bind(user)).await?;
    tx.change_returning(
        Statement::new(
            "delete from outbox where user_id = $1 and message_type <> 'RELATIONSHIP_REVOKE'
         returning user_id, peer_handle, message_type, subject,
             case when state = 'delivering' then 1 else maybe_arrived end as maybe_arrived,
             voids_revocation, last_error",
        )
        .bind(user),
    )
    .await
}

/// Puts a signed envelope on its way: due at once, until `expires_at`. It replaces what is there for the
/// same peer and subject, also while an attempt with that is under way: the newer signature reaches at
/// least as far, and the old attempt's outcome then counts no more. `trace` says where in a trace the request
/// for it stood (W3C Trace Context). Returns the row's id.
pub async fn queue(
    tx: &mut Tx,
    user: &UserId,
    envelope: &Envelope,
    subject: &str,
    expires_at: UnixMillis,
    trace: Option<&str>,
    now: UnixMillis,
) -> Result<OutboxId, StoreError> {
    let content = &envelope.content;
    let (peer, message_type) = (content.to.as_str(), content.message_type.as_str());
    displaced_leases::note(tx, user, Some((peer, message_type, subject))).await?;
    let (id,): (OutboxId,) = tx.change_returning_row(Statement::new("insert into outbox (id, user_id, peer_handle, peer_domain, message_type, subject, state, envelope,
             envelope_at, expires_at, next_attempt_at, created_at, trace)
         values ($1, $2, $3, $4, $5, $6, 'queued', $7, $8, $9, $10, $10, $11)
         on conflict (user_id, peer_handle, message_type, subject) do update set
             state = 'queued', envelope = excluded.envelope, envelope_at = excluded.envelope_at,
             expires_at = excluded.expires_at, next_attempt_at = excluded.next_attempt_at, attempts = 0,
             refusals = 0, trace = excluded.trace,
             maybe_arrived = 0, voids_revocation = 0, lease_holder = null, lease_until = null
         returning id")
        .bind(&OutboxId::generate())
        .bind(user)
        .bind(peer)
        .bind(content.to.domain().folded())
        .bind(message_type)
        .bind(subject)
        .bind(envelope.to_json().canonical())
        .bind(content.timestamp.instant().0)
        .bind(expires_at.0)
        .bind(now.0)
        .bind(trace)).await?;
    Ok(id)
}

/// A row that is gone, and who may still have it in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The row.
    pub id: OutboxId,
    /// The leases under which attempts with it may be under way: its own, and those that it has lost to a newer
    /// signature.
    pub leases: Vec<Lease>,
}

struct RemovedRow {
    id: OutboxId,
    lease_holder: Option<String>,
    lease_until: Option<UnixMillis>,
}

columns!("outbox": RemovedRow { id, lease_holder, lease_until });

/// What was removed, with every lease on it.
async fn removed(tx: &mut Tx, row: Option<RemovedRow>) -> Result<Option<Removed>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let mut leases = displaced_leases::take(tx, &row.id).await?;
    if let Some((holder, until)) = row.lease_holder.zip(row.lease_until) {
        leases.push(Lease { holder, until });
    }
    Ok(Some(Removed { id: row.id, leases }))
}

/// Removes the user's pending revocation for exactly this peer, in whatever state, and returns it.
pub async fn discard(tx: &mut Tx, user: &UserId, peer: &Handle) -> Result<Option<Removed>, StoreError> {
    let row: Option<RemovedRow> = tx.change_returning(Statement::new("delete from outbox where user_id = $1 and peer_handle = $2 and message_type = 'RELATIONSHIP_REVOKE'
         returning id, lease_holder, lease_until")
        .bind(user)
        .bind(peer.as_str())).await.map(|mut rows| rows.pop())?;
    removed(tx, row).await
}

/// Removes a revocation for this peer that nobody signed: the relationship it was to end has been
/// replaced by a new one, which a signature made from now on would end. Tells whether there was one.
pub async fn drop_unsigned(tx: &mut Tx, user: &UserId, peer: &Handle) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new(
                "delete from outbox where user_id = $1 and peer_handle = $2 and state = 'awaiting_signature'",
            )
            .bind(user)
            .bind(peer.as_str()),
        )
        .await?;
    Ok(done > 0)
}

/// Whether anything waits for this node that is not a revocation, so that only its first minutes count.
pub async fn has_short_lived(conn: &mut Conn, domain: &str) -> Result<bool, StoreError> {
    let select = Statement::new(
        "select cast(1 as bigint) from outbox
         where next_attempt_at is not null and peer_domain = $1 and message_type <> $2 limit 1",
    );
    let select = select.bind(domain).bind(MessageType::RelationshipRevoke.as_str());
    Ok(conn.one::<(i64,)>(select).await?.is_some())
}

/// Whether anything for this node was signed at `since` or later, and has not been tried.
pub async fn has_untried(conn: &mut Conn, domain: &str, since: UnixMillis) -> Result<bool, StoreError> {
    let select = Statement::new(
        "select cast(1 as bigint) from outbox
         where state = 'queued' and peer_domain = $1 and next_attempt_at >= $2 and attempts = 0 limit 1",
    );
    Ok(conn.one::<(i64,)>(select.bind(domain).bind(since)).await?.is_some())
}

/// Whether a revocation for this peer is on its way while the invitation that followed it cannot have reached anybody yet.
pub async fn invites_after_revoking(
    conn: &mut Conn,
    user: &UserId,
    peer: &Handle,
    invitation: &InvitationId,
) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = conn.one(Statement::new("select cast(1 as bigint) from outbox i join outbox r on r.user_id = i.user_id
         where i.user_id = $1 and i.message_type = $3 and i.subject = $4 and i.state = 'queued' and i.maybe_arrived = 0
           and r.peer_handle = $2 and r.message_type = $5 and r.state in ('queued', 'delivering')")
        .bind(user)
        .bind(peer.as_str())
        .bind(MessageType::FriendInvite.as_str())
        .bind(invitation)
        .bind(MessageType::RelationshipRevoke.as_str())).await?;
    Ok(row.is_some())
}

/// Removes acceptances for this peer that wait here: the friendship that they tell of has been ended.
pub async fn drop_acceptances(tx: &mut Tx, user: &UserId, peer: &Handle) -> Result<(), StoreError> {
    let delete = Statement::new(
        "delete from outbox where user_id = $1 and peer_handle = $2 and message_type = $3 and state = 'queued'",
    );
    tx.change(delete.bind(user).bind(peer).bind(MessageType::FriendAccept.as_str())).await?;
    Ok(())
}

/// Notes that the message about this subject has made a revocation void.
pub async fn note_voided_revocation(tx: &mut Tx, id: &OutboxId) -> Result<(), StoreError> {
    tx.change(Statement::new("update outbox set voids_revocation = 1 where id = $1").bind(id)).await?;
    Ok(())
}

/// Removes the messages of a type about a subject, and returns the one there was.
pub async fn withdraw(
    tx: &mut Tx,
    user: &UserId,
    message_type: MessageType,
    subject: &str,
) -> Result<Option<Removed>, StoreError> {
    let row: Option<RemovedRow> = tx
        .change_returning(
            Statement::new(
                "delete from outbox where user_id = $1 and message_type = $2 and subject = $3
         returning id, lease_holder, lease_until",
            )
            .bind(user)
            .bind(message_type.as_str())
            .bind(subject),
        )
        .await
        .map(|mut rows| rows.pop())?;
    removed(tx, row).await
}
