//! What is remembered of peer nodes: the first key, and how reaching them goes.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_protocol::{SigningKey, UnixMillis};
use vellum_store::peers::{self, Peer};

use crate::support::{Db, T0, keys, t};

const PEER: &str = "peer.example";

async fn pin(db: &Db, seed: u8, window: Option<i64>) -> SigningKey {
    let key = keys(seed).signing;
    db.write(move |tx| async move { peers::pin(tx, PEER, &key, window, T0).await }.boxed()).await
}

async fn fail(db: &Db, failures: u32, retry_at: i64) {
    db.write(move |tx| {
        async move { peers::note_failure(tx, PEER, failures, t(retry_at), "down", t(1)).await }.boxed()
    })
    .await;
}

async fn allow_probe(db: &Db, now: i64) -> bool {
    db.write(move |tx| async move { peers::allow_probe(tx, PEER, t(now)).await }.boxed()).await
}

async fn deliver(db: &Db) {
    deliver_at(db, 50).await;
}

async fn deliver_at(db: &Db, at: i64) {
    db.write(move |tx| async move { peers::note_delivery(tx, PEER, t(at)).await }.boxed()).await;
}

async fn found(db: &Db) -> Peer {
    peers::find(&mut db.store.read().await.unwrap(), PEER).await.unwrap().unwrap()
}

#[tokio::test]
async fn when_something_was_last_delivered_is_known_to_ten_seconds_and_a_failure_is_cleared_at_once() {
    let db = Db::new().await;
    pin(&db, 1, None).await;
    let mut seen = Vec::new();
    for at in [0, 9_999, 10_000, 10_001] {
        deliver_at(&db, at).await;
        seen.push(found(&db).await.last_delivery_at);
    }
    assert_eq!(seen, [0, 0, 10_000, 10_000].map(|at| Some(t(at))));
    fail(&db, 1, 60_000).await;
    deliver_at(&db, 10_002).await;
    let peer = found(&db).await;
    assert_eq!((peer.failures, peer.retry_at.0, peer.last_error), (0, 0, None));
    assert_eq!(peer.last_delivery_at, Some(t(10_002)));
}

