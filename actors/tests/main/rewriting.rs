//! What is written again, listed, wiped or counted: every column of it, in order, and of nobody
//! else.

use futures_util::FutureExt;
use vellum_actors::user::{
    AddPasskey, BeginTransfer, ChangeProfile, CollectionChange, CreateCollection, Expectation, FetchTransfer,
    NameChange, PutBlob, PutSlot, ResealedCollection, RotateKeys, UpdateCollection, UploadTransfer,
    UserCommand, WrapSecret,
};
use vellum_actors::{Asker, Error, Origin, housekeeping};
use vellum_protocol::KmVersion;
use vellum_store::collections::{self, Collection};
use vellum_store::device_transfers::{self, Upload};
use vellum_store::passkeys::{self, StoredPasskey};
use vellum_store::slots::{self, Slot, Wrapped};
use vellum_store::{SessionId, StoreError, audit, blobs, wrap_secrets};

use crate::sealed::new_keys;
use crate::support::{Person, World};

const DAY: i64 = 24 * 3_600_000;

async fn ask<C: UserCommand>(person: &Person, command: C) -> Result<C::Output, Error> {
    person.node.ask(&person.id, command).await
}

fn blob(blob_type: &str, text: &str) -> PutBlob {
    PutBlob {
        blob_type: blob_type.into(),
        encrypted_blob: text.into(),
        nonce: format!("nonce of {text}"),
        sealed_under: None,
        expected: Expectation::Anything,
    }
}

fn metadata(text: &str) -> CollectionChange {
    CollectionChange { metadata_encrypted: Some(text.into()), ..Default::default() }
}

fn wrapped(credential: &str, text: &str) -> Wrapped {
    Wrapped {
        credential_id: credential.into(),
        wrapped_km: text.into(),
        wrap_algo: format!("algorithm of {text}"),
        slot_signature: format!("signature of {text}"),
    }
}

async fn add_passkey(person: &Person, credential: &str) -> StoredPasskey {
    let passkey = StoredPasskey {
        credential_id: credential.to_owned(),
        user_id: person.id.clone(),
        name: None,
        credential: "{}".to_owned(),
        counter: 0,
        device_type: "singleDevice".to_owned(),
        backed_up: false,
        transports: vec![],
        created_at: person.node.clock.now(),
        last_used_at: None,
    };
    ask(person, AddPasskey { passkey: passkey.clone() }).await.unwrap();
    passkey
}

/// A rotation that seals only this collection anew, if any.
async fn rotate(person: &Person, expected: i64, resealed: Option<(&Collection, &str)>) {
    let collections = resealed.into_iter().map(|(collection, text)| ResealedCollection {
        id: collection.id.clone(),
        metadata_encrypted: text.into(),
    });
    let commit = RotateKeys {
        expected: KmVersion::new(expected).unwrap(),
        keys: new_keys(),
        blobs: vec![],
        collections: collections.collect(),
        slots: vec![],
        drop_slots: vec![],
        require_complete: false,
    };
    ask(person, commit).await.unwrap();
}

