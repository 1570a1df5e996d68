//! The delivery's side of the outbox: which peers have rows that are due, and the leases on them.

use vellum_protocol::UnixMillis;

use super::leased::Leased;
use crate::defects::{Defect, planted};
use crate::row::{Columns, FromRow, columns};
use crate::statement::Statement;
use crate::{Conn, OutboxId, StoreError, Tx, UserId, displaced_leases};

/// What waits for one peer, and whether the peer may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerQueue {
    /// The peer's domain, in lower case.
    pub domain: String,
    /// When the first of its queued rows is due; `None` if none is queued.
    pub row_due: Option<UnixMillis>,
    /// No attempt before this time, whatever is due.
    pub retry_at: UnixMillis,
    /// Whether an operator, or a changed key, lets nothing go there.
    pub is_closed: bool,
    /// Whether reaching it has failed since the last delivery.
    pub has_failed: bool,
    /// When it last took something, to ten seconds; 0 for never.
    pub delivered_at: UnixMillis,
    /// Its rows that any node has under lease now.
    pub leased: u32,
}

impl PeerQueue {
    /// When the peer can be sent something; `None` if nothing is queued, or nothing may go there.
    #[must_use]
    pub fn due_at(&self) -> Option<UnixMillis> {
        self.row_due.filter(|_| !self.is_closed).map(|due| due.max(self.retry_at))
    }
}

columns!("peers": PeerQueue { domain, row_due, retry_at, is_closed, has_failed, delivered_at, leased });

/// What of the queues and of the peers' records makes a [`PeerQueue`], for each of `domains`.
const SELECT_QUEUES: &str = "
    select d.domain,
           (select min(o.next_attempt_at) from outbox o
             where o.peer_domain = d.domain and o.next_attempt_at is not null and o.state = 'queued') as row_due,
           coalesce(case when p.pause_until > p.retry_at then p.pause_until else p.retry_at end, 0) as retry_at,
           cast(case when p.paused <> 0 or p.offered_key is not null or p.standing = 'blocked' or exists (
                    select 1 from node_state where name = 'deliveries_paused' and value <> 0)
                then 1 else 0 end as bigint) as is_closed,
           cast(case when p.failures > 0 then 1 else 0 end as bigint) as has_failed, coalesce(p.last_delivery_at, 0) as delivered_at,
           (select count(*) from outbox o where o.peer_domain = d.domain and o.lease_until is not null) as leased
    from domains d left join peers p on p.domain = d.domain where d.domain is not null";

/// The queues of all peers. Steps from one domain to the next through the index, so a hundred
/// thousand rows for one peer cost as much as one.
pub async fn queues(conn: &mut Conn) -> Result<Vec<PeerQueue>, StoreError> {
    const DOMAINS: &str = "with recursive domains(domain) as (
            select min(peer_domain) from outbox where next_attempt_at is not null
            union all
            select (select min(o.peer_domain) from outbox o
                     where o.next_attempt_at is not null and o.peer_domain > d.domain)
            from domains d where d.domain is not null)";
    conn.all(Statement::new(format!("{DOMAINS}{SELECT_QUEUES}"))).await
}

/// The queue of this peer.
pub async fn queue_of(conn: &mut Conn, domain: &str) -> Result<PeerQueue, StoreError> {
    const DOMAINS: &str = "with domains(domain) as (select cast($1 as text))";
    conn.row(Statement::new(format!("{DOMAINS}{SELECT_QUEUES}")).bind(domain)).await
}

/// When the next queued row of this peer is due that is not due at `now`.
pub async fn next_due_after(
    conn: &mut Conn,
    domain: &str,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    let select = Statement::new(
        "select next_attempt_at from outbox
         where peer_domain = $1 and next_attempt_at > $2 and state = 'queued' order by next_attempt_at limit 1",
    );
    let next: Option<(UnixMillis,)> = conn.one(select.bind(domain).bind(now)).await?;
    Ok(next.map(|(at,)| at))
}

/// When the first lease or the first window of a queued row ends.
pub async fn next_end(conn: &mut Conn) -> Result<Option<UnixMillis>, StoreError> {
    let select = Statement::new(
        "select min(at) from (
             select min(lease_until) as at from outbox where lease_until is not null
             union all
             select min(expires_at) from outbox where next_attempt_at is not null and state = 'queued') as ends",
    );
    let end: Option<(Option<UnixMillis>,)> = conn.one(select).await?;
    Ok(end.and_then(|(at,)| at))
}

/// When something has to be done next: an attempt, a lease's end, a window's end. `None` while
/// nothing is under way.
pub async fn next_due(conn: &mut Conn) -> Result<Option<UnixMillis>, StoreError> {
    let first = queues(conn).await?.iter().filter_map(PeerQueue::due_at).min();
    Ok(first.into_iter().chain(next_end(conn).await?).min())
}

/// What to lease of one peer's rows.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The peer's domain, in lower case.
    pub domain: &'a str,
    /// So many rows at most.
    pub rows: u32,
    /// The user whose row was leased last: the next user comes first.
    pub last_user: Option<&'a UserId>,
    /// The lease token, which no other lease has.
    pub token: &'a str,
    /// What is due then.
    pub now: UnixMillis,
    /// When the leases end.
    pub until: UnixMillis,
}

