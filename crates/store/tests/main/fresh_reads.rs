//! What is read is never older than an answered change.

use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use vellum_protocol::{Alias, KmVersion};
use vellum_store::sessions::{self, Session, TokenHash};
use vellum_store::users::{self, KeyGeneration, User};
use vellum_store::{SessionId, Store, StoreError, Tx, TxFuture, UserId, roles};

use crate::support::{Db, T0, keys, t};

const TOKEN: TokenHash = [7; 32];

/// Alice, with an alias and a session.
async fn alice(db: &Db) -> (UserId, SessionId) {
    let alice = db.user("alice@example.org").await;
    let session = Session {
        id: SessionId::generate(),
        user_id: alice.clone(),
        created_at: T0,
        last_used_at: T0,
        expires_at: t(1000),
        user_agent: None,
        ip: None,
        device_id: None,
    };
    let (stored, user) = (session.clone(), alice.clone());
    db.write(move |tx| {
        async move {
            users::set_alias(tx, &user, &alias("alice"), T0).await?;
            sessions::insert(tx, &stored, &TOKEN).await
        }
        .boxed()
    })
    .await;
    read(db, &alice).await;
    (alice, session.id)
}

fn alias(text: &str) -> Alias {
    Alias::parse(text).unwrap()
}

/// The user, by id and by alias, with what the session allows.
async fn read(db: &Db, user: &UserId) -> (User, Option<Vec<String>>) {
    let by_id = db.store.user(user).await.unwrap().unwrap();
    if let Some(alias) = &by_id.identity.alias {
        assert_eq!(db.store.user_by_alias(alias).await.unwrap().as_ref(), Some(&by_id));
    }
    let known = db.store.session(&TOKEN, T0).await.unwrap();
    (by_id, known.map(|known| known.permissions))
}

/// The next read after a change shows it.
async fn is_seen<F>(db: &Db, user: &UserId, change: F)
where
    F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, (), StoreError> + Clone + Send + 'static,
{
    let before = read(db, user).await;
    db.write(change).await;
    let after = read(db, user).await;
    assert_ne!(before, after);
    assert_eq!(after, read(db, user).await);
    let stored = users::by_id(&mut db.store.read().await.unwrap(), user).await.unwrap().unwrap();
    assert_eq!(after.0, stored);
}

#[tokio::test]
async fn every_change_is_seen_by_the_next_read() {
    let db = Db::new().await;
    let (user, session) = alice(&db).await;
    let me = user.clone();
    is_seen(&db, &user, move |tx| {
        async move { users::set_names(tx, &me, Some("Alice"), None, t(1)).await }.boxed()
    })
    .await;
    let me = user.clone();
    is_seen(&db, &user, move |tx| {
        async move { users::set_alias(tx, &me, &alias("ann"), t(1)).await }.boxed()
    })
    .await;
    assert_eq!(db.store.user_by_alias(&alias("alice")).await.unwrap(), None, "the alias that was given up");
    let me = user.clone();
    is_seen(&db, &user, move |tx| {
        async move {
            let next = KmVersion::FIRST.next();
            users::swap_keys(tx, &me, KmVersion::FIRST, &keys(1), next, t(2)).await.map(drop)
        }
        .boxed()
    })
    .await;
    let me = user.clone();
    is_seen(&db, &user, move |tx| async move { users::clear_keys(tx, &me, t(3)).await }.boxed()).await;
    let me = user.clone();
    is_seen(&db, &user, move |tx| async move { roles::give(tx, &me, "admin").await }.boxed()).await;
    let me = user.clone();
    is_seen(&db, &user, move |tx| {
        async move {
            assert!(sessions::delete(tx, &me, &session).await?);
            Ok(())
        }
        .boxed()
    })
    .await;
    assert_eq!(read(&db, &user).await.1, None);
}

