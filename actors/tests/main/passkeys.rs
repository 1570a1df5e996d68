//! Passkeys and the slots that they open: how many, whose, and what goes with them.

use vellum_actors::Error;
use vellum_actors::user::{
    AddPasskey, DeleteSlot, MarkSlotUsed, PutSlot, RemovePasskey, RenamePasskey, RotateKeys, UserCommand,
};
use vellum_protocol::KmVersion;
use vellum_store::passkeys::{self, StoredPasskey};
use vellum_store::slots::{self, Slot, Wrapped};

use crate::sealed::{new_keys, trail};
use crate::support::{Person, T0, World};

async fn ask<C: UserCommand>(person: &Person, command: C) -> Result<C::Output, Error> {
    person.node.ask(&person.id, command).await
}

fn passkey(person: &Person, credential: &str) -> StoredPasskey {
    StoredPasskey {
        credential_id: credential.to_owned(),
        user_id: person.id.clone(),
        name: None,
        credential: "{}".to_owned(),
        counter: 0,
        device_type: "singleDevice".to_owned(),
        backed_up: false,
        transports: vec![],
        created_at: T0,
        last_used_at: None,
    }
}

async fn add(person: &Person, credential: &str) -> Result<(), Error> {
    ask(person, AddPasskey { passkey: passkey(person, credential) }).await
}

async fn passkeys_of(person: &Person) -> Vec<StoredPasskey> {
    passkeys::of_user(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap()
}

fn wrapped(credential: &str, what: &str) -> Wrapped {
    Wrapped {
        credential_id: credential.into(),
        wrapped_km: what.into(),
        wrap_algo: "algorithm".into(),
        slot_signature: "signature".into(),
    }
}

async fn put(person: &Person, credential: &str) -> Result<(), Error> {
    ask(person, PutSlot { wrapped: wrapped(credential, "sealed") }).await
}

async fn slots_of(person: &Person) -> Vec<Slot> {
    slots::list(&mut person.node.store.read().await.unwrap(), &person.id).await.unwrap()
}

#[actix::test]
async fn a_passkey_is_one_persons_and_fifty_are_the_most() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    add(&alice, "0").await.unwrap();
    for person in [&alice, &amy] {
        assert!(matches!(add(person, "0").await, Err(Error::PasskeyExists)));
    }
    assert_eq!(passkeys_of(&alice).await, [passkey(&alice, "0")]);
    for number in 1..50 {
        add(&alice, &number.to_string()).await.unwrap();
    }
    assert!(matches!(add(&alice, "50").await, Err(Error::TooManyPasskeys)));
    assert_eq!(passkeys_of(&alice).await.len(), 50);
    add(&amy, "hers").await.expect("others have their own fifty");
    let words = trail(&alice).await;
    assert_eq!(words.iter().filter(|word| *word == "passkey_added").count(), 50);
}

#[actix::test]
async fn a_passkey_is_renamed_and_removed_by_whom_it_belongs_to_and_its_slot_goes_with_it() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for credential in ["one", "other"] {
        add(&alice, credential).await.unwrap();
        put(&alice, credential).await.unwrap();
    }
    add(&alice, "without a slot").await.unwrap();
    let rename =
        |name: Option<&str>| RenamePasskey { credential_id: "one".into(), name: name.map(str::to_owned) };
    let named = ask(&alice, rename(Some("laptop"))).await.unwrap();
    assert_eq!(named, StoredPasskey { name: Some("laptop".into()), ..passkey(&alice, "one") });
    let remove = |credential: &str| RemovePasskey { credential_id: credential.into() };
    for refused in [ask(&amy, rename(None)).await.map(drop), ask(&amy, remove("one")).await] {
        assert!(matches!(refused, Err(Error::PasskeyNotFound)), "another's: {refused:?}");
    }
    assert_eq!(passkeys_of(&alice).await[0], named);
    assert_eq!(ask(&alice, rename(None)).await.unwrap().name, None);

    let before = trail(&alice).await.len();
    ask(&alice, remove("one")).await.unwrap();
    world.clock.advance(1);
    ask(&alice, remove("without a slot")).await.unwrap();
    let left: Vec<_> = passkeys_of(&alice).await.into_iter().map(|passkey| passkey.credential_id).collect();
    assert_eq!(left, ["other"]);
    assert_eq!(
        slots_of(&alice).await.into_iter().map(|slot| slot.wrapped).collect::<Vec<_>>(),
        [wrapped("other", "sealed")]
    );
    let mut said = trail(&alice).await.split_off(before);
    // Two of them were written at one moment, and are in no order.
    said.sort();
    assert_eq!(said, ["passkey_removed", "passkey_removed", "slot_deleted"]);
    let gone = ask(&alice, remove("one")).await;
    assert!(matches!(gone, Err(Error::PasskeyNotFound)), "{gone:?}");
}

