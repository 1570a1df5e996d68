//! Transactions as the actors see them, the same on either engine: as good as one after the other, and whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_store::peers::{self, PeerPolicy};
use vellum_store::{StoreError, users};
use vellum_test_database::{Engine, engine};

use crate::support::{Db, T0, new_user, t};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_read_before_they_write_none_is_lost() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let add_one = || {
        let alice = alice.clone();
        db.store.write(move |tx| {
            async move {
                let seen = users::by_id(tx, &alice).await?.and_then(|user| user.first_name);
                let count: u32 = seen.and_then(|text| text.parse().ok()).unwrap_or(0);
                users::set_names(tx, &alice, Some(&(count + 1).to_string()), None, t(1)).await
            }
            .boxed()
        })
    };
    let done: Vec<Result<(), StoreError>> = join_all((0..24).map(|_| add_one())).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let name = users::by_id(&mut db.store.read().await.unwrap(), &alice).await.unwrap().unwrap().first_name;
    assert_eq!(name.as_deref(), Some("24"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_wait_for_each_others_rows_both_come_through() {
    let db = Db::new().await;
    for domain in ["a.example", "b.example"] {
        db.write(move |tx| async move { peers::set_standing(tx, domain, PeerPolicy::Allowed).await }.boxed())
            .await;
    }
    let tries = Arc::new(AtomicUsize::new(0));
    let change = |first: &'static str, second: &'static str| {
        let tries = Arc::clone(&tries);
        db.store.write(move |tx| {
            tries.fetch_add(1, Ordering::SeqCst);
            async move {
                peers::set_paused(tx, first, true).await?;
                // Long enough for the other to have its first row, too; on SQLite nobody else
                // writes.
                if engine() == Engine::Postgres {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                peers::set_paused(tx, second, true).await
            }
            .boxed()
        })
    };
    let (one, two): (Result<bool, StoreError>, Result<bool, StoreError>) =
        tokio::join!(change("a.example", "b.example"), change("b.example", "a.example"));
    assert!(one.unwrap() && two.unwrap());
    let tries = tries.load(Ordering::SeqCst);
    match engine() {
        Engine::Sqlite => assert_eq!(tries, 2, "one after the other"),
        Engine::Postgres => assert!(tries > 2, "a deadlock was begun again"),
    }
}

#[tokio::test]
async fn a_change_that_goes_on_after_a_failed_statement_is_never_half_of_one() {
    let db = Db::new().await;
    db.user("alice@example.org").await;
    let done: Result<(), StoreError> = db
        .store
        .write(|tx| {
            async move {
                users::insert(tx, &new_user("before@example.org"), T0).await?;
                // Taken: a caller that does not look goes on.
                let _ = users::insert(tx, &new_user("alice@example.org"), T0).await;
                Ok(())
            }
            .boxed()
        })
        .await;
    let there = db.emails().await.contains(&"before@example.org".to_owned());
    assert_eq!(done.is_ok(), there, "what is called a success is there, and nothing else is");
    // SQLite undoes the statement alone, PostgreSQL the whole.
    assert_eq!(there, engine() == Engine::Sqlite);
}
