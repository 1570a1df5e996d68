//! The delivery's side of the outbox: leasing what is due, recording outcomes, closing windows.

use vellum_protocol::{Handle, MessageType, UnixMillis};

use crate::conn::per_engine;
use crate::defects::{Defect, planted};
use crate::peers::DELIVERY_MILLIS;
use crate::row::{columns, read, read_word};
use crate::statement::Statement;
use crate::{Conn, OutboxId, StoreError, Tx, UserId, displaced_leases};

use super::leased::{Leased, LeasedRow, Unread, Unreadable};

/// Which user's turn it is, drawn by lot for each look at the outbox: a place in the order of what is random
/// in users' ids.
#[derive(Debug, Clone)]
pub struct Lot(String);

impl Lot {
    /// The lot with this number.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(format!("{:012x}", number & 0xffff_ffff_ffff))
    }
}

/// The peers that something is to be sent to or is being sent to, from the first whose domain comes after one up to another, of which `''` stands
/// for no bound. A look goes through them a stretch at a time, so that it is over soon however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    after: String,
    last: String,
}

impl Stretch {
    /// The last of its peers, if there are more behind it: the next stretch begins there.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        (!self.last.is_empty()).then_some(self.last.as_str())
    }
}

/// How many times as many peers a stretch has at most, however many of them are being waited for.
const LONGEST_STRETCH: i64 = 8;

/// The next peers after this domain (`""`: from the beginning): so many that may be tried at `now`, and those between them that
/// failed before and are being waited for.
pub async fn stretch(
    conn: &mut Conn,
    after: &str,
    peers: u32,
    now: UnixMillis,
) -> Result<Stretch, StoreError> {
    // Each with how many come before it: of those that may be tried, and in all.
    let walk = Statement::new(
        "with recursive domains(domain, ready, n) as (
             select min(peer_domain), cast(0 as bigint), cast(0 as bigint) from outbox
             where next_attempt_at is not null and peer_domain > $1
             union all
             select (select min(o.peer_domain) from outbox o
                      where o.next_attempt_at is not null and o.peer_domain > d.domain),
                    d.ready + 1 - (select count(*) from peers p where p.domain = d.domain and p.retry_at > $4),
                    d.n + 1
             from domains d where d.domain is not null and d.ready < $2 and d.n < $3
         )
         select domain from domains order by n desc limit 2",
    );
    let (ready, peers) = (i64::from(peers), i64::from(peers) * LONGEST_STRETCH);
    let ends: Vec<(Option<String>,)> = conn.all(walk.bind(after).bind(ready).bind(peers).bind(now)).await?;
    // The walk ends with whoever is behind the stretch; where that is nobody, it goes up to the end.
    let mut ends = ends.into_iter().map(|(domain,)| domain);
    let last = ends.next().flatten().and_then(|_| ends.next().flatten());
    Ok(Stretch { after: after.to_owned(), last: last.unwrap_or_default() })
}

/// The peers of a stretch, from `$after` to `$upto`, that anything may be queued for and that may be tried, as far as operators and keys
/// are concerned. It steps from one domain to the next through the index and touches no row between, so a hundred thousand
/// rows for one peer cost as much as one.
macro_rules! with_open_peers {
    (after $after:literal, upto $upto:literal, $($rest:literal),+) => {
        concat!(
            "with recursive domains(domain) as (
                 select min(peer_domain) from outbox where next_attempt_at is not null and peer_domain > ", $after, "
                 union all
                 select (select min(o.peer_domain) from outbox o
                          where o.next_attempt_at is not null and o.peer_domain > d.domain)
                 from domains d where d.domain is not null and (", $upto, " = '' or d.domain < ", $upto, ")
             ),
             open_peers as materialized (
                 select d.domain, coalesce(p.failures, 0) as failures, coalesce(p.last_delivery_at, 0) as delivered_at,
                        coalesce(case when p.pause_until > p.retry_at then p.pause_until else p.retry_at end, 0)
                            as retry_at
                 from domains d left join peers p on p.domain = d.domain
                 where d.domain is not null and coalesce(p.paused, 0) = 0 and p.offered_key is null
                   and coalesce(p.standing, 'neutral') <> 'blocked'
                   and not exists (select 1 from node_state where name = 'deliveries_paused' and value <> 0)
             ) ",
            $($rest),+
        )
    };
}

