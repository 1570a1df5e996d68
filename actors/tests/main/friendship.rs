//! Friendships between two nodes: both sides agree in the end, whatever is lost or late on the way.

use vellum_actors::friends::{self, Notice};
use vellum_actors::inbox::Refusal;
use vellum_actors::user::{CancelInvitation, Receive, Received, Reject};
use vellum_actors::{Error, Node};
use vellum_protocol::{Handle, JsonObject, MessageType};
use vellum_store::friendships::RemoteUser;
use vellum_store::invitations::{Direction, Status};

use crate::support::{Mood, Person, T0, World, fields, in_a_request, wait_for};

/// Somebody as the other node shows them.
pub(crate) fn as_peer(person: &Person) -> RemoteUser {
    RemoteUser {
        handle: person.handle.clone(),
        signing_key: person.keys.signing,
        encryption_key: Some(person.keys.encryption),
        name: None,
        picture: None,
    }
}

async fn no_invitations(people: [&Person; 2]) -> bool {
    for person in people {
        for direction in [Direction::Incoming, Direction::Outgoing] {
            if !person.invitations(direction).await.is_empty() {
                return false;
            }
        }
    }
    true
}

async fn reject(person: &Person, from: &Person) {
    let id = person.invitation_of(from).await.unwrap().id;
    let signed = person.signer.reject(&from.handle, person.node.clock.now(), &mut rand::rng());
    assert!(person.node.ask(&person.id, Reject { id, signed: Some(fields(signed)) }).await.unwrap());
}

#[actix::test]
async fn an_invitation_that_is_accepted_makes_both_friends_with_each_others_keys() {
    let (world, alice, bob) = World::with_two_people().await;
    let invitation = alice.invite(&bob).await.unwrap();
    assert_eq!((invitation.status, &invitation.to), (Status::Pending, &bob.handle));
    assert!(alice.has_invited(&bob).await);
    let incoming = bob.invitation_of(&alice).await.expect("it has arrived");
    assert_eq!(incoming.peer, Some(as_peer(&alice)));
    assert!(!alice.has_friend(&bob).await && !bob.has_friend(&alice).await);

    bob.accept(incoming.id, &alice.handle).await.unwrap();
    assert_eq!(alice.friends().await[0].friend, as_peer(&bob));
    assert_eq!(bob.friends().await[0].friend, as_peer(&alice));
    assert!(no_invitations([&alice, &bob]).await);
    world.settled().await;
    assert_eq!(world.wire.count(&world.b.node, MessageType::FriendInvite), 1);
    assert_eq!(world.wire.count(&world.a.node, MessageType::FriendAccept), 1);
}

#[actix::test]
async fn crossing_invitations_become_one_friendship_on_both_sides() {
    let (world, alice, bob) = World::with_two_people().await;
    world.wire.set(&world.b.node, Mood::TakesNothing);
    alice.invite(&bob).await.unwrap();
    assert!(bob.invitation_of(&alice).await.is_none(), "alice's is still on its way");
    world.clock.advance(1_000);
    bob.invite(&alice).await.unwrap();
    assert_eq!((alice.has_friend(&bob).await, bob.has_friend(&alice).await), (true, true));
    assert!(no_invitations([&alice, &bob]).await);

    world.wire.set(&world.b.node, Mood::Up);
    world.advance(10_000);
    world.settled().await;
    assert_eq!((alice.friends().await.len(), bob.friends().await.len()), (1, 1));
    assert!(no_invitations([&alice, &bob]).await, "alice's invitation has arrived and opened nothing");
}

#[actix::test]
async fn a_rejection_removes_the_invitation_of_that_person_and_no_other() {
    let (world, alice, bob) = World::with_two_people().await;
    let carl = world.b.person("carl").await;
    alice.invite(&bob).await.unwrap();
    alice.invite(&carl).await.unwrap();
    reject(&bob, &alice).await;
    wait_for("alice's node is told", || alice.has_invited(&bob), |seen| !*seen).await;
    world.settled().await;
    assert!(alice.has_invited(&carl).await);
    assert!(bob.invitation_of(&alice).await.is_none() && carl.invitation_of(&alice).await.is_some());
    assert!(!alice.has_friend(&bob).await && !bob.has_friend(&alice).await);
    alice.invite(&bob).await.expect("he can be asked again");
    assert!(bob.invitation_of(&alice).await.is_some());
}

