//! When a friendship began, by whose clock, and what that means for a revocation that arrives before or after it.

use futures_util::FutureExt;
use vellum_actors::inbox::Refusal;
use vellum_actors::user::{Receive, Received};
use vellum_actors::{Error, friends};
use vellum_protocol::{JsonObject, MessageType};
use vellum_store::{StoreError, friendships};

use crate::friendship::{as_peer, invite_from};
use crate::support::{Mood, World, fields, in_a_request, until, wait_for};

#[actix::test]
async fn an_invitation_from_before_does_not_date_back_what_the_peers_own_signature_has_dated() {
    let (world, alice, bob) = World::with_two_people().await;
    world.clock.advance(5_000);
    alice.invite(&bob).await.unwrap();
    wait_for("it has arrived", || bob.invitation_of(&alice), |seen| seen.is_some()).await;
    let invitation = bob.invitation_of(&alice).await.unwrap();
    let at = world.clock.now().plus_millis(-1_000);
    let signed = bob.signer.accept(&alice.handle, at, &mut rand::rng());
    friends::accept(&bob.node, &bob.id, invitation.id, Some(fields(signed))).await.unwrap();
    until("both are friends", || alice.has_friend(&bob)).await;
    assert_eq!(alice.friends().await[0].revocable_from, at);
    let straggler = invite_from(&bob, &alice.handle, "late", "s");
    let received = alice.node.ask(&alice.id, straggler).await.unwrap();
    assert_eq!(received, Received { applied: false, friends: true });
    assert_eq!(alice.friends().await[0].revocable_from, at, "a revocation signed in between ends nothing");
}

#[actix::test]
async fn an_invitation_received_again_after_its_acceptance_is_answered_as_before() {
    let (world, alice, bob) = World::with_two_people().await;
    let invite = || invite_from(&alice, &bob.handle, "n", "s");
    let first = bob.node.ask(&bob.id, invite()).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    world.clock.advance(1_000);
    bob.accept_from(&alice).await.unwrap();
    assert!(bob.has_friend(&alice).await);
    assert_eq!(first, Received { applied: true, friends: false });
    // Otherwise her node would date the friendship by its own clock, and his revocation could come before it.
    assert_eq!(bob.node.ask(&bob.id, invite()).await.unwrap(), first);
}

#[actix::test]
async fn what_an_answer_has_begun_is_dated_by_the_acceptance_that_follows() {
    const BEHIND: i64 = -200_000;
    let (world, alice, bob) = World::with_two_people().await;
    let me = as_peer(&bob);
    let (id, now) = (alice.id.clone(), world.clock.now());
    let begun: Result<(), StoreError> = alice
        .node
        .store
        .write(move |tx| async move { friendships::establish(tx, &id, &me, now, now).await }.boxed())
        .await;
    begun.unwrap();
    let at = now.plus_millis(BEHIND);
    let accept = Receive {
        message_type: MessageType::FriendAccept,
        signed_at: at,
        ..invite_from(&bob, &alice.handle, "accepts", "s")
    };
    let received = alice.node.ask(&alice.id, accept).await.unwrap();
    assert_eq!(received, Received { applied: false, friends: true });
    assert_eq!(alice.friends().await[0].revocable_from, at);
}

