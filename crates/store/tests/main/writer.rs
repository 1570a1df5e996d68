//! The one writer: what is committed together stands or falls job by job, and nobody is answered early.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vellum_store::{Store, StoreError, UserId, users};

use crate::support::{Db, T0, insert_user, new_user};

/// Long enough for anything that does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A write that has done its part and waits, with the transaction open, until it is let go.
struct Held {
    go: oneshot::Sender<Result<(), StoreError>>,
    task: JoinHandle<Result<UserId, StoreError>>,
}

impl Held {
    async fn start(store: &Store, email: &'static str) -> Self {
        let (started, has_started) = oneshot::channel();
        let (go, gone) = oneshot::channel();
        let store = store.clone();
        // A change may be run again elsewhere; here it runs once and takes them.
        let ends = Arc::new(Mutex::new(Some((started, gone))));
        let task = tokio::spawn(async move {
            store
                .write(move |tx| {
                    async move {
                        let id = users::insert(tx, &new_user(email), T0).await?;
                        let (started, gone) = ends.lock().unwrap().take().unwrap();
                        started.send(()).unwrap();
                        crate::support::held(gone).await?;
                        Ok(id)
                    }
                    .boxed()
                })
                .await
        });
        timeout(PATIENCE, has_started).await.unwrap().unwrap();
        Self { go, task }
    }