#[actix::test]
async fn a_friendship_accepted_while_the_inviters_node_is_down_holds_and_is_told_later() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept_from(&alice).await.unwrap();
    assert!(bob.has_friend(&alice).await, "at once");
    assert!(bob.invitation_of(&alice).await.is_none(), "the invitation is out of sight");
    assert!(!alice.has_friend(&bob).await);

    world.wire.set(&world.a.node, Mood::Up);
    world.advance(20_000);
    wait_for("alice's node is told", || alice.has_friend(&bob), |seen| *seen).await;
    world.settled().await;
    assert!(bob.has_friend(&alice).await && no_invitations([&alice, &bob]).await);
}

#[actix::test]
async fn a_friendship_that_cannot_be_told_in_time_is_undone_and_can_be_accepted_again() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    let before = bob.invitation_of(&alice).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept_from(&alice).await.unwrap();
    world.advance(300_000);
    wait_for("the friendship is undone", || bob.has_friend(&alice), |seen| !*seen).await;
    assert_eq!(bob.invitation_of(&alice).await, Some(before), "as it stood before");
    world.settled().await;

    world.wire.set(&world.a.node, Mood::Up);
    bob.accept_from(&alice).await.unwrap();
    wait_for("alice's node is told", || alice.has_friend(&bob), |seen| *seen).await;
    world.settled().await;
    assert!(bob.has_friend(&alice).await && no_invitations([&alice, &bob]).await);
}

#[actix::test]
async fn an_invitation_that_cannot_be_told_in_time_is_gone() {
    let (world, alice, bob) = World::with_two_people().await;
    world.wire.set(&world.b.node, Mood::TakesNothing);
    alice.invite(&bob).await.unwrap();
    assert!(alice.has_invited(&bob).await);
    world.advance(300_000);
    wait_for("it is gone", || alice.has_invited(&bob), |seen| !*seen).await;
    world.wire.set(&world.b.node, Mood::Up);
    alice.invite(&bob).await.expect("it can be made anew");
    assert!(bob.invitation_of(&alice).await.is_some());
}

#[actix::test]
async fn an_acceptance_whose_answer_was_lost_is_told_again_and_is_one_friendship() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::LosesAnswers);
    bob.accept_from(&alice).await.unwrap();
    assert!(alice.has_friend(&bob).await, "it has arrived");
    let before = alice.friends().await;
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(20_000);
    world.settled().await;
    assert_eq!(world.wire.count(&world.a.node, MessageType::FriendAccept), 2);
    assert_eq!(alice.friends().await, before);
    assert!(bob.has_friend(&alice).await && no_invitations([&alice, &bob]).await);
}

#[actix::test]
async fn accepting_what_the_inviter_has_withdrawn_makes_nobody_friends() {
    let (world, alice, bob) = World::with_two_people().await;
    let invitation = alice.invite(&bob).await.unwrap();
    alice.node.ask(&alice.id, CancelInvitation { id: invitation.id }).await.unwrap();
    let accepted = bob.accept_from(&alice).await;
    assert!(matches!(accepted, Err(Error::InvitationNotFound)), "{accepted:?}");
    assert!(!alice.has_friend(&bob).await && !bob.has_friend(&alice).await);
    assert!(no_invitations([&alice, &bob]).await);
    world.settled().await;
}

/// An invitation from `sender`, as the inbox hands it to the actor.
pub(crate) fn invite_from(sender: &Person, to: &Handle, nonce: &str, signature: &str) -> Receive {
    Receive {
        message_type: MessageType::FriendInvite,
        sender: as_peer(sender),
        to: to.clone(),
        nonce: nonce.into(),
        payload: JsonObject::new(),
        signed_at: T0,
        signature: signature.into(),
        source: in_a_request(),
    }
}

#[actix::test]
async fn an_envelope_received_again_is_answered_the_same_and_changes_nothing() {
    let (_world, alice, bob) = World::with_two_people().await;
    let invite = || invite_from(&alice, &bob.handle, "n", "s");
    let first = bob.node.ask(&bob.id, invite()).await.unwrap();
    assert_eq!(first, Received { applied: true, friends: false });
    let stands = bob.invitation_of(&alice).await.unwrap();
    assert_eq!(bob.node.ask(&bob.id, invite()).await.unwrap(), first);
    assert_eq!(bob.invitations(Direction::Incoming).await, [stands]);
    bob.node.ask(&bob.id, Reject { id: stands_id(&bob, &alice).await, signed: None }).await.unwrap();
    assert_eq!(bob.node.ask(&bob.id, invite()).await.unwrap(), first);
    assert!(bob.invitation_of(&alice).await.is_none(), "it does not open what was answered");
}

