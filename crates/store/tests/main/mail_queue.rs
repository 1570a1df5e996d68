//! Emails that wait: each is leased by one node, and none is kept for ever.

use futures_util::FutureExt;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, SqliteConnection};
use vellum_protocol::UnixMillis;
use vellum_store::mail_queue::{
    self, ExpiredEmail, LEASE_MILLIS, LIFE_MILLIS, LONGEST_PAUSE_MILLIS, LeasedEmail, NewEmail, Overview,
};

use crate::support::{Db, T0, t};

async fn queue(db: &Db, address: &str, has_account: bool, now: UnixMillis) {
    let id = uuid::Uuid::now_v7().to_string();
    let email = NewEmail { id, address: address.to_owned(), has_account };
    db.write(move |tx| async move { mail_queue::insert(tx, &email, now).await }.boxed()).await;
}

async fn lease(db: &Db, holder: &'static str, most: u32, now: UnixMillis) -> Vec<LeasedEmail> {
    db.write(move |tx| async move { mail_queue::lease_due(tx, holder, true, most, now).await }.boxed()).await
}

async fn lease_of_strangers(db: &Db, most: u32, now: UnixMillis) -> Vec<LeasedEmail> {
    db.write(move |tx| async move { mail_queue::lease_due(tx, "one", false, most, now).await }.boxed()).await
}

async fn expired(db: &Db, is_settled: bool, now: UnixMillis) -> Vec<ExpiredEmail> {
    db.write(move |tx| async move { mail_queue::take_expired(tx, is_settled, now).await }.boxed()).await
}

async fn overview(db: &Db, now: UnixMillis) -> Overview {
    mail_queue::overview(&mut db.store.read().await.unwrap(), now).await.unwrap()
}

async fn hand_over(db: &Db, email: &LeasedEmail, now: UnixMillis) -> bool {
    let email = email.clone();
    db.write(move |tx| async move { mail_queue::hand_over(tx, &email, now).await }.boxed()).await
}

async fn retry(db: &Db, email: &LeasedEmail, at: UnixMillis) {
    let email = email.clone();
    db.write(move |tx| async move { mail_queue::retry(tx, &email, at, "450 later").await }.boxed()).await;
}

async fn due(db: &Db, now: UnixMillis) -> u64 {
    overview(db, now).await.due
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
    let second = lease(&db, "two", 9, t(LEASE_MILLIS)).await.remove(0);
    assert!(!hand_over(&db, &first, t(LEASE_MILLIS)).await, "the first has lost it");
    retry(&db, &first, T0).await;
    assert!(lease(&db, "three", 9, t(LEASE_MILLIS)).await.is_empty(), "it changes nothing any more");
    db.write(|tx| async move { mail_queue::release_leases(tx, "tw").await }.boxed()).await;
    assert!(!hand_over(&db, &second, t(LEASE_MILLIS + 1)).await, "it was released");
    let third = lease(&db, "three", 9, t(LEASE_MILLIS + 1)).await.remove(0);
    assert!(hand_over(&db, &third, t(2 * LEASE_MILLIS)).await);
    let during = t(3 * LEASE_MILLIS - 1);
    assert!(expired(&db, true, during).await.is_empty(), "the lease was renewed");
    assert!(hand_over(&db, &third, during).await, "and stands");
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
    assert!(expired(&db, true, t(LIFE_MILLIS - 1)).await.is_empty());
    assert!(lease(&db, "one", 9, t(LIFE_MILLIS)).await.is_empty(), "it is too late");
    retry(&db, &lease(&db, "one", 9, t(LIFE_MILLIS - 1)).await[0], t(LIFE_MILLIS + 5_000)).await;
    let over = overview(&db, t(LIFE_MILLIS)).await;
    assert_eq!((over.waiting, over.expired), (0, 1), "it is over, whenever the next attempt would be");
    assert!(expired(&db, false, t(LIFE_MILLIS)).await.is_empty(), "the clock may be wrong");
    let gone = expired(&db, true, t(LIFE_MILLIS)).await;
    assert_eq!((gone[0].last_error.as_deref(), gone[0].was_handed_over), (Some("450 later"), false));
    assert!(expired(&db, true, t(LIFE_MILLIS)).await.is_empty(), "it is gone");
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
    let over = expired(&db, true, t(LEASE_MILLIS + LIFE_MILLIS)).await;
    assert_eq!(over.len(), 1, "nor is any email's time two days");
}

