//! Invitations that are declined: on one node at both sides, and elsewhere only with a signature.

use vellum_actors::Error;
use vellum_actors::user::Reject;
use vellum_store::invitations::Direction;

use crate::friendship::as_peer;
use crate::support::{Person, World};

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