#[actix::test]
async fn a_request_is_taken_once_also_when_its_message_was_refused() {
    let (_world, alice, bob) = World::with_two_people().await;
    bob.node.ask(&bob.id, invite_from(&alice, &bob.handle, "first", "s")).await.unwrap();
    let refused = invite_from(&alice, &bob.handle, "second", "t");
    let answer = bob.node.ask(&bob.id, refused.clone()).await;
    assert!(matches!(answer, Err(Error::Message(Refusal::InvitationExists))), "{answer:?}");
    reject(&bob, &alice).await;
    let again = bob.node.ask(&bob.id, refused).await;
    assert!(
        matches!(&again, Err(Error::Message(Refusal::Auth(why))) if why == "Replayed nonce"),
        "{again:?}"
    );
    assert!(bob.invitation_of(&alice).await.is_none());
}

async fn stands_id(person: &Person, from: &Person) -> vellum_store::InvitationId {
    person.invitation_of(from).await.unwrap().id
}

#[actix::test]
async fn another_envelope_with_a_nonce_already_used_is_refused() {
    let (world, alice, bob) = World::with_two_people().await;
    let carl = world.b.person("carl").await;
    bob.node.ask(&bob.id, invite_from(&alice, &bob.handle, "n", "s")).await.unwrap();
    reject(&bob, &alice).await;
    let other = bob.node.ask(&bob.id, invite_from(&alice, &bob.handle, "n", "another")).await;
    assert!(matches!(other, Err(Error::Message(Refusal::Replayed))), "{other:?}");
    let to_carl = carl.node.ask(&carl.id, invite_from(&alice, &carl.handle, "n", "s")).await;
    assert!(matches!(to_carl, Err(Error::Message(Refusal::Replayed))), "{to_carl:?}");
    assert!(bob.invitation_of(&alice).await.is_none() && carl.invitation_of(&alice).await.is_none());
}

#[actix::test]
async fn two_people_on_one_node_need_no_wire() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let node: &Node = &world.a.node;
    alice.invite(&amy).await.unwrap();
    amy.accept_from(&alice).await.unwrap();
    assert!(alice.has_friend(&amy).await && amy.has_friend(&alice).await);
    assert!(no_invitations([&alice, &amy]).await);
    let notice = friends::remove(&alice.node, &alice.id, amy.handle.clone(), None).await.unwrap();
    assert_eq!(notice, Notice::Local);
    assert!(alice.friends().await.is_empty() && amy.friends().await.is_empty());
    assert!(world.wire.posted_to(node).is_empty());
    assert!(alice.pending().await.is_empty());
}

#[actix::test]
async fn a_friendship_removed_with_a_signature_ends_on_both_sides() {
    let (world, alice, bob) = World::with_two_friends().await;
    let signed = alice.signer.revoke(&bob.handle, world.clock.now(), &mut rand::rng());
    let notice =
        friends::remove(&alice.node, &alice.id, bob.handle.clone(), Some(fields(signed))).await.unwrap();
    assert_eq!(notice, Notice::Delivered);
    assert!(alice.friends().await.is_empty() && bob.friends().await.is_empty());
}

#[actix::test]
async fn a_friendship_removed_without_a_signature_waits_for_one() {
    let (world, alice, bob) = World::with_two_friends().await;
    let notice = friends::remove(&alice.node, &alice.id, bob.handle.clone(), None).await.unwrap();
    assert_eq!(notice, Notice::Unsigned);
    assert!(bob.has_friend(&alice).await, "nothing is sent in alice's name");
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    assert!(bob.friends().await.is_empty());
    world.settled().await;
    assert!(alice.pending().await.is_empty());
}

