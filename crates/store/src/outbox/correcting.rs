//! Times that a clock has stored that was ahead. A wait that ends later than any wait can is over.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// The latest times that a clock that is right can have stored.
#[derive(Debug, Clone, Copy)]
pub struct LatestTimes {
    /// The time now.
    pub now: UnixMillis,
    /// Of something that has happened.
    pub past: UnixMillis,
    /// Of the end of a wait.
    pub wait: UnixMillis,
    /// Of the end of a wait for a peer that takes fresh envelopes only.
    pub wait_for_ordinary: UnixMillis,
    /// Of the end of a lease.
    pub lease: UnixMillis,
}

/// The condition on a peer whose record cannot be from a clock that is right. A failure in the future
/// says that the wait after it was counted from there, too.
macro_rules! is_peer_wrong {
    () => {
        "(retry_at > $1 or pause_until > $1 or last_failure_at > $2 or last_delivery_at > $2
           or (revocation_window_seconds is null and (retry_at > $3 or pause_until > $3)))"
    };
}

/// Whether the queue or the record of a peer has a time that a clock that is right cannot have stored.
/// Steps from one peer to the next through the index, and reads no row of the queue.
pub async fn has_wrong_times(conn: &mut Conn, latest: &LatestTimes) -> Result<bool, StoreError> {
    let select = Statement::new(concat!(
        "with recursive domains(domain) as (
             select min(peer_domain) from outbox where next_attempt_at is not null
             union all
             select (select min(o.peer_domain) from outbox o
                      where o.next_attempt_at is not null and o.peer_domain > d.domain)
             from domains d where d.domain is not null
         )
         select cast(1 as bigint) where exists (select 1 from peers where ",
        is_peer_wrong!(),
        ") or exists (select 1 from outbox where lease_until is not null and lease_until > $4)
           or exists (select 1 from domains d where exists (
                  select 1 from outbox o where o.peer_domain = d.domain and o.next_attempt_at > $1))"
    ));
    let select = select.bind(latest.wait).bind(latest.past).bind(latest.wait_for_ordinary);
    let found: Option<(i64,)> = conn.one(select.bind(latest.lease)).await?;
    Ok(found.is_some())
}

/// Makes due what waits beyond the latest times, and takes back leases that end beyond them. Returns how
/// many rows and peers that were.
pub async fn correct_times(tx: &mut Tx, latest: &LatestTimes) -> Result<u64, StoreError> {
    let rows = Statement::new("update outbox set next_attempt_at = $2 where next_attempt_at > $1");
    let leases = Statement::new(
        "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
         where lease_until is not null and lease_until > $1",
    );
    let peers = Statement::new(concat!(
        "update peers set retry_at = 0, pause_until = 0, probed_early = 0,
             last_failure_at = case when last_failure_at > $2 then $4 else last_failure_at end,
             last_delivery_at = case when last_delivery_at > $2 then $4 else last_delivery_at end
         where ",
        is_peer_wrong!()
    ));
    let peers = peers.bind(latest.wait).bind(latest.past).bind(latest.wait_for_ordinary).bind(latest.now);
    Ok(tx.change(rows.bind(latest.wait).bind(latest.now)).await?
        + tx.change(leases.bind(latest.lease)).await?
        + tx.change(peers).await?)
}
