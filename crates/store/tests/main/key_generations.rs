//! Generations of keys, and which of them a session was shown.

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::sessions::{self, Session};
use vellum_store::users::{self, KeyGeneration};
use vellum_store::{SessionId, UserId};

use crate::support::{Db, T0, keys, t};

async fn generation(db: &Db, user: &UserId) -> KeyGeneration {
    let user = users::by_id(&mut db.store.read().await.unwrap(), user).await.unwrap();
    user.unwrap().identity.key_generation
}

async fn swap(db: &Db, user: &UserId, expected: i64, seed: u8) -> Option<KeyGeneration> {
    let (user, expected) = (user.clone(), KmVersion::new(expected).unwrap());
    db.write(move |tx| {
        async move { users::swap_keys(tx, &user, expected, &keys(seed), expected.next(), t(1)).await }.boxed()
    })
    .await
    .map(|swapped| swapped.generation)
}

async fn clear(db: &Db, user: &UserId) {
    let user = user.clone();
    db.write(move |tx| async move { users::clear_keys(tx, &user, t(2)).await }.boxed()).await;
}

async fn open(db: &Db, user: &UserId, token: u8) -> SessionId {
    let id = SessionId::generate();
    let session = Session {
        id: id.clone(),
        user_id: user.clone(),
        created_at: T0,
        last_used_at: T0,
        expires_at: t(1000),
        user_agent: None,
        ip: None,
        device_id: None,
    };
    db.write(move |tx| async move { sessions::insert(tx, &session, &[token; 32]).await }.boxed()).await;
    id
}

async fn known(db: &Db, user: &UserId, session: &SessionId) -> Option<KeyGeneration> {
    sessions::known_generation(&mut db.store.read().await.unwrap(), user, session).await.unwrap()
}

async fn show(
    db: &Db,
    user: &UserId,
    session: &SessionId,
    from: KeyGeneration,
    generation: KeyGeneration,
) -> bool {
    let (user, session) = (user.clone(), session.clone());
    db.write(move |tx| {
        async move { sessions::show_generation(tx, &user, &session, from, generation).await }.boxed()
    })
    .await
}

#[tokio::test]
async fn every_change_of_the_keys_raises_the_generation_and_a_reset_does_not_set_it_back() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let mut seen = vec![generation(&db, &alice).await];
    seen.push(swap(&db, &alice, 1, 1).await.unwrap());
    assert_eq!(swap(&db, &alice, 1, 2).await, None, "the version is another one");
    seen.push(swap(&db, &alice, 2, 2).await.unwrap());
    clear(&db, &alice).await;
    seen.push(generation(&db, &alice).await);
    seen.push(swap(&db, &alice, 1, 3).await.unwrap());
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    assert_eq!(seen.last().unwrap().previous(), seen[3], "by one each time");
    assert_eq!(generation(&db, &alice).await, seen[4]);
}

#[tokio::test]
async fn a_session_begins_with_the_present_generation_and_what_it_knows_never_goes_back() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    let first = open(&db, &alice, 1).await;
    let begun = generation(&db, &alice).await;
    let second = swap(&db, &alice, 1, 1).await.unwrap();
    let later = open(&db, &alice, 2).await;
    assert_eq!(known(&db, &alice, &first).await, Some(begun));
    assert_eq!(known(&db, &alice, &later).await, Some(second));
    assert_eq!(known(&db, &bob, &later).await, None, "it is not his");

    let third = swap(&db, &alice, 2, 2).await.unwrap();
    assert!(!show(&db, &alice, &first, second, third).await, "it has missed the second");
    assert!(!show(&db, &bob, &later, second, third).await, "it is not his");
    assert_eq!(known(&db, &alice, &first).await, Some(begun));
    assert!(show(&db, &alice, &later, second, third).await);
    assert!(!show(&db, &alice, &later, KeyGeneration::NONE, second).await, "an answer that was read before");
    assert_eq!(known(&db, &alice, &later).await, Some(third));
}