/// Leases what [`lease_due`] is to lease: of the rows that `$oldest` finds for each of the peers `c`, and of those whose turn it is,
/// what `$chosen` names. Rows that are leased stay in the indexes of what is to be
/// sent, so that on SQLite leasing moves nothing there; of one peer they are as many as it has places, and are stepped over.
macro_rules! lease {
    (oldest $oldest:literal, chosen $chosen:literal) => {
        concat!(with_open_peers!(after "$7", upto "$8",
        ", counted as materialized (
             select p.domain, case when p.failures > 0 or (p.delivered_at < $9 and p.domain <> $10) then 1 else $5 end
                        - (select count(*) from outbox b
                            where b.lease_until is not null and b.peer_domain = p.domain) as places
             from open_peers p where p.retry_at <= $2
         ),
         turns(domain, places, user_turn, step) as (
             select c.domain, c.places, coalesce(
                        (select substr(o.user_id, 25) from outbox o
                          where o.next_attempt_at is not null and o.state = 'queued' and o.peer_domain = c.domain
                            and substr(o.user_id, 25) >= $6
                          order by substr(o.user_id, 25) limit 1),
                        (select substr(o.user_id, 25) from outbox o
                          where o.next_attempt_at is not null and o.state = 'queued' and o.peer_domain = c.domain
                          order by substr(o.user_id, 25) limit 1)),
                    1
             from counted c where c.places > 0
             union all
             select t.domain, t.places,
                    (select substr(o.user_id, 25) from outbox o
                      where o.next_attempt_at is not null and o.state = 'queued' and o.peer_domain = t.domain
                        and substr(o.user_id, 25) > t.user_turn
                      order by substr(o.user_id, 25) limit 1),
                    t.step + 1
             from turns t where t.user_turn is not null and t.step < t.places
         ),
         candidates as materialized (
             select t.domain, t.places, t.step, cast(0 as bigint) as at,
                    (select f.id from outbox f
                      where f.state = 'queued' and f.peer_domain = t.domain
                        and substr(f.user_id, 25) = t.user_turn and f.next_attempt_at <= $2 and f.expires_at > $2
                      order by f.next_attempt_at limit 1) as id
             from turns t where t.user_turn is not null
             union all
             select c.domain, c.places, $5 + 1, o.next_attempt_at, o.id
             from counted c", $oldest, "
         ),
         due as materialized (
             select f.id, f.places,
                    row_number() over (partition by f.domain order by f.step, f.at, f.id) as turn
             from (select id, domain, places, min(step) as step, max(at) as at from candidates
                   where id is not null group by id, domain, places) as f
         ),
         chosen as materialized (", $chosen, ")
         update outbox set state = 'delivering', lease_holder = $1, lease_until = $3
         where state = 'queued' and id in (select id from chosen)
         returning id, user_id, peer_handle, subject, envelope, expires_at, attempts, refusals,
             maybe_arrived, voids_revocation, trace, lease_holder,
             (select count(*) from peers p where p.domain = outbox.peer_domain and p.failures = 0 and p.retry_at = 0
                 and p.probed_early = 0 and p.last_error is null and p.last_delivery_at > $11) as peer_is_well"))
    };
}

/// What a look at the outbox is to lease.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is due then.
    pub now: UnixMillis,
    /// When the leases end.
    pub until: UnixMillis,
    /// So many rows at most.
    pub limit: u32,
    /// So many at once to one peer, counting those already under way.
    pub per_peer: u32,
    /// With whom of the users with rows for one peer it begins.
    pub lot: Lot,
    /// Which peers it looks at.
    pub stretch: Stretch,
    /// A peer that has taken nothing since then may be away: it gets a single probe. 0 for none.
    pub proven_since: UnixMillis,
    /// This node's own domain, folded, which is never away.
    pub own: String,
}

/// Leases what is `wanted`, with `lease` for the leases' word. Peers take turns: each one's first due row comes before any one's second. So do the
/// users with rows for one peer, beginning with the one whom the lot hits: whoever has a hundred thousand rows
/// there has one turn like everybody, and what places are left. A peer with failures on its record, or that has taken
/// nothing lately, gets a single probe: many that are away cost one attempt each. Nothing goes to a peer that is blocked, paused, or shows
/// another key than the pinned one.
pub async fn lease_due(tx: &mut Tx, lease: &str, wanted: &Wanted) -> Result<Vec<Unread>, StoreError> {
    let until = if planted(Defect::NoLeaseExpiry) { UnixMillis(i64::MAX) } else { wanted.until };
    let text = per_engine!(tx,
        sqlite: lease!(
            oldest " join outbox o on o.id in (
                 select f.id from outbox f
                 where f.state = 'queued' and f.peer_domain = c.domain and f.next_attempt_at <= $2
                   and f.expires_at > $2
                 order by f.next_attempt_at, f.id limit $5)
             where c.places > 0",
            chosen "select id from due where turn <= places order by turn, id limit $4"
        ),
        // It would try every row against that list. Rows that another node is about to take are passed over instead of waited for.
        postgres: lease!(
            oldest " cross join lateral (
                 select f.id, f.next_attempt_at from outbox f
                 where f.state = 'queued' and f.peer_domain = c.domain and f.next_attempt_at <= $2
                   and f.expires_at > $2
                 order by f.next_attempt_at, f.id limit $5) as o
             where c.places > 0",
            chosen "select o.id from outbox o join due d on d.id = o.id
             where d.turn <= d.places order by d.turn, o.id limit $4 for update of o skip locked"
        )
    );
    let rows: Vec<LeasedRow> = tx
        .all(
            Statement::new(text)
                .bind(lease)
                .bind(wanted.now.0)
                .bind(until.0)
                .bind(i64::from(wanted.limit))
                .bind(i64::from(wanted.per_peer))
                .bind(&wanted.lot.0)
                .bind(&wanted.stretch.after)
                .bind(&wanted.stretch.last)
                .bind(wanted.proven_since.0)
                .bind(&wanted.own)
                .bind(wanted.now.plus_millis(-DELIVERY_MILLIS).0),
        )
        .await?;
    Ok(rows.into_iter().map(Unread).collect())
}

