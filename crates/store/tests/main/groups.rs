//! Groups of changes that share a commit: each is as good as if it had been alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use proptest::prelude::*;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vellum_protocol::KmVersion;
use vellum_store::applied_envelopes::{self, AppliedEnvelope};
use vellum_store::users::{self, Keys};
use vellum_store::{Store, StoreError, Tx, UserId, blobs};

use crate::support::{Db, NEVER, T0, keys};

/// What one of several changes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// New keys, a blob, and an envelope under a nonce of its own.
    Changes,
    /// Looks, and refuses.
    RefusesAtOnce,
    /// Changes something, then refuses.
    RefusesLate,
    /// Changes something, then takes a nonce that is taken.
    BreaksAUniqueKey,
    /// Changes something, then panics.
    Panics,
    /// A change with a query that goes to the database alone.
    GoesAlone,
}

fn envelope(nonce: &str) -> AppliedEnvelope {
    AppliedEnvelope {
        sender_handle: "peer@b.example".into(),
        nonce: nonce.into(),
        recipient_handle: "user@a.example".into(),
        message_type: "RELATIONSHIP_REVOKE".into(),
        signature: "s".into(),
        applied: true,
        friends: false,
        signed_at: T0,
        applied_at: T0,
    }
}

async fn carry_out(tx: &mut Tx, user: &UserId, n: usize, does: Does) -> Result<KmVersion, StoreError> {
    let current = users::by_id(tx, user).await?.ok_or(StoreError::Closed)?.identity.km_version;
    if does == Does::RefusesAtOnce {
        return Err(StoreError::Schema(format!("refused {n}")));
    }
    let keys: Keys = keys(u8::try_from(n % 200).unwrap() + 1);
    assert!(users::swap_keys(tx, user, current, &keys, current.next(), T0).await?.is_some());
    blobs::put(tx, user, "preferences", &format!("sealed {n}"), "", current.next(), T0).await?;
    match does {
        Does::Changes | Does::RefusesAtOnce => {}
        Does::GoesAlone => users::set_names(tx, user, Some("Alone"), None, T0).await?,
        Does::RefusesLate => return Err(StoreError::Schema(format!("refused {n}"))),
        Does::BreaksAUniqueKey => applied_envelopes::insert(tx, &envelope("taken"), NEVER).await?,
        Does::Panics => panic!("a change that panics, on purpose"),
    }
    applied_envelopes::insert(tx, &envelope(&format!("n{n}")), NEVER).await?;
    // It sees what it has done itself.
    let now = users::by_id(tx, user).await?.ok_or(StoreError::Closed)?.identity;
    assert_eq!((now.km_version, now.keys), (current.next(), Some(keys)));
    Ok(now.km_version)
}

fn was_told(n: usize, does: Does, answer: &Result<KmVersion, StoreError>) -> bool {
    match does {
        Does::Changes | Does::GoesAlone => answer.is_ok(),
        Does::RefusesAtOnce | Does::RefusesLate => {
            matches!(answer, Err(StoreError::Schema(words)) if *words == format!("refused {n}"))
        }
        Does::BreaksAUniqueKey => matches!(answer, Err(StoreError::Duplicate(_))),
        Does::Panics => matches!(answer, Err(StoreError::Panicked)),
    }
}

/// Holds the writer, so that what is handed in meanwhile is run together.
async fn hold(store: &Store) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (started, has_started) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let ends = Arc::new(std::sync::Mutex::new(Some((started, gone))));
    let store = store.clone();
    let task = tokio::spawn(async move {
        let held = store.write(move |_| {
            async move {
                let (started, gone) = ends.lock().unwrap().take().unwrap();
                started.send(()).unwrap();
                crate::support::held(gone).await;
                Ok::<_, StoreError>(())
            }
            .boxed()
        });
        // It may be taken back with all the others.
        let _ = held.await;
    });
    has_started.await.unwrap();
    (go, task)
}

/// Runs changes, each for the user of that number, all at the same time. Gives their answers, and how often each was begun.
async fn run(
    db: &Db,
    users: &[UserId],
    changes: &[(usize, Does)],
) -> Vec<(Result<KmVersion, StoreError>, usize)> {
    let (go, held) = hold(&db.store).await;
    let asked = changes.iter().enumerate().map(|(n, (who, does))| {
        let (store, user, does) = (db.store.clone(), users[*who].clone(), *does);
        let begun = Arc::new(AtomicUsize::new(0));
        async move {
            let (of, begins) = (user, Arc::clone(&begun));
            let work = store.write(move |tx| {
                begins.fetch_add(1, Ordering::SeqCst);
                async move { carry_out(tx, &of, n, does).await }.boxed()
            });
            (work.await, begun.load(Ordering::SeqCst))
        }
    });
    let asked = join_all(asked);
    let (answers, ()) = tokio::join!(asked, async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    });
    held.await.unwrap();
    answers
}

async fn accounts(db: &Db, count: usize) -> Vec<UserId> {
    let mut users = Vec::new();
    for n in 0..count {
        users.push(db.user(&format!("{n:03}@example.org")).await);
    }
    db.write(|tx| async move { applied_envelopes::insert(tx, &envelope("taken"), NEVER).await }.boxed())
        .await;
    users
}