/// Leases due rows of one peer. Users take turns in the order of the random part of their ids, one
/// row each: a user with a hundred thousand rows has one turn like everybody. A row that cannot
/// be read is set aside as rejected, or the others would stand still behind it.
pub async fn lease_due(tx: &mut Tx, wanted: &Wanted<'_>) -> Result<Vec<Leased>, StoreError> {
    let until = if planted(Defect::NoLeaseExpiry) { UnixMillis(i64::MAX) } else { wanted.until };
    let (mut leased, mut last_user) = (Vec::new(), wanted.last_user.cloned());
    for _ in 0..wanted.rows {
        // The next user's oldest due row; behind the last user comes the first again. `+ 0` keeps
        // the engines from the index by time, whose rows they would have to sort.
        let lease = Statement::new(
            "update outbox set state = 'delivering', lease_holder = $1, lease_until = $2
             where state = 'queued' and id = coalesce(
                 (select id from outbox
                  where peer_domain = $3 and next_attempt_at is not null and next_attempt_at + 0 <= $4
                    and state = 'queued' and expires_at > $4 and substr(user_id, 25) > substr($5, 25)
                  order by substr(user_id, 25), next_attempt_at limit 1),
                 (select id from outbox
                  where peer_domain = $3 and next_attempt_at is not null and next_attempt_at + 0 <= $4
                    and state = 'queued' and expires_at > $4
                  order by substr(user_id, 25), next_attempt_at limit 1))
             returning id, user_id, id, user_id, peer_handle, subject, envelope, expires_at, attempts, refusals,
                 maybe_arrived, voids_revocation, trace, lease_holder",
        );
        let lease = lease.bind(wanted.token).bind(until).bind(wanted.domain).bind(wanted.now);
        let lease = lease.bind(last_user.as_ref().map_or("", UserId::as_str));
        let read = |columns: &mut Columns<'_>| {
            let (id, user): (OutboxId, UserId) = FromRow::from_row(columns)?;
            Ok((id, user, Leased::from_row(columns)))
        };
        let Some((id, user, row)) = tx.all_by(lease, read).await?.pop() else { break };
        last_user = Some(user);
        match row {
            Ok(row) => leased.push(row),
            Err(error) => set_aside(tx, &id, &error, wanted.now).await?,
        }
    }
    Ok(leased)
}

/// Takes a row that cannot be read out of the queue. It stays where owner and operator see it.
async fn set_aside(
    tx: &mut Tx,
    row: &OutboxId,
    error: &StoreError,
    now: UnixMillis,
) -> Result<(), StoreError> {
    tracing::error!(%row, %error, "outbox row cannot be read; it is set aside as rejected");
    let set_aside = Statement::new(
        "update outbox set state = 'rejected', last_error = $1, last_attempt_at = $2, next_attempt_at = null,
             lease_holder = null, lease_until = null
         where id = $3",
    );
    let set_aside = set_aside.bind("this node can no longer read the message").bind(now).bind(row);
    tx.change(set_aside).await?;
    Ok(())
}

/// Returns whether this lease token still stands on the row. In the transaction that carries a
/// message out on this very node, this keeps what was discarded from being carried out.
pub async fn is_leased(tx: &mut Tx, id: &OutboxId, token: &str) -> Result<bool, StoreError> {
    // A change, although of nothing: a removal of the row on another node waits for this
    // transaction, or came first.
    let hold = Statement::new("update outbox set lease_holder = $1 where id = $2 and lease_holder = $1");
    Ok(tx.change(hold.bind(token).bind(id)).await? == 1)
}

/// Puts a leased row back that was not sent, as it was.
pub async fn hand_back(tx: &mut Tx, id: &OutboxId, token: &str) -> Result<(), StoreError> {
    let hand_back = Statement::new(
        "update outbox set state = 'queued', lease_holder = null, lease_until = null
         where id = $1 and lease_holder = $2",
    );
    tx.change(hand_back.bind(id).bind(token)).await?;
    Ok(())
}

/// Puts rows back into the queue whose lease ended without an outcome. Returns the domain of each
/// row's peer.
pub async fn expire_leases(tx: &mut Tx, now: UnixMillis) -> Result<Vec<String>, StoreError> {
    let expire = Statement::new(
        "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
         where lease_until is not null and lease_until <= $1 returning peer_domain",
    );
    let domains: Vec<(String,)> = tx.change_returning(expire.bind(now)).await?;
    Ok(domains.into_iter().map(|(domain,)| domain).collect())
}

/// Puts rows back into the queue whose lease token begins with `prefix`: the holder is stopping, or
/// is known to be gone. Returns how many.
pub async fn release_leases(tx: &mut Tx, prefix: &str) -> Result<u64, StoreError> {
    displaced_leases::release(tx, prefix).await?;
    let release = Statement::new(
        "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
         where lease_until is not null and substr(lease_holder, 1, length($1)) = $1",
    );
    tx.change(release.bind(prefix)).await
}
