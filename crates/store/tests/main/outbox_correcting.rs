//! Times that a clock has stored that was ahead.

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::outbox::{self, LatestTimes, Lease, WrongTimes};
use vellum_store::peers;

use crate::support::{Db, T0, handle, t};

/// Two days, in milliseconds.
const AHEAD: i64 = 2 * 86_400 * 1000;

fn latest(now: UnixMillis) -> LatestTimes {
    let after = |millis| now.plus_millis(millis);
    LatestTimes {
        now,
        past: now,
        wait: after(5_000),
        wait_for_ordinary: after(1_000),
        lease: after(60_000),
        lease_over: after(70_000),
    }
}

async fn wrong(db: &Db) -> WrongTimes {
    outbox::wrong_times(&mut db.store.read().await.unwrap(), &latest(T0)).await.unwrap()
}

async fn is_wrong(db: &Db) -> bool {
    wrong(db).await.any()
}

async fn correct(db: &Db) -> u64 {
    let wrong = wrong(db).await;
    db.write(move |tx| async move { outbox::correct_times(tx, &latest(T0), &wrong).await }.boxed()).await
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
async fn whoever_discards_a_row_still_learns_who_had_the_lease_that_was_taken_back() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    db.queue(&ann, "bob@a.example", t(AHEAD * 9), T0).await;
    assert_eq!(db.lease("x:1", t(AHEAD), 4).await.len(), 1);
    assert_eq!(correct(&db).await, 1);
    let removed = db
        .write(move |tx| async move { outbox::discard(tx, &ann, &handle("bob@a.example")).await }.boxed())
        .await
        .expect("the row is there");
    // On SQLite the only node knows its own attempts.
    let noted = [Lease { holder: "x:1".into(), until: t(70_000) }];
    let expected = if db.store.is_shared() { &noted[..] } else { &[] };
    assert_eq!(removed.leases, expected, "its holder may be sending");
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
    assert_eq!(correct(&db).await, 2, "that an ordinary peer is waited for too long is no clock's doing");
    assert!(!is_wrong(&db).await);
    for (domain, retry_at) in
        [("well.example", t(1_000)), ("long.example", t(1_000)), ("ahead.example", t(-T0.0))]
    {
        let peer = peers::find(&mut db.store.read().await.unwrap(), domain).await.unwrap().unwrap();
        assert_eq!((peer.retry_at, peer.failures), (retry_at, 1), "{domain}");
        assert!(peer.last_failure_at <= Some(T0), "{domain}: {:?}", peer.last_failure_at);
    }
}

#[tokio::test]
async fn the_long_waits_of_the_version_before_are_shortened_and_count_as_nothing_wrong() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    db.queue(&ann, "bob@long.example", t(AHEAD * 9), t(4_000)).await;
    db.write(|tx| {
        async move { peers::note_failure(tx, "long.example", 9, t(4_000), "down", T0).await }.boxed()
    })
    .await;
    assert_eq!(wrong(&db).await, WrongTimes { long_waits: true, ..WrongTimes::default() });
    assert_eq!(correct(&db).await, 0, "nothing to tell of a clock");
    let peer = peers::find(&mut db.store.read().await.unwrap(), "long.example").await.unwrap().unwrap();
    assert_eq!((peer.retry_at, peer.failures), (t(1_000), 9), "not due, only sooner");
    let row = db.pending_for(&ann, "bob@long.example").await.unwrap();
    assert_eq!(row.next_attempt_at, Some(t(4_000)), "rows are as they were");
    assert!(!is_wrong(&db).await, "once");
}
