//! One-time codes, sessions, and the nonces of servers: things that work for a while, or once.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_protocol::UnixMillis;
use vellum_store::sessions::{self, Session};
use vellum_store::sign_in_codes::{self, CodeHashes};
use vellum_store::transport_nonces::{self, TransportNonce};
use vellum_store::{SessionId, UserId, code_emails, known_sources, wrong_codes};

use crate::support::{Db, T0, t};

const CODE_LIFE: i64 = 900_000;

async fn add(db: &Db, email: &'static str, code: u8, now: UnixMillis) {
    let hashes = CodeHashes { digits: [code; 32], letters: [code + 100; 32] };
    let until = now.plus_millis(CODE_LIFE);
    db.write(move |tx| async move { sign_in_codes::insert(tx, email, &hashes, 3, now, until).await }.boxed())
        .await;
}

async fn live(db: &Db, email: &str, now: UnixMillis) -> Vec<u8> {
    let codes = sign_in_codes::live(&mut db.store.read().await.unwrap(), email, now).await.unwrap();
    codes.iter().for_each(|code| assert_eq!(code.hashes.letters[0], code.hashes.digits[0] + 100));
    codes.iter().map(|code| code.hashes.digits[0]).collect()
}

#[tokio::test]
async fn of_an_addresss_codes_the_newest_three_are_live_until_their_time_is_over() {
    let db = Db::new().await;
    add(&db, "b@example.org", 9, T0).await;
    for code in 1..=5 {
        // Some of one millisecond.
        add(&db, "a@example.org", code, t(i64::from(code / 2))).await;
    }
    assert_eq!(live(&db, "a@example.org", t(3)).await, [5, 4, 3]);
    assert_eq!(live(&db, "a@example.org", t(CODE_LIFE + 1)).await, [5, 4]);
    assert_eq!(live(&db, "b@example.org", t(3)).await, [9], "another address's code stays");
    assert_eq!(purge_codes(&db, t(CODE_LIFE + 1)).await, 2);
    assert_eq!(purge_codes(&db, t(CODE_LIFE + 2)).await, 2);
}

