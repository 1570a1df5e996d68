//! What an account keeps under its keys, and what is written of its changes: blobs, collections, device secrets, names,
//! preferences, rotations, the audit trail.

use futures_util::FutureExt;
use vellum_actors::Error;
use vellum_actors::sign_in::{self, Device};
use vellum_actors::user::{
    ChangeProfile, CollectionChange, CreateCollection, DeleteBlob, DeleteCollection, EndAllSessions,
    EndOtherSessions, Expectation, NameChange, Names, PutBlob, ResealedBlob, ResealedCollection, RotateKeys,
    RotateWrapSecrets, SetPreferences, UpdateCollection, UserCommand, WrapSecret, identity,
};
use vellum_client::MasterSeed;
use vellum_protocol::KmVersion;
use vellum_store::collections::Collection;
use vellum_store::users::{self, Keys};
use vellum_store::{CollectionId, StoreError, audit, blobs, collections, node_state, wrap_secrets};

use crate::support::{Person, T0, World};

pub(crate) fn new_keys() -> Keys {
    let seed = MasterSeed::generate(&mut rand::rng());
    Keys { signing: seed.signing_secret().public(), encryption: seed.encryption_key() }
}

fn version(number: i64) -> KmVersion {
    KmVersion::new(number).unwrap()
}

async fn ask<C: UserCommand>(person: &Person, command: C) -> Result<C::Output, Error> {
    person.node.ask(&person.id, command).await
}

async fn put(person: &Person, expected: Expectation, sealed_under: Option<i64>) -> Result<i64, Error> {
    let put = PutBlob {
        blob_type: "profile".into(),
        encrypted_blob: "sealed".into(),
        nonce: "nonce".into(),
        sealed_under: sealed_under.map(version),
        expected,
    };
    ask(person, put).await
}

async fn delete(person: &Person, expected: Expectation) -> Result<(), Error> {
    ask(person, DeleteBlob { blob_type: "profile".into(), expected }).await
}

/// The revision of the blob, if there is one.
async fn stored(person: &Person) -> Option<i64> {
    let mut conn = person.node.store.read().await.unwrap();
    blobs::find(&mut conn, &person.id, "profile").await.unwrap().map(|blob| blob.info.revision)
}

/// The words of the audit trail, the oldest first.
pub(crate) async fn trail(person: &Person) -> Vec<String> {
    let mut conn = person.node.store.read().await.unwrap();
    let mut entries = audit::page(&mut conn, &person.id, 100, 0).await.unwrap();
    entries.reverse();
    entries.into_iter().map(|entry| entry.event).collect()
}

async fn collections_of(person: &Person) -> Vec<Collection> {
    collections::list(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap()
}

#[actix::test]
async fn a_blob_is_written_and_removed_only_as_its_writer_expects_it_to_be() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let refused = |result: Result<i64, Error>| matches!(result, Err(Error::BlobChanged));
    assert!(refused(put(&alice, Expectation::Present, None).await), "there is none");
    assert!(refused(put(&alice, Expectation::Revision(1), None).await), "nor this one");
    let first = put(&alice, Expectation::Absent, None).await.unwrap();
    assert!(refused(put(&alice, Expectation::Absent, None).await), "there is one");
    assert!(refused(put(&alice, Expectation::Revision(first + 1), None).await), "another one");
    let second = put(&alice, Expectation::Revision(first), None).await.unwrap();
    let third = put(&alice, Expectation::Present, None).await.unwrap();
    let fourth = put(&alice, Expectation::Anything, None).await.unwrap();
    assert!(first < second && second < third && third < fourth);

    for wrong in [Expectation::Absent, Expectation::Revision(third)] {
        assert!(matches!(delete(&alice, wrong.clone()).await, Err(Error::BlobChanged)), "{wrong:?}");
        assert_eq!(stored(&alice).await, Some(fourth));
    }
    delete(&alice, Expectation::Revision(fourth)).await.unwrap();
    assert_eq!(stored(&alice).await, None);
    delete(&alice, Expectation::Anything).await.expect("it may be gone already");
}

#[actix::test]
async fn a_blob_is_tagged_with_the_version_that_it_is_sealed_under_and_never_with_a_future_one() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    put(&alice, Expectation::Absent, Some(1)).await.unwrap();
    let future = put(&alice, Expectation::Anything, Some(2)).await;
    assert!(matches!(future, Err(Error::FutureKmVersion { current }) if current.get() == 1), "{future:?}");
    assert_eq!(stored(&alice).await, Some(1), "nothing was written");
}