async fn collections_of(person: &Person) -> Vec<Collection> {
    collections::list(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap()
}

async fn slots_of(person: &Person) -> Vec<Slot> {
    slots::list(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap()
}

/// The types of the blobs, in the order of the list.
async fn blob_types(person: &Person) -> Vec<String> {
    let listed = blobs::list(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap();
    listed.into_iter().map(|blob| blob.blob_type).collect()
}

/// The devices with their last use, in the order of the list.
async fn devices_of(person: &Person) -> Vec<(String, Option<i64>)> {
    let mut conn = person.node.store.read().await.unwrap();
    let devices = wrap_secrets::devices_of(&mut conn, &person.id).await.unwrap();
    devices.into_iter().map(|device| (device.id, device.last_used_at.map(|at| at.0))).collect()
}

#[actix::test]
async fn a_blob_that_is_written_again_is_new_in_every_part() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for (person, blob_type) in [(&alice, "b"), (&amy, "a"), (&alice, "a")] {
        ask(person, blob(blob_type, "first")).await.unwrap();
        world.clock.advance(1_000);
    }
    assert_eq!(blob_types(&alice).await, ["a", "b"], "by type, whichever was written first");
    ask(&alice, blob("b", "second")).await.unwrap();
    let mut conn = alice.node.store.read().await.unwrap();
    let written = blobs::find(&mut conn, &alice.id, "b").await.unwrap().unwrap();
    drop(conn);
    assert_eq!((written.encrypted_blob.as_str(), written.nonce.as_str()), ("second", "nonce of second"));
    assert_eq!((written.info.revision, written.info.updated_at), (2, world.clock.now()));
    let delete = vellum_actors::user::DeleteBlob { blob_type: "a".into(), expected: Expectation::Anything };
    ask(&alice, delete).await.unwrap();
    assert_eq!((blob_types(&alice).await, blob_types(&amy).await), (vec!["b".into()], vec!["a".into()]));
}

#[actix::test]
async fn a_collection_is_stored_as_its_change_was_answered() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    // Ids are made by chance: so many are in the order of their making by chance hardly ever.
    let mut made = Vec::new();
    for n in 0..6 {
        made.push(ask(&alice, CreateCollection(metadata(&n.to_string()))).await.unwrap());
        world.clock.advance(1_000);
    }
    assert_eq!(collections_of(&alice).await, made, "oldest first");
    rotate(&alice, 1, None).await;
    world.clock.advance(1_000);
    let change = CollectionChange { is_public: Some(true), metadata_key_version: Some(4), ..metadata("new") };
    made[2] = ask(&alice, UpdateCollection { id: made[2].id.clone(), change }).await.unwrap();
    assert_eq!((made[2].km_version.get(), made[2].updated_at), (2, world.clock.now()));
    assert_eq!(collections_of(&alice).await, made, "one was changed");

    world.clock.advance(1_000);
    rotate(&alice, 2, Some((&made[3], "sealed anew"))).await;
    made[3] = Collection {
        metadata_encrypted: Some("sealed anew".into()),
        km_version: KmVersion::new(3).unwrap(),
        updated_at: world.clock.now(),
        ..made[3].clone()
    };
    assert_eq!(collections_of(&alice).await, made, "one was sealed anew");
}

#[actix::test]
async fn a_slot_that_is_filled_again_is_new_in_every_part_but_its_age() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let mut added = Vec::new();
    for credential in ["c", "a", "b"] {
        added.push(add_passkey(&alice, credential).await);
        ask(&alice, PutSlot { wrapped: wrapped(credential, "first") }).await.unwrap();
        world.clock.advance(1_000);
    }
    let mut conn = alice.node.store.read().await.unwrap();
    assert_eq!(passkeys::of_user(&mut conn, &alice.id).await.unwrap(), added, "oldest first");
    drop(conn);
    let before = slots_of(&alice).await;
    let order: Vec<_> = before.iter().map(|slot| slot.wrapped.credential_id.as_str()).collect();
    assert_eq!(order, ["c", "a", "b"], "oldest first");
    rotate(&alice, 1, None).await;
    ask(&alice, PutSlot { wrapped: wrapped("a", "second") }).await.unwrap();
    let again =
        Slot { wrapped: wrapped("a", "second"), km_version: KmVersion::new(2).unwrap(), ..before[1].clone() };
    assert_eq!(slots_of(&alice).await, [before[0].clone(), again, before[2].clone()]);
}

#[actix::test]
async fn devices_are_listed_oldest_first_and_the_use_of_one_is_noted_with_it_alone() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let secret = async |device: &str| {
        ask(&alice, WrapSecret { device_id: device.to_owned() }).await.unwrap();
        world.clock.now().0
    };
    let first = secret("device-b").await;
    world.clock.advance(1_000);
    let second = secret("device-a").await;
    let expected = [("device-b".to_owned(), Some(first)), ("device-a".to_owned(), Some(second))];
    assert_eq!(devices_of(&alice).await, expected);
    world.clock.advance(2 * DAY);
    let used = secret("device-a").await;
    let expected = [("device-b".to_owned(), Some(first)), ("device-a".to_owned(), Some(used))];
    assert_eq!(devices_of(&alice).await, expected, "two days later one is used again");
}