#[tokio::test]
async fn a_session_that_is_prolonged_or_ended_with_all_others_is_seen_so() {
    let db = Db::new().await;
    let (user, session) = alice(&db).await;
    assert!(db.store.session(&TOKEN, t(1000)).await.unwrap().is_none(), "it ends by itself");
    let me = user.clone();
    db.write(move |tx| async move { sessions::prolong(tx, &me, &session, t(10), t(5000)).await }.boxed())
        .await;
    assert!(db.store.session(&TOKEN, t(4999)).await.unwrap().is_some());
    let me = user.clone();
    db.write(move |tx| async move { sessions::delete_others(tx, &me, None).await }.boxed()).await;
    assert!(db.store.session(&TOKEN, t(4999)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_change_that_was_taken_back_is_never_seen() {
    let db = Db::new().await;
    let (user, _) = alice(&db).await;
    let before = read(&db, &user).await;
    let me = user.clone();
    let refused: Result<(), StoreError> = db
        .store
        .write(move |tx| {
            async move {
                users::clear_keys(tx, &me, t(1)).await?;
                Err(StoreError::Schema("refused".into()))
            }
            .boxed()
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(read(&db, &user).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_falls_behind_what_was_answered_while_it_reads_all_the_time() {
    static ANSWERED: AtomicI64 = AtomicI64::new(1);
    const LAST: i64 = 300;

    let db = Db::new().await;
    let (user, _) = alice(&db).await;
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, user) = (db.store.clone(), user.clone());
            tokio::spawn(async move {
                let mut reads = 0_u64;
                while ANSWERED.load(Ordering::SeqCst) < LAST {
                    let answered = ANSWERED.load(Ordering::SeqCst);
                    let seen = store.user(&user).await.unwrap().unwrap().identity.km_version.get();
                    let by_alias = store.user_by_alias(&alias("alice")).await.unwrap().unwrap();
                    assert!(seen >= answered, "{seen} after {answered} was answered");
                    assert!(by_alias.identity.km_version.get() >= answered);
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        })
        .collect();
    for version in 1..LAST {
        let user = user.clone();
        db.write(move |tx| {
            async move {
                let expected = KmVersion::new(version).unwrap();
                assert!(
                    users::swap_keys(tx, &user, expected, &keys(1), expected.next(), t(version))
                        .await?
                        .is_some()
                );
                Ok(())
            }
            .boxed()
        })
        .await;
        ANSWERED.store(version + 1, Ordering::SeqCst);
    }
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn what_another_program_changes_is_seen_at_once() {
    let db = Db::new().await;
    let (user, _) = alice(&db).await;
    let other = Store::open(&db.url).await.unwrap();
    let me = user.clone();
    let ended: Result<u64, StoreError> =
        other.write(move |tx| async move { sessions::delete_others(tx, &me, None).await }.boxed()).await;
    assert_eq!(ended.unwrap(), 1);
    assert!(db.store.session(&TOKEN, T0).await.unwrap().is_none());
}

/// Each change raises the user's generation and what the session knows together, so any two that
/// differ are from two commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_session_and_its_user_are_always_of_one_commit() {
    let db = Db::new().await;
    let (user, session) = alice(&db).await;
    // The statement is the same on both engines; a server takes ten times as long for it.
    let reads = if db.store.is_shared() { 20_000 } else { 500_000 };
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let store = db.store.clone();
            tokio::spawn(async move {
                let mut seen = 1;
                let mut changes = 0;
                for read in 0..reads {
                    let known = store.session(&TOKEN, T0).await.unwrap().expect("it does not end");
                    let user = known.user().unwrap();
                    assert_eq!(known.known_generation, user.identity.key_generation, "read {read}");
                    let version = user.identity.km_version.get();
                    assert!(version >= seen, "read {read} went back from version {seen} to {version}");
                    changes += u64::from(version > seen);
                    seen = version;
                    if read % 100 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                changes
            })
        })
        .collect();
    let mut version = KmVersion::FIRST;
    while !readers.iter().all(JoinHandle::is_finished) {
        let (user, session, expected) = (user.clone(), session.clone(), version);
        db.write(move |tx| {
            async move {
                let next = expected.next();
                let swapped = users::swap_keys(tx, &user, expected, &keys(1), next, T0).await?.unwrap();
                let from = KeyGeneration::NONE;
                assert!(sessions::show_generation(tx, &user, &session, from, swapped.generation).await?);
                Ok(())
            }
            .boxed()
        })
        .await;
        version = version.next();
    }
    for reader in readers {
        let changes = reader.await.unwrap();
        assert!(changes > 10, "of {} changes a reader saw only {changes}", version.get());
    }
}
