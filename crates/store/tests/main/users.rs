//! Accounts: what is unique, and the compare-and-swap of keys.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_protocol::{Alias, KmVersion};
use vellum_store::sessions::{self, Session};
use vellum_store::users::{self, User};
use vellum_store::{SessionId, StoreError, UserId, roles};

use crate::support::{Db, T0, insert_user, keys, t};

async fn set_alias(db: &Db, user: &UserId, alias: &str) -> Result<(), StoreError> {
    let (user, alias) = (user.clone(), Alias::parse(alias).unwrap());
    db.store.write(move |tx| async move { users::set_alias(tx, &user, &alias, T0).await }.boxed()).await
}

async fn load(db: &Db, user: &UserId) -> User {
    users::by_id(&mut db.store.read().await.unwrap(), user).await.unwrap().unwrap()
}

async fn swap(db: &Db, user: &UserId, expected: i64, seed: u8) -> bool {
    let (user, expected) = (user.clone(), KmVersion::new(expected).unwrap());
    db.write(move |tx| {
        async move { users::swap_keys(tx, &user, expected, &keys(seed), expected.next(), t(1)).await }.boxed()
    })
    .await
    .is_some()
}

#[tokio::test]
async fn an_email_address_has_one_account_however_it_is_spelled() {
    let db = Db::new().await;
    let alice = db.user("Alice@Example.org").await;
    for spelling in ["alice@example.org", "ALICE@EXAMPLE.ORG", " Alice@Example.org "] {
        let second = insert_user(&db.store, spelling).await;
        assert!(matches!(second, Err(StoreError::Duplicate(_))), "{spelling}");
        let found = users::by_email(&mut db.store.read().await.unwrap(), spelling).await.unwrap();
        assert_eq!(found.unwrap().id, alice);
    }
    assert_eq!(db.emails().await, ["Alice@Example.org"], "kept as it was typed");
}

#[tokio::test]
async fn an_alias_belongs_to_one_user_however_it_is_spelled() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    set_alias(&db, &alice, "Alice").await.unwrap();
    assert!(matches!(set_alias(&db, &bob, "aLICE").await, Err(StoreError::Duplicate(_))));
    assert_eq!(load(&db, &bob).await.identity.alias, None);
    let alias = Alias::parse("ALICE").unwrap();
    let found = users::by_alias(&mut db.store.read().await.unwrap(), &alias).await.unwrap().unwrap();
    assert_eq!(found.id, alice);
    assert_eq!(found.identity.alias.unwrap().as_str(), "Alice", "kept as it was typed");
    set_alias(&db, &alice, "ALICE").await.expect("one's own alias can be spelled anew");
}

#[tokio::test]
async fn an_alias_that_was_shown_with_keys_is_never_another_users() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    let is_free = async |user: &UserId, alias: &str| {
        let alias = Alias::parse(alias).unwrap();
        users::is_alias_free(&mut db.store.read().await.unwrap(), user, &alias).await.unwrap()
    };
    set_alias(&db, &alice, "unseen").await.unwrap();
    set_alias(&db, &alice, "Alice").await.unwrap();
    set_alias(&db, &bob, "unseen").await.expect("without keys nobody was shown it");
    assert!(swap(&db, &alice, 1, 7).await, "now it is shown");
    set_alias(&db, &alice, "alicia").await.unwrap();
    for taken in ["alice", "ALICIA"] {
        assert!(matches!(set_alias(&db, &bob, taken).await, Err(StoreError::Duplicate(_))), "{taken}");
        assert!(!is_free(&bob, taken).await && is_free(&alice, taken).await, "{taken}");
    }
    assert_eq!(load(&db, &bob).await.identity.alias.unwrap().as_str(), "unseen");
    set_alias(&db, &alice, "alice").await.expect("her own");
    assert!(swap(&db, &alice, 2, 8).await, "showing it once more is no matter");
}

