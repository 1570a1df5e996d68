//! One-time codes, sessions, and the nonces of servers: things that work for a while, or once.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_protocol::UnixMillis;
use vellum_store::one_time_codes::{self, CodeHash};
use vellum_store::sessions::{self, Session};
use vellum_store::transport_nonces::{self, TransportNonce};
use vellum_store::{SessionId, UserId};

use crate::support::{Db, T0, t};

const CODE_LIFE: i64 = 900_000;

async fn replace(db: &Db, email: &'static str, code: CodeHash, now: UnixMillis) {
    let until = now.plus_millis(CODE_LIFE);
    db.write(move |tx| async move { one_time_codes::replace(tx, email, &code, 5, now, until).await }.boxed())
        .await;
}

async fn spend(db: &Db, email: &'static str, now: UnixMillis) -> Option<CodeHash> {
    db.write(move |tx| async move { one_time_codes::spend_try(tx, email, now).await }.boxed()).await
}

#[tokio::test]
async fn a_code_can_be_tried_five_times_however_fast() {
    let db = Db::new().await;
    replace(&db, "a@example.org", [1; 32], T0).await;
    let tries = join_all((0..20).map(|_| spend(&db, "a@example.org", t(1)))).await;
    assert_eq!(tries.iter().filter(|hash| **hash == Some([1; 32])).count(), 5);
    assert_eq!(tries.iter().filter(|hash| hash.is_none()).count(), 15);
}

#[tokio::test]
async fn a_code_works_until_its_time_is_over_and_not_then() {
    let db = Db::new().await;
    replace(&db, "a@example.org", [1; 32], T0).await;
    assert_eq!(spend(&db, "a@example.org", t(CODE_LIFE)).await, None);
    assert_eq!(spend(&db, "a@example.org", t(CODE_LIFE - 1)).await, Some([1; 32]));
}

#[tokio::test]
async fn a_new_code_takes_the_place_of_the_old_one_with_tries_of_its_own() {
    let db = Db::new().await;
    replace(&db, "a@example.org", [1; 32], T0).await;
    replace(&db, "b@example.org", [9; 32], T0).await;
    for _ in 0..5 {
        spend(&db, "a@example.org", t(1)).await;
    }
    replace(&db, "a@example.org", [2; 32], t(2)).await;
    for _ in 0..5 {
        assert_eq!(spend(&db, "a@example.org", t(3)).await, Some([2; 32]));
    }
    assert_eq!(spend(&db, "a@example.org", t(3)).await, None);
    assert_eq!(spend(&db, "b@example.org", t(3)).await, Some([9; 32]), "another address's code stays");
}

#[tokio::test]
async fn a_used_code_is_gone_and_an_old_one_is_forgotten() {
    let db = Db::new().await;
    replace(&db, "a@example.org", [1; 32], T0).await;
    replace(&db, "b@example.org", [2; 32], t(10)).await;
    db.write(|tx| async move { one_time_codes::delete(tx, "a@example.org").await }.boxed()).await;
    assert_eq!(spend(&db, "a@example.org", t(11)).await, None);
    assert_eq!(purge_codes(&db, t(CODE_LIFE)).await, 0, "a is gone already");
    assert_eq!(purge_codes(&db, t(CODE_LIFE + 10)).await, 1);
}

async fn purge_codes(db: &Db, now: UnixMillis) -> u64 {
    db.write(move |tx| async move { one_time_codes::purge(tx, now).await }.boxed()).await
}

async fn remember(db: &Db, sender: &'static str, nonce: &'static str, now: i64) -> bool {
    let nonce = TransportNonce { sender: sender.into(), nonce: nonce.into(), until: t(now + 1000) };
    db.write(move |tx| async move { transport_nonces::remember(tx, &nonce, t(now)).await }.boxed()).await
}

#[tokio::test]
async fn a_nonce_is_new_once_until_it_is_forgotten() {
    let db = Db::new().await;
    assert!(remember(&db, "a.example", "n", 0).await);
    assert!(!remember(&db, "a.example", "n", 1).await, "a replay");
    assert!(
        !remember(&db, "a.example", "n", 999).await,
        "a replay does not prolong, and is none the less one"
    );
    assert!(remember(&db, "a.example", "n", 1000).await, "its time is over");
    assert!(!remember(&db, "a.example", "n", 1999).await, "remembered anew");
}

#[tokio::test]
async fn a_nonce_is_one_senders_own() {
    let db = Db::new().await;
    assert!(remember(&db, "a.example", "n", 0).await);
    assert!(remember(&db, "b.example", "n", 0).await && remember(&db, "a.example", "m", 0).await);
    let forgotten = db.write(|tx| async move { transport_nonces::purge(tx, t(1000)).await }.boxed()).await;
    assert_eq!(forgotten, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_with_one_nonce_at_once_one_is_taken() {
    let db = Db::new().await;
    let taken = join_all((0..32).map(|_| remember(&db, "a.example", "n", 0))).await;
    assert_eq!(taken.iter().filter(|new| **new).count(), 1);
}

async fn open(db: &Db, user: &UserId, token: u8) -> Session {
    let session = Session {
        id: SessionId::generate(),
        user_id: user.clone(),
        created_at: T0,
        last_used_at: T0,
        expires_at: t(1000),
        user_agent: Some("a test".into()),
        ip: None,
        device_id: None,
    };
    let stored = session.clone();
    db.write(move |tx| async move { sessions::insert(tx, &stored, &[token; 32]).await }.boxed()).await;
    session
}

async fn holder(db: &Db, token: u8, now: i64) -> Option<Session> {
    let found = sessions::by_token(&mut db.store.read().await.unwrap(), &[token; 32], t(now)).await.unwrap();
    found.map(|(known, _)| known.session)
}

#[tokio::test]
async fn a_session_is_found_by_its_token_until_it_ends() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let session = open(&db, &alice, 1).await;
    assert_eq!(holder(&db, 1, 999).await.as_ref(), Some(&session));
    assert_eq!(holder(&db, 1, 1000).await, None);
    assert_eq!(holder(&db, 2, 0).await, None);
    let (id, user) = (session.id.clone(), alice.clone());
    db.write(move |tx| async move { sessions::prolong(tx, &user, &id, t(999), t(3000)).await }.boxed()).await;
    assert_eq!(holder(&db, 1, 2999).await.unwrap().last_used_at, t(999));
    let id = session.id.clone();
    db.write(move |tx| async move { sessions::prolong(tx, &alice, &id, t(3000), t(9000)).await }.boxed())
        .await;
    assert_eq!(holder(&db, 1, 3000).await, None, "one that has ended does not come back");
}

#[tokio::test]
async fn a_session_is_ended_by_its_own_user_only() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    let session = open(&db, &alice, 1).await;
    assert!(!end(&db, bob, &session.id).await);
    assert!(holder(&db, 1, 0).await.is_some());
    assert!(end(&db, alice, &session.id).await);
    assert_eq!(holder(&db, 1, 0).await, None);
}

async fn end(db: &Db, user: UserId, id: &SessionId) -> bool {
    let id = id.clone();
    db.write(move |tx| async move { sessions::delete(tx, &user, &id).await }.boxed()).await
}
