//! Messages between the same two that arrive in another order than they were signed in, or meet on the way.

use vellum_actors::inbox::Refusal;
use vellum_actors::user::{Accept, Invite, Receive, Received, RemoveFriend};
use vellum_actors::{Error, friends};
use vellum_protocol::{MessageType, UnixMillis};

use crate::friendship::{as_peer, invite_from};
use crate::support::{Hang, Mood, Person, World, fields, in_time, until, wait_for};

/// Devices' clocks may be this far behind.
const BEHIND: i64 = -100_000;

/// Accepts what the other has invited to, without waiting for the other's node.
async fn accept_at(who: &Person, other: &Person, at: UnixMillis) {
    let id = who.invitation_of(other).await.unwrap().id;
    let signed = Some(fields(who.signer.accept(&other.handle, at, &mut rand::rng())));
    who.node.ask(&who.id, Accept { id, signed, peer: None }).await.unwrap();
}

async fn end_at(who: &Person, friend: &Person, at: UnixMillis) {
    let signed = Some(fields(who.signer.revoke(&friend.handle, at, &mut rand::rng())));
    who.node.ask(&who.id, RemoveFriend { friend: friend.handle.clone(), signed }).await.unwrap();
}

/// What alice's node receives from bob, signed at that moment.
fn from_bob(bob: &Person, alice: &Person, message_type: MessageType, at: UnixMillis) -> Receive {
    let nonce = format!("{message_type:?}{at:?}");
    Receive { message_type, signed_at: at, ..invite_from(bob, &alice.handle, &nonce, "s") }
}

/// Alice has invited bob, and his acceptance hangs on its way to her.
async fn with_an_acceptance_under_way(
    signed_at: impl Fn(UnixMillis) -> UnixMillis,
) -> (World, Person, Person, Hang) {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    wait_for("it has arrived", || bob.invitation_of(&alice), |seen| seen.is_some()).await;
    // To a node that has taken nothing yet, only one message would be under way.
    world.b.person("carol").await.invite(&alice).await.unwrap();
    world.settled().await;
    let hang = Hang::new();
    world.wire.set(&world.a.node, Mood::Hangs(hang.clone()));
    accept_at(&bob, &alice, signed_at(world.clock.now())).await;
    wait_for(
        "it hangs",
        || async { world.wire.count(&world.a.node, MessageType::FriendAccept) },
        |seen| *seen == 1,
    )
    .await;
    world.wire.set(&world.a.node, Mood::Up);
    (world, alice, bob, hang)
}

#[actix::test]
async fn an_acceptance_that_the_end_of_the_friendship_has_overtaken_makes_no_friends() {
    let (world, alice, bob, hang) = with_an_acceptance_under_way(|now| now.plus_millis(BEHIND)).await;
    end_at(&bob, &alice, world.clock.now().plus_millis(BEHIND + 500)).await;
    wait_for("the revocation has arrived", || bob.pending(), |seen| seen.is_empty()).await;
    hang.let_go();
    in_time(world.settled()).await;
    assert!(!alice.has_friend(&bob).await && !bob.has_friend(&alice).await);
    assert!(bob.pending().await.is_empty(), "alice's node has refused it, so there is nothing to tell her");
    // What he signs later counts.
    let later =
        from_bob(&bob, &alice, MessageType::FriendAccept, world.clock.now().plus_millis(BEHIND + 501));
    assert!(alice.node.ask(&alice.id, later).await.unwrap().friends);
}

#[actix::test]
async fn an_invitation_that_crosses_and_was_overtaken_makes_no_friends() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    let signed_at = |millis| world.clock.now().plus_millis(BEHIND + millis);
    let revoked = from_bob(&bob, &alice, MessageType::RelationshipRevoke, signed_at(0));
    assert!(!alice.node.ask(&alice.id, revoked).await.unwrap().applied, "her invitation is newer");
    let stale = from_bob(&bob, &alice, MessageType::FriendInvite, signed_at(0));
    let refused = alice.node.ask(&alice.id, stale).await;
    assert!(matches!(refused, Err(Error::Message(Refusal::InvitationExists))), "{refused:?}");
    assert!(!alice.has_friend(&bob).await && alice.has_invited(&bob).await);
    let later = from_bob(&bob, &alice, MessageType::FriendInvite, signed_at(1));
    assert!(alice.node.ask(&alice.id, later).await.unwrap().friends);
}

#[actix::test]
async fn an_acceptance_that_has_waited_does_not_leave_after_the_end_of_the_friendship() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    wait_for("it has arrived", || bob.invitation_of(&alice), |seen| seen.is_some()).await;
    world.wire.set(&world.a.node, Mood::Down);
    accept_at(&bob, &alice, world.clock.now()).await;
    wait_for(
        "it was tried",
        || async { world.wire.count(&world.a.node, MessageType::FriendAccept) },
        |seen| *seen == 1,
    )
    .await;
    world.advance(1);
    end_at(&bob, &alice, world.clock.now()).await;
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(60_000);
    in_time(world.settled()).await;
    assert_eq!(world.wire.count(&world.a.node, MessageType::FriendAccept), 1);
    assert!(!alice.has_friend(&bob).await && bob.pending().await.is_empty());
}

