//! How long an envelope is remembered: as long as it could pass as fresh once more.

use vellum_actors::node::REVOCATION_WINDOW_MILLIS;
use vellum_actors::user::{Receive, Received};
use vellum_actors::{Error, housekeeping};
use vellum_store::applied_envelopes;

use crate::friendship::invite_from;
use crate::revocations::REVOKE;
use crate::support::{Person, World};

/// Rows are purged an hour after they ended.
const MARGIN_MILLIS: i64 = 3_600_000;
/// Twice the time in which an envelope is fresh: its clock may be as far ahead as it may be late.
const FRESH_MILLIS: i64 = 600_000;

async fn is_remembered(person: &Person, from: &Person, nonce: &str) -> bool {
    housekeeping::sweep(&person.node).await.unwrap();
    let mut conn = person.node.store.read().await.unwrap();
    applied_envelopes::find(&mut conn, from.handle.as_str(), nonce).await.unwrap().is_some()
}

#[actix::test]
async fn an_envelope_is_remembered_while_it_is_fresh_and_a_revocation_for_its_whole_window() {
    let (world, alice, bob) = World::with_two_people().await;
    let invite = || invite_from(&alice, &bob.handle, "invitation", "s");
    let revoke = || Receive { message_type: REVOKE, ..invite_from(&alice, &bob.handle, "revocation", "s") };
    let answer = bob.node.ask(&bob.id, invite()).await.unwrap();
    bob.node.ask(&bob.id, revoke()).await.unwrap();

    world.clock.advance(FRESH_MILLIS + MARGIN_MILLIS - 1);
    assert!(is_remembered(&bob, &alice, "invitation").await);
    assert_eq!(bob.node.ask(&bob.id, invite()).await.unwrap(), answer);
    assert!(bob.invitation_of(&alice).await.is_none(), "the revocation has ended it, and it stays so");
    world.clock.advance(1);
    assert!(!is_remembered(&bob, &alice, "invitation").await, "it is too old to be taken by now");

    world.clock.advance(REVOCATION_WINDOW_MILLIS - 1);
    assert!(is_remembered(&bob, &alice, "revocation").await);
    let again: Result<_, Error> = bob.node.ask(&bob.id, revoke()).await;
    assert_eq!(again.unwrap(), Received { applied: true, friends: false }, "as it was answered then");
    world.clock.advance(1);
    assert!(!is_remembered(&bob, &alice, "revocation").await);
}
