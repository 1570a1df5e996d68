//! A revocation's way: reset, sign, flush, deliver; and what must never happen on it.

use std::time::Duration;

use futures_util::FutureExt;
use vellum_actors::user::{Accept, DiscardRevocation, Flush, FlushItem, ItemRefusal, Receive, Received};
use vellum_actors::{Error, housekeeping};
use vellum_client::{MasterSeed, Signer};
use vellum_protocol::{Handle, JsonObject, MessageType, SigningSecret};
use vellum_store::friendships::RemoteUser;
use vellum_store::invitations::Direction;
use vellum_store::outbox::{self, State};
use vellum_store::{OutboxId, StoreError, peers};

use crate::support::{Mood, Person, World, fields, in_a_request, wait_for};

pub const REVOKE: MessageType = MessageType::RelationshipRevoke;

/// Alice, a friend of bob's, has reset her identity and has new keys; bob is still to be told.
pub async fn after_a_reset() -> (World, Person, Person) {
    let (world, mut alice, bob) = World::with_two_friends().await;
    world.clock.advance(1_000);
    assert_eq!(alice.reset().await, 1);
    alice.renew_keys().await;
    (world, alice, bob)
}

/// Makes a revocation pending for somebody whom the user has no relationship with.
pub async fn make_pending(person: &Person, peer: &str) {
    let (user, peer, now) = (person.id.clone(), Handle::parse(peer).unwrap(), person.node.clock.now());
    let done: Result<(), StoreError> = person
        .node
        .store
        .write(move |tx| async move { outbox::await_signature(tx, &user, &peer, now).await }.boxed())
        .await;
    done.unwrap();
}

pub fn sent(world: &World) -> usize {
    world.wire.count(&world.b.node, REVOKE)
}

/// Signs and queues without waiting for the outcome.
pub async fn queue(alice: &Person, bob: &Person) -> OutboxId {
    let items = vec![alice.revocation(&bob.handle)];
    alice.node.ask(&alice.id, Flush { items }).await.unwrap().remove(0).unwrap().id
}

#[actix::test]
async fn a_revocation_waits_for_a_peer_that_is_down_and_arrives_when_it_is_up() {
    let (world, mut alice, bob) = World::with_two_friends().await;
    let carl = world.b.person("carl").await;
    world.befriend(&bob, &carl).await;
    world.clock.advance(1_000);
    assert_eq!(alice.reset().await, 1);
    let pending = alice.pending().await;
    assert_eq!((pending[0].state, &pending[0].peer_handle), (State::AwaitingSignature, &bob.handle));
    assert!(alice.friends().await.is_empty() && bob.has_friend(&alice).await);
    alice.renew_keys().await;

    world.wire.set(&world.b.node, Mood::Down);
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await.remove(0);
    assert_eq!((flushed.delivered, flushed.state, flushed.attempts), (false, Some(State::Queued), 1));
    assert!(flushed.error.as_deref().unwrap().contains("not reachable"), "{flushed:?}");
    assert!(flushed.next_attempt_at.unwrap() > world.clock.now());
    assert_eq!(flushed.code, None);
    assert!(bob.has_friend(&alice).await);

    world.wire.set(&world.b.node, Mood::Up);
    world.advance(60_000);
    wait_for("it is delivered", || alice.pending(), |seen| seen.is_empty()).await;
    assert!(!bob.has_friend(&alice).await);
    assert!(bob.has_friend(&carl).await, "nothing else of bob's has changed");
}

#[actix::test]
async fn a_peer_that_stays_down_is_tried_for_days_and_not_for_ever() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Down);
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    world.advance(6 * 24 * 3_600_000);
    wait_for("it is tried again", || alice.pending(), |seen| seen[0].attempts == 2).await;
    assert_eq!(alice.pending().await[0].state, State::Queued);
    world.advance(24 * 3_600_000);
    wait_for("the window closes", || alice.pending(), |seen| seen[0].state == State::AwaitingSignature).await;
    let row = alice.pending().await.remove(0);
    assert!(row.last_error.unwrap().contains("not reachable"), "with its history");

    world.wire.set(&world.b.node, Mood::Up);
    world.advance(7_200_000);
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "signed anew it arrives: {flushed:?}");
    assert!(!bob.has_friend(&alice).await);
}