#[tokio::test]
async fn the_first_key_that_a_peer_shows_is_the_one_that_stays() {
    let db = Db::new().await;
    assert_eq!(pin(&db, 1, Some(60)).await, keys(1).signing);
    assert_eq!(pin(&db, 2, Some(9_999)).await, keys(1).signing, "another key is told the pinned one");
    let peer = found(&db).await;
    assert_eq!(peer.public_key, Some(keys(1).signing));
    assert_eq!(peer.revocation_window_seconds, Some(60), "a stranger's manifest sets no window");
    pin(&db, 1, None).await;
    assert_eq!(found(&db).await.revocation_window_seconds, None, "the pinned key's own manifest does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_first_contacts_at_once_all_are_told_the_same_key() {
    let db = Db::new().await;
    let told = join_all((0..16).map(|seed| pin(&db, seed, None))).await;
    assert!(told.iter().all(|key| *key == told[0]));
    assert_eq!(found(&db).await.public_key, Some(told[0]));
}

#[tokio::test]
async fn a_key_is_pinned_to_a_peer_that_was_only_known_by_its_failures() {
    let db = Db::new().await;
    fail(&db, 3, 500).await;
    assert_eq!(found(&db).await.public_key, None);
    assert_eq!(pin(&db, 1, None).await, keys(1).signing);
    let peer = found(&db).await;
    assert_eq!((peer.failures, peer.retry_at), (3, t(500)), "its record stays");
    assert_eq!(peer.last_failure_at, Some(t(1)));
}

#[tokio::test]
async fn a_delivery_makes_failures_good_and_keeps_the_pin() {
    let db = Db::new().await;
    pin(&db, 1, Some(60)).await;
    fail(&db, 1, 500).await;
    assert_eq!(found(&db).await.last_error.as_deref(), Some("down"));
    deliver(&db).await;
    let peer = found(&db).await;
    assert_eq!((peer.failures, peer.retry_at.0, peer.last_error), (0, 0, None));
    assert_eq!((peer.public_key, peer.revocation_window_seconds), (Some(keys(1).signing), Some(60)));
}

#[tokio::test]
async fn a_peer_that_speaks_earns_one_probe_where_it_was_waited_for() {
    let db = Db::new().await;
    assert!(!allow_probe(&db, 100).await, "an unknown peer is not waited for");
    fail(&db, 3, 50_000).await;
    assert!(allow_probe(&db, 20_000).await);
    let peer = found(&db).await;
    assert_eq!((peer.failures, peer.retry_at), (3, t(20_000)), "its record stays");
    assert!(!allow_probe(&db, 20_000).await, "the wait is cut short already");
    assert!(!allow_probe(&db, 15_000).await, "one probe a wait, however often it speaks");
    fail(&db, 4, 90_000).await;
    assert!(allow_probe(&db, 60_000).await, "a new wait may be cut short again");
    deliver(&db).await;
    db.write(|tx| async move { peers::pause_until(tx, PEER, t(90_000)).await }.boxed()).await;
    assert!(!allow_probe(&db, 20_000).await, "a pause that it asked for itself is kept");
    assert_eq!(found(&db).await.retry_at, t(90_000));
}

async fn shorten_waits(db: &Db, now: i64) {
    let asked_until = t(now + 30_000);
    db.write(move |tx| async move { peers::shorten_waits(tx, PEER, asked_until, t(now)).await }.boxed())
        .await;
}

#[tokio::test]
async fn no_probe_comes_earlier_than_ten_seconds_after_a_failure_whatever_has_earned_it() {
    let db = Db::new().await;
    // It failed at 1.
    for (now, probed_at) in [(100, 10_001), (10_000, 10_001), (10_001, 10_001), (20_000, 20_000)] {
        for by_signature in [true, false] {
            deliver(&db).await;
            fail(&db, 1, 50_000).await;
            if by_signature {
                shorten_waits(&db, now).await;
            } else {
                assert!(allow_probe(&db, now).await);
            }
            assert_eq!(found(&db).await.retry_at, t(probed_at), "at {now}, by a signature: {by_signature}");
        }
    }
    deliver(&db).await;
    fail(&db, 1, 5_000).await;
    shorten_waits(&db, 100).await;
    assert!(!allow_probe(&db, 100).await);
    assert_eq!(found(&db).await.retry_at, t(5_000), "what is due sooner stays");
    // By a clock that is right now the failure lies in the future.
    deliver(&db).await;
    fail(&db, 1, 50_000).await;
    shorten_waits(&db, -5_000).await;
    assert_eq!(found(&db).await.retry_at, t(5_000), "ten seconds from now");
}

#[tokio::test]
async fn a_delivery_that_ran_beside_a_request_for_a_pause_does_not_end_the_pause() {
    let db = Db::new().await;
    fail(&db, 1, 500).await;
    db.write(|tx| async move { peers::pause_until(tx, PEER, t(900)).await }.boxed()).await;
    deliver(&db).await;
    let peer = found(&db).await;
    assert_eq!((peer.failures, peer.retry_at), (0, t(900)));
}

#[tokio::test]
async fn a_failure_counted_from_a_record_that_is_out_of_date_changes_nothing() {
    let db = Db::new().await;
    fail(&db, 1, 500).await;
    deliver(&db).await;
    fail(&db, 2, 900).await;
    assert_eq!((found(&db).await.failures, found(&db).await.retry_at.0), (0, 0), "it listens since");
    fail(&db, 1, 600).await;
    fail(&db, 1, 700).await;
    assert_eq!(
        (found(&db).await.failures, found(&db).await.retry_at),
        (1, t(600)),
        "one failure, told twice"
    );
}

#[tokio::test]
async fn a_pause_never_shortens_a_wait() {
    let db = Db::new().await;
    fail(&db, 1, 500).await;
    for (until, then) in [(300, 500), (800, 800)] {
        db.write(move |tx| async move { peers::pause_until(tx, PEER, t(until)).await }.boxed()).await;
        assert_eq!(found(&db).await.retry_at, t(then));
    }
    assert_eq!(found(&db).await.failures, 1);
}

async fn offer(db: &Db, seed: u8, at: i64) -> bool {
    let key = keys(seed).signing;
    db.write(move |tx| async move { peers::note_offered_key(tx, PEER, &key, t(at)).await }.boxed()).await
}

async fn repin(db: &Db, seed: u8) -> bool {
    let key = keys(seed).signing;
    db.write(move |tx| async move { peers::repin(tx, PEER, &key, t(9)).await }.boxed()).await
}

#[tokio::test]
async fn an_operator_chooses_between_the_pinned_key_and_the_one_that_is_shown() {
    let db = Db::new().await;
    pin(&db, 1, None).await;
    assert!(!repin(&db, 1).await, "nothing is to be decided");
    assert!(offer(&db, 2, 1).await && !offer(&db, 2, 2).await, "news once");
    fail(&db, 3, 500).await;
    assert!(!repin(&db, 3).await, "a key that nobody shows");
    assert!(repin(&db, 1).await, "stay with the old one");
    let peer = found(&db).await;
    assert_eq!((peer.public_key, peer.offered_key), (Some(keys(1).signing), None));
    assert_eq!((peer.failures, peer.retry_at), (0, UnixMillis(0)), "it is tried at once");
    assert!(offer(&db, 2, 3).await && repin(&db, 2).await);
    let peer = found(&db).await;
    assert_eq!((peer.public_key, peer.offered_key), (Some(keys(2).signing), None));
}

#[tokio::test]
async fn a_changed_key_is_given_out_to_be_looked_at_once_in_a_while_and_to_one_who_asks() {
    let db = Db::new().await;
    let take = |before: i64, now: i64| {
        db.write(move |tx| {
            async move { peers::take_changed_keys(tx, t(before), t(now + 60), 5, t(now)).await }.boxed()
        })
    };
    pin(&db, 1, None).await;
    assert_eq!(take(100, 100).await, [""; 0]);
    offer(&db, 2, 10).await;
    assert_eq!(take(10, 50).await, [""; 0], "seen not before then");
    assert_eq!(take(11, 50).await, [PEER]);
    assert_eq!(take(50, 60).await, [""; 0], "somebody has taken it");
    assert_eq!(take(51, 60).await, [PEER]);
    assert_eq!(take(0, 5).await, [""; 0], "another node's clock may be a little ahead");
    assert_eq!(take(0, -1).await, [PEER], "not so far");
}
