//! Forgetting what is over its time, and letting idle actors go. Run once a minute.
//!
//! Rows are purged an hour after they ended, and only while the wall clock can be trusted: when it
//! and the boot clock have agreed for an hour. A clock that is ahead for a while would end what is
//! valid by the right time, such as the nonces that keep a captured request from being taken again.

use std::sync::Arc;

use futures_util::FutureExt;
use vellum_protocol::{Domain, UnixMillis};
use vellum_store::{
    StoreError, applied_envelopes, code_emails, device_transfers, displaced_leases, invitations,
    known_sources, passkey_ceremonies, peers, sessions, sign_in_codes, transport_nonces, wrong_codes,
};

use crate::clock::CLOCKS_DIFFER_MILLIS;
use crate::node::Node;
use crate::sign_in::KNOWN_MILLIS;

/// Peers with a changed key that are looked at in one round.
const KEYS_A_ROUND: u32 = 20;
/// For how long a device transfer counts against its user's limit, and how often a changed key is
/// looked at.
const HOUR_MILLIS: i64 = 3_600_000;
/// How long rows are kept beyond their end: by so much the clock may be ahead without being
/// noticed.
const MARGIN_MILLIS: i64 = HOUR_MILLIS;

/// One round.
///
/// # Errors
/// Only what the database says; the next round tries again.
pub async fn sweep(node: &Arc<Node>) -> Result<(), StoreError> {
    let now = node.clock.now();
    let users = node.directory.sweep(now);
    let peers = node.peers.sweep(now);
    node.outcomes.sweep();
    node.replicas.sweep();
    let an_hour_ago = now.plus_millis(-HOUR_MILLIS);
    let changed_keys = node
        .store
        .write(move |tx| {
            async move {
                // What they hold is sealed to a device that waits a minute for it: nothing is lost
                // with it.
                device_transfers::empty(tx, now).await?;
                let latest = now.plus_millis(CLOCKS_DIFFER_MILLIS);
                peers::take_changed_keys(tx, an_hour_ago, latest, KEYS_A_ROUND, now).await
            }
            .boxed()
        })
        .await?;
    look_at_changed_keys(node, changed_keys);
    let forgotten = match node.clock_watch.settled(&node.clock) {
        Some(now) => purge(node, now).await?,
        None => 0,
    };
    tracing::debug!(rows = forgotten, users, peers, "kept house");
    Ok(())
}

/// Forgets what ended [`MARGIN_MILLIS`] ago. Returns how many rows that were.
async fn purge(node: &Node, now: UnixMillis) -> Result<u64, StoreError> {
    let ended = now.plus_millis(-MARGIN_MILLIS);
    let invited = node.settings.invitations.expired_until(ended);
    let forgotten: Result<u64, StoreError> = node
        .store
        .write(move |tx| {
            async move {
                Ok(sessions::purge(tx, ended).await?
                    + sign_in_codes::purge(tx, ended).await?
                    + wrong_codes::purge(tx, ended).await?
                    + code_emails::purge(tx, ended).await?
                    + known_sources::purge(tx, ended.plus_millis(-KNOWN_MILLIS)).await?
                    + passkey_ceremonies::purge(tx, ended).await?
                    + device_transfers::purge(tx, ended.plus_millis(-HOUR_MILLIS)).await?
                    + transport_nonces::purge(tx, ended).await?
                    + applied_envelopes::purge(tx, ended).await?
                    + displaced_leases::purge(tx, ended).await?
                    + invitations::purge(tx, invited).await?)
            }
            .boxed()
        })
        .await;
    node.store.tidy(ended).await?;
    forgotten
}

/// Looks whether peers that show another key than the pinned one still do. Nothing is sent to them meanwhile, so
/// nothing else would notice that one shows the right one again. Each is looked at once an hour.
fn look_at_changed_keys(node: &Arc<Node>, domains: Vec<String>) {
    for domain in domains.iter().filter_map(|domain| Domain::parse(domain).ok()) {
        let node = Arc::clone(node);
        // A round does not wait for the slowest of them.
        actix::spawn(async move {
            match node.peers.look_again(&domain).await {
                Ok(()) => tracing::info!(peer = %domain, "the peer shows the pinned key again"),
                Err(error) => tracing::debug!(peer = %domain, %error, "the peer was looked at again"),
            }
            node.context.wake_delivery_for([domain.folded()]);
        });
    }
}
