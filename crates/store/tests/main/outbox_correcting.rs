//! Times that a clock has stored that was ahead.

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::outbox::{self, LatestTimes};
use vellum_store::peers;

use crate::support::{Db, T0, t};

/// Two days, in milliseconds.
const AHEAD: i64 = 2 * 86_400 * 1000;

fn latest(now: UnixMillis) -> LatestTimes {
    let after = |millis| now.plus_millis(millis);
    LatestTimes { now, past: now, wait: after(5_000), wait_for_ordinary: after(1_000), lease: after(60_000) }
}

async fn is_wrong(db: &Db) -> bool {
    outbox::has_wrong_times(&mut db.store.read().await.unwrap(), &latest(T0)).await.unwrap()
}

async fn correct(db: &Db) -> u64 {
    db.write(|tx| async move { outbox::correct_times(tx, &latest(T0)).await }.boxed()).await
}

#[tokio::test]
async fn what_waits_for_longer_than_anything_may_is_due_and_nothing_else_is_touched() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    db.queue(&ann, "bob@a.example", t(AHEAD * 9), t(4_000)).await;
    assert!(!is_wrong(&db).await, "due within the longest wait");
    db.queue(&ann, "carl@a.example", t(AHEAD * 9), t(AHEAD)).await;
    assert!(is_wrong(&db).await, "a row that waits for two days");
    assert_eq!(correct(&db).await, 1);
    assert!(!is_wrong(&db).await);
    let next = |row: vellum_store::outbox::PendingRevocation| row.next_attempt_at;
    assert_eq!(db.pending_for(&ann, "carl@a.example").await.and_then(next), Some(T0));
    assert_eq!(db.pending_for(&ann, "bob@a.example").await.and_then(next), Some(t(4_000)));
}

#[tokio::test]
async fn a_lease_that_ends_later_than_any_lease_can_is_taken_back() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    db.queue(&ann, "bob@a.example", t(AHEAD * 9), T0).await;
    assert_eq!(db.lease("x:1", t(AHEAD), 4).await.len(), 1);
    assert!(is_wrong(&db).await);
    assert_eq!(correct(&db).await, 1);
    assert!(!is_wrong(&db).await);
    assert_eq!(db.lease("x:2", T0, 4).await.len(), 1, "it can be leased again");
    assert!(!is_wrong(&db).await, "a lease by a clock that is right");
}

#[tokio::test]
async fn a_peer_is_not_waited_for_longer_than_it_can_be() {
    let db = Db::new().await;
    let fail = |domain: &'static str, retry_at, failed_at| {
        db.write(move |tx| {
            async move { peers::note_failure(tx, domain, 1, retry_at, "down", failed_at).await }.boxed()
        })
    };
    fail("well.example", t(1_000), T0).await;
    assert!(!is_wrong(&db).await);
    fail("long.example", t(1_001), T0).await;
    fail("ahead.example", t(500), t(100)).await;
    db.write(|tx| async move { peers::pause_until(tx, "asked.example", t(AHEAD)).await }.boxed()).await;
    assert!(is_wrong(&db).await);
    assert_eq!(correct(&db).await, 3);
    assert!(!is_wrong(&db).await);
    for (domain, retry_at) in
        [("well.example", t(1_000)), ("long.example", t(-T0.0)), ("ahead.example", t(-T0.0))]
    {
        let peer = peers::find(&mut db.store.read().await.unwrap(), domain).await.unwrap().unwrap();
        assert_eq!((peer.retry_at, peer.failures), (retry_at, 1), "{domain}");
        assert!(peer.last_failure_at <= Some(T0), "{domain}: {:?}", peer.last_failure_at);
    }
}
