//! Alias and keys: what may be changed when.

use futures_util::future::join_all;
use vellum_actors::Error;
use vellum_actors::user::{Expectation, PutBlob, ResetIdentity, SetAlias};
use vellum_client::MasterSeed;
use vellum_protocol::{Alias, EncryptionKey};
use vellum_store::invitations::Direction;
use vellum_store::outbox::State;
use vellum_store::users::Keys;

use crate::support::{Mood, Person, World};

fn new_keys() -> Keys {
    let seed = MasterSeed::generate(&mut rand::rng());
    Keys { signing: seed.signing_secret().public(), encryption: seed.encryption_key() }
}

async fn set_alias(person: &Person, alias: &str) -> Result<(), Error> {
    let alias = Alias::parse(alias).unwrap();
    person.node.ask(&person.id, SetAlias { alias }).await.map(|_| ())
}

async fn keys_of(person: &Person) -> (Option<Keys>, i64) {
    let identity = person.node.user(&person.id).await.unwrap().identity.clone();
    (identity.keys, identity.km_version.get())
}

#[actix::test]
async fn an_alias_that_nobody_knows_yet_can_be_changed_and_belongs_to_one() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    set_alias(&alice, "alicia").await.unwrap();
    assert!(matches!(set_alias(&amy, "ALICIA").await, Err(Error::AliasTaken)));
    let taken = set_alias(&amy, "alice").await;
    assert!(matches!(taken, Err(Error::AliasTaken)), "it was shown with alice's keys: {taken:?}");
    set_alias(&alice, "alice").await.expect("she may take it back");
}

#[actix::test]
async fn an_alias_that_others_know_stays() {
    let (world, alice, bob) = World::with_two_people().await;
    let invitation = alice.invite(&bob).await.unwrap();
    assert!(matches!(set_alias(&alice, "alicia").await, Err(Error::AliasInUse)), "invited");
    assert!(matches!(set_alias(&bob, "bobby").await, Err(Error::AliasInUse)), "was invited");
    bob.accept_from(&alice).await.unwrap();
    for spelling in ["alicia", "Alice"] {
        assert!(matches!(set_alias(&alice, spelling).await, Err(Error::AliasInUse)), "a friend: {spelling}");
    }
    set_alias(&alice, "alice").await.expect("it is the same");
    alice.reset().await;
    assert!(matches!(set_alias(&alice, "alicia").await, Err(Error::AliasInUse)), "bob is still to be told");
    let discard = vellum_actors::user::DiscardRevocation { peer: bob.handle.clone() };
    alice.node.ask(&alice.id, discard).await.unwrap();
    set_alias(&alice, "alicia").await.expect("nobody knows alice any more");
    assert_eq!(invitation.from, alice.handle);
    world.settled().await;
}

#[actix::test]
async fn of_many_who_want_one_alias_at_once_one_gets_it() {
    let world = World::new().await;
    let people = join_all(["ann", "bea", "cat", "dot", "eve", "fay"].map(|name| world.a.person(name))).await;
    let taken = join_all(people.iter().map(|person| set_alias(person, "wanted"))).await;
    assert_eq!(taken.iter().filter(|got| got.is_ok()).count(), 1, "{taken:?}");
    assert_eq!(taken.iter().filter(|got| matches!(got, Err(Error::AliasTaken))).count(), 5, "{taken:?}");
}

#[actix::test]
async fn keys_are_replaced_freely_while_nothing_is_sealed_under_them() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let keys = new_keys();
    assert_eq!(alice.register(keys, None).await.unwrap().get(), 1);
    assert_eq!(alice.register(keys, Some(7)).await.unwrap().get(), 1, "the same again is no change");
    assert_eq!(keys_of(&alice).await, (Some(keys), 1));
    let conflict = alice.register(new_keys(), Some(7)).await;
    assert!(
        matches!(conflict, Err(Error::RotationConflict { current }) if current.get() == 1),
        "{conflict:?}"
    );
    let twice = Keys { encryption: EncryptionKey::from_bytes(keys.signing.as_bytes()).unwrap(), ..keys };
    assert!(matches!(alice.register(twice, None).await, Err(Error::EqualKeys)));
    assert_eq!(keys_of(&alice).await, (Some(keys), 1));
}

/// Stores something that is sealed under the present keys.
async fn seal_something(person: &Person) {
    let put = PutBlob {
        blob_type: "profile".into(),
        encrypted_blob: "sealed".into(),
        nonce: "nonce".into(),
        sealed_under: None,
        expected: Expectation::Absent,
    };
    person.node.ask(&person.id, put).await.unwrap();
}

#[actix::test]
async fn keys_that_data_depends_on_are_replaced_only_by_who_knows_their_version() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    seal_something(&alice).await;
    let before = keys_of(&alice).await;
    assert!(matches!(alice.register(new_keys(), None).await, Err(Error::RotationRequired)));
    assert!(matches!(alice.register(new_keys(), Some(2)).await, Err(Error::RotationConflict { .. })));
    assert_eq!(keys_of(&alice).await, before);
    assert_eq!(
        alice.register(before.0.unwrap(), None).await.unwrap().get(),
        1,
        "the same again is no change"
    );
    let rivals = join_all((0..8).map(|_| alice.register(new_keys(), Some(1)))).await;
    assert_eq!(rivals.iter().filter(|won| won.is_ok()).count(), 1, "{rivals:?}");
    let told = |lost: &&Result<_, Error>| matches!(lost, Err(Error::RotationConflict { current }) if current.get() == 2);
    assert_eq!(rivals.iter().filter(told).count(), 7, "{rivals:?}");
    assert_eq!(keys_of(&alice).await.1, 2);
    alice.reset().await;
    assert_eq!(keys_of(&alice).await, (None, 1));
    alice.register(new_keys(), None).await.expect("nothing is sealed after a reset");
}