#[tokio::test]
async fn the_step_of_the_history_takes_in_the_aliases_that_are_shown_already() {
    use sqlx::{ConnectOptions, Connection};
    let mut old = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
    let mut steps: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    for step in steps {
        if step.to_string_lossy().ends_with("0014_identity_continuity.sql") {
            sqlx::raw_sql(
                "insert into users (id, email, email_folded, alias, alias_folded, signing_key, created_at, updated_at)
                 values ('a', 'a', 'a', 'Ann', 'ann', 'key', 1, 2), ('b', 'b', 'b', 'Ben', 'ben', null, 1, 2),
                        ('c', 'c', 'c', null, null, 'key', 1, 2)",
            )
            .execute(&mut old)
            .await
            .unwrap();
        }
        let text = std::fs::read_to_string(step).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut old).await.unwrap();
    }
    let taken: Vec<(String, String, i64)> =
        sqlx::query_as("select * from published_aliases").fetch_all(&mut old).await.unwrap();
    assert_eq!(taken, [("ann".to_owned(), "a".to_owned(), 2)]);
    old.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_swaps_that_expect_the_same_version_exactly_one_happens() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let won = join_all((0..16).map(|seed| swap(&db, &alice, 1, seed))).await;
    let winners: Vec<_> = (0..16_u8).filter(|seed| won[usize::from(*seed)]).collect();
    assert_eq!(winners.len(), 1, "{won:?}");
    let identity = load(&db, &alice).await.identity;
    assert_eq!(identity.keys, Some(keys(winners[0])));
    assert_eq!(identity.km_version.get(), 2);
}

#[tokio::test]
async fn a_swap_that_expects_another_version_changes_nothing() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    assert!(swap(&db, &alice, 1, 7).await);
    let before = load(&db, &alice).await;
    assert!(!swap(&db, &alice, 1, 8).await && !swap(&db, &alice, 3, 8).await);
    assert_eq!(load(&db, &alice).await, before);
}

#[tokio::test]
async fn clearing_the_keys_sets_the_version_back_and_keeps_the_alias() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    set_alias(&db, &alice, "alice").await.unwrap();
    assert!(swap(&db, &alice, 1, 7).await && swap(&db, &bob, 1, 8).await);
    let id = alice.clone();
    db.write(move |tx| async move { users::clear_keys(tx, &id, t(2)).await }.boxed()).await;
    let identity = load(&db, &alice).await.identity;
    assert_eq!((identity.keys, identity.km_version.get()), (None, 1));
    assert_eq!(identity.alias.unwrap().as_str(), "alice");
    assert!(load(&db, &bob).await.identity.keys.is_some(), "nobody else is touched");
}

#[tokio::test]
async fn a_role_gives_its_permissions_once() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    for role in ["admin", "user", "admin"] {
        let user = alice.clone();
        db.write(move |tx| async move { roles::give(tx, &user, role).await }.boxed()).await;
    }
    let mut conn = db.store.read().await.unwrap();
    let ids: Vec<_> =
        roles::of_user(&mut conn, &alice).await.unwrap().into_iter().map(|role| role.id).collect();
    assert_eq!(ids, ["user", "admin"], "lowest first");
    let permissions = roles::permissions_of_user(&mut conn, &alice).await.unwrap();
    assert!(permissions.contains(&"system:read".to_owned()) && permissions.is_sorted());
    let distinct: std::collections::HashSet<_> = permissions.iter().collect();
    assert_eq!(distinct.len(), permissions.len());
    drop(conn);
    assert_eq!(permissions_by_session(&db, &alice, 1).await, permissions, "a session shows the same");
    let nobody = db.user("nobody@example.org").await;
    assert_eq!(permissions_by_session(&db, &nobody, 2).await, [""; 0], "without a role there are none");
}

/// What somebody with a new session may do.
async fn permissions_by_session(db: &Db, user: &UserId, token: u8) -> Vec<String> {
    let session = Session {
        id: SessionId::generate(),
        user_id: user.clone(),
        created_at: t(0),
        last_used_at: t(0),
        expires_at: t(1000),
        user_agent: None,
        ip: None,
        device_id: None,
    };
    db.write(move |tx| async move { sessions::insert(tx, &session, &[token; 32]).await }.boxed()).await;
    let found = sessions::by_token(&mut db.store.read().await.unwrap(), &[token; 32], t(1)).await.unwrap();
    let known = found.unwrap();
    assert_eq!(known.user().unwrap().id, *user);
    known.permissions
}
