//! Times that a clock has stored that was ahead. A wait that ends later than any wait can is over.

use vellum_protocol::UnixMillis;

use crate::defects::{Defect, planted};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, displaced_leases};

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
    /// Of the end of a lease. A lease is taken back only when it is far beyond what it can be: a node
    /// whose clock is behind must not take the leases of the others.
    pub lease: UnixMillis,
    /// When a lease that begins now has ended by every node's clock.
    pub lease_over: UnixMillis,
}

impl LatestTimes {
    /// The bound of leases, which one that never ends must reach where that is the planted defect.
    fn lease(&self) -> UnixMillis {
        if planted(Defect::NoLeaseExpiry) { UnixMillis(i64::MAX) } else { self.lease }
    }
}

/// Which stored times a clock that is right cannot have stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WrongTimes {
    /// Of rows of the queue.
    pub rows: bool,
    /// Of leases.
    pub leases: bool,
    /// Of peers.
    pub peers: bool,
    /// None of a clock: a peer that takes fresh envelopes only is waited for longer than that allows, as
    /// the version before this one does.
    pub long_waits: bool,
}

impl WrongTimes {
    /// Whether there is anything to correct.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// The condition on a peer whose record cannot be from a clock that is right. A failure in the future
/// says that the wait after it was counted from there, too.
macro_rules! is_peer_wrong {
    () => {
        "(retry_at > $1 or pause_until > $1 or last_failure_at > $2 or last_delivery_at > $2)"
    };
}

/// Searches the queue and the records of peers for times that a clock that is right cannot have stored.
/// Steps from one peer to the next through the index, and reads no row of the queue.
pub async fn wrong_times(conn: &mut Conn, latest: &LatestTimes) -> Result<WrongTimes, StoreError> {
    let select = Statement::new(concat!(
        "with recursive domains(domain) as (
             select min(peer_domain) from outbox where next_attempt_at is not null
             union all
             select (select min(o.peer_domain) from outbox o
                      where o.next_attempt_at is not null and o.peer_domain > d.domain)
             from domains d where d.domain is not null
         ),
         wrong(what) as (
             select cast(1 as bigint) where exists (select 1 from peers where ",
        is_peer_wrong!(),
        ") union all select 2 where exists (select 1 from peers where revocation_window_seconds is null
                 and (retry_at > $3 or pause_until > $3))
             union all select 3 where exists (
                 select 1 from outbox where lease_until is not null and lease_until > $4)
             union all select 4 where exists (
                 select 1 from domains d where exists (
                     select 1 from outbox o where o.peer_domain = d.domain and o.next_attempt_at > $1))
         )
         select what from wrong"
    ));
    let select = select.bind(latest.wait).bind(latest.past).bind(latest.wait_for_ordinary);
    let found: Vec<(i64,)> = conn.all(select.bind(latest.lease())).await?;
    let has = |what| found.contains(&(what,));
    Ok(WrongTimes { peers: has(1), long_waits: has(2), leases: has(3), rows: has(4) })
}

/// Makes due what waits beyond the latest times, and takes back leases that end beyond them. Returns how
/// many rows and peers a wrong clock had dated. A wait that is only too long is shortened.
pub async fn correct_times(tx: &mut Tx, latest: &LatestTimes, wrong: &WrongTimes) -> Result<u64, StoreError> {
    let mut corrected = 0;
    if wrong.rows {
        let rows = Statement::new("update outbox set next_attempt_at = $2 where next_attempt_at > $1");
        corrected += tx.change(rows.bind(latest.wait).bind(latest.now)).await?;
    }
    if wrong.leases {
        // Their holders may be sending: a discard of such a row has to stop that.
        displaced_leases::note_beyond(tx, latest.lease(), latest.lease_over).await?;
        let leases = Statement::new(
            "update outbox set state = 'queued', maybe_arrived = 1, lease_holder = null, lease_until = null
             where lease_until is not null and lease_until > $1",
        );
        corrected += tx.change(leases.bind(latest.lease())).await?;
    }
    if wrong.peers {
        let peers = Statement::new(concat!(
            "update peers set retry_at = 0, pause_until = 0, probed_early = 0,
                 last_failure_at = case when last_failure_at > $2 then $3 else last_failure_at end,
                 last_delivery_at = case when last_delivery_at > $2 then $3 else last_delivery_at end
             where ",
            is_peer_wrong!()
        ));
        corrected += tx.change(peers.bind(latest.wait).bind(latest.past).bind(latest.now)).await?;
    }
    if wrong.long_waits {
        let shorten = Statement::new(
            "update peers set retry_at = case when retry_at > $1 then $1 else retry_at end,
                 pause_until = case when pause_until > $1 then $1 else pause_until end
             where revocation_window_seconds is null and (retry_at > $1 or pause_until > $1)",
        );
        tx.change(shorten.bind(latest.wait_for_ordinary)).await?;
    }
    Ok(corrected)
}