#[actix::test]
async fn new_keys_take_back_what_the_old_ones_signed() {
    let (world, mut alice, bob) = World::with_two_friends().await;
    world.clock.advance(1_000);
    alice.reset().await;
    alice.renew_keys().await;
    world.wire.set(&world.b.node, Mood::Down);
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert_eq!(alice.pending().await[0].state, State::Queued);
    alice.renew_keys().await;
    assert_eq!(alice.pending().await[0].state, State::AwaitingSignature);
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(60_000);
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
}

#[actix::test]
async fn new_keys_undo_an_acceptance_that_was_not_told_yet() {
    let (world, alice, mut bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept_from(&alice).await.unwrap();
    assert!(bob.has_friend(&alice).await);
    bob.renew_keys().await;
    assert!(!bob.has_friend(&alice).await);
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(20_000);
    bob.accept_from(&alice).await.expect("the invitation is open again");
    assert!(bob.has_friend(&alice).await && alice.has_friend(&bob).await);
    let known = alice.friends().await.remove(0).friend;
    assert_eq!(known.signing_key, bob.keys.signing);
}

#[actix::test]
async fn new_keys_after_an_acceptance_whose_answer_was_lost_leave_no_one_sided_friendship() {
    let (world, alice, mut bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::LosesAnswers);
    bob.accept_from(&alice).await.unwrap();
    assert!(alice.has_friend(&bob).await && bob.has_friend(&alice).await);
    bob.renew_keys().await;
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(20_000);
    if bob.invitation_of(&alice).await.is_some() {
        // Whether or not this says that there is no such invitation any more: the two have to agree.
        let _ = bob.accept_from(&alice).await;
    }
    world.settled().await;
    assert_eq!(alice.has_friend(&bob).await, bob.has_friend(&alice).await);
}

#[actix::test]
async fn new_keys_after_crossing_invitations_whose_answer_was_lost_leave_no_one_sided_friendship() {
    let (world, mut alice, bob) = World::with_two_people().await;
    bob.invite(&alice).await.unwrap();
    world.wire.set(&world.b.node, Mood::LosesAnswers);
    alice.invite(&bob).await.unwrap();
    assert!(bob.has_friend(&alice).await && !alice.has_friend(&bob).await);
    alice.renew_keys().await;
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(20_000);
    assert_eq!(alice.pending().await[0].peer_handle, bob.handle, "it has to be told");
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    world.settled().await;
    assert!(!alice.has_friend(&bob).await && !bob.has_friend(&alice).await);
}

#[actix::test]
async fn a_reset_remembers_everybody_and_wipes_every_relationship() {
    let (world, alice, bob) = World::with_two_friends().await;
    let (carl, dan) = (world.b.person("carl").await, world.b.person("dan").await);
    alice.invite(&carl).await.unwrap();
    dan.invite(&alice).await.unwrap();
    assert_eq!(alice.reset().await, 3);
    let mut told: Vec<_> = alice.pending().await.into_iter().map(|row| row.peer_handle).collect();
    told.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    assert_eq!(told, [bob.handle.clone(), carl.handle.clone(), dan.handle.clone()]);
    assert!(alice.friends().await.is_empty());
    for direction in [Direction::Incoming, Direction::Outgoing] {
        assert!(alice.invitations(direction).await.is_empty());
    }
    let identity = alice.node.user(&alice.id).await.unwrap().identity.clone();
    assert_eq!((identity.alias.as_ref(), identity.keys), (Some(alice.handle.alias()), None));
    assert_eq!(alice.reset().await, 3, "a second reset forgets nobody");
}

#[actix::test]
async fn resets_registrations_and_alias_changes_at_once_equal_some_order_of_them() {
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let offered: Vec<_> = (0..20).map(|_| new_keys()).collect();
    let resets = join_all((0..20).map(|_| alice.node.ask(&alice.id, ResetIdentity)));
    let registrations = join_all(offered.iter().map(|keys| alice.register(*keys, None)));
    let aliases: Vec<_> = (0..20).map(|n| format!("alice{n}")).collect();
    let changes = join_all(aliases.iter().map(|alias| set_alias(&alice, alias)));
    let (resets, registrations, changes) = tokio::join!(resets, registrations, changes);
    assert!(resets.iter().all(Result::is_ok));
    assert!(registrations.iter().all(Result::is_ok) && changes.iter().all(Result::is_ok));
    let identity = alice.node.user(&alice.id).await.unwrap().identity.clone();
    let alias = identity.alias.unwrap();
    assert!(aliases.iter().any(|offered| offered == alias.as_str()));
    assert!(identity.keys.is_none_or(|keys| offered.contains(&keys)));
    assert_eq!(identity.km_version.get(), 1);
}
