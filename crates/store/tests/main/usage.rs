//! What a user stores, counted.

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::collections::Collection;
use vellum_store::invitations::Direction;
use vellum_store::shares::{self, Resource, Role, Share, Status};
use vellum_store::slots::{self, Wrapped};
use vellum_store::usage::{self, IncomingShares, Usage};
use vellum_store::{CollectionId, ShareId, UserId, blobs, collections};

use crate::support::{Db, T0, handle};

async fn stored(db: &Db, user: &UserId) -> Usage {
    usage::of_user(&mut db.store.read().await.unwrap(), user).await.unwrap()
}

async fn put_blob(db: &Db, user: &UserId, blob: &str, content: &str) {
    let (user, blob, content) = (user.clone(), blob.to_owned(), content.to_owned());
    db.write(move |tx| {
        async move { blobs::put(tx, &user, &blob, &content, "nonce", KmVersion::FIRST, T0).await }.boxed()
    })
    .await;
}

async fn put_share(db: &Db, user: &UserId, direction: Direction, resource: &str, data: Option<&str>) {
    let share = Share {
        id: ShareId::generate(),
        user_id: user.clone(),
        direction,
        peer_handle: handle("bob@b.example"),
        peer_user_id: None,
        resource: Resource { kind: "collection".into(), id: resource.into() },
        encrypted_data: data.map(str::to_owned),
        nonce: None,
        role: Role::Viewer,
        status: Status::Pending,
        created_at: T0,
        accepted_at: None,
        unverified_key: None,
    };
    db.write(move |tx| async move { shares::put(tx, &share, T0).await }.boxed()).await;
}

#[tokio::test]
async fn what_a_user_stores_is_counted_in_bytes_and_items_and_nothing_of_others() {
    let db = Db::new().await;
    let (alice, bob) = (db.user("alice@example.org").await, db.user("bob@example.org").await);
    assert_eq!(stored(&db, &alice).await, Usage::default());
    put_blob(&db, &alice, "one", &"x".repeat(100_000)).await;
    put_blob(&db, &alice, "two", "ü").await;
    put_blob(&db, &bob, "one", "not hers").await;
    let wrapped = Wrapped {
        credential_id: "c1".into(),
        wrapped_km: "12345".into(),
        wrap_algo: "a".into(),
        slot_signature: "s".into(),
    };
    let her = alice.clone();
    db.write(move |tx| async move { slots::put(tx, &her, &wrapped, KmVersion::FIRST, T0).await }.boxed())
        .await;
    put_share(&db, &alice, Direction::Outgoing, "r1", Some("1234567")).await;
    put_share(&db, &alice, Direction::Outgoing, "r2", None).await;
    put_share(&db, &alice, Direction::Incoming, "r3", Some("from somebody else")).await;
    let expected = Usage { bytes: 100_000 + 2 + 5 + 7, blobs: 2, collections: 0, slots: 1, shares: 2 };
    assert_eq!(stored(&db, &alice).await, expected, "a letter of two bytes counts as two");
    put_blob(&db, &alice, "one", "short").await;
    assert_eq!(stored(&db, &alice).await.bytes, 5 + 2 + 5 + 7);
}

#[tokio::test]
async fn the_metadata_of_collections_counts_in_bytes() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    for (id, metadata) in [("one", Some("1234567")), ("two", None)] {
        let collection = Collection {
            id: CollectionId::from(id.to_owned()),
            user_id: alice.clone(),
            is_public: false,
            is_sensitive: false,
            scheme: "user-e2ee".into(),
            resharing_policy: "owner-only".into(),
            public_token: None,
            public_role: None,
            metadata_encrypted: metadata.map(str::to_owned),
            metadata_key_version: 1,
            km_version: KmVersion::FIRST,
            created_at: T0,
            updated_at: T0,
        };
        db.write(move |tx| async move { collections::put(tx, &collection).await }.boxed()).await;
    }
    assert_eq!(stored(&db, &alice).await, Usage { bytes: 7, collections: 2, ..Usage::default() });
}

#[tokio::test]
async fn shares_from_others_are_counted_in_all_and_by_sender_but_for_the_one_that_is_about_to_be_written() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    for (user, peer, resource, data) in [
        (&alice, "bob@b.example", "r1", "1234567"),
        (&alice, "bob@b.example", "r2", "12345"),
        (&alice, "carl@b.example", "r1", "123"),
        (&amy, "bob@b.example", "r3", "of another"),
    ] {
        let share = Share {
            id: ShareId::generate(),
            user_id: user.clone(),
            direction: Direction::Incoming,
            peer_handle: handle(peer),
            peer_user_id: None,
            resource: Resource { kind: "collection".into(), id: resource.into() },
            encrypted_data: Some(data.into()),
            nonce: Some("12".into()),
            role: Role::Viewer,
            status: Status::Pending,
            created_at: T0,
            accepted_at: None,
            unverified_key: None,
        };
        db.write(move |tx| async move { shares::put(tx, &share, T0).await }.boxed()).await;
    }
    put_share(&db, &alice, Direction::Outgoing, "r4", Some("her own")).await;
    let count = async |resource: &str| {
        let but = Resource { kind: "collection".into(), id: resource.into() };
        let mut conn = db.store.read().await.unwrap();
        usage::incoming_shares(&mut conn, &alice, &handle("bob@b.example"), &but).await.unwrap()
    };
    let of_a_new_one = IncomingShares { all: 3, bytes: 9 + 7 + 5, of_sender: 2, bytes_of_sender: 9 + 7 };
    assert_eq!(count("new").await, of_a_new_one);
    let of_a_change = IncomingShares { all: 2, bytes: 7 + 5, of_sender: 1, bytes_of_sender: 7 };
    assert_eq!(count("r1").await, of_a_change, "the one that is changed, and not carl's of the same thing");
}
