//! What operators decide: about the queue, and about peers. The command line and the administrators' paths both
//! come here.
//!
//! A decision is written to the database, with a count that every running node looks at once a second; so
//! the command line needs no way to a running node, and any number of nodes hears of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use vellum_protocol::{Domain, SigningKey};
use vellum_store::outbox::overview::{self, Selection};
use vellum_store::peers::{self, PeerPolicy};
use vellum_store::{OutboxId, Store, StoreError, node_state};

use crate::node::Node;
use crate::replicas;
use crate::{Clock, Error};

/// How often a running node looks whether something was decided.
const LOOK: Duration = Duration::from_secs(1);

/// What is paused or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// Every delivery.
    Everything,
    /// Deliveries to one node.
    Peer(Domain),
}

/// Makes queued rows due at once. Returns how many.
///
/// # Errors
/// [`Error::NotQueued`] when one row is meant and it is not there, or not queued.
pub async fn retry(store: &Store, clock: &Clock, wanted: Selection) -> Result<u64, Error> {
    let now = clock.now();
    decide(store, move |tx| {
        async move {
            let rows = overview::retry_now(tx, &wanted, now).await?;
            if rows == 0 && wanted.id.is_some() { Err(Error::NotQueued) } else { Ok(rows) }
        }
        .boxed()
    })
    .await
}

/// Lets deliveries wait, or go on. Rows stay as they are, and their windows close as always.
///
/// # Errors
/// [`Error::UnknownPeer`] when nothing is known of the node.
pub async fn pause(store: &Store, what: Paused, paused: bool) -> Result<(), Error> {
    decide(store, move |tx| {
        async move {
            match what {
                Paused::Everything => Ok(node_state::pause_deliveries(tx, paused).await?),
                Paused::Peer(domain) => {
                    known(peers::set_paused(tx, &domain.folded(), paused).await?, &domain)
                }
            }
        }
        .boxed()
    })
    .await
}

/// Removes a row. Its owner is not told; what is under way in a running node ends without effect here.
///
/// # Errors
/// [`Error::NotQueued`] when there is no such row.
pub async fn drop_row(store: &Store, id: OutboxId) -> Result<(), Error> {
    decide(store, move |tx| {
        async move {
            let removed = overview::remove(tx, &id).await?.ok_or(Error::NotQueued)?;
            Ok(replicas::tell_removed(tx, &removed).await?)
        }
        .boxed()
    })
    .await
}

/// The same inside a running node: an attempt that is under way is stopped first thing.
///
/// # Errors
/// [`Error::NotQueued`] when there is no such row.
pub async fn drop_row_here(node: &Arc<Node>, id: OutboxId) -> Result<(), Error> {
    let here = Arc::clone(node);
    let withdrawal = decide(&node.store, move |tx| {
        async move {
            let removed = overview::remove(tx, &id).await?.ok_or(Error::NotQueued)?;
            Ok(here.replicas.withdrawal(tx, removed).await?)
        }
        .boxed()
    });
    node.replicas.withdraw(withdrawal.await?).await;
    Ok(())
}

/// Decides about a node, met or not.
///
/// # Errors
/// Only what the database says.
pub async fn set_standing(store: &Store, domain: Domain, standing: PeerPolicy) -> Result<(), Error> {
    decide(store, move |tx| {
        async move { Ok(peers::set_standing(tx, &domain.folded(), standing).await?) }.boxed()
    })
    .await
}

/// Trusts the key that a node shows instead of the pinned one. `key` is what the operator has compared with
/// the node's own word, by another way.
///
/// # Errors
/// [`Error::KeyNotOffered`] when the node shows no such key.
pub async fn repin(store: &Store, clock: &Clock, domain: Domain, key: SigningKey) -> Result<(), Error> {
    let now = clock.now();
    decide(store, move |tx| {
        async move {
            if peers::repin(tx, &domain.folded(), &key, now).await? {
                Ok(())
            } else {
                Err(Error::KeyNotOffered)
            }
        }
        .boxed()
    })
    .await
}

fn known(found: bool, domain: &Domain) -> Result<(), Error> {
    if found { Ok(()) } else { Err(Error::UnknownPeer(domain.clone())) }
}

/// One decision, and the word to running nodes, in one transaction.
async fn decide<T: Send + 'static>(
    store: &Store,
    change: impl for<'t> FnOnce(&'t mut vellum_store::Tx) -> vellum_store::TxFuture<'t, T, Error>
    + Clone
    + Send
    + 'static,
) -> Result<T, Error> {
    store
        .write(move |tx| {
            async move {
                let done = change(tx).await?;
                node_state::note_operator_change(tx).await?;
                Ok(done)
            }
            .boxed()
        })
        .await
}

/// Does as operators decide, for as long as the node runs.
pub async fn follow(node: Arc<Node>) {
    let mut seen = None;
    let mut interval = tokio::time::interval(LOOK);
    loop {
        interval.tick().await;
        match look(&node, seen).await {
            Ok(now) => seen = Some(now),
            Err(error) => tracing::warn!(%error, "what operators have decided could not be read"),
        }
    }
}

async fn look(node: &Arc<Node>, seen: Option<i64>) -> Result<i64, StoreError> {
    let mut conn = node.store.read().await?;
    let now = node_state::operator_changes(&mut conn).await?;
    if seen != Some(now) {
        node.policy.reload(&mut conn).await?;
        drop(conn);
        // Manifests kept from before a decision may carry a key that counts no more.
        node.peers.forget_manifests();
        node.wake_delivery();
    }
    Ok(now)
}