#[actix::test]
async fn a_reset_wipes_what_is_sealed_of_nobody_else() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for person in [&alice, &amy] {
        let credential = format!("passkey of {}", person.handle);
        add_passkey(person, &credential).await;
        ask(person, PutSlot { wrapped: wrapped(&credential, "sealed") }).await.unwrap();
        ask(person, blob("a", "sealed")).await.unwrap();
        ask(person, CreateCollection(metadata("sealed"))).await.unwrap();
        ask(person, WrapSecret { device_id: "the-device".into() }).await.unwrap();
    }
    let held = async |person: &Person| {
        let (blobs, collections) = (blob_types(person).await.len(), collections_of(person).await.len());
        [blobs, collections, slots_of(person).await.len(), devices_of(person).await.len()]
    };
    assert_eq!(held(&alice).await, [1, 1, 1, 1], "blobs, collections, slots, devices");
    alice.reset().await;
    assert_eq!(held(&alice).await, [0, 0, 0, 0], "blobs, collections, slots, devices of alice");
    assert_eq!(held(&amy).await, [1, 1, 1, 1], "blobs, collections, slots, devices of amy");
}

#[actix::test]
async fn a_seed_that_was_fetched_is_nowhere_and_its_transfer_is_forgotten_when_it_counts_no_more() {
    let world = World::new().await;
    let ann = world.a.person("ann").await;
    let id = ask(&ann, BeginTransfer { receiver_key: "receiver".into() }).await.unwrap().id;
    let upload = Upload {
        sender_key: "sender".to_owned(),
        sealed_seed: "sealed".to_owned(),
        sender_signature: "signed".to_owned(),
    };
    ask(&ann, UploadTransfer { id: id.clone(), upload }).await.unwrap();
    ask(&ann, FetchTransfer { id: id.clone() }).await.unwrap();
    let stored =
        async || device_transfers::by_id(&mut ann.node.store.read().await.unwrap(), &id).await.unwrap();
    let fetched = stored().await.expect("it counts for an hour");
    assert!(fetched.consumed && fetched.upload.is_none(), "its seed is gone at once: {fetched:?}");
    world.clock.advance(2 * 3_600_000);
    housekeeping::sweep(&ann.node).await.unwrap();
    assert_eq!(stored().await, None, "it counts no more");
}

#[actix::test]
async fn a_session_that_has_just_ended_writes_nothing() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let origin = Origin { session: Some(SessionId::generate()), ..Origin::default() };
    let asker = Asker { user: alice.id.clone(), origin };
    let refused = alice.node.ask(&asker, blob("a", "sealed")).await;
    assert!(matches!(refused, Err(Error::SessionEnded)), "{refused:?}");
    assert_eq!(blob_types(&alice).await, [""; 0]);
}

#[actix::test]
async fn names_and_pictures_note_when_they_were_changed() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let made = alice.node.user(&alice.id).await.unwrap().created_at;
    let keep = || NameChange::Keep;
    let set = || NameChange::Set(Some("new".into()));
    for (first_name, picture) in [(set(), keep()), (keep(), set())] {
        world.clock.advance(1_000);
        ask(&alice, ChangeProfile { first_name, last_name: keep(), picture }).await.unwrap();
        let user = alice.node.user(&alice.id).await.unwrap();
        assert_eq!((user.created_at, user.updated_at), (made, world.clock.now()));
    }
}

#[actix::test]
async fn a_trail_has_pages_and_counts_its_owners_changes_only() {
    let world = World::new().await;
    let (alice, _amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for event in ["one", "two", "three"] {
        world.clock.advance(1_000);
        let (user, at) = (alice.id.clone(), world.clock.now());
        let entry = audit::Entry {
            id: vellum_store::AuditId::generate(),
            at,
            event: event.into(),
            session_id: None,
            ip: None,
        };
        let done: Result<(), StoreError> = alice
            .node
            .store
            .write(move |tx| async move { audit::append(tx, &user, &entry).await }.boxed())
            .await;
        done.unwrap();
    }
    let page = async |limit, offset| {
        let mut conn = alice.node.store.read().await.unwrap();
        let entries = audit::page(&mut conn, &alice.id, limit, offset).await.unwrap();
        entries.into_iter().map(|entry| entry.event).collect::<Vec<_>>()
    };
    assert_eq!(page(2, 0).await, ["three", "two"], "newest first");
    assert_eq!(page(1, 2).await, ["one"], "the third");
    let mut conn = alice.node.store.read().await.unwrap();
    let count = audit::count(&mut conn, &alice.id).await.unwrap();
    assert_eq!(count, 5, "three, and those of her alias and her keys");
}
