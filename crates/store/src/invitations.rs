//! Invitations to friendship: the inviter holds an outgoing row, the invited an incoming one.

use std::collections::HashMap;

use vellum_protocol::{Handle, MessageType, UnixMillis};

pub use crate::relations::{Direction, Status};

use crate::friendships::RemoteUser;
use crate::row::{Columns, FromRow};
use crate::statement::Statement;
use crate::{Conn, InvitationId, StoreError, Tx, UserId};

/// An invitation as one user holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The row's name.
    pub id: InvitationId,
    /// Who holds it.
    pub local_user_id: UserId,
    /// Which side the holder is on.
    pub direction: Direction,
    /// Who invites.
    pub from: Handle,
    /// Who is invited.
    pub to: Handle,
    /// Where it stands.
    pub status: Status,
    /// The server that the invitation came from.
    pub origin_server: String,
    /// The inviter's signature, where it was transmitted.
    pub signature: Option<String>,
    /// The other side as it showed itself when the invitation was made.
    pub peer: Option<RemoteUser>,
    /// When the row was made.
    pub created_at: UnixMillis,
    /// When it was made by the clock of whoever signed it: a peer's older revocations do not end it.
    pub revocable_from: UnixMillis,
}

impl Invitation {
    /// The handle of the side that does not hold this row.
    #[must_use]
    pub fn peer_handle(&self) -> &Handle {
        match self.direction {
            Direction::Incoming => &self.from,
            Direction::Outgoing => &self.to,
        }
    }
}

impl FromRow for Invitation {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let mut invitation = Self {
            id: columns.field("invitations.id")?,
            local_user_id: columns.field("invitations.local_user_id")?,
            direction: columns.field("invitations.direction")?,
            from: columns.field("invitations.from_handle")?,
            to: columns.field("invitations.to_handle")?,
            status: columns.field("invitations.status")?,
            origin_server: columns.field("invitations.origin_server")?,
            signature: columns.field("invitations.signature")?,
            created_at: columns.field("invitations.created_at")?,
            revocable_from: columns.field("invitations.revocable_from")?,
            peer: None,
        };
        let signing_key: Option<_> = columns.field("invitations.peer_signing_key")?;
        let encryption_key = columns.field("invitations.peer_encryption_key")?;
        let (name, picture) =
            (columns.field("invitations.peer_name")?, columns.field("invitations.peer_picture")?);
        let handle = invitation.peer_handle().clone();
        invitation.peer =
            signing_key.map(|signing_key| RemoteUser { handle, signing_key, encryption_key, name, picture });
        Ok(invitation)
    }
}

macro_rules! select_invitation {
    ($rest:literal) => {
        concat!(
            "select id, local_user_id, direction, from_handle, to_handle, status, origin_server, signature, ",
            "created_at, revocable_from, peer_signing_key, peer_encryption_key, peer_name, peer_picture from invitations ",
            $rest
        )
    };
}

/// Stores an invitation.
///
/// # Errors
/// [`StoreError::Duplicate`] when the holder has one in the same direction between the same two.
pub async fn insert(tx: &mut Tx, invitation: &Invitation) -> Result<(), StoreError> {
    let peer = invitation.peer.as_ref();
    tx.change(Statement::new("insert into invitations (id, local_user_id, direction, from_handle, to_handle, status, origin_server,
             signature, peer_signing_key, peer_encryption_key, peer_name, peer_picture, created_at,
             revocable_from)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
        .bind(&invitation.id)
        .bind(&invitation.local_user_id)
        .bind(invitation.direction.as_str())
        .bind(invitation.from.as_str())
        .bind(invitation.to.as_str())
        .bind(invitation.status.as_str())
        .bind(&invitation.origin_server)
        .bind(&invitation.signature)
        .bind(peer.map(|peer| peer.signing_key.to_base64()))
        .bind(peer.and_then(|peer| peer.encryption_key).map(|key| key.to_base64()))
        .bind(peer.and_then(|peer| peer.name.as_deref()))
        .bind(peer.and_then(|peer| peer.picture.as_deref()))
        .bind(invitation.created_at.0)
        .bind(invitation.revocable_from.0)).await?;
    Ok(())
}