/// Takes a row that cannot be read out of the queue, which would otherwise stand still behind it. It stays where
/// owner and operator see it.
pub async fn set_aside(tx: &mut Tx, row: &Unreadable, now: UnixMillis) -> Result<(), StoreError> {
    let set_aside = Statement::new(
        "update outbox set state = 'rejected', last_error = $3, last_attempt_at = $4, next_attempt_at = null,
             lease_holder = null, lease_until = null
         where id = $1 and lease_holder = $2",
    );
    let set_aside = set_aside.bind(&row.id).bind(&row.lease);
    tx.change(set_aside.bind("this node can no longer read the message").bind(now)).await?;
    Ok(())
}

/// Whether a lease of this word still stands on the row. In the transaction that carries a message out on this
/// very node, this keeps what was discarded from being carried out.
pub async fn is_leased(tx: &mut Tx, id: &OutboxId, lease: &str) -> Result<bool, StoreError> {
    // Where others write at the same time, the row is held: who removes it waits for this transaction, or came first.
    let text = per_engine!(tx,
        sqlite: "select attempts from outbox where id = $1 and lease_holder = $2",
        postgres: "select attempts from outbox where id = $1 and lease_holder = $2 for update"
    );
    let row: Option<(i64,)> = tx.one(Statement::new(text).bind(id).bind(lease)).await?;
    Ok(row.is_some())
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The peer confirmed: the row goes.
    Delivered,
    /// The peer refuses for good.
    Rejected {
        /// Its words.
        error: String,
    },
    /// To be tried again.
    Postponed {
        /// What went wrong, in words for the owner.
        error: String,
        /// When the next attempt is due.
        next_attempt_at: UnixMillis,
        /// Whether the peer may have carried it out all the same.
        maybe_arrived: bool,
        /// Whether the peer, reached, has refused it.
        refused: bool,
    },
}

/// Records an outcome where the lease still stands. Tells whether it did; if not, nothing changed.
pub async fn finish(
    tx: &mut Tx,
    leased: &Leased,
    outcome: &Outcome,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let change = match outcome {
        Outcome::Delivered => {
            let delete = Statement::new("delete from outbox where id = $1 and lease_holder = $2");
            delete.bind(&leased.id).bind(&leased.lease)
        }
        Outcome::Rejected { error } => {
            let reject = Statement::new(
                "update outbox set state = 'rejected', last_error = $3, last_attempt_at = $4, attempts = attempts + 1,
                     next_attempt_at = null, lease_holder = null, lease_until = null
                 where id = $1 and lease_holder = $2",
            );
            reject.bind(&leased.id).bind(&leased.lease).bind(error).bind(now)
        }
        Outcome::Postponed { error, next_attempt_at, maybe_arrived, refused } => {
            let postpone = Statement::new(
                "update outbox set state = 'queued', last_error = $3, last_attempt_at = $4, attempts = attempts + 1,
                     maybe_arrived = case when $5 = 1 then 1 else maybe_arrived end,
                     next_attempt_at = $6, refusals = refusals + $7, lease_holder = null, lease_until = null
                 where id = $1 and lease_holder = $2",
            );
            let postpone = postpone.bind(&leased.id).bind(&leased.lease).bind(error).bind(now);
            postpone.bind(i64::from(*maybe_arrived)).bind(*next_attempt_at).bind(i64::from(*refused))
        }
    };
    Ok(tx.change(change).await? == 1)
}

/// Puts rows whose lease ended without an outcome back into the queue. Returns how many.
pub async fn expire_leases(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(
        Statement::new(
            "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
         where lease_until is not null and lease_until <= $1",
        )
        .bind(now.0),
    )
    .await
}

