//! What a clock has stored that was ahead: found and made due, so that nothing waits for a time that was
//! never meant.

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::StoreError;
use vellum_store::outbox::{self, LatestTimes};

use super::look::LEASE_MILLIS;
use super::window;
use crate::Error;
use crate::clock::CLOCKS_DIFFER_MILLIS;
use crate::node::Node;

/// Makes due what waits for longer than anything may.
pub(super) async fn correct(node: &Node) -> Result<(), Error> {
    let latest = latest_times(node, node.clock.now());
    if !outbox::has_wrong_times(&mut *node.store.read().await?, &latest).await? {
        return Ok(());
    }
    let corrected: Result<u64, StoreError> =
        node.store.write(move |tx| async move { outbox::correct_times(tx, &latest).await }.boxed()).await;
    tracing::warn!(rows = corrected?, "stored times corrected: clock was ahead");
    Ok(())
}

fn latest_times(node: &Node, now: UnixMillis) -> LatestTimes {
    let past = now.plus_millis(CLOCKS_DIFFER_MILLIS);
    let longest = node.settings.retry.longest_pause();
    let ends = |pause: std::time::Duration| {
        past.plus_millis(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2))
    };
    LatestTimes {
        now,
        past,
        wait: ends(longest),
        wait_for_ordinary: ends(longest.min(window::longest_pause(window::SHORTEST_MILLIS))),
        lease: past.plus_millis(LEASE_MILLIS),
    }
}