#[actix::test]
async fn a_peer_that_was_down_for_two_days_is_told_when_it_returns() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Down);
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    for half_day in 1..=4 {
        world.advance(12 * 3_600_000);
        wait_for("it is tried", || alice.pending(), |seen| seen[0].attempts > half_day).await;
    }
    assert!(bob.has_friend(&alice).await);
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(2 * 3_600_000);
    world.settled().await;
    assert!(alice.pending().await.is_empty());
    assert!(!bob.has_friend(&alice).await, "the same signature, two days old");
}

#[actix::test]
async fn a_peer_that_takes_fresh_envelopes_only_gets_none_that_is_not() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::WithoutCapabilities);
    // What was known of it is older than a manifest is kept; its new one is read with this.
    world.clock.advance(3_600_000);
    vellum_actors::friends::resolve(&alice.node, &alice.id, &bob.handle).await.unwrap();
    world.wire.set(&world.b.node, Mood::Down);
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    world.advance(280_000);
    wait_for("it is tried while it is fresh", || alice.pending(), |seen| seen[0].attempts == 2).await;
    world.advance(11_000);
    wait_for(
        "it waits for a signature",
        || alice.pending(),
        |seen| seen[0].state == State::AwaitingSignature,
    )
    .await;
    world.wire.set(&world.b.node, Mood::WithoutCapabilities);
    world.advance(2 * 3_600_000);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bob.has_friend(&alice).await, "nothing stale was sent");
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "signed anew it arrives: {flushed:?}");
}

#[actix::test]
async fn a_late_revocation_arrives_and_a_newer_friendship_stands() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::TakesNothing);
    alice.flush(vec![alice.revocation(&bob.handle)]).await;
    // Before it arrives the two begin anew.
    world.clock.advance(30_000);
    vellum_actors::friends::remove(&bob.node, &bob.id, alice.handle.clone(), None).await.unwrap();
    bob.invite(&alice).await.unwrap();
    // Asked directly: nobody waits for the outcome while the other node is known to be down.
    let id = alice.invitation_of(&bob).await.unwrap().id;
    let signed = Some(fields(alice.signer.accept(&bob.handle, world.clock.now(), &mut rand::rng())));
    alice.node.ask(&alice.id, Accept { id, signed, peer: None }).await.unwrap();
    assert!(bob.invitations(Direction::Outgoing).await.len() == 1 && !bob.has_friend(&alice).await);
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(60_000);
    world.settled().await;
    assert!(sent(&world) >= 2, "in vain, and then delivered");
    assert!(bob.has_friend(&alice).await && alice.has_friend(&bob).await);
    assert!(alice.pending().await.is_empty());
}

#[actix::test]
async fn a_revocation_reaches_what_began_at_or_before_its_time() {
    let (world, alice, bob) = World::with_two_friends().await;
    let began = bob.friends().await[0].established_at;
    let revoke = |nonce: &str, millis: i64| Receive {
        message_type: REVOKE,
        sender: RemoteUser {
            handle: alice.handle.clone(),
            signing_key: alice.keys.signing,
            encryption_key: None,
            name: None,
            picture: None,
        },
        to: bob.handle.clone(),
        nonce: nonce.into(),
        payload: JsonObject::new(),
        signed_at: began.plus_millis(millis),
        signature: nonce.into(),
        source: in_a_request(),
    };
    world.clock.advance(5_000);
    let older = bob.node.ask(&bob.id, revoke("older", -1)).await.unwrap();
    assert_eq!((older, bob.has_friend(&alice).await), (Received::default(), true));
    let equal = bob.node.ask(&bob.id, revoke("equal", 0)).await.unwrap();
    assert_eq!((equal.applied, bob.has_friend(&alice).await), (true, false));
    let nothing_left = bob.node.ask(&bob.id, revoke("again", 1)).await.unwrap();
    assert!(!nothing_left.applied, "a success that changes nothing");
}