/// The user's open invitations that were made after `since`, oldest first; only one direction if it
/// is given.
pub async fn pending_of_user(
    conn: &mut Conn,
    user: &UserId,
    direction: Option<Direction>,
    since: UnixMillis,
) -> Result<Vec<Invitation>, StoreError> {
    let select = Statement::new(select_invitation!(
        "where local_user_id = $1 and status = 'pending' and direction = coalesce($2, direction)
           and created_at > $3 and delivery_error is null
         order by created_at, id"
    ));
    let select = select.bind(user).bind(direction.map(Direction::as_str)).bind(since);
    conn.all(select).await
}

/// The same, with those that could not be delivered among them: what the user is shown.
pub async fn shown_to_user(
    conn: &mut Conn,
    user: &UserId,
    direction: Option<Direction>,
    since: UnixMillis,
) -> Result<Vec<Invitation>, StoreError> {
    let select = Statement::new(select_invitation!(
        "where local_user_id = $1 and status = 'pending' and direction = coalesce($2, direction)
           and created_at > $3
         order by created_at, id"
    ));
    let select = select.bind(user).bind(direction.map(Direction::as_str)).bind(since);
    conn.all(select).await
}

/// How many open invitations to a user there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenIncoming {
    /// Of all servers.
    pub all: u64,
    /// Of the server that was asked about.
    pub of_server: u64,
}

/// Counts the open invitations to a user: all of them, and those that came from `server` (in lower
/// case).
pub async fn count_incoming(
    conn: &mut Conn,
    user: &UserId,
    server: &str,
) -> Result<OpenIncoming, StoreError> {
    let select = Statement::new(
        "select count(*), cast(coalesce(sum(case when lower(origin_server) = $2 then 1 else 0 end), 0) as bigint)
         from invitations where local_user_id = $1 and direction = 'incoming' and status = 'pending'",
    );
    let counted: Option<(i64, i64)> = conn.one(select.bind(user).bind(server)).await?;
    let (all, of_server) = counted.unwrap_or_default();
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(OpenIncoming { all: count(all), of_server: count(of_server) })
}

/// Removes so many of the open invitations to a user: each time the oldest of the server that has
/// most.
pub async fn displace_incoming(tx: &mut Tx, user: &UserId, count: u64) -> Result<(), StoreError> {
    // The oldest of the server that has most is the one with the most newer ones of its own server.
    let delete = Statement::new(
        "delete from invitations where id in (
             select ranked.id from (
                 select id, created_at, row_number() over (
                     partition by lower(origin_server) order by created_at desc, id desc) as place
                 from invitations where local_user_id = $1 and direction = 'incoming' and status = 'pending'
             ) as ranked order by ranked.place desc, ranked.created_at, ranked.id limit $2)",
    );
    tx.change(delete.bind(user).bind(i64::try_from(count).unwrap_or(i64::MAX))).await?;
    Ok(())
}

/// Removes the user's open invitations that were not made after `since`: they have expired.
pub async fn expire_of_user(tx: &mut Tx, user: &UserId, since: UnixMillis) -> Result<u64, StoreError> {
    let delete = Statement::new(
        "delete from invitations where local_user_id = $1 and status = 'pending' and created_at <= $2",
    );
    tx.change(delete.bind(user).bind(since)).await
}

/// The same for everybody. One whose acceptance is on its way is not open.
pub async fn purge(tx: &mut Tx, since: UnixMillis) -> Result<u64, StoreError> {
    let delete = Statement::new("delete from invitations where status = 'pending' and created_at <= $1");
    tx.change(delete.bind(since)).await
}

/// The user's invitation with this id, whatever its status.
pub async fn by_id(
    conn: &mut Conn,
    user: &UserId,
    id: &InvitationId,
) -> Result<Option<Invitation>, StoreError> {
    conn.one(Statement::new(select_invitation!("where local_user_id = $1 and id = $2")).bind(user).bind(id))
        .await
}