#[actix::test]
async fn a_slot_is_filled_for_ones_own_passkey_and_emptied_once() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    add(&alice, "one").await.unwrap();
    assert!(matches!(put(&amy, "one").await, Err(Error::UnknownCredential)), "it is another's");
    assert!(matches!(put(&alice, "two").await, Err(Error::UnknownCredential)), "it is nobody's");
    assert!(slots_of(&alice).await.is_empty() && slots_of(&amy).await.is_empty());
    world.clock.advance(1_000);
    put(&alice, "one").await.unwrap();
    let filled = slots_of(&alice).await.remove(0);
    assert_eq!(filled.wrapped, wrapped("one", "sealed"));
    assert_eq!((filled.created_at, filled.last_used_at), (world.clock.now(), None));

    world.clock.advance(1_000);
    let mark = |credential: &str| MarkSlotUsed { credential_id: credential.into() };
    ask(&amy, mark("one")).await.unwrap();
    assert_eq!(slots_of(&alice).await[0], filled, "that was not she");
    ask(&alice, mark("one")).await.unwrap();
    assert_eq!(slots_of(&alice).await, [Slot { last_used_at: Some(world.clock.now()), ..filled }]);

    let delete = || DeleteSlot { credential_id: "one".into() };
    ask(&amy, delete()).await.unwrap();
    assert_eq!(slots_of(&alice).await.len(), 1, "nor was that");
    ask(&alice, delete()).await.unwrap();
    assert!(slots_of(&alice).await.is_empty());
    world.clock.advance(1_000);
    ask(&alice, delete()).await.expect("it may be empty already");
    assert_eq!(trail(&alice).await[3..], ["slot_put", "slot_deleted"], "what changed nothing is not written");
    assert_eq!(trail(&amy).await, ["alias_set", "keys_registered"]);
}

/// A rotation that brings slots and nothing else.
async fn rotate(
    person: &Person,
    expected: i64,
    slots: &[&str],
    drop_slots: &[&str],
    require_complete: bool,
) -> Result<Vec<String>, Error> {
    let commit = RotateKeys {
        expected: KmVersion::new(expected).unwrap(),
        keys: new_keys(),
        blobs: vec![],
        collections: vec![],
        slots: slots.iter().map(|credential| wrapped(credential, "anew")).collect(),
        drop_slots: drop_slots.iter().map(|&credential| credential.to_owned()).collect(),
        require_complete,
    };
    ask(person, commit).await.map(|committed| committed.ignored_slots)
}

#[actix::test]
async fn a_rotation_fills_the_slots_of_ones_own_passkeys_and_names_the_others() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for credential in ["kept", "lost", "left out"] {
        add(&alice, credential).await.unwrap();
        put(&alice, credential).await.unwrap();
    }
    add(&amy, "another's").await.unwrap();
    assert_eq!(rotate(&alice, 1, &[], &[], false).await.unwrap(), [""; 0]);
    let Err(Error::IncompleteRotation(missing)) = rotate(&alice, 2, &["kept"], &["lost"], true).await else {
        panic!("a slot is left out")
    };
    assert_eq!(
        (&missing.slots, missing.blobs.len(), missing.collections.len()),
        (&vec!["left out".into()], 0, 0)
    );
    assert_eq!(slots_of(&alice).await.len(), 3, "nothing was emptied then");

    let ignored = rotate(&alice, 2, &["kept", "another's", "nobody's"], &["lost"], false).await.unwrap();
    assert_eq!(ignored, ["another's", "nobody's"]);
    let mut held: Vec<_> = slots_of(&alice)
        .await
        .into_iter()
        .map(|slot| (slot.wrapped.credential_id, slot.wrapped.wrapped_km, slot.km_version.get()))
        .collect();
    held.sort();
    assert_eq!(held, [("kept".into(), "anew".into(), 3), ("left out".into(), "sealed".into(), 1)]);
    assert!(slots_of(&amy).await.is_empty());
    rotate(&alice, 3, &["kept", "left out"], &[], true).await.expect("it is complete");
}