#[actix::test]
async fn a_revocation_whose_answer_was_lost_is_sent_again_and_carried_out_once() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::LosesAnswers);
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await.remove(0);
    assert_eq!((flushed.delivered, flushed.state), (false, Some(State::Queued)));
    assert!(!bob.has_friend(&alice).await, "it has arrived");
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(60_000);
    wait_for("it is confirmed", || alice.pending(), |seen| seen.is_empty()).await;
    let envelopes = world.wire.posted_to(&world.b.node);
    let [.., first, second] = envelopes.as_slice() else { panic!("two attempts") };
    assert_eq!(first, second, "the user's envelope is never touched");
}

#[actix::test]
async fn only_a_peer_that_confirms_has_taken_it() {
    let (world, alice, bob) = after_a_reset().await;
    let answers = [
        (200, "<html>Welcome</html>"),
        (202, r#"{"success":false}"#),
        (401, r#"{"message":"Federation auth failed: Timestamp outside acceptable skew"}"#),
        (500, ""),
    ];
    for (attempts, (status, body)) in (1..).zip(answers) {
        world.wire.set(&world.b.node, Mood::Answers(status, body));
        if attempts == 1 {
            alice.flush(vec![alice.revocation(&bob.handle)]).await;
        } else {
            world.advance(7_200_000);
        }
        wait_for(
            "it is tried",
            || async { alice.pending().await.remove(0) },
            |row| (row.state, row.attempts) == (State::Queued, attempts),
        )
        .await;
    }
    assert!(bob.has_friend(&alice).await);
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(7_200_000);
    wait_for("it is delivered", || alice.pending(), |seen| seen.is_empty()).await;
    assert!(!bob.has_friend(&alice).await);
}

#[actix::test]
async fn a_peer_that_knows_no_such_recipient_ends_the_attempts() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Answers(400, r#"{"message":"Recipient not found"}"#));
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await.remove(0);
    assert_eq!((flushed.delivered, flushed.state), (false, Some(State::Rejected)));
    world.advance(86_400_000);
    alice.node.ask(&alice.id, DiscardRevocation { peer: bob.handle.clone() }).await.unwrap();
    assert!(alice.pending().await.is_empty());
    assert_eq!(sent(&world), 1);
}

#[actix::test]
async fn a_revocation_for_somebody_unknown_is_a_success() {
    let (world, alice, _) = World::with_two_people().await;
    make_pending(&alice, "nobody@b.example").await;
    let nobody = Handle::parse("nobody@b.example").unwrap();
    let flushed = alice.flush(vec![alice.revocation(&nobody)]).await;
    assert!(flushed[0].delivered, "nobody is there to be told: {flushed:?}");
    assert!(alice.pending().await.is_empty());
    assert_eq!(sent(&world), 1);
}

#[actix::test]
async fn a_sign_of_life_is_answered_with_what_waits_even_if_it_is_a_single_revocation() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Down);
    queue(&alice, &bob).await;
    // Its outcome is recorded by then: the clock must not move between an attempt and its record.
    let tried = async |times: u32| {
        wait_for(
            "it was tried and waits",
            || async { alice.pending().await.remove(0) },
            |row| row.attempts >= times && row.state == State::Queued,
        )
        .await;
    };
    for times in 1..=8 {
        tried(times).await;
        world.advance(600_000);
    }
    tried(9).await;
    let waits_until = alice.pending().await[0].next_attempt_at.unwrap();
    assert!(waits_until.since(world.clock.now()) > 60_000, "it would wait for more than a minute");
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(10_000);
    make_pending(&bob, "alice@a.example").await;
    let flushed = bob.flush(vec![bob.revocation(&alice.handle)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    wait_for("the sign of life is answered", || alice.pending(), |seen| seen.is_empty()).await;
    assert!(waits_until > world.clock.now(), "long before its time");
}

#[actix::test]
async fn nobody_is_asked_to_sign_against_somebody_who_is_a_friend_again() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Answers(500, "{}"));
    queue(&alice, &bob).await;
    wait_for("an attempt is over", || alice.pending(), |seen| seen[0].attempts > 0).await;
    world.wire.set(&world.b.node, Mood::Up);
    world.clock.advance(10);
    alice.invite(&bob).await.unwrap();
    bob.accept_from(&alice).await.unwrap();
    wait_for("they are friends again", || alice.has_friend(&bob), |seen| *seen).await;
    world.wire.set(&world.b.node, Mood::Down);
    world.advance(8 * 24 * 3_600_000);
    wait_for("the window has closed", || alice.pending(), |seen| seen.is_empty()).await;
    assert!(alice.has_friend(&bob).await && bob.has_friend(&alice).await);
}

