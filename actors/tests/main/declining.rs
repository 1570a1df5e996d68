//! Invitations that are declined or taken back: on one node at both sides, and elsewhere only with a signature.

use vellum_actors::Error;
use vellum_actors::user::{Accept, CancelInvitation, Reject};
use vellum_store::InvitationId;
use vellum_store::invitations::Direction;

use crate::friendship::as_peer;
use crate::support::{Mood, Person, World};

async fn invitations_of(person: &Person) -> usize {
    person.invitations(Direction::Incoming).await.len() + person.invitations(Direction::Outgoing).await.len()
}

#[actix::test]
async fn who_is_invited_on_the_same_node_sees_who_invites_and_can_decline() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let outgoing = alice.invite(&amy).await.unwrap();
    let incoming = amy.invitation_of(&alice).await.unwrap();
    assert_ne!(incoming.id, outgoing.id);
    assert_eq!((incoming.peer, &incoming.to), (Some(as_peer(&alice)), &amy.handle));
    assert_eq!((outgoing.peer, &outgoing.from), (Some(as_peer(&amy)), &alice.handle));
    let told = amy.node.ask(&amy.id, Reject { id: incoming.id.clone(), signed: None }).await.unwrap();
    assert!(told, "both rows are on this node");
    assert_eq!((invitations_of(&alice).await, invitations_of(&amy).await), (0, 0));
    assert!(alice.friends().await.is_empty() && amy.friends().await.is_empty());
    let again = amy.node.ask(&amy.id, Reject { id: incoming.id, signed: None }).await;
    assert!(matches!(again, Err(Error::InvitationNotFound)), "{again:?}");
}

#[actix::test]
async fn an_invitation_declined_without_a_signature_goes_and_nobody_is_told() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    let id = bob.invitation_of(&alice).await.unwrap().id;
    assert!(!bob.node.ask(&bob.id, Reject { id, signed: None }).await.unwrap());
    world.settled().await;
    assert!(bob.invitation_of(&alice).await.is_none() && alice.has_invited(&bob).await);
    assert!(world.wire.posted_to(&world.a.node).is_empty(), "nothing is sent in bob's name");
}

#[actix::test]
async fn an_invitation_on_one_node_is_taken_back_on_both_sides_by_either() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    for by_the_inviter in [true, false] {
        let outgoing = alice.invite(&amy).await.unwrap();
        let incoming = amy.invitation_of(&alice).await.unwrap();
        let (who, id) = if by_the_inviter { (&alice, outgoing.id) } else { (&amy, incoming.id) };
        who.node.ask(&who.id, CancelInvitation { id }).await.unwrap();
        assert_eq!((invitations_of(&alice).await, invitations_of(&amy).await), (0, 0));
    }
}

/// Neither declining nor accepting it does anything; asked of the actor itself, behind whatever is looked at before.
async fn is_not_open(person: &Person, id: &InvitationId) {
    let accepted = person.node.ask(&person.id, Accept { id: id.clone(), signed: None, peer: None }).await;
    assert!(matches!(accepted, Err(Error::InvitationNotFound)), "{accepted:?}");
    let declined = person.node.ask(&person.id, Reject { id: id.clone(), signed: None }).await;
    assert!(matches!(declined, Err(Error::InvitationNotFound)), "{declined:?}");
}

#[actix::test]
async fn only_an_open_invitation_by_somebody_else_is_accepted_or_declined() {
    let (world, alice, bob) = World::with_two_people().await;
    let own = alice.invite(&bob).await.unwrap().id;
    is_not_open(&alice, &own).await;
    assert!(alice.has_invited(&bob).await);
    let id = bob.invitation_of(&alice).await.unwrap().id;
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept(id.clone(), &alice.handle).await.unwrap();
    // It is kept until alice's node confirms.
    is_not_open(&bob, &id).await;
    assert!(bob.has_friend(&alice).await);
}
