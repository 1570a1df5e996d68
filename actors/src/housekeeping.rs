//! Forgetting what is over its time, and letting idle actors go. Run once a minute.

use std::sync::Arc;

use futures_util::FutureExt;
use vellum_protocol::Domain;
use vellum_store::{
    StoreError, applied_envelopes, code_emails, device_transfers, displaced_leases, invitations,
    known_sources, passkey_ceremonies, peers, sessions, sign_in_codes, transport_nonces, wrong_codes,
};

use crate::node::Node;
use crate::sign_in::KNOWN_MILLIS;

/// Peers with a changed key that are looked at in one round.
const KEYS_A_ROUND: u32 = 20;
/// For how long a device transfer counts against its user's limit.
const HOUR_MILLIS: i64 = 3_600_000;

/// One round.
///
/// # Errors
/// Only what the database says; the next round tries again.
pub async fn sweep(node: &Arc<Node>) -> Result<(), StoreError> {
    let now = node.clock.now();
    let users = node.directory.sweep(now);
    let peers = node.peers.sweep(now);
    node.reports.sweep();
    node.withdrawals.sweep();
    let expired_until = node.settings.invitations.expired_until(now);
    let an_hour_ago = now.plus_millis(-HOUR_MILLIS);
    let (forgotten, changed_keys) = node
        .store
        .write(move |tx| {
            async move {
                let forgotten = sessions::purge(tx, now).await?
                    + sign_in_codes::purge(tx, now).await?
                    + wrong_codes::purge(tx, now).await?
                    + code_emails::purge(tx, now).await?
                    + known_sources::purge(tx, now.plus_millis(-KNOWN_MILLIS)).await?
                    + passkey_ceremonies::purge(tx, now).await?
                    + device_transfers::purge(tx, now, an_hour_ago).await?
                    + transport_nonces::purge(tx, now).await?
                    + applied_envelopes::purge(tx, now).await?
                    + displaced_leases::purge(tx, now).await?
                    + invitations::purge(tx, expired_until).await?;
                let changed_keys = peers::take_changed_keys(tx, an_hour_ago, KEYS_A_ROUND, now).await?;
                Ok::<_, StoreError>((forgotten, changed_keys))
            }
            .boxed()
        })
        .await?;
    node.store.tidy(now).await?;
    look_at_changed_keys(node, changed_keys);
    tracing::debug!(rows = forgotten, users, peers, "kept house");
    Ok(())
}

/// Looks whether peers that show another key than the pinned one still do. Nothing is sent to them meanwhile, so
/// nothing else would notice that one shows the right one again. Each is looked at once an hour.
fn look_at_changed_keys(node: &Arc<Node>, domains: Vec<String>) {
    for domain in domains.iter().filter_map(|domain| Domain::parse(domain).ok()) {
        let node = Arc::clone(node);
        // A round does not wait for the slowest of them.
        actix::spawn(async move {
            match node.peers.look_again(&node, &domain).await {
                Ok(()) => tracing::info!(peer = %domain, "the peer shows the pinned key again"),
                Err(error) => tracing::debug!(peer = %domain, %error, "the peer was looked at again"),
            }
            node.wake_delivery();
        });
    }
}