#[actix::test]
async fn a_peer_that_shows_the_pinned_key_again_is_noticed_within_the_hour() {
    let (world, alice, bob) = after_a_reset().await;
    let other = SigningSecret::from_seed([77; 32]).public();
    world.wire.set(&world.b.node, Mood::ShowsKey(Box::new(other)));
    // Longer than a manifest is kept.
    world.clock.advance(3_600_000);
    queue(&alice, &bob).await;
    let offered = || async {
        let mut conn = alice.node.store.read().await.unwrap();
        peers::find(&mut conn, &bob.handle.domain().folded()).await.unwrap().unwrap().offered_key
    };
    wait_for("the other key is noted", || async { offered().await }, |seen| *seen == Some(other)).await;
    let asked = world.wire.asked(&world.b.node);
    world.advance(1_800_000);
    housekeeping::sweep(&alice.node).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.wire.asked(&world.b.node), asked, "it is left alone");
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(1_800_001);
    housekeeping::sweep(&alice.node).await.unwrap();
    wait_for("the pinned key is seen", || async { offered().await }, |seen| seen.is_none()).await;
    world.settled().await;
    assert!(alice.pending().await.is_empty(), "delivered without an operator");
}

#[actix::test]
async fn an_accept_that_is_undone_leaves_the_revocation_that_it_had_made_void() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::LosesAnswers);
    bob.accept_from(&alice).await.unwrap();
    for round in ["first", "second"] {
        world.wire.set(&world.a.node, Mood::Down);
        world.advance(300_000);
        wait_for("the accept is undone", || bob.has_friend(&alice), |seen| !*seen).await;
        assert!(alice.has_friend(&bob).await, "hers has arrived");
        assert_eq!(bob.pending().await.len(), 1, "after the {round} time it is still to be told");
        if round == "first" {
            bob.accept_from(&alice).await.unwrap();
            assert!(bob.pending().await.is_empty(), "void while they are friends");
        }
    }
}

#[actix::test]
async fn one_peer_that_is_down_delays_no_other() {
    let (world, mut alice, bob) = World::with_two_friends().await;
    let amy = world.a.person("amy").await;
    world.befriend(&alice, &amy).await;
    world.clock.advance(1_000);
    assert_eq!(alice.reset().await, 2);
    alice.renew_keys().await;
    make_pending(&alice, "someone@nowhere.example").await;
    let nowhere = Handle::parse("someone@nowhere.example").unwrap();
    let items = [&nowhere, &bob.handle, &amy.handle].map(|peer| alice.revocation(peer));
    let flushed = alice.flush(items.to_vec()).await;
    let delivered: Vec<_> = flushed.iter().map(|item| item.delivered).collect();
    assert_eq!(delivered, [false, true, true], "{flushed:?}");
    assert!(amy.friends().await.is_empty(), "somebody on the same node is told without a wire");
}

pub fn item(peer: &Handle, signed: vellum_client::SignedFields) -> FlushItem {
    FlushItem { peer_handle: peer.to_string(), signed: fields(signed) }
}