#[actix::test]
async fn an_acceptance_that_arrives_after_its_friendship_was_ended_is_to_be_taken_back() {
    let (world, mut alice, bob, hang) = with_an_acceptance_under_way(|now| now).await;
    world.clock.advance(1_000);
    alice.reset().await;
    alice.renew_keys().await;
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    assert!(!bob.has_friend(&alice).await);
    world.clock.advance(1_000);
    alice.invite(&bob).await.unwrap();
    hang.let_go();
    until("it is taken for the answer to this one", || alice.has_friend(&bob)).await;
    wait_for("he has been told to sign", || bob.pending(), |seen| !seen.is_empty()).await;
    assert!(bob.flush(vec![bob.revocation(&alice.handle)]).await[0].delivered);
    assert!(!alice.has_friend(&bob).await);
}

#[actix::test]
async fn an_answer_that_a_revocation_has_met_makes_no_friends_and_is_to_be_taken_back() {
    let (world, alice, bob) = World::with_two_people().await;
    for (inviter, invited) in [(&alice, &bob), (&bob, &alice)] {
        friends::resolve(&inviter.node, &inviter.id, &invited.handle).await.unwrap();
    }
    world.wire.set(&world.a.node, Mood::TakesNothing);
    bob.invite(&alice).await.unwrap();
    let hang = Hang::new();
    world.wire.set(&world.b.node, Mood::Hangs(hang.clone()));
    let now = world.clock.now();
    let signed = Some(fields(alice.signer.invite(&bob.handle, now, &mut rand::rng())));
    alice.node.ask(&alice.id, Invite { peer: as_peer(&bob), local: None, signed }).await.unwrap();
    wait_for(
        "it hangs",
        || async { world.wire.count(&world.b.node, MessageType::FriendInvite) },
        |seen| *seen == 1,
    )
    .await;
    let revoked = from_bob(&bob, &alice, MessageType::RelationshipRevoke, now.plus_millis(BEHIND));
    assert!(!alice.node.ask(&alice.id, revoked).await.unwrap().applied);
    hang.let_go();
    until("they are friends on his side", || bob.has_friend(&alice)).await;
    wait_for("she has been told to sign", || alice.pending(), |seen| !seen.is_empty()).await;
    assert!(!alice.has_friend(&bob).await && !alice.has_invited(&bob).await);
    world.wire.set(&world.b.node, Mood::Up);
    assert!(alice.flush(vec![alice.revocation_at(&bob.handle, 1)]).await[0].delivered);
    assert!(!bob.has_friend(&alice).await);
}

#[actix::test]
async fn an_invitation_that_has_overtaken_the_end_of_the_old_friendship_is_answered_the_same_when_it_comes_again()
 {
    let (world, alice, bob) = World::with_two_friends().await;
    world.clock.advance(1_000);
    let now = world.clock.now();
    let invite = || from_bob(&bob, &alice, MessageType::FriendInvite, now);
    let first = alice.node.ask(&alice.id, invite()).await.unwrap();
    assert_eq!(first, Received { applied: true, friends: false });
    // He would take the old friendship for a new one, and the revocation that comes next ends it here.
    assert_eq!(alice.node.ask(&alice.id, invite()).await.unwrap(), first);
    let revoked = from_bob(&bob, &alice, MessageType::RelationshipRevoke, now.plus_millis(-1));
    assert!(alice.node.ask(&alice.id, revoked).await.unwrap().applied);
    assert!(alice.invitation_of(&bob).await.is_some());
}

#[actix::test]
async fn an_answer_that_makes_friends_by_an_invitation_from_before_a_reset_dates_the_friendship_by_that() {
    let (world, mut alice, bob) = World::with_two_people().await;
    let signed_at = world.clock.now().plus_millis(BEHIND);
    let signed = Some(fields(bob.signer.invite(&alice.handle, signed_at, &mut rand::rng())));
    friends::invite(&bob.node, &bob.id, &alice.handle, signed).await.unwrap();
    wait_for("it has arrived", || alice.invitation_of(&bob), |seen| seen.is_some()).await;
    // His invitation stands on his side: she has told nobody.
    alice.reset().await;
    alice.renew_keys().await;
    alice.invite(&bob).await.unwrap();
    until("they are friends", || alice.has_friend(&bob)).await;
    assert!(bob.has_friend(&alice).await);
    end_at(&bob, &alice, signed_at.plus_millis(1)).await;
    in_time(world.settled()).await;
    assert!(!alice.has_friend(&bob).await, "his device's clock is as far behind as it was");
}