#[tokio::test]
async fn an_email_that_was_handed_over_is_not_sent_again_unless_it_is_refused() {
    let db = Db::new().await;
    queue(&db, "ann@people.example", true, T0).await;
    let refused = lease(&db, "one", 9, T0).await.remove(0);
    assert!(hand_over(&db, &refused, T0).await);
    retry(&db, &refused, t(10_000)).await;
    let lost = lease(&db, "one", 9, t(10_000)).await.remove(0);
    assert_eq!(lost.attempts, 1, "it was refused: another attempt");
    assert!(hand_over(&db, &lost, t(10_000)).await);
    assert!(expired(&db, true, t(10_001)).await.is_empty(), "the attempt goes on");
    db.write(|tx| async move { mail_queue::release_leases(tx, "one").await }.boxed()).await;
    assert!(lease(&db, "two", 9, t(10_001)).await.is_empty(), "the server may have taken it");
    let seen = overview(&db, t(10_001)).await;
    assert_eq!((seen.waiting, seen.unknown, seen.expired), (0, 1, 0));
    let gone = expired(&db, false, t(10_001)).await;
    assert!(gone.len() == 1 && gone[0].was_handed_over, "{gone:?}");
}

#[tokio::test]
async fn emails_to_strangers_are_leased_apart_fresh_ones_first_and_the_oldest_failing_one_gives_way() {
    let db = Db::new().await;
    for n in 0..3 {
        queue(&db, &format!("a{n}@people.example"), false, t(n)).await;
    }
    queue(&db, "ann@people.example", true, t(3)).await;
    for (n, email) in lease_of_strangers(&db, 2, t(3)).await.iter().enumerate() {
        retry(&db, email, t(4 + i64::try_from(n).unwrap())).await;
    }
    queue(&db, "new@people.example", false, t(9)).await;
    let seen = overview(&db, t(9)).await;
    assert_eq!((seen.waiting, seen.to_strangers, seen.failing_to_strangers), (5, 4, 2));
    db.write(|tx| async move { mail_queue::remove_oldest_failing_to_stranger(tx, t(9)).await }.boxed()).await;
    let mut order = Vec::new();
    while let Some(email) = lease_of_strangers(&db, 1, t(9)).await.pop() {
        order.push(email.address);
    }
    assert_eq!(order, ["a2@people.example", "new@people.example", "a1@people.example"]);
    assert_eq!(lease(&db, "one", 9, t(9)).await[0].address, "ann@people.example");
}

#[tokio::test]
async fn emails_for_what_only_a_newer_version_knows_do_not_count_and_end_in_time() {
    let db = Db::new().await;
    queue(&db, "ann@people.example", true, T0).await;
    let change = "update mail_queue set purpose = 'something_new'";
    let changed = if db.url().starts_with("postgres:") {
        let mut other = PgConnection::connect(&db.url()).await.unwrap();
        sqlx::query(change).execute(&mut other).await.unwrap().rows_affected()
    } else {
        let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
        sqlx::query(change).execute(&mut other).await.unwrap().rows_affected()
    };
    assert_eq!(changed, 1);
    let seen = overview(&db, T0).await;
    assert_eq!((seen.waiting, seen.due, seen.oldest), (0, 0, None));
    assert!(lease(&db, "one", 9, T0).await.is_empty());
    assert!(expired(&db, true, t(LIFE_MILLIS - 1)).await.is_empty());
    assert_eq!(expired(&db, true, t(LIFE_MILLIS)).await.len(), 1);
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