#[actix::test]
async fn a_reset_ends_a_friendship_of_one_node_on_a_device_whose_clock_is_behind() {
    const BEHIND: i64 = -200_000;
    let world = World::new().await;
    let (mut alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let at = world.clock.now().plus_millis(BEHIND);
    for alice_invites in [true, false] {
        let (inviter, accepter) = if alice_invites { (&alice, &amy) } else { (&amy, &alice) };
        let signed = inviter.signer.invite(&accepter.handle, at, &mut rand::rng());
        friends::invite(&inviter.node, &inviter.id, &accepter.handle, Some(fields(signed))).await.unwrap();
        let invitation = accepter.invitation_of(inviter).await.unwrap();
        let signed = accepter.signer.accept(&inviter.handle, at, &mut rand::rng());
        friends::accept(&accepter.node, &accepter.id, invitation.id, Some(fields(signed))).await.unwrap();
        assert!(amy.has_friend(&alice).await);
        alice.reset().await;
        alice.renew_keys().await;
        let flushed = alice.flush(vec![alice.revocation_at(&amy.handle, BEHIND + 1)]).await;
        assert!(flushed[0].delivered, "{flushed:?}");
        assert!(
            !amy.has_friend(&alice).await,
            "her revocation is newer than the friendship, by her own clock"
        );
    }
}

#[actix::test]
async fn a_revocation_ends_what_crossing_invitations_began_on_a_device_whose_clock_is_behind() {
    const BEHIND: i64 = -200_000;
    let (world, alice, mut bob) = World::with_two_people().await;
    for (inviter, invited) in [(&alice, &bob), (&bob, &alice)] {
        friends::resolve(&inviter.node, &inviter.id, &invited.handle).await.unwrap();
    }
    world.wire.set(&world.a.node, Mood::TakesNothing);
    world.wire.set(&world.b.node, Mood::TakesNothing);
    let at = world.clock.now().plus_millis(BEHIND);
    let signed = bob.signer.invite(&alice.handle, at, &mut rand::rng());
    friends::invite(&bob.node, &bob.id, &alice.handle, Some(fields(signed))).await.unwrap();
    alice.invite(&bob).await.unwrap();
    // Alice's arrives first, and its answer makes the friendship on her side.
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(10_000);
    until("alice has heard of it", || alice.has_friend(&bob)).await;
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(10_000);
    world.settled().await;
    bob.reset().await;
    bob.renew_keys().await;
    let flushed = bob.flush(vec![bob.revocation_at(&alice.handle, BEHIND + 1)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    assert!(!alice.has_friend(&bob).await, "his revocation is newer than his invitation, by his own clock");
}

#[actix::test]
async fn a_new_invitation_that_overtakes_the_revocation_is_none_of_the_old_friendship() {
    const BEHIND: i64 = -200_000;
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    let invitation = bob.invitation_of(&alice).await.unwrap();
    let at = world.clock.now().plus_millis(BEHIND);
    let signed = bob.signer.accept(&alice.handle, at, &mut rand::rng());
    friends::accept(&bob.node, &bob.id, invitation.id, Some(fields(signed))).await.unwrap();
    until("both are friends", || alice.has_friend(&bob)).await;

    world.wire.set(&world.a.node, Mood::Down);
    let revoked = bob.signer.revoke(&alice.handle, at.plus_millis(1_000), &mut rand::rng());
    friends::remove(&bob.node, &bob.id, alice.handle.clone(), Some(fields(revoked))).await.unwrap();
    // It arrives before the revocation does.
    let signed = bob.signer.invite(&alice.handle, at.plus_millis(2_000), &mut rand::rng());
    let receive = Receive {
        message_type: MessageType::FriendInvite,
        sender: as_peer(&bob),
        to: alice.handle.clone(),
        nonce: signed.nonce,
        signed_at: signed.timestamp.instant(),
        payload: JsonObject::new(),
        signature: signed.signature.to_base64(),
        source: in_a_request(),
    };
    let received = alice.node.ask(&alice.id, receive).await.unwrap();
    assert_eq!(
        received,
        Received { applied: true, friends: false },
        "bob must not be told that they are friends"
    );
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(10_000);
    world.settled().await;
    assert!(!alice.has_friend(&bob).await, "the revocation has ended the old friendship");
    assert!(alice.invitation_of(&bob).await.is_some(), "the invitation is newer, and stands");
}

#[actix::test]
async fn accepting_what_a_revocation_is_about_to_end_is_not_taken_for_accepting_the_next_invitation() {
    let (world, mut alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    wait_for("it has arrived", || bob.invitation_of(&alice), |seen| seen.is_some()).await;
    world.wire.set(&world.b.node, Mood::TakesNothing);
    world.clock.advance(1_000);
    alice.reset().await;
    alice.renew_keys().await;
    let flushed = alice.flush(vec![alice.revocation_at(&bob.handle, 0)]).await;
    assert!(!flushed[0].delivered, "{flushed:?}");
    world.clock.advance(1_000);
    alice.invite(&bob).await.unwrap();
    // He knows the first one only.
    let accept = |nonce| Receive {
        message_type: MessageType::FriendAccept,
        ..invite_from(&bob, &alice.handle, nonce, "s")
    };
    let received = alice.node.ask(&alice.id, accept("first")).await;
    assert!(matches!(received, Err(Error::Message(Refusal::NoOriginalInvitation))), "{received:?}");
    assert!(!alice.has_friend(&bob).await);
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(60_000);
    world.settled().await;
    alice.node.ask(&alice.id, accept("second")).await.unwrap();
    assert!(alice.has_friend(&bob).await);
}

#[actix::test]
async fn a_revocation_takes_along_the_acceptance_of_what_it_ends() {
    let (world, mut alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    wait_for("it has arrived", || bob.invitation_of(&alice), |seen| seen.is_some()).await;
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept_from(&alice).await.unwrap();
    world.clock.advance(1_000);
    alice.reset().await;
    alice.renew_keys().await;
    world.wire.set(&world.a.node, Mood::Up);
    let flushed = alice.flush(vec![alice.revocation_at(&bob.handle, 0)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    assert!(!bob.has_friend(&alice).await);
    world.clock.advance(1_000);
    alice.invite(&bob).await.unwrap();
    world.advance(60_000);
    world.settled().await;
    assert!(!alice.has_friend(&bob).await, "he has not accepted this one");
}

#[actix::test]
async fn a_friendship_is_removed_although_the_nodes_clock_was_set_back_since() {
    let (world, alice, bob) = World::with_two_friends().await;
    let (amy, carl) = (world.a.person("amy").await, world.b.person("carl").await);
    alice.invite(&amy).await.unwrap();
    amy.accept_from(&alice).await.unwrap();
    world.befriend(&amy, &carl).await;
    world.clock.advance(-60_000);
    for (one, other) in [(&alice, &bob), (&alice, &amy), (&carl, &amy)] {
        friends::remove(&one.node, &one.id, other.handle.clone(), None).await.unwrap();
        assert!(!one.has_friend(other).await, "it was said to be removed");
    }
    assert!(!amy.has_friend(&alice).await, "on the same node both sides end at once");
}
