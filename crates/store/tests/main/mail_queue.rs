//! Emails that wait: each is leased by one node, and none is kept for ever.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_protocol::UnixMillis;
use vellum_store::mail_queue::{
    self, LEASE_MILLIS, LIFE_MILLIS, LONGEST_PAUSE_MILLIS, LeasedEmail, NewEmail,
};

use crate::support::{Db, T0, t};

async fn queue(db: &Db, address: &str, has_account: bool, now: UnixMillis) {
    let id = uuid::Uuid::now_v7().to_string();
    let email = NewEmail { id, address: address.to_owned(), has_account };
    db.write(move |tx| async move { mail_queue::insert(tx, &email, now).await }.boxed()).await;
}

async fn lease(db: &Db, holder: &'static str, most: u32, now: UnixMillis) -> Vec<LeasedEmail> {
    db.write(move |tx| async move { mail_queue::lease_due(tx, holder, most, now).await }.boxed()).await
}

async fn hold(db: &Db, email: &LeasedEmail, now: UnixMillis) -> bool {
    let email = email.clone();
    db.write(move |tx| async move { mail_queue::hold(tx, &email, now).await }.boxed()).await
}

async fn retry(db: &Db, email: &LeasedEmail, at: UnixMillis) {
    let email = email.clone();
    db.write(move |tx| async move { mail_queue::retry(tx, &email, at, "450 later").await }.boxed()).await;
}

async fn due(db: &Db, now: UnixMillis) -> u64 {
    mail_queue::overview(&mut db.store.read().await.unwrap(), now).await.unwrap().due
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_lease_at_once_one_gets_each_email() {
    let db = Db::new().await;
    for n in 0..6 {
        queue(&db, &format!("a{n}@people.example"), true, T0).await;
    }
    let leases = join_all((0..4).map(|_| lease(&db, "node", 3, T0))).await;
    let mut ids: Vec<String> = leases.into_iter().flatten().map(|email| email.id).collect();
    assert_eq!(ids.len(), 6, "each email is leased");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "by one of them");
}

#[tokio::test]
async fn a_lease_that_is_over_is_anothers_and_nothing_is_sent_on_it() {
    let db = Db::new().await;
    queue(&db, "ann@people.example", true, T0).await;
    let first = lease(&db, "one", 9, T0).await.remove(0);
    assert!(lease(&db, "two", 9, t(LEASE_MILLIS - 1)).await.is_empty(), "it is leased");
    assert!(hold(&db, &first, t(1000)).await);
    assert!(lease(&db, "two", 9, t(LEASE_MILLIS)).await.is_empty(), "holding it renews the lease");
    let second = lease(&db, "two", 9, t(LEASE_MILLIS + 1000)).await.remove(0);
    assert!(!hold(&db, &first, t(LEASE_MILLIS + 1000)).await, "the first has lost it");
    retry(&db, &first, T0).await;
    assert!(hold(&db, &second, t(LEASE_MILLIS + 1001)).await, "the first changes nothing any more");
    db.write(|tx| async move { mail_queue::release_leases(tx, "tw").await }.boxed()).await;
    assert!(!hold(&db, &second, t(LEASE_MILLIS + 1002)).await, "it was released");
    assert_eq!(lease(&db, "three", 9, t(LEASE_MILLIS + 1002)).await.len(), 1);
}

#[tokio::test]
async fn a_lease_of_a_node_whose_clock_is_a_little_ahead_stands() {
    let db = Db::new().await;
    queue(&db, "ann@people.example", true, T0).await;
    assert_eq!(lease(&db, "one", 9, t(1000)).await.len(), 1);
    assert!(lease(&db, "two", 9, T0).await.is_empty(), "it is leased, by a clock a second ahead");
}

#[tokio::test]
async fn an_email_waits_for_its_next_attempt_and_an_hour_at_most() {
    let db = Db::new().await;
    queue(&db, "ann@people.example", true, T0).await;
    let email = lease(&db, "one", 9, T0).await.remove(0);
    retry(&db, &email, t(10_000)).await;
    assert_eq!((due(&db, t(9_999)).await, due(&db, t(10_000)).await), (0, 1));
    assert_eq!(lease(&db, "one", 9, t(10_000)).await[0].attempts, 1);
    let expired = |now| {
        let db = &db;
        async move { db.write(move |tx| async move { mail_queue::take_expired(tx, now).await }.boxed()).await }
    };
    assert!(expired(t(LIFE_MILLIS - 1)).await.is_empty());
    assert!(lease(&db, "one", 9, t(LIFE_MILLIS)).await.is_empty(), "it is too late");
    retry(&db, &lease(&db, "one", 9, t(LIFE_MILLIS - 1)).await[0], t(LIFE_MILLIS + 5_000)).await;
    assert_eq!(due(&db, t(LIFE_MILLIS)).await, 1, "it is over, whenever the next attempt would be");
    let gone = expired(t(LIFE_MILLIS)).await;
    assert_eq!(gone[0].last_error.as_deref(), Some("450 later"));
    assert!(expired(t(LIFE_MILLIS)).await.is_empty(), "it is gone");
}

#[tokio::test]
async fn times_of_a_clock_that_was_ahead_keep_no_email_waiting() {
    let db = Db::new().await;
    let two_days = 2 * 24 * 3_600_000;
    queue(&db, "ann@people.example", true, t(two_days)).await;
    let leased = lease(&db, "one", 9, t(two_days)).await;
    assert_eq!(lease(&db, "two", 9, T0).await.len(), 1, "the lease ends too far ahead to be one");
    retry(&db, &leased[0], t(two_days)).await;
    assert_eq!(due(&db, T0).await, 0, "the first node has lost it");
    let leased = lease(&db, "two", 9, t(LEASE_MILLIS)).await.remove(0);
    retry(&db, &leased, t(LEASE_MILLIS + LONGEST_PAUSE_MILLIS + 1)).await;
    assert_eq!(due(&db, t(LEASE_MILLIS)).await, 1, "no pause is that long");
}

#[tokio::test]
async fn a_newer_email_takes_the_place_of_those_that_wait_for_a_retry() {
    let db = Db::new().await;
    for address in ["ann@people.example", "ann@people.example", "bob@people.example"] {
        queue(&db, address, address.starts_with('a'), T0).await;
    }
    for email in lease(&db, "one", 2, T0).await {
        retry(&db, &email, t(10_000)).await;
    }
    db.write(|tx| async move { mail_queue::remove_failing(tx, "ann@people.example", T0).await }.boxed())
        .await;
    let mut conn = db.store.read().await.unwrap();
    let left = mail_queue::overview(&mut conn, T0).await.unwrap();
    assert_eq!((left.waiting, left.to_strangers, left.failing, left.oldest), (1, 1, 0, Some(T0)));
}