#[actix::test]
async fn a_collection_has_an_id_of_its_own_and_is_what_was_said_last() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let sealed =
        |text: &str| CollectionChange { metadata_encrypted: Some(text.into()), ..Default::default() };
    let one = ask(&alice, CreateCollection(sealed("one"))).await.unwrap();
    let other = ask(&alice, CreateCollection(CollectionChange::default())).await.unwrap();
    assert_ne!(one.id, other.id);
    let id = one.id.to_string();
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!((one.metadata_encrypted.as_deref(), one.metadata_key_version), (Some("one"), 1));
    assert_eq!((other.metadata_encrypted, other.is_public, other.public_token), (None, false, None));

    world.clock.advance(1000);
    let change = CollectionChange { metadata_key_version: Some(3), is_public: Some(true), ..sealed("new") };
    let public = ask(&alice, UpdateCollection { id: one.id.clone(), change: change.clone() }).await.unwrap();
    assert_eq!((public.metadata_encrypted.as_deref(), public.metadata_key_version), (Some("new"), 3));
    assert_eq!((public.is_public, public.public_role.as_deref()), (true, Some("viewer")));
    let token = public.public_token.clone().expect("a token");
    assert_eq!((token.len(), public.updated_at), (24, T0.plus_millis(1000)));
    let again = ask(&alice, UpdateCollection { id: one.id.clone(), change }).await.unwrap();
    assert_eq!(again.public_token, Some(token), "who has its token keeps it");
    let nothing = CollectionChange::default();
    let same = ask(&alice, UpdateCollection { id: one.id.clone(), change: nothing }).await.unwrap();
    assert_eq!((same.metadata_key_version, same.is_public), (3, true), "what is not said stays");
    let private = CollectionChange { is_public: Some(false), ..Default::default() };
    let private = ask(&alice, UpdateCollection { id: one.id.clone(), change: private }).await.unwrap();
    assert_eq!((private.public_token, private.public_role), (None, None));

    ask(&alice, DeleteCollection { id: one.id.clone() }).await.unwrap();
    assert_eq!(collections_of(&alice).await.iter().map(|one| &one.id).collect::<Vec<_>>(), [&other.id]);
    let gone = ask(&alice, DeleteCollection { id: one.id }).await;
    assert!(matches!(gone, Err(Error::CollectionNotFound)), "{gone:?}");
}

#[actix::test]
async fn every_change_of_an_identity_is_in_its_trail_in_order_and_nothing_else_is() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let step = async || world.clock.advance(1);
    step().await;
    put(&alice, Expectation::Absent, None).await.unwrap();
    ask(&alice, RotateWrapSecrets).await.unwrap();
    step().await;
    ask(&alice, EndOtherSessions).await.unwrap();
    step().await;
    ask(&alice, EndAllSessions).await.unwrap();
    step().await;
    rotation(&alice, 1, false).await.unwrap();
    step().await;
    alice.reset().await;
    assert_eq!(
        trail(&alice).await,
        [
            "alias_set",
            "keys_registered",
            "wrap_secrets_rotated",
            "other_sessions_ended",
            "all_sessions_ended",
            "rotated",
            "reset"
        ]
    );
}

/// A rotation that brings one blob and nothing else.
async fn rotation(person: &Person, expected: i64, require_complete: bool) -> Result<KmVersion, Error> {
    let commit = RotateKeys {
        expected: version(expected),
        keys: new_keys(),
        blobs: vec![ResealedBlob { blob_type: "profile".into(), encrypted_blob: "anew".into() }],
        collections: vec![ResealedCollection {
            id: CollectionId::from("nobodys".to_owned()),
            metadata_encrypted: "anew".into(),
        }],
        slots: vec![],
        drop_slots: vec![],
        require_complete,
    };
    let committed = ask(person, commit).await?;
    assert_eq!(committed.ignored_collections, [CollectionId::from("nobodys".to_owned())]);
    Ok(committed.km_version)
}

#[actix::test]
async fn a_rotation_that_must_be_complete_says_what_it_leaves_out_and_changes_nothing_then() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    put(&alice, Expectation::Absent, None).await.unwrap();
    let sealed = CollectionChange { metadata_encrypted: Some("sealed".into()), ..Default::default() };
    let left_out = ask(&alice, CreateCollection(sealed)).await.unwrap();
    let Err(Error::IncompleteRotation(missing)) = rotation(&alice, 1, true).await else {
        panic!("a collection is left out")
    };
    assert_eq!((&missing.blobs, &missing.collections), (&vec![], &vec![left_out.id.to_string()]));
    let present = users::by_id(&mut alice.node.store.read().await.unwrap(), &alice.id).await.unwrap();
    assert_eq!(present.unwrap().identity.km_version, version(1));
    assert_eq!(rotation(&alice, 1, false).await.unwrap(), version(2));
    let stale = rotation(&alice, 1, false).await;
    assert!(matches!(stale, Err(Error::RotationConflict { current }) if current.get() == 2), "{stale:?}");
    assert_eq!(collections_of(&alice).await[0].km_version, version(1), "what was left out can be seen");
}