/// The user's invitation in this direction with exactly this peer, whatever its status. One that could
/// not be delivered is none.
pub async fn with_peer(
    conn: &mut Conn,
    user: &UserId,
    direction: Direction,
    peer: &Handle,
) -> Result<Option<Invitation>, StoreError> {
    let select = Statement::new(select_invitation!(
        "where local_user_id = $1 and direction = $2 and delivery_error is null
           and case direction when 'incoming' then from_handle else to_handle end = $3"
    ));
    conn.one(select.bind(user).bind(direction.as_str()).bind(peer)).await
}

/// Sets the status of an invitation. Tells whether it was there with another one.
pub async fn set_status(tx: &mut Tx, id: &InvitationId, status: Status) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("update invitations set status = $2 where id = $1 and status <> $2")
                .bind(id)
                .bind(status.as_str()),
        )
        .await?;
    Ok(done == 1)
}

/// How far an invitation to somebody on another node has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is tried again; why the last attempt failed, if there was one.
    Queued(Option<String>),
    /// It was given up, for this reason.
    Failed(String),
}

/// The user's invitations that have not been delivered, and why not.
pub async fn undelivered(
    conn: &mut Conn,
    user: &UserId,
) -> Result<HashMap<InvitationId, Delivery>, StoreError> {
    let select = Statement::new(
        "select i.id, i.delivery_error, o.last_error from invitations i
         left join outbox o on o.user_id = i.local_user_id and o.peer_handle = i.to_handle
             and o.message_type = $2 and o.subject = i.id
         where i.local_user_id = $1 and i.direction = 'outgoing'
           and (i.delivery_error is not null or o.id is not null)",
    );
    let select = select.bind(user).bind(MessageType::FriendInvite.as_str());
    let rows: Vec<(InvitationId, Option<String>, Option<String>)> = conn.all(select).await?;
    let delivery = |failed: Option<String>, last| failed.map_or(Delivery::Queued(last), Delivery::Failed);
    Ok(rows.into_iter().map(|(id, failed, last)| (id, delivery(failed, last))).collect())
}

/// Keeps an invitation that was refused or given up as a note to the inviter, with the reason.
pub async fn note_failure(tx: &mut Tx, id: &InvitationId, reason: &str) -> Result<(), StoreError> {
    let update = Statement::new("update invitations set delivery_error = $2 where id = $1");
    tx.change(update.bind(id.as_str()).bind(reason)).await?;
    Ok(())
}

/// Removes an invitation that has nobody to wait for any more; one that has a reason to show stays.
pub async fn delete_unless_noted(tx: &mut Tx, id: &InvitationId) -> Result<(), StoreError> {
    let delete = Statement::new("delete from invitations where id = $1 and delivery_error is null");
    tx.change(delete.bind(id.as_str())).await?;
    Ok(())
}

/// Removes the notes about invitations to this peer that could not be delivered: there is a new one.
pub async fn forget_failures(tx: &mut Tx, user: &UserId, to: &Handle) -> Result<(), StoreError> {
    let delete = Statement::new(
        "delete from invitations where local_user_id = $1 and direction = 'outgoing' and to_handle = $2
           and delivery_error is not null",
    );
    tx.change(delete.bind(user).bind(to)).await?;
    Ok(())
}

/// Removes an invitation. Tells whether it was there.
pub async fn delete(tx: &mut Tx, id: &InvitationId) -> Result<bool, StoreError> {
    let done = tx.change(Statement::new("delete from invitations where id = $1").bind(id)).await?;
    Ok(done == 1)
}

/// Ends the invitations in both directions with this peer that were made at or before `cutoff`. Returns
/// how many.
pub async fn end(tx: &mut Tx, user: &UserId, peer: &Handle, cutoff: UnixMillis) -> Result<u64, StoreError> {
    let delete = Statement::new(
        "delete from invitations where local_user_id = $1 and revocable_from <= $3
           and case direction when 'incoming' then from_handle else to_handle end = $2",
    );
    tx.change(delete.bind(user).bind(peer).bind(cutoff)).await
}

/// Removes every invitation of the user: part of a reset.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from invitations where local_user_id = $1").bind(user)).await
}