#[actix::test]
async fn an_invitation_is_refused_with_the_reason() {
    let (world, alice, bob) = World::with_two_people().await;
    let carl = world.b.person("Carl").await;
    let now = world.clock.now();
    let (node, id) = (&alice.node, &alice.id);
    let nobody = Handle::parse("nobody@b.example").unwrap();
    let elsewhere = Handle::parse("someone@nowhere.example").unwrap();
    let misspelled = Handle::parse("carl@b.example").unwrap();
    let signed = |to: &Handle| Some(fields(alice.signer.invite(to, now, &mut rand::rng())));

    let own = friends::invite(node, id, &alice.handle, signed(&alice.handle)).await;
    assert!(matches!(own, Err(Error::OwnHandle)));
    let missing = friends::invite(node, id, &nobody, signed(&nobody)).await;
    assert!(matches!(missing, Err(Error::UserNotFound)));
    let unreachable = friends::invite(node, id, &elsewhere, signed(&elsewhere)).await;
    assert!(matches!(unreachable, Err(Error::PeerUnreachable(_))));
    let spelling = friends::invite(node, id, &misspelled, signed(&misspelled)).await;
    assert!(matches!(spelling, Err(Error::HandleSpelling(right)) if right == carl.handle.as_str()));
    let unsigned = friends::invite(node, id, &bob.handle, None).await;
    assert!(matches!(unsigned, Err(Error::EnvelopeRequired)));
    let for_carl = friends::invite(node, id, &bob.handle, signed(&carl.handle)).await;
    assert!(matches!(for_carl, Err(Error::BadSignature)));
    let late = alice.signer.invite(&bob.handle, now.plus_millis(-300_001), &mut rand::rng());
    let late = friends::invite(node, id, &bob.handle, Some(fields(late))).await;
    assert!(matches!(late, Err(Error::StaleTimestamp)));
    assert!(world.wire.posted_to(&world.b.node).is_empty(), "none of these was sent");
    assert!(alice.invitations(Direction::Outgoing).await.is_empty());

    alice.invite(&bob).await.unwrap();
    assert!(matches!(alice.invite(&bob).await, Err(Error::AlreadyInvited)));
    bob.accept_from(&alice).await.unwrap();
    assert!(matches!(alice.invite(&bob).await, Err(Error::AlreadyFriends)));
}

#[actix::test]
async fn a_friends_changed_keys_are_noticed_once() {
    let (world, alice, mut bob) = World::with_two_friends().await;
    bob.renew_keys().await;
    world.advance(61_000);
    let synced = friends::sync_keys(&alice.node, &alice.id).await.unwrap();
    assert!(matches!(synced[0].outcome, Ok(true)), "{synced:?}");
    let friendship = alice.friends().await.remove(0);
    assert_eq!(friendship.friend.signing_key, bob.keys.signing);
    assert_eq!(friendship.keys_changed_at, Some(world.clock.now()));
    let again = friends::sync_keys(&alice.node, &alice.id).await.unwrap();
    assert!(matches!(again[0].outcome, Ok(false)), "{again:?}");
    assert!(alice.friends().await[0].keys_changed_at.is_some(), "the mark stays");
    world.wire.set(&world.b.node, Mood::Down);
    world.advance(61_000);
    let down = friends::sync_keys(&alice.node, &alice.id).await.unwrap();
    assert!(matches!(down[0].outcome, Err(Error::PeerUnreachable(_))), "{down:?}");
}

#[actix::test]
async fn an_invitation_is_accepted_by_whom_it_is_for_and_once() {
    let (world, alice, bob) = World::with_two_people().await;
    let own = alice.invite(&bob).await.unwrap();
    let refused = alice.accept(own.id, &bob.handle).await;
    assert!(matches!(refused, Err(Error::InvitationNotFound)), "one's own: {refused:?}");
    assert!(alice.friends().await.is_empty());
    let invitation = bob.invitation_of(&alice).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept(invitation.id.clone(), &alice.handle).await.unwrap();
    let again = bob.accept(invitation.id, &alice.handle).await;
    assert!(matches!(again, Err(Error::InvitationNotFound)), "it waits to be told: {again:?}");
}

#[actix::test]
async fn an_invitation_that_is_withdrawn_before_it_has_left_never_arrives() {
    let (world, alice, bob) = World::with_two_people().await;
    world.wire.set(&world.b.node, Mood::Answers(503, "{}"));
    let invitation = alice.invite(&bob).await.unwrap();
    alice.node.ask(&alice.id, CancelInvitation { id: invitation.id }).await.unwrap();
    assert!(!alice.has_invited(&bob).await);
    world.wire.set(&world.b.node, Mood::Up);
    // Late enough for another attempt, and in time for the envelope to be taken.
    world.advance(60_000);
    world.settled().await;
    assert!(bob.invitation_of(&alice).await.is_none());
}
