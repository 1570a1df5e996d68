//! Forgetting what is over its time, and letting idle actors go. Run once a minute.

use futures_util::FutureExt;
use vellum_store::{
    StoreError, applied_envelopes, device_transfers, displaced_leases, one_time_codes, passkey_ceremonies,
    sessions, transport_nonces,
};

use crate::node::Node;

/// For how long a device transfer counts against its user's limit.
const HOUR_MILLIS: i64 = 3_600_000;

/// One round.
///
/// # Errors
/// Only what the database says; the next round tries again.
pub async fn sweep(node: &Node) -> Result<(), StoreError> {
    let now = node.clock.now();
    let users = node.directory.sweep(now);
    let peers = node.peers.sweep(now);
    node.reports.sweep();
    let forgotten = node
        .store
        .write(move |tx| {
            async move {
                Ok::<_, StoreError>(
                    sessions::purge(tx, now).await?
                        + one_time_codes::purge(tx, now).await?
                        + passkey_ceremonies::purge(tx, now).await?
                        + device_transfers::purge(tx, now, now.plus_millis(-HOUR_MILLIS)).await?
                        + transport_nonces::purge(tx, now).await?
                        + applied_envelopes::purge(tx, now).await?
                        + displaced_leases::purge(tx, now).await?,
                )
            }
            .boxed()
        })
        .await?;
    node.store.tidy(now).await?;
    tracing::debug!(rows = forgotten, users, peers, "kept house");
    Ok(())
}
