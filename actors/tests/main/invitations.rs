//! How long invitations stay open.

use vellum_actors::housekeeping;
use vellum_store::invitations::{self, Direction};

use crate::support::{Person, World};

const LIFETIME_MILLIS: i64 = 90 * 86_400_000;
/// How much longer the housekeeping keeps what is over.
const MARGIN_MILLIS: i64 = 3_600_000;

/// Whether the row of an invitation is still in the database.
async fn is_stored(holder: &Person, direction: Direction, other: &Person) -> bool {
    let mut conn = holder.node.store.read().await.unwrap();
    invitations::with_peer(&mut conn, &holder.id, direction, &other.handle).await.unwrap().is_some()
}

#[actix::test]
async fn housekeeping_removes_an_expired_invitation_on_both_sides() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.settled().await;
    let rows = [(&alice, Direction::Outgoing, &bob), (&bob, Direction::Incoming, &alice)];

    world.clock.advance(LIFETIME_MILLIS - 1);
    for (holder, direction, other) in rows {
        housekeeping::sweep(&holder.node).await.unwrap();
        assert_eq!(holder.invitations(direction).await.len(), 1, "{direction:?}, before its time");
        assert!(is_stored(holder, direction, other).await, "{direction:?}, before its time");
    }
    world.clock.advance(1);
    for (holder, direction, other) in rows {
        assert!(holder.invitations(direction).await.is_empty(), "{direction:?} is not shown any more");
        housekeeping::sweep(&holder.node).await.unwrap();
        assert!(is_stored(holder, direction, other).await, "{direction:?}: the clock may be ahead");
    }
    world.clock.advance(MARGIN_MILLIS);
    for (holder, direction, other) in rows {
        housekeeping::sweep(&holder.node).await.unwrap();
        assert!(!is_stored(holder, direction, other).await, "{direction:?} has been removed");
    }
    alice.invite(&bob).await.expect("nothing is in the way of a new one");
    bob.accept_from(&alice).await.expect("which can be accepted");
    assert!(alice.has_friend(&bob).await && bob.has_friend(&alice).await);
}