/// Runs changes and compares answers and rows with what they would be one after the other.
async fn check(db: &Db, people: usize, changes: &[(usize, Does)]) {
    let users = accounts(db, people).await;
    let answers = run(db, &users, changes).await;
    let mut expected = vec![1; people];
    for (n, ((who, does), (answer, _))) in changes.iter().zip(&answers).enumerate() {
        assert!(was_told(n, *does, answer), "{n} {does:?} was answered {answer:?}");
        if matches!(does, Does::Changes | Does::GoesAlone) {
            expected[*who] += 1;
        }
    }
    let mut conn = db.store.read().await.unwrap();
    for (who, user) in users.iter().enumerate() {
        let version = users::by_id(&mut conn, user).await.unwrap().unwrap().identity.km_version.get();
        assert_eq!(version, expected[who], "user {who}");
        let blob = blobs::find(&mut conn, user, "preferences").await.unwrap();
        assert_eq!(blob.map(|blob| blob.info.km_version.get()), (version > 1).then_some(version));
    }
    for (n, (_, does)) in changes.iter().enumerate() {
        let found = applied_envelopes::find(&mut conn, "peer@b.example", &format!("n{n}")).await.unwrap();
        assert_eq!(found.is_some(), matches!(does, Does::Changes | Does::GoesAlone), "{n} {does:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_for_many_users_at_once_are_all_kept() {
    let db = Db::new().await;
    let changes: Vec<_> = (0..90).map(|n| (n, Does::Changes)).collect();
    check(&db, 90, &changes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_run_beside_others_runs_once() {
    let db = Db::on_sqlite().await;
    let users = accounts(&db, 20).await;
    let changes: Vec<_> =
        (0..20).map(|n| (n, if n % 3 == 0 { Does::RefusesAtOnce } else { Does::Changes })).collect();
    let answers = run(&db, &users, &changes).await;
    assert!(answers.iter().all(|(_, begun)| *begun == 1), "nothing had to be taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_after_a_change_is_taken_back_alone() {
    for fails in [Does::RefusesLate, Does::BreaksAUniqueKey, Does::Panics] {
        let db = Db::new().await;
        let changes: Vec<_> =
            (0..12).map(|n| (n, if n == 5 || n == 11 { fails } else { Does::Changes })).collect();
        check(&db, 12, &changes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_changes_for_one_user_are_made_one_after_the_other() {
    let db = Db::new().await;
    let changes: Vec<_> = (0..30).map(|n| (n % 4, Does::Changes)).collect();
    check(&db, 4, &changes).await;
}

/// As a full disk does: SQLite takes everything back by itself in the middle of the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_database_has_rolled_back_by_itself_nothing_of_the_others_is_kept_either() {
    let db = Db::on_sqlite().await;
    let users = accounts(&db, 40).await;
    let url = db.url();
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let trigger = "create trigger full before insert on applied_envelopes when new.nonce = 'n7'
        begin select raise(rollback, 'as if the disk were full'); end";
    sqlx::query(trigger).execute(&mut other).await.unwrap();
    let changes: Vec<_> =
        (0..40).map(|n| (n, if n % 4 == 1 { Does::GoesAlone } else { Does::Changes })).collect();
    let answers = run(&db, &users, &changes).await;
    assert!(answers[7].0.is_err());
    let mut conn = db.store.read().await.unwrap();
    for (n, (user, (answer, _))) in users.iter().zip(&answers).enumerate() {
        let version = users::by_id(&mut conn, user).await.unwrap().unwrap().identity.km_version.get();
        assert_eq!(version == 2, answer.is_ok(), "{n} was answered {answer:?}");
        let blob = blobs::find(&mut conn, user, "preferences").await.unwrap();
        assert_eq!(blob.is_some(), answer.is_ok(), "{n} was answered {answer:?}");
        let found = applied_envelopes::find(&mut conn, "peer@b.example", &format!("n{n}")).await.unwrap();
        assert_eq!(found.is_some(), answer.is_ok(), "{n} was answered {answer:?}");
    }
    // And the writer goes on.
    let again = run(&db, &users, &[(0, Does::Changes)]).await;
    assert!(again[0].0.is_ok(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_on_the_disk() {
    let db = Db::on_sqlite().await;
    let users = accounts(&db, 40).await;
    let changes: Vec<_> = (0..40).map(|n| (n, Does::Changes)).collect();
    run(&db, &users, &changes).await;
    let after = db.as_after_a_crash().await;
    let mut conn = after.store.read().await.unwrap();
    for user in &users {
        let user = users::by_id(&mut conn, user).await.unwrap().unwrap();
        assert_eq!(user.identity.km_version.get(), 2);
    }
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        6 => Just(Does::Changes),
        2 => Just(Does::GoesAlone),
        2 => Just(Does::RefusesAtOnce),
        1 => Just(Does::RefusesLate),
        1 => Just(Does::BreaksAUniqueKey),
        1 => Just(Does::Panics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_at_once_are_as_good_as_one_after_the_other(
        changes in proptest::collection::vec((0_usize..12, does()), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { check(&Db::on_sqlite().await, 12, &changes).await });
    }
}
