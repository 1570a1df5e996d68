//! Several nodes on one database: what they tell each other, and how one stops what another has in hand.
//!
//! ```text
//!   A: discard ── row removed, "withdraw" ──▶ B: stops its attempt
//!      waits   ◀───────── "withdrawn" ──────  B
//!      answers
//! ```
//!
//! Nothing rests on a signal alone. If the answer does not come (B has died), A waits until B's lease is over:
//! nobody sends on a lease that is over. Flushes that wait on one node are told of outcomes on another; one
//! that is not told finds the row as it is when its time is over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::outbox::{Lease, Outcome, Removed};
use vellum_store::signals::{self, Signal, Signals};
use vellum_store::{OutboxId, Store, StoreError, Tx};

use crate::Clock;
use crate::peer::{Attempts, LEASE_MILLIS};
use crate::waiters::{OutcomeReceiver, OutcomeWaiters};

/// The pause after the database could not be reached.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// What is waited for beyond the end of a lease: the nodes' clocks differ.
const CLOCKS_MILLIS: i64 = 2_000;

/// A row that was removed, and who has to stop what with it.
pub(crate) struct Withdrawal {
    id: OutboxId,
    /// The answers of the nodes that have it in hand, and until when that can be.
    elsewhere: Vec<(OutcomeReceiver, UnixMillis)>,
}

/// The other nodes on this database, of which there may be none.
pub struct Replicas {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    /// Names this process among them; the prefix of its lease tokens.
    pub(crate) instance: String,
    pub(crate) outcomes: Arc<OutcomeWaiters>,
    pub(crate) attempts: Arc<Attempts>,
    /// Discards that wait for another node to stop an attempt with their row.
    pub(crate) withdrawals: OutcomeWaiters<(OutboxId, String)>,
}

impl Replicas {
    /// Notes in the transaction that has removed a row who else has to know. [`Replicas::withdraw`]
    /// is called with it once the transaction is committed.
    pub(crate) async fn withdrawal(&self, tx: &mut Tx, removed: Removed) -> Result<Withdrawal, StoreError> {
        let Removed { id, leases } = removed;
        let mut elsewhere = Vec::new();
        let now = self.clock.now();
        for lease in leases {
            let may_send = lease.until.plus_millis(CLOCKS_MILLIS) > now;
            if self.store.is_shared() && lease.node() != self.instance && may_send {
                // Watched before the other node can hear of it.
                let answer = self.withdrawals.watch(&(id.clone(), lease.node().to_owned()));
                tell_holder(tx, &id, &lease).await?;
                elsewhere.push((answer, lease.until));
            }
        }
        Ok(Withdrawal { id, elsewhere })
    }

    /// Stops an attempt with a row that has been removed, if one is under way, here or on another node. When
    /// this returns, none is.
    pub(crate) async fn withdraw(&self, withdrawal: Withdrawal) {
        let Withdrawal { id, elsewhere } = withdrawal;
        self.withdraw_here(&id).await;
        for (answer, until) in elsewhere {
            // An end further ahead than a lease lasts was stored by a clock that was wrong.
            let left = until.since(self.clock.now()).min(LEASE_MILLIS) + CLOCKS_MILLIS;
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            if answer.first(left).await.is_none() {
                tracing::warn!(row = %id, "the node that had a removed row in hand does not answer; its lease is over");
            }
        }
    }

    /// Stops this node's attempt with a row that has been removed, if one is under way. When this
    /// returns, none is.
    async fn withdraw_here(&self, row: &OutboxId) {
        self.outcomes.publish(row, &Outcome::Withdrawn);
        self.attempts.stop(row).await;
    }

    /// Forgets discards that nobody waits for any more.
    pub(crate) fn sweep(&self) {
        self.withdrawals.sweep();
    }
}

/// Does as the other nodes tell, for as long as the node runs. Returns at once where there are none.
pub async fn follow(replicas: Arc<Replicas>) {
    loop {
        match replicas.store.signals().await {
            Ok(None) => return,
            Ok(Some(signals)) => hear(&replicas, signals).await,
            Err(error) => tracing::warn!(%error, "signal channel not opened"),
        }
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

async fn hear(replicas: &Arc<Replicas>, mut signals: Signals) {
    loop {
        match signals.next().await {
            Ok(Signal::Withdraw { row, holder }) if holder == replicas.instance => {
                // In a task of its own: stopping an attempt takes a moment, in which more may be told.
                actix::spawn(stop_and_tell(Arc::clone(replicas), row));
            }
            // Waiting flushes of other nodes hear that their row is gone.
            Ok(Signal::Withdraw { row, .. }) => replicas.outcomes.publish(&row, &Outcome::Withdrawn),
            Ok(Signal::Withdrawn { row, holder }) => {
                replicas.withdrawals.publish(&(row, holder), &Outcome::Withdrawn);
            }
            Ok(Signal::Outcome { row, word, holder }) if holder != replicas.instance => {
                if let Some(outcome) = Outcome::parse(&word) {
                    replicas.outcomes.publish(&row, &outcome);
                }
            }
            Ok(Signal::Outcome { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "signal channel lost");
                return;
            }
        }
    }
}

async fn stop_and_tell(replicas: Arc<Replicas>, row: OutboxId) {
    replicas.withdraw_here(&row).await;
    let stopped = Signal::Withdrawn { row, holder: replicas.instance.clone() };
    let told: Result<(), StoreError> =
        replicas.store.write(move |tx| async move { signals::send(tx, &stopped).await }.boxed()).await;
    if let Err(error) = told {
        tracing::warn!(%error, "another node could not be told that an attempt was stopped");
    }
}

/// Tells the node that has a removed row in hand to stop, where nobody waits for it: the command line.
pub(crate) async fn tell_removed(tx: &mut Tx, removed: &Removed) -> Result<(), StoreError> {
    for lease in &removed.leases {
        tell_holder(tx, &removed.id, lease).await?;
    }
    Ok(())
}

async fn tell_holder(tx: &mut Tx, row: &OutboxId, lease: &Lease) -> Result<(), StoreError> {
    signals::send(tx, &Signal::Withdraw { row: row.clone(), holder: lease.node().to_owned() }).await
}