    async fn end(self, how: Result<(), StoreError>) -> Result<UserId, StoreError> {
        self.go.send(how).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

/// What one of many concurrent writes does after it has inserted its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Refuses,
    BreaksAUniqueKey,
    Panics,
}

fn fate(n: usize) -> Fate {
    match n % 6 {
        1 => Fate::Refuses,
        3 => Fate::BreaksAUniqueKey,
        4 => Fate::Panics,
        _ => Fate::Succeeds,
    }
}

async fn meet(store: &Store, n: usize, fate: Fate) -> Result<UserId, StoreError> {
    store
        .write(move |tx| {
            async move {
                let user = new_user(&format!("{n:03}@example.org"));
                let id = users::insert(tx, &user, T0).await?;
                match fate {
                    Fate::Succeeds => Ok(id),
                    Fate::Refuses => Err(StoreError::Schema(format!("refused {n}"))),
                    Fate::BreaksAUniqueKey => users::insert(tx, &user, T0).await,
                    Fate::Panics => panic!("a job that panics, on purpose"),
                }
            }
            .boxed()
        })
        .await
}

/// Runs `count` writes that all wait behind one that is held open, and lets that end as told: so they are
/// committed in as few groups as can be.
async fn meet_behind_a_held_write(db: &Db, count: usize, how: Result<(), StoreError>) {
    let held = Held::start(&db.store, "held@example.org").await;
    let meetings = join_all((0..count).map(|n| meet(&db.store, n, fate(n))));
    let (results, _) = tokio::join!(timeout(PATIENCE, meetings), held.end(how));
    let results = results.unwrap();
    for (n, result) in results.iter().enumerate() {
        let as_told = match fate(n) {
            Fate::Succeeds => result.is_ok(),
            Fate::Refuses => {
                matches!(result, Err(StoreError::Schema(words)) if *words == format!("refused {n}"))
            }
            Fate::BreaksAUniqueKey => matches!(result, Err(StoreError::Duplicate(_))),
            Fate::Panics => matches!(result, Err(StoreError::Panicked)),
        };
        assert!(as_told, "{n} {:?} was answered {result:?}", fate(n));
    }
}

fn survivors(count: usize) -> Vec<String> {
    (0..count).filter(|n| fate(*n) == Fate::Succeeds).map(|n| format!("{n:03}@example.org")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_that_was_answered_is_on_the_disk_even_if_the_node_dies_right_then() {
    let db = Db::on_sqlite().await;
    let answered = join_all((0..400).map(|n| meet(&db.store, n, Fate::Succeeds))).await;
    assert!(answered.iter().all(Result::is_ok));
    let expected: Vec<_> = (0..400).map(|n| format!("{n:03}@example.org")).collect();
    assert_eq!(db.as_after_a_crash().await.emails().await, expected);
    assert_eq!(db.reopened().await.emails().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_writes_exactly_those_that_succeed_are_kept() {
    let db = Db::on_sqlite().await;
    meet_behind_a_held_write(&db, 300, Ok(())).await;
    let mut expected = survivors(300);
    expected.push("held@example.org".into());
    assert_eq!(db.emails().await, expected);
    assert_eq!(db.reopened().await.emails().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_write_of_a_group_failing_harms_no_other() {
    let db = Db::on_sqlite().await;
    meet_behind_a_held_write(&db, 60, Err(StoreError::Schema("the first refuses".into()))).await;
    assert_eq!(db.as_after_a_crash().await.emails().await, survivors(60));
}

#[tokio::test]
async fn a_refusal_takes_back_everything_that_its_own_write_has_done() {
    let db = Db::on_sqlite().await;
    db.user("stays@example.org").await;
    let refused = meet(&db.store, 1, Fate::Refuses).await;
    assert!(matches!(refused, Err(StoreError::Schema(_))), "its own error comes back: {refused:?}");
    assert_eq!(db.emails().await, ["stays@example.org"]);
}

#[tokio::test]
async fn a_panicking_write_is_taken_back_and_the_writer_goes_on() {
    let db = Db::on_sqlite().await;
    assert!(matches!(meet(&db.store, 1, Fate::Panics).await, Err(StoreError::Panicked)));
    db.user("next@example.org").await;
    assert_eq!(db.emails().await, ["next@example.org"]);
}

#[tokio::test]
async fn a_write_that_panics_before_its_future_exists_is_reported_like_any_other_panic() {
    let db = Db::on_sqlite().await;
    let panicked: Result<(), _> = db.store.write(|_| panic!("before the future, on purpose")).await;
    assert!(matches!(panicked, Err(StoreError::Panicked)), "{panicked:?}");
    db.user("next@example.org").await;
}

#[tokio::test]
async fn a_write_sees_its_own_changes_and_nobody_else_does_before_the_commit() {
    let db = Db::on_sqlite().await;
    let held = Held::start(&db.store, "held@example.org").await;
    let seen = timeout(PATIENCE, db.emails()).await.expect("a read does not wait for the open write");
    assert!(seen.is_empty(), "nothing uncommitted is seen: {seen:?}");
    held.end(Ok(())).await.unwrap();
    assert_eq!(db.emails().await, ["held@example.org"]);
}

#[tokio::test]
async fn no_write_is_answered_before_its_group_is_committed() {
    let db = Db::on_sqlite().await;
    let held = Held::start(&db.store, "held@example.org").await;
    // Both stand behind the held one; the second is held in its turn, in the same transaction.
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let began = Arc::new(Notify::new());
    let store = db.store.clone();
    let quick = tokio::spawn(async move { insert_user(&store, "quick@example.org").await });
    tokio::task::yield_now().await;
    let (store, begin) = (db.store.clone(), Arc::clone(&began));
    let slow = tokio::spawn(async move {
        store
            .write(move |_| {
                async move {
                    begin.notify_one();
                    let gone = gone.lock().unwrap().take().unwrap();
                    crate::support::held(gone).await;
                    Ok::<_, StoreError>(())
                }
                .boxed()
            })
            .await
    });
    tokio::task::yield_now().await;
    let first = tokio::spawn(held.end(Ok(())));
    timeout(PATIENCE, began.notified()).await.unwrap();
    assert!(!first.is_finished() && !quick.is_finished(), "nothing is durable yet");
    assert!(db.emails().await.is_empty());
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    quick.await.unwrap().unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(db.emails().await, ["held@example.org", "quick@example.org"]);
}

#[tokio::test]
async fn a_write_stands_even_if_its_caller_stops_waiting() {
    let db = Db::on_sqlite().await;
    let Held { go, task } = Held::start(&db.store, "held@example.org").await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    go.send(Ok(())).unwrap();
    db.user("later@example.org").await;
    assert_eq!(db.emails().await, ["held@example.org", "later@example.org"]);
}

#[tokio::test]
async fn closing_finishes_the_writes_before_it_and_refuses_those_after_it() {
    let db = Db::on_sqlite().await;
    let held = Held::start(&db.store, "held@example.org").await;
    let store = db.store.clone();
    let closing = tokio::spawn(async move { store.close().await });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished(), "it waits for the open write");
    held.end(Ok(())).await.unwrap();
    timeout(PATIENCE, closing).await.unwrap().unwrap();
    assert!(matches!(insert_user(&db.store, "late@example.org").await, Err(StoreError::Closed)));
    assert!(matches!(db.store.read().await, Err(StoreError::Closed)));
    db.store.close().await;
    let reopened = Store::open(&db.url()).await.unwrap();
    assert_eq!(Db { store: reopened, ..db }.emails().await, ["held@example.org"]);
}

#[tokio::test]
async fn a_database_held_by_another_process_is_busy_and_is_written_again_once_it_is_free() {
    use sqlx::{Connection, SqliteConnection};
    let db = Db::on_sqlite().await;
    let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
    sqlx::query("begin immediate").execute(&mut other).await.unwrap();
    let refused = timeout(PATIENCE, insert_user(&db.store, "refused@example.org")).await.unwrap();
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    sqlx::query("rollback").execute(&mut other).await.unwrap();
    db.user("accepted@example.org").await;
    assert_eq!(db.emails().await, ["accepted@example.org"]);
}