#[actix::test]
async fn only_after_a_backup_was_put_back_is_a_later_version_a_reason_to_stop() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let node = &alice.node;
    let opened =
        sign_in::open_session_for(&node.store, &world.clock, "alice@mail.example", Device::default());
    let token = opened.await.unwrap().token;
    let known = async |number: i64| {
        let session = sign_in::authenticate(node, &token).await.unwrap().unwrap();
        identity(&node.store, &session, Some(version(number))).await
    };
    for number in [1, 2] {
        assert_eq!(known(number).await.unwrap().km_version, version(1), "nothing was put back");
    }
    let restored: Result<_, StoreError> =
        alice.node.store.write(|tx| async move { node_state::note_restored(tx, T0).await }.boxed()).await;
    restored.unwrap();
    assert_eq!(known(1).await.unwrap().km_version, version(1), "the same version is no older one");
    let stop = |result: &Error| matches!(result, Error::ServerRolledBack { current } if current.get() == 1);
    assert!(stop(&known(2).await.unwrap_err()));
    assert!(stop(&put(&alice, Expectation::Anything, Some(2)).await.unwrap_err()));
    assert!(stop(&rotation(&alice, 2, false).await.unwrap_err()));
}

#[actix::test]
async fn a_devices_secret_stays_until_all_are_made_anew_and_there_are_a_hundred_devices_at_most() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let secret = async |person: &Person, device: usize| {
        ask(person, WrapSecret { device_id: format!("device-{device}") }).await
    };
    let first = secret(&alice, 0).await.unwrap();
    assert_eq!(secret(&alice, 0).await.unwrap(), first, "it stays");
    assert_ne!(secret(&alice, 1).await.unwrap(), first, "each device has its own");
    assert_ne!(secret(&amy, 0).await.unwrap(), first, "each person, too");
    assert_eq!(ask(&alice, RotateWrapSecrets).await.unwrap(), 2);
    let renewed = secret(&alice, 0).await.unwrap();
    assert_ne!(renewed, first);
    ask(&alice, EndAllSessions).await.unwrap();
    assert_ne!(secret(&alice, 0).await.unwrap(), renewed, "a lost device opens nothing any more");
    for device in 2..100 {
        secret(&alice, device).await.unwrap();
    }
    assert!(matches!(secret(&alice, 100).await, Err(Error::TooManyDevices)));
    secret(&alice, 99).await.expect("those that there are go on");
    let mut conn = alice.node.store.read().await.unwrap();
    assert_eq!(
        wrap_secrets::count(&mut conn, &amy.id).await.unwrap(),
        1,
        "and others have their own hundred"
    );
}

#[actix::test]
async fn names_and_preferences_change_one_by_one_and_a_name_can_be_cleared() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let names = async |first_name, last_name| {
        let change = ChangeProfile { first_name, last_name, picture: NameChange::Keep };
        ask(&alice, change).await.unwrap()
    };
    let is = |first: Option<&str>, last: Option<&str>| Names {
        first: first.map(str::to_owned),
        last: last.map(str::to_owned),
    };
    let set = |name: &str| NameChange::Set(Some(name.to_owned()));
    assert_eq!(names(set("Alice"), set("Liddell")).await, is(Some("Alice"), Some("Liddell")));
    assert_eq!(names(NameChange::Keep, NameChange::Set(None)).await, is(Some("Alice"), None));
    let kept = alice.node.user(&alice.id).await.unwrap();
    assert_eq!((kept.first_name.as_deref(), kept.last_name.as_deref()), (Some("Alice"), None));

    let prefer = async |language: Option<&str>, unit_system: Option<&str>| {
        let (language, unit_system) = (language.map(str::to_owned), unit_system.map(str::to_owned));
        let now = ask(&alice, SetPreferences { language, unit_system }).await.unwrap();
        (now.language, now.unit_system)
    };
    assert_eq!(prefer(None, Some("imperial")).await, ("en-US".into(), "imperial".into()));
    assert_eq!(prefer(Some("es"), None).await, ("es".into(), "imperial".into()));
}
