//! Passkeys and the ceremonies around them: what happens once, and what belongs to whom.

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_store::passkey_ceremonies::{self, Ceremony};
use vellum_store::passkeys::{self, StoredPasskey};
use vellum_store::{StoreError, UserId};

use crate::support::{Db, T0, t};

fn passkey(user: &UserId, credential: &str) -> StoredPasskey {
    StoredPasskey {
        credential_id: credential.to_owned(),
        user_id: user.clone(),
        name: Some("laptop".to_owned()),
        credential: "{}".to_owned(),
        counter: 7,
        device_type: "singleDevice".to_owned(),
        backed_up: false,
        transports: vec!["usb".to_owned(), "nfc".to_owned()],
        created_at: T0,
        last_used_at: None,
    }
}

async fn insert(db: &Db, passkey: StoredPasskey) -> Result<(), StoreError> {
    db.store.write(move |tx| async move { passkeys::insert(tx, &passkey).await }.boxed()).await
}

#[tokio::test]
async fn a_passkey_comes_back_as_it_was_stored_and_belongs_to_one_user() {
    let db = Db::new().await;
    let (ann, bob) = (db.user("ann@example.org").await, db.user("bob@example.org").await);
    insert(&db, passkey(&ann, "one")).await.unwrap();
    assert!(matches!(insert(&db, passkey(&bob, "one")).await, Err(StoreError::Duplicate(_))));
    let mut conn = db.store.read().await.unwrap();
    assert_eq!(passkeys::of_user(&mut conn, &ann).await.unwrap(), [passkey(&ann, "one")]);
    assert_eq!(passkeys::of_user(&mut conn, &bob).await.unwrap(), []);
    drop(conn);
    let taken = bob.clone();
    let of_another =
        db.write(move |tx| async move { passkeys::delete(tx, &taken, "one").await }.boxed()).await;
    assert!(!of_another);
}

#[tokio::test]
async fn of_two_answers_checked_against_one_count_one_is_kept() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    insert(&db, passkey(&ann, "one")).await.unwrap();
    let used = StoredPasskey { counter: 8, last_used_at: Some(t(5)), ..passkey(&ann, "one") };
    let kept = join_all((0..8).map(|_| {
        let used = used.clone();
        db.write(move |tx| async move { passkeys::keep_use(tx, &used, 7).await }.boxed())
    }))
    .await;
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1);
    let mut conn = db.store.read().await.unwrap();
    assert_eq!(passkeys::by_credential(&mut conn, "one").await.unwrap(), Some(used));
}

#[tokio::test]
async fn a_ceremony_ends_once_and_not_after_its_time() {
    let db = Db::new().await;
    let ann = db.user("ann@example.org").await;
    let ceremony =
        Ceremony { user_id: Some(ann), origin: "https://app.example/".to_owned(), state: "{}".to_owned() };
    for challenge in [[1; 32], [2; 32]] {
        let ceremony = ceremony.clone();
        db.write(move |tx| {
            async move { passkey_ceremonies::begin(tx, &challenge, &ceremony, t(1000)).await }.boxed()
        })
        .await;
    }
    let end = |challenge: [u8; 32], at| {
        db.write(move |tx| async move { passkey_ceremonies::end(tx, &challenge, t(at)).await }.boxed())
    };
    let ended = join_all((0..8).map(|_| end([1; 32], 999))).await;
    assert_eq!(ended.iter().flatten().collect::<Vec<_>>(), [&ceremony]);
    assert_eq!(end([2; 32], 1000).await, None);
    let forgotten = db.write(|tx| async move { passkey_ceremonies::purge(tx, t(1000)).await }.boxed()).await;
    assert_eq!(forgotten, 1);
}