#[actix::test]
async fn an_item_that_is_not_in_order_is_refused_by_itself_and_never_sent() {
    let (world, alice, bob) = after_a_reset().await;
    let now = world.clock.now();
    let carl = Handle::parse("carl@b.example").unwrap();
    let stranger = Signer::new(alice.handle.clone(), MasterSeed::generate(&mut rand::rng()).signing_secret());
    let good = || alice.revocation(&bob.handle);
    let altered = |change: fn(&mut FlushItem)| {
        let mut item = good();
        change(&mut item);
        item
    };
    let other_message = alice.signer.invite(&bob.handle, now, &mut rand::rng());
    let for_carl = alice.signer.revoke(&carl, now, &mut rand::rng());
    let by_a_stranger = stranger.revoke(&bob.handle, now, &mut rand::rng());
    use ItemRefusal::{BadSignature, InvalidNonce, NotPending, StaleTimestamp};
    let cases = [
        ("a peer without a row", alice.revocation(&carl), NotPending),
        ("no handle", altered(|item| item.peer_handle = "bob".into()), NotPending),
        ("another spelling", alice.revocation(&Handle::parse("Bob@b.example").unwrap()), NotPending),
        ("another key", item(&bob.handle, by_a_stranger), BadSignature),
        ("for another peer", item(&bob.handle, for_carl), BadSignature),
        ("another message", item(&bob.handle, other_message), BadSignature),
        ("an altered nonce", altered(|item| item.signed.nonce.push('x')), BadSignature),
        ("an altered version", altered(|item| item.signed.message_version = 2), BadSignature),
        ("no signature", altered(|item| item.signed.signature = "none".into()), BadSignature),
        ("no nonce", altered(|item| item.signed.nonce.clear()), InvalidNonce),
        ("a long nonce", altered(|item| item.signed.nonce = "n".repeat(201)), InvalidNonce),
        ("no time", altered(|item| item.signed.timestamp = "yesterday".into()), StaleTimestamp),
        ("too old", alice.revocation_at(&bob.handle, -300_001), StaleTimestamp),
        ("too new", alice.revocation_at(&bob.handle, 300_001), StaleTimestamp),
    ];
    for (what, item, refusal) in cases {
        let flushed = alice.flush(vec![item]).await.remove(0);
        assert_eq!((flushed.delivered, flushed.code), (false, Some(refusal.code())), "{what}");
        assert_eq!(flushed.error, Some(refusal.to_string()), "{what}");
        assert_eq!(alice.pending().await[0].state, State::AwaitingSignature, "{what}");
    }
    let mut backdated = good();
    backdated.signed.timestamp = now.plus_millis(-1).to_rfc3339();
    assert_eq!(alice.flush(vec![backdated]).await[0].code, Some(BadSignature.code()), "an altered time");

    // What is in order beside them goes; had any of the others been queued, it would go too.
    let mixed = vec![altered(|item| item.signed.nonce.push('x')), alice.revocation(&carl)];
    let refused = alice.flush(mixed).await;
    assert!(refused.iter().all(|item| !item.delivered && item.code.is_some()));
    let flushed = alice.flush(vec![good(), alice.revocation(&carl), good()]).await;
    let codes: Vec<_> = flushed.iter().map(|item| (item.delivered, item.code)).collect();
    let duplicate = ItemRefusal::Duplicate.code();
    assert_eq!(codes, [(true, None), (false, Some(NotPending.code())), (false, Some(duplicate))]);
    world.settled().await;
    assert_eq!(sent(&world), 1);
    assert!(!bob.has_friend(&alice).await);
}

#[actix::test]
async fn a_timestamp_at_the_edge_is_taken() {
    let (_world, alice, bob) = after_a_reset().await;
    let queued =
        alice.node.ask(&alice.id, Flush { items: vec![alice.revocation_at(&bob.handle, 300_000)] }).await;
    assert!(queued.unwrap()[0].is_ok());
}

#[actix::test]
async fn nothing_is_signed_for_somebody_without_keys() {
    let (_world, alice, bob) = World::with_two_friends().await;
    alice.reset().await;
    let refused = alice.node.ask(&alice.id, Flush { items: vec![alice.revocation(&bob.handle)] }).await;
    assert!(matches!(refused, Err(Error::IdentityIncomplete)), "{refused:?}");
}