/// Hands leases back whose word begins with `prefix`: the holder is stopping, or is known to be gone.
/// Returns how many.
pub async fn release_leases(tx: &mut Tx, prefix: &str) -> Result<u64, StoreError> {
    displaced_leases::release(tx, prefix).await?;
    tx.change(
        Statement::new(
            "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
         where lease_until is not null and substr(lease_holder, 1, length($1)) = $1",
        )
        .bind(prefix),
    )
    .await
}

/// A message other than a revocation that is given up undelivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// Whose message it was.
    pub user_id: UserId,
    /// Whom it was for.
    pub peer_handle: Handle,
    /// What it was.
    pub message_type: MessageType,
    /// The invitation or share it was about.
    pub subject: String,
    /// Whether the peer may have taken it all the same.
    pub maybe_arrived: bool,
    /// Whether what rests on it has made a revocation void.
    pub voids_revocation: bool,
    /// Why the last attempt failed, if there was one.
    pub last_error: Option<String>,
}

pub(super) struct LapsedRow {
    user_id: UserId,
    peer_handle: String,
    message_type: String,
    subject: String,
    maybe_arrived: i64,
    voids_revocation: i64,
    last_error: Option<String>,
}

columns!(LapsedRow {
    user_id,
    peer_handle,
    message_type,
    subject,
    maybe_arrived,
    voids_revocation,
    last_error
});

impl TryFrom<LapsedRow> for Lapsed {
    type Error = StoreError;

    fn try_from(row: LapsedRow) -> Result<Self, StoreError> {
        Ok(Self {
            user_id: row.user_id,
            peer_handle: read("outbox.peer_handle", row.peer_handle.as_str(), Handle::parse)?,
            message_type: read_word("outbox.message_type", &row.message_type, MessageType::parse)?,
            subject: row.subject,
            maybe_arrived: row.maybe_arrived != 0,
            voids_revocation: row.voids_revocation != 0,
            last_error: row.last_error,
        })
    }
}

/// Closes windows that end at or before `now`: revocations wait for a new signature, with their history, or
/// go where the two are friends again, which a signature of now would end;
/// other messages go, and are returned so that what they were part of can be undone.
pub async fn expire(tx: &mut Tx, now: UnixMillis) -> Result<Vec<Lapsed>, StoreError> {
    tx.change(Statement::new("delete from outbox where state = 'queued' and next_attempt_at is not null and expires_at <= $1 and message_type = 'RELATIONSHIP_REVOKE'
           and exists (
               select 1 from friendships f where f.user_id = outbox.user_id and f.friend_handle = outbox.peer_handle)")
        .bind(now.0)).await?;
    tx.change(Statement::new("update outbox set state = 'awaiting_signature', envelope = null, envelope_at = null, expires_at = null,
             next_attempt_at = null
         where state = 'queued' and next_attempt_at is not null and expires_at <= $1 and message_type = 'RELATIONSHIP_REVOKE'")
        .bind(now.0)).await?;
    let rows: Vec<LapsedRow> = tx.change_returning(Statement::new("delete from outbox where state = 'queued' and next_attempt_at is not null and expires_at <= $1
         returning user_id, peer_handle, message_type, subject, maybe_arrived, voids_revocation, last_error")
        .bind(now.0)).await?;
    rows.into_iter().map(Lapsed::try_from).collect()
}

/// Gives the revocations queued for a peer the window that its manifest states: each may be tried until
/// its own timestamp plus `window_millis`.
pub async fn widen_windows(tx: &mut Tx, domain: &str, window_millis: i64) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "update outbox set expires_at = envelope_at + $2
         where peer_domain = $1 and message_type = 'RELATIONSHIP_REVOKE' and state in ('queued', 'delivering')
           and expires_at < envelope_at + $2",
        )
        .bind(domain)
        .bind(window_millis),
    )
    .await?;
    Ok(())
}

/// When something has to be done next: an attempt, a lease's end, a window's end. `None` while nothing
/// is under way.
pub async fn next_due(conn: &mut Conn) -> Result<Option<UnixMillis>, StoreError> {
    let (at,): (Option<i64>,) = conn.row(Statement::new(with_open_peers!(after "''", upto "''",
        ", first_due as materialized (
             select p.retry_at,
                    (select min(o.next_attempt_at) from outbox o
                      where o.state = 'queued' and o.peer_domain = p.domain
                        and o.next_attempt_at is not null) as row_at
             from open_peers p
         )
         select min(due) from (
             select min(case when retry_at > row_at then retry_at else row_at end) as due from first_due
             union all select min(lease_until) from outbox where lease_until is not null
             union all select min(expires_at) from outbox where state = 'queued' and next_attempt_at is not null
         ) as times"
    ))).await?;
    Ok(at.map(UnixMillis))
}
