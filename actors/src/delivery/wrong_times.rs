//! What a clock has stored that was ahead: found and made due, so that nothing waits for a time that was
//! never meant.

use std::time::Duration;

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::StoreError;
use vellum_store::outbox::{self, LatestTimes};

use crate::Error;
use crate::clock::CLOCKS_DIFFER_MILLIS;
use crate::peer::{Federation, LEASE_MILLIS, RetryPolicy, window};

/// By how much a lease may end later than any lease can before it is taken back.
const LEASE_MARGIN_MILLIS: i64 = 10 * 60 * 1000;

/// Makes due what waits for longer than anything may.
pub(super) async fn correct(federation: &Federation) -> Result<(), Error> {
    let latest = latest_times(&federation.retry, federation.clock.now());
    let wrong = outbox::wrong_times(&mut *federation.store.read().await?, &latest).await?;
    if !wrong.any() {
        return Ok(());
    }
    let corrected: Result<u64, StoreError> = federation
        .store
        .write(move |tx| async move { outbox::correct_times(tx, &latest, &wrong).await }.boxed())
        .await;
    let corrected = corrected?;
    if corrected > 0 {
        tracing::warn!(rows = corrected, "stored times corrected: clock was ahead");
    }
    Ok(())
}

fn latest_times(retry: &RetryPolicy, now: UnixMillis) -> LatestTimes {
    let past = now.plus_millis(CLOCKS_DIFFER_MILLIS);
    let longest = retry.longest_pause();
    let ends = |pause: Duration| past.plus_millis(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2));
    LatestTimes {
        now,
        past,
        wait: ends(longest),
        wait_for_ordinary: ends(longest.min(window::third(window::SHORTEST_MILLIS))),
        lease: now.plus_millis(LEASE_MILLIS + LEASE_MARGIN_MILLIS),
        lease_over: past.plus_millis(LEASE_MILLIS),
    }
}