#[tokio::test]
async fn codes_and_counts_of_a_clock_that_was_ahead_displace_nothing() {
    let db = Db::new().await;
    let ahead = 40 * 24 * 3_600_000;
    for code in 1..=3 {
        add(&db, "a@example.org", code, t(ahead)).await;
    }
    add(&db, "a@example.org", 4, T0).await;
    let codes = live(&db, "a@example.org", T0).await;
    assert!(codes.contains(&4), "the code in the newest email works: {codes:?}");
    count(&db, "", 200, t(ahead)).await;
    let mut conn = db.store.read().await.unwrap();
    let spent = wrong_codes::spent(&mut conn, "a@example.org", T0).await.unwrap();
    assert_eq!(spent, [], "they are in no 24 hours before now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_take_a_code_at_once_one_gets_it() {
    let db = Db::new().await;
    add(&db, "a@example.org", 1, T0).await;
    add(&db, "a@example.org", 2, T0).await;
    let codes = sign_in_codes::live(&mut db.store.read().await.unwrap(), "a@example.org", T0).await.unwrap();
    let takes = (0..16).map(|_| {
        let id = codes[0].id.clone();
        db.write(move |tx| async move { sign_in_codes::take(tx, &id).await }.boxed())
    });
    assert_eq!(join_all(takes).await.into_iter().filter(|taken| *taken).count(), 1);
    assert_eq!(live(&db, "a@example.org", T0).await, [1]);
}

async fn purge_codes(db: &Db, now: UnixMillis) -> u64 {
    db.write(move |tx| async move { sign_in_codes::purge(tx, now).await }.boxed()).await
}

/// Counts a wrong code where fewer than `most` are counted, as somebody who signs in does. Returns
/// whether it was.
async fn count(db: &Db, source: &'static str, most: u32, now: UnixMillis) -> bool {
    db.write(move |tx| {
        async move {
            let spent = wrong_codes::spent(tx, "a@example.org", now).await?;
            let tries = spent.iter().find(|spent| spent.source == source).map_or(0, |spent| spent.tries);
            if tries < most {
                wrong_codes::count(tx, "a@example.org", source, now).await?;
            }
            Ok(tries < most)
        }
        .boxed()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_at_once_are_counted_one_by_one() {
    let db = Db::new().await;
    let counted = join_all((0..20).map(|_| count(&db, "", 5, T0))).await;
    assert_eq!(counted.into_iter().filter(|counted| *counted).count(), 5);
}

#[tokio::test]
async fn wrong_codes_are_summed_up_by_source_for_a_day_at_least() {
    let db = Db::new().await;
    const HOUR: i64 = 3_600_000;
    for (source, at) in [("", 0), ("", HOUR), ("home", HOUR), ("", 20 * HOUR)] {
        count(&db, source, 100, t(at)).await;
    }
    let spent = async |at| {
        let mut conn = db.store.read().await.unwrap();
        let spent = wrong_codes::spent(&mut conn, "a@example.org", t(at)).await.unwrap();
        spent.into_iter().map(|spent| (spent.source, spent.tries)).collect::<Vec<_>>()
    };
    let of = |counts: &[(&str, u32)]| -> Vec<(String, u32)> {
        counts.iter().map(|(source, tries)| ((*source).to_owned(), *tries)).collect()
    };
    assert_eq!(spent(24 * HOUR - 1).await, of(&[("", 3), ("home", 1)]));
    assert_eq!(spent(26 * HOUR).await, of(&[("", 1)]), "an hour over a day later two are forgotten");
    let purged = db.write(move |tx| async move { wrong_codes::purge(tx, t(26 * HOUR)).await }.boxed()).await;
    assert_eq!(purged, 3);
}

#[tokio::test]
async fn an_allowance_of_emails_is_kept_until_it_is_full() {
    let db = Db::new().await;
    for at in [5, 9] {
        db.write(move |tx| async move { code_emails::set_full_at(tx, "a", t(at)).await }.boxed()).await;
    }
    let full_at =
        async |account| code_emails::full_at(&mut db.store.read().await.unwrap(), account).await.unwrap();
    assert_eq!((full_at("a").await, full_at("b").await), (Some(t(9)), None));
    assert_eq!(db.write(|tx| async move { code_emails::purge(tx, t(8)).await }.boxed()).await, 0);
    assert_eq!(db.write(|tx| async move { code_emails::purge(tx, t(9)).await }.boxed()).await, 1);
}

#[tokio::test]
async fn an_account_knows_its_fifty_newest_sources_for_a_while() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    let see = async |user: &UserId, source: String, at| {
        let user = user.clone();
        db.write(move |tx| async move { known_sources::see(tx, &user, &source, t(at)).await }.boxed()).await;
    };
    for n in 0..50 {
        see(&alice, format!("s{n}"), n).await;
    }
    see(&bob, "s1".to_owned(), 0).await;
    see(&alice, "s0".to_owned(), 60).await;
    see(&alice, "s50".to_owned(), 61).await;
    let among = async |email, sources| {
        let mut known =
            known_sources::among(&mut db.store.read().await.unwrap(), email, sources).await.unwrap();
        known.sort_unstable();
        known
    };
    assert_eq!(among("alice@example.org", ["s0", "s1"]).await, ["s0"], "the one not seen for longest went");
    assert_eq!(among("alice@example.org", ["s2", "s50"]).await, ["s2", "s50"]);
    assert_eq!(among("bob@example.org", ["s1", "s2"]).await, ["s1"]);
    assert!(among("nobody@example.org", ["s1", "s2"]).await.is_empty());
    let purged = db.write(|tx| async move { known_sources::purge(tx, t(60)).await }.boxed()).await;
    assert_eq!(purged, 49, "all of alice's but two, and bob's");
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
    found.map(|known| known.session)
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

#[tokio::test]
async fn sessions_that_have_ended_are_neither_listed_nor_counted_and_go_when_they_are_purged() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    let mut opened = Vec::new();
    for (token, user) in [(1, &alice), (2, &bob), (3, &alice), (4, &alice)] {
        let mut session = open(&db, user, token).await;
        let (id, owner, end) = (session.id.clone(), user.clone(), 1000 * i64::from(token));
        db.write(move |tx| {
            async move { sessions::prolong(tx, &owner, &id, t(i64::from(token)), t(end)).await }.boxed()
        })
        .await;
        (session.last_used_at, session.expires_at) = (t(i64::from(token)), t(end));
        opened.push(session);
    }
    let list = async |user: &UserId, now| {
        sessions::of_user(&mut db.store.read().await.unwrap(), user, t(now)).await.unwrap()
    };
    let count = async |now| sessions::count(&mut db.store.read().await.unwrap(), t(now)).await.unwrap();
    let newest_first = [opened[3].clone(), opened[2].clone(), opened[0].clone()];
    assert_eq!((list(&alice, 999).await, count(999).await), (newest_first.to_vec(), 4));
    assert_eq!((list(&alice, 1000).await, count(1000).await), (newest_first[..2].to_vec(), 3));
    let purge =
        async |now| db.write(move |tx| async move { sessions::purge(tx, t(now)).await }.boxed()).await;
    assert_eq!((purge(999).await, purge(2000).await, purge(2000).await), (0, 2, 0), "sessions purged");
    assert_eq!((list(&alice, 0).await, list(&bob, 0).await), (newest_first[..2].to_vec(), vec![]));
}

async fn end(db: &Db, user: UserId, id: &SessionId) -> bool {
    let id = id.clone();
    db.write(move |tx| async move { sessions::delete(tx, &user, &id).await }.boxed()).await
}
